//! Datagrams to flows: NetFlow v1, v5, v7 and v9 (RFC 3954), IPFIX (RFC 7011) and sFlow version 5, one message a datagram, or,
//! of IPFIX, one after the other in a stream.
//!
//! A [`Decoder`] remembers templates and sequence numbers by session (exporter, source port, version, observation domain)
//! and writes flows straight into the columns of a [`FlowBatch`]. Templates are compiled once into a copy plan (`plan`),
//! carried out by strided loops (`copy`), without allocation per flow.
//!
//! Promises: no bytes make it panic, and no bytes make it remember more than [`Limits`] allow. Each datagram is decoded,
//! or rejected for one [`Reason`]; each record found is stored or counted under a reason; sets whose records cannot be
//! known are counted as sets. One bad set does not cost the good ones. The same datagrams in the same order give the same
//! flows, counts and state, also when the state is saved and restored in between (but for duplicates across a restart).
//!
//! It must not know sockets, files, the database or what time it is.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod application;
mod copy;
mod describe;
mod element_names;
mod elements;
mod facts;
mod ipfix;
mod limits;
mod netflow_fixed;
mod netflow_v9;
mod options;
mod packet;
mod parking;
mod plan;
mod reader;
mod reason;
mod row;
mod sampling;
mod section;
mod sequence;
mod sessions;
mod sets;
mod sflow;
mod split;
mod state;
mod templates;
mod text;
mod times;
mod unknown;

pub use crate::flow::parked::ParkedSet;
pub use describe::{
    FieldDescription, SamplingDescription, SamplingScope, SessionDescription, TemplateDescription, describe,
};
pub use element_names::element_name;
pub use limits::Limits;
pub use parking::{ExpiredSet, ParkedChanges};
pub use reason::{Counts, REASON_COUNT, Reason, Unit};
pub use sets::Unparked;
pub use sflow::exporter_address;
pub use state::SessionState;
pub use unknown::UnknownElement;

use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::flow::facts::Fact;
use facts::Facts;
use parking::Parking;
use row::Row;
use sequence::Change;
use sessions::Sessions;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use templates::FieldSpecifier;
use times::Times;

/// An export protocol and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// NetFlow v1.
    V1,
    /// NetFlow v5.
    V5,
    /// NetFlow v7, of Catalyst switches.
    V7,
    /// NetFlow v9 (RFC 3954).
    V9,
    /// IPFIX (RFC 7011).
    Ipfix,
    /// sFlow version 5 (sflow.org, "sFlow Version 5").
    Sflow,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::V1, Self::V5, Self::V7, Self::V9, Self::Ipfix, Self::Sflow];

    /// What the protocol calls its version: 1, 5, 7, 9, 10, and 5 for sFlow.
    pub const fn number(self) -> u16 {
        match self {
            Self::V1 => 1,
            Self::V5 | Self::Sflow => 5,
            Self::V7 => 7,
            Self::V9 => 9,
            Self::Ipfix => 10,
        }
    }

    /// The number in the database, one for each: the protocol's own, for sFlow with 100 added.
    pub const fn code(self) -> u16 {
        match self {
            Self::Sflow => 105,
            _ => self.number(),
        }
    }

    /// The version with this [`Version::code`].
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.code() == code)
    }

    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "netflow_v1",
            Self::V5 => "netflow_v5",
            Self::V7 => "netflow_v7",
            Self::V9 => "netflow_v9",
            Self::Ipfix => "ipfix",
            Self::Sflow => "sflow_v5",
        }
    }
}

/// How datagrams or messages came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Each by itself: UDP.
    #[default]
    Datagrams,
    /// In order and complete, as long as the connection lasts: TCP or TLS.
    Stream,
}

impl Transport {
    /// The number in the database.
    pub const fn code(self) -> u16 {
        match self {
            Self::Datagrams => 0,
            Self::Stream => 1,
        }
    }

    /// The transport with this [`Transport::code`].
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::Datagrams),
            1 => Some(Self::Stream),
            _ => None,
        }
    }
}

