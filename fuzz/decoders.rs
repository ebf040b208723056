//! The decoders without the server around them, as the library `flowledger` that the checks know.
//!
//! The same files as in `src/`, so that a change there is fuzzed without another word here.

#[path = "../src/clock.rs"]
pub mod clock;
#[path = "../src/flow/mod.rs"]
pub mod flow;
#[path = "../src/wire/mod.rs"]
pub mod wire;
