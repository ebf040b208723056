//! The first stage: reads the journal in order, decodes into columns and cuts pieces of work.
//!
//! A piece ends about once a second, when a segment is full, or when the UTC hour of reception changes, so that all flows
//! of a segment lie in one hour. This stage also releases from the journal what is stored, and tells the database now and
//! then, when nothing comes, that nothing is missing.

mod noting;

use super::exporters::Exporters;
use super::layouts::Layouts;
use super::work::{Ledger, Work};
use super::{IngestError, Shared};
use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::segment::MAX_SEGMENT_FLOWS;
use crate::journal::{self, Chunk, Datagram, DropCause, Dropped, Position, Reader, Record, StreamEvent};
use crate::store::commit::{DecoderState, StoredPosition};
use crate::wire::{Context, Decoder, Limits, Loss, Reason, SessionState, Transport, Unparked};
use crate::wire::{exporter_address, recognise};
use noting::NETWORK;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// A piece counts as full when another ordinary datagram might not fit: half a segment, so that catching up with a backlog
/// takes little memory. Sealing merges them.
const FULL: usize = MAX_SEGMENT_FLOWS / 2 - 256;
/// How long a piece gathers at least.
const GATHER: Duration = Duration::from_millis(100);
/// The longest wait for datagrams, so that stopping and the clock are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the database is told that nothing came.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a datagram may be on its way from the socket into the journal, in microseconds: what was received that shortly
/// before a moment may not be in the journal at that moment.
const ON_THE_WAY: i64 = 200_000;

/// How long a restart may take without being noted, in microseconds: what is stored tells up to some two seconds less than
/// what was received.
pub(super) const SHORT_DOWNTIME: i64 = 5 * SECOND;
/// The reason for refusing an exporter that is one too many.
const EXPORTER_LIMIT: &str = "exporter_limit";

/// What the database holds of a journal, taken up.
pub(super) struct Standing {
    stored: StoredPosition,
    decoder: Decoder,
    exporters: Exporters,
    cut_since: HashMap<u32, Timestamp>,
}

impl Standing {
    /// Takes up what the database holds and lets `reader` go on from there.
    pub(super) fn take_up(shared: &Shared, journal: &str, reader: &mut Reader) -> Result<Self, IngestError> {
        let database = &shared.database;
        let mut stored = database.journal_position(journal, shared.started)?;
        let (saved, parked) = loop {
            let remembered = (database.decoder_state(journal)?, database.parked_sets(journal)?);
            // A transaction that a former process left behind may end just now. What was read is of one moment only if the
            // position has not moved meanwhile.
            let now = database.journal_position(journal, shared.started)?;
            if now == stored {
                break remembered;
            }
            stored = now;
        };
        reader.seek(Position::new(stored.position))?;
        let mut decoder = Decoder::new(Limits::default());
        let refused = decoder.restore(saved.into_iter().map(session).collect());
        if refused > 0 {
            tracing::warn!(
                "{refused} saved decoder states cannot be read; their exporters send templates again in time"
            );
        }
        decoder.restore_parked(parked);
        let exporters = Exporters::load(shared)?;
        let mut cut_since: HashMap<_, _> = database.cut_streams()?.into_iter().collect();
        // These go on, or are told as those of a former process.
        cut_since.retain(|exporter, _| !decoder.has_streams(Some(*exporter)));
        shared.stored.store(stored.position, Ordering::Release);
        Ok(Self { stored, decoder, exporters, cut_since })
    }

    /// The id of the segment that is stored next.
    pub(super) const fn next_segment(&self) -> i64 {
        self.stored.next_segment
    }
}

/// A decoder's state as it was stored.
fn session(stored: DecoderState) -> SessionState {
    let DecoderState { exporter_id, transport, source_port, version, observation_domain, templates, state } = stored;
    SessionState { exporter_id, transport, source_port, version, observation_domain, templates, state }
}

/// What the first stage holds.
pub(super) struct Stage<'a> {
    shared: &'a Shared,
    journal: &'a str,
    reader: &'a mut Reader,
    decoder: Decoder,
    exporters: Exporters,
    layouts: Layouts,
    empty: Receiver<FlowBatch>,
    works: SyncSender<Work>,
    /// Where the piece that is being made begins.
    start: u64,
    flows: FlowBatch,
    /// Whether records of earlier processes may still come.
    catching_up: bool,
    /// Whether the journal had more behind the start than it still has.
    set_back: bool,
    /// Until when earlier processes are known to have recorded.
    recorded_until: Option<Timestamp>,
    /// When streams of exporters were cut that have opened none since.
    cut_since: HashMap<u32, Timestamp>,
    /// Where the records of this process begin in the journal.
    opened_at: Position,
    /// The piece that is being made.
    piece: Option<Piece>,
    /// When the last record was received that tells it.
    last_received: Timestamp,
    /// When a piece was last cut; `None` before the first with flows, which need not wait.
    last_cut: Option<Instant>,
    /// When the database was last told that nothing came.
    heartbeat: Instant,
    /// Up to where the journal was released.
    released: u64,
}

