//! Packets of our own in a capture file, for exporters that read one.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The local hosts of the capture.
pub const LOCAL_NETWORK: &str = "192.168.10.0/24";

/// Writes about `packets` packets of TCP, UDP and ICMP between 15 local hosts and 120 remote ones, the same for the same
/// seed, over the last ten minutes.
pub fn write(path: &Path, packets: u32, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    // The classic format: magic, version 2.4, zone, accuracy, longest packet, Ethernet.
    for word in [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1] {
        file.write_all(&word.to_le_bytes()).unwrap();
    }
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 - 600_000_000;
    for index in 0..packets {
        let local = random.u8(1..=15);
        let remote = (random.u8(0..3), random.u8(1..=40));
        let down = random.u8(0..10) < 7;
        let wide = random.u8(0..10) == 0;
        let transport = transport(&mut random, down, wide);
        let packet = if wide {
            let local = Ipv6Addr::new(0xfd00, 0, 0, 10, 0, 0, 0, local.into());
            let remote = Ipv6Addr::new(0x2001, 0xdb8, remote.0.into(), 0, 0, 0, 0, remote.1.into());
            let (source, destination) = if down { (remote, local) } else { (local, remote) };
            ipv6(source, destination, transport.0, &transport.1)
        } else {
            let local = Ipv4Addr::new(192, 168, 10, local);
            let remote = Ipv4Addr::new(203, 0, 113u8.wrapping_add(remote.0), remote.1);
            let (source, destination) = if down { (remote, local) } else { (local, remote) };
            ipv4(source, destination, transport.0, &transport.1)
        };
        let at = begin + u64::from(index) * 500_000_000 / u64::from(packets);
        let length = packet.len() as u32;
        for word in [(at / 1_000_000) as u32, (at % 1_000_000) as u32, length, length] {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        file.write_all(&packet).unwrap();
    }
}

/// A protocol number and a segment of it. Few ports, so that flows have several packets.
fn transport(random: &mut fastrand::Rng, down: bool, wide: bool) -> (u8, Vec<u8>) {
    let service = *random.choice([80u16, 443, 53].iter()).unwrap();
    let client = random.u16(40_000..40_004);
    let (source, destination) = if down { (service, client) } else { (client, service) };
    let payload = vec![0x55; random.usize(0..1_300)];
    let mut segment = Vec::new();
    match random.u8(0..20) {
        0 if !wide => {
            segment.extend_from_slice(&[8, 0, 0, 0, 0, 1, 0, 1]);
            segment.extend_from_slice(&payload[..payload.len().min(56)]);
            (1, segment)
        }
        1..=6 => {
            segment.extend_from_slice(&source.to_be_bytes());
            segment.extend_from_slice(&destination.to_be_bytes());
            segment.extend_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
            segment.extend_from_slice(&[0, 0]);
            segment.extend_from_slice(&payload);
            (17, segment)
        }
        _ => {
            segment.extend_from_slice(&source.to_be_bytes());
            segment.extend_from_slice(&destination.to_be_bytes());
            segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
            segment.extend_from_slice(&payload);
            (6, segment)
        }
    }
}

fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&(payload.len() as u16 + 20).to_be_bytes());
    header.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0]);
    header.extend_from_slice(&source.octets());
    header.extend_from_slice(&destination.octets());
    let sum = header.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[protocol, 64]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(payload);
    frame
}
