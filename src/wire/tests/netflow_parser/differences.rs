//! Where the other decoder reads otherwise, one datagram for each reason. A difference that has gone fails, too.

use super::names::whole;
use super::{Both, Theirs};
use crate::flow::fields::Field as F;
use crate::wire::tests::build::{Message, be, iana, ipfix, v5, v7, v9};
use netflow_parser::FieldValue;

/// What is sent, flow records we take and they take (`None`: they refuse the datagram), and why.
fn records() -> Vec<(Vec<u8>, u32, Option<usize>, &'static str)> {
    let flow = |message: Message| message.template(256, &iana(&[(1, 4)])).data(256, &[be(5, 4)]);
    let with = |message: &Message, bytes: &[u8]| [&message.bytes(), bytes].concat();
    let broken = |message: Message| flow(message.template(300, &iana(&[(1, 0)])));
    let string = vec![(1, 4, 0), (82, 65_535, 0)];
    let named = |names: [&[u8]; 3]| names.map(|name| [&be(5, 4)[..], &[name.len() as u8], name].concat());
    vec![
        (v9(0).bytes(), 0, None, "a datagram of v9 has one FlowSet at least; to us one without any says nothing"),
        (with(&flow(v9(0)), &[0, 0]), 1, None, "exporters pad datagrams of v9; they want a FlowSet there"),
        (with(&flow(v9(0)), &[0; 8]), 1, None, "exporters send a whole buffer, the rest of it zeros"),
        (broken(v9(0)).bytes(), 1, None, "one bad FlowSet of v9 costs them the good ones"),
        (with(&flow(v9(0)), &[1, 44, 0, 9]), 1, None, "so does one that is cut"),
        (broken(ipfix(0)).bytes(), 1, Some(0), "what follows a bad set of IPFIX is left out without a word"),
        (
            ipfix(0).template(256, &iana(&[(1, 4), (82, 0)])).data(256, &[be(5, 4)]).bytes(),
            1,
            Some(0),
            "a field without a byte spoils their template; RFC 7011 does not forbid it, and in v9 they allow it",
        ),
        (
            ipfix(0).template(256, &string).data(256, &named([b"a", b"", b"b"])).bytes(),
            3,
            Some(1),
            "an empty string ends their set; RFC 7011, 7 gives it a length of 0",
        ),
        (
            ipfix(0).set(0, &[1, 0, 0, 1, 0, 1, 0, 4]).data(256, &[be(5, 4)]).bytes(),
            0,
            Some(1),
            "they take templates of v9 in IPFIX, where sets 0 and 1 are not used (RFC 7011, 3.3.2)",
        ),
        (
            v7(0, 29),
            29,
            None,
            "Catalyst switches may send more than 28 flows of v7, and nothing is ambiguous about that",
        ),
        (
            [v5(0, 1), v5(1, 1)].concat(),
            0,
            Some(1),
            "several messages of v5 in one datagram: they read one after the other; for us the count is a lie",
        ),
    ]
}

#[test]
fn each_difference_in_what_is_taken_is_as_told() {
    for (datagram, ours, theirs, why) in records() {
        let (outcome, found) = Both::new().decode(&datagram);
        assert_eq!((outcome.records, found.map(|it: Theirs| it.records.len())), (ours, theirs), "{why}");
    }
}

#[test]
fn each_difference_in_a_value_is_as_told() {
    type Case<'a> = (u16, u16, Vec<u8>, F, Option<u128>, u128, &'a str);
    let cases: [Case<'_>; 4] = [
        (6, 2, be(0xf012, 2), F::TcpFlags, Some(0xf012), 0x12, "they forget the upper bits of 16 flags"),
        (1, 16, be(5, 8).repeat(2), F::InBytes, None, 5 << 64 | 5, "no number has 16 bytes; they read it as one"),
        (7, 4, be(70_000, 4), F::SrcPort, Some(65_535), 70_000, "what is too large for a field becomes its largest"),
        (150, 8, be(9, 8), F::FirstSeen, None, 9, "moments have one width (RFC 7011, 6.2); they allow more"),
    ];
    for (id, length, bytes, field, ours, theirs, why) in cases {
        let mut both = Both::new();
        let datagram = ipfix(0).template(256, &iana(&[(id, length)])).data(256, &[bytes]).bytes();
        let found = both.decode(&datagram).1.unwrap().records.remove(0).remove(0).2;
        let found = match found {
            FieldValue::Duration(it) => it.as_duration().as_secs().into(),
            other => whole(&other).unwrap(),
        };
        assert_eq!((both.bench.batch.column(field).bits(0), found), (ours, theirs), "{why}");
    }
}
