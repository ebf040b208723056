//! A finished report: its CSV, the manifest that stands beside it, and the text of its mail.
//!
//! All three are made once for a period and kept with the run, so that every attempt to deliver, and every recipient, gets
//! the same bytes. This module does no I/O and reads no clock.

use super::csv;
use super::definition::Definition;
use super::error::ReportError;
use crate::clock::Timestamp;
use crate::flow::counting::{CountingRule, exporters_name};
use crate::flow::segment::Totals;
use crate::query::{Completeness, Counted, Counters, ExporterLoss, LossCount, TopAnswer, Window};
use chrono_tz::Tz;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// How many rows the mail shows in its text.
const ROWS_IN_MAIL: usize = 10;

/// A finished report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// `<report>_<period>`, the name of its files without their suffixes.
    pub name: String,
    /// The rows, as [`csv::render`] writes them.
    pub csv: String,
    /// What the rows are: a JSON object with window, filter, totals, completeness and the CSV's SHA-256.
    pub manifest: String,
    /// The report in a few lines, for the text of a mail.
    pub summary: String,
    /// How many rows the CSV has below its head.
    pub rows: u64,
}

#[derive(Serialize)]
struct Manifest<'a> {
    report: &'a str,
    period: &'a str,
    file: String,
    window: Bounds,
    by: Vec<&'a str>,
    order: &'a str,
    counters: &'a str,
    filter: Option<String>,
    rows: usize,
    groups: u64,
    totals: Sums,
    completeness: Stamp,
    source: Sources,
    counting: Counting,
    generated_at: String,
    sha256: String,
}

/// A window as manifests write it.
#[derive(Serialize)]
pub struct Bounds {
    from: String,
    to: String,
    timezone: String,
}

impl From<&Window> for Bounds {
    fn from(window: &Window) -> Self {
        Self {
            from: csv::time(window.from, window.zone),
            to: csv::time(window.to, window.zone),
            timezone: window.zone.name().to_owned(),
        }
    }
}

/// Sums as manifests write them.
#[derive(Serialize)]
pub struct Sums {
    bytes: u64,
    packets: u64,
    flows: u64,
}

impl From<&Totals> for Sums {
    fn from(totals: &Totals) -> Self {
        Self { bytes: totals.bytes, packets: totals.packets, flows: totals.flows }
    }
}

/// The stamp of completeness as manifests write it.
#[derive(Serialize)]
pub struct Stamp {
    exact: bool,
    estimated: bool,
    sampled_flows: u64,
    stale_since: Option<String>,
    lost: Vec<Lost>,
    undercount: Option<AtMost>,
    exporters: Vec<Concerned>,
    more_exporters: u64,
}

/// What the answer was read from, as in answers of the API.
#[derive(Serialize)]
struct Sources {
    days: u64,
    hours: u64,
    segments: u64,
}

/// Which flows the sums are of, as in answers of the API.
#[derive(Serialize)]
struct Counting {
    count: &'static str,
    rules: Vec<Rule>,
    more_rules: u64,
}

#[derive(Serialize)]
struct Rule {
    exporter: String,
    count: &'static str,
    interfaces: Option<Vec<u32>>,
}

impl From<&Counted> for Counting {
    fn from(counted: &Counted) -> Self {
        let rule = |(exporters, rule): &(_, CountingRule)| Rule {
            exporter: exporters_name(exporters),
            count: rule.count.name(),
            interfaces: rule.interfaces.clone(),
        };
        Self { count: counted.name(), rules: counted.rules.iter().map(rule).collect(), more_rules: counted.more_rules }
    }
}

#[derive(Serialize)]
struct AtMost {
    flows_at_most: u64,
    percent_at_most: f64,
}

#[derive(Serialize)]
struct Concerned {
    id: u32,
    address: Option<String>,
    name: Option<String>,
    lost: Vec<Lost>,
}

#[derive(Serialize)]
struct Lost {
    cause: String,
    unit: String,
    count: u64,
}

impl Stamp {
    /// The same members as in answers of the API.
    pub fn new(completeness: &Completeness, zone: Tz) -> Self {
        let lost = |lost: &[LossCount]| -> Vec<Lost> {
            lost.iter()
                .map(|lost| Lost { cause: lost.cause.clone(), unit: lost.unit.clone(), count: lost.count })
                .collect()
        };
        let concerned = |concerned: &ExporterLoss| Concerned {
            id: concerned.exporter_id,
            address: concerned.address.map(|address| address.to_string()),
            name: concerned.name.clone(),
            lost: lost(&concerned.lost),
        };
        Self {
            exact: completeness.exact,
            estimated: completeness.estimated,
            sampled_flows: completeness.sampled_flows,
            stale_since: completeness.stale_since.map(|moment| csv::time(moment, zone)),
            lost: lost(&completeness.lost),
            undercount: completeness
                .undercount
                .map(|known| AtMost { flows_at_most: known.flows, percent_at_most: known.percent() }),
            exporters: completeness.exporters.iter().map(concerned).collect(),
            more_exporters: completeness.more_exporters,
        }
    }
}

