//! Real exporters' captures, where they lie beside the project; they are not ours to ship. Skipped, aloud, without them.

use super::{Bench, NOW, SECONDS, context_of};
use crate::clock::SECOND;
use crate::wire::Reason;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The capture folder: `../shared/captures` beside the crate, or the one named in FLOWLEDGER_CAPTURES. Without it the test
/// that asks is to be skipped, which is told past the harness: that keeps to itself what passing tests print.
pub(super) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    let folder = std::env::var_os("FLOWLEDGER_CAPTURES").map_or(beside, PathBuf::from);
    if folder.join("cases.json").is_file() {
        return Some(folder);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let told = format!("SKIPPED {test}: no captures at {}\n", folder.display());
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    None
}

fn le(bytes: &[u8], at: usize, width: usize) -> usize {
    bytes[at..at + width].iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte))
}

fn be(bytes: &[u8], at: usize, width: usize) -> usize {
    bytes[at..at + width].iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
}

/// A UDP payload with its source: a number for the address, and the port.
pub(super) type Datagram = (u32, u16, Vec<u8>);

/// The payload of a frame of this link type, if it is UDP.
fn payload(link: usize, frame: &[u8]) -> Option<Datagram> {
    let mut start = match link {
        0 => 4,
        1 => 14,
        113 => 16,
        101 | 228 => 0,
        276 => 20,
        other => panic!("link type {other}"),
    };
    while link == 1 && be(frame, start - 2, 2) == 0x8100 {
        start += 4;
    }
    let ip = &frame[start..];
    let (header, protocol, address) = match ip[0] >> 4 {
        4 => (usize::from(ip[0] & 15) * 4, ip[9], be(ip, 12, 4) as u32),
        6 => (40, ip[6], be(ip, 20, 4) as u32),
        _ => return None,
    };
    let udp = &ip[header..];
    (protocol == 17).then(|| (address, be(udp, 0, 2) as u16, udp[8..be(udp, 4, 2).min(udp.len())].to_vec()))
}

fn pcap(bytes: &[u8]) -> Vec<Datagram> {
    let big = bytes[0] == 0xa1;
    let number = |at, width| if big { be(bytes, at, width) } else { le(bytes, at, width) };
    let (link, mut at, mut out) = (number(20, 4), 24, Vec::new());
    while at + 16 <= bytes.len() {
        let length = number(at + 8, 4);
        out.extend(payload(link, &bytes[at + 16..at + 16 + length]));
        at += 16 + length;
    }
    out
}

fn pcapng(bytes: &[u8]) -> Vec<Datagram> {
    let (mut link, mut at, mut out) = (1, 0, Vec::new());
    while at + 12 <= bytes.len() {
        match le(bytes, at, 4) {
            1 => link = le(bytes, at + 8, 2),
            6 => out.extend(payload(link, &bytes[at + 28..at + 28 + le(bytes, at + 20, 4)])),
            _ => {}
        }
        at += le(bytes, at + 4, 4);
    }
    out
}

/// The messages in a file that holds several in a row.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while bytes.len() > 4 {
        let length = if bytes[1] == 5 { 24 + 48 * be(bytes, 2, 2) } else { be(bytes, 2, 2) };
        let (message, rest) = bytes.split_at(length);
        out.push(message.to_vec());
        bytes = rest;
    }
    out
}

pub(super) fn datagrams(path: &Path, several: bool) -> Vec<Datagram> {
    let bytes = std::fs::read(path).unwrap();
    match bytes.get(..4).unwrap_or_default() {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0xa1, 0xb2, 0xc3, 0xd4] => return pcap(&bytes),
        [0x0a, 0x0d, 0x0d, 0x0a] => return pcapng(&bytes),
        _ => {}
    }
    let messages =
        if several || path.extension().is_some_and(|it| it == "ipfix") { split(&bytes) } else { vec![bytes] };
    messages.into_iter().map(|message| (1, 1, message)).collect()
}

/// Records, options records, templates, sets without template.
type Figures = (u64, u64, u64, u64);

/// Cases in which we count otherwise than the list, with its reason, and our figures in the list's order.
const EXPLAINED: [(&str, Figures, &str); 6] = [
    ("beats/ipfix-cisco-reversed", (29, 0, 1, 0), "data that came before its template waited for it"),
    ("graylog/nprobe-netflow9-4", (15, 1, 3, 0), "data that came before its template waited for it"),
    ("libnetflow9/malformed-ot", (0, 0, 0, 1), "an options template without fields is none"),
    ("libnetflow9/fuzz-pcap-malformed-ot", (0, 0, 0, 1), "an options template without fields is none"),
    (
        "libnetflow9/malformed-2",
        (0, 0, 16, 15),
        "the second definition describes no bytes and voids the first, which one set had waited for",
    ),
    (
        "netflow_parser/it-parses-ipfix-enterprise-bit-in-non-options-template-packet",
        (0, 0, 0, 0),
        "the header says 42 of 46 bytes, which discards the message",
    ),
];

#[test]
fn captures_of_real_exporters_have_the_listed_counts() {
    let Some(folder) = folder() else { return };
    let list: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let (mut checked, mut records, mut wrong) = (0, 0, Vec::new());
    for case in list["cases"].as_array().unwrap() {
        let (name, protocol) = (case["name"].as_str().unwrap(), case["protocol"].as_str().unwrap());
        if !["v5", "v9", "ipfix", "sflow5+v5", "other"].contains(&protocol) {
            continue;
        }
        let mut bench = Bench::new();
        let (mut found, mut options, mut templates, mut missing) = (0, 0, 0, 0);
        for file in case["files"].as_array().unwrap() {
            let path = folder.join(file.as_str().unwrap());
            for (exporter, port, datagram) in datagrams(&path, case["split"].as_bool().unwrap_or(false)) {
                let outcome = bench.decode_as(&context_of(exporter, port, NOW), &datagram);
                found += u64::from(outcome.records);
                options += u64::from(outcome.options_records);
                templates += u64::from(outcome.templates);
                missing += u64::from(outcome.counts.get(Reason::Parked));
                for unparked in bench.unpark() {
                    found += u64::from(unparked.records);
                    options += u64::from(unparked.options_records);
                    missing -= 1;
                }
            }
        }
        let count = |key: &str| case["counts"][key].as_u64().unwrap();
        let listed_templates = count("templates") + count("options_templates");
        let expected =
            (count("data_records"), count("options_records"), listed_templates, count("sets_without_template"));
        let explained = EXPLAINED.iter().find(|(known, ..)| *known == name);
        let expected = explained.map_or(expected, |(_, ours, _)| *ours);
        if (found, options, templates, missing) != expected {
            wrong.push(format!("{name}: {:?} instead of {expected:?}", (found, options, templates, missing)));
        }
        checked += 1;
        records += found;
    }
    println!("{checked} cases, {records} records at {}", NOW / SECOND - i64::from(SECONDS));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 60 && records > 5_000);
}
