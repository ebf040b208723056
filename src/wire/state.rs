//! Sessions as bytes, so that a restarted collector decodes at once.
//!
//! Format, version 3, integers little-endian: version `u8`; flags `u8` (1 expected number, 2 start of the exporter, 4 uptime,
//! 8 numbers elsewhere, 16 time in sequence); time of the last datagram `i64`; expected `u32`; start `u64` in ms; uptime `u32` and its receive
//! time `i64`; numbers elsewhere: first and next `u32`, datagrams `u8`; time of the last datagram in sequence `i64`, each only when
//! flagged; holes `u8`, each start, length and age as `u32` and the times of the datagrams before and after it as `i64`; templates `u16`, each id `u16`, kind `u8` (0 data, 1
//! options), scope `u16`, fields `u16`, each enterprise `u32`, id `u16` and length `u16`; then what is known
//! about sampling: of the exporter `u32` (0: nothing), samplers `u16`, each id `u64` and interval `u32`, interfaces `u16`, each
//! index and interval as `u32`. Version 2 knows no times of sequence and holes, version 1 ends before sampling, too. Everything is written by ascending id, so that equal sessions
//! give equal bytes. Reading bytes that are not such a state gives nothing and does no
//! harm: they pass the same limits as templates from the wire.

use super::sampling::{Rates, Scope};
use super::sequence::{Elsewhere, SavedHole, Sequence};
use super::sessions::{Session, SessionKey, Sessions};
use super::templates::{FIRST_TEMPLATE, FieldSpecifier, Template, TemplateKind};
use super::{Transport, Version};
use crate::clock::Timestamp;

const FORMAT: u8 = 3;
/// The format before the times of sequence and holes.
const WITHOUT_TIMES: u8 = 2;
/// The format before sampling was known.
const WITHOUT_SAMPLING: u8 = 1;

/// One session as it is saved. The first five fields are its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The exporter.
    pub exporter_id: u32,
    /// [`Transport::code`] of how its messages come.
    pub transport: u16,
    /// The port it sends from.
    pub source_port: u16,
    /// [`Version::code`] of its protocol.
    pub version: u16,
    /// The observation domain, source id or engine.
    pub observation_domain: u32,
    /// Templates and sequence state. Empty: the session was forgotten and its saved state is to be deleted.
    pub state: Vec<u8>,
    /// How many templates it has.
    pub templates: u32,
}

/// The sessions changed since the last call.
pub(super) fn take_changes(sessions: &mut Sessions) -> Vec<SessionState> {
    let (mut states, mut gone) = (Vec::new(), Vec::new());
    sessions.drain_changes(
        |session| states.push(saved(session.key, encode(session), session.templates().len())),
        |key| gone.push(saved(key, Vec::new(), 0)),
    );
    gone.append(&mut states);
    gone
}

fn saved(key: SessionKey, state: Vec<u8>, templates: usize) -> SessionState {
    SessionState {
        exporter_id: key.exporter_id,
        transport: key.transport.code(),
        source_port: key.source_port,
        version: key.version.code(),
        observation_domain: key.observation_domain,
        state,
        templates: u32::try_from(templates).unwrap_or(u32::MAX),
    }
}

