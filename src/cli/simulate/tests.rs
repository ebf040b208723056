//! What is sent is what is told, as the real decoder reads it.

use super::*;
use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use crate::wire::{ConfiguredSampling, Context, Decoder, Limits, Transport};
use std::net::UdpSocket;

const NOW: i64 = 1_795_392_000 * SECOND;

fn plan(protocol: Protocol, count: u64) -> Plan {
    Plan { protocol, seed: 7, hosts: 2_000, exporters: 3, count: Some(count), template_every: 20 }
}

#[test]
fn the_decoder_reads_exactly_what_the_totals_tell() {
    for protocol in [Protocol::V5, Protocol::V9, Protocol::Ipfix] {
        // More than the pool, and not a multiple of a datagram's flows.
        let count = 130_001;
        let mut stream = Stream::new(plan(protocol, count));
        let mut decoder = Decoder::new(Limits::default());
        let mut batch = FlowBatch::default();
        let (mut datagrams, mut at) = (0, NOW);
        while let Some(datagram) = stream.next(Timestamp::from_micros(at)) {
            let source = ([127, 0, 0, 1], 1_000).into();
            let exporter_id = datagram.exporter as u32;
            let context = Context {
                received: Timestamp::from_micros(at),
                exporter_id,
                source,
                transport: Transport::Datagrams,
                sampling: ConfiguredSampling::default(),
            };
            let outcome = decoder.decode(&context, datagram.bytes, &mut batch);
            assert_eq!(
                (outcome.rejected, outcome.lost.count, outcome.counts.iter().count()),
                (None, 0, 0),
                "{outcome:?}"
            );
            assert_eq!(outcome.records as usize, datagram.flows);
            datagrams += 1;
            at += 37;
        }
        let totals = stream.totals();
        let decoded = batch.totals(0..batch.rows());
        assert_eq!((totals.flows, totals.datagrams), (count, datagrams), "{protocol:?}");
        assert_eq!((decoded.flows, decoded.bytes, decoded.packets), (count, totals.bytes, totals.packets));
        let top = totals.downloads[0];
        let mut bytes = 0;
        for row in 0..batch.rows() {
            if batch.value(Field::DstIp, row).unwrap().to_string() == top.host.to_string() {
                let crate::flow::value::Value::Number(number) = batch.value(Field::InBytes, row).unwrap() else {
                    panic!("bytes are a number")
                };
                bytes += number;
            }
        }
        assert_eq!(bytes, top.bytes);
        assert!(totals.downloads.is_sorted_by(|a, b| a.bytes >= b.bytes));
        let seen = batch.column(Field::FirstSeen).bits(9).unwrap() as i64;
        assert!((NOW - 80 * SECOND..NOW + SECOND).contains(&seen));
    }
}

#[test]
fn datagrams_are_as_full_as_1400_bytes_allow() {
    for (protocol, flows) in [(Protocol::V5, 30), (Protocol::V9, 28), (Protocol::Ipfix, 24)] {
        assert_eq!(protocol.flows_per_datagram(), flows);
        let mut stream = Stream::new(plan(protocol, 1_000));
        stream.next(Timestamp::from_micros(NOW));
        let length = (0..3).filter_map(|_| stream.next(Timestamp::from_micros(NOW)).map(|it| it.bytes.len())).max();
        assert!((1_380..=1_464).contains(&length.unwrap()), "{length:?}");
    }
}

#[test]
fn a_seed_gives_the_same_bytes() {
    let all = |seed| {
        let mut stream = Stream::new(Plan { seed, ..plan(Protocol::V9, 1_000) });
        let mut out = Vec::new();
        while let Some(datagram) = stream.next(Timestamp::from_micros(NOW)) {
            out.push(datagram.bytes.to_vec());
        }
        out
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

#[test]
fn datagrams_arrive_and_the_result_is_json() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let arguments = Arguments {
        to: receiver.local_addr().unwrap(),
        protocol: Protocol::Ipfix,
        rate: 100_000,
        count: 100,
        seed: 1,
        hosts: 10,
        exporters: 2,
        template_every: 0,
        print_only: false,
    };
    let mut out = Vec::new();
    let totals = run(&arguments, &mut out).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&result["flows"], &result["datagrams"]), (&100.into(), &totals.datagrams.into()));
    assert_eq!(result["top_downloads"].as_array().unwrap().len(), 3);
    let (mut buffer, mut sources) = ([0; 2_000], std::collections::HashSet::new());
    for _ in 0..totals.datagrams {
        sources.insert(receiver.recv_from(&mut buffer).unwrap().1.ip());
    }
    assert_eq!(sources.len(), 2);

    let mut out = Vec::new();
    run(&Arguments { print_only: true, count: 30, ..arguments }, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("000a")).count(), 4, "two templates and two of data");
}
