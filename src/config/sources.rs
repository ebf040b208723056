//! Where values come from: a named file, and the environment with the types that the keys have.

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

/// What every variable of the configuration begins with.
const PREFIX: &str = "FLOWLEDGER__";

/// A provider whose values are told to come from `name`.
pub(super) struct Named<P> {
    name: String,
    provider: P,
}

impl<P> Named<P> {
    pub(super) fn new(name: String, provider: P) -> Self {
        Self { name, provider }
    }
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}

/// The name under which the environment's values are kept.
pub(super) const ENVIRONMENT: &str = "environment";

/// The variable that sets `key`; for an item of a list, the variable that sets the list.
pub(super) fn variable(key: &str) -> String {
    let parts = key.split('.').take_while(|part| part.parse::<usize>().is_err());
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__").to_ascii_uppercase())
}

/// The variables of the configuration.
pub(super) struct Environment(Dict);

impl Environment {
    /// Takes those of `variables` that begin with `FLOWLEDGER__`. What a value is read as is decided by what stands at its
    /// key in `known`.
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>, known: &Value) -> Self {
        let mut values = Dict::new();
        let mut variables: Vec<_> = variables.into_iter().collect();
        // Sections before their keys, whatever order the system has them in.
        variables.sort();
        for (name, text) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            let key = key.to_ascii_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            let value = typed(&text, known.find_ref(&path.join(".")));
            insert(&mut values, &path, value);
        }
        Self(values)
    }
}

/// Puts `value` at `path`, making the tables on the way; a value in the way of a table gives way.
fn insert(values: &mut Dict, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => {
            values.insert((*key).to_owned(), value);
        }
        [section, rest @ ..] => {
            let place = values.entry((*section).to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if !matches!(place, Value::Dict(..)) {
                *place = Value::from(Dict::new());
            }
            if let Value::Dict(_, inner) = place {
                insert(inner, rest, value);
            }
        }
    }
}

/// Reads `text` as what `known` is. Text stays text, so a password `007` keeps its zeros.
fn typed(text: &str, known: Option<&Value>) -> Value {
    let guessed = || text.parse::<Value>().unwrap_or_else(|never| match never {});
    match known {
        Some(Value::String(..) | Value::Char(..)) => Value::from(text),
        Some(Value::Array(..)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
        // An optional setting: empty means not set.
        Some(Value::Empty(..)) if text.is_empty() => Value::from(figment::value::Empty::None),
        _ => guessed(),
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(ENVIRONMENT)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}
