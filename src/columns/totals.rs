//! Host totals between memory and bytes: the rows of one hour or day as one block.
//!
//! What was packed comes back to the bit, in the order of keys. A block of some thousand hosts is unpacked in less time than the
//! database takes to find one of its rows. Version 1, all numbers little-endian, sections as in segments:
//!
//! ```text
//! u8    version, 1
//! u32   CRC-32C of everything after it
//! parts of at most 65,536 rows, until the end: varint rows, then a section for each of
//!       host, upper and lower 64 bits | exporter_id | direction (0 to 4, in the order of the database's type)
//!       bytes, packets | how much less raw_bytes and raw_packets are | records | how much more flows are
//!       sampled_flows | first_seen, last_seen in microseconds, i64::MIN for none
//! ```

use super::error::Damage;
use super::input::{Input, put_varint};
use super::section::{SectionReader, SectionWriter};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey, TrafficDirection};

const VERSION: u8 = 1;
/// The most rows of a part.
const PART: usize = 65_536;
/// The level of compression: a block is packed once.
const LEVEL: usize = 8;
/// Sections of 64-bit numbers.
const WIDE: usize = 11;

/// Why totals could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The block is of a version that this program does not know.
    #[error("the packed totals have format version {0}, this program reads version 1: upgrade it")]
    Version(u8),
    /// The block is not what was packed.
    #[error("the packed totals are damaged ({0})")]
    Damaged(#[from] Damage),
}

/// Packs rows, which it sorts by their keys.
///
/// # Errors
/// When the compressor refuses; not reachable with what it is handed.
pub fn pack_totals(rows: &mut [(HostTrafficKey, HostTraffic)]) -> Result<Vec<u8>, TotalsError> {
    rows.sort_unstable_by_key(|(key, _)| *key);
    let mut sections = SectionWriter::new(LEVEL);
    let mut out = vec![VERSION, 0, 0, 0, 0];
    for part in rows.chunks(PART) {
        put_varint(&mut out, part.len());
        let wide = |of: fn(&HostTrafficKey, &HostTraffic) -> u64| -> Vec<u64> {
            part.iter().map(|(key, traffic)| of(key, traffic)).collect()
        };
        let exporters: Vec<u32> = part.iter().map(|(key, _)| key.exporter_id).collect();
        let directions: Vec<u8> = part.iter().map(|(key, _)| code(key.direction)).collect();
        sections.write(&mut out, &exporters)?;
        sections.write(&mut out, &directions)?;
        let columns: [fn(&HostTrafficKey, &HostTraffic) -> u64; WIDE] = [
            |key, _| (key.host >> 64) as u64,
            |key, _| key.host as u64,
            |_, sums| sums.bytes,
            |_, sums| sums.packets,
            |_, sums| sums.bytes.wrapping_sub(sums.raw_bytes),
            |_, sums| sums.packets.wrapping_sub(sums.raw_packets),
            |_, sums| sums.records,
            |_, sums| sums.flows.wrapping_sub(sums.records),
            |_, sums| sums.sampled_flows,
            |_, sums| moment(sums.first_seen),
            |_, sums| moment(sums.last_seen),
        ];
        for column in columns {
            sections.write(&mut out, &wide(column))?;
        }
    }
    let sum = out.get(5..).map(crc32c::crc32c).unwrap_or_default().to_le_bytes();
    if let Some(room) = out.get_mut(1..5) {
        room.copy_from_slice(&sum);
    }
    Ok(out)
}

