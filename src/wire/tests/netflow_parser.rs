//! Generated datagrams and real captures, decoded by the real decoder and by the crate `netflow-parser`.
//!
//! Every field that the other one knows is compared in every record, and our records hold nothing else. Where it reads
//! otherwise, `differences` has a case for each reason.

mod captures;
mod differences;
mod names;

use super::random::messages;
use super::{Bench, NOW, build, context_of, fixtures};
use crate::clock::SECOND;
use crate::flow::fields::Field as F;
use crate::wire::{Outcome, Reason};
use names::{Base, ELEMENTS, Reading, expected, ipfix_name, v9_name};
use netflow_parser::variable_versions::field_value::DurationValue;
use netflow_parser::variable_versions::ipfix::lookup::{IANAIPFixField, IPFixField};
use netflow_parser::variable_versions::ipfix::{FlowSetBody as IpfixBody, Template as IpfixTemplate};
use netflow_parser::variable_versions::v9::FlowSetBody as V9Body;
use netflow_parser::{DataNumber, FieldValue, NetflowPacket, NetflowParser, ParseResult, V9Field, V9FlowRecord};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

/// What they make of a datagram.
#[derive(Debug, Default)]
struct Theirs {
    base: Base,
    domain: u32,
    records: Vec<Reading>,
    options: usize,
    templates: usize,
    /// Sets that were read, and those of them without a template.
    sets: usize,
    missing: usize,
    /// Out of how many packets one was looked at.
    sampling: Option<u64>,
}

/// What they told earlier and do not tell again with each record.
#[derive(Debug, Default)]
struct Told {
    /// Which fields of IPFIX templates have no fixed length, by observation domain and template.
    varying: HashMap<(u32, u16), Vec<bool>>,
    /// In options: the interval of sampling, and when an exporter of IPFIX began, in milliseconds.
    interval: Option<u64>,
    began: Option<u64>,
}

impl Told {
    fn learn(&mut self, domain: u32, templates: &[IpfixTemplate]) -> usize {
        let varies = |it: &IpfixTemplate| it.fields.iter().map(|field| field.field_length == 65_535).collect();
        self.varying.extend(templates.iter().map(|it| ((domain, it.template_id), varies(it))));
        templates.len()
    }

    fn option(&mut self, is_interval: bool, is_beginning: bool, value: &FieldValue) {
        match value {
            FieldValue::DataNumber(number) if is_interval => self.interval = number.as_u64(),
            FieldValue::Duration(DurationValue::Millis { value, .. }) if is_beginning => self.began = Some(*value),
            _ => {}
        }
    }
}

fn micros(seconds: u32, nanoseconds: u32) -> i64 {
    i64::from(seconds) * SECOND + i64::from(nanoseconds / 1_000)
}

/// A record of v5 or v7, whose fields are alike and of different types.
macro_rules! fixed {
    ($flow:expr) => {{
        let flow = $flow;
        let v4 = |address: Ipv4Addr| FieldValue::Ip4Addr(address);
        let number = |number: u64| FieldValue::DataNumber(DataNumber::U64(number));
        let uptime = |it: u32| FieldValue::Duration(DurationValue::Millis { value: it.into(), width: 4 });
        vec![
            (F::SrcIp, 0, v4(flow.src_addr)),
            (F::DstIp, 0, v4(flow.dst_addr)),
            (F::NextHop, 0, v4(flow.next_hop)),
            (F::InputInterface, 0, number(flow.input.into())),
            (F::OutputInterface, 0, number(flow.output.into())),
            (F::InPackets, 0, number(flow.d_pkts.into())),
            (F::InBytes, 0, number(flow.d_octets.into())),
            (F::FirstSeen, 4, uptime(flow.first)),
            (F::LastSeen, 4, uptime(flow.last)),
            (F::SrcPort, 0, number(flow.src_port.into())),
            (F::DstPort, 0, number(flow.dst_port.into())),
            (F::TcpFlags, 0, number(flow.tcp_flags.into())),
            (F::Protocol, 0, number(flow.protocol_number.into())),
            (F::SrcTos, 0, number(flow.tos.into())),
            (F::SrcAs, 0, number(flow.src_as.into())),
            (F::DstAs, 0, number(flow.dst_as.into())),
            (F::SrcMask, 0, number(flow.src_mask.into())),
            (F::DstMask, 0, number(flow.dst_mask.into())),
        ]
    }};
}

