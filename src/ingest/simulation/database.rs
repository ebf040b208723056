//! The database as a model: what it holds after each transaction is compared with what it should hold.
//!
//! A session may be away, a transaction may be rolled back, its answer may get lost, and one whose session is gone may
//! still end either way later, holding the lock on the journal's position until then, as a server that was not told does.

use super::reference::{Books, Reference, numbers};
use crate::clock::Timestamp;
use crate::columns;
use crate::flow::fields::Field;
use crate::flow::parked::ParkedSet;
use crate::ingest::IngestError;
use crate::ingest::storage::{Loading, Storage};
use crate::store::StoreError;
use crate::store::commit::{Batch, DecoderState, StoredPosition, Turn, position_moved, turn};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything outside the process under test that remembers.
pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) stored: StoredPosition,
    pub(super) books: Books,
    pub(super) exporters: BTreeMap<IpAddr, u32>,
    pub(super) reference: Reference,
    /// Flows that are stored.
    pub(super) flows: u64,
    /// Calls that the database still does not answer.
    pub(super) away: u32,
    /// Whether the database makes trouble of its own accord.
    pub(super) troubled: bool,
    /// The highest position that any batch ended at.
    pub(super) highest: u64,
    /// Since when the machine stands still, or stood without that being noticed yet.
    pub(super) asleep: Option<Timestamp>,
    /// Which process runs.
    pub(super) process: u32,
    pub(super) log: Vec<String>,
    /// Whether the history is written down.
    pub(super) telling: bool,
    days: BTreeSet<Timestamp>,
    segments: BTreeSet<i64>,
    /// Batches whose flows lie in open transactions, with their first segments.
    open: Vec<(Arc<Batch>, i64)>,
    zombie: Option<Zombie>,
}

/// A transaction whose session is gone.
struct Zombie {
    batch: Batch,
    process: u32,
    /// How many calls it outlasts, and whether it is committed then.
    calls: u32,
    commits: bool,
}

/// A session for the process of this number.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) process: u32,
}

fn outage() -> IngestError {
    IngestError::Store(StoreError::Silent { seconds: 0 })
}

