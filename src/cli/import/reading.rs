//! The first thread: reads files one after the other and collects their flows into pieces.

use super::Kept;
use super::files::{self, Found, Named};
use super::part::{DAMAGES, Part};
use super::piece::Piece;
use super::progress::Progress;
use super::report::{Ended, Report};
use crate::archive::nfdump::{Archive, Failures, Sources, Step};
use crate::archive::{ArchiveError, Flow, Format};
use crate::clock::{HOUR, Timestamp};
use crate::flow::fields::Field;
use crate::ingest::Configured;
use crate::keep;
use crate::store::imports::{ImportFile, ImportStanding, ImportState};
use crate::store::{Database, StoreError};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::runtime::Handle;

/// How far the clocks of collectors may be ahead of ours, in microseconds: one hour. What was received later than that has a
/// wrong time, and would stay for ever.
pub(super) const CLOCKS: i64 = HOUR;
/// The cause of loss that sequence numbers tell.
pub(super) const NETWORK: &str = "network";
/// What nfdump counts: how often a number was not the expected one, and not how much was missing.
const GAPS: &str = "gaps";
/// The most hours of a file to which its gaps are told: a year. It does not tell in which they were.
const HOURS: usize = 24 * 366;
/// So many counts of a file tell gaps by exporter. Further hours of it tell those of all exporters together.
const BY_EXPORTER: usize = 20_000;
/// How large a part of a file is read at once.
const BUFFER: usize = 1 << 18;

/// Why reading cannot go on at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadingError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The other thread has ended, and tells why.
    #[error("flows are no longer stored")]
    Ended,
}

/// Why one file is left.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Nothing can go on.
    #[error(transparent)]
    Fatal(#[from] ReadingError),
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Its head is wrong, or it cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Nobody knows who exported its flows.
    #[error("it does not tell which exporter its flows are from; name it with --exporter ADDRESS")]
    NoExporter,
    /// There are too many exporters.
    #[error(
        "with its exporters there would be more than {0}: raise [ingest] max_exporters if they are all yours, of the server too, \
         and start the import again"
    )]
    Exporters(u32),
    /// None of its flows were sent to the usual ports.
    #[error("nothing was sent to the ports of flow exports, but what looks like it to {0}; name the port with --port")]
    Ports(String),
    /// Its beginning is still on its way into the database, as a file of its own.
    #[error("its beginning was read just now, as a shorter file; start the import again to bring in the rest")]
    Continues,
    /// A part of it may still be on its way into the database, from a file that failed then.
    #[error(
        "its content is that of a file that failed just now; when that one can be brought in, start the import again"
    )]
    Failed,
    /// It is something else.
    #[error("it is neither a file of nfdump nor pcap or pcapng")]
    Unknown,
}

/// What the first thread holds.
pub(super) struct Reading {
    pub(super) database: Database,
    pub(super) runtime: Handle,
    /// How long flows are kept, by the configuration.
    keep: keep::Settings,
    pub(super) kept: Kept,
    pub(super) progress: Arc<Progress>,
    pieces: SyncSender<Piece>,
    pub(super) piece: Piece,
    /// The exporter of flows that tell none.
    pub(super) exporter: Option<IpAddr>,
    /// Ports to which flows are sent in captures; none means the usual ones.
    pub(super) ports: Vec<u16>,
    pub(super) max_exporters: u32,
    pub(super) exporters: HashMap<IpAddr, u32>,
    /// What the configuration says about exporters.
    pub(super) configured: Configured,
    /// Files that were begun, and whether they were read to their end. What was read of them may still have to be stored.
    begun: HashMap<i64, bool>,
    pub(super) report: Report,
}

