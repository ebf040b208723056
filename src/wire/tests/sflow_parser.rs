//! Generated datagrams, decoded by the real decoder and by the crate `sflow-parser`.

use super::build_sflow::{
    block, counters, ethernet, expanded, expanded_counters, flow_between, interface_counters, ipv4, ipv6, sampled, tcp,
    udp, words,
};
use super::{Bench, NOW, context_of};
use crate::flow::facts::Fact;
use crate::flow::fields::Field;
use crate::flow::value::wide_from_address;
use crate::wire::exporter_address;
use proptest::prelude::*;
use sflow_parser::models::core::{Address, CounterData, FlowData, FlowRecord};
use sflow_parser::{SampleData, parse_datagram};
use std::net::IpAddr;

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let transport = prop_oneof![
        Just((6u8, tcp())),
        any::<u16>().prop_map(|port| (17, udp(port, &[1, 2, 3]))),
        any::<[u8; 2]>().prop_map(|bytes| (1, bytes.to_vec())),
    ];
    let addresses = proptest::collection::vec(any::<u8>(), 32);
    (any::<bool>(), transport, addresses, any::<u16>()).prop_map(|(wide, (protocol, payload), addresses, vlan)| {
        let [high, low] = vlan.to_be_bytes();
        if wide {
            let mut packet = ipv6(protocol, &payload);
            packet[8..40].copy_from_slice(&addresses);
            ethernet(&[0x81, 0, high, low, 0x86, 0xdd], &packet)
        } else {
            let mut packet = ipv4(protocol, &payload);
            packet[12..20].copy_from_slice(&addresses[..8]);
            ethernet(&[8, 0], &packet)
        }
    })
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (packet(), 100u32..9_000).prop_map(|(packet, frame)| sampled(1, frame, &packet)),
        1 => any::<[u16; 2]>().prop_map(|[a, b]| block(1001, &words(&[a.into(), 1, b.into(), 2]))),
        1 => any::<[u32; 2]>().prop_map(|[hop, mask]| block(1002, &words(&[1, hop, mask % 33, mask % 7]))),
        1 => any::<[u32; 8]>().prop_map(|[a, b, c, d, e, f, g, h]| {
            block(1003, &words(&[1, a, b, c, d, 2, 2, 2, e, f, 1, 1, g, 1, h, 100]))
        }),
        1 => Just(block(99 << 12 | 7, &[1, 2, 3, 4])),
    ]
}

fn sample() -> impl Strategy<Value = Vec<u8>> {
    let records = proptest::collection::vec(record(), 0..4);
    let index = prop_oneof![Just(0x3fff_ffffu32), 0u32..1_000_000];
    (0u8..6, 0u32..3, index.clone(), index, records).prop_map(|(kind, format, input, output, records)| match kind {
        0 => counters(&[interface_counters(input)]),
        1 => expanded_counters(&[interface_counters(input)]),
        2 | 3 => flow_between(input, format << 30 | output, &records),
        _ => expanded([0, input, format, output], &records),
    })
}

fn address(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Unknown => None,
        Address::IPv4(v4) => Some((*v4).into()),
        Address::IPv6(v6) => Some((*v6).into()),
    }
}

/// What the other's records say, by field.
fn expected(records: &[FlowRecord]) -> Vec<(Field, Option<u128>)> {
    let mut out = Vec::new();
    for record in records {
        match &record.flow_data {
            FlowData::SampledHeader(sampled) => {
                let header = &sampled.header;
                let tag = if header[12..14] == [0x81, 0] { 4 } else { 0 };
                let ip = &header[14 + tag..];
                let number = |bytes: &[u8]| bytes.iter().fold(0, |value, &byte| value << 8 | u128::from(byte));
                let at = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
                    Ok(v4) => wide_from_address(IpAddr::from(v4)),
                    Err(_) => number(bytes),
                };
                let (range, protocol) = if tag > 0 { (8..40, 6) } else { (12..20, 9) };
                let (source, destination) = ip[range.clone()].split_at(range.len() / 2);
                out.push((Field::SrcIp, Some(at(source))));
                out.push((Field::DstIp, Some(at(destination))));
                out.push((Field::Protocol, Some(ip[protocol].into())));
                if ip[protocol] != 1 {
                    out.push((Field::SrcPort, Some(number(&ip[range.end..range.end + 2]))));
                    out.push((Field::DstPort, Some(number(&ip[range.end + 2..range.end + 4]))));
                }
                out.push((Field::InDstMac, Some(number(&header[..6]))));
                out.push((Field::InSrcMac, Some(number(&header[6..12]))));
            }
            FlowData::ExtendedRouter(router) => {
                out.push((Field::NextHop, address(&router.next_hop).map(wide_from_address)));
                out.push((Field::SrcMask, Some(router.src_mask_len.into())));
                out.push((Field::DstMask, Some(router.dst_mask_len.into())));
            }
            FlowData::ExtendedGateway(gateway) => {
                out.push((Field::BgpNextHop, address(&gateway.next_hop).map(wide_from_address)));
                out.push((Field::SrcAs, Some(gateway.src_as.into())));
                out.push((Field::PreviousAs, Some(gateway.src_peer_as.into())));
                let path = gateway.dst_as_path.iter().flat_map(|segment| &segment.path);
                out.push((Field::DstAs, path.clone().last().map(|&system| system.into())));
                out.push((Field::NextAs, path.clone().next().map(|&system| system.into())));
            }
            _ => {}
        }
    }
    // Of two records that say the same, the later one holds.
    let last = |index: usize, field: Field| !out[index + 1..].iter().any(|(later, _)| *later == field);
    let held = (0..out.len()).filter(|&index| last(index, out[index].0));
    held.map(|index| out[index]).collect()
}

