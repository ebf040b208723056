//! To be written.

pub mod check_config;
pub mod openapi;
pub mod simulate;