impl Reading {
    pub(super) fn new(
        database: Database,
        runtime: Handle,
        (keep, kept): (keep::Settings, Kept),
        progress: Arc<Progress>,
        pieces: SyncSender<Piece>,
        flows_at_once: usize,
    ) -> Self {
        Self {
            database,
            runtime,
            keep,
            kept,
            progress,
            pieces,
            piece: Piece::new(flows_at_once),
            exporter: None,
            ports: Vec::new(),
            max_exporters: u32::MAX,
            exporters: HashMap::new(),
            configured: Configured::default(),
            begun: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Reads all files.
    pub(super) fn run(mut self, found: &Found) -> Result<Report, ReadingError> {
        self.exporters = self.runtime.block_on(self.database.exporter_ids())?.into_iter().collect();
        self.report.unfinished = found.unfinished;
        for problem in &found.problems {
            self.problem(problem);
        }
        for named in &found.files {
            match self.file(named) {
                Ok(()) => {}
                Err(FileError::Fatal(error)) => return Err(error),
                Err(error) => self.problem(&format!("{}: {error}", named.path.display())),
            }
        }
        self.hand_over()?;
        Ok(self.report)
    }

    fn problem(&mut self, text: &str) {
        self.report.problems = self.report.problems.saturating_add(1);
        self.progress.say(text);
    }

    fn file(&mut self, named: &Named) -> Result<(), FileError> {
        let size = std::fs::metadata(&named.path)?.len();
        let sizes = self.ask(self.database.import_sizes(size))?;
        let identity = files::identify(&named.path, &sizes)?;
        let Some(format) = identity.format else {
            if named.itself {
                return Err(FileError::Unknown);
            }
            self.report.other = self.report.other.saturating_add(1);
            self.progress.read(size);
            return Ok(());
        };
        let name = std::path::absolute(&named.path).unwrap_or_else(|_| named.path.clone());
        let name = name.to_string_lossy().replace('\0', "");
        let file = ImportFile { hash: identity.hash, port: 0, name: &name, size: identity.size, format: format.name() };
        let ended = match format {
            Format::Nfdump => match self.begin(&named.path, &file, &identity.beginnings, true)? {
                Some(standing) => self.archive(&named.path, file.size, &standing)?,
                None => Ended::Known,
            },
            Format::Capture => self.capture(&named.path, &file, &identity.beginnings)?,
        };
        self.report.ended(ended);
        Ok(())
    }

    /// What the database says.
    fn ask<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, ReadingError> {
        Ok(self.runtime.block_on(question)?)
    }

    /// Where a file stands; `None` when it had been brought in before. With `shows` its progress is shown.
    pub(super) fn begin(
        &mut self,
        path: &Path,
        file: &ImportFile<'_>,
        beginnings: &[[u8; 32]],
        shows: bool,
    ) -> Result<Option<ImportStanding>, FileError> {
        let shorter = self.ask(self.database.longest_import(beginnings, file.port))?;
        if shorter.as_ref().is_some_and(|it| it.state == ImportState::Running && self.begun.contains_key(&it.import_id))
        {
            return Err(FileError::Continues);
        }
        let shorter = shorter.map(|shorter| shorter.import_id);
        let standing = self.ask(self.database.begin_import(file, shorter))?;
        let before = self.begun.get(&standing.import_id);
        let is_known = standing.state != ImportState::Running || before == Some(&true);
        if !is_known && before.is_some() {
            return Err(FileError::Failed);
        }
        if shows {
            self.progress.read(if is_known { file.size } else { standing.position });
        }
        if !is_known {
            if shorter.is_some() && shows {
                let (path, at) = (path.display(), standing.position);
                self.progress
                    .say(&format!("{path}: goes on at byte {at}: up to there it was brought in as a shorter file"));
            }
            self.begun.insert(standing.import_id, false);
            return Ok(Some(standing));
        }
        if let Some(error) = standing.error {
            self.problem(&format!("{}: damaged, as told when it was brought in: {error}", path.display()));
        }
        Ok(None)
    }

    /// Brings in the first `size` bytes, by which the file is known.
    fn archive(&mut self, path: &Path, size: u64, standing: &ImportStanding) -> Result<Ended, FileError> {
        let open = || -> Result<_, FileError> {
            Ok(Archive::open(BufReader::with_capacity(BUFFER, File::open(path)?.take(size)))?)
        };
        // Newer nfcapds write blocks in any order, so who the exporters are may stand behind their flows.
        let (mut sources, mut archive) = (Sources::default(), open()?);
        // What a shorter file told of its gaps is in the database.
        let mut told = Vec::new();
        loop {
            match archive.step()? {
                Step::Block => archive.learn(&mut sources),
                Step::Damaged(_) => {}
                Step::End(_) => break,
            }
            if archive.offset() == standing.begins_at {
                told = sources.failures(archive.head().sequence_failures);
            }
        }
        if self.exporter.is_none() && sources.has_nameless() {
            return Err(FileError::NoExporter);
        }
        let mut failures = sources.failures(archive.sequence_failures()?);
        for failures in &mut failures {
            let before = told.iter().find(|told| told.exporter == failures.exporter).map_or(0, |told| told.count);
            failures.count = failures.count.saturating_sub(before);
        }
        failures.retain(|failures| failures.count > 0);
        sources.begin_again();
        let mut part = Part::new(path, standing);
        let mut archive = open()?;
        loop {
            let step = archive.step()?;
            let end = archive.offset();
            let new = end > standing.position;
            match step {
                Step::Block if !new => archive.learn(&mut sources),
                Step::Block => {
                    let (before, mut failed) = (self.piece.mark(), None);
                    let damage = archive.flows(&mut sources, |flow| {
                        if failed.is_none() {
                            failed = self.flow(&mut part, flow).err();
                        }
                    });
                    if let Some(error) = failed {
                        // The file stands where the block begins, and all of it is still to come.
                        self.piece.go_back(&before);
                        return Err(error);
                    }
                    damage.into_iter().for_each(|damage| part.damaged(damage));
                }
                Step::Damaged(damage) if new => part.damaged(damage),
                Step::Damaged(_) => {}
                Step::End(damage) => {
                    damage.into_iter().for_each(|damage| part.damaged(damage));
                    break;
                }
            }
            if new {
                self.advance(&mut part, end)?;
            }
        }
        self.gaps(&part, &failures)?;
        self.finish(path, part, archive.offset())
    }

    /// Puts a flow of an archive where it belongs.
    fn flow(&mut self, part: &mut Part, flow: &Flow) -> Result<(), FileError> {
        let Some(received) = flow.received else {
            self.report.timeless = self.report.timeless.saturating_add(1);
            part.left_out(1);
            return Ok(());
        };
        if !self.is_kept(part, received, 1) {
            return Ok(());
        }
        // A file with flows of no exporter was left before.
        let Some(address) = flow.exporter.or(self.exporter) else { return Ok(()) };
        let exporter = self.exporter_id(address)?;
        let batch = self.piece.hour(received, 1);
        let row = batch.rows();
        flow.record.append(batch);
        if let Some(slot) = batch.column_mut(Field::Received).time_run(row, 1).first_mut() {
            *slot = received.micros();
        }
        if let Some(slot) = batch.column_mut(Field::ExporterId).u32_run(row, 1).first_mut() {
            *slot = exporter;
        }
        part.took(received, 1);
        Ok(())
    }

    /// Whether flows received at that moment are kept; those that are not are counted.
    pub(super) fn is_kept(&mut self, part: &mut Part, received: Timestamp, flows: u64) -> bool {
        let sum = if received.day() < self.kept.segments_from {
            &mut self.report.old
        } else if received > self.kept.until {
            &mut self.report.future
        } else {
            return true;
        };
        *sum = sum.saturating_add(flows);
        part.left_out(flows);
        false
    }

    /// The number of the exporter at `address`, which is entered when it is new.
    pub(super) fn exporter_id(&mut self, address: IpAddr) -> Result<u32, FileError> {
        if let Some(id) = self.exporters.get(&address) {
            return Ok(*id);
        }
        if self.exporters.len() >= usize::try_from(self.max_exporters).unwrap_or(usize::MAX) {
            return Err(FileError::Exporters(self.max_exporters));
        }
        let id = self.ask(self.database.exporter_id(address))?;
        self.exporters.insert(address, id);
        Ok(id)
    }

    /// Tells how often sequence numbers were not the expected ones, to each hour of the file, as it does not say in which.
    fn gaps(&mut self, part: &Part, failures: &[Failures]) -> Result<(), FileError> {
        let Some((first, last)) = part.bounds else { return Ok(()) };
        let mut counts = Vec::new();
        for gaps in failures {
            let exporter = gaps.exporter.or(self.exporter).map_or(Ok(0), |address| self.exporter_id(address))?;
            counts.push((exporter, i64::try_from(gaps.count).unwrap_or(i64::MAX)));
        }
        for (exporter, hour, count) in by_hour(&counts, first, last) {
            self.piece.lost(exporter, hour, NETWORK, GAPS, count);
        }
        Ok(())
    }

    /// The part of the file goes up to `end`, and a full piece is handed over. As long as nothing of the file is kept there is
    /// nothing to be stored.
    pub(super) fn advance(&mut self, part: &mut Part, end: u64) -> Result<(), ReadingError> {
        if !part.again {
            self.progress.read(end.saturating_sub(part.told));
            part.told = part.told.max(end);
        }
        if !part.kept {
            return Ok(());
        }
        part.write(&mut self.piece, end);
        if self.piece.is_full() {
            part.position = end;
            self.hand_over()?;
        }
        Ok(())
    }

    /// The file is at its end.
    pub(super) fn finish(&mut self, path: &Path, mut part: Part, end: u64) -> Result<Ended, FileError> {
        if !part.again {
            let path = path.display();
            for damage in &part.damages {
                self.progress.say(&format!("{path}: {damage}"));
            }
            if part.damage_count > DAMAGES as u64 {
                self.progress.say(&format!("{path}: {} damages in all", part.damage_count));
            }
        }
        let damaged = part.damaged_before || !part.damages.is_empty();
        self.report.flows = self.report.flows.saturating_add(part.all_flows);
        self.begun.insert(part.import_id, true);
        let left_out = !part.kept && part.all_refused > 0;
        let ended = match (damaged, left_out) {
            (true, _) => Ended::Damaged,
            (false, true) => Ended::LeftOut,
            (false, false) => Ended::Whole,
        };
        if left_out {
            // Nothing of it is stored, and it can be brought in when more is kept.
            let forgotten = self.runtime.block_on(self.database.forget_import(part.import_id));
            return forgotten.map(|()| ended).map_err(|error| FileError::Fatal(error.into()));
        }
        let state = if damaged { ImportState::Damaged } else { ImportState::Done };
        part.write(&mut self.piece, end).state = state;
        if self.piece.is_full() {
            self.hand_over()?;
        }
        Ok(ended)
    }

    fn hand_over(&mut self) -> Result<(), ReadingError> {
        let next = Piece::new(self.piece.limit);
        let piece = std::mem::replace(&mut self.piece, next);
        if piece.steps.is_empty() {
            return Ok(());
        }
        self.pieces.send(piece).map_err(|_| ReadingError::Ended)?;
        // While years of files go in, days become too old.
        self.kept = self.ask(Kept::now(&self.database, self.keep))?;
        Ok(())
    }
}

/// These counts of exporters for each hour from `first` to `last`. Many exporters and many hours are in a file of a few kilobytes.
pub(super) fn by_hour(counts: &[(u32, i64)], first: Timestamp, last: Timestamp) -> Vec<(u32, Timestamp, i64)> {
    let all = [(0, counts.iter().fold(0_i64, |sum, (_, count)| sum.saturating_add(*count)))];
    let told_apart = BY_EXPORTER.checked_div(counts.len()).unwrap_or(HOURS);
    let hours = std::iter::successors(Some(first.hour()), |hour| Some(hour.plus(HOUR)));
    let mut entries = Vec::new();
    for (index, hour) in hours.take_while(|hour| *hour <= last).take(HOURS).enumerate() {
        let counts = if index < told_apart { counts } else { &all };
        entries.extend(counts.iter().map(|(exporter, count)| (*exporter, hour, *count)));
    }
    entries
}