/// Where a datagram came from.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// When it was received.
    pub received: Timestamp,
    /// The exporter, as the catalogue numbers them.
    pub exporter_id: u32,
    /// The address and port it was sent from.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// What the configuration says about the exporter's sampling.
    pub sampling: ConfiguredSampling,
}

/// What the configuration says about sampling: out of how many packets one is looked at. 0 is never given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredSampling {
    /// Whatever the exporter says.
    pub forced: Option<u32>,
    /// When the exporter says nothing.
    pub default: Option<u32>,
}

/// What sequence numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossUnit {
    /// NetFlow v5 and v7. (NetFlow v1 has no sequence numbers.)
    Flows,
    /// NetFlow v9 and sFlow.
    Datagrams,
    /// IPFIX: flow and options records.
    Records,
}

impl LossUnit {
    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Datagrams => "datagrams",
            Self::Records => "records",
        }
    }
}

/// By how much the loss told so far changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What is counted.
    pub unit: LossUnit,
    /// How many more are missing. Negative when what was told to be missing has come late; the sum is never negative.
    pub count: i64,
    /// When the datagrams before and after them came: what is missing was on the way between these moments. What is taken back
    /// has those with which it was told.
    pub between: (Timestamp, Timestamp),
}

impl Loss {
    /// No change.
    pub const fn none(unit: LossUnit) -> Self {
        Self::of(unit, Change { count: 0, between: (Timestamp::from_micros(0), Timestamp::from_micros(0)) })
    }

    const fn of(unit: LossUnit, Change { count, between }: Change) -> Self {
        Self { unit, count, between }
    }
}

/// What became of one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The version, when it has one.
    pub version: Option<Version>,
    /// Why the whole datagram was rejected; nothing of it was stored then.
    pub rejected: Option<Reason>,
    /// Flows added to the batch.
    pub records: u32,
    /// Options records recognised.
    pub options_records: u32,
    /// Definitions of templates taken.
    pub templates: u32,
    /// Sets (v9 and IPFIX) or samples (sFlow) found, rejected ones included: `sets` less the counts in [`Unit::Sets`] that
    /// are not [`Reason::kept`] were read to their end.
    pub sets: u32,
    /// How often each reason occurred, that of the whole datagram included.
    pub counts: Counts,
    /// What the sequence number says. Zero for a rejected datagram.
    pub lost: Loss,
    /// The exporter has restarted: its uptime went back.
    pub restarted: bool,
    /// How many milliseconds the exporter's clock is ahead of the collector's, by the header's export time; `None` where
    /// the protocol has none, or the datagram was rejected.
    pub clock_offset_ms: Option<i64>,
}

impl Outcome {
    fn new(version: Version) -> Self {
        let unit = match version {
            Version::V1 | Version::V5 | Version::V7 => LossUnit::Flows,
            Version::V9 | Version::Sflow => LossUnit::Datagrams,
            Version::Ipfix => LossUnit::Records,
        };
        Self {
            version: Some(version),
            rejected: None,
            records: 0,
            options_records: 0,
            templates: 0,
            sets: 0,
            counts: Counts::default(),
            lost: Loss::none(unit),
            restarted: false,
            clock_offset_ms: None,
        }
    }

    fn rejected(version: Option<Version>, reason: Reason) -> Self {
        let mut outcome = Self { version, rejected: Some(reason), ..Self::new(version.unwrap_or(Version::V9)) };
        outcome.counts.add(reason, 1);
        outcome
    }

    /// Whether something of it could not be read at all: an exporter that sends nothing else is broken, or none.
    fn is_malformed(&self) -> bool {
        const MALFORMED: [Reason; 9] = [
            Reason::TooShort,
            Reason::UnknownVersion,
            Reason::LengthMismatch,
            Reason::CountLie,
            Reason::SetLength,
            Reason::SetOverrun,
            Reason::VarlenOverrun,
            Reason::TemplateInvalid,
            Reason::TemplateZero,
        ];
        MALFORMED.into_iter().any(|reason| self.counts.get(reason) > 0)
    }

