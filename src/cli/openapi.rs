//! `flowledger openapi`: prints the description of the API, as `/openapi.json` serves it.

use crate::api;
use std::io::Write;

/// Prints the document.
///
/// # Errors
/// When standard output cannot be written to.
pub fn run() -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(api::openapi::text()?.as_bytes())?;
    output.flush()
}