fn v9_record(record: V9FlowRecord) -> Reading {
    let named = |(name, value)| v9_name(name).map(|(field, rank)| (field, rank, value));
    record.into_iter().filter_map(named).collect()
}

fn read(packet: NetflowPacket, told: &mut Told) -> Theirs {
    let mut out = Theirs::default();
    match packet {
        NetflowPacket::V5(it) => {
            let header = it.header;
            let uptime = Some(header.sys_up_time);
            out.base = Base { export: micros(header.unix_secs, header.unix_nsecs), uptime };
            out.domain = u32::from(header.engine_type) << 8 | u32::from(header.engine_id);
            // The upper two bits are the mode.
            out.sampling = Some(u64::from(header.sampling_interval & 0x3fff));
            out.records = it.flowsets.into_iter().map(|flow| fixed!(flow)).collect();
        }
        NetflowPacket::V7(it) => {
            let header = it.header;
            let uptime = Some(header.sys_up_time);
            out.base = Base { export: micros(header.unix_secs, header.unix_nsecs), uptime };
            out.records = it.flowsets.into_iter().map(|flow| fixed!(flow)).collect();
        }
        NetflowPacket::V9(it) => {
            out.base = Base { export: micros(it.header.unix_secs, 0), uptime: Some(it.header.sys_up_time) };
            out.domain = it.header.source_id;
            out.sets = it.flowsets.len();
            for set in it.flowsets {
                match set.body {
                    V9Body::Template(it) => out.templates += it.templates.len(),
                    V9Body::OptionsTemplate(it) => out.templates += it.templates.len(),
                    V9Body::Data(it) => out.records.extend(it.fields.into_iter().map(v9_record)),
                    V9Body::OptionsData(it) => {
                        out.options += it.fields.len();
                        for (name, value) in it.fields.iter().flat_map(|record| &record.options_fields) {
                            told.option(*name == V9Field::SamplingInterval, false, value);
                        }
                    }
                    V9Body::NoTemplate(_) => out.missing += 1,
                    V9Body::Empty => {}
                }
            }
        }
        NetflowPacket::IPFix(it) => {
            out.base = Base { export: micros(it.header.export_time, 0), uptime: None };
            out.domain = it.header.observation_domain_id;
            out.sets = it.flowsets.len();
            for set in it.flowsets {
                match set.body {
                    IpfixBody::Template(it) => out.templates += told.learn(out.domain, &[it]),
                    IpfixBody::Templates(all) => out.templates += told.learn(out.domain, &all),
                    IpfixBody::OptionsTemplate(_) => out.templates += 1,
                    IpfixBody::OptionsTemplates(all) => out.templates += all.len(),
                    // A number, address or moment of variable length is none (RFC 7011, 7); they take it for one.
                    IpfixBody::Data(it) => {
                        let varies = &told.varying[&(out.domain, set.header.header_id)];
                        out.records.extend(it.fields.into_iter().map(|record| {
                            let fixed = record.into_iter().zip(varies).filter(|(_, varies)| !**varies);
                            let named = |(name, value)| ipfix_name(name).map(|(field, rank)| (field, rank, value));
                            fixed.filter_map(|(pair, _)| named(pair)).collect()
                        }));
                    }
                    IpfixBody::OptionsData(it) => {
                        out.options += it.fields.len();
                        for (name, value) in it.fields.iter().flatten() {
                            let is = |iana: IANAIPFixField| *name == IPFixField::IANA(iana);
                            let beginning = is(IANAIPFixField::SystemInitTimeMilliseconds);
                            told.option(is(IANAIPFixField::SamplingInterval), beginning, value);
                        }
                    }
                    IpfixBody::NoTemplate(_) => out.missing += 1,
                    IpfixBody::V9Data(it) => out.records.extend(it.fields.into_iter().map(v9_record)),
                    IpfixBody::V9Template(_) => out.templates += 1,
                    IpfixBody::V9Templates(all) => out.templates += all.len(),
                    IpfixBody::V9OptionsTemplate(_) => out.templates += 1,
                    IpfixBody::V9OptionsTemplates(all) => out.templates += all.len(),
                    IpfixBody::V9OptionsData(it) => out.options += it.fields.len(),
                    IpfixBody::Empty => {}
                }
            }
            out.base.uptime = told.began.map(|began| (out.base.export / 1_000 - began as i64) as u32);
        }
        other => panic!("a version of which we know nothing: {other:?}"),
    }
    // One out of one is all.
    out.sampling = out.sampling.filter(|&interval| interval > 0).or(told.interval).filter(|&interval| interval > 1);
    out
}