impl Document {
    /// Renders `answer` as the report of `window`, which people call `period` (such as `2026-W47`).
    ///
    /// # Errors
    /// [`ReportError::Render`] when the answer does not fit the definition.
    pub fn new(
        definition: &Definition,
        period: &str,
        window: Window,
        answer: &TopAnswer,
        generated_at: Timestamp,
    ) -> Result<Self, ReportError> {
        let zone = window.zone;
        let names: Vec<_> = definition.by.iter().map(|dimension| dimension.name()).collect();
        let csv = String::from_utf8(csv::render(&names, definition.order, answer, zone)?)
            .map_err(|error| ReportError::Render(error.to_string()))?;
        let name = format!("{}_{period}", definition.name);
        let manifest = Manifest {
            report: &definition.name,
            period,
            file: format!("{name}.csv"),
            window: Bounds::from(&window),
            by: names,
            order: definition.order.name(),
            counters: definition.counters.name(),
            filter: definition.filter.as_ref().map(ToString::to_string),
            rows: answer.rows.len(),
            groups: answer.groups,
            totals: Sums::from(&answer.totals),
            completeness: Stamp::new(&answer.completeness, zone),
            source: Sources { days: answer.source.days, hours: answer.source.hours, segments: answer.source.segments },
            counting: Counting::from(&answer.counted),
            generated_at: csv::time(generated_at, zone),
            sha256: Sha256::digest(csv.as_bytes()).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
        };
        let summary = summary(&manifest, definition, &answer.completeness, answer);
        let manifest =
            serde_json::to_string_pretty(&manifest).map_err(|error| ReportError::Render(error.to_string()))?;
        Ok(Self { name, csv, manifest: manifest + "\n", summary, rows: answer.rows.len() as u64 })
    }
}

/// The text of the mail.
fn summary(
    manifest: &Manifest<'_>,
    definition: &Definition,
    completeness: &Completeness,
    answer: &TopAnswer,
) -> String {
    let by = manifest.by.join(", ");
    let mut lines = vec![
        format!("Report {}, {}", manifest.report, manifest.period),
        format!("From {} to {} ({})", manifest.window.from, manifest.window.to, manifest.window.timezone),
        format!("Filter: {}", manifest.filter.as_deref().unwrap_or("none, all flows")),
        format!(
            "Total: {} bytes, {} packets, {} flows; {} groups by {by}",
            manifest.totals.bytes, manifest.totals.packets, manifest.totals.flows, manifest.groups
        ),
        String::new(),
    ];
    lines.extend(stamp(completeness, manifest));
    lines.extend(counting(&manifest.counting));
    lines.extend(samples(completeness, definition.counters, answer.totals.flows));
    lines.push(String::new());
    let shown = answer.rows.len().min(ROWS_IN_MAIL);
    lines.push(format!(
        "The first {shown} of {} rows in {}, largest {} first:",
        manifest.rows, manifest.file, manifest.order
    ));
    for (row, rank) in answer.rows.iter().take(ROWS_IN_MAIL).zip(1..) {
        let key: Vec<_> = row.key.iter().map(ToString::to_string).collect();
        let sum = csv::ranked(definition.order, &row.totals);
        let share = 100.0 * csv::share(definition.order, &row.totals, &answer.totals).unwrap_or(0.0);
        lines.push(format!("{rank:>4}. {:<40} {sum:>20} {share:>6.2} %", key.join(" ")));
    }
    lines.join("\n") + "\n"
}

/// What the reader must know before trusting the sums.
fn stamp(completeness: &Completeness, manifest: &Manifest<'_>) -> Vec<String> {
    if completeness.exact {
        return vec!["Completeness: exact, nothing is known to be missing.".to_owned()];
    }
    let mut lines = vec!["Completeness: NOT exact.".to_owned()];
    if let Some(stale) = &manifest.completeness.stale_since {
        lines.push(format!("  Flows received after {stale} are not all in it."));
    }
    let lost = completeness.lost.iter();
    lines.extend(lost.map(|lost| format!("  Lost: {}", named(lost))));
    lines.push(match completeness.undercount {
        Some(known) if known.flows > 0 => format!(
            "  At most {} flows of the report are missing, {} % of those there were; how many bytes they had is unknown.",
            known.flows,
            known.percent()
        ),
        Some(_) => "  No flow is known to be lost.".to_owned(),
        None => "  How many flows are missing at most cannot be told.".to_owned(),
    });
    for concerned in &completeness.exporters {
        let address =
            concerned.address.map_or_else(|| format!("number {}", concerned.exporter_id), |at| at.to_string());
        let name = concerned.name.as_ref().map_or_else(String::new, |name| format!(" ({})", one_line(name)));
        let lost: Vec<_> = concerned.lost.iter().map(named).collect();
        lines.push(format!("  Exporter {address}{name}: {}", lost.join(", ")));
    }
    if completeness.more_exporters > 0 {
        lines.push(format!("  And {} more exporters.", completeness.more_exporters));
    }
    lines
}

