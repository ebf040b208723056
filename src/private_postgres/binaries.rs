//! Which installed PostgreSQL to run: finds the directory that holds `postgres` and `initdb`, and its major version.
//!
//! Promises a supported major and, for an existing cluster, the cluster's own major, because no PostgreSQL reads another
//! major's data. Knows nothing of what the programs are used for.

use super::error::PrivatePostgresError;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The major versions the schema and the launcher are made for.
const SUPPORTED: RangeInclusive<u32> = 15..=18;

/// A directory of PostgreSQL programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    /// Holds `postgres` and `initdb`.
    pub(super) directory: PathBuf,
    /// The major version they report.
    pub(super) major: u32,
}

impl Binaries {
    /// The full path of `program`.
    pub(super) fn program(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// Asks the `postgres` in `directory` for its version; the error is a reason for people.
    fn inspect(directory: &Path) -> Result<Self, String> {
        let postgres = directory.join("postgres");
        if !directory.join("initdb").is_file() {
            return Err("it holds no initdb".to_owned());
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} does not run: {error}", postgres.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let major = major(&said).ok_or_else(|| format!("{} --version says \"{}\"", postgres.display(), said.trim()))?;
        Ok(Self { directory: directory.to_owned(), major })
    }
}

/// Where to look when nothing is configured.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// Directories whose entries `<prefix><anything>/bin` hold one major each: `(parent, prefix)`.
    pub(super) families: Vec<(PathBuf, &'static str)>,
    /// The program search path.
    pub(super) path: Option<OsString>,
}

impl Default for Search {
    /// Debian's and the PGDG RPMs' places, then `PATH`.
    fn default() -> Self {
        Self {
            families: vec![(PathBuf::from("/usr/lib/postgresql"), ""), (PathBuf::from("/usr"), "pgsql-")],
            path: env::var_os("PATH"),
        }
    }
}

impl Search {
    /// The programs to use: those in `configured` if given; else those of the cluster's major; else the newest
    /// supported. Of equal majors the earlier place wins, so a distribution's package goes before `PATH`.
    ///
    /// `cluster` is an existing cluster's data directory and major.
    pub(super) fn find(
        &self,
        configured: Option<&Path>,
        cluster: Option<(&Path, u32)>,
    ) -> Result<Binaries, PrivatePostgresError> {
        if let Some(directory) = configured {
            let unsuitable =
                |reason| PrivatePostgresError::UnsuitableBinaries { directory: directory.to_owned(), reason };
            let binaries = Binaries::inspect(directory).map_err(unsuitable)?;
            if !SUPPORTED.contains(&binaries.major) {
                return Err(unsuitable(format!("it is PostgreSQL {}; 15 to 18 are supported", binaries.major)));
            }
            return match cluster {
                Some((data, major)) if major != binaries.major => Err(unsuitable(format!(
                    "it is PostgreSQL {}, but the data in {} was written by PostgreSQL {major}",
                    binaries.major,
                    data.display()
                ))),
                _ => Ok(binaries),
            };
        }
        let mut best: Option<Binaries> = None;
        for directory in self.directories() {
            let Ok(binaries) = Binaries::inspect(&directory) else { continue };
            let suits = match cluster {
                Some((_, major)) => binaries.major == major,
                None => SUPPORTED.contains(&binaries.major),
            };
            if suits && best.as_ref().is_none_or(|best| binaries.major > best.major) {
                best = Some(binaries);
            }
        }
        best.ok_or_else(|| match cluster {
            Some((data, major)) => {
                PrivatePostgresError::MajorNotFound { data: data.to_owned(), major, searched: self.describe() }
            }
            None => PrivatePostgresError::BinariesNotFound { searched: self.describe() },
        })
    }

    /// Every directory that holds a `postgres`, in order of preference.
    fn directories(&self) -> Vec<PathBuf> {
        let families = self.families.iter().flat_map(|(parent, prefix)| {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            entries
                .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join("bin"))
        });
        let path = self.path.iter().flat_map(env::split_paths).filter_map(|directory| {
            // A link in PATH leads to the real directory, where initdb and the libraries are.
            let program = fs::canonicalize(directory.join("postgres")).ok()?;
            program.parent().map(Path::to_owned)
        });
        families.chain(path).filter(|directory| directory.join("postgres").is_file()).collect()
    }

    fn describe(&self) -> String {
        let mut places: Vec<String> =
            self.families.iter().map(|(parent, prefix)| format!("{}/{prefix}*/bin", parent.display())).collect();
        places.push("PATH".to_owned());
        places.join(", ")
    }
}

/// The major in `postgres --version`, such as "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)".
fn major(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|character: char| !character.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Makes `directory` hold programs that say they are `version`.
    fn pretend(directory: &Path, version: &str) {
        fs::create_dir_all(directory).unwrap();
        for program in ["postgres", "initdb"] {
            let path = directory.join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn search(root: &Path) -> Search {
        Search {
            families: vec![(root.join("lib/postgresql"), ""), (root.join("usr"), "pgsql-")],
            path: Some(root.join("path").into_os_string()),
        }
    }

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta2"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major("mysqld 8.0"), None);
    }

    #[test]
    fn the_newest_supported_is_taken_and_packages_go_before_path() {
        let root = tempfile::tempdir().unwrap();
        for (directory, version) in [
            ("lib/postgresql/14/bin", "14.9"),
            ("lib/postgresql/16/bin", "16.3"),
            ("lib/postgresql/99/bin", "99.0"),
            ("usr/pgsql-15/bin", "15.1"),
            ("path", "16.9"),
        ] {
            pretend(&root.path().join(directory), version);
        }
        let found = search(root.path()).find(None, None).unwrap();
        assert_eq!(found, Binaries { directory: root.path().join("lib/postgresql/16/bin"), major: 16 });

        let data = root.path().join("data");
        let found = search(root.path()).find(None, Some((&data, 15))).unwrap();
        assert_eq!(found.directory, root.path().join("usr/pgsql-15/bin"));

        let error = search(root.path()).find(None, Some((&data, 17))).unwrap_err().to_string();
        assert!(error.contains("postgresql-17") && error.contains("written by PostgreSQL 17"), "{error}");
    }

    #[test]
    fn nothing_found_says_what_to_install() {
        let root = tempfile::tempdir().unwrap();
        let error = search(root.path()).find(None, None).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
        assert!(error.contains(&root.path().join("lib/postgresql").display().to_string()), "{error}");
    }

    #[test]
    fn a_configured_directory_is_used_or_refused_but_never_passed_over() {
        let root = tempfile::tempdir().unwrap();
        pretend(&root.path().join("path"), "16.9");
        let configured = root.path().join("mine");
        let refused = |cluster| search(root.path()).find(Some(&configured), cluster).unwrap_err().to_string();
        assert!(refused(None).contains("no initdb"));
        pretend(&configured, "14.0");
        assert!(refused(None).contains("15 to 18 are supported"));
        pretend(&configured, "17.2");
        assert!(refused(Some((root.path(), 16))).contains("written by PostgreSQL 16"));
        assert_eq!(search(root.path()).find(Some(&configured), None).unwrap().major, 17);
    }
}
