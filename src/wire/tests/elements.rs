//! Every element of the table is fed by a record of our own, so that nothing is known by captures of others alone.

use super::build::{Spec, be, iana, ipfix, v9};
use super::{Bench, NOW, SECONDS, fields, reasons};
use crate::flow::fields::Field;
use crate::wire::elements::{Target, find};

/// Elements that the other files have no record of: enterprise, number, width, what is sent, and what it becomes.
fn rows() -> Vec<(u32, u16, usize, u64, Field, &'static str)> {
    use Field::{
        ApplicationId, CustomerVlan, DstTos, EgressVrf, EthernetType, FirewallEvent, FirewallExtendedEvent,
        FlowEndReason, FlowId, FlowLabel, IngressVrf, InnerDstIp, InnerSrcIp, Layer2SegmentId, MaxTtl, MinTtl,
        MplsLabel1, MplsLabel2, MplsLabel3, NatEvent, NextAs, OutBytes, OutPackets, PortBlockEnd, PortBlockStart,
        PostNatDstIp, PostNatDstPort, PostNatSrcIp, PostNatSrcPort, PreviousAs,
    };
    vec![
        (0, 31, 4, 0x1_2345, FlowLabel, "74565"),
        (0, 31, 3, 0xf_ffff, FlowLabel, "1048575"),
        (0, 52, 1, 3, MinTtl, "3"),
        (0, 53, 1, 250, MaxTtl, "250"),
        // A label of 20 bits, its class, whether it is the last one, and, in four bytes, how far it goes.
        (0, 70, 3, 1_000 << 4 | 0xf, MplsLabel1, "1000"),
        (0, 71, 3, 0xf_ffff << 4, MplsLabel2, "1048575"),
        (0, 72, 4, 16 << 12 | 0x1ff, MplsLabel3, "16"),
        (0, 95, 4, 13 << 24 | 80, ApplicationId, "218103888"),
        (0, 128, 4, 64_500, NextAs, "64500"),
        (0, 129, 4, 64_501, PreviousAs, "64501"),
        (0, 136, 1, 3, FlowEndReason, "3"),
        (0, 148, 8, u64::MAX, FlowId, "18446744073709551615"),
        (0, 148, 4, 9, FlowId, "9"),
        (0, 225, 4, 0xc000_0201, PostNatSrcIp, "192.0.2.1"),
        (0, 226, 4, 0xc000_0202, PostNatDstIp, "192.0.2.2"),
        (0, 227, 2, 40_000, PostNatSrcPort, "40000"),
        (0, 228, 2, 443, PostNatDstPort, "443"),
        (0, 230, 1, 2, NatEvent, "2"),
        (0, 233, 1, 5, FirewallEvent, "5"),
        (0, 234, 4, 0x6000_0001, IngressVrf, "1610612737"),
        (0, 235, 4, 7, EgressVrf, "7"),
        (0, 245, 2, 4_094, CustomerVlan, "4094"),
        (0, 256, 2, 0x86dd, EthernetType, "34525"),
        (0, 281, 16, 7, PostNatSrcIp, "::7"),
        (0, 282, 16, 8, PostNatDstIp, "::8"),
        // VXLAN, then its network in 24 bits.
        (0, 351, 8, 1 << 56 | 5_000, Layer2SegmentId, "5000"),
        (0, 361, 2, 4_096, PortBlockStart, "4096"),
        (0, 362, 2, 4_607, PortBlockEnd, "4607"),
        (0, 33_002, 2, 1_001, FirewallExtendedEvent, "1001"),
        (0, 40_001, 4, 0xc000_0203, PostNatSrcIp, "192.0.2.3"),
        (0, 40_002, 4, 0xc000_0204, PostNatDstIp, "192.0.2.4"),
        (0, 40_003, 2, 40_001, PostNatSrcPort, "40001"),
        (0, 40_004, 2, 444, PostNatDstPort, "444"),
        (0, 40_005, 1, 3, FirewallEvent, "3"),
        (0, 57_590, 2, 91, ApplicationId, "91"),
        (6_876, 883, 16, 3, InnerSrcIp, "::3"),
        (6_876, 884, 16, 4, InnerDstIp, "::4"),
        (29_305, 5, 1, 0xb8, DstTos, "184"),
        (29_305, 85, 8, 6, OutBytes, "6"),
        (29_305, 86, 8, 7, OutPackets, "7"),
    ]
}

