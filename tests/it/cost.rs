//! What the worst datagrams cost, and what a flood of spoofed exporters can make the decoder keep.
//!
//! The bounds: a datagram of 65,507 bytes costs at most 4 MiB beside what the decoder keeps of it within its limits, and
//! 5 ms on a machine of its own. Time is printed; what is asserted of it only finds work that grows with the square of the
//! datagram, as this is an unoptimised program on a busy machine.

use crate::support::memory;
use crate::support::messages::{message, numbers, set, template, words};
use flowledger::clock::{SECOND, Timestamp};
use flowledger::flow::batch::FlowBatch;
use flowledger::wire::{ConfiguredSampling, Context, Decoder, Limits, Reason, Transport};
use std::time::{Duration, Instant};

/// The longest datagram over UDP and IPv4.
const LONGEST: usize = 65_507;
const MIB: usize = 1 << 20;
const NOW: i64 = 1_795_392_002 * SECOND;

fn context(exporter_id: u32, port: u16, seconds: i64) -> Context {
    Context {
        received: Timestamp::from_micros(NOW + seconds * SECOND),
        exporter_id,
        source: ([192, 0, 2, 1], port).into(),
        transport: Transport::Datagrams,
        sampling: ConfiguredSampling::default(),
    }
}

/// As many of `parts` as the longest datagram holds.
fn filled(version: u16, parts: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut sets = Vec::new();
    for part in parts {
        if sets.len() + part.len() + 20 > LONGEST {
            break;
        }
        sets.extend(part);
    }
    message(version, 1_000, 100_000, &sets)
}

/// An sFlow datagram of as many of `samples` as it holds.
fn sflow(samples: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let samples = samples.scan(28, |length, sample| {
        *length += sample.len();
        (*length <= LONGEST).then_some(sample)
    });
    let samples = samples.collect::<Vec<_>>();
    [words(&[5, 1, 0xc633_6407, 3, 1_000, 100_000, samples.len() as u32]), samples.concat()].concat()
}

/// A data set that fills what the sets before it leave.
fn with_data(version: u16, before: &[u8], id: u16, byte: u8) -> Vec<u8> {
    let body = vec![byte; LONGEST - 20 - 4 - before.len()];
    message(version, 1_000, 100_000, &[before, &set(id, &body)].concat())
}

/// A worst case: what comes before, from which port, and the datagram that is measured.
struct Case {
    name: &'static str,
    before: Vec<(u16, Vec<u8>)>,
    datagram: Vec<u8>,
}

