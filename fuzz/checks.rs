//! What must hold whatever exporters send, checked step by step over a sequence of datagrams.
//!
//! The fuzz targets and the ordinary tests run the same checks: `tests/it/seeds.rs` replays every committed input. They
//! know the decoder by its public names only. An input is
//!
//! - one byte of settings: bit 0 limits so small that they are met all the time;
//! - steps to the end, each: a byte with the action (bits 0 to 2), the exporter (bit 3), its port (bit 4) and whether it
//!   sends in a stream (bit 5); a byte of time that passes before (below 128 seconds, from 128 on (n - 127)^2 seconds);
//!   and where the action needs a datagram its length in two bytes, big-endian, and its bytes, as many as there are.
//!
//! Actions: 0 a datagram as it is, 1 to 4 one whose version and length are first made those of the target, so that changed
//! bytes stay meaningful, 5 what waited is decoded, 6 what waits too long is given up, 7 the state is saved and a decoder
//! taken up from it, which from then on must say the same as the one that goes on.

use flowledger::clock::{DAY, SECOND, Timestamp};
use flowledger::flow::batch::{FlowBatch, Values};
use flowledger::flow::facts::Fact;
use flowledger::flow::fields::Field;
use flowledger::wire::{
    ConfiguredSampling, Context, Decoder, Limits, Outcome, ParkedSet, Reason, SessionState, Transport, Unit,
};
use std::collections::BTreeMap;

/// Whose datagrams the steps of an input are made to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// NetFlow v1, v5 and v7.
    NetflowFixed,
    /// NetFlow v9.
    NetflowV9,
    /// IPFIX.
    Ipfix,
    /// sFlow version 5.
    Sflow,
}

/// When the first step happens: 2026-11-23 00:00:02 UTC, 2 s after the export time of the fixtures.
const BEGIN: i64 = 1_795_392_002 * SECOND;
/// How far after the receive time a flow may end.
const FUTURE: i64 = 300 * SECOND;
/// The longest text about an exporter, in characters.
const TEXT: usize = 255;

fn small_limits() -> Limits {
    Limits {
        sessions: 4,
        sessions_per_exporter: 3,
        session_idle_seconds: 60,
        templates_per_session: 3,
        fields_per_template: 24,
        template_bytes_per_exporter: 5_000,
        template_bytes: 6_000,
        parked_bytes_per_exporter: 2_000,
        parked_bytes: 3_000,
        parked_seconds: 100,
        malformed_in_a_row: 4,
        malformed_pause_seconds: 5,
        records_per_datagram: 20,
        facts: 10,
    }
}

/// Bytes off the front of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A datagram behind its length; a shorter one when the input ends before.
    fn datagram(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let (datagram, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(datagram)
    }
}

impl Target {
    /// Gives the datagram the version and the length of the target's protocol, where it has room for them.
    fn repair(self, datagram: &mut Vec<u8>) {
        match self {
            Self::NetflowFixed => {
                let version = datagram.get(1).copied().filter(|version| [1, 7].contains(version)).unwrap_or(5);
                let (header, record) = match version {
                    1 => (16, 48),
                    5 => (24, 48),
                    _ => (24, 52),
                };
                let records = (datagram.len().saturating_sub(header) / record).min(30);
                datagram.truncate(header + record * records);
                write(datagram, 0, version.into());
                write(datagram, 2, records);
            }
            Self::NetflowV9 => write(datagram, 0, 9),
            Self::Ipfix => {
                let length = datagram.len();
                write(datagram, 0, 10);
                write(datagram, 2, length);
            }
            Self::Sflow => {
                write(datagram, 0, 0);
                write(datagram, 2, 5);
            }
        }
    }
}

fn write(datagram: &mut [u8], at: usize, number: usize) {
    if let Some(bytes) = datagram.get_mut(at..at + 2) {
        bytes.copy_from_slice(&(number as u16).to_be_bytes());
    }
}

