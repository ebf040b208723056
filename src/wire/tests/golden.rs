//! Every flow of the real exporters' captures, field by field, against what other decoders make of the same bytes.
//!
//! The captures and the other decoders' answers lie beside the project (`captures` finds them). A field is compared where
//! both know it; each answer's file has the table of what it calls our fields. `explained` lists every difference with
//! its reason; a difference that is not listed fails, and so does a listed one that has gone.

mod akvorado;
mod explained;
mod named;
mod sums;
mod tshark;

use super::captures::{datagrams, folder};
use super::{Bench, context_of};
use crate::clock::SECOND;
use crate::flow::fields::Field;
use crate::flow::value::Value;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What another decoder says a record holds.
type Record = BTreeMap<Field, Value>;

/// A case of the list, decoded.
struct Case {
    name: String,
    golden: Vec<PathBuf>,
    bench: Bench,
    /// The rows of each datagram, in its order, those included that waited for a template.
    rows: Vec<Vec<usize>>,
    /// The sets of options data, by datagram and template.
    options: HashSet<(usize, u16)>,
}

/// The time of export in a datagram's header, in seconds.
fn export_seconds(datagram: &[u8]) -> Option<u32> {
    let at = if datagram.get(1)? == &10 { 4 } else { 8 };
    Some(u32::from_be_bytes(datagram.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The sets in a datagram of v9 or IPFIX, each with its number.
fn sets(datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut at, mut out) = (if u16_at(datagram, 0) == Some(10) { 16 } else { 20 }, Vec::new());
    while let (Some(id), Some(length)) = (u16_at(datagram, at), u16_at(datagram, at + 2)) {
        let Some(body) = datagram.get(at + 4..at + usize::from(length)) else { break };
        out.push((id, body));
        at += usize::from(length);
    }
    out
}

/// The identifiers of the options templates that a set defines.
fn options_templates(set: u16, mut body: &[u8]) -> Vec<u16> {
    let mut out = Vec::new();
    while let (Some(id @ 256..), Some(a), Some(b)) = (u16_at(body, 0), u16_at(body, 2), u16_at(body, 4)) {
        out.push(id);
        let length = match set {
            1 => usize::from(a) + usize::from(b),
            _ => (0..a).fold(0, |at, _| at + if body.get(6 + at).is_some_and(|byte| byte & 0x80 != 0) { 8 } else { 4 }),
        };
        body = body.get(6 + length..).unwrap_or_default();
    }
    out
}

impl Case {
    fn decode(folder: &Path, case: &Json) -> Self {
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        let list = |key: &str| case[key].as_array().unwrap().iter().map(|path| folder.join(text(path)));
        let mut bench = Bench::new();
        let (mut index, mut by_time) = (0, HashMap::new());
        let (mut known, mut options) = (HashSet::new(), HashSet::new());
        for file in list("files") {
            for (exporter, port, datagram) in datagrams(&file, case["split"].as_bool().unwrap_or(false)) {
                // Received when it was sent, and each datagram at a time of its own.
                let received = i64::from(export_seconds(&datagram).unwrap_or(0)) * SECOND + index;
                by_time.insert(received, index as usize);
                bench.decode_as(&context_of(exporter, port, received), &datagram);
                bench.unpark();
                if matches!(u16_at(&datagram, 0), Some(9 | 10)) {
                    for (set, body) in sets(&datagram) {
                        match set {
                            1 | 3 => known.extend(options_templates(set, body).into_iter().map(|id| (exporter, id))),
                            id if known.contains(&(exporter, id)) => _ = options.insert((index as usize, id)),
                            _ => {}
                        }
                    }
                }
                index += 1;
            }
        }
        let mut rows = vec![Vec::new(); index as usize];
        for row in 0..bench.batch.rows() {
            let Some(Value::Time(received)) = bench.batch.value(Field::Received, row) else { panic!("no time") };
            rows[by_time[&received.micros()]].push(row);
        }
        Self { name: text(&case["name"]), golden: list("golden").collect(), bench, rows, options }
    }

    /// The other decoders' answers whose path begins so.
    fn golden<'a>(&'a self, folder: &'a Path, begin: &'a str) -> impl Iterator<Item = &'a PathBuf> {
        self.golden.iter().filter(move |path| path.starts_with(folder.join(begin)))
    }

    fn all_rows(&self) -> Vec<usize> {
        self.rows.concat()
    }

    fn record(&self, row: usize) -> Record {
        let value = |field| self.bench.batch.value(field, row).map(|value| (field, value));
        Field::ALL.into_iter().filter_map(value).collect()
    }
}

