//! All SQL. To be written.

/// The database.
#[derive(Clone)]
pub struct Database {}