/// All elements that a field of a flow is made of, and more, with a width of one byte.
fn every_element() -> Vec<(u16, u16)> {
    (1..=511).map(|element| (element, 1)).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name, before: Vec<(u16, Vec<u8>)>, datagram| cases.push(Case { name, before, datagram });
    // An exporter that sends from as many ports as are remembered.
    let ports = |sets: &[u8]| (1..=256).map(|port| (port, message(9, 0, 100_000, sets))).collect::<Vec<_>>();
    let no_ports = Vec::new;
    for version in [9, 10] {
        let plain = if version == 9 { 0 } else { 2 };
        let ids = || (256..=u16::MAX).cycle();
        case("sets without template, each of its own", no_ports(), filled(version, ids().map(|id| set(id, &[]))));
        case("sets without template, all of one", no_ports(), filled(version, ids().map(|_| set(256, &[1]))));
        case("one template a set", no_ports(), filled(version, ids().map(|id| template(plain, id, &[(1, 1)]))));
        let changing = ids().map(|id| template(plain, 256, &[(1 + id % 2, 1)]));
        case("one template, changed again and again", no_ports(), filled(version, changing));
        let wide = |id: u16| (0..512).map(|index| (1 + index + id % 7, 1 + index % 8)).collect::<Vec<_>>();
        case("templates of many fields", no_ports(), filled(version, ids().map(|id| template(plain, id, &wide(id)))));
        let tiny = template(plain, 256, &[(4, 1)]);
        case("records of one byte", no_ports(), with_data(version, &tiny, 256, 6));
        let both = [tiny.clone(), template(plain, 257, &every_element())].concat();
        let record = set(257, &[1; 511]);
        let many = [both.clone(), set(256, &vec![6; 8_130]), record.repeat(60)].concat();
        case("short records, then records of every element", no_ports(), message(version, 1_000, 100_000, &many));
        let options = if version == 9 { 1 } else { 3 };
        let statistics: Vec<_> = [(1, 1)].into_iter().chain((0..511).map(|index| (40 + index % 3, 1))).collect();
        let statistics = template(options, 300, &statistics);
        case("statistics of one byte", no_ports(), with_data(version, &statistics, 300, 6));
        let names = template(options, 300, &[(1, 1), (95, 1), (96, 1), (94, 1)]);
        case("names of one byte", no_ports(), with_data(version, &names, 300, b'x'));
        let each = template(options, 300, &[(1, 1), (95, 2), (96, 1), (94, 1)]);
        let names = (0..13_000).flat_map(|id| [&[1][..], &numbers(&[id]), b"xy"].concat()).collect::<Vec<_>>();
        let names = [each, set(300, &names)].concat();
        case("names of many applications", no_ports(), message(version, 1_000, 100_000, &names));
        let broken = template(options, 300, &[(1, 1), (10, 1), (82, 200), (83, 255)]);
        case("names that are no text", no_ports(), with_data(version, &broken, 300, 0xff));
        let rates = template(options, 300, &[(1, 1), (48, 2), (50, 1)]);
        let samplers: Vec<u8> = (1..16_000u16).flat_map(|id| [&[1][..], &numbers(&[id]), &[9]].concat()).collect();
        let samplers = [rates, set(300, &samplers)].concat();
        case("samplers", no_ports(), message(version, 1_000, 100_000, &samplers));
    }
    let varying = template(2, 256, &[(371, 65_535), (4, 1)]);
    case("records of two bytes, one of a text", no_ports(), with_data(10, &varying, 256, 0));
    let long = [(371, 65_535); 512];
    case("records of many empty texts", no_ports(), with_data(10, &template(2, 256, &long), 256, 0));
    let frames = template(2, 256, &[(315, 65_535), (4, 1)]);
    case("records of two bytes, one of an empty packet", no_ports(), with_data(10, &frames, 256, 0));
    let ip = template(2, 256, &[(313, 1)]);
    case("packets of one byte", no_ports(), with_data(10, &ip, 256, 0x45));
    let tagged =
        [&[4; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 0x86, 0xdd], &[0x60, 0, 0, 1, 0, 80, 41, 64]].concat();
    let full = [tagged, vec![0x20; 32], vec![0x60, 0, 0, 1, 0, 40, 6, 64], vec![0x20; 32]].concat();
    let full = [vec![full.len() as u8], full].concat();
    let only = template(2, 256, &[(315, 65_535)]);
    let pairs = [vec![0], full.clone()].concat().repeat(620);
    let pairs = [only.clone(), set(256, &pairs)].concat();
    case("packets between empty ones", no_ports(), message(10, 1_000, 100_000, &pairs));
    let applications = [template(2, 256, &[(95, 65_535)]), set(256, &[0, 1, 13].repeat(21_800))].concat();
    case("applications between empty ones", no_ports(), message(10, 1_000, 100_000, &applications));
    // A column is as long as the last row that has a value.
    let last = [only, set(256, &[vec![0; 8_191], full].concat())].concat();
    case("a packet after many empty ones", no_ports(), message(10, 1_000, 100_000, &last));
    let ids = || (256..=u16::MAX).cycle();
    case("sets without template and many ports", ports(&[]), filled(9, ids().map(|id| set(id, &[]))));
    let domains = ports(&[]).into_iter().map(|(port, mut datagram)| {
        datagram[16..20].copy_from_slice(&be(port));
        (port, datagram)
    });
    let known = (9_999, message(9, 0, 100_000, &[]));
    let domains = domains.chain([known]).collect();
    case("sets without template beside many domains", domains, filled(9, ids().map(|id| set(id, &[]))));
    let one = template(0, 256, &[(4, 1)]);
    let sampled = [template(1, 300, &[(1, 1), (34, 1)]), set(300, &[1, 9])].concat();
    let mut rated = ports(&sampled);
    rated.push((9_999, message(9, 0, 100_000, &one)));
    case("sets of one record, many ports that are sampled", rated, filled(9, ids().map(|_| set(256, &[6]))));
    // What waits for templates, up to the limit.
    let waiting = |from: u16, ports: u16| {
        let sets = move |index: u16| filled(9, (0..400).map(move |id| set(256 + id, &[index as u8])));
        (0..120).map(move |index| (from + index % ports, [&sets(index)[..12], &be(index), &sets(index)[16..]].concat()))
    };
    let release = filled(9, ids().take(400).map(|id| template(0, id, &[(4, 1)])));
    case("templates for all that waits", waiting(9_999, 1).collect(), release.clone());
    case("templates for what waits of other ports", ports(&[]).into_iter().chain(waiting(1, 250)).collect(), release);
    let mut restart = message(9, 0, 20_000, &[]);
    restart.truncate(20);
    case("a restart while much waits", waiting(9_999, 1).collect(), restart);
    let flow = |records: u32| words(&[1, 32, 77, 5, 512, 51_200, 9, 5, 6, records]);
    case("samples without records", no_ports(), sflow(std::iter::repeat(flow(0))));
    let packet = [&[2; 12][..], &[8, 0, 0x45], &[9; 19], &[0x50; 20], &[0, 0]].concat();
    let mut sampled = [flow(1), words(&[1, 72, 1, 1_500, 4, 54]), packet].concat();
    sampled[4..8].copy_from_slice(&112u32.to_be_bytes());
    case("samples of packets", no_ports(), sflow(std::iter::repeat(sampled)));
    let mut records = flow(8_000);
    records.extend([1_001, 0].repeat(8_000).into_iter().flat_map(u32::to_be_bytes));
    records[4..8].copy_from_slice(&(32u32 + 8 * 8_000).to_be_bytes());
    case("a sample of many empty records", no_ports(), sflow(std::iter::once(records)));
    let counters = |index: u32| [words(&[2, 108, 78, 5, 1, 1, 88, index]), vec![1; 84]].concat();
    case("counters of many interfaces", no_ports(), sflow((0..).map(counters)));
    cases
}

