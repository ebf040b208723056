//! The stages joined: three threads pass work along, beginning anew from the database after every failure.
//!
//! What each stage does with a piece stands in its own file; here is how they begin, wait for each other and end.

use super::decode::{self, Standing};
use super::{IngestError, Shared, commit, give_back, pack};
use crate::flow::batch::FlowBatch;
use crate::journal::{Position, Reader};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// Batches in memory: one being decoded, one being compressed, the others being stored as rows.
const BATCHES: usize = 4;
/// Compressed pieces that wait for the database while it is busy.
const WAITING: usize = 16;

/// Works until told to stop, beginning anew from the database after every failure.
pub(super) fn run(shared: &Shared, mut reader: Reader) {
    // Also when a defect ends this thread.
    let _not_ready = NotReady(shared);
    let mut lives: u64 = 0;
    loop {
        let ended = live(shared, &mut reader, &mut lives);
        shared.metrics.uninterrupted.set(0);
        (shared.tell)(false);
        match ended {
            Ok(()) => return,
            Err(IngestError::Abandoned) => {
                tracing::warn!("{}", IngestError::Abandoned);
                return;
            }
            Err(IngestError::Store(error)) if error.is_outage() => {
                tracing::warn!("ingest waits for the database: {error}");
            }
            Err(error) => {
                shared.metrics.restarts.inc();
                tracing::error!("ingest begins anew from what is stored: {error}");
            }
        }
        if shared.abandon.load(Ordering::Acquire) {
            return;
        }
        shared.clock.sleep(Duration::from_secs(1));
    }
}

/// Says that the pipeline is not at work when it goes.
struct NotReady<'a>(&'a Shared);

impl Drop for NotReady<'_> {
    fn drop(&mut self) {
        (self.0.tell)(false);
    }
}

/// Gives the first stage a batch when the last stage goes, whyever that goes: the first stage may be waiting for one that
/// went with it, and must go on to find out.
struct LastBatch<'a>(&'a SyncSender<FlowBatch>);

impl Drop for LastBatch<'_> {
    fn drop(&mut self) {
        give_back(self.0, FlowBatch::default());
    }
}

/// Tells the first stage when a later one goes, whyever that goes: the first would notice only when it has something to hand
/// on, and nothing may come.
struct Breaks<'a>(&'a Shared);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.broken.store(true, Ordering::Release);
    }
}

/// Lets the other stages give up when a defect ends the first one. They would try for as long as the database is away, and
/// nobody would see that nothing is decoded any more: this thread ends only after them.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon.store(true, Ordering::Release);
        }
    }
}

