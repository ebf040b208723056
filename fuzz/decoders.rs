//! What reads bytes from the network, without the server around it, as the library `flowledger` that the checks know.
//!
//! The same files as in `src/`, so that a change there is fuzzed without another word here.

extern crate self as flowledger;

pub mod checks;
pub mod streams;

#[path = "../src/clock.rs"]
pub mod clock;
#[path = "../src/flow/mod.rs"]
pub mod flow;
#[path = "../src/wire/mod.rs"]
pub mod wire;

/// Of the collector only what cuts streams into messages.
#[path = "../src/collect"]
pub mod collect {
    pub mod framing;
}
