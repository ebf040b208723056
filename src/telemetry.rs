//! The log: what is written, how, and where to.
//!
//! It goes to standard error. `FLOWLEDGER_LOG` chooses what is written (`info` if missing; `debug`,
//! `warn,flowledger::ingest=debug`), `FLOWLEDGER_LOG_FORMAT` how: `text` for people, `json` for machines, one object a
//! line. A line that cannot be written, because the disk is full or nobody reads any more, is lost and stops nobody. It knows
//! no part of the house.

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variable that chooses what is written.
pub const FILTER_VARIABLE: &str = "FLOWLEDGER_LOG";
/// The variable that chooses how it is written.
pub const FORMAT_VARIABLE: &str = "FLOWLEDGER_LOG_FORMAT";

/// What is written by default: what libraries say of their own daily work helps nobody.
const DEFAULT_FILTER: &str = "info,tokio_cron_scheduler=warn,actix_server=warn,sqlx::postgres::notice=warn";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "{FILTER_VARIABLE}={text} cannot be read ({reason}); write a level such as debug, or flowledger::ingest=debug"
    )]
    Filter {
        /// What the variable holds.
        text: String,
        /// What is wrong with it.
        reason: tracing_subscriber::filter::ParseError,
    },
    /// There is no such format.
    #[error("{FORMAT_VARIABLE}={text} is not a format; write text or json")]
    Format {
        /// What the variable holds.
        text: String,
    },
    /// A log was started before.
    #[error("the log was started already")]
    Started,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Starts the log of this process, as the environment asks for it. Messages before this are lost.
///
/// # Errors
/// [`TelemetryError`] when a variable cannot be read, or when the log was started before.
pub fn start() -> Result<(), TelemetryError> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (filter, format) = (filter(&variable(FILTER_VARIABLE))?, format(&variable(FORMAT_VARIABLE))?);
    tracing::subscriber::set_global_default(subscriber(filter, format, std::io::stderr))
        .map_err(|_| TelemetryError::Started)
}

fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    EnvFilter::try_new(text).map_err(|reason| TelemetryError::Filter { text: text.to_owned(), reason })
}

fn format(text: &str) -> Result<Format, TelemetryError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(TelemetryError::Format { text: text.to_owned() }),
    }
}

fn subscriber<W>(filter: EnvFilter, format: Format, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    // It would tell of a line that could not be written where that line could not be written, and panic.
    let builder = builder.log_internal_errors(false);
    match format {
        Format::Text => Box::new(builder.finish()),
        Format::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written when one message of each level is logged.
    fn written(filter_text: &str, format_text: &str) -> String {
        let shared = Shared::default();
        let writer = shared.clone();
        let (filter, format) = (filter(filter_text).unwrap(), format(format_text).unwrap());
        tracing::subscriber::with_default(subscriber(filter, format, move || writer.clone()), || {
            tracing::debug!("quiet");
            tracing::info!(exporter = "10.0.0.1", datagrams = 3, "heard");
        });
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_default_is_text_from_info_on() {
        let text = written("", "");
        assert!(text.contains("INFO") && text.contains("heard exporter=\"10.0.0.1\" datagrams=3"), "{text}");
        assert!(!text.contains("quiet"), "{text}");
        assert!(written("warn,flowledger::telemetry=debug", "TEXT").contains("quiet"));
        assert_eq!(written("off", "text"), "");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_at_the_top() {
        let text = written("info", "json");
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (&line["message"], &line["datagrams"], &line["level"]),
            (&"heard".into(), &3.into(), &"INFO".into())
        );
    }

    #[test]
    fn variables_that_cannot_be_read_are_named() {
        let error = filter("flowledger=loud").unwrap_err().to_string();
        assert!(error.starts_with("FLOWLEDGER_LOG=flowledger=loud cannot be read"), "{error}");
        assert_eq!(
            format("xml").unwrap_err().to_string(),
            "FLOWLEDGER_LOG_FORMAT=xml is not a format; write text or json"
        );
    }
}
