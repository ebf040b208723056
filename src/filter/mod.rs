//! Text to selection. To be written.

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {}
