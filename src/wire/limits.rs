//! How much one exporter, and all together, may make the decoder remember and produce.
//!
//! Every limit has a counter among the reasons and acts before memory is taken.

use serde::{Deserialize, Serialize};

/// Limits of the decoder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions (exporter, source port, version, observation domain) in all. Beyond it a new one is refused
    /// (`session_limit`) unless one has been idle for [`Limits::session_idle_seconds`].
    pub sessions: usize,
    /// Sessions of one exporter. Beyond it the exporter's longest unused one is forgotten.
    pub sessions_per_exporter: usize,
    /// After how many seconds without a datagram a session may be forgotten in favour of another exporter's.
    pub session_idle_seconds: u32,
    /// Templates in one session; more are refused (`template_limit`).
    pub templates_per_session: usize,
    /// Fields in one template; a template with more is refused (`template_limit`).
    pub fields_per_template: usize,
    /// Memory for the templates of one exporter in bytes; more are refused (`template_limit`), so that it takes no room from
    /// others.
    pub template_bytes_per_exporter: usize,
    /// Memory for all templates in bytes; templates beyond it are refused (`template_limit`).
    pub template_bytes: usize,
    /// Bytes of data sets of one exporter that wait for their template; more are rejected (`no_template`).
    pub parked_bytes_per_exporter: usize,
    /// Bytes of data sets in all that wait for their template; more are rejected (`no_template`).
    pub parked_bytes: usize,
    /// How many seconds a data set waits for its template, which exporters send again after half an hour at the latest.
    pub parked_seconds: u32,
    /// Malformed datagrams in a row after which an exporter is looked at only every [`Limits::malformed_pause_seconds`].
    pub malformed_in_a_row: u32,
    /// How many seconds such an exporter's datagrams are rejected unread (`rate_limited`) before one is tried again.
    pub malformed_pause_seconds: u32,
    /// Flow records taken out of one datagram; more are rejected (`output_limit`).
    pub records_per_datagram: usize,
    /// Facts about exporters that wait to be taken; more are left out (`fact_limit`).
    pub facts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4_096,
            sessions_per_exporter: 256,
            session_idle_seconds: 86_400,
            templates_per_session: 1_024,
            fields_per_template: 512,
            template_bytes_per_exporter: 8 << 20,
            template_bytes: 32 << 20,
            parked_bytes_per_exporter: 8 << 20,
            parked_bytes: 16 << 20,
            parked_seconds: 1_800,
            malformed_in_a_row: 256,
            malformed_pause_seconds: 5,
            records_per_datagram: 8_192,
            facts: 65_536,
        }
    }
}
