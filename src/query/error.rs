//! Why a question was not answered.

use super::answer::Window;
use crate::columns::ColumnsError;
use crate::store::StoreError;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The request asks for something that cannot be.
    #[error("{parameter}: {message}")]
    Request {
        /// The part of the request, as the API calls it.
        parameter: &'static str,
        /// What is wrong with it and what would be right.
        message: String,
    },
    /// The window cuts an hour of which only totals are left.
    #[error(
        "the window cuts an hour whose flows are no longer kept one by one, only as totals of whole hours: ask {}",
        offers(.inner.as_ref(), .outer)
    )]
    WindowNotOnHours {
        /// The nearest window within the one asked for that can be answered, if there is one.
        inner: Option<Window>,
        /// The nearest one around it.
        outer: Window,
    },
    /// The groups need more memory than a query may take.
    #[error(
        "the answer needs more than {limit} bytes of memory: ask for fewer dimensions, a shorter window or a filter, or raise [query] max_memory_bytes"
    )]
    Memory {
        /// The budget in bytes.
        limit: u64,
    },
    /// The answer took longer than a query may.
    #[error("the answer takes longer than {limit} s: ask for a shorter window, or raise [query] max_seconds")]
    Time {
        /// The budget in seconds.
        limit: u64,
    },
    /// Nobody waits for the answer any more.
    #[error("the query was cancelled")]
    Cancelled,
    /// A stored segment cannot be read.
    #[error("segment {segment_id}: {source}")]
    Columns {
        /// The segment.
        segment_id: i64,
        /// What is wrong with it.
        source: ColumnsError,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker ended without a result, which only a defect in this program can cause.
    #[error("a query worker ended early: {0}; this is a defect, please report it")]
    Worker(String),
}

fn offers(inner: Option<&Window>, outer: &Window) -> String {
    let offer = |window: &Window| {
        let [from, to] = [window.from, window.to].map(|moment| {
            moment.to_utc().with_timezone(&window.zone).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
        });
        format!("from {from} to {to}")
    };
    inner.map_or_else(|| offer(outer), |inner| format!("{}, or {}", offer(inner), offer(outer)))
}

impl QueryError {
    /// Whether asking for less, or asking again, may help: the answer ran into a budget.
    pub fn is_budget(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Time { .. })
    }
}
