//! Flows as a busy office's router sends them, made from a seed: what benchmarks measure with.
//!
//! 2,000 local hosts talk to a million remote ones, a few of each to most; two flows in three come from outside, web
//! traffic leads, sizes and durations have long tails, a datagram brings 25 flows, times are milliseconds.

use fastrand::Rng;
use flowledger::clock::{HOUR, SECOND};
use flowledger::flow::batch::{AddressRun, FlowBatch};
use flowledger::flow::fields::Field;
use std::ops::Range;

/// The first address of the 2,000 local hosts, 10.20.0.0.
pub const LOCAL: u32 = 0x0a14_0000;
const REMOTE_HOSTS: usize = 1_000_000;
const FLOWS_A_DATAGRAM: usize = 25;

struct Flow {
    first_seen: i64,
    last_seen: i64,
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    bytes: u64,
    packets: u64,
    flags: u16,
    inbound: bool,
}

/// A number below `end`, small ones far more often.
fn skewed(random: &mut Rng, end: usize) -> usize {
    let uniform = random.f64();
    ((uniform * uniform * uniform) * end as f64) as usize
}

fn remote(host: usize) -> u32 {
    // A multiplication by an odd number spreads the hosts over the address space without giving two the same address.
    0x4000_0000 | (host as u32).wrapping_mul(0x9e37_79b1) >> 2
}

fn flow(random: &mut Rng, received: i64) -> Flow {
    let local = LOCAL + skewed(random, 2_000) as u32;
    let remote = remote(skewed(random, REMOTE_HOSTS));
    let service = [443, 443, 443, 443, 443, 80, 80, 53, 53, 22, 25, 123, 993, 8080][random.usize(..14)];
    let ephemeral = random.u16(32_768..61_000);
    let udp = service == 53 || service == 123 || (service == 443 && random.u8(..3) == 0);
    let packets = (random.f64() * 9.0).exp2().powf(0.2 + random.f64()) as u64 + 1;
    let inbound = random.u8(..3) > 0;
    let size = if inbound { random.u64(200..1_460) } else { random.u64(40..300) };
    let duration = if packets == 1 { 0 } else { (random.f64() * 16.0).exp2() as i64 };
    let last_seen = (received - random.i64(0..15 * SECOND)) / 1_000 * 1_000;
    Flow {
        first_seen: last_seen - duration * 1_000,
        last_seen,
        source: if inbound { remote } else { local },
        destination: if inbound { local } else { remote },
        source_port: if inbound { service } else { ephemeral },
        destination_port: if inbound { ephemeral } else { service },
        protocol: if udp { 17 } else { 6 },
        bytes: packets * size,
        packets,
        flags: if udp { 0 } else { [0x1b, 0x1b, 0x1a, 0x18, 0x02, 0x13][random.usize(..6)] },
        inbound,
    }
}

/// `count` flows of 20 fields, all received in one hour, at a million a second.
pub fn flows(seed: u64, count: usize) -> FlowBatch {
    let start = 1_795_392_000 * SECOND + (seed as i64 * 65_536) % (HOUR / 2);
    flows_between(seed, count, start..start + count as i64)
}

/// `count` flows of 20 fields, received evenly in `time`, in microseconds.
pub fn flows_between(seed: u64, count: usize, time: Range<i64>) -> FlowBatch {
    let mut random = Rng::with_seed(seed);
    let length = i128::from(time.end - time.start);
    let received = |row: usize| {
        let first = row / FLOWS_A_DATAGRAM * FLOWS_A_DATAGRAM;
        time.start + (length * first as i128 / count.max(1) as i128) as i64
    };
    let flows: Vec<Flow> = (0..count).map(|row| flow(&mut random, received(row))).collect();
    let mut batch = FlowBatch::default();
    batch.add_rows(count);
    macro_rules! fill {
        ($($field:ident $run:ident $value:expr;)+) => {$({
            let room = batch.column_mut(Field::$field).$run(0, count);
            let value: fn(&Flow) -> _ = $value;
            room.iter_mut().zip(&flows).for_each(|(room, flow)| *room = value(flow));
        })+};
    }
    fill! {
        ExporterId u32_run |_| 3;
        ObservationDomain u32_run |_| 256;
        FirstSeen time_run |flow| flow.first_seen;
        LastSeen time_run |flow| flow.last_seen;
        SrcPort u16_run |flow| flow.source_port;
        DstPort u16_run |flow| flow.destination_port;
        Protocol u8_run |flow| flow.protocol;
        InBytes u64_run |flow| flow.bytes;
        InPackets u64_run |flow| flow.packets;
        TcpFlags u16_run |flow| flow.flags;
        SrcTos u8_run |flow| if flow.source_port == 22 { 16 } else { 0 };
        InputInterface u32_run |flow| if flow.inbound { 2 } else { 1 };
        OutputInterface u32_run |flow| if flow.inbound { 1 } else { 2 };
        SrcAs u32_run |flow| if flow.inbound { flow.source >> 20 } else { 0 };
        DstAs u32_run |flow| if flow.inbound { 0 } else { flow.destination >> 20 };
        SrcMask u8_run |flow| if flow.inbound { 12 } else { 21 };
        DstMask u8_run |flow| if flow.inbound { 21 } else { 12 };
    }
    let room = batch.column_mut(Field::Received).time_run(0, count);
    room.iter_mut().enumerate().for_each(|(row, room)| *room = received(row));
    for (field, source) in [(Field::SrcIp, true), (Field::DstIp, false)] {
        let AddressRun::V4(room) = batch.column_mut(field).v4_run(0, count) else { continue };
        room.iter_mut().zip(&flows).for_each(|(room, flow)| {
            *room = if source { flow.source } else { flow.destination };
        });
    }
    batch
}
