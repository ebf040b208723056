//! Streams in pieces, see streams.rs.
#![no_main]

use flowledger::streams::frame;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frame(input));
