//! Every flow of a window, segment by segment, to whoever writes them down.
//!
//! [`Engine::extract`] hands out flows in the days of the window's zone, one after the other, and holds no more than one load
//! of segments that is worked on and one that is on its way. It has no limit of time or rows and takes no turn among queries:
//! it is for a program of its own, not for requests. All is read from one moment of the database, the stamp too.

use super::answer::{Completeness, Counters, Window};
use super::group::{CHUNK, Room, WEIGHT_FIELDS, Weights, is_sampled};
use super::rows::Rows;
use super::scan::{Reader, pick};
use super::window::midnight;
use super::{Engine, QueryError, plan};
use crate::clock::{HOUR, Timestamp};
use crate::filter::{Expression, Selection};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use crate::flow::segment::{Segment, Totals};
use crate::store::snapshot::Snapshot;
use chrono::NaiveDate;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};

/// What every flow has: the columns of an extract in which nothing else occurs.
const ALWAYS: [Field; 2] = [Field::Received, Field::ExporterId];
/// How often the database is told that its snapshot is still needed while the writer is slow.
const KEEP: Duration = Duration::from_secs(30);

/// Which flows, and what of them.
#[derive(Clone, Debug)]
pub struct ExtractRequest {
    /// Those received in the window.
    pub window: Window,
    /// Which flows of the window; `None` means all. It sees counters as exporters sent them.
    pub filter: Option<Expression>,
    /// The fields that are wanted; `None` means all that occur in segments of the window.
    pub fields: Option<Vec<Field>>,
}

/// Flows of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Flows<'a> {
    /// The day they were received, in the window's zone.
    pub day: NaiveDate,
    /// Their columns, and those of other flows.
    pub batch: &'a FlowBatch,
    /// Their rows in `batch`, ascending, at least one.
    pub rows: &'a [usize],
}

/// Takes flows, on a thread that may wait.
pub trait FlowSink: Send + Sized + 'static {
    /// Why flows cannot be taken, or be had.
    type Error: From<QueryError> + Send + 'static;

    /// Takes flows. Their days ascend.
    fn take(&mut self, flows: &Flows<'_>) -> Result<(), Self::Error>;
}

/// What was handed out.
#[derive(Clone, Debug)]
pub struct Extract {
    /// How many records. One may stand for several flows, or for none.
    pub records: u64,
    /// Sums as exported.
    pub totals: Totals,
    /// Sums with bytes and packets of sampled flows multiplied by the sampling interval.
    pub scaled: Totals,
    /// What may be missing. Extracts hold counters as exported, so nothing is estimated.
    pub completeness: Completeness,
}

impl Engine {
    /// Hands all flows that are meant, whether they count by the rules or not, to the sink that `open` makes for the fields,
    /// and gives it back. Dropping the future stops the work at the next segment.
    ///
    /// # Errors
    /// What `open` or the sink says; a window in which nothing can be, a damaged segment, or a database that fails.
    pub async fn extract<S: FlowSink>(
        &self,
        request: &ExtractRequest,
        open: impl FnOnce(&[Field]) -> Result<S, S::Error>,
    ) -> Result<(S, Extract), S::Error> {
        plan::check_window(&request.window)?;
        let mut snapshot = self.database.snapshot_of_flows().await.map_err(QueryError::from)?;
        let completeness = self.completeness_of_flows(&mut snapshot, &request.window).await?;
        // A segment lies in one hour, so one that begins before the window can only begin in the window's first hour.
        let extent = snapshot.extent(request.window.from.hour(), request.window.to).await.map_err(QueryError::from)?;
        let days = extent.map_or_else(Vec::new, |(first, last)| days(&request.window, first, last.plus(HOUR)));
        let fields = match &request.fields {
            Some(fields) => fields.clone(),
            None => occurring(&mut snapshot, &days).await?,
        };
        let worker = Box::new(Worker::new(open(&fields)?, request, &fields));
        let worker = hand_out(&mut snapshot, days, worker).await?;
        let Sums { records, totals, scaled, sampled_flows } = worker.sums;
        let completeness = completeness.of(records, Counters::Raw, sampled_flows);
        Ok((worker.sink, Extract { records, totals, scaled, completeness }))
    }
}

/// A day in the window's zone, and the part of it that lies in the window.
type Day = (NaiveDate, Window);

