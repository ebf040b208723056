//! The thread that notices when the machine or the process stood still, or when the clock was set forward: then nobody received,
//! and nobody counted, and the journal says so.
//!
//! It does nothing but look at the clock, so that nothing but such a standstill can keep it from looking.

use super::index::{Shared, lock};
use super::record::{DropCause, Dropped, Record};
use super::writer::Room;
use crate::clock::{SECOND, Timestamp};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long it must not have looked for that to be told, in microseconds. A busy machine may let a thread wait for a moment.
const STOOD_STILL: i64 = 5 * SECOND;

/// Starts the thread. It ends when the last writer goes.
pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let mut seen = shared.clock.now();
    shared.awake_until.store(seen.micros(), Ordering::Release);
    thread::Builder::new().name("journal-watch".into()).spawn(move || {
        while !lock(&shared.index).closing {
            seen = look(&shared, seen);
            thread::park_timeout(LOOK);
        }
    })
}

/// Looks at the clock, which was last `seen` before, and returns what it says.
pub(super) fn look(shared: &Shared, seen: Timestamp) -> Timestamp {
    let now = shared.clock.now();
    if now.micros().saturating_sub(seen.micros()) >= STOOD_STILL {
        let cause = DropCause::StoodStill { since: seen };
        let record = Record::Dropped(Dropped { received: now, listener: 0, cause, exporter: None, count: 0 });
        lock(&shared.writer).append(shared, &[record], Room::Reserved);
        tracing::warn!(
            "from {seen} to {now} the machine or the process stood still, or the clock was set: answers for that time say so"
        );
    }
    shared.awake_until.store(now.micros(), Ordering::Release);
    now
}