/// The piece that is being made.
struct Piece {
    end: u64,
    hour: Timestamp,
    begun: Instant,
    last_received: Timestamp,
    ledger: Ledger,
}

impl Piece {
    /// A piece of nothing yet, at position `start`, in the hour of `received`, begun now, after `last_received`.
    fn begin(start: u64, received: Timestamp, begun: Instant, last_received: Timestamp) -> Self {
        let (hour, ledger) = (received.hour(), Ledger::default());
        Self { end: start, hour, begun, last_received, ledger }
    }
}

impl<'a> Stage<'a> {
    /// The stage as it goes on from what the database holds. It takes memory for flows from `empty` and hands pieces on to
    /// `works`.
    pub(super) fn new(
        shared: &'a Shared,
        journal: &'a str,
        reader: &'a mut Reader,
        standing: Standing,
        empty: Receiver<FlowBatch>,
        works: SyncSender<Work>,
    ) -> Result<Self, IngestError> {
        let Standing { stored, decoder, exporters, cut_since } = standing;
        let start = stored.position;
        let opened_at = reader.opened_at();
        let set_back = reader.has_released_beyond(Position::new(start));
        let flows = empty.recv().map_err(|_| IngestError::StageEnded { stage: "decode" })?;
        Ok(Self {
            shared,
            journal,
            reader,
            decoder,
            exporters,
            layouts: Layouts::default(),
            empty,
            works,
            start,
            flows,
            catching_up: true,
            set_back,
            recorded_until: stored.complete_until,
            last_received: stored.complete_until.unwrap_or_default(),
            cut_since,
            opened_at,
            piece: None,
            last_cut: None,
            heartbeat: shared.clock.instant(),
            released: start,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) -> Result<(), IngestError> {
        let mut chunk = Chunk::default();
        while self.step(&mut chunk, TICK)? {}
        Ok(())
    }

    /// Reads once, waiting at most `patience` for records, and does what follows from it. Returns whether to go on.
    pub(super) fn step(&mut self, chunk: &mut Chunk, patience: Duration) -> Result<bool, IngestError> {
        let mut piece = self.piece.take();
        let due = piece.as_ref().map_or(patience, |piece| self.due(piece).min(patience));
        let before = self.reader.told_until(self.shared.clock.now());
        if self.shared.abandoned() {
            return Err(IngestError::Abandoned);
        }
        let stopping = self.shared.stopping();
        let read = self.reader.read(chunk, if stopping { Duration::ZERO } else { due })?;
        let started = self.shared.started;
        let mut opening = chunk.opening();
        for (position, record) in chunk.iter() {
            let received = record.received();
            let another_hour = piece.as_ref().is_some_and(|piece| piece.hour != received.hour());
            if (another_hour || self.flows.rows() >= FULL)
                && let Some(piece) = piece.take()
            {
                let until = piece.last_received.min(before);
                self.cut(piece, until.plus(-ON_THE_WAY), !another_hour)?;
            }
            let begin = || Piece::begin(self.start, received, self.shared.clock.instant(), self.last_received);
            let current = piece.get_or_insert_with(begin);
            if std::mem::take(&mut self.set_back) {
                self.note_set_back(&mut current.ledger, received);
            }
            let ours = position > self.opened_at;
            if ours && std::mem::take(&mut self.catching_up) {
                self.note_downtime(&mut current.ledger, started);
                // Otherwise the streams that are remembered are those of this process.
                if self.start < self.opened_at.get() {
                    self.note_dead_streams(&mut current.ledger, started);
                }
            } else if let Some(opening) = opening.take_if(|opening| position > opening.at && !ours) {
                self.note_downtime(&mut current.ledger, opening.begun.unwrap_or(received));
                // Otherwise it may be the same process behind something that is lost, and its streams go on.
                if let Some(begun) = opening.begun {
                    self.note_dead_streams(&mut current.ledger, begun);
                }
            }
            // Nobody knows when what was damaged had come; what lies behind it may be older.
            if !matches!(record, Record::Dropped(Dropped { cause: DropCause::Corrupt { .. }, .. })) {
                current.last_received = received;
                self.last_received = received;
                self.recorded_until = self.recorded_until.max(Some(received));
            }
            current.end = position.get();
            self.record(&record, &mut current.ledger)?;
            self.shared.metrics.read(&record, ours);
        }
        let caught_up = read == 0;
        let earlier = self.start < self.opened_at.get();
        if caught_up
            && earlier
            && std::mem::take(&mut self.catching_up)
            && (self.down_since(started).is_some() || self.decoder.has_streams(None))
        {
            let begin = || Piece::begin(self.start, started, self.shared.clock.instant(), started);
            let current = piece.get_or_insert_with(begin);
            // The end moves, into the gap before this process' records: a batch that moves nothing could not be told from one
            // that was stored before.
            current.end = current.end.saturating_add(1);
            self.note_downtime(&mut current.ledger, started);
            self.note_dead_streams(&mut current.ledger, started);
        }
        if let Some(piece) = piece.take_if(|piece| self.due(piece).is_zero() || (caught_up && stopping)) {
            // What was received shortly before a standstill is read before the standstill is told.
            let until = if caught_up { before } else { piece.last_received.min(before) };
            self.cut(piece, until.plus(-ON_THE_WAY), false)?;
        }
        self.piece = piece;
        let stored = self.shared.stored.load(Ordering::Acquire);
        if stored != self.released {
            self.reader.release(Position::new(stored))?;
            self.released = stored;
        }
        let backlog = self.reader.backlog(Position::new(stored));
        self.shared.metrics.backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        if caught_up && self.piece.is_none() {
            if stopping {
                return Ok(false);
            }
            let now = self.shared.clock.instant();
            if stored == self.start && now.saturating_duration_since(self.heartbeat) >= HEARTBEAT {
                self.heartbeat = now;
                self.still_complete(before.plus(-ON_THE_WAY));
            }
        }
        Ok(true)
    }

    /// How long until a piece is to be cut: about an interval after the one before, and what comes after a rest gathers only
    /// for a moment.
    fn due(&self, piece: &Piece) -> Duration {
        let (now, interval) = (self.shared.clock.instant(), self.shared.settings.commit_interval());
        let after = |moment, time: Duration| time.saturating_sub(now.saturating_duration_since(moment));
        self.last_cut.map_or(Duration::ZERO, |cut| after(cut, interval)).max(after(piece.begun, GATHER.min(interval)))
    }

    fn record(&mut self, record: &Record<'_>, ledger: &mut Ledger) -> Result<(), IngestError> {
        match record {
            Record::Datagram(datagram) => {
                self.datagram(datagram, ledger)?;
                self.unpark(ledger);
            }
            Record::Stream(stream) => {
                // A stream of an unknown exporter makes none: nothing has been recognised yet.
                let exporter = self.exporters.get(stream.source.ip());
                if let Some(exporter) = exporter {
                    self.missed(ledger, stream.received);
                    self.decoder.forget_stream(exporter.id, stream.source);
                }
                let exporter = exporter.map_or(0, |known| known.id);
                match stream.event {
                    StreamEvent::Opened => self.note_reopened(ledger, exporter, stream.received),
                    StreamEvent::Closed => {}
                    StreamEvent::Cut => self.note_cut(ledger, exporter, stream.received),
                }
            }
            Record::Dropped(dropped) => self.note_dropped(dropped, ledger),
        }
        Ok(())
    }

    /// Since when nobody received, if that is worth a note, where a process started to receive at `started`.
    fn down_since(&self, started: Timestamp) -> Option<Timestamp> {
        let down = |until: &Timestamp| started.micros().saturating_sub(until.micros()) >= SHORT_DOWNTIME;
        self.recorded_until.filter(down)
    }

    /// Hands a piece to the next stage.
    fn cut(&mut self, mut piece: Piece, complete_until: Timestamp, full: bool) -> Result<(), IngestError> {
        self.shared.account();
        let gone = |_| IngestError::StageEnded { stage: "pack" };
        for expired in self.decoder.take_expired(piece.last_received) {
            self.waits(&mut piece.ledger, expired.exporter_id, expired.received, -1);
            let (reason, unit) = (Reason::NoTemplate.name(), Reason::NoTemplate.unit().name());
            self.rejected(&mut piece.ledger, expired.exporter_id, expired.received, reason, unit, 1);
        }
        piece.ledger.waited(self.decoder.take_parked());
        self.shared.metrics.parked_bytes.set(i64::try_from(self.decoder.parked_bytes()).unwrap_or(i64::MAX));
        self.missed(&mut piece.ledger, piece.last_received);
        piece.ledger.learned(self.decoder.take_changes());
        // A piece without flows takes an empty stand-in along, so that the pool's batch stays here.
        let flows = if self.flows.rows() > 0 {
            let next = self.empty.recv().map_err(|_| IngestError::StageEnded { stage: "pack" })?;
            std::mem::replace(&mut self.flows, next)
        } else {
            FlowBatch::default()
        };
        let work = Work { start: self.start, end: piece.end, flows, ledger: piece.ledger, complete_until, full };
        self.start = work.end;
        if self.last_cut.is_some() || work.flows.rows() > 0 {
            self.last_cut = Some(self.shared.clock.instant());
        }
        self.works.send(work).map_err(gone)
    }

    fn datagram(&mut self, datagram: &Datagram<'_>, ledger: &mut Ledger) -> Result<(), IngestError> {
        let metrics = &self.shared.metrics;
        let address = exporter_address(datagram.payload, datagram.source.ip());
        let entered = match (recognise(datagram.payload), self.exporters.get(address)) {
            (_, Some(exporter)) => Ok(exporter),
            (Err(reason), None) => Err((reason.name(), reason.unit().name())),
            (Ok(_), None) => self.exporters.enter(self.shared, address)?.ok_or((EXPORTER_LIMIT, "datagrams")),
        };
        // Where the exporter could not be entered, the datagram is read again and counts then.
        metrics.datagrams.inc();
        let exporter = match entered {
            Ok(exporter) => exporter,
            Err((reason, unit)) => {
                self.rejected(ledger, 0, datagram.received, reason, unit, 1);
                return Ok(());
            }
        };
        let context = Context {
            received: datagram.received,
            exporter_id: exporter.id,
            source: datagram.source,
            transport: match datagram.transport {
                journal::Transport::Datagram => Transport::Datagrams,
                journal::Transport::Stream => Transport::Stream,
            },
            sampling: exporter.sampling,
        };
        let outcome = self.decoder.decode(&context, datagram.payload, &mut self.flows);
        if outcome.rejected.is_none() {
            metrics.decoded.inc();
            metrics.flows.inc_by(outcome.records.into());
        }
        if let Some(version) = outcome.version {
            ledger.sent(
                exporter.id,
                version.code(),
                datagram.received,
                outcome.records.into(),
                outcome.clock_offset_ms,
            );
        }
        self.counted(ledger, exporter.id, datagram.received, &outcome);
        if outcome.lost.count != 0 {
            let Loss { unit, count, between } = outcome.lost;
            self.lost_between(ledger, exporter.id, between, NETWORK, unit.name(), count);
        }
        let facts = self.decoder.take_facts().into_iter();
        let untold = facts.map(|(of, fact)| ledger.told(of, datagram.received, fact)).filter(|room| !room).count();
        self.untold(ledger, exporter.id, datagram.received, untold);
        if outcome.restarted {
            tracing::info!("exporter {address} has restarted");
        }
        let changes = outcome.counts.get(Reason::TemplateChanged);
        if let Some(count) = self.layouts.changed(exporter.id, datagram.received, changes) {
            tracing::warn!(
                "exporter {address} changed the layout of templates {count} times within an hour, so that flows may be read \
                 wrongly: give each device that sends from this address an observation domain (source id) of its own"
            );
        }
        Ok(())
    }

    /// Decodes the data sets whose template has come, as many as fit the piece; the others follow the next datagram.
    fn unpark(&mut self, ledger: &mut Ledger) {
        while self.flows.rows() < FULL
            && let Some(unparked) = self.decoder.unpark(|id| self.exporters.sampling(id), &mut self.flows)
        {
            let Unparked { exporter_id, received, outcome } = unparked;
            self.waits(ledger, exporter_id, received, -1);
            if let Some(version) = outcome.version {
                ledger.late(exporter_id, version.code(), outcome.records.into());
            }
            self.shared.metrics.flows.inc_by(outcome.records.into());
            self.counted(ledger, exporter_id, received, &outcome);
        }
    }

    /// Tells the database that everything received before `until` is stored, although nothing came.
    fn still_complete(&self, until: Timestamp) {
        if self.shared.database.still_complete(self.journal, self.start, until) {
            self.shared.completed(until);
        }
    }
}
