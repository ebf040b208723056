//! What a report is: `[[report]]` as it is configured, and the same checked into something that can be run.
//!
//! A [`Definition`] cannot be wrong: its schedule comes due, its dimensions exist, its filter parses and each of its
//! destinations can be written to in principle. What is wrong is told with the report's name and the key. This module
//! neither runs nor delivers.

use super::delivery::Destination;
use super::delivery::email::Recipient;
use super::error::ReportError;
use super::schedule::{Period, Schedule};
use crate::filter::{Expression, parse_within};
use crate::flow::fields::Dimension;
use crate::flow::local::Local;
use crate::query::{Counters, MAX_DIMENSIONS, MAX_LIMIT, Order, TopRequest, Window, window};
use chrono_tz::Tz;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Without another filter. Traffic from one local host to another counts as its download, too, as in nfdump.
const DOWNLOADS: &str = "dst net local";

/// One `[[report]]` in the configuration. Its default is the report that runs where none is configured: the top 100
/// downloaders of each week, on Mondays at 01:00, as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What it is called, in file names and on the command line: lower-case letters, digits and hyphens, 1 to 64.
    pub name: String,
    /// When it is due: a cron expression of five fields, or six with the second in front.
    #[serde(default = "monday")]
    pub schedule: String,
    /// The IANA time zone of schedule, period and times, such as `Europe/Berlin`; without it the configured one.
    #[serde(default)]
    pub zone: Option<String>,
    /// What it tells of: `previous day`, `previous week` or `previous month`.
    #[serde(default = "previous_week")]
    pub period: String,
    /// What its rows are: 1 to 4 fields or pairs of the catalogue.
    #[serde(default = "destinations")]
    pub by: Vec<String>,
    /// Which flows count; without it, flows to the local networks; an empty text means all flows.
    #[serde(default)]
    pub filter: Option<String>,
    /// What rows are ranked by: `bytes`, `packets` or `flows`.
    #[serde(default = "bytes")]
    pub order: String,
    /// Whether bytes and packets of sampling exporters are multiplied by the sampling interval, `scaled`, or stay as they
    /// were exported, `raw`.
    #[serde(default = "scaled")]
    pub counters: String,
    /// How many rows at most, 1 to 10,000.
    #[serde(default = "hundred")]
    pub limit: usize,
    /// How it is delivered: `file`, `email` or both.
    #[serde(default = "file")]
    pub deliveries: Vec<String>,
    /// Who gets the mail, each `address` or `Name <address>`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Where its files go; without it, the directory for all reports.
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

fn monday() -> String {
    "0 1 * * MON".to_owned()
}

fn previous_week() -> String {
    "previous week".to_owned()
}

fn destinations() -> Vec<String> {
    vec!["dst_ip".to_owned()]
}

fn bytes() -> String {
    Order::Bytes.name().to_owned()
}

fn scaled() -> String {
    Counters::Scaled.name().to_owned()
}

const fn hundred() -> usize {
    100
}

fn file() -> Vec<String> {
    vec!["file".to_owned()]
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "weekly-top-downloaders".to_owned(),
            schedule: monday(),
            zone: None,
            period: previous_week(),
            by: destinations(),
            filter: None,
            order: bytes(),
            counters: scaled(),
            limit: hundred(),
            deliveries: file(),
            recipients: Vec::new(),
            directory: None,
        }
    }
}

/// What reports take from the rest of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The zone of reports that name none.
    pub zone: Tz,
    /// `[network] local`, the networks of the default filter.
    pub local: &'a [IpNetwork],
    /// Where files of reports go that name no directory.
    pub directory: &'a Path,
    /// Whether a mail server is configured.
    pub mail: bool,
}

/// A report that can be run.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name, fit for a file name.
    pub name: String,
    /// When it is due; its zone is the report's.
    pub schedule: Schedule,
    /// What length of time it tells of.
    pub period: Period,
    /// What its rows are.
    pub by: Vec<Dimension>,
    /// Which flows count; `None` means all.
    pub filter: Option<Expression>,
    /// What rows are ranked by.
    pub order: Order,
    /// What sums of bytes and packets mean.
    pub counters: Counters,
    /// How many rows at most.
    pub limit: usize,
    /// Where its files go, also those of runs by hand.
    pub directory: PathBuf,
    /// Where it is delivered, at least one place and none twice.
    pub destinations: Vec<Destination>,
}