    fn count(&mut self, reason: Reason, times: usize) {
        self.counts.add(reason, times);
    }

    /// Counts a set that cannot be read at all.
    fn count_set(&mut self, reason: Reason) {
        self.sets = self.sets.saturating_add(1);
        self.counts.add(reason, 1);
    }
}

/// The version of a datagram, by its first bytes and the length they promise.
///
/// # Errors
/// [`Reason::TooShort`], [`Reason::UnknownVersion`], [`Reason::CountLie`] (v1, v5, v7) or [`Reason::LengthMismatch`]
/// (IPFIX).
pub fn recognise(datagram: &[u8]) -> Result<Version, Reason> {
    classify(datagram).map_err(|(_, reason)| reason)
}

fn classify(datagram: &[u8]) -> Result<Version, (Option<Version>, Reason)> {
    let number = reader::Reader::new(datagram).u16().ok_or((None, Reason::TooShort))?;
    let version = match number {
        0 if sflow::begins(datagram) => Version::Sflow,
        1 => Version::V1,
        5 => Version::V5,
        7 => Version::V7,
        9 => Version::V9,
        10 => Version::Ipfix,
        _ => return Err((None, Reason::UnknownVersion)),
    };
    let checked = match version {
        Version::V1 | Version::V5 | Version::V7 => netflow_fixed::check(version, datagram),
        Version::V9 if datagram.len() < netflow_v9::HEADER => Err(Reason::TooShort),
        Version::V9 => Ok(()),
        Version::Ipfix if datagram.len() < ipfix::HEADER => Err(Reason::TooShort),
        Version::Ipfix => ipfix::check(datagram),
        Version::Sflow => sflow::check(datagram),
    };
    checked.map(|()| version).map_err(|reason| (Some(version), reason))
}

/// Decodes datagrams of all exporters.
#[derive(Debug)]
pub struct Decoder {
    sessions: Sessions,
    /// What exporters told about themselves since it was last asked for.
    facts: Facts,
    /// Fields of the template being read.
    fields: Vec<FieldSpecifier>,
    /// Records without their variable-length fields.
    memory: Vec<u8>,
    times: Times,
    /// Flows that are made of packets; the memory is used again.
    rows: Vec<Row>,
    parking: Parking,
    /// Exporters that send malformed datagrams: how many in a row, and when one is to be looked at again.
    malformed: HashMap<u32, (u32, Timestamp), foldhash::fast::RandomState>,
}

