//! Datagrams for tests, put together by hand. Knows the formats independently of the decoder.

/// A field of a template: element, length, and enterprise (0 is IANA).
pub(super) type Spec = (u16, u16, u32);

/// IANA fields from (element, length) pairs.
pub(super) fn iana(fields: &[(u16, u16)]) -> Vec<Spec> {
    fields.iter().map(|&(id, length)| (id, length, 0)).collect()
}

/// A v9 or IPFIX message in the making.
#[derive(Clone, Debug)]
pub(super) struct Message {
    ipfix: bool,
    pub(super) sequence: u32,
    pub(super) domain: u32,
    pub(super) uptime: u32,
    pub(super) seconds: u32,
    pub(super) count: u16,
    sets: Vec<u8>,
}

pub(super) fn v9(sequence: u32) -> Message {
    Message { ipfix: false, sequence, domain: 7, uptime: 100_000, seconds: super::SECONDS, count: 0, sets: Vec::new() }
}

pub(super) fn ipfix(sequence: u32) -> Message {
    Message { ipfix: true, ..v9(sequence) }
}

pub(super) fn be(number: u64, width: usize) -> Vec<u8> {
    number.to_be_bytes()[8 - width..].to_vec()
}

impl Message {
    /// A set with the right length.
    pub(super) fn set(self, id: u16, body: &[u8]) -> Self {
        let length = u16::try_from(body.len() + 4).unwrap();
        self.raw_set(id, length, body)
    }

    /// A set that says `length`.
    pub(super) fn raw_set(mut self, id: u16, length: u16, body: &[u8]) -> Self {
        self.sets.extend(id.to_be_bytes());
        self.sets.extend(length.to_be_bytes());
        self.sets.extend(body);
        self
    }

    fn specs(&self, fields: &[Spec]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(id, length, enterprise) in fields {
            let bit = if enterprise == 0 { 0 } else { 0x8000 };
            out.extend((id | bit).to_be_bytes());
            out.extend(length.to_be_bytes());
            if enterprise != 0 {
                out.extend(enterprise.to_be_bytes());
            }
        }
        out
    }

    pub(super) fn template_set(&self) -> u16 {
        if self.ipfix { 2 } else { 0 }
    }

    pub(super) fn options_set(&self) -> u16 {
        if self.ipfix { 3 } else { 1 }
    }

    pub(super) fn template(mut self, id: u16, fields: &[Spec]) -> Self {
        let mut body = be(id.into(), 2);
        body.extend(be(fields.len() as u64, 2));
        body.extend(self.specs(fields));
        self.count += 1;
        let set = self.template_set();
        self.set(set, &body)
    }

    pub(super) fn options_template(mut self, id: u16, scope: &[Spec], fields: &[Spec]) -> Self {
        let mut body = be(id.into(), 2);
        if self.ipfix {
            body.extend(be((scope.len() + fields.len()) as u64, 2));
            body.extend(be(scope.len() as u64, 2));
        } else {
            body.extend(be(4 * scope.len() as u64, 2));
            body.extend(be(4 * fields.len() as u64, 2));
        }
        body.extend(self.specs(scope));
        body.extend(self.specs(fields));
        self.count += 1;
        let set = self.options_set();
        self.set(set, &body)
    }

    /// A data set of `records`, padded to four bytes.
    pub(super) fn data(mut self, id: u16, records: &[Vec<u8>]) -> Self {
        let mut body = records.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        self.count += u16::try_from(records.len()).unwrap();
        self.set(id, &body)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.ipfix {
            out.extend(10u16.to_be_bytes());
            out.extend(u16::try_from(self.sets.len() + 16).unwrap().to_be_bytes());
        } else {
            out.extend(9u16.to_be_bytes());
            out.extend(self.count.to_be_bytes());
            out.extend(self.uptime.to_be_bytes());
        }
        for number in [self.seconds, self.sequence, self.domain] {
            out.extend(number.to_be_bytes());
        }
        out.extend(&self.sets);
        out
    }
}

/// A v5 datagram. Record `i` differs from the others in its addresses, ports and counters. 1 of 100 packets is looked at.
pub(super) fn v5(sequence: u32, records: u16) -> Vec<u8> {
    fixed(5, Some(sequence), &[1, 2, 0x40, 0x64], records, &[24, 16, 0, 0])
}

/// A v1 datagram with the records of [`v5`], as far as v1 has room, each ending in `padding` bytes.
pub(super) fn v1_padded(records: u16, padding: usize) -> Vec<u8> {
    fixed(1, None, &[], records, &vec![7; padding])
}

/// A v1 datagram as most exporters send it.
pub(super) fn v1(records: u16) -> Vec<u8> {
    v1_padded(records, 7)
}

/// A v7 datagram with the records of [`v5`].
pub(super) fn v7(sequence: u32, records: u16) -> Vec<u8> {
    fixed(7, Some(sequence), &[9, 9, 9, 9], records, &[24, 16, 7, 7, 10, 0, 0, 77])
}

fn fixed(version: u64, sequence: Option<u32>, header: &[u8], records: u16, end: &[u8]) -> Vec<u8> {
    let mut out = be(version, 2);
    out.extend(be(records.into(), 2));
    out.extend(be(100_000, 4));
    out.extend(be(super::SECONDS.into(), 4));
    out.extend(be(123_456_789, 4));
    out.extend(sequence.map(|sequence| be(sequence.into(), 4)).unwrap_or_default());
    out.extend(header);
    for record in 0..u64::from(records) {
        out.extend(be(0xc0a8_0000 + record, 4));
        out.extend(be(0x0808_0800 + record, 4));
        out.extend(be(0x0a00_0001, 4));
        out.extend(be(3, 2));
        out.extend(be(4, 2));
        out.extend(be(10 + record, 4));
        out.extend(be(1_500 + record, 4));
        out.extend(be(90_000, 4));
        out.extend(be(95_000, 4));
        out.extend(be(40_000 + record, 2));
        out.extend(be(443, 2));
        if version == 1 {
            out.extend([0, 0, 6, 0x10, 0x1b]);
        } else {
            out.extend([0, 0x1b, 6, 0x10]);
            out.extend(be(64_512, 2));
            out.extend(be(15_169, 2));
        }
        out.extend(end);
    }
    out
}
