//! Lengths that lie, at every value they can have: of sets, of variable-length fields, and of fields in templates.

use super::bad_input::and_good;
use super::build::{be, iana, ipfix, v9};
use super::mutate::compare;
use super::naive::Naive;
use super::{Bench, fixtures};
use crate::flow::fields::Field;
use crate::wire::Reason;
use crate::wire::elements::{Element, Moment, Target, find};
use crate::wire::plan::Plan;
use crate::wire::templates::{FieldSpecifier, VARIABLE};

/// Decodes a datagram as the slow decoder does, and says how many flows there were.
fn accounted(datagram: &[u8], what: &str) -> u32 {
    let mut naive = Naive::default();
    naive.decode(datagram);
    let outcome = Bench::new().decode(datagram);
    compare(&outcome, &naive, what);
    outcome.records
}

#[test]
fn a_set_cut_anywhere_keeps_its_whole_records_and_the_sets_after_it() {
    let specs = [(8, 4, 0), (371, 65_535, 0), (96, 65_535, 9), (1, 8, 0)];
    let long = [vec![255, 1, 4], vec![b'x'; 260]].concat();
    let texts = [vec![0], vec![3, b'a', b'b', b'c'], long, vec![255, 0, 0]];
    let records = texts.map(|text| [be(0x0a00_0001, 4), text, vec![2, 7, 7], be(9, 8)].concat());
    let body = records.concat();
    for cut in 0..=body.len() {
        let mut end = 0;
        let whole = records.iter().take_while(|record| {
            end += record.len();
            end <= cut
        });
        let whole = whole.count() as u32;
        let data = ipfix(0).template(256, &specs).set(256, &body[..cut]);
        assert_eq!(accounted(&and_good(data), &format!("data cut at {cut}")), whole + 1);
        let options = ipfix(0).options_template(256, &specs[..1], &specs[1..]).set(256, &body[..cut]);
        assert_eq!(accounted(&and_good(options), &format!("options cut at {cut}")), 1);
    }
}

#[test]
fn every_length_of_every_set_is_accounted_for() {
    for (name, datagram) in fixtures::all() {
        let mut at = match datagram[1] {
            9 => 20,
            10 => 16,
            _ => continue,
        };
        while at < datagram.len() {
            let next = at + usize::from(u16::from_be_bytes([datagram[at + 2], datagram[at + 3]]));
            for length in 0..=datagram.len() - at + 4 {
                let mut lie = datagram.clone();
                lie[at + 2..at + 4].copy_from_slice(&(length as u16).to_be_bytes());
                accounted(&lie, &format!("{name}, the set at {at} says {length}"));
            }
            at = next;
        }
    }
}

/// All elements that a field, or the decoder, knows: enterprise, number, and what it feeds.
fn known() -> Vec<(u32, u16, Element)> {
    let enterprises = [0, 9, 637, 6_871, 6_876, 29_305, 35_632, 41_916];
    let all = enterprises.into_iter().flat_map(|enterprise| (0..=u16::MAX).map(move |id| (enterprise, id)));
    let known: Vec<_> = all.filter_map(|(enterprise, id)| Some((enterprise, id, find(enterprise, id)?))).collect();
    assert!(known.len() > 120, "{} elements are known", known.len());
    known
}

/// Whether an element can have this width, as the standards say.
fn possible(element: &Element, width: u16) -> bool {
    if width == VARIABLE {
        return matches!(element.target, Target::Application | Target::Packet(_));
    }
    let widths = match element.target {
        Target::Nothing => 0..=u16::MAX,
        Target::Application | Target::Packet(_) => 1..=u16::MAX,
        Target::V4(_) => 4..=4,
        Target::V6(_) => 16..=16,
        Target::Mac(_) => 6..=6,
        Target::Icmp => 2..=2,
        Target::Ttl | Target::Dscp => 1..=1,
        Target::Segment(_) | Target::SystemInit => 8..=8,
        Target::Label(_) => 3..=u16::MAX,
        Target::First(moment) | Target::Last(moment) | Target::Event(moment) => match moment {
            Moment::Milliseconds | Moment::Ntp => 8..=8,
            _ => 4..=4,
        },
        _ => 1..=8,
    };
    widths.contains(&width)
}

