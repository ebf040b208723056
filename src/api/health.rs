//! `/healthz`, `/readyz` and `/metrics`: for those who watch the server rather than the network.
//!
//! Healthy means the process answers. Ready means it stores what it receives: the database is migrated and ingest runs.

use super::State;
use super::params::Asked;
use super::problem::{Code, Problem};
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use utoipa::ToSchema;

/// What the server still waits for. Clones share what they know; nothing is ready at first.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    database: AtomicBool,
    ingest: AtomicBool,
}

impl Readiness {
    /// Says whether the database is connected and migrated.
    pub fn set_database(&self, ready: bool) {
        self.0.database.store(ready, Ordering::Relaxed);
    }

    /// Says whether ingest runs.
    pub fn set_ingest(&self, runs: bool) {
        self.0.ingest.store(runs, Ordering::Relaxed);
    }

    /// What is not ready, in words; `None` when everything is.
    pub fn missing(&self) -> Option<&'static str> {
        if !self.0.database.load(Ordering::Relaxed) {
            return Some("The database is not connected and migrated yet.");
        }
        if !self.0.ingest.load(Ordering::Relaxed) {
            return Some("Ingest does not run: what arrives waits in the journal.");
        }
        None
    }
}

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// The server is well.
fn ok() -> HttpResponse {
    HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(Health { status: "ok" })
}

/// Whether the process answers
///
/// For supervisors: a process that does not answer this should be restarted.
#[utoipa::path(
    tag = "Server",
    operation_id = "healthz",
    responses(
        (status = 200, description = "It answers.", body = Health),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/healthz")]
pub async fn get_healthz(_none: Asked<()>) -> HttpResponse {
    ok()
}

/// Whether what is received is stored
///
/// For load balancers and scripts that wait: 200 when the database is migrated and ingest runs.
#[utoipa::path(
    tag = "Server",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It is ready.", body = Health),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It is not ready; the detail says what it waits for.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/readyz")]
pub async fn get_readyz(_none: Asked<()>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    match state.readiness.missing() {
        None => Ok(ok()),
        Some(missing) => Err(Problem::new(Code::NotReady, missing)),
    }
}

/// Counters and gauges for Prometheus
#[utoipa::path(
    tag = "Server",
    operation_id = "metrics",
    responses(
        (status = 200, description = "All metrics, as OpenMetrics text 1.0.0.", body = String, content_type = "application/openmetrics-text"),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/metrics")]
pub async fn get_metrics(_none: Asked<()>, state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        .insert_header(("Cache-Control", "no-store"))
        .body(state.registry.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_both_and_can_be_lost() {
        let readiness = Readiness::default();
        let seen = readiness.clone();
        assert!(seen.missing().is_some_and(|missing| missing.contains("database")));
        readiness.set_database(true);
        assert!(seen.missing().is_some_and(|missing| missing.contains("Ingest")));
        readiness.set_ingest(true);
        assert_eq!(seen.missing(), None);
        readiness.set_ingest(false);
        assert!(seen.missing().is_some());
    }
}