fn encode(session: &Session) -> Vec<u8> {
    let mut out = vec![FORMAT];
    let (expected, elsewhere, holes) = session.sequence.standing();
    let flag = |present: bool, bit: u8| if present { bit } else { 0 };
    out.push(
        flag(expected.is_some(), 1)
            | flag(session.system_init.is_some(), 2)
            | flag(session.uptime.is_some(), 4)
            | flag(elsewhere.is_some(), 8)
            | flag(session.sequence.last().is_some(), 16),
    );
    out.extend(session.used.micros().to_le_bytes());
    out.extend(expected.iter().flat_map(|number| number.to_le_bytes()));
    out.extend(session.system_init.iter().flat_map(|init| init.to_le_bytes()));
    if let Some((uptime, received)) = session.uptime {
        out.extend(uptime.to_le_bytes());
        out.extend(received.micros().to_le_bytes());
    }
    if let Some(stream) = elsewhere {
        out.extend(stream.first.to_le_bytes());
        out.extend(stream.next.to_le_bytes());
        out.push(stream.datagrams);
    }
    out.extend(session.sequence.last().iter().flat_map(|last| last.micros().to_le_bytes()));
    let holes: Vec<_> = holes.take(255).collect();
    out.push(u8::try_from(holes.len()).unwrap_or(u8::MAX));
    for (hole, age) in holes {
        for number in [hole.start, hole.length, age] {
            out.extend(number.to_le_bytes());
        }
        for moment in [hole.between.0, hole.between.1] {
            out.extend(moment.micros().to_le_bytes());
        }
    }
    let mut templates: Vec<_> = session.templates().collect();
    templates.sort_unstable_by_key(|&(id, _)| id);
    out.extend(u16::try_from(templates.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (id, template) in templates {
        out.extend(id.to_le_bytes());
        let (kind, scope) = match template.kind {
            TemplateKind::Data => (0, 0),
            TemplateKind::Options { scope } => (1, scope),
        };
        out.push(kind);
        out.extend(scope.to_le_bytes());
        out.extend(u16::try_from(template.fields.len()).unwrap_or(u16::MAX).to_le_bytes());
        for field in &template.fields {
            out.extend(field.enterprise.to_le_bytes());
            out.extend(field.id.to_le_bytes());
            out.extend(field.length.to_le_bytes());
        }
    }
    let rates = &session.rates;
    out.extend(rates.exporter.unwrap_or(0).to_le_bytes());
    out.extend(u16::try_from(rates.samplers.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (id, interval) in &rates.samplers {
        out.extend(id.to_le_bytes());
        out.extend(interval.to_le_bytes());
    }
    out.extend(u16::try_from(rates.interfaces.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (index, interval) in &rates.interfaces {
        out.extend(index.to_le_bytes());
        out.extend(interval.to_le_bytes());
    }
    out
}

/// What the bytes of a saved session say.
#[derive(Debug)]
pub(super) struct Saved {
    used: Timestamp,
    expected: Option<u32>,
    system_init: Option<u64>,
    uptime: Option<(u32, Timestamp)>,
    elsewhere: Option<Elsewhere>,
    last: Option<Timestamp>,
    holes: Vec<SavedHole>,
    pub(super) templates: Vec<SavedTemplate>,
    pub(super) rates: Rates,
}

/// A template as it was saved.
#[derive(Debug)]
pub(super) struct SavedTemplate {
    pub(super) id: u16,
    pub(super) kind: TemplateKind,
    pub(super) fields: Vec<FieldSpecifier>,
}

/// Reads the bytes of a session; `None` when they are not such bytes, or a template has more than `fields_limit` fields.
pub(super) fn parse(state: &[u8], fields_limit: usize) -> Option<Saved> {
    let mut bytes = Bytes(state);
    let [format, flags] = bytes.take()?;
    if !matches!(format, FORMAT | WITHOUT_TIMES | WITHOUT_SAMPLING) {
        return None;
    }
    let used = bytes.moment()?;
    let expected = if flags & 1 != 0 { Some(bytes.u32()?) } else { None };
    let system_init = if flags & 2 != 0 { Some(u64::from_le_bytes(bytes.take()?)) } else { None };
    let uptime = if flags & 4 != 0 { Some((bytes.u32()?, bytes.moment()?)) } else { None };
    let elsewhere = if flags & 8 != 0 {
        let (first, next, [datagrams]) = (bytes.u32()?, bytes.u32()?, bytes.take()?);
        Some(Elsewhere { first, next, datagrams })
    } else {
        None
    };
    let timed = format == FORMAT;
    let last = match flags & 16 {
        0 if timed => None,
        0 => Some(used),
        _ => Some(bytes.moment()?),
    };
    let [count] = bytes.take()?;
    let mut hole = |_| {
        let (start, length, age) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let between = if timed { (bytes.moment()?, bytes.moment()?) } else { (used, used) };
        Some(SavedHole { start, length, age, between })
    };
    let holes = (0..count).map(&mut hole).collect::<Option<_>>()?;
    let count = bytes.u16()?;
    let templates = (0..count).map(|_| parse_template(&mut bytes, fields_limit)).collect::<Option<_>>()?;
    let rates = if format != WITHOUT_SAMPLING { parse_rates(&mut bytes)? } else { Rates::default() };
    Some(Saved { used, expected, system_init, uptime, elsewhere, last, holes, templates, rates })
}

fn parse_rates(bytes: &mut Bytes<'_>) -> Option<Rates> {
    let mut rates = Rates::default();
    rates.note(Scope::Exporter, bytes.u32()?);
    for _ in 0..bytes.u16()? {
        let id = u64::from_le_bytes(bytes.take()?);
        rates.note(Scope::Sampler(id), bytes.u32()?);
    }
    for _ in 0..bytes.u16()? {
        let index = bytes.u32()?;
        rates.note(Scope::Interface(index), bytes.u32()?);
    }
    Some(rates)
}

fn parse_template(bytes: &mut Bytes<'_>, fields_limit: usize) -> Option<SavedTemplate> {
    let id = bytes.u16()?;
    let [kind] = bytes.take()?;
    let scope = bytes.u16()?;
    let count = bytes.u16()?;
    if id < FIRST_TEMPLATE || usize::from(count) > fields_limit {
        return None;
    }
    let fields = (0..count)
        .map(|_| Some(FieldSpecifier { enterprise: bytes.u32()?, id: bytes.u16()?, length: bytes.u16()? }))
        .collect::<Option<_>>()?;
    let kind = if kind == 0 { TemplateKind::Data } else { TemplateKind::Options { scope } };
    Some(SavedTemplate { id, kind, fields })
}

/// Takes up a saved session; `None` when its bytes cannot be read or there is no room for it.
pub(super) fn restore(sessions: &mut Sessions, saved: &SessionState) -> Option<()> {
    let parsed = parse(&saved.state, sessions.limits().fields_per_template)?;
    let template = |saved: SavedTemplate| {
        let template = Template::new(saved.kind, &saved.fields);
        // A template without bytes never came from the wire.
        (template.plan.shortest() > 0).then_some((saved.id, template))
    };
    let templates: Vec<_> = parsed.templates.into_iter().map(template).collect::<Option<_>>()?;
    let key = SessionKey {
        exporter_id: saved.exporter_id,
        transport: Transport::from_code(saved.transport)?,
        source_port: saved.source_port,
        version: Version::from_code(saved.version)?,
        observation_domain: saved.observation_domain,
    };
    let slot = sessions.open(key, parsed.used)?;
    let session = sessions.get_mut(slot)?;
    session.sequence = Sequence::standing_at(parsed.expected, parsed.elsewhere, parsed.last, parsed.holes.into_iter());
    session.uptime = parsed.uptime;
    sessions.note_told(slot, parsed.rates, parsed.system_init);
    for (id, template) in templates {
        sessions.define(slot, id, template);
    }
    sessions.mark_saved(slot);
    Some(())
}

/// Little-endian numbers off the front of a slice.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.take().map(|bytes| Timestamp::from_micros(i64::from_le_bytes(bytes)))
    }
}
