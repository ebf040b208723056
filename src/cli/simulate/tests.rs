//! What is sent is what is told, as the real decoder reads it.

use super::*;
use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use crate::flow::value::Value;
use crate::wire::{ConfiguredSampling, Context, Decoder, Limits, Outcome, Transport};
use clap::{Parser as _, ValueEnum as _};
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::UdpSocket;

const NOW: i64 = 1_795_392_000 * SECOND;

fn plan(protocol: Protocol, count: u64) -> Plan {
    Plan {
        protocol,
        seed: 7,
        hosts: 2_000,
        exporters: 3,
        count: Some(count),
        template_every: 20,
        sampling_interval: 500,
    }
}

/// Decodes one datagram as it comes from its exporter at `at`.
fn decode(decoder: &mut Decoder, datagram: &Datagram<'_>, at: i64, batch: &mut FlowBatch) -> Outcome {
    let context = Context {
        received: Timestamp::from_micros(at),
        exporter_id: datagram.exporter as u32,
        source: ([127, 0, 0, 1], 1_000).into(),
        transport: Transport::Datagrams,
        sampling: ConfiguredSampling::default(),
    };
    decoder.decode(&context, datagram.bytes, batch)
}

/// Sends all of `plan` through the decoder and compares what comes out.
fn compare(plan: Plan) {
    let mut stream = Stream::new(plan);
    let mut decoder = Decoder::new(Limits::default());
    let mut batch = FlowBatch::default();
    let (mut datagrams, mut at) = (0, NOW);
    while let Some(datagram) = stream.next(Timestamp::from_micros(at)) {
        let outcome = decode(&mut decoder, &datagram, at, &mut batch);
        assert_eq!(
            (outcome.rejected, outcome.lost.count, outcome.restarted, outcome.counts.iter().count()),
            (None, 0, false, 0),
            "{plan:?} {outcome:?}"
        );
        assert_eq!(outcome.records as usize, datagram.flows);
        datagrams += 1;
        at += 37;
    }
    let totals = stream.totals();
    let decoded = batch.totals(0..batch.rows());
    assert_eq!((totals.flows, totals.datagrams), (plan.count.unwrap(), datagrams), "{plan:?}");
    assert_eq!(
        (decoded.flows, decoded.bytes, decoded.packets),
        (totals.flows, totals.bytes, totals.packets),
        "{plan:?}"
    );
    let number = |field, row| match batch.value(field, row) {
        Some(Value::Number(number)) => Some(number),
        None => None,
        other => panic!("{field:?} is a number, not {other:?}"),
    };
    if let Some(top) = totals.downloads.first() {
        let host = top.host.to_string();
        let rows = (0..batch.rows()).filter(|&row| batch.value(Field::DstIp, row).unwrap().to_string() == host);
        assert_eq!(rows.map(|row| number(Field::InBytes, row).unwrap()).sum::<u64>(), top.bytes);
    }
    assert!(totals.downloads.is_sorted_by(|a, b| a.bytes >= b.bytes));
    let interval = (plan.protocol == Protocol::Sflow).then_some(plan.sampling_interval.into());
    assert!((0..batch.rows()).all(|row| number(Field::SamplingInterval, row) == interval), "{plan:?}");
    let seen = batch.column(Field::FirstSeen).bits(batch.rows() - 1).unwrap() as i64;
    assert!((NOW - 80 * SECOND..at).contains(&seen));
}