/// Differences found so far: whose answer, which case and what, with the first example and how many.
#[derive(Default)]
struct Differences {
    found: BTreeMap<(&'static str, String, &'static str), (String, usize)>,
    /// Values that were compared.
    compared: usize,
}

impl Differences {
    fn note(&mut self, whose: &'static str, case: &str, what: &'static str, example: impl FnOnce() -> String) {
        self.found.entry((whose, case.to_owned(), what)).or_insert_with(|| (example(), 0)).1 += 1;
    }

    /// Compares records in order.
    fn compare(&mut self, whose: &'static str, case: &Case, rows: &[usize], expected: &[Record]) {
        if rows.len() != expected.len() {
            self.note(whose, &case.name, "records", || format!("{} not {}", rows.len(), expected.len()));
            return;
        }
        for (&row, expected) in rows.iter().zip(expected) {
            let ours = case.record(row);
            for (&field, theirs) in expected {
                self.compared += 1;
                if ours.get(&field) != Some(theirs) {
                    let shown = ours.get(&field).map(ToString::to_string);
                    self.note(whose, &case.name, field.name(), || format!("{shown:?} not {theirs}"));
                }
            }
            // tshark shows all that a record holds, so what only we know has a reason, too.
            for (field, value) in ours.iter().filter(|(field, _)| whose == "tshark" && !expected.contains_key(field)) {
                if ![Field::Received, Field::ExporterId].contains(field) {
                    self.note(whose, &case.name, field.name(), || format!("{value} of which they know nothing"));
                }
            }
        }
    }

    fn assert_explained(&self, by: &[(&str, &str, &str, &str)]) {
        let explained: HashSet<_> = by.iter().map(|&(whose, case, what, _)| (whose, case.to_owned(), what)).collect();
        let mut wrong = Vec::new();
        for ((whose, case, what), (example, count)) in &self.found {
            if !explained.contains(&(*whose, case.clone(), *what)) {
                wrong.push(format!("{whose} {case} {what}: {example} ({count})"));
            }
        }
        for (whose, case, what) in explained {
            let known = self.found.keys().any(|(a, b, c)| (*a, b, *c) == (whose, &case, what));
            if !known {
                wrong.push(format!("{whose} {case} {what}: explained, but the same"));
            }
        }
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    }
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_flow_is_what_others_make_of_it() {
    let Some(folder) = folder() else { return };
    let mut differences = Differences::default();
    let mut checked = 0;
    for listed in read(&folder.join("cases.json"))["cases"].as_array().unwrap() {
        if listed["protocol"] == "sflow5" || listed["protocol"] == "other" {
            continue;
        }
        let case = Case::decode(&folder, listed);
        for path in case.golden(&folder, "golden/tshark") {
            tshark::compare(&case, &read(path), &mut differences);
        }
        for path in case.golden(&folder, "netgauze") {
            named::compare_netgauze(&case, &std::fs::read_to_string(path).unwrap(), &mut differences);
        }
        for path in case.golden(&folder, "beats") {
            named::compare_beats(&case, &read(path), &mut differences);
        }
        for path in case.golden(&folder, "golden/logstash") {
            named::compare_logstash(&case, &read(path), &mut differences);
        }
        for path in case.golden(&folder, "golden/akvorado") {
            akvorado::compare(&case, &read(path), &mut differences);
        }
        sums::compare(&case, &folder, &mut differences);
        checked += 1;
    }
    println!("{checked} cases, {} values", differences.compared);
    differences.assert_explained(explained::EXPLAINED);
    assert!(checked > 80 && differences.compared > 100_000);
}