impl World {
    pub(super) fn new(seed: u64, telling: bool) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            stored: StoredPosition { position: 0, complete_until: None, next_segment: 1 << 40, author: None },
            books: Books::default(),
            exporters: BTreeMap::new(),
            reference: Reference::new(),
            flows: 0,
            away: 0,
            troubled: false,
            highest: 0,
            asleep: None,
            process: 0,
            log: Vec::new(),
            telling,
            days: BTreeSet::new(),
            segments: BTreeSet::new(),
            open: Vec::new(),
            zombie: None,
        }
    }

    pub(super) fn tell(&mut self, event: impl FnOnce() -> String) {
        if self.telling {
            self.log.push(event());
        }
    }

    /// One call: fails while the database is away.
    fn ask(&mut self) -> Result<(), IngestError> {
        match self.zombie.as_mut().map(|zombie| &mut zombie.calls) {
            Some(0) => self.end_zombie(),
            Some(calls) => *calls -= 1,
            None => {}
        }
        if self.away > 0 {
            self.away -= 1;
            return Err(outage());
        }
        Ok(())
    }

    /// The transaction of a session that is gone ends.
    pub(super) fn end_zombie(&mut self) {
        let Some(zombie) = self.zombie.take() else { return };
        self.tell(|| {
            let (start, end) = (zombie.batch.start, zombie.batch.end);
            format!("database: a lost transaction {start}..{end} ends, committed: {}", zombie.commits)
        });
        if zombie.commits {
            self.apply(&zombie.batch, zombie.process);
        }
    }

    /// The process is gone. A transaction that it was about to commit may be committed, now, later or never.
    pub(super) fn lose_process(&mut self) {
        let open = std::mem::take(&mut self.open);
        if self.zombie.is_some() || self.random.bool() {
            return;
        }
        let in_turn = |(batch, first): &&(Arc<Batch>, i64)| turn(&self.stored, batch, Some(*first)) == Turn::Now;
        if let Some((batch, _)) = open.iter().find(in_turn) {
            self.leave(Batch::clone(batch), self.process);
        }
    }

    fn leave(&mut self, batch: Batch, process: u32) {
        let (calls, commits) = (self.random.u32(0..12), self.random.u8(0..3) > 0);
        self.tell(|| format!("database: transaction {}..{} is left alone for {calls} calls", batch.start, batch.end));
        self.zombie = Some(Zombie { batch, process, calls, commits });
    }

    /// The second half of a transaction.
    fn finish(&mut self, batch: &Batch, first: Option<i64>, process: u32) -> Result<u64, IngestError> {
        self.ask()?;
        if self.zombie.is_some() {
            if self.random.bool() {
                // Waited for the lock for too long.
                return Err(outage());
            }
            self.end_zombie();
        }
        let journal = "the journal";
        match turn(&self.stored, batch, first) {
            Turn::Now => {}
            Turn::Past => return Ok(0),
            Turn::Moved => return Err(IngestError::Store(position_moved(journal, batch, &self.stored))),
        }
        match if self.troubled { self.random.u8(0..12) } else { 9 } {
            0 => {
                self.tell(|| format!("database: {}..{} is rolled back", batch.start, batch.end));
                Err(outage())
            }
            1 => {
                self.tell(|| "database: the next answer is lost".to_owned());
                self.apply(batch, process);
                Err(outage())
            }
            2 => {
                self.leave(batch.clone(), process);
                Err(outage())
            }
            _ => {
                self.apply(batch, process);
                Ok(0)
            }
        }
    }

    /// COMMIT: checks what is stored.
    fn apply(&mut self, batch: &Batch, process: u32) {
        self.tell(|| {
            let (start, end, segments) = (batch.start, batch.end, batch.segments.len());
            format!("database: {start}..{end} is committed with {segments} segments")
        });
        assert!(batch.end > self.stored.position, "the position did not move");
        let mut stored = Vec::new();
        for (at, segment) in (0..).zip(&batch.segments) {
            assert!(self.segments.insert(self.stored.next_segment + at), "a segment's number is used twice");
            let day = segment.received_first.day();
            assert!(batch.rows.is_empty() || self.days.contains(&day), "no partition");
            let rows = segment.rows as usize;
            let (field, block) = segment.columns.iter().find(|(field, _)| *field == Field::InBytes).unwrap();
            let column = columns::decode(*field, block, rows).unwrap();
            stored.extend((0..rows).map(|row| column.bits(row).unwrap() as u32));
        }
        if !batch.rows.is_empty() {
            let rows: Vec<u32> = batch.rows.iter().flat_map(numbers).collect();
            assert_eq!(rows, stored, "rows and segments differ");
        }
        self.flows += stored.len() as u64;
        let expected = self.reference.advance(batch.end, process, &self.exporters);
        assert_eq!(stored, expected, "these flows were stored, and those should have been");

        let books = &mut self.books;
        for saved in &batch.decoder_state {
            let key = (saved.exporter_id, saved.transport, saved.source_port, saved.version, saved.observation_domain);
            if saved.state.is_empty() {
                books.sessions.remove(&key);
            } else {
                books.sessions.insert(key, (saved.templates, saved.state.clone()));
            }
        }
        for set in &batch.parked {
            assert!(books.parked.insert(set.parked_id, set.clone()).is_none(), "a set waits twice");
        }
        for id in &batch.unparked {
            books.parked.remove(id);
        }
        for row in &batch.activity {
            let (datagrams, flows) = books.activity.entry((row.exporter_id, row.version)).or_default();
            (*datagrams, *flows) = (*datagrams + row.datagrams, *flows + row.flows);
        }
        for row in &batch.loss {
            books.lose((row.exporter_id, row.hour, row.cause, row.unit), row.count);
        }
        let (are, should_be) = (self.books.comparable(), self.reference.books.comparable());
        assert!(are == should_be, "the books at {}\nare       {are:?}\nshould be {should_be:?}", batch.end);
        self.stored.position = batch.end;
        self.stored.author = Some(batch.author);
        self.stored.next_segment += batch.segments.len() as i64;
        self.complete(batch.complete_until);
        self.open.retain(|(open, _)| open.start >= batch.end);
    }

    /// Nothing that was received before `until` may be missing.
    fn complete(&mut self, until: Timestamp) {
        let (position, process) = (self.stored.position, self.process);
        let awake = self.asleep.is_none_or(|since| until <= since);
        assert!(awake, "complete until {until}, but the machine stood still since {:?}", self.asleep);
        let missing = self
            .reference
            .entries
            .iter()
            .rev()
            .take_while(|entry| entry.end > position)
            .find(|entry| entry.received < until && entry.gone_for.is_none_or(|since| since > process));
        if let Some(entry) = missing {
            panic!("complete until {until}, but {} was received at {}", entry.end, entry.received);
        }
        self.stored.complete_until = Some(until);
    }
}

