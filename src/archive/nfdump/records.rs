//! The records of a block: flows, and what must be remembered to read them.

use super::layout_1::Maps;
use super::{layout_1, layout_2};
use crate::archive::Flow;
use crate::archive::bytes::Bytes;
use crate::clock::{DAY, SECOND, Timestamp};
use crate::flow::fields::Field;
use crate::flow::value::address_from_wide;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The most exporters, and the most maps of extensions, that are remembered of a file: their numbers have 16 bits.
const NUMBERS: usize = 65_536;
/// The end of the year 9999. Records have room for later moments, and no clock shows them.
const LATEST: Timestamp = Timestamp::from_micros(253_402_300_800 * SECOND);
/// How far before and after its receive time the packets of a flow may lie, as in `wire::times`.
const AROUND: (i64, i64) = (-DAY, 300 * SECOND);

/// How often a sequence number of an exporter was not the expected one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The exporter, as far as it is known.
    pub exporter: Option<IpAddr>,
    /// How often.
    pub count: u64,
}

/// What a file tells about its exporters, and how its flows are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    exporters: BTreeMap<u16, (IpAddr, u32)>,
    failures: BTreeMap<u32, u64>,
    /// Numbers of exporters of flows that do not tell the address themselves.
    referred: BTreeSet<u16>,
    pub(super) maps: Maps,
}

impl Sources {
    /// Forgets how flows are laid out, before the file is read again from its beginning.
    pub fn begin_again(&mut self) {
        self.maps = Maps::default();
        self.failures.clear();
    }

    /// How often sequence numbers were not the expected ones, by exporter, where they were not. What is more in `all` than of
    /// all exporters together is of nobody.
    pub fn failures(&self, all: u64) -> Vec<Failures> {
        let of = |number: &u32| Some(self.exporters.get(&u16::try_from(*number).ok()?)?.0);
        let told = self.failures.iter().map(|(number, count)| Failures { exporter: of(number), count: *count });
        let mut failures: Vec<_> = told.collect();
        let sum = failures.iter().fold(0u64, |sum, of| sum.saturating_add(of.count));
        failures.push(Failures { exporter: None, count: all.saturating_sub(sum) });
        failures.retain(|of| of.count > 0);
        failures
    }

    /// Whether there are flows whose exporter nothing tells. To be asked when all of the file is learned.
    pub fn has_nameless(&self) -> bool {
        self.referred.iter().any(|number| !self.exporters.contains_key(number))
    }

    /// There is a flow of the exporter of this number, which does not tell its address.
    pub(super) fn refer(&mut self, number: u16) {
        self.referred.insert(number);
    }

    /// Exporter and observation domain of a flow.
    pub(super) fn attribute(&self, number: u16, engine: Option<u32>, flow: &mut Flow) {
        let known = self.exporters.get(&number);
        flow.exporter = flow.exporter.or(known.map(|(address, _)| *address));
        if flow.record.get(Field::ObservationDomain).is_none()
            && let Some(domain) = known.map(|(_, domain)| *domain).or(engine)
        {
            flow.set(Field::ObservationDomain, domain);
        }
    }

    fn exporter(&mut self, mut record: Bytes<'_>) -> Option<()> {
        record.u32()?;
        let mut address = Bytes(record.take(16)?);
        let (family, number, domain) = (record.u16()?, record.u16()?, record.u32()?);
        let address = match family {
            2 => {
                address.take(8)?;
                IpAddr::from(address.u32()?.to_be_bytes())
            }
            10 => address_from_wide(address.wide()?),
            _ => address_from_wide(u128::from_be_bytes(address.take(16)?.try_into().ok()?)),
        };
        if self.exporters.len() < NUMBERS || self.exporters.contains_key(&number) {
            self.exporters.insert(number, (address, domain));
        }
        Some(())
    }

    fn counters(&mut self, mut record: Bytes<'_>) -> Option<()> {
        let count = record.u32()?;
        for _ in 0..count {
            let (number, failures) = (record.u32()?, record.u32()?);
            record.take(16)?;
            if self.failures.len() < NUMBERS || self.failures.contains_key(&number) {
                let sum = self.failures.entry(number).or_default();
                *sum = sum.saturating_add(failures.into());
            }
        }
        Some(())
    }
}

