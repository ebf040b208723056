//! The configuration: `flowledger.toml`, and over it the environment, composed of what each part calls its settings.
//!
//! It promises that a key nobody knows is refused with the nearest known one, that every problem names the key and the
//! file or variable that set it, and that secrets are not shown. It knows the parts' settings but starts no part.
//!
//! A variable `FLOWLEDGER__SECTION__KEY` sets `key` in `[section]`. The type comes from the key, so a password of digits
//! stays text; lists may be written `a,b` or `["a", "b"]`.

mod print;
mod problem;
mod sources;

#[cfg(test)]
mod tests;

pub use problem::{ConfigError, Problem};

use crate::flow::counting::Counting;
use crate::query::{self, window};
use crate::reports::delivery::email;
use crate::reports::{self, Definition, ReportError, Surroundings};
use crate::{api, collect, ingest, journal, keep, private_postgres};
use chrono_tz::Tz;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use ipnetwork::IpNetwork;
use problem::{from_figment, take_unknown_keys};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "flowledger.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[collector]`: where flows are received.
    pub collector: collect::Settings,
    /// `[api]`: where questions are answered.
    pub api: api::Settings,
    /// `[database]`: which PostgreSQL.
    pub database: Database,
    /// `[storage]`: where data lives and for how long.
    pub storage: Storage,
    /// `[network]`: what is local.
    pub network: Network,
    /// `[journal]`: the log between the sockets and the decoder.
    pub journal: journal::Settings,
    /// `[ingest]`: how flows are brought into the database.
    pub ingest: ingest::Settings,
    /// `[query]`: what one question may take.
    pub query: query::Settings,
    /// `[smtp]`: the server that mails reports.
    pub smtp: email::Settings,
    /// Each `[[report]]`; none means the default one.
    pub report: Vec<reports::Settings>,
    /// Each `[[exporter]]`: what people know about exporters.
    pub exporter: Vec<ingest::ExporterSettings>,
}

/// `[database]`: a PostgreSQL 15 to 18 of the user's; without a URL, one of our own is run in the data directory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/database`.
    pub url: Option<DatabaseUrl>,
    /// A file that holds the URL; blanks and line ends around it do not count.
    pub url_file: Option<PathBuf>,
    /// For a PostgreSQL of our own, the directory of its programs; otherwise the usual places are searched.
    pub binaries: Option<PathBuf>,
    /// For a PostgreSQL of our own, the memory in MiB by which its caches are sized; otherwise the machine's.
    pub memory_mib: Option<u64>,
}

/// A database's URL. It prints with its password as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

/// `[storage]`: where data lives and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The directory of everything that is kept; made when missing. Relative directories in other settings lie in it.
    pub data_dir: PathBuf,
    /// The directory for files of reports that name none.
    pub reports_dir: PathBuf,
    /// Days that rows of the SQL table `flows` are kept, 0 to 36,500; 0 writes none.
    pub flows_days: u32,
    /// Days that every flow is kept for the API and reports, 1 to 36,500.
    pub segments_days: u32,
    /// The most bytes that the database may take; beyond it the oldest days go, first rows, then segments, at last months of totals. 0 is no limit.
    /// Left out: 80 % of the disk, when the database is one of our own, less on a small disk.
    pub max_bytes: Option<u64>,
}

impl Default for Storage {
    fn default() -> Self {
        let (data_dir, reports_dir) = ("flowledger-data".into(), "reports".into());
        Self { data_dir, reports_dir, flows_days: 7, segments_days: 90, max_bytes: None }
    }
}

/// `[network]`: what is local, and the time people there live in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The networks whose hosts are local: traffic to them from elsewhere is download.
    pub local: Vec<IpNetwork>,
    /// The IANA zone in which days and weeks begin where nobody asks for another.
    #[serde(serialize_with = "write_zone", deserialize_with = "read_zone")]
    pub timezone: Tz,
}

