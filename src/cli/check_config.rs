//! `flowledger check-config`: prints the configuration in force, or everything that is wrong with it. Starts nothing.

use crate::config::{Config, ConfigError};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The command's arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// The configuration file; without it flowledger.toml is read if it exists.
    #[arg(long, short, env = "FLOWLEDGER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Prints the configuration to `out` and succeeds, or what is wrong to `errors` and fails.
///
/// # Errors
/// What writing to `out` or `errors` meets.
pub fn run(
    arguments: &Arguments,
    environment: impl IntoIterator<Item = (String, String)>,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> std::io::Result<ExitCode> {
    let loaded = Config::load(arguments.config.as_deref(), environment).and_then(|loaded| {
        // Secrets that stand in files must be there too.
        loaded.config.database.address()?;
        Ok(loaded)
    });
    match loaded {
        Ok(loaded) => {
            write!(out, "{loaded}")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let count = if let ConfigError::Problems(problems) = &error { problems.len() } else { 1 };
            writeln!(errors, "{error}\n{count} problem{} in the configuration.", if count == 1 { "" } else { "s" })?;
            Ok(ExitCode::FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (ExitCode, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flowledger.toml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = run(&Arguments { config: Some(path) }, [], &mut out, &mut errors).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn a_good_configuration_is_printed_and_a_bad_one_fails_with_all_that_is_wrong() {
        let (code, out, errors) = check("[storage]\nflows_days = 0\n");
        assert_eq!((code, errors.as_str()), (ExitCode::SUCCESS, ""));
        assert!(out.contains("flows_days = 0  # ") && out.contains("segments_days = 90\n"), "{out}");
        let (code, out, errors) = check("[storage]\nflow_days = 0\nsegment_days = 1\n");
        assert_eq!((code, out.as_str()), (ExitCode::FAILURE, ""));
        assert!(errors.contains("storage.flows_days?") && errors.contains("storage.segments_days?"), "{errors}");
        assert!(errors.ends_with("2 problems in the configuration.\n"), "{errors}");
        let (code, _, errors) = check("[database]\nurl_file = \"/nonexistent/url\"\n");
        assert_eq!(code, ExitCode::FAILURE);
        assert!(
            errors.contains("database.url_file") && errors.ends_with("1 problem in the configuration.\n"),
            "{errors}"
        );
    }
}
