//! Exporters' clocks at the ends of their range: uptimes around 0 and 2^32, and headers from 1970 to 2106.

use super::build::{be, iana, ipfix, v1, v5, v7, v9};
use super::{Bench, NOW, SECONDS};
use crate::clock::{HOUR, SECOND, Timestamp};
use crate::flow::fields::Field;
use crate::wire::Reason;

/// The first record of NetFlow v1, v5 and v7 with these times; the header says `seconds` and no fraction.
fn fixed(mut datagram: Vec<u8>, seconds: u32, uptime: u32, first: u32, last: u32) -> Vec<u8> {
    let record = if datagram[1] == 1 { 16 } else { 24 };
    for (at, number) in [(4, uptime), (8, seconds), (12, 0), (record + 24, first), (record + 28, last)] {
        datagram[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    datagram
}

/// A flow with these uptimes in every protocol that has uptimes.
fn in_every_protocol(seconds: u32, uptime: u32, first: u32, last: u32) -> [(&'static str, Vec<u8>); 5] {
    let times = [be(first.into(), 4), be(last.into(), 4)].concat();
    let mut template = v9(0).template(256, &iana(&[(22, 4), (21, 4)])).data(256, std::slice::from_ref(&times));
    (template.seconds, template.uptime) = (seconds, uptime);
    let init = (u64::from(seconds) * 1_000).wrapping_sub(uptime.into());
    let mut with_init = ipfix(0).template(256, &iana(&[(22, 4), (21, 4), (160, 8)]));
    with_init = with_init.data(256, &[[times, be(init, 8)].concat()]);
    with_init.seconds = seconds;
    [
        ("v1", fixed(v1(1), seconds, uptime, first, last)),
        ("v5", fixed(v5(0, 1), seconds, uptime, first, last)),
        ("v7", fixed(v7(0, 1), seconds, uptime, first, last)),
        ("v9", template.bytes()),
        ("ipfix", with_init.bytes()),
    ]
}

fn shown(micros: i64) -> String {
    Timestamp::from_micros(micros).to_string()
}

#[test]
fn uptimes_around_0_and_around_2_to_the_32_give_the_same_times_in_every_protocol() {
    let uptimes = [0u32, 1, 2, 999, 1_000, 1_001, 60_000, 1 << 31];
    let around = uptimes.into_iter().flat_map(|near| [near, near.wrapping_neg()]);
    let before = [0u32, 1, 2, 1_000, 1_001, 60_000, 86_000_000];
    for uptime in around {
        for start in before {
            for end in before {
                let (first, last) = (uptime.wrapping_sub(start), uptime.wrapping_sub(end));
                for (name, datagram) in in_every_protocol(SECONDS, uptime, first, last) {
                    let mut bench = Bench::new();
                    let outcome = bench.decode(&datagram);
                    let moment = |before: u32| i64::from(SECONDS) * SECOND - i64::from(before) * 1_000;
                    // A flow cannot end before it starts.
                    let expected = [moment(start), moment(start.min(end))].map(shown);
                    let told = [Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0));
                    assert_eq!(told, expected, "{name}: up {uptime} ms, from {first} to {last}");
                    assert_eq!(outcome.counts.get(Reason::TimeFixed), u32::from(start < end), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_header_from_1970_to_2106_moves_no_flow() {
    let (hours, export) = ((8 * HOUR / SECOND) as u32, u64::from(SECONDS));
    let cases = [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX, SECONDS + hours, SECONDS + 24 * hours, SECONDS - 24 * hours];
    for seconds in cases {
        let mut delta = ipfix(0).template(256, &iana(&[(158, 4), (159, 4)])).data(256, &[be(1 << 32 | 1, 8)]);
        delta.seconds = seconds;
        let all = in_every_protocol(seconds, 100_000, 90_000, 95_000).into_iter();
        for (name, datagram) in all.chain([("ipfix, before export", delta.bytes())]) {
            let mut bench = Bench::new();
            let outcome = bench.decode(&datagram);
            let times = [Field::Received, Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0));
            assert_eq!(times, [NOW; 3].map(shown), "{name}: {seconds}");
            assert_eq!((outcome.records, outcome.counts.get(Reason::TimeFixed)), (1, 1), "{name}: {seconds}");
            let ahead = (i64::from(seconds) - export as i64 - 2) * 1_000;
            assert_eq!(outcome.clock_offset_ms, Some(ahead), "{name}: how far it is off is told");
        }
    }
    // Eight hours late is late, but possible: the flow may have waited.
    for (name, datagram) in in_every_protocol(SECONDS - hours, 100_000, 90_000, 95_000) {
        let mut bench = Bench::new();
        let outcome = bench.decode(&datagram);
        let late = NOW - 2 * SECOND - 8 * HOUR;
        let times = [Field::Received, Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0));
        assert_eq!(times, [NOW, late - 10 * SECOND, late - 5 * SECOND].map(shown), "{name}");
        assert_eq!(outcome.counts.get(Reason::TimeFixed), 0, "{name}");
    }
}
