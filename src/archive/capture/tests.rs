//! Captures made by hand: link layers, time stamps, fragments, and files that end or lie.

use super::*;
use std::io::Cursor;
use std::net::IpAddr;

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&4_000u16.to_be_bytes()[..], &2_055u16.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn v4(body: &[u8], fragment: u16) -> Vec<u8> {
    let total = (20 + body.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 7]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    packet.extend_from_slice(body);
    packet
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(body.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[next, 64]);
    for last in [1, 2] {
        packet.extend_from_slice(&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend_from_slice(body);
    packet
}

fn ethernet(tags: &[u16], kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    for tag in tags {
        frame.extend_from_slice(&0x8100u16.to_be_bytes());
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(packet);
    frame
}

fn pcap(link: u32, nanoseconds: bool, frames: &[Vec<u8>]) -> Vec<u8> {
    let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let mut file = magic.to_le_bytes().to_vec();
    file.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    file.extend_from_slice(&link.to_le_bytes());
    for frame in frames {
        let length = frame.len() as u32;
        for word in [1_700_000_000, if nanoseconds { 250_000_999 } else { 250_000 }, length, length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(frame);
    }
    file
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len()) as u32;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
}

fn pcapng(resolution: u8, ticks: u64, frame: &[u8]) -> Vec<u8> {
    let section = block(0x0a0d_0d0a, &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    let interface = [1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
    let length = frame.len() as u32;
    let mut packet = Vec::new();
    for word in [0, (ticks >> 32) as u32, ticks as u32, length, length] {
        packet.extend_from_slice(&word.to_le_bytes());
    }
    packet.extend_from_slice(frame);
    packet.resize(packet.len().next_multiple_of(4), 0);
    [section, block(1, &interface), block(6, &packet)].concat()
}

/// What was received when, from whom, and the end.
type Read = (Vec<(i64, SocketAddr, Vec<u8>)>, Option<Damage>);

fn read(file: &[u8]) -> Result<Read, ArchiveError> {
    let mut capture = Capture::open(Cursor::new(file.to_vec()))?;
    let mut found = Vec::new();
    loop {
        let take = |it: Datagram<'_>| found.push((it.received.micros(), it.source, it.payload.to_vec()));
        if let Step::End(damage) = capture.step(take)? {
            assert!(capture.offset() <= file.len() as u64);
            return Ok((found, damage));
        }
    }
}

/// A file of which no more can be read from some byte on.
struct Failing(Cursor<Vec<u8>>);

impl std::io::Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::Error::from_raw_os_error(5)),
            count => Ok(count),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_on_is_not_damaged() {
    let file = pcapng(6, 7, &v4(&udp(b"flows"), 0));
    for readable in 0..file.len() {
        let input = Failing(Cursor::new(file[..readable].to_vec()));
        let mut count = 0;
        let error = Capture::open(input).and_then(|mut capture| {
            while capture.step(|_| count += 1)? == Step::Read {}
            Ok(())
        });
        let told = error.unwrap_err().to_string();
        assert!(told.starts_with("cannot be read: ") && told.contains("os error 5"), "after {readable} bytes: {told}");
        assert_eq!(count, 0);
    }
}

const AT: i64 = 1_700_000_000_250_000;

#[test]
fn datagrams_are_found_behind_every_link_layer_tag_and_header() {
    let packet = v4(&udp(b"flows"), 0);
    let six = v6(17, &udp(b"flows"));
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(b"flows")].concat();
    let cooked = |kind: u16| [&[0; 14][..], &kind.to_be_bytes()].concat();
    let cooked_2 = [&[8, 0][..], &[0; 18]].concat();
    let four: IpAddr = "192.0.2.1".parse().unwrap();
    let wide: IpAddr = "2001:db8::1".parse().unwrap();
    for (link, frame, source) in [
        (1, ethernet(&[], 0x0800, &packet), four),
        (1, ethernet(&[5, 6], 0x0800, &packet), four),
        (1, ethernet(&[5], 0x86dd, &six), wide),
        (101, packet.clone(), four),
        (101, v6(60, &options), wide),
        (113, [cooked(0x0800), packet.clone()].concat(), four),
        (276, [cooked_2, packet.clone()].concat(), four),
        (0, [&[2, 0, 0, 0][..], &packet].concat(), four),
    ] {
        for nanoseconds in [false, true] {
            let found = read(&pcap(link, nanoseconds, std::slice::from_ref(&frame))).unwrap();
            assert_eq!(found, (vec![(AT, SocketAddr::new(source, 4_000), b"flows".to_vec())], None), "{link}");
        }
    }
    let others = [ethernet(&[], 0x0806, &packet), ethernet(&[], 0x0800, &packet[..27]), ethernet(&[], 0x0800, &[])];
    assert_eq!(read(&pcap(1, false, &others)).unwrap(), (vec![], None));
}

#[test]
fn times_of_pcapng_have_the_unit_of_their_interface() {
    let frame = ethernet(&[], 0x0800, &v4(&udp(b"x"), 0));
    for (resolution, ticks) in [(6, AT as u64), (9, AT as u64 * 1_000 + 7), (3, AT as u64 / 1_000)] {
        let (found, damage) = read(&pcapng(resolution, ticks, &frame)).unwrap();
        assert_eq!((found.len(), found[0].0, damage), (1, AT, None), "{resolution}");
    }
}

#[test]
fn fragments_in_any_order_become_one_datagram() {
    let payload: Vec<u8> = (0..200).collect();
    let whole = udp(&payload);
    let part = |range: std::ops::Range<usize>, more: bool| {
        let flags = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
        ethernet(&[], 0x0800, &v4(&whole[range], flags))
    };
    let parts = [part(0..80, true), part(80..160, true), part(160..208, false)];
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let (found, _) = read(&pcap(1, false, &order.map(|index| parts[index].clone()))).unwrap();
        assert_eq!(found.iter().map(|row| row.2.clone()).collect::<Vec<_>>(), std::slice::from_ref(&payload));
    }
    let (found, _) = read(&pcap(1, false, &[parts[0].clone(), parts[2].clone()])).unwrap();
    assert!(found.is_empty(), "one part is missing");
    let header = |place: u16| [&[17, 0][..], &place.to_be_bytes(), &[0, 0, 0, 9]].concat();
    let six = [
        ethernet(&[], 0x86dd, &v6(44, &[header(1), whole[..80].to_vec()].concat())),
        ethernet(&[], 0x86dd, &v6(44, &[header(80), whole[80..].to_vec()].concat())),
    ];
    assert_eq!(read(&pcap(1, false, &six)).unwrap().0[0].2, payload);
}

#[test]
fn a_flood_of_first_fragments_is_forgotten_beyond_the_limit() {
    let mut fragments = Fragments::default();
    let body = [0u8; 1_400];
    let addresses = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
    for identification in 0..10_000 {
        let key = fragments::Key { addresses, identification };
        assert!(fragments.add(fragments::Fragment { key, offset: 0, more: true, body: &body }).is_none());
    }
    let last = fragments::Key { addresses, identification: 9_999 };
    assert!(fragments.add(fragments::Fragment { key: last, offset: 1_400, more: false, body: &body }).is_some());
    let first = fragments::Key { addresses, identification: 0 };
    assert!(fragments.add(fragments::Fragment { key: first, offset: 1_400, more: false, body: &body }).is_none());
}

#[test]
fn a_capture_that_ends_anywhere_gives_what_lies_before_and_says_where() {
    let frame = ethernet(&[], 0x0800, &v4(&udp(b"flows"), 0));
    for (file, lasts) in [
        (pcap(1, false, &[frame.clone(), frame.clone()]), vec![24, 24 + 16 + frame.len()]),
        (pcapng(6, AT as u64, &frame), vec![28, 60]),
    ] {
        for end in 0..file.len() {
            match read(&file[..end]) {
                Ok((found, damage)) => {
                    assert!(found.len() < 2, "{end}");
                    if let Some(damage) = damage {
                        assert!(damage.offset <= end as u64);
                    } else {
                        assert!(end == 24 || lasts.contains(&end) || found.is_empty(), "{end}");
                    }
                }
                Err(ArchiveError::Head(_)) => assert!(end < 29, "{end}"),
                Err(error) => panic!("{end}: {error}"),
            }
        }
    }
}

#[test]
fn no_changed_byte_makes_reading_a_capture_panic() {
    let frame = ethernet(&[7], 0x0800, &v4(&udp(b"flows"), 0));
    for file in [pcap(1, true, &[frame.clone(), frame.clone()]), pcapng(6, AT as u64, &frame)] {
        for at in 0..file.len() {
            for mask in [1, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= mask;
                drop(read(&changed));
            }
        }
    }
}