/// One life of the pipeline: from what the database holds until told to stop, or until something fails. `lives` counts those
/// that got to work.
fn live(shared: &Shared, reader: &mut Reader, lives: &mut u64) -> Result<(), IngestError> {
    let journal = reader.id().to_string();
    let standing = Standing::take_up(shared, &journal, reader)?;
    let next_segment = standing.next_segment();
    shared.broken.store(false, Ordering::Release);
    // Before anything is read, so that nobody takes what has not begun for done.
    let backlog = reader.backlog(Position::new(shared.stored.load(Ordering::Acquire)));
    shared.metrics.backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
    shared.metrics.uninterrupted.set(i64::from(*lives == 0));
    *lives = lives.saturating_add(1);
    (shared.tell)(true);

    let (empty_in, empty_out) = sync_channel(BATCHES);
    for _ in 0..BATCHES {
        empty_in.send(FlowBatch::default()).map_err(|_| IngestError::StageEnded { stage: "decode" })?;
    }
    let (work_in, work_out) = sync_channel(1);
    let (packed_in, packed_out) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let empty_after_commit = empty_in.clone();
        let pack = std::thread::Builder::new()
            .name("ingest-pack".to_owned())
            .spawn_scoped(scope, move || {
                let packed_in = packed_in;
                let _breaks = Breaks(shared);
                pack::Stage::new(shared, &empty_in).run(&work_out, &packed_in)
            })
            .map_err(IngestError::Thread)?;
        let commit = std::thread::Builder::new()
            .name("ingest-commit".to_owned())
            .spawn_scoped(scope, || {
                let packed_out = packed_out;
                let empty_after_commit = empty_after_commit;
                let _last = LastBatch(&empty_after_commit);
                let _breaks = Breaks(shared);
                commit::Stage::new(shared, &journal, next_segment, &packed_out, &empty_after_commit).run()
            })
            .map_err(IngestError::Thread)?;
        let _ends = Ends(shared);
        let decode = decode::Stage::new(shared, &journal, reader, standing, empty_out, work_in)?.run();
        // The decode stage has dropped its sender: the others finish what is on its way and end. The last one's error is
        // the cause, the others only noticed it.
        let commit = commit.join().unwrap_or(Err(IngestError::StageEnded { stage: "commit" }));
        let pack = pack.join().unwrap_or(Err(IngestError::StageEnded { stage: "pack" }));
        commit.and(pack).and(decode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock, Timestamp};
    use crate::flow::parked::ParkedSet;
    use crate::ingest::storage::{Loading, Storage};
    use crate::ingest::{Metrics, Settings};
    use crate::journal::{self, Datagram, Record, Transport};
    use crate::store::commit::{Batch, DecoderState, StoredPosition};
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    /// A database that stores how far it is, how many flows it has, and how often it was asked for rows of a day, of which it
    /// wants none.
    #[derive(Clone, Default)]
    struct Sums(Arc<Mutex<(u64, u64)>>, Arc<AtomicU64>);

    impl Sums {
        fn flows(&self) -> u64 {
            self.0.lock().unwrap().1
        }
    }

    impl Storage for Sums {
        fn journal_position(&self, _: &str, _: Timestamp) -> Result<StoredPosition, IngestError> {
            let position = self.0.lock().unwrap().0;
            Ok(StoredPosition { position, complete_until: None, next_segment: 1, author: None })
        }

        fn decoder_state(&self, _: &str) -> Result<Vec<DecoderState>, IngestError> {
            Ok(Vec::new())
        }

        fn parked_sets(&self, _: &str) -> Result<Vec<ParkedSet>, IngestError> {
            Ok(Vec::new())
        }

        fn cut_streams(&self) -> Result<Vec<(u32, Timestamp)>, IngestError> {
            Ok(Vec::new())
        }

        fn exporter_ids(&self) -> Result<Vec<(IpAddr, u32)>, IngestError> {
            Ok(Vec::new())
        }

        fn exporter_id(&self, _: IpAddr) -> Result<u32, IngestError> {
            Ok(1)
        }

        fn name_exporters(&self, _: &[(u32, &str)]) -> Result<(), IngestError> {
            Ok(())
        }

        fn ensure_rows(&self, _: Timestamp) -> Result<bool, IngestError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(false)
        }

        fn ensure_open(&self) -> Result<(), IngestError> {
            Ok(())
        }

        fn load(&self, _: i64, _: &Arc<Batch>) -> Box<dyn Loading> {
            Box::new(self.clone())
        }

        fn commit(&self, _: &str, batch: &Batch) -> Result<u64, IngestError> {
            let mut sums = self.0.lock().unwrap();
            assert_eq!(batch.start, sums.0, "each stretch of the journal once, in its order");
            assert_eq!(batch.without_rows.is_empty(), batch.segments.is_empty());
            let flows: u64 = batch.segments.iter().map(|segment| u64::from(segment.rows)).sum();
            *sums = (batch.end, sums.1 + flows);
            Ok(0)
        }

        fn still_complete(&self, _: &str, _: u64, _: Timestamp) -> bool {
            true
        }
    }

    impl Loading for Sums {
        fn finish(self: Box<Self>, journal: &str, batch: &Batch) -> Result<Option<u64>, IngestError> {
            self.commit(journal, batch).map(Some)
        }
    }

    /// A NetFlow v5 datagram of one flow, the one after `before` others.
    fn datagram(before: u32) -> Vec<u8> {
        let mut bytes = vec![0; 24 + 48];
        (bytes[1], bytes[3]) = (5, 1);
        bytes[16..20].copy_from_slice(&before.to_be_bytes());
        bytes
    }

    #[test]
    fn a_panic_where_flows_are_compressed_begins_anew_and_everything_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let settings = journal::Settings { directory: folder.path().to_owned(), ..journal::Settings::default() };
        let (writer, reader) = journal::open(settings).unwrap();
        let sums = Sums::default();
        sums.0.lock().unwrap().0 = reader.opened_at().get();
        let told = Arc::new(Mutex::new(Vec::new()));
        let own_told = Arc::clone(&told);
        let shared = Shared {
            settings: Settings { commit_interval_ms: 10, ..Settings::default() },
            database: Box::new(sums.clone()),
            clock: Arc::new(SystemClock),
            metrics: Metrics::default(),
            rows: true,
            stopping: AtomicBool::new(false),
            abandon: Arc::default(),
            broken: AtomicBool::new(false),
            started: SystemClock.now(),
            author: 1,
            stored: AtomicU64::new(0),
            tell: Box::new(move |works| own_told.lock().unwrap().push(works)),
            pack_panics: AtomicBool::new(false),
        };
        let mut sent = 0;
        let mut send = |count| {
            for _ in 0..count {
                let record = Datagram {
                    received: SystemClock.now(),
                    source: "192.0.2.1:50000".parse().unwrap(),
                    listener: 0,
                    transport: Transport::Datagram,
                    payload: &datagram(sent),
                };
                writer.append(&[Record::Datagram(record)]).unwrap();
                sent += 1;
            }
        };
        let wait_for = |flows| {
            let begun = Instant::now();
            while sums.flows() != flows {
                assert!(begun.elapsed() < Duration::from_secs(20), "{} of {flows} flows are stored", sums.flows());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        std::thread::scope(|scope| {
            let pipeline = scope.spawn(|| run(&shared, reader));
            for commits in 1..=10 {
                send(5);
                wait_for(5 * commits);
            }
            shared.pack_panics.store(true, Ordering::Release);
            // In many pieces, so that some follow the one that is not compressed.
            for _ in 0..10 {
                send(5);
                std::thread::sleep(Duration::from_millis(15));
            }
            wait_for(100);
            assert_eq!(shared.metrics.restarts.get(), 1);
            shared.stopping.store(true, Ordering::Release);
            pipeline.join().unwrap();
        });
        // Once in each life, and once more where the hour or the day changes, but not for each commit.
        let (asked, commits) = (sums.1.load(Ordering::Relaxed), shared.metrics.commits.get());
        assert!(asked <= 4 && commits > 10, "asked {asked} times for rows of a day in {commits} commits");
        assert_eq!((sums.flows(), told.lock().unwrap().as_slice()), (100, &[true, false, true, false, false][..]));
    }
}