#[test]
fn the_decoder_reads_exactly_what_the_totals_tell() {
    for &protocol in Protocol::value_variants() {
        // More than the pool, and not a multiple of a datagram's flows.
        compare(plan(protocol, protocol.flows_per_datagram() as u64 * 4_200 + 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_the_seed_all_formats_are_read_as_they_are_told(
        seed in any::<u64>(),
        hosts in 1u32..traffic::MAX_LOCAL_HOSTS,
        count in 1u64..700,
        exporters in 1u32..4,
        template_every in 0u32..5,
        sampling_interval in 2u32..=u32::MAX,
    ) {
        for &protocol in Protocol::value_variants() {
            compare(Plan { protocol, seed, hosts, exporters, count: Some(count), template_every, sampling_interval });
        }
    }
}

#[test]
fn a_datagram_that_does_not_arrive_is_a_gap_of_its_size() {
    for &protocol in Protocol::value_variants() {
        let mut stream = Stream::new(Plan { exporters: 1, template_every: 0, ..plan(protocol, 1_000) });
        let mut decoder = Decoder::new(Limits::default());
        let (mut missing, mut lost, mut number) = (0, 0, 0);
        while let Some(datagram) = stream.next(Timestamp::from_micros(NOW)) {
            number += 1;
            if number % 5 == 0 {
                missing += match protocol {
                    // It has no sequence numbers.
                    Protocol::V1 => 0,
                    Protocol::V9 | Protocol::Sflow => 1,
                    Protocol::V5 | Protocol::V7 | Protocol::Ipfix => datagram.flows as i64,
                };
            } else {
                lost += decode(&mut decoder, &datagram, NOW, &mut FlowBatch::default()).lost.count;
            }
        }
        assert!(number % 5 > 0, "the last one arrives");
        assert_eq!(lost, missing, "{protocol:?}");
    }
}

#[test]
fn samples_are_numbered_through_and_name_the_packets_they_were_taken_from() {
    let mut stream = Stream::new(Plan { exporters: 1, ..plan(Protocol::Sflow, 40) });
    let (mut number, mut datagrams) = (0, 0);
    while let Some(datagram) = stream.next(Timestamp::from_micros(NOW)) {
        // Read by the program of others, to which our decoder is nothing.
        let read = sflow_parser::parse_datagram(datagram.bytes).unwrap();
        assert_eq!((read.sequence_number, read.sub_agent_id, read.samples.len()), (datagrams, 1, datagram.flows));
        datagrams += 1;
        for sample in read.samples {
            let sflow_parser::SampleData::FlowSample(sample) = sample.sample_data else { panic!("a sample") };
            number += 1;
            assert_eq!((sample.sequence_number, sample.sampling_rate, sample.sample_pool), (number, 500, number * 500));
            assert_eq!(sample.flow_records.len(), 2);
        }
    }
    assert_eq!(number, 40);
}

#[test]
fn datagrams_are_as_full_as_1400_bytes_or_the_format_allow() {
    for (protocol, flows, bytes) in [
        (Protocol::V1, 24, 1_168),
        (Protocol::V5, 30, 1_464),
        (Protocol::V7, 27, 1_428),
        (Protocol::V9, 28, 1_396),
        (Protocol::Ipfix, 24, 1_388),
        (Protocol::Sflow, 9, 1_396),
    ] {
        assert_eq!(protocol.flows_per_datagram(), flows);
        let mut stream = Stream::new(plan(protocol, 1_000));
        let length = (0..4).filter_map(|_| stream.next(Timestamp::from_micros(NOW)).map(|it| it.bytes.len())).max();
        assert_eq!(length, Some(bytes), "{protocol:?}");
    }
}

#[test]
fn a_seed_gives_the_same_bytes() {
    for &protocol in Protocol::value_variants() {
        let all = |seed| {
            let mut stream = Stream::new(Plan { seed, ..plan(protocol, 1_000) });
            let mut out = Vec::new();
            while let Some(datagram) = stream.next(Timestamp::from_micros(NOW)) {
                out.push(datagram.bytes.to_vec());
            }
            out
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2), "{protocol:?}");
    }
}

#[derive(Debug, clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

/// The arguments of a command line.
fn arguments(line: &str) -> Result<Arguments, clap::Error> {
    let words = std::iter::once("simulate").chain(line.split_whitespace());
    CommandLine::try_parse_from(words).map(|line| line.arguments)
}

#[test]
fn the_format_goes_by_the_collector_unless_it_is_said() {
    for (line, protocol) in [
        ("", Protocol::V9),
        ("--to 192.0.2.1:2055 --protocol v7", Protocol::V7),
        ("--to tcp://192.0.2.1:4739", Protocol::Ipfix),
        ("--to tls://192.0.2.1:4740 --ca ca.pem --protocol ipfix", Protocol::Ipfix),
    ] {
        assert_eq!(arguments(line).unwrap().plan().unwrap().protocol, protocol, "{line}");
    }
    assert_eq!(arguments("--protocol sflow").unwrap().plan().unwrap().sampling_interval, 1_000);
}

#[test]
fn what_does_not_go_together_is_refused_with_what_to_do() {
    for (line, told) in [
        ("--to tcp://192.0.2.1:4739 --protocol v9", "Send --protocol ipfix there, or to udp://192.0.2.1:4739"),
        ("--to tls://[::1]:4739 --protocol sflow", "udp://[::1]:4739"),
        ("--protocol v5 --sampling 10", "--sampling is for --protocol sflow only"),
        ("--to tcp://192.0.2.1:4739 --ca ca.pem", "--ca is for --to tls://HOST:PORT only"),
        ("--to tls://192.0.2.1:4740", "needs --ca FILE"),
        ("--to tls://192.0.2.1:4740 --ca /nowhere/ca.pem", "--ca /nowhere/ca.pem"),
    ] {
        let error = run(&arguments(line).unwrap(), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(told), "{line}: {error}");
    }
    for line in
        ["--to tls://192.0.2.1:4740 --certificate own.pem", "--protocol sflow --sampling 0", "--to sctp://::1:1"]
    {
        assert!(arguments(line).is_err(), "{line}");
    }
}

#[test]
fn datagrams_arrive_and_the_result_is_json() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let line = format!("--to {} --rate 100000 --hosts 10 --exporters 2", receiver.local_addr().unwrap());
    let ipfix = arguments(&format!("{line} --protocol ipfix --count 100 --template-every 0")).unwrap();
    let mut out = Vec::new();
    let totals = run(&ipfix, &mut out).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&result["flows"], &result["datagrams"]), (&100.into(), &totals.datagrams.into()));
    assert_eq!((&result["transport"], &result["scaled_bytes"]), (&"udp".into(), &serde_json::Value::Null));
    assert_eq!(result["top_downloads"].as_array().unwrap().len(), 3);
    let (mut buffer, mut sources) = ([0; 2_000], HashSet::new());
    for _ in 0..totals.datagrams {
        sources.insert(receiver.recv_from(&mut buffer).unwrap().1.ip());
    }
    assert_eq!(sources.len(), 2);

    let mut out = Vec::new();
    run(&Arguments { print_only: true, count: 30, ..ipfix }, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("000a")).count(), 4, "two templates and two of data");

    let mut out = Vec::new();
    let sampled =
        run(&arguments(&format!("{line} --protocol sflow --count 90 --sampling 20")).unwrap(), &mut out).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for (name, count) in [
        ("flows", 90),
        ("packets", 90),
        ("scaled_packets", 1_800),
        ("bytes", sampled.bytes),
        ("scaled_bytes", sampled.bytes * 20),
        ("sampling_interval", 20),
    ] {
        assert_eq!(result[name], count, "{name}");
    }
    let top = &result["top_downloads"][0];
    assert_eq!(top["scaled_bytes"], sampled.downloads[0].bytes * 20);
}
