//! `flowledger check-config`: prints the configuration in force, or everything that is wrong with it. Starts nothing.

use crate::config::Config;
use crate::reports::delivery::email::Mailer;
use std::error::Error;
use std::io::Write;
use std::path::Path;

/// Prints the configuration to `out`, secrets masked. Secrets that stand in files must be there too.
///
/// # Errors
/// Everything that is wrong with the configuration, or what writing meets.
pub fn run(
    config: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let loaded = Config::load(config, environment)?;
    loaded.config.database.address()?;
    Mailer::new(&loaded.config.smtp)?;
    for endpoint in loaded.config.collector.check_files()? {
        writeln!(out, "# {} received on {endpoint}", endpoint.scheme.protocols())?;
    }
    write!(out, "{loaded}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flowledger.toml");
        std::fs::write(&path, text).unwrap();
        let mut out = Vec::new();
        run(Some(&path), [], &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_configuration_is_printed_and_a_bad_one_fails_with_all_that_is_wrong() {
        let shown = checked("[storage]\nflows_days = 0\n").unwrap();
        assert!(shown.contains("flows_days = 0  # ") && shown.contains("segments_days = 90\n"), "{shown}");
        assert!(shown.starts_with("# NetFlow, IPFIX and sFlow received on udp://0.0.0.0:2055\n"), "{shown}");
        let shown = checked("[collector]\nlisten = [\"udp://:2055\", \"tcp://127.0.0.1:4739\"]\n").unwrap();
        assert!(shown.contains("on udp://[::]:2055\n# IPFIX received on tcp://127.0.0.1:4739\n"), "{shown}");
        let errors = checked("[storage]\nflow_days = 0\nsegment_days = 1\n").unwrap_err();
        assert!(errors.contains("storage.flows_days?") && errors.contains("storage.segments_days?"), "{errors}");
        let errors = checked("[smtp]\nhost = \"mail\"\n").unwrap_err();
        assert!(errors.contains("[smtp] from"), "{errors}");
        let errors = checked("[database]\nurl_file = \"/nonexistent/url\"\n").unwrap_err();
        assert!(errors.contains("database.url_file"), "{errors}");
    }
}