#[test]
fn of_all_widths_a_known_element_takes_those_that_it_can_have() {
    let known = known();
    for width in 0..=u16::MAX {
        let field = |&(enterprise, id, _): &(u32, u16, Element)| FieldSpecifier { enterprise, id, length: width };
        let plan = Plan::compile(&known.iter().map(field).collect::<Vec<_>>());
        let impossible = known.iter().filter(|(.., element)| !possible(element, width)).count();
        assert_eq!(plan.bad_widths, impossible, "{width} bytes");
        let fed: Vec<_> = known.iter().filter(|(.., element)| possible(element, width)).collect();
        for (field, _) in &plan.columns {
            // Two fields come from one element each: codes beside types, and the largest time to live.
            let by = match field {
                Field::IcmpCode => Field::IcmpType,
                Field::MaxTtl => Field::MinTtl,
                other => *other,
            };
            let feeds = fed.iter().any(|(.., element)| [Some(*field), Some(by)].contains(&element.target.field()));
            assert!(feeds, "{} of {width} bytes", field.name());
        }
    }
}

#[test]
fn a_width_that_a_known_element_cannot_have_costs_that_value_only() {
    // Whether a packet can be read depends on its bytes.
    let known = known().into_iter().filter(|(.., element)| !matches!(element.target, Target::Packet(_)));
    for (enterprise, id, element) in known {
        for width in (0..=40).chain([50, 255, 256, 1_000, 32_767, 65_000]) {
            let field = element.target.field();
            // The field beside it must be read all the same.
            let (beside, beside_id) =
                if field == Some(Field::DstPort) { (Field::SrcPort, 7) } else { (Field::DstPort, 11) };
            let record = [vec![0; width.into()], be(9, 2)].concat();
            // Numbers from 32,768 on are vendors' in v9; in IPFIX vendors have their enterprise number.
            let message = if enterprise == 0 { v9(0) } else { ipfix(0) };
            let message = message.template(256, &[(id, width, enterprise), (beside_id, 2, 0)]).set(256, &record);
            let mut bench = Bench::new();
            let outcome = bench.decode(&message.bytes());
            let told = (outcome.records, outcome.counts.get(Reason::FieldWidth), bench.shown(beside, 0));
            let bad = u32::from(!possible(&element, width));
            assert_eq!(told, (1, bad, "9".to_owned()), "element {id} of {enterprise}, {width} bytes");
            if bad == 1
                && let Some(field) = field
            {
                assert_eq!(bench.shown(field, 0), "", "element {id} of {enterprise}, {width} bytes");
            }
        }
    }
}

#[test]
fn a_known_element_of_variable_length_is_left_unset() {
    for (id, field) in [(8, Field::SrcIp), (1, Field::InBytes), (56, Field::InSrcMac), (152, Field::FirstSeen)] {
        let specs = iana(&[(id, VARIABLE), (11, 2)]);
        let record = [vec![4, 10, 0, 0, 1], be(9, 2)].concat();
        let mut bench = Bench::new();
        let outcome = bench.decode(&ipfix(0).template(256, &specs).set(256, &record).bytes());
        assert_eq!((outcome.records, outcome.counts.get(Reason::FieldWidth)), (1, 1), "element {id}");
        assert_eq!((bench.shown(field, 0), bench.shown(Field::DstPort, 0)), (String::new(), "9".to_owned()));
    }
    let outcome =
        Bench::new().decode(&v9(0).template(256, &iana(&[(8, 50), (1, 4)])).data(256, &[vec![1; 54]]).bytes());
    assert_eq!((outcome.records, outcome.counts.get(Reason::FieldWidth)), (1, 1));
}