fn be(number: u16) -> [u8; 4] {
    u32::from(number).to_be_bytes()
}

#[test]
fn no_datagram_costs_more_than_four_mebibytes_or_grows_with_its_square() {
    for Case { name, before, datagram } in cases() {
        assert!(datagram.len() <= LONGEST, "{name}: {} bytes", datagram.len());
        let (mut best, mut worst_memory, mut told) = (Duration::MAX, 0, None);
        for _ in 0..3 {
            let mut decoder = Decoder::new(Limits::default());
            let mut batch = FlowBatch::default();
            for (port, datagram) in &before {
                decoder.decode(&context(1, *port, 0), datagram, &mut batch);
            }
            decoder.take_changes();
            let mut batch = FlowBatch::default();
            let begun = Instant::now();
            let (outcome, memory) = memory::peak_of(|| decoder.decode(&context(1, 9_999, 20), &datagram, &mut batch));
            best = best.min(begun.elapsed());
            worst_memory = worst_memory.max(memory);
            told = Some(outcome);
        }
        let told = told.unwrap();
        let counts: Vec<_> = told.counts.iter().map(|(reason, count)| (reason.name(), count)).collect();
        println!(
            "{name}: {best:?}, {} KiB; {} records, {} of options, {} templates, {} sets, {counts:?}",
            worst_memory / 1_024,
            told.records,
            told.options_records,
            told.templates,
            told.sets,
        );
        assert!(worst_memory <= 4 * MIB, "{name}: {worst_memory} bytes");
        assert!(best < Duration::from_millis(200), "{name}: {best:?}");
    }
}

/// Datagrams that claim to hold far more than they do, each of a session that has sent a good one before.
fn claims() -> Vec<(&'static str, Vec<u8>)> {
    let mut claims = Vec::new();
    for (version, plain) in [(9, 0), (10, 2)] {
        for count in [65_532, u16::MAX] {
            let fields = numbers(&[256, count, 8, 4, 12, 4, 1, 4, 2, 4]);
            claims.push(("fields of a template", message(version, 2, 100_000, &set(plain, &fields))));
            let fields = numbers(&[256, count, count, 8, 4, 12, 4, 1, 4]);
            claims.push(("fields of options", message(version, 2, 100_000, &set(plain + 1, &fields))));
        }
        let mut long = set(256, &[0; 16]);
        long[2..4].fill(255);
        claims.push(("a set", message(version, 2, 100_000, &long)));
    }
    claims.push(("a text", message(10, 2, 100_000, &set(300, &[255, 255, 255, 1, 2, 3]))));
    let mut fixed = vec![0; 24 + 48];
    (fixed[1], fixed[2], fixed[3]) = (5, 255, 255);
    claims.push(("records of v5", fixed));
    let sflow = |samples: u32, sample: &[u32]| {
        let head = words(&[5, 1, 0xc633_6407, 3, 2, 100_000, samples]);
        [head, words(&[1, 4 * sample.len() as u32]), words(sample)].concat()
    };
    let all = u32::MAX;
    claims.push(("samples", sflow(all, &[77, 5, 512, 51_200, 9, 5, 6, 0])));
    claims.push(("records of a sample", sflow(1, &[77, 5, 512, 51_200, 9, 5, 6, all, 1, 4, 7])));
    claims.push(("a record", sflow(1, &[77, 5, 512, 51_200, 9, 5, 6, 1, 1, all, 7])));
    claims.push(("a packet", sflow(1, &[77, 5, 512, 51_200, 9, 5, 6, 1, 1, 20, 1, 1_500, 4, all, 7])));
    let path = [77, 5, 512, 51_200, 9, 5, 6, 1, 1_003, 36, 0, 1, 2, 3, all, 2, all, 7, 7];
    claims.push(("a path", sflow(1, &path)));
    let mut counters = sflow(1, &[78, 5, all, 1, 4, 7]);
    counters[31] = 2;
    claims.push(("counters", counters));
    claims
}

