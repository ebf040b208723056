//! Sequences of datagrams, see checks.rs.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::decode(checks::Target::Sflow, input));