/// What the configuration says: nothing about exporter 1, a default for the others.
fn sampling(exporter_id: u32) -> ConfiguredSampling {
    ConfiguredSampling { forced: None, default: (exporter_id > 1).then_some(50) }
}

/// What makes a session, as saved states name it.
type Key = (u32, u16, u16, u16, u32);

/// A decoder, its flows since the last step, and what is saved of it.
struct Collector {
    decoder: Decoder,
    batch: FlowBatch,
    limits: Limits,
    states: BTreeMap<Key, SessionState>,
    parked: BTreeMap<u64, ParkedSet>,
    /// Sets that wait, by what was told about them.
    waiting: i64,
    /// Loss told so far by exporter, transport and version.
    lost: BTreeMap<(u32, u16, u16), i64>,
}

impl Collector {
    fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits.clone()),
            batch: FlowBatch::default(),
            limits,
            states: BTreeMap::new(),
            parked: BTreeMap::new(),
            waiting: 0,
            lost: BTreeMap::new(),
        }
    }

    /// A collector that takes up what `earlier` saved.
    fn taken_up(earlier: &Self, now: Timestamp) -> Self {
        let mut decoder = Decoder::new(earlier.limits.clone());
        assert_eq!(decoder.restore(earlier.states.values().cloned().collect()), 0, "a saved state is refused");
        assert_eq!(decoder.sessions(), earlier.states.len());
        assert!(decoder.take_changes().is_empty(), "what was taken up is saved already");
        decoder.restore_parked(earlier.parked.values().cloned().collect());
        assert_eq!(decoder.parked_bytes(), earlier.decoder.parked_bytes());
        assert!(decoder.take_expired(now).is_empty(), "what waited before has room and time after");
        Self {
            decoder,
            batch: FlowBatch::default(),
            limits: earlier.limits.clone(),
            states: earlier.states.clone(),
            parked: earlier.parked.clone(),
            waiting: earlier.waiting,
            lost: earlier.lost.clone(),
        }
    }

    fn decode(&mut self, context: &Context, datagram: &[u8]) -> Outcome {
        self.batch.clear();
        let outcome = self.decoder.decode(context, datagram, &mut self.batch);
        assert_eq!(self.batch.rows(), outcome.records as usize, "flows stored are not those counted");
        assert!(outcome.records as usize <= self.limits.records_per_datagram);
        self.check_counts(&outcome);
        self.check_flows(context.received, 0);
        if let Some(version) = outcome.version {
            let source = (context.exporter_id, context.transport.code(), version.code());
            let lost = self.lost.entry(source).or_default();
            *lost += outcome.lost.count;
            assert!(*lost >= 0, "more came late than was missing");
        }
        outcome
    }

    /// Everything found is kept or has a reason.
    fn check_counts(&mut self, outcome: &Outcome) {
        let of = |unit: Unit| {
            let refused = outcome.counts.iter().filter(|(reason, _)| reason.unit() == unit && !reason.kept());
            refused.map(|(_, count)| count).sum::<u32>()
        };
        if let Some(reason) = outcome.rejected {
            let all: Vec<_> = outcome.counts.iter().collect();
            assert_eq!(all, [(reason, 1)], "a rejected datagram has one reason");
            assert!(reason.unit() == Unit::Datagrams && !reason.kept());
            let found = [outcome.records, outcome.options_records, outcome.templates, outcome.sets];
            assert_eq!((found, outcome.lost.count), ([0; 4], 0), "a rejected datagram gives nothing");
        } else {
            assert_eq!(of(Unit::Datagrams), 0, "a datagram that is read is not rejected");
            assert!(outcome.version.is_some());
        }
        assert!(of(Unit::Sets) <= outcome.sets, "more sets are refused than found");
        self.waiting += i64::from(outcome.counts.get(Reason::Parked));
    }

    /// The flows from row `first` on lie near the moment when they came.
    fn check_flows(&self, received: Timestamp, first: usize) {
        let moments = |field: Field| {
            let column = self.batch.column(field);
            let Values::Time(values) = column.values() else { panic!("{} is no moment", field.name()) };
            let runs = column.present().runs().iter().cloned().flatten();
            runs.filter(move |row| *row >= first).map(|row| (row, values[row])).collect::<BTreeMap<_, _>>()
        };
        let rows = self.batch.rows() - first;
        let came = moments(Field::Received);
        assert!(came.len() == rows && came.values().all(|moment| *moment == received.micros()));
        let (starts, ends) = (moments(Field::FirstSeen), moments(Field::LastSeen));
        let near = received.micros() - DAY..=received.micros() + FUTURE;
        assert!(starts.values().chain(ends.values()).all(|moment| near.contains(moment)), "a flow far from now");
        for (row, start) in &starts {
            assert!(ends.get(row).is_none_or(|end| start <= end), "a flow ends before it begins");
        }
        for field in [Field::FirstSeen, Field::LastSeen, Field::Received] {
            assert!(self.batch.column(field).present().runs().iter().all(|run| run.end <= self.batch.rows()));
        }
    }

    /// Decodes what waited, as the server does after each datagram.
    fn unpark(&mut self) -> Vec<Outcome> {
        self.batch.clear();
        let mut outcomes = Vec::new();
        loop {
            let first = self.batch.rows();
            let Some(unparked) = self.decoder.unpark(sampling, &mut self.batch) else { break };
            self.waiting -= 1;
            let outcome = unparked.outcome;
            assert_eq!(self.batch.rows() - first, outcome.records as usize);
            assert_eq!((outcome.rejected, outcome.lost.count, outcome.counts.get(Reason::Parked)), (None, 0, 0));
            self.check_flows(unparked.received, first);
            outcomes.push(outcome);
        }
        outcomes
    }

    fn expire(&mut self, now: Timestamp) -> usize {
        let expired = self.decoder.take_expired(now).len();
        self.waiting -= expired as i64;
        expired
    }

    /// Saves what changed, as the server does with each commit.
    fn save(&mut self, now: Timestamp) {
        self.unpark();
        self.expire(now);
        let changes = self.decoder.take_parked();
        for set in changes.added {
            assert!(self.parked.insert(set.parked_id, set).is_none(), "a waiting set is told twice");
        }
        for id in changes.removed {
            assert!(self.parked.remove(&id).is_some(), "a set that nobody was told of waits no longer");
        }
        assert_eq!(self.waiting, self.parked.len() as i64, "what waits is not what was told to wait");
        for unknown in self.decoder.take_unknown() {
            assert!(unknown.records > 0);
        }
        for state in self.decoder.take_changes() {
            let key = (state.exporter_id, state.transport, state.source_port, state.version, state.observation_domain);
            if state.state.is_empty() {
                self.states.remove(&key);
            } else {
                assert!(state.templates as usize <= self.limits.templates_per_session);
                self.states.insert(key, state);
            }
        }
        assert_eq!(self.states.len(), self.decoder.sessions(), "a session is not saved, or not forgotten");
        for exporter in 1..=2 {
            let own = self.states.keys().filter(|key| key.0 == exporter).count();
            assert!(own <= self.limits.sessions_per_exporter);
        }
    }

    fn check_limits(&self) {
        assert!(self.decoder.sessions() <= self.limits.sessions);
        assert!(self.decoder.template_bytes() <= self.limits.template_bytes);
        assert!(self.decoder.parked_bytes() <= self.limits.parked_bytes);
    }

    /// What exporters told about themselves, every text of it harmless.
    fn facts(&mut self) -> Vec<(u32, Fact)> {
        let facts = self.decoder.take_facts();
        for (_, fact) in &facts {
            let texts = match fact {
                Fact::Interface { name, description, .. } | Fact::Application { name, description, .. } => {
                    [name.as_deref(), description.as_deref()]
                }
                Fact::Vrf { name, .. } => [name.as_deref(), None],
                Fact::Counters(_) | Fact::Statistic { .. } => [None, None],
            };
            for text in texts.into_iter().flatten() {
                assert!(!text.is_empty() && text.chars().count() <= TEXT);
                assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
            }
        }
        facts
    }
}

