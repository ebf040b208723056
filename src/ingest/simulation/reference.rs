//! What the database should hold: the records of a journal decoded in one go, by a decoder that was never restarted.
//!
//! It knows which records were appended where, and which of them no longer lie on the disk; it knows neither how the journal
//! reads them nor how ingest cuts them into batches.

use crate::clock::{HOUR, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use crate::flow::parked::ParkedSet;
use crate::journal::{self, Stream};
use crate::wire::{ConfiguredSampling, Context, Decoder, Limits, Outcome, Reason, Transport};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Exporter, transport, port, version, domain.
pub(super) type SessionKey = (u32, u16, u16, u16, u32);
/// Exporter, hour, cause, unit.
pub(super) type LossKey = (u32, Timestamp, &'static str, &'static str);

/// What is kept beside flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// Templates and state of each session.
    pub(super) sessions: BTreeMap<SessionKey, (u32, Vec<u8>)>,
    /// Sets that wait, by number.
    pub(super) parked: BTreeMap<u64, ParkedSet>,
    /// What is missing, without zeros.
    pub(super) loss: BTreeMap<LossKey, i64>,
    /// Datagrams and flows by exporter and version.
    pub(super) activity: BTreeMap<(u32, u16), (u64, u64)>,
}

impl Books {
    pub(super) fn lose(&mut self, key: LossKey, count: i64) {
        let sum = self.loss.entry(key).or_insert(0);
        *sum += count;
        if *sum == 0 {
            self.loss.remove(&key);
        }
    }

    /// The sum of one cause.
    pub(super) fn lost(&self, cause: &str) -> i64 {
        self.loss.iter().filter(|((_, _, its, _), _)| *its == cause).map(|(_, count)| count).sum()
    }

    /// The sum of one cause in one hour.
    pub(super) fn lost_in(&self, cause: &str, hour: Timestamp) -> i64 {
        self.loss.iter().filter(|((_, at, its, _), _)| *its == cause && *at == hour).map(|(_, count)| count).sum()
    }

    /// What must be equal whatever happened: a set's number may differ, and these causes are counted by others.
    pub(super) fn comparable(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let mut books = self.clone();
        books.loss.retain(|(_, _, cause, _), _| {
            let by_others = ["kernel", "journal_full", "journal_corrupt", "collector_down", "stream_cut"];
            !by_others.contains(&cause.trim_end_matches("_later"))
        });
        let parked: Vec<_> = books.parked.values().map(|set| ParkedSet { parked_id: 0, ..set.clone() }).collect();
        (books.sessions, parked, books.loss, books.activity)
    }
}

/// What a record of the journal said.
pub(super) enum Said {
    Datagram { source: SocketAddr, stream: bool, payload: Vec<u8> },
    Stream(Stream),
}

/// A record that the journal took.
pub(super) struct Entry {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) received: Timestamp,
    pub(super) said: Said,
    /// Where its bytes lie.
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// The first process that did not find it on the disk.
    pub(super) gone_for: Option<u32>,
    pub(super) stored: bool,
}

/// The beginning of a process.
pub(super) struct Opening {
    /// Where what is left of those before ends.
    pub(super) at: u64,
    /// When the one before had ended.
    pub(super) ended: Timestamp,
    /// When it began to receive.
    pub(super) started: Timestamp,
}

/// One journal as it should be stored.
pub(super) struct Reference {
    pub(super) entries: Vec<Entry>,
    pub(super) openings: Vec<Opening>,
    /// Between which moments streams ended without a word.
    pub(super) dead_streams: Vec<(Timestamp, Timestamp)>,
    pub(super) books: Books,
    pub(super) position: u64,
    next: usize,
    /// How many openings lie before the position.
    begun: usize,
    decoder: Decoder,
}

impl Reference {
    pub(super) fn new() -> Self {
        let decoder = Decoder::new(Limits::default());
        let (entries, openings, dead_streams) = (Vec::new(), Vec::new(), Vec::new());
        Self { entries, openings, dead_streams, books: Books::default(), position: 0, next: 0, begun: 0, decoder }
    }

