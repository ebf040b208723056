//! What can be wrong with a configuration, told with the key, the place that set it and what would be right.

use super::sources::{ENVIRONMENT, variable};
use figment::Figment;
use figment::error::{Actual, Kind};
use figment::value::Value;
use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key with its section, such as `storage.flows_days`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// The file or variable that set it; `None` for what nobody set.
    pub source: Option<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or one that exists, cannot be read.
    #[error("the configuration file {path} cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// A file that is not TOML.
    #[error("the configuration file {path} is not TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A secret's file that is of no use.
    #[error("{key}: the file {path} cannot be used: {reason}")]
    SecretFile {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Wrong keys and values, all that were found.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.message)?;
        self.source.iter().try_for_each(|source| write!(formatter, " (set by {source})"))
    }
}

impl Problem {
    /// A problem with the value of `key`.
    pub(super) fn new(key: &str, message: impl Into<String>, sources: &Figment) -> Self {
        Self { key: key.to_owned(), message: message.into(), source: source_of(key, sources) }
    }
}

/// The file or variable that set `key` itself, if one did.
pub(super) fn set_by(key: &str, sources: &Figment) -> Option<String> {
    let root = sources.find_value("").ok()?;
    let found = key.split('.').try_fold(&root, |value, part| match value {
        Value::Dict(_, inner) => inner.get(part),
        Value::Array(_, items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })?;
    let name = &sources.get_metadata(found.tag())?.name;
    Some(if name == ENVIRONMENT { variable(key) } else { name.to_string() })
}

/// The file or variable that set `key`, or else the list or section that it stands in.
fn source_of(key: &str, sources: &Figment) -> Option<String> {
    let mut key = key;
    loop {
        if let Some(source) = set_by(key, sources) {
            return Some(source);
        }
        key = key.rsplit_once('.')?.0;
    }
}

/// Takes the keys that `known` does not have out of `values`, with a problem for each.
pub(super) fn take_unknown_keys(values: &mut Value, known: &Value, sources: &Figment) -> Vec<Problem> {
    let mut paths = Vec::new();
    collect_paths(known, "", &mut paths);
    let mut unknown = Vec::new();
    take_unknown(values, known, "", &mut unknown);
    let describe = |key: String| {
        let message = match nearest(&key, &paths) {
            Some(near) => format!("there is no such setting; did you mean {near}?"),
            None => "there is no such setting; flowledger.example.toml lists all".to_owned(),
        };
        Problem::new(&key, message, sources)
    };
    unknown.into_iter().map(describe).collect()
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// All keys of `value`, sections included. The keys of a list of tables are those of its first table, without a number.
fn collect_paths(value: &Value, path: &str, paths: &mut Vec<String>) {
    let table = match value {
        Value::Array(_, items) => items.first(),
        other => Some(other),
    };
    if let Some(Value::Dict(_, inner)) = table {
        for (key, value) in inner {
            let path = below(path, key);
            collect_paths(value, &path, paths);
            paths.push(path);
        }
    }
}

fn take_unknown(value: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (value, known) {
        (Value::Dict(_, inner), Value::Dict(_, known)) => inner.retain(|key, value| {
            let path = below(path, key);
            match known.get(key) {
                Some(known) => take_unknown(value, known, &path, unknown),
                None => unknown.push(path),
            }
            known.contains_key(key)
        }),
        (Value::Array(_, items), Value::Array(_, known)) => {
            let Some(known) = known.first() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                take_unknown(item, known, &below(path, &index.to_string()), unknown);
            }
        }
        _ => {}
    }
}

/// The known key most like `key`: the same one elsewhere, or one that a slip of the fingers makes of it.
fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let key: String = key.chars().take(100).collect();
    let plain: Vec<&str> = key.split('.').filter(|part| part.parse::<usize>().is_err()).collect();
    let (plain, last) = (plain.join("."), plain.last().copied().unwrap_or_default().to_owned());
    let leaf = |known: &str| known.rsplit('.').next().unwrap_or_default() == last;
    let elsewhere = known.iter().find(|known| leaf(known));
    let alike = || {
        let distance = |known: &&String| strsim::damerau_levenshtein(known, &plain);
        known.iter().min_by_key(distance).filter(|known| distance(known) <= 1 + last.len() / 3)
    };
    elsewhere.or_else(alike).map(String::as_str)
}

/// The word that a slip of the fingers makes `found` of.
fn nearest_word<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found: String = found.to_ascii_lowercase().chars().take(100).collect();
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, &found);
    known.iter().min_by_key(distance).filter(|known| distance(known) <= 1 + found.len() / 3).copied()
}

/// The problems that reading values into the settings' types met.
pub(super) fn from_figment(error: figment::Error, sources: &Figment) -> Vec<Problem> {
    let describe = |error: figment::Error| {
        let mut key = error.path.join(".");
        let message = match error.kind {
            // Told by `take_unknown_keys`, all of them and with the nearest known key.
            Kind::UnknownField(..) => return None,
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                format!("expected {}, found {}", plainly(&expected), found_as(&found))
            }
            Kind::MissingField(name) => {
                key = below(&key, &name);
                "is missing".to_owned()
            }
            Kind::UnknownVariant(found, expected) => {
                let hint =
                    nearest_word(&found, expected).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                format!("expected one of {}, found `{found}`{hint}", expected.join(", "))
            }
            other => other.to_string(),
        };
        Some(Problem::new(&key, message, sources))
    };
    error.into_iter().filter_map(describe).collect()
}

/// What a type of ours is to somebody who writes a configuration.
fn plainly(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "path string" => "text",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a section with keys",
        other => other,
    }
}

fn found_as(found: &Actual) -> String {
    match found {
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Bool(flag) => flag.to_string(),
        Actual::Str(text) => format!("the text {text:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}
