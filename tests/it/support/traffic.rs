//! Bounded streams of flows, sent by the program's own simulated exporter.

use serde_json::Value;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A simulated exporter at work.
pub struct Stream {
    process: Child,
}

/// Begins to send `count` flows at `rate` flows a second.
pub fn begin(to: SocketAddr, protocol: &str, count: u64, rate: u64, seed: u64) -> Stream {
    let process = Command::new(super::server::program())
        .args(["simulate", "--to", &to.to_string(), "--protocol", protocol])
        .args(["--count", &count.to_string(), "--rate", &rate.to_string(), "--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    Stream { process }
}

/// Sends `count` flows and gives the totals that were sent.
pub fn send(to: SocketAddr, protocol: &str, count: u64, rate: u64, seed: u64) -> Value {
    begin(to, protocol, count, rate, seed).end()
}

/// Runs `simulate` with these arguments, and gives the totals that were sent or else what it said.
pub fn simulate(arguments: &[&str]) -> Result<Value, String> {
    let program = Command::new(super::server::program()).arg("simulate").args(arguments).output().unwrap();
    if program.status.success() {
        Ok(serde_json::from_slice(&program.stdout).unwrap())
    } else {
        Err(String::from_utf8(program.stderr).unwrap())
    }
}

/// What `simulate --print-only` prints with these arguments.
pub fn print(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowledger"));
    let output = command.args(["simulate", "--print-only"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Stream {
    /// Whether it is still sending.
    pub fn is_sending(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Ends it now.
    pub fn stop(mut self) {
        self.process.kill().unwrap();
    }

    /// Waits for the end and gives the totals that were sent.
    pub fn end(mut self) -> Value {
        let mut told = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "simulate ended with {status}");
        serde_json::from_str(&told).unwrap()
    }
}

impl Drop for Stream {
    /// A test that failed must not send on.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
