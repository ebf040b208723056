//! Records about a single packet (PSAMP, RFC 5476 and 5477): its first bytes stand in the record as a section.
//!
//! Such a record becomes a flow of one packet with what the bytes tell, read by the walk that sFlow uses. Promises: what
//! an element tells is not overwritten; a section that is cut, or is no packet, leaves the flow with what is known.

use super::copy::fold;
use super::elements::Section;
use super::packet;
use super::plan::{Number, Octets, Plan};
use super::row::{self, Row};
use super::split::Records;
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;

/// How many rows are gathered before they are written, so that memory does not grow with what one set can hold.
const ROWS: usize = 256;
/// An Ethernet header in bytes: what a frame has at least.
const SHORTEST_FRAME: usize = 14;
/// [`packet::read`] knows no protocol of this number.
const NO_PROTOCOL: u32 = 0;

/// How a record tells of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SectionStep {
    /// What the section begins with.
    pub(super) section: Section,
    /// Where it stands.
    pub(super) octets: Octets,
    /// The whole frame in bytes.
    pub(super) frame_length: Option<Number>,
    /// What kind of frame it is.
    pub(super) frame_type: Option<Number>,
    /// How many bytes before the section are left out.
    pub(super) left_out: Option<Number>,
    /// How many bytes of the section count.
    pub(super) exported: Option<Number>,
}

impl SectionStep {
    /// Writes what the packets of `records` tell into rows `first` and on, and returns how many could not be read.
    /// `variable` has the sections of variable length, `received` is the moment of reception in microseconds since 1970.
    pub(super) fn write(
        &self,
        plan: &Plan,
        (records, variable): (&Records<'_>, &[&[u8]]),
        received: i64,
        rows: &mut Vec<Row>,
        (batch, first): (&mut FlowBatch, usize),
    ) -> usize {
        let taken = |field: Field| plan.columns.iter().any(|&(column, _)| column == field);
        let (mut unreadable, mut written) = (0usize, 0usize);
        while written < records.count {
            rows.clear();
            let end = written.saturating_add(ROWS).min(records.count);
            for index in written..end {
                let mut row = Row::default();
                let section = records.octets(self.octets, variable, index);
                let read = self.read(records.get(index), section, &mut row);
                unreadable = unreadable.saturating_add(usize::from(!read));
                rows.push(row);
            }
            row::write(rows, batch, first.saturating_add(written), taken);
            written = end;
        }
        if !taken(Field::InPackets) {
            batch.column_mut(Field::InPackets).u64_run(first, records.count).fill(1);
        }
        // Without a moment of observation it is that of reception, as for sFlow. Beside one moment the other stays unknown:
        // that of reception may lie on its wrong side.
        let moments = [Field::FirstSeen, Field::LastSeen];
        if moments.iter().all(|&field| !batch.column(field).present().contains(first)) {
            for field in moments {
                batch.column_mut(field).time_run(first, records.count).fill(received);
            }
        }
        unreadable
    }

    /// Reads one packet; `false` when it says less than its kind of packet must.
    fn read(&self, record: &[u8], section: &[u8], row: &mut Row) -> bool {
        let number = |at: Option<Number>| {
            let Number { offset, width } = at?;
            record.get(offset..).and_then(|rest| rest.get(..width)).map(fold)
        };
        if number(self.left_out).is_some_and(|left_out| left_out > 0) {
            return false;
        }
        let exported = number(self.exported).and_then(|exported| usize::try_from(exported).ok());
        let section = exported.and_then(|exported| section.get(..exported)).unwrap_or(section);
        let protocol = match (self.section, number(self.frame_type)) {
            (Section::Ip, _) => packet::IPV4,
            (Section::Frame, None | Some(0 | 1)) => packet::ETHERNET,
            (Section::Frame, Some(_)) => NO_PROTOCOL,
        };
        let layer2 = packet::read(protocol, section, row);
        // Of a section that begins with layer 3 it is unknown how much the frame has before it.
        let length = number(self.frame_length).filter(|_| self.section == Section::Frame);
        row.in_bytes = layer2.payload.or(length.map(|length| length.saturating_sub(layer2.bytes as u64)));
        let is_ip = self.section == Section::Ip || matches!(row.ethernet_type, Some(0x0800 | 0x86dd));
        match protocol {
            NO_PROTOCOL => true,
            _ if is_ip => row.dst_ip.is_some(),
            _ => section.len() >= SHORTEST_FRAME,
        }
    }
}
