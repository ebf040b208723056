//! Every committed input of the fuzz targets, and random sequences of good datagrams, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;
#[path = "../../fuzz/streams.rs"]
mod streams;

use crate::support::messages::{message, numbers, set, template};
use checks::Target;
use fastrand::Rng;
use std::panic::RefUnwindSafe;
use std::path::Path;

/// Carries out all inputs of a target and says how many there are.
fn replay(name: &str, check: impl Fn(&[u8]) + RefUnwindSafe) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let inputs = std::fs::read_dir(&folder).unwrap();
    inputs
        .map(|input| {
            let path = input.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let outcome = std::panic::catch_unwind(|| check(&bytes));
            assert!(outcome.is_ok(), "{} breaks a promise", path.display());
        })
        .count()
}

#[test]
fn everything_holds_for_all_committed_inputs() {
    for (target, name) in [
        (Target::NetflowFixed, "netflow_fixed"),
        (Target::NetflowV9, "netflow_v9"),
        (Target::Ipfix, "ipfix"),
        (Target::Sflow, "sflow"),
    ] {
        assert!(replay(name, |input| checks::decode(target, input)) >= 10, "{name} has lost its inputs");
    }
    assert!(replay("framing", streams::frame) >= 8, "framing has lost its inputs");
}

/// A datagram of a few sets that have to do with each other, with numbers and uptimes that often go on.
fn datagram(version: u16, rng: &mut Rng, step: u32) -> Vec<u8> {
    const FLOWS: [&[(u16, u16)]; 3] =
        [&[(8, 4), (1, 4)], &[(21, 4), (48, 1), (10, 2), (2, 4)], &[(152, 8), (27, 16), (4, 1), (9_999, 2)]];
    const OPTIONS: [&[(u16, u16)]; 5] = [
        &[(1, 4), (34, 2)],
        &[(2, 2), (48, 1), (50, 2)],
        &[(149, 4), (10, 2), (82, 3), (160, 8)],
        &[(149, 2), (95, 2), (96, 4)],
        &[(149, 2), (41, 2), (305, 2), (306, 2)],
    ];
    let plain = if version == 9 { 0 } else { 2 };
    let mut sets = Vec::new();
    for _ in 0..rng.usize(1..4) {
        let id = rng.u16(256..260);
        sets.extend(match rng.u8(0..16) {
            0..5 => template(plain, id, FLOWS[rng.usize(..3)]),
            5..8 => template(plain + 1, id, OPTIONS[rng.usize(..5)]),
            8..15 => set(id, &(0..rng.usize(1..40)).map(|_| rng.u8(..4)).collect::<Vec<_>>()),
            _ => set(plain, &numbers(&[rng.u16(254..260), 0])),
        });
    }
    let uptime = if rng.u8(..12) == 0 { 1_000 * step } else { 40_000_000 + 1_000 * step };
    let number = if rng.bool() { step } else { rng.u32(..30) };
    let mut message = message(version, number, uptime, &sets);
    let domain = message.len() - sets.len() - 1;
    message[domain] = rng.choice([7, 7, 7, 8, 0]).unwrap_or(7);
    message
}

fn sequence(version: u16, seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut input = vec![rng.u8(..4)];
    for step in 0..rng.u32(5..60) {
        let action = rng.choice([1, 1, 1, 1, 1, 1, 1, 5, 6, 7, 7]).unwrap_or(1);
        let stream = if rng.u8(..10) == 0 { 32 } else { 0 };
        input.extend([action | rng.u8(..4) << 3 | stream, rng.choice([0, 0, 1, 2, 20, 136]).unwrap_or(0)]);
        if action == 1 {
            let datagram = datagram(version, &mut rng, step);
            input.extend(numbers(&[datagram.len() as u16]));
            input.extend(datagram);
        }
    }
    input
}

#[test]
fn everything_holds_for_random_sequences_of_good_datagrams() {
    let seeds = std::env::var("FLOWLEDGER_SEEDS").map_or(1_000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        for (target, version) in [(Target::NetflowV9, 9), (Target::Ipfix, 10)] {
            let input = sequence(version, seed);
            let outcome = std::panic::catch_unwind(|| checks::decode(target, &input));
            assert!(outcome.is_ok(), "seed {seed} of {target:?} breaks a promise");
        }
    }
}
