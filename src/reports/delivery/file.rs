//! Drops a report into a directory: `<name>.csv`, and beside it `<name>.json`.
//!
//! A reader who finds a file under its name finds it whole, and it stays through a power cut: it is written under a
//! temporary name, synced, renamed, and the directory is synced. The manifest comes first, so whoever waits for the CSV
//! finds both. A symbolic link planted under the name is replaced, not followed. Only our user and group may read it.

use crate::reports::document::Document;
use crate::reports::error::ReportError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Writes both files and returns the path of the CSV. The directory is made if it is missing.
///
/// # Errors
/// [`ReportError::File`] with the path and what the operating system said.
pub async fn write(directory: PathBuf, document: Document) -> Result<PathBuf, ReportError> {
    let told = directory.clone();
    tokio::task::spawn_blocking(move || write_now(&directory, &document))
        .await
        .unwrap_or_else(|error| Err(ReportError::File { path: told, source: io::Error::other(error) }))
}

fn write_now(directory: &Path, document: &Document) -> Result<PathBuf, ReportError> {
    let failed = |path: &Path, source| ReportError::File { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(|error| failed(directory, error))?;
    let csv = directory.join(format!("{}.csv", document.name));
    let manifest = directory.join(format!("{}.json", document.name));
    for (path, bytes) in [(&manifest, &document.manifest), (&csv, &document.csv)] {
        let temporary = directory.join(format!(".{}.{}.tmp", document.name, Uuid::new_v4().simple()));
        let written = replace(&temporary, path, bytes.as_bytes());
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(failed(path, error));
        }
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| failed(directory, error))?;
    Ok(csv)
}

fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(csv: &str) -> Document {
        Document {
            name: "weekly_2026-W47".to_owned(),
            csv: csv.to_owned(),
            manifest: "{}\n".to_owned(),
            summary: String::new(),
            rows: 0,
        }
    }

    fn listing(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_report_lies_whole_under_its_name_with_its_manifest_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/on/demand");
        for content in ["first", "second"] {
            let path = write(directory.clone(), document(content)).await.unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(listing(&directory), ["weekly_2026-W47.csv", "weekly_2026-W47.json"]);
        }
    }

    #[tokio::test]
    async fn others_may_neither_list_nor_read() {
        use std::os::unix::fs::MetadataExt;
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("reports");
        let path = write(directory.clone(), document("rows")).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        // The umask may take more away.
        assert_eq!((mode(&directory) & !0o050, mode(&path) & !0o040), (0o700, 0o600));
    }

    #[tokio::test]
    async fn a_planted_link_is_replaced_and_its_target_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let (directory, victim) = (root.path().join("reports"), root.path().join("victim"));
        fs::create_dir(&directory).unwrap();
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, directory.join("weekly_2026-W47.csv")).unwrap();
        let path = write(directory, document("rows")).await.unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[tokio::test]
    async fn a_failure_names_the_path_and_leaves_no_temporary_file() {
        let root = tempfile::tempdir().unwrap();
        let blocked = root.path().join("weekly_2026-W47.csv");
        fs::create_dir(&blocked).unwrap();
        let error = write(root.path().to_owned(), document("rows")).await.unwrap_err().to_string();
        assert!(error.contains("weekly_2026-W47.csv"), "{error}");
        assert_eq!(listing(root.path()), ["weekly_2026-W47.csv", "weekly_2026-W47.json"]);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write(file, document("rows")).await.is_err());
    }
}
