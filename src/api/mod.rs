//! HTTP: the resources under `/api/v1`, their description, and the pages that show it.
//!
//! One file a resource; [`params`] reads questions, [`shapes`] and [`format`] write answers, [`problem`] says why there is
//! none, [`edge`] is what every request passes, [`openapi`] describes it all. Answers come from `query` and `store`; model
//! types are not serialised, shapes made from them are. The API reads only: no request changes anything.

#![allow(unused_qualifications, reason = "the macros of utoipa spell out paths")]

pub mod double_counting;
pub mod edge;
pub mod exporter;
pub mod exporters;
pub mod fields;
pub mod format;
pub mod health;
pub mod hosts;
pub mod openapi;
pub mod params;
pub mod problem;
pub mod shapes;
pub mod storage;
pub mod top;

pub use edge::Metrics;
pub use health::Readiness;

use crate::clock::SharedClock;
use crate::metrics::Registry;
use crate::query::Engine;
use crate::store::Database;
use actix_web::dev::Server;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpServer, web};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use utoipa_actix_web::scope::scope;
use utoipa_actix_web::service_config::ServiceConfig;

/// Where the API listens and what it allows a caller.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port to listen on. Port 0 takes a free one.
    pub listen: String,
    /// Host names that requests may ask for while the API listens on the loopback, besides `localhost` and all addresses.
    /// Others are refused, because a page of somebody else can make its own name point to the loopback.
    pub allowed_hosts: Vec<String>,
    /// Threads that read requests and write answers, at least 1. Queries have their own.
    pub workers: usize,
    /// The longest path and query together, in bytes.
    pub max_url_bytes: usize,
    /// The longest time an answer may take, in seconds, at least 1.
    pub request_timeout_seconds: u64,
    /// How many connections a worker holds at once.
    pub max_connections: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            allowed_hosts: Vec::new(),
            workers: 2,
            max_url_bytes: 8_192,
            request_timeout_seconds: 60,
            max_connections: 512,
        }
    }
}

/// What the resources work with. Clones share it.
#[derive(Clone)]
pub struct State {
    /// Answers questions.
    pub engine: Engine,
    /// Knows the exporters.
    pub database: Database,
    /// The zone of questions that name none.
    pub zone: Tz,
    /// The most bytes that the database may take.
    pub max_bytes: Option<u64>,
    /// What time it is.
    pub clock: SharedClock,
    /// What the server still waits for.
    pub readiness: Readiness,
    /// What `/metrics` shows; [`Metrics`] should be among it.
    pub registry: Arc<Registry>,
    /// What the API counts.
    pub metrics: Metrics,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address cannot be listened on.
    #[error(
        "the API cannot listen on {listen}: {source}; free the address or set another one in [api] listen, such as 127.0.0.1:8081"
    )]
    Listen {
        /// The address.
        listen: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// An API that has its address and serves when it is run.
pub struct Bound {
    address: SocketAddr,
    server: Server,
}

impl Bound {
    /// The address it listens on, with the port that was taken for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server: it serves while it is awaited, and its handle stops it. It leaves signals alone.
    pub fn run(self) -> Server {
        self.server
    }
}

/// Takes the address and builds the server. Connections wait until it is run.
///
/// # Errors
/// [`ApiError::Listen`] when the address is not an address, is taken, or is not allowed.
pub fn bind(settings: &Settings, state: State) -> Result<Bound, ApiError> {
    let failed = |source| ApiError::Listen { listen: settings.listen.clone(), source };
    let limits = web::Data::new(edge::Limits {
        max_url_bytes: settings.max_url_bytes,
        allowed_hosts: settings.allowed_hosts.clone(),
        timeout: Duration::from_secs(settings.request_timeout_seconds.max(1)),
        metrics: state.metrics.clone(),
    });
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(limits.clone())
            .wrap(Compress::default())
            .wrap(from_fn(edge::guard))
            .configure(services)
    })
    .workers(settings.workers.max(1))
    .max_connections(settings.max_connections.max(1))
    .client_request_timeout(Duration::from_secs(10))
    .client_disconnect_timeout(Duration::from_secs(2))
    .shutdown_timeout(10)
    .disable_signals()
    .bind(settings.listen.as_str())
    .map_err(failed)?;
    let unbound = || failed(std::io::Error::other("the system reports no address"));
    let address = server.addrs().first().copied().ok_or_else(unbound)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the API asks nobody who they are: everyone who reaches this address can read all flows");
    }
    Ok(Bound { address, server: server.run() })
}

/// Everything that is described: every route but the pages for people.
fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(
            scope("/api/v1")
                .service(top::get_top)
                .service(hosts::get_host)
                .service(hosts::get_peers)
                .service(exporters::get_exporters)
                .service(exporter::get_exporter)
                .service(fields::get_fields)
                .service(storage::get_storage),
        )
        .service(health::get_healthz)
        .service(health::get_readyz)
        .service(health::get_metrics)
        .service(openapi::get_openapi);
}

/// Everything that is served.
fn services(config: &mut web::ServiceConfig) {
    routes(&mut ServiceConfig::new(config));
    config
        .service(openapi::get_root)
        .service(openapi::get_docs)
        .service(openapi::pages())
        .default_service(web::to(edge::unrouted));
}

#[cfg(test)]
mod tests;