fn wide(number: u64, width: usize) -> Vec<u8> {
    [vec![0; width.saturating_sub(8)], be(number, width.min(8))].concat()
}

#[test]
fn elements_of_nat_firewalls_labels_and_applications_feed_their_fields() {
    for (enterprise, id, width, sent, field, shown) in rows() {
        let spec: [Spec; 3] = [(4_000, 3, 0), (id, width as u16, enterprise), (4_001, 1, 0)];
        let record = [vec![9; 3], wide(sent, width), vec![9]].concat();
        // Numbers from 32,768 on are vendors' in v9; in IPFIX vendors have their enterprise number.
        let both = [(enterprise == 0, v9(0)), (id < 0x8000, ipfix(0))];
        for (_, message) in both.into_iter().filter(|(possible, _)| *possible) {
            let mut bench = Bench::new();
            let outcome = bench.decode(&message.template(256, &spec).data(256, std::slice::from_ref(&record)).bytes());
            assert_eq!((outcome.records, reasons(&outcome)), (1, vec![]), "element {id} of {enterprise}");
            assert_eq!(bench.shown(field, 0), shown, "element {id} of {enterprise}");
        }
    }
}

#[test]
fn an_event_has_one_moment_in_every_form() {
    let ntp = (u64::from(SECONDS) + 2_208_988_800) << 32;
    let forms = [(322, 4, u64::from(SECONDS)), (323, 8, u64::from(SECONDS) * 1_000), (324, 8, ntp), (325, 8, ntp)];
    for (id, width, sent) in forms {
        let mut bench = Bench::new();
        let message = ipfix(0).template(256, &iana(&[(id, width), (1, 4)]));
        bench.decode(&message.data(256, &[[be(sent, width.into()), be(1, 4)].concat()]).bytes());
        let moment = crate::clock::Timestamp::from_micros(NOW - 2_000_000).to_string();
        let told = [Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0));
        assert_eq!(told, [moment.clone(), moment], "element {id}");
    }
}

#[test]
fn a_sampler_goes_by_the_number_that_ipfix_gives_it_too() {
    for id in [48, 302] {
        let mut bench = Bench::new();
        let message = ipfix(0).options_template(300, &[(id, 8, 0)], &iana(&[(305, 4), (306, 4)]));
        let message = message.data(300, &[[be(3, 8), be(1, 4), be(511, 4)].concat()]);
        let message = message.template(256, &iana(&[(id, 8), (1, 4)]));
        bench.decode(&message.data(256, &[[be(3, 8), be(1, 4)].concat()]).bytes());
        assert_eq!(bench.shown(Field::SamplingInterval, 0), "512", "element {id}");
    }
}

#[test]
fn every_element_of_the_table_has_a_record_of_our_own() {
    let own: Vec<u16> = rows().iter().map(|row| row.1).chain(fields::rows().iter().map(|row| row.0)).collect();
    for id in 0..=u16::MAX {
        let Some(element) = find(0, id) else { continue };
        // Times, sampling and packets take more than one element each: see `fields`, `options`, `sections`, and above.
        let time = matches!(
            element.target,
            Target::First(_) | Target::Last(_) | Target::Event(_) | Target::Duration(_) | Target::SystemInit
        );
        let packet = matches!(element.target, Target::Packet(_) | Target::AboutSection(_));
        let elsewhere =
            time || packet || matches!(element.target, Target::Sampling(_) | Target::Sampler | Target::Nothing);
        assert!(elsewhere || own.contains(&id), "element {id} is fed by no record of ours");
    }
}