impl Decoder {
    /// A decoder that remembers nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            sessions: Sessions::new(limits),
            facts: Facts::default(),
            fields: Vec::new(),
            memory: Vec::new(),
            times: Times::default(),
            rows: Vec::new(),
            parking: Parking::default(),
            malformed: HashMap::default(),
        }
    }

    /// Decodes one datagram and adds its flows to `batch`.
    pub fn decode(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        if context.transport == Transport::Stream {
            // A template that is passed over never comes again in a stream.
            return self.decode_any(context, datagram, batch);
        }
        let id = context.exporter_id;
        let in_a_row = match self.malformed.get(&id) {
            Some((_, until)) if context.received < *until => {
                return Outcome::rejected(recognise(datagram).ok(), Reason::RateLimited);
            }
            Some((in_a_row, _)) => *in_a_row,
            None => 0,
        };
        let outcome = self.decode_any(context, datagram, batch);
        if outcome.is_malformed() {
            let limits = self.sessions.limits();
            let (in_a_row, pause) = (in_a_row.saturating_add(1), i64::from(limits.malformed_pause_seconds));
            let paused = in_a_row >= limits.malformed_in_a_row;
            // However many there are, no more are remembered than sessions.
            if self.malformed.len() >= limits.sessions && !self.malformed.contains_key(&id) {
                self.malformed.clear();
            }
            let until = if paused { context.received.plus(pause.saturating_mul(SECOND)) } else { context.received };
            self.malformed.insert(id, (in_a_row, until));
        } else if in_a_row > 0 {
            self.malformed.remove(&id);
        }
        outcome
    }

    fn decode_any(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        match classify(datagram) {
            Ok(version @ (Version::V1 | Version::V5 | Version::V7)) => {
                self.decode_fixed(version, context, datagram, batch)
            }
            Ok(Version::V9) => self.decode_v9(context, datagram, batch),
            Ok(Version::Ipfix) => self.decode_ipfix(context, datagram, batch),
            Ok(Version::Sflow) => self.decode_sflow(context, datagram, batch),
            Err((version, reason)) => Outcome::rejected(version, reason),
        }
    }

    /// What exporters, by number, told about themselves since the last call: the latest of each kind, in the order in which
    /// they first did.
    pub fn take_facts(&mut self) -> Vec<(u32, Fact)> {
        self.facts.take()
    }

    /// The elements in records since the last call that no field takes. Must be asked before [`Decoder::take_changes`].
    pub fn take_unknown(&mut self) -> Vec<UnknownElement> {
        unknown::take(&mut self.sessions)
    }

    /// Data sets that began or ended to wait for their template since the last call.
    pub fn take_parked(&mut self) -> ParkedChanges {
        self.parking.take_changes()
    }

    /// Gives up data sets that wait too long by `now`, and returns those given up since the last call. Each was counted
    /// as [`Reason::Parked`] and is [`Reason::NoTemplate`] from now on.
    pub fn take_expired(&mut self, now: Timestamp) -> Vec<ExpiredSet> {
        let limits = self.sessions.limits().clone();
        self.parking.give_up(now, &limits);
        self.parking.take_expired()
    }

    /// Bytes of data sets that wait for their template, at most [`Limits::parked_bytes`].
    pub const fn parked_bytes(&self) -> usize {
        self.parking.bytes()
    }

    /// Bytes of all templates, as [`Limits::template_bytes`] counts them.
    pub const fn template_bytes(&self) -> usize {
        self.sessions.template_bytes()
    }

    /// Takes up data sets that were saved; after [`Decoder::restore`]. Those for which there is no room are told by
    /// [`Decoder::take_expired`].
    pub fn restore_parked(&mut self, sets: Vec<ParkedSet>) {
        let limits = self.sessions.limits().clone();
        for set in sets {
            let slot = set.key().and_then(|key| self.sessions.slot_of(&key));
            // Its template had come, but it was not decoded any more. One of another port releases it when it comes again.
            let template = slot.and_then(|slot| self.sessions.own_template(slot, set.template_id)).cloned();
            self.parking.restore(set, template, &limits);
        }
    }

    /// The sessions changed since the last call, as they are to be saved; one with an empty state is to be deleted.
    pub fn take_changes(&mut self) -> Vec<SessionState> {
        state::take_changes(&mut self.sessions)
    }

    /// Takes up saved sessions. Returns how many could not be taken up: written by a later release, damaged, or beyond
    /// the limits. Their exporters resend templates in time.
    #[expect(clippy::needless_pass_by_value, reason = "states are of no use once taken up")]
    pub fn restore(&mut self, states: Vec<SessionState>) -> usize {
        states.iter().filter(|saved| state::restore(&mut self.sessions, saved).is_none()).count()
    }

    /// A stream from `source` has begun or ended: what an earlier one from there told is forgotten, since templates and
    /// sequence numbers live and die with their connection (RFC 7011, 8.1 and 10.4). To be called for both, because the
    /// end of a connection may have gone unnoticed.
    pub fn forget_stream(&mut self, exporter_id: u32, source: SocketAddr) {
        self.sessions.forget_streams(|key| (key.exporter_id, key.source_port) == (exporter_id, source.port()));
    }

    /// No stream of before lives any more, as after a restart of the collector. Returns whose there were.
    pub fn forget_all_streams(&mut self) -> BTreeSet<u32> {
        self.sessions.forget_streams(|_| true)
    }

    /// Whether any stream is remembered; of one exporter, where one is named.
    pub fn has_streams(&self, of: Option<u32>) -> bool {
        self.sessions.has_streams(|key| of.is_none_or(|exporter| key.exporter_id == exporter))
    }

    /// How many sessions are remembered.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests;