/// Whether both hold the same flows. (Memory of a column that is not in use may differ.)
fn same_flows(one: &FlowBatch, other: &FlowBatch) -> bool {
    one.rows() == other.rows()
        && Field::ALL.into_iter().all(|field| {
            let (one, other) = (one.column(field), other.column(field));
            one.values() == other.values() && one.present() == other.present()
        })
}

/// Carries out the steps of `input`; panics when something does not hold.
pub fn decode(target: Target, input: &[u8]) {
    let mut input = Input(input);
    let limits = if input.byte().unwrap_or(0) & 1 == 0 { Limits::default() } else { small_limits() };
    let mut collector = Collector::new(limits);
    // One that was taken up from the last saved state.
    let mut restarted: Option<Collector> = None;
    let mut now = Timestamp::from_micros(BEGIN);
    while let (Some(what), Some(wait)) = (input.byte(), input.byte()) {
        let wait = i64::from(wait);
        let seconds = if wait < 128 { wait } else { (wait - 127) * (wait - 127) };
        // No two steps happen in the same microsecond, so that "the longest unused" is always one.
        now = now.plus(seconds * SECOND + 1);
        match what & 7 {
            5 => {
                let outcomes = collector.unpark();
                if let Some(other) = &mut restarted {
                    assert_eq!(other.unpark(), outcomes);
                    assert!(same_flows(&other.batch, &collector.batch));
                }
            }
            6 => {
                let expired = collector.expire(now);
                if let Some(other) = &mut restarted {
                    assert_eq!(other.expire(now), expired);
                }
            }
            7 => {
                collector.save(now);
                let facts = collector.facts();
                if let Some(other) = &mut restarted {
                    other.save(now);
                    assert_eq!(other.facts(), facts, "a restart changes what an exporter told");
                    assert_eq!(other.states, collector.states, "a restart changes what is remembered");
                    assert!(other.parked.values().map(waits).eq(collector.parked.values().map(waits)));
                }
                restarted = Some(Collector::taken_up(&collector, now));
            }
            action => {
                let Some(datagram) = input.datagram() else { break };
                let mut datagram = datagram.to_vec();
                if action > 0 {
                    target.repair(&mut datagram);
                }
                let exporter_id = 1 + u32::from(what >> 3 & 1);
                let context = Context {
                    received: now,
                    exporter_id,
                    source: ([192, 0, 2, exporter_id as u8], 9_995 + u16::from(what >> 4 & 1)).into(),
                    transport: if what & 32 == 0 { Transport::Datagrams } else { Transport::Stream },
                    sampling: sampling(exporter_id),
                };
                let outcome = collector.decode(&context, &datagram);
                if let Some(other) = &mut restarted {
                    let again = other.decode(&context, &datagram);
                    // Which datagrams came lately and who is not listened to is not saved.
                    let forgotten = [Reason::Duplicate, Reason::RateLimited].map(Some).contains(&outcome.rejected);
                    if forgotten && again != outcome {
                        restarted = None;
                    } else {
                        assert_eq!(again, outcome, "a restart changes an outcome");
                        assert!(same_flows(&other.batch, &collector.batch), "a restart changes flows");
                    }
                }
            }
        }
        let facts = collector.facts();
        collector.check_limits();
        if let Some(other) = &mut restarted {
            assert_eq!(other.facts(), facts, "a restart changes what an exporter told");
            other.check_limits();
        }
    }
    collector.save(now);
}

/// A waiting set without its number.
fn waits(set: &ParkedSet) -> ParkedSet {
    ParkedSet { parked_id: 0, ..set.clone() }
}
