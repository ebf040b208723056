//! A slow decoder written from the RFCs, record by record and byte by byte, to compare the real one with.

use super::naive_sflow;
use crate::flow::fields::Field;
use std::collections::HashMap;

/// A template: whether it is of options, and (element, length, enterprise) in order.
type Template = (bool, Vec<(u16, u16, u32)>);
/// A record: (element, enterprise, bytes) in order.
pub(super) type Record = Vec<(u16, u32, Vec<u8>)>;

#[derive(Debug, Default)]
pub(super) struct Naive {
    /// By version and observation domain, then by identifier.
    templates: HashMap<(u16, u32, u16), Template>,
    pub(super) records: Vec<Record>,
    /// What was counted, by the names of reasons; "records", "options", "templates" and "sets" too.
    pub(super) counts: HashMap<&'static str, u32>,
}

fn at(bytes: &[u8], position: usize, width: usize) -> usize {
    bytes[position..position + width].iter().fold(0, |value, &byte| value << 8 | usize::from(byte))
}

impl Naive {
    pub(super) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(super) fn decode(&mut self, bytes: &[u8]) {
        self.records.clear();
        self.counts.clear();
        if bytes.len() < 2 {
            return self.count("too_short");
        }
        let version = at(bytes, 0, 2);
        let header = match version {
            0 => return naive_sflow::decode(self, bytes),
            1 => 16,
            5 | 7 => 24,
            9 => 20,
            10 => 16,
            _ => return self.count("unknown_version"),
        };
        if bytes.len() < header {
            return self.count("too_short");
        }
        match version {
            1 | 5 | 7 => {
                let lengths: &[usize] = match version {
                    1 => &[48, 52],
                    5 => &[48],
                    _ => &[52],
                };
                let count = at(bytes, 2, 2);
                let length = lengths.iter().copied().find(|length| bytes.len() == header + length * count);
                let Some(length) = length.filter(|_| count > 0 && (version != 5 || count <= 30)) else {
                    return self.count("count_lie");
                };
                for record in bytes[header..].chunks(length) {
                    self.count("records");
                    self.records.push(vec![(8, 0, record[..4].to_vec()), (11, 0, record[34..36].to_vec())]);
                }
            }
            9 => self.sets(9, at(bytes, 16, 4) as u32, &bytes[20..]),
            _ if at(bytes, 2, 2) != bytes.len() => self.count("length_mismatch"),
            _ => self.sets(10, at(bytes, 12, 4) as u32, &bytes[16..]),
        }
    }

    fn sets(&mut self, version: u16, domain: u32, bytes: &[u8]) {
        let mut start = 0;
        loop {
            let left = bytes.len() - start;
            let zeros = bytes[start..].iter().all(|&byte| byte == 0);
            if left == 0 || left < 4 && zeros {
                return;
            }
            if left >= 4 && at(bytes, start + 2, 2) < 4 && zeros {
                return;
            }
            self.count("sets");
            if left < 4 || at(bytes, start + 2, 2) < 4 {
                return self.count("set_length");
            }
            let (id, length) = (at(bytes, start, 2) as u16, at(bytes, start + 2, 2));
            if start + length > bytes.len() {
                return self.count("set_overrun");
            }
            let body = &bytes[start + 4..start + length];
            match (version, id) {
                (9, 0) | (10, 2) => self.definitions(version, domain, false, body),
                (9, 1) | (10, 3) => self.definitions(version, domain, true, body),
                (_, 256..) => self.data(version, domain, id, body),
                _ => self.count("set_reserved"),
            }
            start += length;
        }
    }

