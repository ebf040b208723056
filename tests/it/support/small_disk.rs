//! A small disk of a test's own, mounted where only the processes in its mount namespace see it, to be filled and freed.
//!
//! The namespace lives as long as a process in it, which ends with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Mounts the disk over a directory, whose files are copied to it, and waits for the end of the input.
const MOUNT: &str = r#"set -e
mount -t tmpfs -o "size=$2" none /mnt
cp -a "$1/." /mnt
mount --move /mnt "$1"
echo mounted
exec cat"#;

/// A disk.
pub struct SmallDisk {
    holder: Child,
    directory: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of `mebibytes` over a directory; why not, where that cannot be had.
    pub fn mount(directory: &Path, mebibytes: u32) -> Result<Self, String> {
        if !super::is_root() {
            return Err("only root mounts disks".to_owned());
        }
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh"])
            .arg(directory)
            .arg(format!("{mebibytes}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut told = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut told).unwrap();
        let disk = Self { holder, directory: directory.to_owned() };
        if told.trim() == "mounted" { Ok(disk) } else { Err("the disk could not be mounted".to_owned()) }
    }

    /// What is to stand before a command so that it sees the disk and works in `folder`.
    pub fn before(&self, folder: &Path) -> Vec<String> {
        let [target, folder] = [format!("--target={}", self.holder.id()), format!("--wd={}", folder.display())];
        ["nsenter".to_owned(), target, "--mount".to_owned(), folder].to_vec()
    }

    fn run(&self, script: &str) {
        let [program, arguments @ ..] = &self.before(Path::new("/"))[..] else { unreachable!() };
        let status =
            Command::new(program).args(arguments).args(["sh", "-c", script, "sh"]).arg(&self.directory).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        self.run(r#"cat /dev/zero > "$1/filler" 2> /dev/null || true"#);
    }

    /// Takes what filled it away.
    pub fn free(&self) {
        self.run(r#"rm "$1/filler""#);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
