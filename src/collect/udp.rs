//! One UDP listener: a loop that carries datagrams from its socket to the journal.

use super::address::Endpoint;
use super::allow::Gate;
use super::socket::{self, BATCH, Batch, Bound};
use super::{ListenerLabel, Surroundings};
use crate::clock::SharedClock;
use crate::journal::{Datagram, DropCause, Dropped, Record, Transport, Writer};
use crate::metrics::Counter;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// When less than half a batch had arrived, more are let arrive this long: a wake-up and a write for every single datagram
/// would cost more than the datagram.
const GATHER: Duration = Duration::from_millis(1);

/// The receive buffer from which on there is room to let datagrams gather: some 3 Gbit/s for [`GATHER`], many times over.
const GATHER_BUFFER_BYTES: usize = 4 << 20;

/// How long what has arrived is still taken after a stop, when the socket cannot be closed for what comes later.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound socket and where its datagrams go.
pub(super) struct Listener {
    number: u16,
    bound: Bound,
    journal: Writer,
    clock: SharedClock,
    gate: Gate,
    drop_counter: DropCounter,
    datagrams: Counter<u64>,
    bytes: Counter<u64>,
    kernel_drops: Counter<u64>,
    receive_errors: Counter<u64>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listener")
            .field("number", &self.number)
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

impl Listener {
    pub(super) fn new(number: u16, bound: Bound, around: &Surroundings<'_>) -> Self {
        let (name, metrics, drops_before) = (bound.endpoint.to_string(), around.metrics, bound.drops_before);
        let label = ListenerLabel { listener: name.clone() };
        let granted = i64::try_from(bound.receive_buffer_bytes).unwrap_or(i64::MAX);
        metrics.receive_buffer_bytes.get_or_create(&label).set(granted);
        Self {
            number,
            bound,
            journal: around.journal.clone(),
            clock: Arc::clone(around.clock),
            gate: Gate::new(around.allow, name, metrics.not_allowed.get_or_create(&label).clone()),
            drop_counter: DropCounter(drops_before),
            datagrams: metrics.datagrams.get_or_create(&label).clone(),
            bytes: metrics.bytes.get_or_create(&label).clone(),
            kernel_drops: metrics.kernel_drops.get_or_create(&label).clone(),
            receive_errors: metrics.receive_errors.get_or_create(&label).clone(),
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.bound.endpoint
    }

    /// Receives until `stop` is set, then takes what has arrived by then.
    pub(super) fn run(&mut self, stop: &AtomicBool) {
        if !socket::hurry_this_thread() {
            tracing::info!("{} runs at normal priority; CAP_SYS_NICE would put it first", self.bound.endpoint);
        }
        let mut batch = Batch::new();
        while !stop.load(Ordering::Acquire) {
            match batch.receive(&self.bound.socket, true) {
                Ok(received) => {
                    self.append(&batch);
                    if received < BATCH / 2 && self.bound.receive_buffer_bytes >= GATHER_BUFFER_BYTES {
                        thread::sleep(GATHER);
                    }
                }
                Err(error) => self.nothing_received(&error),
            }
        }
        // What came between the last receive call and the end of the socket would be lost without a trace. So nothing comes
        // in any more first, and the last call is one that waited in vain for what was still on its way into the queue.
        let shut = self.bound.ours && self.bound.shut().is_ok();
        let begun = Instant::now();
        while shut || begun.elapsed() < FAREWELL {
            match batch.receive(&self.bound.socket, shut) {
                Ok(_) => self.append(&batch),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.tell_drops_now();
    }

    /// Appends a batch, and what the kernel dropped before its last datagram.
    fn append(&mut self, batch: &Batch) {
        let received = self.clock.now();
        let (listener, transport) = (self.number, Transport::Datagram);
        let mut records = Vec::with_capacity(BATCH.saturating_add(1));
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for (source, payload) in batch.datagrams() {
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(payload.len() as u64);
            if self.gate.admits(source.ip(), received) {
                records.push(Record::Datagram(Datagram { received, source, listener, transport, payload }));
            }
        }
        self.datagrams.inc_by(count);
        self.bytes.inc_by(bytes);
        records.extend(batch.drops().and_then(|counter| self.drops_up_to(counter)));
        self.hand_over(&records);
    }

    /// A receive call brought nothing: time to look at the drop counter, which otherwise comes with a later datagram.
    fn nothing_received(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.tell_drops_now(),
            io::ErrorKind::Interrupted => {}
            _ => {
                self.receive_errors.inc();
                tracing::error!("{} cannot receive: {error}; it is tried again", self.bound.endpoint);
                thread::sleep(socket::PATIENCE);
            }
        }
    }

    fn tell_drops_now(&mut self) {
        let counter = socket::drops(&self.bound.socket).ok();
        if let Some(record) = counter.and_then(|counter| self.drops_up_to(counter)) {
            self.hand_over(&[record]);
        }
    }

    /// The record of what the kernel dropped since the last one.
    fn drops_up_to(&mut self, counter: u32) -> Option<Record<'static>> {
        let count = u64::from(self.drop_counter.advance(counter)?);
        self.kernel_drops.inc_by(count);
        let (received, listener) = (self.clock.now(), self.number);
        Some(Record::Dropped(Dropped { received, listener, cause: DropCause::Kernel, exporter: None, count }))
    }

    fn hand_over(&self, records: &[Record<'_>]) {
        if let Err(error) = self.journal.append(records) {
            self.receive_errors.inc();
            tracing::error!("{}: a batch is lost: {error}", self.bound.endpoint);
        }
    }
}

/// The kernel's drop counter of one socket, which runs on modulo 2^32, as last told.
#[derive(Debug, Default)]
struct DropCounter(u32);

impl DropCounter {
    /// How many were dropped since the last time, if any. A datagram brings the counter of the moment when it was queued,
    /// which may be older than what was told already; that is not a drop.
    fn advance(&mut self, counter: u32) -> Option<u32> {
        let ahead = counter.wrapping_sub(self.0);
        if ahead == 0 || ahead > u32::MAX / 2 {
            return None;
        }
        self.0 = counter;
        Some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_counter_tells_each_drop_once_across_its_wrap() {
        let mut counter = DropCounter(u32::MAX - 2);
        let told: Vec<Option<u32>> =
            [u32::MAX - 2, u32::MAX, u32::MAX - 1, 4, 4, 1, 5].map(|at| counter.advance(at)).into();
        assert_eq!(told, [None, Some(2), None, Some(5), None, None, Some(1)]);
    }
}
