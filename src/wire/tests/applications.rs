//! Applications of every length, in flows and in options.

use super::build::{be, iana, ipfix, v9};
use super::{Bench, reasons};
use crate::flow::facts::Fact;
use crate::flow::fields::Field;

const VARIABLE: u16 = 65_535;

/// Applications as they are sent, and their numbers.
const SENT: [(&[u8], Option<u64>); 14] = [
    (&[13, 0, 0, 80], Some(13 << 24 | 80)),
    (&[13, 80], Some(13 << 24 | 80)),
    (&[3, 1, 187], Some(3 << 24 | 443)),
    (&[1, 6], Some(1 << 24 | 6)),
    (&[13], Some(13 << 24)),
    (&[12, 0, 0, 0, 0, 9], Some(12 << 24 | 9)),
    (&[12, 0, 0, 255, 255, 255], Some(12 << 24 | 0xff_ffff)),
    (&[12, 0, 1, 0, 0, 0], None),
    (&[255, 1, 0, 0, 0, 0, 0, 0], None),
    (&[13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], Some(13 << 24 | 0x102)),
    // FortiGate: engine 20, Fortinet's number, four bytes of selector.
    (&[20, 0, 0, 48, 68, 0, 0, 63, 67], Some(20 << 24 | 16_195)),
    (&[20, 0, 0, 48, 68, 1, 0, 63, 67], None),
    (&[20, 0, 0, 48, 68], Some(20 << 24)),
    (&[20, 0, 5], Some(20 << 24 | 5)),
];

fn counted(known: Option<u64>) -> Vec<(&'static str, u32)> {
    known.map_or_else(|| vec![("field_width", 1)], |_| Vec::new())
}

#[test]
fn an_application_is_its_engine_and_its_selector_whatever_its_length() {
    for (bytes, expected) in SENT {
        let shown = expected.map(|number| number.to_string()).unwrap_or_default();
        for message in [v9(0), ipfix(0)] {
            let mut bench = Bench::new();
            let specs = iana(&[(95, bytes.len() as u16), (1, 4)]);
            let message = message.template(256, &specs).data(256, &[[bytes, &be(7, 4)].concat()]);
            let outcome = bench.decode(&message.bytes());
            assert_eq!(bench.shown(Field::ApplicationId, 0), shown, "{bytes:?}");
            assert_eq!((bench.shown(Field::InBytes, 0), reasons(&outcome)), ("7".to_owned(), counted(expected)));
        }
    }
}

#[test]
fn applications_of_variable_length_stay_in_their_rows() {
    let specs = iana(&[(1, 4), (95, VARIABLE), (371, VARIABLE), (315, VARIABLE), (2, 4)]);
    let record = |(index, (bytes, _)): (usize, &(&[u8], _))| {
        let text = [3, b'a', b'b', b'c'];
        [&be(index as u64, 4)[..], &[bytes.len() as u8], bytes, &text, &[0], &be(9, 4)].concat()
    };
    let records: Vec<_> = SENT.iter().enumerate().map(record).collect();
    let empty = [be(99, 4), vec![0, 0, 0], be(9, 4)].concat();
    let mut bench = Bench::new();
    let message = ipfix(0).template(256, &specs).set(256, &[records.concat(), empty].concat());
    let outcome = bench.decode(&message.bytes());
    // Three applications have no number, and no record has a packet.
    assert_eq!((outcome.records, reasons(&outcome)), (15, vec![("field_width", 3 + 15)]));
    for (row, (bytes, expected)) in SENT.into_iter().enumerate() {
        let shown = expected.map(|number| number.to_string()).unwrap_or_default();
        let fields = [Field::InBytes, Field::InPackets, Field::ApplicationId].map(|field| bench.shown(field, row));
        assert_eq!(fields, [row.to_string(), "9".to_owned(), shown], "{bytes:?}");
    }
    assert_eq!(bench.shown(Field::ApplicationId, 14), "", "it says nothing");
}

#[test]
fn another_applications_number_does_not_stand_in_for_one_that_has_none() {
    for (own, shown) in [(&[13u8, 0, 7][..], (13 << 24 | 7).to_string()), (&[12, 1, 0, 0, 0], String::new())] {
        let mut bench = Bench::new();
        let specs = [(118, 2, 35_632), (95, VARIABLE, 0)];
        let record = [&be(5, 2)[..], &[own.len() as u8], own].concat();
        bench.decode(&ipfix(0).template(256, &specs).set(256, &record).bytes());
        assert_eq!(bench.shown(Field::ApplicationId, 0), shown);
    }
}

#[test]
fn options_name_applications_of_every_length() {
    for (bytes, expected) in SENT {
        let fixed = ipfix(0).options_template(400, &iana(&[(95, bytes.len() as u16)]), &iana(&[(96, 4)]));
        let variable = ipfix(0).options_template(400, &iana(&[(95, VARIABLE)]), &iana(&[(96, 4)]));
        let old = v9(0).options_template(400, &[(1, 4, 0)], &iana(&[(95, bytes.len() as u16), (96, 4)]));
        let with_length = [&[bytes.len() as u8][..], bytes, b"name"].concat();
        for (message, record) in [
            (fixed, [bytes, b"name"].concat()),
            (variable, with_length),
            (old, [&[0, 0, 0, 0], bytes, b"name"].concat()),
        ] {
            let mut bench = Bench::new();
            let outcome = bench.decode(&message.data(400, &[record]).bytes());
            let told: Vec<_> = bench.decoder.take_facts().into_iter().map(|(_, fact)| fact).collect();
            let application =
                |application_id| Fact::Application { application_id, name: Some("name".to_owned()), description: None };
            assert_eq!(told, expected.map(application).into_iter().collect::<Vec<_>>(), "{bytes:?}");
            assert_eq!(reasons(&outcome), counted(expected), "{bytes:?}");
        }
    }
}