/// What a datagram came to: `None` when they refuse it.
fn taken(result: ParseResult, told: &mut Told) -> Option<Theirs> {
    match result.error {
        Some(_) => None,
        None => Some(read(result.packets.into_iter().next()?, told)),
    }
}

/// Both decoders, and what they make of the same datagrams.
struct Both {
    bench: Bench,
    parser: NetflowParser,
    told: Told,
}

impl Both {
    fn new() -> Self {
        Self { bench: Bench::new(), parser: NetflowParser::default(), told: Told::default() }
    }

    fn decode(&mut self, datagram: &[u8]) -> (Outcome, Option<Theirs>) {
        let theirs = taken(self.parser.parse_bytes(datagram), &mut self.told);
        (self.bench.decode_as(&context_of(1, 1, NOW), datagram), theirs)
    }

    /// Decodes a datagram; all of it must be the same, or be one that both refuse. Says whether they took it.
    fn compare(&mut self, datagram: &[u8]) -> bool {
        let before = self.bench.batch.rows();
        let (outcome, theirs) = self.decode(datagram);
        let damaged = outcome.counts.get(Reason::SetLength) + outcome.counts.get(Reason::SetOverrun);
        let Some(theirs) = theirs else {
            assert!(refusal_is_known(&outcome, damaged, datagram), "they refuse what we take: {outcome:?}");
            return false;
        };
        assert_eq!(outcome.rejected, None, "they take what we refuse");
        assert_eq!((outcome.sets - damaged) as usize, theirs.sets, "sets");
        assert_eq!(outcome.templates as usize, theirs.templates, "templates");
        assert_eq!(outcome.options_records as usize, theirs.options, "options");
        assert_eq!(outcome.counts.get(Reason::Parked) as usize, theirs.missing, "sets without template");
        assert_eq!(outcome.counts.get(Reason::TimeFixed), 0, "moments are plausible");
        assert_eq!(outcome.records as usize, theirs.records.len(), "records");
        assert!(damaged == 0 || datagram[1] == 10, "they take a damaged datagram");
        for (index, reading) in theirs.records.iter().enumerate() {
            let mut expected = expected(reading, theirs.base);
            let mut own = |field, bits: u128| _ = expected.insert(field, (bits, u128::MAX));
            own(F::Received, NOW as u128);
            own(F::ExporterId, 1);
            own(F::ObservationDomain, theirs.domain.into());
            if let Some(interval) = theirs.sampling {
                own(F::SamplingInterval, interval.into());
            }
            self.compare_row(before + index, &expected);
        }
        true
    }

