//! To be written.

pub mod openapi;