/// Hands the rows of a block to `take`, in the order of their keys.
///
/// # Errors
/// When the block is damaged or newer. Rows may have been handed out before, but none of a block that was changed or cut.
pub fn unpack_totals(block: &[u8], mut take: impl FnMut(HostTrafficKey, HostTraffic)) -> Result<(), TotalsError> {
    let mut input = Input(block);
    let version = input.byte()?;
    if version != VERSION {
        return Err(TotalsError::Version(version));
    }
    if u32::from_le_bytes(input.array()?) != crc32c::crc32c(input.0) {
        return Err(Damage::Checksum.into());
    }
    let mut sections = SectionReader::default();
    while !input.0.is_empty() {
        let rows = input.varint()?;
        if rows == 0 || rows > PART {
            return Err(Damage::Count.into());
        }
        let (mut exporters, mut directions) = (vec![0u32; rows], vec![0u8; rows]);
        sections.read(&mut input, &mut exporters)?;
        sections.read(&mut input, &mut directions)?;
        let mut columns: [Vec<u64>; WIDE] = Default::default();
        for column in &mut columns {
            column.resize(rows, 0);
            sections.read(&mut input, column)?;
        }
        let mut columns = columns.each_ref().map(|column| column.iter().copied());
        for (exporter_id, direction) in exporters.into_iter().zip(directions) {
            let direction = *TrafficDirection::ALL.get(usize::from(direction)).ok_or(Damage::Header)?;
            let [upper, lower, bytes, packets, less_bytes, less_packets, records, more, sampled_flows, first, last] =
                columns.each_mut().map(|column| column.next().unwrap_or_default());
            let host = u128::from(upper) << 64 | u128::from(lower);
            let traffic = HostTraffic {
                bytes,
                packets,
                flows: records.wrapping_add(more),
                records,
                raw_bytes: bytes.wrapping_sub(less_bytes),
                raw_packets: packets.wrapping_sub(less_packets),
                sampled_flows,
                first_seen: known(first),
                last_seen: known(last),
            };
            take(HostTrafficKey { host, exporter_id, direction }, traffic);
        }
    }
    Ok(())
}

fn code(direction: TrafficDirection) -> u8 {
    TrafficDirection::ALL.into_iter().position(|known| known == direction).unwrap_or_default() as u8
}

fn moment(moment: Option<Timestamp>) -> u64 {
    moment.map_or(i64::MIN, Timestamp::micros).cast_unsigned()
}

fn known(moment: u64) -> Option<Timestamp> {
    Some(moment.cast_signed()).filter(|micros| *micros != i64::MIN).map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpacked(block: &[u8]) -> Result<Vec<(HostTrafficKey, HostTraffic)>, TotalsError> {
        let mut rows = Vec::new();
        unpack_totals(block, |key, traffic| rows.push((key, traffic)))?;
        Ok(rows)
    }

    fn row() -> impl Strategy<Value = (HostTrafficKey, HostTraffic)> {
        let key = (any::<u128>(), any::<u32>(), 0..5usize);
        let moment = proptest::option::of(any::<i64>().prop_filter("none", |micros| *micros != i64::MIN));
        (key, any::<[u64; 7]>(), moment.clone(), moment).prop_map(
            |((host, exporter_id, direction), sums, first, last)| {
                let [bytes, packets, flows, records, raw_bytes, raw_packets, sampled_flows] = sums;
                let (first_seen, last_seen) = (first.map(Timestamp::from_micros), last.map(Timestamp::from_micros));
                let traffic = HostTraffic {
                    bytes,
                    packets,
                    flows,
                    records,
                    raw_bytes,
                    raw_packets,
                    sampled_flows,
                    first_seen,
                    last_seen,
                };
                (HostTrafficKey { host, exporter_id, direction: TrafficDirection::ALL[direction] }, traffic)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_was_packed_comes_back_sorted_and_what_was_changed_does_not(
            mut rows in proptest::collection::vec(row(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let block = pack_totals(&mut rows).unwrap();
            prop_assert_eq!(unpacked(&block).unwrap(), rows);
            let mut changed = block.clone();
            changed[at.index(block.len())] ^= 1 << bit;
            prop_assert!(unpacked(&changed).is_err());
            prop_assert!(unpacked(&block[..at.index(block.len())]).is_err());
        }
    }

    #[test]
    fn more_rows_than_a_part_holds_make_several() {
        let direction = TrafficDirection::Download;
        let key = |host| HostTrafficKey { host, exporter_id: 1, direction };
        let mut rows: Vec<_> = (0..150_000u128).map(|host| (key(host), HostTraffic::default())).collect();
        let block = pack_totals(&mut rows).unwrap();
        assert_eq!(unpacked(&block).unwrap(), rows);
        assert!(block.len() < 1 << 19, "{}", block.len());
    }
}