fn named(lost: &LossCount) -> String {
    format!("{} {} ({})", lost.count, lost.unit, lost.cause)
}

/// A name on one line, whatever people called it.
fn one_line(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What the reader must know about flows that are left out because they were told twice.
fn counting(counting: &Counting) -> Vec<String> {
    if counting.rules.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["Counting: not all flows count, by the rules of [[exporter]] count:".to_owned()];
    for Rule { exporter, count, interfaces } in &counting.rules {
        let list = |interfaces: &Vec<u32>| interfaces.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let by = interfaces.as_ref().map_or_else(String::new, |by| format!(" by interfaces {}", list(by)));
        lines.push(format!("  Exporter {exporter}: {count}{by}"));
    }
    if counting.more_rules > 0 {
        lines.push(format!("  And {} more rules.", counting.more_rules));
    }
    lines
}

/// What the reader must know about numbers that come from samples.
fn samples(completeness: &Completeness, counters: Counters, flows: u64) -> Option<String> {
    let sampled = completeness.sampled_flows;
    let meaning = match counters {
        _ if sampled == 0 => return None,
        Counters::Scaled => {
            "Bytes and packets are ESTIMATED: those of sampled flows are multiplied by the sampling interval."
        }
        Counters::Raw => "Bytes and packets are those of the samples only, not multiplied by the sampling interval.",
    };
    Some(format!("Sampling: {sampled} of {flows} flows are from samples. {meaning}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::counting::Count;
    use crate::flow::value::Value;
    use crate::query::{Source, TopRow, Undercount};
    use crate::reports::definition::{Settings, Surroundings};
    use crate::reports::schedule::{Period, Span};
    use std::path::Path;

    fn made(completeness: Completeness) -> Document {
        made_of("scaled", completeness)
    }

    fn made_of(counters: &str, completeness: Completeness) -> Document {
        let local = ["10.0.0.0/8".parse().unwrap()];
        let zone = chrono_tz::Europe::Berlin;
        let around = Surroundings { zone, local: &local, directory: Path::new("reports"), mail: false };
        let settings = Settings { counters: counters.to_owned(), ..Settings::default() };
        let definition = Definition::new(&settings, &around).unwrap();
        let row = |host: u8| TopRow {
            key: vec![Value::Address([10, 0, 0, host].into())],
            totals: Totals { bytes: 100, packets: 2, flows: 1 },
            first_seen: None,
            last_seen: None,
        };
        let totals = Totals { bytes: 1_200, packets: 24, flows: 12 };
        let source = Source { days: 6, hours: 24, segments: 0 };
        let rule = CountingRule { count: Count::Ingress, interfaces: Some(vec![3, 4]) };
        let rules = vec![("192.0.2.1".parse().unwrap(), rule)];
        let counted = Counted { rules, more_rules: 7, ..Counted::default() };
        let answer = TopAnswer { rows: (1..=12).map(row).collect(), totals, groups: 12, completeness, source, counted };
        let span = Span::parse(Period::Week, "2026-W47").unwrap();
        let now = Timestamp::from_micros(1_795_395_600_000_000);
        Document::new(&definition, &span.to_string(), span.window(zone), &answer, now).unwrap()
    }

    #[test]
    fn the_manifest_says_what_the_rows_are() {
        let undercount = Some(Undercount::default());
        let document = made(Completeness { exact: true, undercount, ..Completeness::default() });
        assert_eq!((document.name.as_str(), document.rows), ("weekly-top-downloaders_2026-W47", 12));
        let told: serde_json::Value = serde_json::from_str(&document.manifest).unwrap();
        let expected = serde_json::json!({
            "report": "weekly-top-downloaders",
            "period": "2026-W47",
            "file": "weekly-top-downloaders_2026-W47.csv",
            "window": {
                "from": "2026-11-16T00:00:00+01:00", "to": "2026-11-23T00:00:00+01:00", "timezone": "Europe/Berlin"
            },
            "by": ["dst_ip"],
            "order": "bytes",
            "counters": "scaled",
            "filter": "dst net 10.0.0.0/8",
            "rows": 12,
            "groups": 12,
            "totals": {"bytes": 1_200, "packets": 24, "flows": 12},
            "completeness": {"exact": true, "estimated": false, "sampled_flows": 0, "stale_since": null, "lost": [],
                             "undercount": {"flows_at_most": 0, "percent_at_most": 0.0}, "exporters": [], "more_exporters": 0},
            "source": {"days": 6, "hours": 24, "segments": 0},
            "counting": {"count": "rules", "rules": [{"exporter": "192.0.2.1", "count": "ingress", "interfaces": [3, 4]}],
                         "more_rules": 7},
            "generated_at": "2026-11-23T02:00:00+01:00",
            "sha256": told["sha256"],
        });
        assert_eq!(told, expected);
        // What `sha256sum` prints for the file.
        let sum = Sha256::digest(document.csv.as_bytes());
        assert_eq!(told["sha256"], sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }

    #[test]
    fn the_mail_shows_ten_rows_and_says_whether_to_trust_them() {
        let text = made(Completeness { exact: true, ..Completeness::default() }).summary;
        assert!(text.contains("Completeness: exact"), "{text}");
        assert!(text.contains("  10. 10.0.0.10") && !text.contains("10.0.0.11"), "{text}");
        assert!(text.contains("8.33 %"), "{text}");
        let rules = "  Exporter 192.0.2.1: ingress by interfaces 3, 4\n  And 7 more rules.\n";
        assert!(text.contains(rules), "{text}");
        let lost = LossCount { cause: "network".to_owned(), unit: "flows".to_owned(), count: 17 };
        let stale = Some(Timestamp::from_micros(1_795_388_400_000_000));
        let text = made(Completeness { stale_since: stale, lost: vec![lost], ..Completeness::default() }).summary;
        assert!(text.contains("NOT exact") && text.contains("Lost: 17 flows (network)"), "{text}");
        assert!(text.contains("received after 2026-11-23T00:00:00+01:00"), "{text}");
        assert!(text.contains("at most cannot be told") && !text.contains("Sampling"), "{text}");
    }

    #[test]
    fn mail_and_manifest_tell_how_much_is_missing_at_most_and_of_which_exporters() {
        let lost = vec![LossCount { cause: "network".to_owned(), unit: "flows".to_owned(), count: 17 }];
        let named = ExporterLoss {
            exporter_id: 3,
            address: Some("192.0.2.1".parse().unwrap()),
            name: Some("core\r\nBcc: x".to_owned()),
            lost: lost.clone(),
        };
        let gone = ExporterLoss { exporter_id: 4, address: None, name: None, lost: lost.clone() };
        let document = made(Completeness {
            undercount: Some(Undercount { flows: 17, counted: 1_000 }),
            exporters: vec![named, gone],
            more_exporters: 5,
            lost,
            ..Completeness::default()
        });
        let text = document.summary;
        for line in [
            "  At most 17 flows of the report are missing, 1.6716 % of those there were; how many bytes they had is unknown.\n",
            "  Exporter 192.0.2.1 (core  Bcc: x): 17 flows (network)\n",
            "  Exporter number 4: 17 flows (network)\n",
            "  And 5 more exporters.\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let told: serde_json::Value = serde_json::from_str(&document.manifest).unwrap();
        let stamp = &told["completeness"];
        assert_eq!(stamp["undercount"], serde_json::json!({"flows_at_most": 17, "percent_at_most": 1.6716}));
        assert_eq!((&stamp["exporters"][0]["address"], &stamp["more_exporters"]), (&"192.0.2.1".into(), &5.into()));
    }

    #[test]
    fn mail_and_manifest_say_when_numbers_come_from_samples() {
        let estimated = Completeness { estimated: true, sampled_flows: 5, ..Completeness::default() };
        let document = made_of("scaled", estimated);
        let (text, manifest) = (document.summary, document.manifest);
        assert!(text.contains("NOT exact") && text.contains("5 of 12 flows") && text.contains("ESTIMATED"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(
            (&told["completeness"]["estimated"], &told["completeness"]["sampled_flows"]),
            (&true.into(), &5.into())
        );
        let raw = Completeness { exact: true, sampled_flows: 5, ..Completeness::default() };
        let document = made_of("raw", raw);
        assert!(document.manifest.contains("\"counters\": \"raw\""), "{}", document.manifest);
        let text = document.summary;
        assert!(
            text.contains("5 of 12 flows") && text.contains("not multiplied") && !text.contains("ESTIMATED"),
            "{text}"
        );
    }
}
