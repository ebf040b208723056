//! Network namespaces of a test's own: an exporter and a collector with nothing but a wire between them.
//!
//! A process cannot move into a namespace without calling the kernel itself, so the test runs a second time inside: the same
//! program, told to run that one test. The namespaces go when the outer test ends, however it does.

use super::skip;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tells the test that runs inside how its namespaces begin.
const VARIABLE: &str = "FLOWLEDGER_TEST_NAMESPACES";
/// The exporter's address.
pub const EXPORTER: &str = "198.51.100.1";
/// The collector's address.
pub const COLLECTOR: &str = "198.51.100.2";

/// A command that runs `program` in a namespace. The process is the program's own, as soon as it runs.
pub fn command(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

/// Two namespaces, removed at the end.
struct Namespaces {
    exporter: String,
    collector: String,
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    let problem = || format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(problem()) }
}

impl Namespaces {
    /// Makes both, with a wire between them that takes packets of `mtu` bytes.
    fn create(mtu: u32) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let first = format!("flt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let both = Self { exporter: format!("{first}-exporter"), collector: format!("{first}-collector") };
        let (exporter, collector) = (both.exporter.as_str(), both.collector.as_str());
        ip(&["netns", "add", exporter])?;
        ip(&["netns", "add", collector])?;
        ip(&["-n", exporter, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", collector])?;
        for (namespace, address) in [(exporter, EXPORTER), (collector, COLLECTOR)] {
            ip(&["-n", namespace, "address", "add", &format!("{address}/30"), "dev", "wire"])?;
            ip(&["-n", namespace, "link", "set", "wire", "mtu", &mtu.to_string(), "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(both)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.exporter, &self.collector] {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

/// Runs the test of this name where the exporter is, with a wire of `mtu` bytes to the collector. Gives the collector's
/// namespace inside, and nothing outside, where the test has ended by then: it was run inside, or has to be skipped.
pub fn enter(test: &str, mtu: u32) -> Option<String> {
    if let Ok(collector) = std::env::var(VARIABLE) {
        return Some(collector);
    }
    if !super::is_root() {
        skip(test, "only root makes network namespaces");
        return None;
    }
    let namespaces = match Namespaces::create(mtu) {
        Ok(namespaces) => namespaces,
        Err(problem) => {
            skip(test, &problem);
            return None;
        }
    };
    let program = std::env::current_exe().unwrap();
    let output = command(&namespaces.exporter, program.to_str().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, &namespaces.collector)
        .output()
        .unwrap();
    let (told, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "inside the namespace: {told}\n{problems}");
    print!("{told}");
    None
}