    /// Goes on to `position`, as the process of this number sees the journal. Returns the numbers of the flows.
    pub(super) fn advance(&mut self, position: u64, process: u32, exporters: &BTreeMap<IpAddr, u32>) -> Vec<u32> {
        let mut flows = FlowBatch::default();
        while let Some(entry) = self.entries.get(self.next).filter(|entry| entry.end <= position) {
            let (index, end) = (self.next, entry.end);
            self.next += 1;
            if entry.gone_for.is_some_and(|since| since <= process) {
                continue;
            }
            self.forget_streams(end, process);
            let entry = &mut self.entries[index];
            self.position = end;
            entry.stored = true;
            let id = |address: IpAddr| exporters.get(&address).copied();
            match &entry.said {
                Said::Stream(stream) => {
                    if let Some(id) = id(stream.source.ip()) {
                        self.decoder.forget_stream(id, stream.source);
                    }
                }
                Said::Datagram { source, stream, payload } => {
                    let exporter_id = id(source.ip()).expect("an exporter without a number was stored");
                    let transport = if *stream { Transport::Stream } else { Transport::Datagrams };
                    let received = entry.received;
                    let sampling = ConfiguredSampling::default();
                    let context = Context { received, exporter_id, source: *source, transport, sampling };
                    let outcome = self.decoder.decode(&context, payload, &mut flows);
                    note(&mut self.books, exporter_id, received, &outcome, 1);
                }
            }
            while let Some(unparked) = self.decoder.unpark(|_| ConfiguredSampling::default(), &mut flows) {
                let (id, received) = (unparked.exporter_id, unparked.received);
                self.books.lose((id, received.hour(), Reason::Parked.name(), Reason::Parked.unit().name()), -1);
                note(&mut self.books, id, received, &unparked.outcome, 0);
            }
        }
        self.forget_streams(position, process);
        self.position = position;
        self.remember();
        numbers(&flows)
    }

    /// Streams end with their process: they are forgotten behind its records.
    fn forget_streams(&mut self, position: u64, process: u32) {
        let begun = self.openings.iter().take(process as usize).skip(self.begun);
        for opening in begun.take_while(|opening| opening.at < position) {
            self.begun += 1;
            if !self.decoder.forget_all_streams().is_empty() {
                self.dead_streams.push((opening.ended, opening.started));
            }
        }
    }

    fn remember(&mut self) {
        self.decoder.take_facts();
        self.decoder.take_unknown();
        let parked = self.decoder.take_parked();
        self.books.parked.extend(parked.added.into_iter().map(|set| (set.parked_id, set)));
        for id in parked.removed {
            self.books.parked.remove(&id);
        }
        for session in self.decoder.take_changes() {
            let key = (
                session.exporter_id,
                session.transport,
                session.source_port,
                session.version,
                session.observation_domain,
            );
            if session.state.is_empty() {
                self.books.sessions.remove(&key);
            } else {
                self.books.sessions.insert(key, (session.templates, session.state));
            }
        }
    }
}

/// Notes what became of a datagram, or, with `datagrams` 0, of a set that had waited.
fn note(books: &mut Books, exporter: u32, received: Timestamp, outcome: &Outcome, datagrams: u64) {
    let hour = received.hour();
    if let Some(version) = outcome.version {
        let (known, flows) = books.activity.entry((exporter, version.code())).or_default();
        *known += datagrams;
        *flows += u64::from(outcome.records);
    }
    for (reason, count) in outcome.counts.iter().filter(|(reason, _)| !reason.kept()) {
        books.lose((exporter, hour, reason.name(), reason.unit().name()), count.into());
    }
    let (unit, (since, until)) = (outcome.lost.unit.name(), outcome.lost.between);
    if outcome.lost.count != 0 {
        books.lose((exporter, until.hour(), "network", unit), outcome.lost.count);
        let mut earlier = since.hour();
        while earlier < until.hour() {
            books.lose((exporter, earlier, "network_later", unit), outcome.lost.count);
            earlier = earlier.plus(HOUR);
        }
    }
}

/// The numbers of flows, in order.
pub(super) fn numbers(flows: &FlowBatch) -> Vec<u32> {
    let column = flows.column(Field::InBytes);
    (0..flows.rows()).map(|row| column.bits(row).map_or(0, |bits| bits as u32)).collect()
}

/// The journal's word for how a record came.
pub(super) const fn transport(stream: bool) -> journal::Transport {
    if stream { journal::Transport::Stream } else { journal::Transport::Datagram }
}
