//! One history: processes that live and die over one disk and one database, step by step, all of it chosen by a seed.

mod settling;
mod weather;

use super::database::{Database, World};
use super::reference::{Entry, Opening, Said, transport};
use super::traffic::{Exporter, Kind};
use crate::clock::{Clock, HOUR, SECOND, SharedClock, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::ingest::commit::Tried;
use crate::ingest::decode::{self, SHORT_DOWNTIME, Standing};
use crate::ingest::work::Work;
use crate::ingest::{Configured, Metrics, Settings, Shared, commit, pack};
use crate::journal::simulated::{self, Hand, SimulatedDisk};
use crate::journal::{self, Chunk, Datagram, DropCause, Dropped, Reader, Record, Stream, StreamEvent, Writer};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Memory for flows, more than pieces can be on their way.
const BATCHES: usize = 48;
/// Compressed pieces that wait for the third stage.
const WAITING: usize = 4;

/// A clock that only moves when it is told, or when somebody waits.
struct HandClock {
    began: Instant,
    micros: AtomicI64,
}

/// Half a minute before an hour and a day end.
const EPOCH: i64 = 20_780 * 24 * HOUR - 30 * SECOND;

impl HandClock {
    fn advance(&self, micros: i64) {
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(EPOCH + self.micros.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_micros(self.micros.load(Ordering::Relaxed) as u64)
    }

    fn sleep(&self, time: Duration) {
        self.advance(time.as_micros() as i64);
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    PowerCut,
    Stopped,
    /// Stopped, with everything well, so that all is stored.
    Last,
}

/// What can happen in this history.
struct Weather {
    disk: bool,
    power_cuts: bool,
    damage: bool,
}

pub(super) struct History {
    random: fastrand::Rng,
    clock: Arc<HandClock>,
    disk: Arc<SimulatedDisk>,
    world: Arc<Mutex<World>>,
    exporters: Vec<Exporter>,
    journal: journal::Settings,
    ingest: Settings,
    rows: bool,
    weather: Weather,
    next_flow: u32,
    /// Everything before this position was said to be on disk.
    flushed: u64,
    /// Datagrams that the journal or the kernel dropped, by cause and hour.
    dropped: BTreeMap<(&'static str, Timestamp), u64>,
    /// Whether some of those were forgotten, as they may be with a process.
    forgotten: bool,
    /// When the last process ended.
    ended: Option<Timestamp>,
    /// When the watch of the journal last looked at the clock.
    seen: Timestamp,
    /// Breaks long enough to be told: since when, and for how many seconds, no process ran.
    breaks: Vec<(Timestamp, i64)>,
    /// Records that were damaged on the disk.
    damaged: Vec<usize>,
    /// Records appended.
    pub(super) records: u64,
}

impl History {
    /// The history of `seed` in an empty directory.
    pub(super) fn new(seed: u64, directory: &Path, world: Arc<Mutex<World>>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let micros = AtomicI64::new(0);
        let kinds = [Kind::V5, Kind::V9, Kind::Ipfix, Kind::Stream, Kind::V9];
        let exporters = (1..=random.u8(2..=5)).map(|number| Exporter::new(number, kinds[usize::from(number) - 1]));
        let exporters = exporters.collect();
        let segment_bytes = random.u64(4..=8) << 10;
        let journal = journal::Settings {
            directory: directory.to_owned(),
            segment_bytes,
            max_bytes: segment_bytes * random.u64(2..=12),
            flush_interval_ms: 20,
        };
        let commit_interval_ms = random.u64(10..=1_500);
        let ingest =
            Settings { commit_interval_ms, max_exporters: 100, stop_seconds: 1, exporters: Configured::default() };
        lock(&world).troubled = random.bool();
        Self {
            clock: Arc::new(HandClock { began: Instant::now(), micros }),
            disk: Arc::new(SimulatedDisk::new(directory.to_owned(), random.u64(..))),
            world,
            exporters,
            journal,
            ingest,
            rows: random.bool(),
            weather: Weather { disk: random.u8(0..3) == 0, power_cuts: random.bool(), damage: random.u8(0..3) == 0 },
            next_flow: 1,
            flushed: 0,
            dropped: BTreeMap::new(),
            forgotten: false,
            ended: None,
            seen: Timestamp::default(),
            breaks: Vec::new(),
            damaged: Vec::new(),
            records: 0,
            random,
        }
    }

    /// Lives it, and checks at the end that all is stored.
    pub(super) fn live(&mut self) {
        for _ in 0..self.random.u32(1..5) {
            let end = match self.random.u8(0..10) {
                0..=4 => End::Killed,
                5..=7 if self.weather.power_cuts => End::PowerCut,
                _ => End::Stopped,
            };
            self.process(end);
        }
        {
            let mut world = self.world();
            (world.troubled, world.away) = (false, 0);
            if world.random.bool() {
                world.end_zombie();
            }
        }
        self.process(End::Last);
        self.settle();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn tell(&self, event: impl FnOnce() -> String) {
        let micros = self.clock.micros.load(Ordering::Relaxed);
        self.world().tell(|| format!("{micros:>10} {}", event()));
    }

    /// One process, from its start to its end.
    fn process(&mut self, end: End) {
        let process = {
            let mut world = self.world();
            world.process += 1;
            world.process
        };
        self.disk.revive();
        let clock: SharedClock = self.clock.clone();
        let (writer, mut reader, hand) =
            simulated::open(self.journal.clone(), Arc::clone(&self.disk), clock.clone()).unwrap();
        let opened = reader.opened_at().get();
        self.tell(|| format!("process {process} begins at {opened} and will be: {end:?}"));
        {
            let mut world = self.world();
            assert!(opened >= world.highest, "position {opened} was used before, up to {}", world.highest);
            let started = reader.opened();
            let left = hand.written();
            world.reference.openings.iter_mut().for_each(|opening| opening.at = opening.at.min(left));
            world.reference.openings.push(Opening { at: left, ended: self.ended.unwrap_or(started), started });
        }
        self.seen = hand.look(reader.opened());
        let database = Database { world: Arc::clone(&self.world), process };
        let shared = shared(self.ingest.clone(), database, clock, reader.opened(), self.rows);
        if let Some(ended) = self.ended {
            let down = shared.started.micros() - ended.micros();
            if down >= SHORT_DOWNTIME {
                self.breaks.push((ended, down / SECOND));
            }
        }
        let mut left = if end == End::Last { 0 } else { self.random.u32(1..160) };
        // A process that is stopped tries for so long to store what is left.
        let mut patience = 300;
        while !self.disk.is_dead() && patience > 0 {
            let Ok(standing) = Standing::take_up(&shared, "the journal", &mut reader) else {
                self.tell(|| "ingest waits for the database".to_owned());
                self.clock.advance(SECOND);
                (left, patience) = (left.saturating_sub(1), patience - 1);
                continue;
            };
            let mut life = Life { shared: &shared, writer: &writer, hand: &hand, end };
            if self.life(&mut life, standing, &mut reader, &mut left, &mut patience) {
                break;
            }
            self.tell(|| "ingest begins anew".to_owned());
            self.clock.advance(SECOND);
        }
        self.forgotten |= hand.has_pending() && !matches!(end, End::Stopped | End::Last);
        match end {
            End::Killed | End::PowerCut => self.disk.kill(),
            End::Stopped | End::Last => {
                let end = self.world().reference.entries.last().map_or(0, |entry| entry.end);
                if hand.close() {
                    self.flushed = end;
                }
                self.forgotten |= hand.has_pending();
            }
        }
        drop((shared, writer, reader, hand));
        self.tell(|| "it is gone".to_owned());
        {
            let mut world = self.world();
            world.asleep = None;
            world.lose_process();
        }
        self.exporters.iter_mut().for_each(|exporter| exporter.connected = false);
        if end == End::PowerCut {
            self.cut_power(process);
        }
        if self.weather.damage && end != End::Last {
            self.damage(process);
        }
        self.ended = Some(self.clock.now());
        self.clock.advance(self.random.i64(1_000..20 * SECOND));
    }

    /// One life of the pipeline. Returns whether the process ends with it.
    fn life(
        &mut self,
        life: &mut Life<'_>,
        standing: Standing,
        reader: &mut Reader,
        left: &mut u32,
        patience: &mut u32,
    ) -> bool {
        let shared = life.shared;
        let (empty_in, empty_out) = sync_channel(BATCHES);
        (0..BATCHES).for_each(|_| empty_in.send(FlowBatch::default()).unwrap());
        let (work_in, work_out) = sync_channel(BATCHES);
        let (packed_in, packed_out) = sync_channel(WAITING);
        let next_segment = standing.next_segment();
        let mut packer = pack::Stage::new(shared, &empty_in);
        let mut committer = commit::Stage::new(shared, "the journal", next_segment, &packed_out, &empty_in);
        let mut decoder =
            Some(decode::Stage::new(shared, "the journal", reader, standing, empty_out, work_in).unwrap());
        let mut works = VecDeque::new();
        let (mut chunk, mut packed, mut failed) = (Chunk::default(), None, false);
        loop {
            if self.disk.is_dead() {
                return true;
            }
            if *left > 0 {
                *left -= 1;
            } else if matches!(life.end, End::Killed | End::PowerCut) {
                return true;
            } else {
                shared.stopping.store(true, Ordering::Release);
                *patience -= 1;
                if *patience == 0 {
                    assert!(life.end != End::Last, "what is left is not stored although all is well");
                    return true;
                }
            }
            let stopping = shared.stopping();
            match self.random.u8(0..100) {
                0..30 if !stopping => self.traffic(life),
                30..38 => self.flush(life.hand),
                38 => life.hand.tell(),
                39 => {
                    self.seen = life.hand.look(self.seen);
                    self.world().asleep = None;
                }
                40..60 => {
                    if let Some(stage) = decoder.as_mut().filter(|_| works.len() < WAITING) {
                        let more = stage.step(&mut chunk, Duration::ZERO);
                        take(&work_out, &mut works);
                        match more {
                            Ok(true) => {}
                            Ok(false) => decoder = None,
                            Err(error) => {
                                let directory = self.journal.directory.display().to_string();
                                self.tell(|| format!("decoding ends: {error}").replace(&directory, "journal"));
                                (decoder, failed) = (None, true);
                            }
                        }
                    }
                }
                60..75 => {
                    if packed.is_none() {
                        packed = works.pop_front().map(|work| packer.step(work).unwrap());
                    }
                    if let Some(piece) = packed.take() {
                        packed = packed_in.try_send(piece).err().map(|error| match error {
                            std::sync::mpsc::TrySendError::Full(piece) => piece,
                            std::sync::mpsc::TrySendError::Disconnected(_) => unreachable!(),
                        });
                    }
                }
                75..90 => match committer.step() {
                    Ok(Tried::Failed(pause)) => self.clock.sleep(pause),
                    Ok(Tried::Stored) => {}
                    Ok(Tried::Nothing) => {
                        if decoder.is_none() && works.is_empty() && packed.is_none() {
                            return !failed;
                        }
                    }
                    Err(error) => {
                        self.tell(|| format!("storing ends: {error}"));
                        return false;
                    }
                },
                90..96 => self.clock.advance(self.random.i64(0..2 * SECOND)),
                96 => {
                    let since = self.clock.now();
                    self.tell(|| "the machine stands still".to_owned());
                    self.world().asleep.get_or_insert(since);
                    self.clock.advance(self.random.i64(5 * SECOND..20 * SECOND));
                }
                97 => self.world().away = self.random.u32(0..8) * u32::from(life.end != End::Last || *left > 0),
                _ => self.disk_changes(life.end),
            }
        }
    }

    /// Some exporter sends something.
    fn traffic(&mut self, life: &Life<'_>) {
        self.clock.advance(self.random.i64(0..50_000));
        let now = self.clock.now();
        let chosen = self.random.usize(0..self.exporters.len());
        let exporter = &mut self.exporters[chosen];
        let (source, stream) = (exporter.source, exporter.kind == Kind::Stream);
        if self.random.u8(0..40) == 0 {
            let count = self.random.u64(1..5);
            *self.dropped.entry(("kernel", now.hour())).or_default() += count;
            let (cause, exporter) = (DropCause::Kernel, None);
            let dropped = Dropped { received: now, listener: 0, cause, exporter, count };
            life.writer.append(&[Record::Dropped(dropped)]).unwrap();
        }
        let mut said: Vec<Said> = Vec::new();
        let turns = stream && (!exporter.connected || self.random.u8(0..10) == 0);
        if turns {
            let opened = !exporter.connected;
            let event = if opened { StreamEvent::Opened } else { StreamEvent::Closed };
            said.push(Said::Stream(Stream { received: now, source, listener: 0, event }));
        } else {
            for _ in 0..self.random.u32(1..6) {
                let sent = exporter.send(&mut self.random, now, &mut self.next_flow);
                let late = sent.is_some().then(|| exporter.late()).flatten();
                let datagrams = sent.into_iter().chain(late);
                said.extend(datagrams.map(|payload| Said::Datagram { source, stream, payload }));
            }
        }
        let records: Vec<Record<'_>> = said.iter().map(|said| record(said, now)).collect();
        let kept = if stream {
            // Streams can wait: what finds no room is not acknowledged, and here the exporter gives up then.
            let kept = life.writer.offer(&records).unwrap();
            match (turns, exporter.connected) {
                (true, false) if kept == 1 => exporter.connect(),
                (false, true) if kept == records.len() => {}
                _ => exporter.connected = false,
            }
            kept
        } else {
            let metrics = life.writer.metrics();
            let before = metrics.dropped.get();
            life.writer.append(&records).unwrap();
            let dropped = metrics.dropped.get() - before;
            *self.dropped.entry(("journal_full", now.hour())).or_default() += dropped;
            records.len() - dropped as usize
        };
        self.records += kept as u64;
        let count = records.len();
        drop(records);
        self.tell(|| format!("traffic: {count} records of {source}, {kept} kept"));
        said.truncate(kept);
        self.enter(said, now, life);
    }

    /// Notes what the journal took as the last of its records.
    fn enter(&mut self, said: Vec<Said>, received: Timestamp, life: &Life<'_>) {
        let lengths: Vec<u64> = said.iter().map(|said| simulated::record_bytes(&record(said, received))).collect();
        let mut begin = life.hand.end() - lengths.iter().sum::<u64>();
        let mut world = self.world();
        for (said, length) in said.into_iter().zip(lengths) {
            let (file, offset) = life.hand.place(begin);
            let all = std::fs::read(&file).unwrap();
            let bytes = all[offset as usize..(offset + length) as usize].to_vec();
            if let Said::Datagram { payload, .. } = &said {
                assert!(bytes.ends_with(payload), "the journal does not hold what it acknowledged");
            }
            let end = begin + length;
            world.reference.entries.push(Entry {
                begin,
                end,
                received,
                said,
                file,
                offset,
                bytes,
                gone_for: None,
                stored: false,
            });
            begin = end;
        }
    }
}

/// What a life of the pipeline has around it.
struct Life<'a> {
    shared: &'a Shared,
    writer: &'a Writer,
    hand: &'a Hand,
    end: End,
}

/// What the stages of a process share that began at `started`.
pub(super) fn shared(
    settings: Settings,
    database: Database,
    clock: SharedClock,
    started: Timestamp,
    rows: bool,
) -> Shared {
    Shared {
        settings,
        author: database.process.into(),
        database: Box::new(database),
        clock,
        metrics: Metrics::default(),
        rows,
        stopping: AtomicBool::new(false),
        abandon: Arc::new(AtomicBool::new(false)),
        broken: AtomicBool::new(false),
        started,
        stored: AtomicU64::new(0),
        tell: Box::new(|_| {}),
        pack_panics: AtomicBool::new(false),
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over what the first stage handed on.
fn take(from: &Receiver<Work>, to: &mut VecDeque<Work>) {
    loop {
        match from.try_recv() {
            Ok(work) => to.push_back(work),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
        }
    }
}

fn record(said: &Said, received: Timestamp) -> Record<'_> {
    match said {
        Said::Datagram { source, stream, payload } => Record::Datagram(Datagram {
            received,
            source: *source,
            listener: 0,
            transport: transport(*stream),
            payload,
        }),
        Said::Stream(stream) => Record::Stream(*stream),
    }
}