    fn definitions(&mut self, version: u16, domain: u32, options: bool, body: &[u8]) {
        let mut position = 0;
        while !body[position..].iter().all(|&byte| byte == 0) {
            let left = body.len() - position;
            if left < 4 {
                return self.count("template_invalid");
            }
            let (id, mut count) = (at(body, position, 2) as u16, at(body, position + 2, 2));
            position += 4;
            if version == 10 && count == 0 {
                self.count("withdrawal");
                continue;
            }
            let mut broken = false;
            if options {
                if body.len() - position < 2 {
                    return self.count("template_invalid");
                }
                let other = at(body, position, 2);
                position += 2;
                if version == 9 {
                    broken = !count.is_multiple_of(4) || !other.is_multiple_of(4);
                    count = count / 4 + other / 4;
                } else {
                    broken = other > count;
                }
            }
            if id < 256 {
                return self.count("template_invalid");
            }
            self.templates.remove(&(version, domain, id));
            let mut fields = Vec::new();
            for _ in 0..count {
                if broken || body.len() - position < 4 {
                    broken = true;
                    break;
                }
                let (mut element, length, mut enterprise) = (at(body, position, 2), at(body, position + 2, 2), 0);
                position += 4;
                if version == 10 && element >= 0x8000 {
                    if body.len() - position < 4 {
                        broken = true;
                        break;
                    }
                    element -= 0x8000;
                    enterprise = at(body, position, 4) as u32;
                    position += 4;
                }
                fields.push((element as u16, length as u16, enterprise));
            }
            if broken {
                return self.count("template_invalid");
            }
            if version == 9 && fields.iter().any(|field| field.1 == 65_535) {
                self.count("template_invalid");
            } else if fields.iter().all(|field| field.1 == 0) {
                self.count("template_zero");
            } else if fields.len() > 512 {
                self.count("template_limit");
            } else {
                self.count("templates");
                self.templates.insert((version, domain, id), (options, fields));
            }
        }
    }

    fn data(&mut self, version: u16, domain: u32, id: u16, body: &[u8]) {
        let Some((options, fields)) = self.templates.get(&(version, domain, id)).cloned() else {
            return self.count("parked");
        };
        let varies = |length: u16| version == 10 && length == 65_535;
        let shortest: usize = fields.iter().map(|field| if varies(field.1) { 1 } else { usize::from(field.1) }).sum();
        let (mut position, mut found) = (0, 0);
        while body.len() - position >= shortest {
            let mut record = Record::new();
            for &(element, declared, enterprise) in &fields {
                let mut length = usize::from(declared);
                if varies(declared) {
                    let width = if body.get(position) == Some(&255) { 3 } else { 1 };
                    if position + width > body.len() {
                        return self.count("varlen_overrun");
                    }
                    length = at(body, position + width / 2, width / 2 + 1);
                    position += width;
                }
                let Some(value) = body.get(position..position + length) else {
                    return self.count("varlen_overrun");
                };
                // A number of variable length is none (RFC 7011, 7).
                let element = if varies(declared) { u16::MAX } else { element };
                record.push((element, enterprise, value.to_vec()));
                position += length;
            }
            found += 1;
            if options {
                self.count("options");
            } else {
                self.count("records");
                self.records.push(record);
            }
        }
        if body[position..].iter().any(|&byte| byte != 0) {
            self.count(if found == 0 { "set_overrun" } else { "suspect" });
        }
    }
}

/// What a number, address or MAC in a record is shown as. Only for elements that no other element competes with.
pub(super) fn shown(record: &Record, field: Field) -> String {
    let (element, width) = match field {
        Field::InBytes => (1, 8),
        Field::InPackets => (2, 8),
        Field::Protocol => (4, 1),
        Field::SrcTos => (5, 1),
        Field::TcpFlags => (6, 2),
        Field::SrcPort => (7, 2),
        Field::SrcIp => (8, 0),
        Field::DstPort => (11, 2),
        Field::InputInterface => (10, 4),
        Field::DstIp => (28, 0),
        Field::DstAs => (17, 4),
        Field::InSrcMac => (56, 6),
        Field::InnerProtocol => (4, 1),
        Field::InnerSrcIp => (8, 0),
        Field::InnerDstIp => (28, 0),
        _ => return String::new(),
    };
    let inner = matches!(field, Field::InnerProtocol | Field::InnerSrcIp | Field::InnerDstIp);
    if inner && record.iter().filter(|(id, enterprise, _)| (*id, *enterprise) == (4, 0)).count() < 2 {
        return String::new();
    }
    let mut found = record.iter().filter(|(id, enterprise, bytes)| {
        let possible = match element {
            8 => bytes.len() == 4,
            28 => bytes.len() == 16,
            56 => bytes.len() == 6,
            _ => (1..=8).contains(&bytes.len()),
        };
        *id == element && *enterprise == 0 && possible
    });
    let Some((.., bytes)) = found.nth(usize::from(inner)) else {
        return String::new();
    };
    match element {
        8 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..]).unwrap()).to_string(),
        28 => {
            let address = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).unwrap());
            address.to_ipv4_mapped().map_or(address.to_string(), |mapped| mapped.to_string())
        }
        56 => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
        _ => {
            let value = bytes.iter().fold(0u128, |value, &byte| value << 8 | u128::from(byte));
            value.min((1 << (8 * width)) - 1).to_string()
        }
    }
}
