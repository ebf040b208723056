//! The stages joined: three threads pass work along, beginning anew from the database after every failure.
//!
//! What each stage does with a piece stands in its own file; here is how they begin, wait for each other and end.

use super::decode::{self, Standing};
use super::{IngestError, Shared, commit, give_back, pack};
use crate::flow::batch::FlowBatch;
use crate::journal::Reader;
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
    loop {
        let ended = live(shared, &mut reader);
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

/// One life of the pipeline: from what the database holds until told to stop, or until something fails.
fn live(shared: &Shared, reader: &mut Reader) -> Result<(), IngestError> {
    let journal = reader.id().to_string();
    let standing = Standing::take_up(shared, &journal, reader)?;
    let next_segment = standing.next_segment();
    shared.broken.store(false, Ordering::Release);
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