/// An interface of a flow sample, if it is one.
fn index(format: u32, value: u32) -> Option<u128> {
    (format == 0 && value != 0x3fff_ffff).then_some(value.into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_read_the_same(
        agent in any::<[u8; 16]>(),
        wide in any::<bool>(),
        [sub_agent, sequence, uptime] in any::<[u32; 3]>(),
        samples in proptest::collection::vec(sample(), 0..6),
    ) {
        let (kind, length) = if wide { (2, 16) } else { (1, 4) };
        let head = [words(&[5, kind]), agent[..length].to_vec()].concat();
        let numbers = words(&[sub_agent, sequence, uptime, samples.len() as u32]);
        let bytes = [head, numbers, samples.concat()].concat();
        let theirs = parse_datagram(&bytes).unwrap();
        let mut bench = Bench::new();
        let outcome = bench.decode_as(&context_of(1, 1, NOW), &bytes);
        prop_assert_eq!(outcome.counts.iter().count(), 0);
        prop_assert_eq!(outcome.sets as usize, theirs.samples.len());
        let relay = IpAddr::from([192, 0, 2, 1]);
        let ours = exporter_address(&bytes, relay);
        if ours != relay {
            prop_assert_eq!(Some(ours), address(&theirs.agent_address).map(|it| it.to_canonical()));
        }
        let session = bench.decoder.take_changes().remove(0);
        prop_assert_eq!(session.observation_domain, theirs.sub_agent_id);
        prop_assert_eq!(bench.decoder.sessions.get(0).unwrap().sequence.standing().0, Some(theirs.sequence_number.wrapping_add(1)));
        prop_assert_eq!(bench.decoder.sessions.get(0).unwrap().uptime, Some((theirs.uptime, context_of(1, 1, NOW).received)));
        let facts = bench.decoder.take_facts();
        let mut row = 0;
        for sample in &theirs.samples {
            let (rate, input, output, records) = match &sample.sample_data {
                SampleData::FlowSample(it) => {
                    let (input, output) = (it.input, it.output);
                    (
                        it.sampling_rate,
                        index(input.format().into(), input.value()),
                        index(output.format().into(), output.value()),
                        &it.flow_records,
                    )
                }
                SampleData::FlowSampleExpanded(it) => (
                    it.sampling_rate,
                    index(it.input.format, it.input.value),
                    index(it.output.format, it.output.value),
                    &it.flow_records,
                ),
                SampleData::CountersSample(it) => {
                    check_counters(&facts, &it.counters[0].counter_data);
                    continue;
                }
                SampleData::CountersSampleExpanded(it) => {
                    check_counters(&facts, &it.counters[0].counter_data);
                    continue;
                }
                other => panic!("not generated: {other:?}"),
            };
            let bits = |field: Field| bench.batch.column(field).bits(row);
            prop_assert_eq!(bits(Field::SamplingInterval), Some(rate.into()));
            prop_assert_eq!(bits(Field::InputInterface), input);
            prop_assert_eq!(bits(Field::OutputInterface), output);
            for (field, value) in expected(records) {
                prop_assert_eq!(bits(field), value, "{}", field.name());
            }
            row += 1;
        }
        prop_assert_eq!(row, bench.batch.rows());
    }
}

fn check_counters(facts: &[(u32, Fact)], theirs: &CounterData) {
    let CounterData::GenericInterface(theirs) = theirs else { panic!("not generated: {theirs:?}") };
    let ours = facts.iter().find_map(|(_, fact)| match fact {
        Fact::Counters(ours) if ours.interface == theirs.if_index => Some(ours),
        _ => None,
    });
    let ours = ours.unwrap();
    assert_eq!((ours.in_bytes, ours.out_bytes), (theirs.if_in_octets, theirs.if_out_octets));
    assert_eq!((ours.in_errors, ours.out_errors), (theirs.if_in_errors.into(), theirs.if_out_errors.into()));
    assert_eq!((ours.in_discards, ours.out_discards), (theirs.if_in_discards.into(), theirs.if_out_discards.into()));
    let packets = [theirs.if_in_ucast_pkts, theirs.if_in_multicast_pkts, theirs.if_in_broadcast_pkts];
    assert_eq!(ours.in_packets, packets.into_iter().map(u64::from).sum::<u64>());
}
