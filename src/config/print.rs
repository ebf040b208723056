//! The configuration in force, as TOML that can be read again, with the source of every value that is not a default.

use super::Loaded;
use super::problem::set_by;
use figment::value::{Dict, Value};
use std::fmt;

impl fmt::Display for Loaded {
    /// TOML, sections and keys by name. Settings without a value are comments, secrets are `***`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Value::serialize(&self.config) {
            Ok(Value::Dict(_, values)) => self.write_table(formatter, "", "", &values),
            _ => Err(fmt::Error),
        }
    }
}

/// Whether `value` stands in a table of its own instead of behind a key.
fn is_table(value: &Value) -> bool {
    match value {
        Value::Dict(..) => true,
        Value::Array(_, items) => matches!(items.first(), Some(Value::Dict(..))),
        _ => false,
    }
}

impl Loaded {
    /// Writes a table. Its `name` is what stands in brackets, `path` also has the number within a list of tables.
    fn write_table(&self, formatter: &mut fmt::Formatter<'_>, name: &str, path: &str, table: &Dict) -> fmt::Result {
        let below = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, value) in table.iter().filter(|(_, value)| !is_table(value)) {
            if matches!(value, Value::Empty(..)) {
                writeln!(formatter, "# {key} =")?;
                continue;
            }
            write!(formatter, "{key} = ")?;
            write_value(formatter, value)?;
            match set_by(&below(path, key), &self.sources) {
                Some(source) => writeln!(formatter, "  # {}", source.escape_debug())?,
                None => writeln!(formatter)?,
            }
        }
        for (key, value) in table {
            let (name, path) = (below(name, key), below(path, key));
            match value {
                Value::Dict(_, inner) => {
                    writeln!(formatter, "\n[{name}]")?;
                    self.write_table(formatter, &name, &path, inner)?;
                }
                Value::Array(_, items) => {
                    for (index, item) in items.iter().enumerate() {
                        if let Value::Dict(_, inner) = item {
                            writeln!(formatter, "\n[[{name}]]")?;
                            self.write_table(formatter, &name, &format!("{path}.{index}"), inner)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_value(formatter: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        // A JSON string is a TOML basic string.
        Value::String(_, text) => write!(formatter, "{}", serde_json::Value::from(text.as_str())),
        Value::Char(_, character) => write!(formatter, "{}", serde_json::Value::from(character.to_string())),
        Value::Bool(_, flag) => write!(formatter, "{flag}"),
        Value::Num(_, number) => match (number.to_u128(), number.to_i128(), number.to_f64()) {
            (Some(number), ..) => write!(formatter, "{number}"),
            (_, Some(number), _) => write!(formatter, "{number}"),
            (_, _, number) => write!(formatter, "{:?}", number.unwrap_or_default()),
        },
        Value::Array(_, items) => {
            formatter.write_str("[")?;
            for (index, item) in items.iter().enumerate() {
                formatter.write_str(if index == 0 { "" } else { ", " })?;
                write_value(formatter, item)?;
            }
            formatter.write_str("]")
        }
        Value::Dict(..) | Value::Empty(..) => Ok(()),
    }
}