/// Checks all reports; where none is configured, the default one is meant.
///
/// # Errors
/// [`ReportError::Setting`] for the first wrong key, also when two reports share a name.
pub fn definitions(settings: &[Settings], around: &Surroundings<'_>) -> Result<Vec<Definition>, ReportError> {
    if settings.is_empty() {
        return Ok(vec![Definition::new(&Settings::default(), around)?]);
    }
    let mut names = HashSet::new();
    if let Some(twice) = settings.iter().find(|settings| !names.insert(&settings.name)) {
        let problem = "another report has this name already; give each its own".to_owned();
        return Err(ReportError::Setting { report: twice.name.clone(), key: "name", problem });
    }
    settings.iter().map(|settings| Definition::new(settings, around)).collect()
}

impl Definition {
    /// Checks one report.
    ///
    /// # Errors
    /// [`ReportError::Setting`] for the first wrong key.
    pub fn new(settings: &Settings, around: &Surroundings<'_>) -> Result<Self, ReportError> {
        let wrong = |key| move |problem| ReportError::Setting { report: settings.name.clone(), key, problem };
        let name = slug(&settings.name).map_err(wrong("name"))?;
        let zone = settings.zone.as_deref().map_or(Ok(around.zone), window::zone);
        let zone = zone.map_err(|error| wrong("zone")(error.to_string()))?;
        let schedule = Schedule::parse(&settings.schedule, zone).map_err(wrong("schedule"))?;
        let period = Period::parse(&settings.period).ok_or_else(|| {
            let known = "\"previous day\", \"previous week\" or \"previous month\"";
            wrong("period")(format!("\"{}\" is not known: write {known}", settings.period))
        })?;
        let by = dimensions(&settings.by).map_err(wrong("by"))?;
        let filter = match settings.filter.as_deref().map_or(DOWNLOADS, str::trim) {
            "" => None,
            text => {
                let refused = |error| wrong("filter")(format!("{error} in \"{text}\""));
                Some(parse_within(text, &Local::new(around.local)).map_err(refused)?)
            }
        };
        let order = Order::parse(&settings.order).ok_or_else(|| {
            wrong("order")(format!("\"{}\" is not known: write bytes, packets or flows", settings.order))
        })?;
        let counters = Counters::parse(&settings.counters)
            .ok_or_else(|| wrong("counters")(format!("\"{}\" is not known: write scaled or raw", settings.counters)))?;
        let limit = match settings.limit {
            limit @ 1..=MAX_LIMIT => limit,
            other => return Err(wrong("limit")(format!("{other} is not within 1 to {MAX_LIMIT}"))),
        };
        let directory = settings.directory.clone().unwrap_or_else(|| around.directory.to_owned());
        let destinations = addresses(settings, &directory, around.mail)
            .map_err(|(key, problem)| ReportError::Setting { report: settings.name.clone(), key, problem })?;
        Ok(Self { name, schedule, period, by, filter, order, counters, limit, directory, destinations })
    }

    /// The question this report puts for `window`.
    pub fn request(&self, window: Window) -> TopRequest {
        TopRequest {
            window,
            by: self.by.clone(),
            order: self.order,
            limit: self.limit,
            filter: self.filter.clone(),
            counters: self.counters,
        }
    }
}

/// A name that is safe in a file name, a mail's subject and a command line.
fn slug(name: &str) -> Result<String, String> {
    let allowed = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not made of 1 to 64 lower-case letters, digits and hyphens, with no hyphen in front"))
    }
}

