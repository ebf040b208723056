# Flowledger as an image: built from this folder with the official Rust image, run on plain Debian 12.
# It brings no PostgreSQL: FLOWLEDGER__DATABASE__URL names one. docker-compose.yml adds it; docs/docker.md explains both.

FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin flowledger

FROM debian:bookworm-slim
RUN useradd --system --uid 999 --home-dir /var/lib/flowledger --shell /usr/sbin/nologin flowledger \
    && install -d -o flowledger -g flowledger -m 0750 /var/lib/flowledger
COPY --from=build /build/target/release/flowledger /usr/local/bin/flowledger
# Everything that must outlive the container: the journal of received datagrams, and reports.
VOLUME /var/lib/flowledger
WORKDIR /var/lib/flowledger
USER flowledger
# In a container "all addresses" means those of the container; what the outside reaches is decided where ports are published.
ENV FLOWLEDGER__API__LISTEN=0.0.0.0:8080 \
    FLOWLEDGER__STORAGE__DATA_DIR=/var/lib/flowledger
EXPOSE 2055/udp 8080
# The shell speaks enough HTTP for this, so the image needs no client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["flowledger"]
CMD ["serve"]
