//! t
mod reports;
