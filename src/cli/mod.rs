//! To be written.

pub mod check_config;