fn dimensions(names: &[String]) -> Result<Vec<Dimension>, String> {
    let parse = |name: &String| {
        Dimension::parse(name)
            .ok_or_else(|| format!("there is no field {name:?}: write one such as \"dst_ip\" or \"src_port\""))
    };
    let by = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if by.is_empty() || by.len() > MAX_DIMENSIONS {
        return Err(format!("{} fields are named, 1 to {MAX_DIMENSIONS} are possible", by.len()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = by.iter().find(|dimension| !seen.insert(**dimension)) {
        return Err(format!("\"{}\" stands twice", twice.name()));
    }
    if by.iter().filter(|dimension| matches!(dimension, Dimension::Either { .. })).count() > 1 {
        return Err(
            "two pairs (such as \"ip\" and \"port\") cannot be combined: name one side of one of them".to_owned()
        );
    }
    Ok(by)
}

fn addresses(settings: &Settings, directory: &Path, mail: bool) -> Result<Vec<Destination>, (&'static str, String)> {
    let mut found = Vec::new();
    for delivery in &settings.deliveries {
        match delivery.as_str() {
            "file" => found.push(Destination::File(directory.to_owned())),
            "email" if !mail => {
                return Err(("deliveries", "\"email\" needs a mail server: set host in [smtp]".to_owned()));
            }
            "email" if settings.recipients.is_empty() => {
                return Err((
                    "recipients",
                    "\"email\" is to be delivered, but to nobody: name at least one".to_owned(),
                ));
            }
            "email" => {
                for recipient in &settings.recipients {
                    let recipient = Recipient::parse(recipient).map_err(|problem| ("recipients", problem))?;
                    found.push(Destination::Email(recipient));
                }
            }
            other => return Err(("deliveries", format!("{other:?} is not known: write \"file\", \"email\" or both"))),
        }
    }
    if found.is_empty() {
        return Err(("deliveries", "is empty: write \"file\", \"email\" or both".to_owned()));
    }
    let mut seen = HashSet::new();
    match found.iter().find(|place| !seen.insert((place.kind(), place.address()))) {
        Some(twice) => Err(("deliveries", format!("the report would go twice to {}", twice.address()))),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(local: &[IpNetwork]) -> Surroundings<'_> {
        Surroundings { zone: chrono_tz::Europe::Berlin, local, directory: Path::new("reports"), mail: true }
    }

    #[test]
    fn without_reports_the_weekly_top_downloaders_are_dropped_as_a_file() {
        let local = ["10.0.0.0/8".parse().unwrap(), "fd00::1/8".parse().unwrap()];
        let reports = definitions(&[], &around(&local)).unwrap();
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report.name, "weekly-top-downloaders");
        assert_eq!((report.period, report.limit, report.order), (Period::Week, 100, Order::Bytes));
        assert_eq!(report.by, [Dimension::parse("dst_ip").unwrap()]);
        assert_eq!(report.filter, Some(crate::filter::parse("dst ip in [10.0.0.0/8 fd00::/8]").unwrap()));
        assert_eq!(report.destinations, [Destination::File("reports".into())]);
        assert_eq!(report.schedule.zone(), chrono_tz::Europe::Berlin);
    }

    #[test]
    fn every_key_is_checked_and_the_error_names_report_and_key() {
        let local = ["10.0.0.0/8".parse().unwrap()];
        type Change = fn(&mut Settings);
        let cases: [(&str, Change); 19] = [
            ("name", |it| it.name = "../etc/passwd".to_owned()),
            ("name", |it| it.name = String::new()),
            ("name", |it| it.name = "line\nbreak".to_owned()),
            ("zone", |it| it.zone = Some("Berlin".to_owned())),
            ("schedule", |it| it.schedule = "weekly".to_owned()),
            ("period", |it| it.period = "previous year".to_owned()),
            ("by", |it| it.by = vec!["hostname".to_owned()]),
            ("by", |it| it.by = vec![]),
            ("by", |it| it.by = vec!["dst_ip".to_owned(), "dstip".to_owned()]),
            ("by", |it| it.by = vec!["ip".to_owned(), "port".to_owned()]),
            ("filter", |it| it.filter = Some("dst net".to_owned())),
            ("order", |it| it.order = "size".to_owned()),
            ("counters", |it| it.counters = "exact".to_owned()),
            ("limit", |it| it.limit = 0),
            ("limit", |it| it.limit = 10_001),
            ("deliveries", |it| it.deliveries = vec!["fax".to_owned()]),
            ("deliveries", |it| it.deliveries = vec![]),
            ("deliveries", |it| it.deliveries = vec!["file".to_owned(), "file".to_owned()]),
            ("recipients", |it| it.deliveries = vec!["email".to_owned()]),
        ];
        for (key, change) in cases {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = definitions(std::slice::from_ref(&settings), &around(&local)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("report \"{}\": {key}: ", settings.name)), "{error}");
        }
        let twice = [Settings::default(), Settings::default()];
        assert!(definitions(&twice, &around(&local)).unwrap_err().to_string().contains("name: another report"));
        assert!(definitions(&[], &around(&[])).unwrap_err().to_string().contains("[network] local"));
    }

    #[test]
    fn mail_needs_a_server_and_an_address_in_one_line() {
        let mut settings = Settings { deliveries: vec!["email".to_owned()], ..Settings::default() };
        settings.recipients = vec!["Net Team <net@example.org>".to_owned(), "boss@example.org".to_owned()];
        let local = ["10.0.0.0/8".parse().unwrap()];
        let report = Definition::new(&settings, &around(&local)).unwrap();
        let addresses: Vec<_> = report.destinations.iter().map(Destination::address).collect();
        assert_eq!(addresses, ["net@example.org", "boss@example.org"]);
        let no_mail = Surroundings { mail: false, ..around(&local) };
        assert!(Definition::new(&settings, &no_mail).unwrap_err().to_string().contains("[smtp]"));
        settings.recipients.push("a@example.org\r\nBcc: b@example.org".to_owned());
        assert!(Definition::new(&settings, &around(&local)).unwrap_err().to_string().contains("recipients"));
    }

    #[test]
    fn an_empty_filter_means_all_flows() {
        let settings = Settings { filter: Some(" ".to_owned()), ..Settings::default() };
        assert_eq!(Definition::new(&settings, &around(&[])).unwrap().filter, None);
    }
}
