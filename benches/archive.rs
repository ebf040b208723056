//! Not a measurement but what one is made with: weeks of flows as nfcapd leaves them, for `script/bench-ledger`.
//!
//! `cargo bench --bench archive -- FOLDER FLOWS DAYS START [BLOCK]`: writes so many flows, spread evenly over so many UTC days from START
//! (2026-11-02) on, into files of five minutes and blocks of at most BLOCK flows, LZ4 compressed, in directories of a day each. The bytes are those of layout
//! 2, as `src/archive/nfdump` documents them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool for measuring may stop at the first surprise"
)]

#[allow(dead_code, reason = "other benches use the rest of it")]
mod realistic;

use chrono::{DateTime, NaiveDate, Utc};
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::fields::Field;
use std::fs;
use std::path::Path;

/// Seconds of one file.
const FILE: i64 = 300;
/// Flows of one block, if not told: below the megabyte that nfdump's writer fills.
const BLOCK: usize = 8_192;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [folder, flows, days, start, block @ ..] = arguments.as_slice() else {
        // `cargo test --benches` comes by without arguments.
        println!("usage: archive FOLDER FLOWS DAYS START [BLOCK]");
        return;
    };
    let block = block.first().map_or(BLOCK, |block| block.parse().expect("flows of a block"));
    let (flows, days): (usize, i64) = (flows.parse().expect("flows"), days.parse().expect("days"));
    let start: NaiveDate = start.parse().expect("a date such as 2026-11-02");
    let start = start.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp();
    let files = days * 86_400 / FILE;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for file in (0..files).skip(thread).step_by(threads) {
                    let share = |file: i64| (flows as i128 * i128::from(file) / i128::from(files)) as usize;
                    write(Path::new(folder), start + file * FILE, share(file + 1) - share(file), block);
                }
            });
        }
    });
}

/// Writes the file that begins at `start`, in seconds.
fn write(folder: &Path, start: i64, flows: usize, block: usize) {
    let time = start * 1_000_000..(start + FILE) * 1_000_000;
    let flows = realistic::flows_between(start.cast_unsigned(), flows, time);
    let moment: DateTime<Utc> = DateTime::from_timestamp(start, 0).expect("a moment");
    let folder = folder.join(moment.format("%Y/%m/%d").to_string());
    fs::create_dir_all(&folder).expect("a folder");
    let firsts: Vec<usize> = (0..flows.rows()).step_by(block).collect();
    let mut file = Vec::new();
    file.extend(0xa50c_u16.to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(0x0107_0101_u32.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([3, 0, 0, 0]);
    file.extend(1_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend((firsts.len() as u32).to_le_bytes());
    for first in firsts {
        let rows = first..flows.rows().min(first + block);
        let mut records = Vec::new();
        for row in rows.clone() {
            record(&flows, row, &mut records);
        }
        let packed = lz4_flex::block::compress(&records);
        file.extend((rows.len() as u32).to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(3_u16.to_le_bytes());
        file.extend(0_u16.to_le_bytes());
        file.extend(packed);
    }
    fs::write(folder.join(moment.format("nfcapd.%Y%m%d%H%M").to_string()), file).expect("a file");
}

/// One flow, with what nfcapd keeps of a router's template with these fields.
fn record(flows: &FlowBatch, row: usize, out: &mut Vec<u8>) {
    let bits = |field| flows.column(field).bits(row).unwrap_or(0);
    let start = out.len();
    out.extend([11, 0, 0, 0]);
    out.extend([5, 0, 0, 0, 1, 0, 0, 9]);
    let head = |out: &mut Vec<u8>, kind: u16, values: u16| {
        out.extend(kind.to_le_bytes());
        out.extend((values + 4).to_le_bytes());
    };
    head(out, 1, 48);
    for field in [Field::FirstSeen, Field::LastSeen, Field::Received] {
        out.extend(((bits(field) / 1_000) as u64).to_le_bytes());
    }
    out.extend((bits(Field::InPackets) as u64).to_le_bytes());
    out.extend((bits(Field::InBytes) as u64).to_le_bytes());
    out.extend((bits(Field::SrcPort) as u16).to_le_bytes());
    out.extend((bits(Field::DstPort) as u16).to_le_bytes());
    out.extend([bits(Field::Protocol) as u8, bits(Field::TcpFlags) as u8, 0, bits(Field::SrcTos) as u8]);
    head(out, 2, 8);
    out.extend((bits(Field::SrcIp) as u32).to_le_bytes());
    out.extend((bits(Field::DstIp) as u32).to_le_bytes());
    head(out, 4, 16);
    out.extend((bits(Field::InputInterface) as u32).to_le_bytes());
    out.extend((bits(Field::OutputInterface) as u32).to_le_bytes());
    out.extend([bits(Field::SrcMask) as u8, bits(Field::DstMask) as u8, 0, 0, 0, 0, 0, 0]);
    head(out, 7, 8);
    out.extend((bits(Field::SrcAs) as u32).to_le_bytes());
    out.extend((bits(Field::DstAs) as u32).to_le_bytes());
    head(out, 12, 4);
    out.extend(0xc000_0201_u32.to_le_bytes());
    let size = (out.len() - start) as u16;
    out[start + 2..start + 4].copy_from_slice(&size.to_le_bytes());
}
