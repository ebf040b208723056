//! A simulation of journal and ingest against a model: whole histories of crashes, power cuts, outages and lost answers, each
//! chosen by a seed.
//!
//! The journal, the three stages and what they share are the real ones, driven step by step in one thread by [`history`].
//! Simulated are the disk below the journal (`journal::simulated`), the database with its transactions ([`database`]), the
//! clock and the exporters ([`traffic`]). What is stored is compared after each transaction with what a decoder that was
//! never restarted makes of the same records ([`reference`]): the same flows, each once; the same templates, sequence numbers
//! and waiting sets at the same position; the same counts. Nothing may be called complete that is not, no position may be
//! used twice, and what was said to be flushed must outlive a power cut.
//!
//! A seed gives one history: chance, time and the order of steps come from it. Not simulated, and left to other tests: the
//! threads that repeat the steps and the channels that hold them up, the flusher's timing, SQL, TCP, and segments that fill
//! up. The journal's id is random, which shows only in its checksums.
//!
//! `script/simulate --seed 7` lives one history again and prints it; `script/simulate --seeds 100000` lives so many instead of
//! the usual ones. They set `FLOWLEDGER_SEED` and `FLOWLEDGER_SEEDS`, since the test harness passes no arguments on.

mod beginning;
mod database;
mod history;
mod reference;
mod traffic;

use database::World;
use history::History;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Histories in an ordinary run: some ten milliseconds each.
const ORDINARY: u64 = 2_500;

/// What came of a history.
struct Outcome {
    held: bool,
    log: Vec<String>,
    records: u64,
    flows: u64,
    processes: u32,
}

/// Lives the history of a seed.
fn live(seed: u64, telling: bool) -> Outcome {
    // Files that are only a page cache need no disk.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let world = Arc::new(Mutex::new(World::new(seed ^ 0x5eed, telling)));
    let mut history = History::new(seed, folder.path(), Arc::clone(&world));
    let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.live())).is_ok();
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let log = std::mem::take(&mut world.log);
    Outcome { held, log, records: history.records, flows: world.flows, processes: world.process }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is \"{text}\", but must be a number")))
}

#[test]
fn whatever_crashes_and_whenever_everything_is_stored_once_or_counted() {
    if let Some(seed) = number("FLOWLEDGER_SEED") {
        let outcome = live(seed, true);
        println!("{}", outcome.log.join("\n"));
        assert!(outcome.held, "the history of seed {seed} does not hold");
        return;
    }
    let seeds = number("FLOWLEDGER_SEEDS").unwrap_or(ORDINARY);
    let [next, records, flows, processes] = std::array::from_fn(|_| AtomicU64::new(0));
    let broken = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || broken.lock().unwrap().is_some() {
                        return;
                    }
                    let outcome = live(seed, false);
                    if !outcome.held {
                        broken.lock().unwrap().get_or_insert(seed);
                    }
                    records.fetch_add(outcome.records, Ordering::Relaxed);
                    flows.fetch_add(outcome.flows, Ordering::Relaxed);
                    processes.fetch_add(outcome.processes.into(), Ordering::Relaxed);
                }
            });
        }
    });
    if let Some(seed) = broken.into_inner().unwrap() {
        println!("{}", live(seed, true).log.join("\n"));
        panic!("the history of seed {seed} does not hold: script/simulate --seed {seed} lives it again");
    }
    let [records, flows, processes] = [records, flows, processes].map(AtomicU64::into_inner);
    println!("{seeds} histories: {processes} processes, {records} records journalled, {flows} flows stored");
    assert!(records > seeds * 20 && flows > seeds * 20, "too little happened to prove anything");
}

#[test]
fn a_seed_gives_one_history() {
    let mut events = 0;
    for seed in 0..12 {
        let (first, second) = (live(seed, true), live(seed, true));
        assert!(first.log == second.log, "seed {seed} has two histories");
        events += first.log.len();
    }
    assert!(events > 500, "too little happened to prove anything: {events} events");
}