/// The days of the window of which a part lies in the time from `first` up to but not including `end`, each with that part.
fn days(window: &Window, first: Timestamp, end: Timestamp) -> Vec<Day> {
    let (from, to) = (window.from.max(first), window.to.min(end));
    let mut days = Vec::new();
    let mut day = from.to_utc().with_timezone(&window.zone).date_naive();
    loop {
        let begin = midnight(day, window.zone);
        let Some(next) = day.succ_opt() else { break };
        if begin >= to {
            break;
        }
        let part = Window { from: begin.max(from), to: midnight(next, window.zone).min(to), zone: window.zone };
        // A day that a zone left out has no length.
        if part.from < part.to {
            days.push((day, part));
        }
        day = next;
    }
    days
}

/// The fields that segments of these days have.
async fn occurring(snapshot: &mut Snapshot, days: &[Day]) -> Result<Vec<Field>, QueryError> {
    let mut fields = ALWAYS.to_vec();
    for (_, window) in days {
        fields.extend(snapshot.occurring(window.from, window.to).await?);
    }
    fields.sort_unstable();
    fields.dedup();
    Ok(fields)
}

/// Has the worker take the flows of all days. While it is at one load the next is on its way.
async fn hand_out<S: FlowSink>(
    snapshot: &mut Snapshot,
    days: Vec<Day>,
    worker: Box<Worker<S>>,
) -> Result<Box<Worker<S>>, S::Error> {
    let stop = StopOnDrop(Arc::default());
    let fields = worker.load_fields();
    let mut turn = Turn::Idle(worker);
    for (day, window) in days {
        let headers = snapshot.segments(window.from, window.to).await.map_err(QueryError::from)?;
        for load in plan::loads(&headers, &window, &fields) {
            let segments = snapshot.load(&load.headers, &load.fields).await.map_err(QueryError::from)?;
            let mut worker = turn.end(snapshot).await?;
            let stopped = Arc::clone(&stop.0);
            turn = Turn::Working(spawn_blocking(move || {
                worker.begin(day, window);
                for (header, segment) in load.headers.iter().zip(&segments) {
                    if stopped.load(Ordering::Relaxed) {
                        return Err(QueryError::Cancelled.into());
                    }
                    worker.segment(header.segment_id, segment)?;
                }
                Ok(worker)
            }));
        }
    }
    turn.end(snapshot).await
}

/// Who has the worker.
enum Turn<S: FlowSink> {
    Idle(Box<Worker<S>>),
    Working(JoinHandle<Result<Box<Worker<S>>, S::Error>>),
}

impl<S: FlowSink> Turn<S> {
    /// The worker, when it has done what it was given.
    async fn end(self, snapshot: &mut Snapshot) -> Result<Box<Worker<S>>, S::Error> {
        let mut task = match self {
            Self::Idle(worker) => return Ok(worker),
            Self::Working(task) => task,
        };
        loop {
            match tokio::time::timeout(KEEP, &mut task).await {
                Ok(ended) => return ended.map_err(|error| QueryError::Worker(error.to_string()))?,
                // The writer is slow, such as a pipe into a pager.
                Err(_) => snapshot.keep().await.map_err(QueryError::from)?,
            }
        }
    }
}

/// Stops the thread when the future that waits for it is dropped, or has failed.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Sums {
    records: u64,
    totals: Totals,
    scaled: Totals,
    sampled_flows: u64,
}

/// Decodes segments, selects flows, sums them up and hands them to the sink.
struct Worker<S> {
    sink: S,
    sums: Sums,
    filter: Option<Expression>,
    fields: Vec<Field>,
    day: NaiveDate,
    reader: Reader,
    room: Room,
    picked: Vec<u16>,
    rows: Vec<usize>,
}

impl<S: FlowSink> Worker<S> {
    fn new(sink: S, request: &ExtractRequest, fields: &[Field]) -> Self {
        let fields = [fields, &WEIGHT_FIELDS].concat();
        Self {
            sink,
            sums: Sums::default(),
            reader: Reader::new(request.window, request.filter.clone(), fields.clone()),
            filter: request.filter.clone(),
            fields,
            day: NaiveDate::MIN,
            room: Room::default(),
            picked: Vec::with_capacity(CHUNK),
            rows: Vec::new(),
        }
    }

    fn load_fields(&self) -> Vec<Field> {
        self.reader.load_fields()
    }

    /// What comes belongs to `day`, of which `window` is meant.
    fn begin(&mut self, day: NaiveDate, window: Window) {
        if self.day != day {
            self.day = day;
            self.reader = Reader::new(window, self.filter.clone(), self.fields.clone());
        }
    }