/// Gives the flows of a block of `count` records to `take`, if there is one, and lets `sources` learn from the others.
///
/// # Errors
/// What is damaged. Flows before it were given.
pub(super) fn walk(
    block: &[u8],
    count: u32,
    sources: &mut Sources,
    flow: &mut Flow,
    mut take: Option<&mut impl FnMut(&Flow)>,
) -> Result<(), String> {
    let mut rest = Bytes(block);
    let (mut unread, mut wild) = (0u32, 0u32);
    for record in 0..count {
        let head = rest;
        let (kind, size) = match (rest.u16(), rest.u16()) {
            (Some(kind), Some(size)) => (kind, usize::from(size)),
            _ => return Err(format!("a block ends after {record} of {count} records")),
        };
        rest = head;
        let body = Some(size).filter(|size| *size >= 4).and_then(|size| rest.take(size)).and_then(|all| all.get(4..));
        let Some(body) = body.map(Bytes) else {
            return Err(format!("record {record} of {count} claims {size} bytes, which it cannot have"));
        };
        flow.clear();
        let read = match kind {
            1 | 10 if take.is_some() => layout_1::flow(kind, body, sources, flow).map(|()| true),
            11 if take.is_some() => layout_2::flow(body, sources, flow).map(|()| true),
            1 | 10 => layout_1::learn(kind, body, sources).map(|()| false),
            11 => layout_2::learn(body, sources).map(|()| false),
            2 => sources.maps.learn(body).map(|()| false),
            7 => sources.exporter(body).map(|()| false),
            8 => sources.counters(body).map(|()| false),
            _ => Some(false),
        };
        match (read, &mut take) {
            (Some(true), Some(take)) => {
                received(flow);
                if flow.received.is_some_and(|received| received >= LATEST) {
                    wild = wild.saturating_add(1);
                    continue;
                }
                packets(flow);
                log(flow);
                take(flow);
            }
            (Some(_), _) => {}
            (None, _) => unread = unread.saturating_add(1),
        }
    }
    let told = [(unread, "cannot be read"), (wild, "have a receive time beyond the year 9999 and are left out")];
    let told = told.into_iter().filter(|(records, _)| *records > 0);
    let told: Vec<_> = told.map(|(records, what)| format!("{records} of {count} records of a block {what}")).collect();
    if told.is_empty() { Ok(()) } else { Err(told.join(", ")) }
}

/// Where the collector's time is not told, the moment at which the flow ended stands for it, then that at which it began.
fn received(flow: &mut Flow) {
    let moment = |field| flow.record.get(field).and_then(|bits| i64::try_from(bits).ok()).map(Timestamp::from_micros);
    flow.received = flow.received.or_else(|| moment(Field::LastSeen)).or_else(|| moment(Field::FirstSeen));
}

/// A first or last packet that lies too far from the receive time is of a clock that nobody should believe, and is left out.
fn packets(flow: &mut Flow) {
    let Some(received) = flow.received else { return };
    let plausible = received.plus(AROUND.0)..=received.plus(AROUND.1);
    for field in [Field::FirstSeen, Field::LastSeen] {
        let told = flow.record.get(field).map(|bits| Timestamp::from_micros(i64::try_from(bits).unwrap_or(i64::MAX)));
        if told.is_some_and(|told| !plausible.contains(&told)) {
            flow.record.unset(field);
        }
    }
}

/// What a NAT logs without counting anything is no flow, as everywhere (`wire::plan`).
fn log(flow: &mut Flow) {
    let none = |field| flow.record.get(field).is_none_or(|count| count == 0);
    let logged = flow.record.get(Field::NatEvent).is_some() && flow.record.get(Field::FirewallEvent).is_none();
    if logged && [Field::InBytes, Field::InPackets, Field::OutBytes].into_iter().all(none) {
        flow.set(Field::AggregatedFlows, 0u8);
    }
}

/// A moment of nfdump, in milliseconds; 0 is none. What is too large for one is the largest.
pub(super) fn moment(milliseconds: u64) -> Option<Timestamp> {
    let micros = i64::try_from(milliseconds).unwrap_or(i64::MAX).saturating_mul(SECOND / 1_000);
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

/// Notes when a packet was seen, if any clock can show that.
pub(super) fn time(flow: &mut Flow, field: Field, milliseconds: u64) {
    if let Some(moment) = moment(milliseconds).filter(|moment| *moment < LATEST) {
        flow.set(field, moment.micros().unsigned_abs());
    }
}

/// Notes what a firewall says; a connection counts as one flow, as everywhere (`wire::copy`).
pub(super) fn firewall(flow: &mut Flow, event: u8, extended: u16, connection: u32) {
    flow.set(Field::FirewallEvent, event);
    flow.set(Field::FirewallExtendedEvent, extended);
    flow.set(Field::FlowId, connection);
    flow.set(Field::AggregatedFlows, u8::from(!matches!(event, 1 | 5)));
}

/// Notes the labels of an MPLS stack, each with its class and bottom bit in the lower four bits; 0 is none.
pub(super) fn labels(flow: &mut Flow, mut stack: Bytes<'_>) -> Option<()> {
    for field in [Field::MplsLabel1, Field::MplsLabel2, Field::MplsLabel3] {
        let label = stack.u32()?;
        if label != 0 {
            flow.set(field, label >> 4);
        }
    }
    Some(())
}

/// The sequence failures in the statistics of an appendix: the last of 18 numbers.
pub(super) fn statistics(appendix: &[u8]) -> Option<u64> {
    let mut rest = Bytes(appendix);
    loop {
        let (kind, size) = (rest.u16()?, usize::from(rest.u16()?));
        let mut body = Bytes(rest.take(size.checked_sub(4)?)?);
        if kind == 0x8002 {
            body.take(17 * 8)?;
            return body.u64();
        }
    }
}
