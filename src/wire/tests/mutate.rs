//! Every truncation and every single-byte change of every fixture: no panic, and the accounting adds up to the unit, as a
//! slow decoder counts it.

use super::naive::Naive;
use super::{Bench, fixtures};
use crate::wire::{Outcome, Reason, Unit};
use std::collections::HashMap;

/// Compares the real decoder's outcome with the slow one's.
pub(super) fn compare(outcome: &Outcome, naive: &Naive, what: &str) {
    let mut expected = naive.counts.clone();
    let mut take = |name| expected.remove(name).unwrap_or(0);
    let counted = [take("records"), take("options"), take("templates"), take("sets")];
    let found = [outcome.records, outcome.options_records, outcome.templates, outcome.sets];
    assert_eq!(found, counted, "{what}: records, options, templates, sets");
    let told =
        [Reason::TextFixed, Reason::TimeFixed, Reason::FieldWidth, Reason::CountDiffers, Reason::TemplateChanged];
    let counts: HashMap<_, _> = outcome.counts.iter().filter(|(reason, _)| !told.contains(reason)).collect();
    let counts: HashMap<_, _> = counts.into_iter().map(|(reason, count)| (reason.name(), count)).collect();
    assert_eq!(counts, expected, "{what}");
    let whole = |(reason, _): &(Reason, u32)| reason.unit() == Unit::Datagrams && !reason.kept();
    let rejected: Vec<_> = outcome.counts.iter().filter(whole).collect();
    assert_eq!(rejected, outcome.rejected.map(|reason| (reason, 1)).into_iter().collect::<Vec<_>>(), "{what}");
}

fn check(name: &str, datagram: &[u8], what: &str) {
    let (mut bench, mut naive) = (Bench::new(), Naive::default());
    naive.decode(datagram);
    let outcome = bench.decode(datagram);
    compare(&outcome, &naive, &format!("{name}, {what}"));
}

#[test]
fn every_truncation_is_accounted_for() {
    for (name, datagram) in fixtures::all() {
        for length in 0..=datagram.len() {
            check(name, &datagram[..length], &format!("cut at {length}"));
            // An IPFIX message that says its length is cut inside, too.
            if datagram[1] == 10 && length >= 16 {
                let mut cut = datagram[..length].to_vec();
                cut[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                check(name, &cut, &format!("cut at {length} with that length"));
            }
        }
    }
}

#[test]
fn every_single_byte_change_is_accounted_for() {
    for (name, datagram) in fixtures::all() {
        let mut changed = datagram.clone();
        for position in 0..datagram.len() {
            for bits in 1..=255 {
                changed[position] = datagram[position] ^ bits;
                check(name, &changed, &format!("byte {position} = {}", changed[position]));
            }
            changed[position] = datagram[position];
        }
    }
}

#[test]
fn a_changed_datagram_does_not_spoil_the_good_one_after_it() {
    for (name, datagram) in fixtures::all() {
        let mut clean = Bench::new();
        let expected = clean.decode(&datagram).records;
        for position in 0..datagram.len().min(200) {
            let mut changed = datagram.clone();
            changed[position] ^= 0x11;
            let mut bench = Bench::new();
            bench.decode(&changed);
            let outcome = bench.decode(&datagram);
            assert_eq!((outcome.records, outcome.rejected), (expected, None), "{name}, byte {position}");
        }
    }
}