impl Database {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Database {
    fn journal_position(&self, _: &str, _: Timestamp) -> Result<StoredPosition, IngestError> {
        let mut world = self.world();
        world.ask().map(|()| world.stored)
    }

    fn decoder_state(&self, _: &str) -> Result<Vec<DecoderState>, IngestError> {
        let mut world = self.world();
        world.ask()?;
        let saved = world.books.sessions.iter().map(|(key, (templates, state))| {
            let &(exporter_id, transport, source_port, version, observation_domain) = key;
            let (templates, state) = (*templates, state.clone());
            DecoderState { exporter_id, transport, source_port, version, observation_domain, templates, state }
        });
        Ok(saved.collect())
    }

    fn cut_streams(&self) -> Result<Vec<(u32, Timestamp)>, IngestError> {
        self.world().ask()?;
        Ok(Vec::new())
    }

    fn parked_sets(&self, _: &str) -> Result<Vec<ParkedSet>, IngestError> {
        let mut world = self.world();
        world.ask()?;
        Ok(world.books.parked.values().cloned().collect())
    }

    fn exporter_ids(&self) -> Result<Vec<(IpAddr, u32)>, IngestError> {
        let mut world = self.world();
        world.ask()?;
        Ok(world.exporters.iter().map(|(address, id)| (*address, *id)).collect())
    }

    fn exporter_id(&self, address: IpAddr) -> Result<u32, IngestError> {
        let mut world = self.world();
        world.ask()?;
        let next = world.exporters.len() as u32 + 1;
        Ok(*world.exporters.entry(address).or_insert(next))
    }

    fn name_exporters(&self, _: &[(u32, &str)]) -> Result<(), IngestError> {
        Ok(())
    }

    fn ensure_rows(&self, day: Timestamp) -> Result<bool, IngestError> {
        let mut world = self.world();
        world.ask()?;
        world.days.insert(day);
        Ok(true)
    }

    fn ensure_open(&self) -> Result<(), IngestError> {
        self.world().ask()
    }

    fn load(&self, first_segment: i64, batch: &Arc<Batch>) -> Box<dyn Loading> {
        let mut world = self.world();
        world.highest = world.highest.max(batch.end);
        let failed = world.ask().is_err();
        if !failed {
            world.open.push((Arc::clone(batch), first_segment));
        }
        Box::new(Loaded { database: self.clone(), first_segment, failed })
    }

    fn commit(&self, journal: &str, batch: &Batch) -> Result<u64, IngestError> {
        let stored = self.journal_position(journal, Timestamp::default())?;
        let first_segment = (stored.position == batch.start).then_some(stored.next_segment);
        self.world().finish(batch, first_segment, self.process)
    }

    fn still_complete(&self, _: &str, position: u64, until: Timestamp) -> bool {
        let mut world = self.world();
        // A transaction that is left alone holds the row.
        if world.ask().is_err() || world.zombie.is_some() || world.stored.position != position {
            return false;
        }
        world.tell(|| format!("database: still complete until {until}"));
        world.complete(until);
        true
    }
}

struct Loaded {
    database: Database,
    first_segment: i64,
    failed: bool,
}

impl Loading for Loaded {
    fn finish(self: Box<Self>, _: &str, batch: &Batch) -> Result<Option<u64>, IngestError> {
        let mut world = self.database.world();
        if self.failed {
            return Err(outage());
        }
        if world.troubled && world.random.u8(0..40) == 0 {
            return Ok(None);
        }
        world.finish(batch, Some(self.first_segment), self.database.process).map(Some)
    }
}
