//! The thread that carries appended bytes from the page cache to the disk, and tells of dropped datagrams when no batch
//! comes that could.

use super::index::{Shared, lock};
use super::segment::Segment;
use super::writer::Room;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often dropped datagrams are told without a batch, and how long the disk is left alone after a failed flush.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the thread. It ends, after a last flush, when the last writer goes.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("journal-flush".into()).spawn(move || run(&shared))
}

fn run(shared: &Shared) {
    let interval = Duration::from_millis(shared.settings.flush_interval_ms);
    let mut told = Instant::now();
    loop {
        let closing = wait(shared, PATIENCE, true) || wait(shared, interval, false);
        if closing || told.elapsed() >= PATIENCE {
            told = Instant::now();
            tell(shared);
        }
        let flushed = flush(shared);
        if closing {
            return;
        }
        if !flushed {
            wait(shared, PATIENCE, false);
        }
    }
}

/// Waits for `time`, or until there is something to flush if that is asked: whether the last writer is gone.
fn wait(shared: &Shared, time: Duration, until_dirty: bool) -> bool {
    let index = lock(&shared.index);
    let (index, _) = shared
        .dirty
        .wait_timeout_while(index, time, |index| !(index.closing || until_dirty && index.unsynced_since.is_some()))
        .unwrap_or_else(PoisonError::into_inner);
    index.closing
}

/// Appends the counts of dropped datagrams, into the room that is set aside for them if need be.
pub(super) fn tell(shared: &Shared) {
    let mut state = lock(&shared.writer);
    let closing = lock(&shared.index).closing;
    if state.has_pending() {
        if closing {
            state.retry_now();
        }
        state.append(shared, &[], Room::Reserved);
    }
    if state.has_pending() && closing {
        let directory = shared.settings.directory.display();
        tracing::error!("the journal in {directory} has no room to tell of dropped datagrams; only the log does");
    }
}

/// Flushes everything written so far: whether all of it is on disk.
pub(super) fn flush(shared: &Shared) -> bool {
    let started = Instant::now();
    let todo: Vec<(Arc<Segment>, u64)> = {
        let index = lock(&shared.index);
        if index.unsynced_since.is_none() {
            return true;
        }
        index.segments.iter().filter(|each| each.needs_sync()).map(|each| (Arc::clone(each), each.written())).collect()
    };
    let mut all = true;
    for (segment, written) in &todo {
        match shared.disk.sync(&segment.file) {
            Ok(()) => segment.synced.store(*written, Ordering::Release),
            Err(error) => all = distrust(shared, segment, &error),
        }
    }
    if todo.iter().any(|(segment, _)| !segment.named_on_disk.load(Ordering::Acquire)) {
        let outcome = shared.disk.sync_directory(&shared.settings.directory);
        for (segment, _) in &todo {
            match &outcome {
                Ok(()) => segment.named_on_disk.store(true, Ordering::Release),
                Err(error) if !segment.named_on_disk.load(Ordering::Acquire) => all = distrust(shared, segment, error),
                Err(_) => {}
            }
        }
    }
    let mut index = lock(&shared.index);
    index.show_wait(&shared.metrics);
    if let Some((newest, written)) = todo.last()
        && !newest.distrusted.load(Ordering::Acquire)
    {
        index.durable = index.durable.max(*written);
    }
    index.reckon_doubted();
    // What came while flushing is younger than the flush.
    index.unsynced_since = index.segments.iter().any(|each| each.needs_sync()).then_some(started);
    index.show(&shared.metrics);
    all
}

/// The disk may have lost the names of segments that were not flushed with their directory before.
pub(super) fn distrust_unnamed(shared: &Shared, error: &io::Error) {
    for segment in lock(&shared.index).segments.iter().filter(|each| !each.named_on_disk.load(Ordering::Acquire)) {
        distrust(shared, segment, error);
    }
}

/// The disk may have lost bytes of this segment, and will not say so again.
fn distrust(shared: &Shared, segment: &Segment, error: &io::Error) -> bool {
    segment.distrusted.store(true, Ordering::Release);
    shared.metrics.sync_errors.inc();
    let path = segment.path.display();
    tracing::error!(
        "{path} could not be flushed to the disk: {error}; a new segment is begun, a power cut may cost it"
    );
    false
}