#[test]
fn what_a_datagram_only_claims_to_hold_takes_no_memory() {
    let mut decoder = Decoder::new(Limits::default());
    let mut batch = FlowBatch::default();
    let flow = words(&[1, 32, 77, 5, 512, 51_200, 9, 5, 6, 0]);
    let good = [9, 10].map(|version| {
        let plain = if version == 9 { 0 } else { 2 };
        let text = if version == 9 { Vec::new() } else { template(2, 300, &[(371, 65_535), (4, 1)]) };
        let sets = [template(plain, 256, &[(8, 4), (1, 4)]), set(256, &[1; 8]), text].concat();
        message(version, 1, 100_000, &sets)
    });
    let sampled = sflow(std::iter::repeat_n(flow, 8));
    for datagram in good.iter().chain([&sampled]) {
        assert!(decoder.decode(&context(1, 9_999, 0), datagram, &mut batch).records > 0);
    }
    for (name, datagram) in claims() {
        batch.clear();
        let (outcome, memory) = memory::peak_of(|| decoder.decode(&context(1, 9_999, 0), &datagram, &mut batch));
        let counts: Vec<_> = outcome.counts.iter().map(|(reason, count)| (reason.name(), count)).collect();
        println!("{name}: {} bytes, {memory} taken, {counts:?}", datagram.len());
        // Of a packet fewer bytes than announced are read all the same.
        assert!(name == "a packet" || !counts.is_empty(), "{name}: nothing is told");
        assert!(memory <= 4 * datagram.len(), "{name}: {memory} bytes for {}", datagram.len());
    }
}

/// What a spoofed exporter sends: templates, data without template, sampling of many samplers, or nonsense.
fn spoofed(kind: u32) -> Vec<u8> {
    let fields: Vec<_> = [8, 12, 7, 11, 4, 1, 2, 61].map(|element| (element, 4)).to_vec();
    let sets: Vec<u8> = match kind {
        0 => (256..290).flat_map(|id| template(0, id, &fields)).collect(),
        1 => (256..290).flat_map(|id| set(id, &[7; 32])).collect(),
        2 => {
            let samplers = (1..450u16).flat_map(|id| [&[1][..], &numbers(&[id]), &[9]].concat()).collect::<Vec<_>>();
            [template(1, 300, &[(1, 1), (48, 2), (50, 1)]), set(300, &samplers)].concat()
        }
        _ => numbers(&[256, 3, 0]),
    };
    message(9, 0, 100_000, &sets)
}

#[test]
fn spoofed_exporters_take_at_most_64_mebibytes_and_nothing_from_those_that_were_there() {
    let long = std::env::var_os("FLOWLEDGER_LONG_TESTS").is_some();
    let count: u32 = if long { 1_000_000 } else { 200_000 };
    let before = memory::live();
    let mut decoder = Decoder::new(Limits::default());
    let mut batch = FlowBatch::default();
    let known = 1..=10u32;
    for exporter in known.clone() {
        let template = message(9, 0, 100_000, &template(0, 256, &[(1, 4)]));
        decoder.decode(&context(exporter, 9_999, 0), &template, &mut batch);
    }
    let datagrams = [0, 1, 2, 3].map(spoofed);
    let (mut refused, mut next, mut most) = (0u32, 1, 0);
    for number in 0..count {
        let spoofed_context = context(1_000 + number, 1_024 + (number % 60_000) as u16, 1);
        let outcome = decoder.decode(&spoofed_context, &datagrams[number as usize % 4], &mut batch);
        refused += u32::from(outcome.rejected == Some(Reason::SessionLimit));
        if number % 1_000 == 999 {
            for exporter in known.clone() {
                let data = message(9, next, 100_000 + next, &set(256, &7u32.to_be_bytes()));
                let outcome = decoder.decode(&context(exporter, 9_999, 1), &data, &mut batch);
                let counts: Vec<_> = outcome.counts.iter().collect();
                assert_eq!((outcome.records, outcome.lost.count, counts), (1, 0, vec![]), "exporter {exporter}");
            }
            next += 1;
            most = most.max(memory::live() - before);
            // As the server does with each commit.
            decoder.take_expired(spoofed_context.received);
            drop((decoder.take_parked(), decoder.take_unknown(), decoder.take_changes(), decoder.take_facts()));
            batch.clear();
        }
    }
    println!("{count} spoofed exporters: {} KiB at most, {refused} datagrams refused", most / 1_024);
    assert!(refused > count / 2 && most.cast_unsigned() <= 64 * MIB, "{most} bytes");
}
