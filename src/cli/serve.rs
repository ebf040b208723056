//! `flowledger serve`: starts the server, says where it listens and what to configure on a router, and waits to be stopped.

use super::environment;
use crate::clock::SystemClock;
use crate::collect::{Endpoint, Inherited, Scheme};
use crate::config::Config;
use crate::server::{Running, Server, ServerError};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM, SIGINT or a failure that waiting cannot mend.
///
/// # Errors
/// What is wrong with the configuration or the machine.
pub fn run(config: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    crate::telemetry::start()?;
    let environment = environment();
    // First of all, since the descriptors that are ours must not be taken for others.
    let inherited = Inherited::take(&environment, std::process::id())?;
    let config = Config::load(config, environment)?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        tokio::pin!(stop);
        let mut running = Server::bind(config, inherited, Arc::new(SystemClock))?.receive()?;
        for endpoint in running.listeners() {
            tracing::info!("collecting {} on {endpoint}", endpoint.scheme.protocols());
        }
        let failed = tokio::select! {
            // Who is told to stop while something fails was told to stop.
            biased;
            name = stop => {
                tracing::info!("{name}: storing what was received, then stopping");
                None
            }
            error = work(&mut running) => {
                tracing::error!("stopping: {error}");
                Some(error)
            }
        };
        running.stop().await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), |error| Err(error.into()))
    })
}

/// Starts what does not receive, and returns why the server cannot go on.
async fn work(running: &mut Running) -> ServerError {
    if let Err(error) = running.start().await {
        return error;
    }
    greet(running);
    running.failed().await
}

/// Says in the log what a newcomer needs next.
fn greet(running: &Running) {
    if let Some(api) = running.api_address() {
        tracing::info!("ready: API http://{api}/api/v1/top, explore it at http://{api}/docs");
    }
    for Endpoint { scheme, address } in running.listeners() {
        let (ip, port) = (address.ip(), address.port());
        let target = if ip.is_unspecified() { "<address of this machine>".to_owned() } else { ip.to_string() };
        if *scheme == Scheme::Tcp {
            tracing::info!("  Linux:    softflowd -i eth0 -v 10 -P tcp -n {target}:{port}");
            tracing::info!("  try out:  flowledger simulate --to tcp://127.0.0.1:{port}");
        }
        if *scheme != Scheme::Udp {
            continue;
        }
        tracing::info!("  Cisco:    flow exporter FLOWLEDGER / destination {target} / transport udp {port}");
        tracing::info!("  MikroTik: /ip traffic-flow target add dst-address={target} port={port} version=9");
        tracing::info!("  Linux:    softflowd -i eth0 -v 9 -n {target}:{port}");
        tracing::info!("  try out:  flowledger simulate --to 127.0.0.1:{port}");
    }
}