    fn segment(&mut self, segment_id: i64, segment: &Segment) -> Result<(), S::Error> {
        let read = self.reader.read(segment).map_err(|source| QueryError::Columns { segment_id, source })?;
        let Some(read) = read else { return Ok(()) };
        self.rows.clear();
        choose(read.batch, read.selection, &mut self.picked, &mut self.rows, &mut self.sums, &mut self.room);
        if self.rows.is_empty() {
            return Ok(());
        }
        self.sink.take(&Flows { day: self.day, batch: read.batch, rows: &self.rows })
    }
}

/// Adds the selected rows of `batch` to `chosen` and their sums to `sums`.
fn choose(
    batch: &FlowBatch,
    selection: Option<&Selection>,
    picked: &mut Vec<u16>,
    chosen: &mut Vec<usize>,
    sums: &mut Sums,
    room: &mut Room,
) {
    let mut start = 0usize;
    while start < batch.rows() {
        let stretch = start..start.saturating_add(CHUNK).min(batch.rows());
        let rows = match selection {
            None => {
                chosen.extend(stretch.clone());
                Rows::new(&stretch, None)
            }
            Some(selection) => {
                pick(selection, start, picked);
                chosen.extend(picked.iter().map(|offset| start.saturating_add(usize::from(*offset))));
                Rows::new(&stretch, Some(picked))
            }
        };
        start = stretch.end;
        sums.records = sums.records.saturating_add(rows.len() as u64);
        let weights = Weights::of(batch, rows, Counters::Raw, room);
        let raw = weights.totals();
        sums.sampled_flows = sums.sampled_flows.saturating_add(weights.sampled_flows());
        sums.totals.add(&raw);
        let scaled = if is_sampled(batch) { Weights::of(batch, rows, Counters::Scaled, room).totals() } else { raw };
        sums.scaled.add(&scaled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use chrono_tz::Tz;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().into()
    }

    #[test]
    fn days_are_those_of_the_zone_and_together_are_the_window() {
        for (zone, from, to, expected) in [
            ("UTC", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-23 24 h, 2026-11-24 24 h"),
            ("Europe/Berlin", "2026-11-22T23:00:00Z", "2026-11-23T23:00:00Z", "2026-11-23 24 h"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-26T01:00:00Z", "2026-10-25 25 h, 2026-10-26 2 h"),
            ("Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T22:00:00Z", "2026-03-28 1 h, 2026-03-29 23 h"),
            // Clocks skip midnight in Beirut, and Samoa skipped the 30th of December.
            ("Asia/Beirut", "2026-03-28T12:00:00Z", "2026-03-29T21:00:00Z", "2026-03-28 10 h, 2026-03-29 23 h"),
            ("Pacific/Apia", "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z", "2011-12-29 24 h, 2011-12-31 24 h"),
            // The last hour of the day comes twice there.
            ("America/Asuncion", "2024-03-23T12:00:00Z", "2024-03-24T12:00:00Z", "2024-03-23 16 h, 2024-03-24 8 h"),
        ] {
            let zone: Tz = zone.parse().unwrap();
            let window = Window { from: at(from), to: at(to), zone };
            let days = days(&window, Timestamp::from_micros(0), at("2100-01-01T00:00:00Z"));
            let told: Vec<_> = days
                .iter()
                .map(|(day, part)| format!("{day} {} h", (part.to.micros() - part.from.micros()) / HOUR))
                .collect();
            assert_eq!(told.join(", "), expected, "{zone}");
            assert_eq!((days[0].1.from, days[days.len() - 1].1.to), (window.from, window.to));
            assert!(days.windows(2).all(|pair| pair[0].1.to == pair[1].1.from), "{zone}: {days:?}");
        }
    }

    #[test]
    fn days_before_and_after_everything_that_is_stored_are_left_out() {
        let window = Window { from: at("1970-01-01T00:00:00Z"), to: at("9999-12-31T00:00:00Z"), zone: Tz::UTC };
        let days = days(&window, at("2026-11-23T10:00:00Z"), at("2026-11-25T00:00:00Z"));
        let told: Vec<_> = days.iter().map(|(day, part)| format!("{day} from {}", part.from)).collect();
        assert_eq!(
            told,
            ["2026-11-23 from 2026-11-23T10:00:00.000000Z", "2026-11-24 from 2026-11-24T00:00:00.000000Z"]
        );
    }
}
