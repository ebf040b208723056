//! Why a text is not a filter: where, what was expected, and what stood there instead.

use std::fmt;

/// A text that is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} of the filter: {message}")]
pub struct FilterError {
    /// The offset in bytes at which the text stops making sense, 0 to the length of the text.
    pub position: usize,
    /// What was expected and what was found, to be read by people, without the position.
    pub message: String,
}

/// How much of an offending text is repeated in a message.
const SHOWN_CHARACTERS: usize = 40;

impl FilterError {
    /// An error that says `message` about the byte at `position`.
    pub(super) fn new(position: usize, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }

    /// The usual error: something was `expected`, and `found` stood there. An empty `found` is the end of the text.
    pub(super) fn expected(position: usize, expected: impl fmt::Display, found: &str) -> Self {
        if found.is_empty() {
            return Self::new(position, format!("expected {expected}, found the end"));
        }
        let mut shown: String = found.chars().take(SHOWN_CHARACTERS).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Self::new(position, format!("expected {expected}, found `{shown}`"))
    }
}
