//! What the collector counts, by listener.

use crate::metrics::{Counter, EncodeLabelSet, Family, Gauge, Registry};

/// Which listener a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// Its address, as `udp://0.0.0.0:2055`.
    pub listener: String,
}

/// Which listener's connections, and why they ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedLabel {
    /// The listener's address, as `tcp://0.0.0.0:4739`.
    pub listener: String,
    /// `peer`, `idle`, `handshake`, `not_ipfix`, `error` or `stopped`.
    pub reason: &'static str,
}

/// The collector's counters and gauges. What is refused is received, too.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Datagrams received, and messages of streams.
    pub datagrams: Family<ListenerLabel, Counter<u64>>,
    /// Bytes in them, without the headers of IP, UDP, TCP and TLS.
    pub bytes: Family<ListenerLabel, Counter<u64>>,
    /// Datagrams and connections that were refused because their source is not allowed.
    pub not_allowed: Family<ListenerLabel, Counter<u64>>,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub kernel_drops: Family<ListenerLabel, Counter<u64>>,
    /// Calls to receive or accept that failed.
    pub receive_errors: Family<ListenerLabel, Counter<u64>>,
    /// The receive buffer that the kernel granted, in bytes.
    pub receive_buffer_bytes: Family<ListenerLabel, Gauge>,
    /// Connections at present.
    pub connections: Family<ListenerLabel, Gauge>,
    /// Connections that were taken.
    pub connections_opened: Family<ListenerLabel, Counter<u64>>,
    /// Connections that ended.
    pub connections_closed: Family<ClosedLabel, Counter<u64>>,
    /// Connections that were refused because there were too many.
    pub connections_refused: Family<ListenerLabel, Counter<u64>>,
    /// Messages of streams that ended in their midst.
    pub truncated_messages: Family<ListenerLabel, Counter<u64>>,
    /// Times that a stream had to wait because the journal was full.
    pub stream_waits: Family<ListenerLabel, Counter<u64>>,
}

impl Metrics {
    /// Shows them all.
    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name, help, family: &Family<ListenerLabel, Counter<u64>>| {
            registry.register(name, help, family.clone());
        };
        counter("collector_datagrams", "Datagrams and messages of streams received", &self.datagrams);
        counter("collector_bytes", "Bytes of datagrams and messages received", &self.bytes);
        counter(
            "collector_not_allowed",
            "Datagrams and connections refused because [collector] allow does not name their source",
            &self.not_allowed,
        );
        counter(
            "collector_kernel_drops",
            "Datagrams that the kernel dropped because the receive buffer was full",
            &self.kernel_drops,
        );
        counter("collector_receive_errors", "Calls to receive or accept that failed", &self.receive_errors);
        counter("collector_connections_opened", "Connections taken", &self.connections_opened);
        counter(
            "collector_connections_refused",
            "Connections refused because there were too many",
            &self.connections_refused,
        );
        counter(
            "collector_truncated_messages",
            "Messages of streams that ended in their midst",
            &self.truncated_messages,
        );
        counter(
            "collector_stream_waits",
            "Times that a stream had to wait because the journal was full",
            &self.stream_waits,
        );
        registry.register(
            "collector_connections_closed",
            "Connections that ended, by reason",
            self.connections_closed.clone(),
        );
        registry.register("collector_connections", "Connections at present", self.connections.clone());
        registry.register(
            "collector_receive_buffer_bytes",
            "Receive buffer that the kernel granted",
            self.receive_buffer_bytes.clone(),
        );
    }
}