impl Default for Network {
    fn default() -> Self {
        let v4 = [
            (Ipv4Addr::new(10, 0, 0, 0), 8),
            (Ipv4Addr::new(172, 16, 0, 0), 12),
            (Ipv4Addr::new(192, 168, 0, 0), 16),
            (Ipv4Addr::new(100, 64, 0, 0), 10),
        ];
        let v6 = [
            (Ipv6Addr::from_segments([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7),
            (Ipv6Addr::from_segments([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10),
        ];
        let v4 = v4.into_iter().filter_map(|(address, length)| IpNetwork::new(address.into(), length).ok());
        let v6 = v6.into_iter().filter_map(|(address, length)| IpNetwork::new(address.into(), length).ok());
        Self { local: v4.chain(v6).collect(), timezone: Tz::UTC }
    }
}

fn write_zone<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

fn read_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    window::zone(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl DatabaseUrl {
    /// The URL with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The URL without its password, which may stand before the host or in the parameters.
    fn masked(&self) -> String {
        let (before, parameters) =
            self.0.split_once('?').map_or((self.0.as_str(), None), |(url, rest)| (url, Some(rest)));
        let mut masked =
            match before.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
                Some((scheme, (login, place))) => match login.split_once(':') {
                    Some((user, _)) => format!("{scheme}://{user}:***@{place}"),
                    None => before.to_owned(),
                },
                None => before.to_owned(),
            };
        for (index, parameter) in parameters.into_iter().flat_map(|parameters| parameters.split('&')).enumerate() {
            masked.push(if index == 0 { '?' } else { '&' });
            let secret = parameter.split_once('=').filter(|(name, _)| name.contains("password"));
            masked.push_str(&secret.map_or_else(|| parameter.to_owned(), |(name, _)| format!("{name}=***")));
        }
        masked
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl Database {
    /// The URL, from the setting or from its file; `None` asks for a PostgreSQL of our own.
    ///
    /// # Errors
    /// [`ConfigError::SecretFile`] when the file cannot be read or is empty.
    pub fn address(&self) -> Result<Option<DatabaseUrl>, ConfigError> {
        match &self.url_file {
            None => Ok(self.url.clone()),
            Some(path) => secret("database.url_file", path).map(|url| Some(DatabaseUrl(url))),
        }
    }
}

/// What a secret's file holds, without blanks and line ends around it.
fn secret(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let error = |reason: String| ConfigError::SecretFile { key, path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|reason| error(reason.to_string()))?;
    let text = text.trim();
    if text.is_empty() { Err(error("the file is empty".to_owned())) } else { Ok(text.to_owned()) }
}

impl Storage {
    /// For how long flows are kept.
    pub fn keep(&self) -> keep::Settings {
        let max_bytes = self.max_bytes.filter(|bytes| *bytes > 0);
        keep::Settings { flows_days: self.flows_days, segments_days: self.segments_days, max_bytes }
    }

    /// Where `path` of another setting lies: in the data directory unless it is absolute.
    pub fn place(&self, path: &Path) -> PathBuf {
        self.data_dir.join(path)
    }
}

/// A configuration, with what is known about where its values came from.
#[derive(Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    sources: Figment,
}

impl fmt::Debug for Loaded {
    /// Without the sources, in which secrets stand as they were written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Loaded").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file at `path` and lets `environment` (names and values of variables) override it. Without a path,
    /// [`DEFAULT_FILE`] is read if it exists.
    ///
    /// # Errors
    /// [`ConfigError`] when a file that was named cannot be read, when a file is not TOML, or with everything that is wrong
    /// with the values.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(file) {
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(reason) => return Err(ConfigError::Read { path: file.to_owned(), reason }),
            Ok(text) => text,
        };
        Self::read(file, &text, environment)
    }

    /// The same with the text of `file` already at hand.
    fn read(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let known = Self::known_keys();
        let sources = Figment::from(sources::Named::new(file.display().to_string(), Toml::string(text)))
            .merge(sources::Environment::new(environment, &known));
        // A file that is not TOML shows here.
        let values = sources
            .extract::<Dict>()
            .map_err(|error| ConfigError::Syntax { path: file.to_owned(), reason: error.to_string() })?;
        let mut values = Value::from(values);
        let mut problems = take_unknown_keys(&mut values, &known, &sources);
        let config: Self = match values.deserialize() {
            Ok(config) => config,
            Err(error) => {
                problems.extend(from_figment(error, &sources));
                return Err(ConfigError::Problems(problems));
            }
        };
        problems.extend(config.contradictions(&sources));
        if problems.is_empty() { Ok(Loaded { config, sources }) } else { Err(ConfigError::Problems(problems)) }
    }

    /// A value with every key there is: the defaults, and one element in each list of tables.
    fn known_keys() -> Value {
        let everywhere = IpNetwork::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let exporter = ingest::ExporterSettings {
            address: everywhere,
            name: None,
            sampling_interval: None,
            count: None,
            count_interfaces: None,
        };
        let all = Self { report: vec![reports::Settings::default()], exporter: vec![exporter], ..Self::default() };
        Value::serialize(all).unwrap_or_else(|_| Value::from(Dict::new()))
    }

    /// The settings of the journal, its directory in its place.
    pub fn journal(&self) -> journal::Settings {
        journal::Settings { directory: self.storage.place(&self.journal.directory), ..self.journal.clone() }
    }

    /// The settings of ingest, with what is said about exporters.
    pub fn ingest(&self) -> ingest::Settings {
        let exporters = ingest::Configured::new(self.exporter.clone(), self.collector.default_sampling_interval);
        ingest::Settings { exporters, ..self.ingest.clone() }
    }

    /// Which flows are part of sums.
    pub fn counting(&self) -> Counting {
        ingest::ExporterSettings::counting(&self.exporter)
    }

    /// The settings of a PostgreSQL of our own, which lives in the data directory.
    pub fn private_postgres(&self) -> private_postgres::Settings {
        private_postgres::Settings {
            directory: self.storage.place(Path::new("postgres")),
            binaries: self.database.binaries.clone(),
            memory_mib: self.database.memory_mib,
            ..private_postgres::Settings::default()
        }
    }

    /// The reports; the default one where none is configured.
    ///
    /// # Errors
    /// [`ReportError::Setting`] for the first key that is wrong.
    pub fn definitions(&self) -> Result<Vec<Definition>, ReportError> {
        let around = Surroundings {
            zone: self.network.timezone,
            local: &self.network.local,
            directory: &self.storage.place(&self.storage.reports_dir),
            mail: !self.smtp.host.is_empty(),
        };
        let mut settings = self.report.clone();
        for report in &mut settings {
            report.directory = report.directory.as_deref().map(|directory| self.storage.place(directory));
        }
        reports::definitions(&settings, &around)
    }

    /// What is wrong although each value by itself is of the right type.
    fn contradictions(&self, sources: &Figment) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |wrong: bool, key: &str, message: &str| {
            if wrong {
                problems.push(Problem::new(key, message, sources));
            }
        };
        let both = self.database.url.is_some() && self.database.url_file.is_some();
        refuse(both, "database.url_file", "database.url is set too; keep one of them");
        let days = |days: u32| days > 36_500;
        refuse(days(self.storage.flows_days), "storage.flows_days", "must be 0 to 36500 days");
        let segments = self.storage.segments_days;
        refuse(segments == 0 || days(segments), "storage.segments_days", "must be 1 to 36500 days");
        if let Err(error) = self.collector.check() {
            refuse(true, "collector", &error.to_string());
        }
        let interval = self.collector.default_sampling_interval;
        refuse(interval == 0, "collector.default_sampling_interval", ingest::NO_INTERVAL);
        for ingest::ExporterProblem { index, key, message } in ingest::ExporterSettings::problems(&self.exporter) {
            refuse(true, &format!("exporter.{index}.{key}"), &message);
        }
        if let Err(error) = self.journal.check() {
            refuse(true, "journal", &error.to_string());
        }
        if let Err(error) = self.definitions() {
            let (key, message) = match error {
                ReportError::Setting { report, key, problem } => {
                    let index = self.report.iter().position(|settings| settings.name == report);
                    (format!("report.{}.{key}", index.unwrap_or_default()), format!("{problem} (in report `{report}`)"))
                }
                other => ("report".to_owned(), other.to_string()),
            };
            refuse(true, &key, &message);
        }
        problems
    }
}
