//! Sequences of datagrams, see checks.rs.
#![no_main]

use flowledger::checks::{Target, decode};

libfuzzer_sys::fuzz_target!(|input: &[u8]| decode(Target::NetflowV9, input));
