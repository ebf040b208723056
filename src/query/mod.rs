//! Turns a request into a plan, runs it over segments in one snapshot, and returns exact rows with what was lost.
//!
//! To be written: the engine behind these types.

pub mod answer;
pub mod window;

pub use answer::{Completeness, HostAnswer, LossCount, Order, TopAnswer, TopRequest, TopRow, Window};

use crate::store::Database;

/// Answers requests from what the database holds.
#[derive(Clone)]
pub struct Engine {
    database: Database,
}
/// x
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// x
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}
