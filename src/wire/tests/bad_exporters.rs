//! Exporters that are broken or hostile as a whole: nothing but garbage, a boot with another layout, texts of any bytes.

use super::bad_input::{GOOD, good_record};
use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of, reasons};
use crate::clock::SECOND;
use crate::flow::facts::Fact;
use crate::flow::fields::Field;
use crate::wire::{Limits, Reason};

#[test]
fn one_exporter_sends_only_garbage_and_the_other_loses_nothing() {
    let limits = Limits::default();
    let (in_a_row, pause) = (limits.malformed_in_a_row, i64::from(limits.malformed_pause_seconds));
    let mut lie = ipfix(0).bytes();
    lie[3] = 15;
    let mut template = v9(0).set(0, &[1, 0, 255, 255]);
    template.count = 1;
    let text = b"GET / HTTP/1.1".to_vec();
    let garbage = [vec![], vec![0, 9, 1], text, lie, v5(0, 2)[..90].to_vec(), template.bytes()];
    let mut bench = Bench::new();
    bench.decode_as(&context_of(2, 1, NOW), &v9(0).template(256, &iana(&GOOD)).bytes());
    let (mut read, mut unread) = (0, 0);
    // A hundred of each in a second.
    let rounds = 10_000u32;
    for round in 0..rounds {
        let at = NOW + i64::from(round) * SECOND / 100;
        let mut bad = garbage[round as usize % garbage.len()].clone();
        if bad.len() > 20 && bad[1] == 9 {
            bad[12..16].copy_from_slice(&round.to_be_bytes());
        }
        let outcome = bench.decode_as(&context_of(1, 1, at), &bad);
        assert_eq!(outcome.records, 0);
        if outcome.rejected == Some(Reason::RateLimited) {
            unread += 1;
        } else {
            assert_eq!(outcome.counts.iter().map(|(_, count)| count).sum::<u32>(), 1, "{:?}", reasons(&outcome));
            read += 1;
        }
        let good = bench.decode_as(&context_of(2, 1, at), &v9(round + 1).data(256, &[good_record()]).bytes());
        assert_eq!((good.records, good.lost.count, reasons(&good)), (1, 0, vec![]), "round {round}");
    }
    // After so many in a row one is tried in each pause.
    assert_eq!((read, unread + read), (in_a_row + rounds / 100 / pause as u32 - 1, rounds));
}

#[test]
fn a_boot_that_gives_an_identifier_another_layout_is_read_with_the_new_one() {
    let (old, new) = (iana(&GOOD), iana(&[(1, 8), (8, 4)]));
    let record = [be(5_000_000_000, 8), be(0x0a00_0002, 4)].concat();
    let of = |bench: &Bench, row| [Field::SrcIp, Field::InBytes].map(|field| bench.shown(field, row));
    let mut bench = Bench::new();
    bench.decode(&v9(800).template(256, &old).data(256, &[good_record()]).bytes());
    // It starts again, and sends data before the template.
    let after = context_of(1, 9_999, NOW + 120 * SECOND);
    let mut data = v9(0).data(256, std::slice::from_ref(&record));
    data.uptime = 20_000;
    let outcome = bench.decode_as(&after, &data.bytes());
    assert_eq!((outcome.restarted, outcome.records, reasons(&outcome)), (true, 0, vec![("parked", 1)]));
    let mut template = v9(1).template(256, &new);
    template.uptime = 20_001;
    bench.decode_as(&after, &template.bytes());
    assert_eq!(bench.unpark().len(), 1);
    assert_eq!([of(&bench, 0), of(&bench, 1)], [["10.0.0.1", "77"], ["10.0.0.2", "5000000000"]]);

    // IPFIX tells no uptime: what does not fit is told, and the new template counts from when it comes.
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).template(256, &old).data(256, &[good_record()]).bytes());
    let outcome = bench.decode_as(&after, &ipfix(0).data(256, std::slice::from_ref(&record)).bytes());
    assert_eq!((outcome.records, reasons(&outcome)), (1, vec![("suspect", 1)]));
    let outcome = bench.decode_as(&after, &ipfix(1).template(256, &new).data(256, &[record]).bytes());
    assert_eq!((outcome.records, reasons(&outcome)), (1, vec![("template_changed", 1)]));
    assert_eq!(of(&bench, 2), ["10.0.0.2", "5000000000"]);
}

#[test]
fn any_byte_in_any_text_comes_out_as_harmless_text() {
    // Interface, application and VRF by number, and the elements that name and describe them.
    let texts = [(10, 82), (10, 83), (95, 96), (95, 94), (234, 236)];
    for (number, text) in texts {
        for byte in 0..=u8::MAX {
            let fixed = byte != 0 && !(32..127).contains(&byte);
            let expected = match byte {
                0 => "=".to_owned(),
                _ if fixed => "=\u{fffd}b".to_owned(),
                _ => format!("={}b", char::from(byte)),
            };
            for message in [v9(0), ipfix(0)] {
                let message = message.options_template(300, &[(1, 4, 0)], &iana(&[(number, 4), (text, 3)]));
                let record = [be(1, 4), be(7, 4), vec![b'=', byte, b'b']].concat();
                let mut bench = Bench::new();
                let outcome = bench.decode(&message.set(300, &record).bytes());
                assert_eq!((outcome.options_records, outcome.counts.get(Reason::TextFixed)), (1, u32::from(fixed)));
                let told: Vec<_> = bench
                    .decoder
                    .take_facts()
                    .into_iter()
                    .flat_map(|(_, fact)| match fact {
                        Fact::Interface { name, description, .. } | Fact::Application { name, description, .. } => {
                            [name, description]
                        }
                        Fact::Vrf { name, .. } => [name, None],
                        other => panic!("{other:?}"),
                    })
                    .flatten()
                    .collect();
                assert_eq!(told, std::slice::from_ref(&expected), "element {text}, byte {byte}");
            }
        }
    }
}