    fn compare_row(&self, row: usize, expected: &BTreeMap<F, (u128, u128)>) {
        for field in F::ALL {
            let theirs = expected.get(&field);
            let mask = theirs.map_or(u128::MAX, |(_, mask)| *mask);
            let ours = self.bench.batch.column(field).bits(row).map(|bits| bits & mask);
            assert_eq!(ours, theirs.map(|(bits, _)| *bits), "{} in row {row}", field.name());
        }
    }
}

/// Whether they may refuse a datagram: we do, too, or it is of v9, of which they take all sets or none. They want one set
/// at least, and do not know that zeros may follow the last one.
fn refusal_is_known(outcome: &Outcome, damaged: u32, datagram: &[u8]) -> bool {
    let mut rest = datagram.get(20..).unwrap_or_default();
    let next = |rest: &[u8]| Some(usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])).max(4));
    while let Some(left) = next(rest).and_then(|length| rest.get(length..)) {
        rest = left;
    }
    let padded = (1..4).contains(&rest.len()) && rest.iter().all(|&byte| byte == 0);
    outcome.rejected.is_some() || datagram[1] == 9 && (damaged > 0 || datagram.len() == 20 || padded)
}

fn fixed_datagram() -> impl Strategy<Value = Vec<u8>> {
    let contents = proptest::collection::vec(any::<u8>(), 30 * 52);
    let interval = prop_oneof![0u16..3, any::<u16>()];
    (any::<bool>(), 1u16..29, any::<u16>(), interval, any::<[u16; 2]>(), contents).prop_map(
        |(is_v7, count, engine, sampling, [first, last], contents)| {
            let (mut bytes, length) = if is_v7 { (build::v7(1, count), 52) } else { (build::v5(1, count), 48) };
            bytes[20..22].copy_from_slice(&engine.to_be_bytes());
            bytes[22..24].copy_from_slice(&sampling.to_be_bytes());
            for (record, contents) in bytes[24..].chunks_mut(length).zip(contents.chunks(length)) {
                record.copy_from_slice(contents);
                let last = 100_000 - u32::from(last);
                record[24..28].copy_from_slice(&last.wrapping_sub(first.into()).to_be_bytes());
                record[28..32].copy_from_slice(&last.to_be_bytes());
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_read_the_same_from_fixed_records(datagram in fixed_datagram(), cut in any::<prop::sample::Index>()) {
        prop_assert!(Both::new().compare(&datagram));
        prop_assert!(!Both::new().compare(&datagram[..cut.index(datagram.len())]));
    }

    #[test]
    fn both_read_the_same_from_templates_and_sets(
        mut messages in messages(ELEMENTS, true),
        cut in any::<prop::sample::Index>(),
        told in any::<bool>(),
    ) {
        let mut both = Both::new();
        for message in &messages {
            prop_assert!(both.compare(message));
        }
        // The same again, with the last one cut, of which an IPFIX message may tell.
        let mut both = Both::new();
        let last = messages.pop().unwrap();
        for message in &messages {
            both.compare(message);
        }
        let mut last = last[..cut.index(last.len())].to_vec();
        if told && last.get(1) == Some(&10) && last.len() >= 4 {
            let length = last.len() as u16;
            last[2..4].copy_from_slice(&length.to_be_bytes());
        }
        both.compare(&last);
    }
}

#[test]
fn both_refuse_or_take_every_fixture_wherever_it_is_cut() {
    let known = |name: &&str| ["v5", "v7", "v9", "ipfix"].contains(name);
    let (mut refused, mut taken) = (0, 0);
    for (_, datagram) in fixtures::all().into_iter().filter(|(name, _)| known(name)) {
        for length in 0..=datagram.len() {
            let mut cut = vec![datagram[..length].to_vec()];
            if datagram[1] == 10 && length >= 4 {
                let mut told = datagram[..length].to_vec();
                told[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                cut.push(told);
            }
            for cut in cut {
                *(if Both::new().compare(&cut) { &mut taken } else { &mut refused }) += 1;
            }
        }
    }
    assert!(refused > 500 && taken > 200, "{refused} refused, {taken} taken");
}
