//! Datagrams of templates and sets, put together by hand.
//!
//! They are in domain 7 and exported at 2026-11-23 00:00:00 UTC. Knows the formats independently of the decoder.

/// Big-endian numbers of two bytes.
pub fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A set.
pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&numbers(&[id, body.len() as u16 + 4]), body].concat()
}

/// A template in a set of its own; `set_id` is 0 or 1 for v9, 2 or 3 for IPFIX, of which the odd ones define options.
pub fn template(set_id: u16, id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let count = fields.len() as u16;
    let head = match set_id {
        1 => numbers(&[id, 4, 4 * (count - 1)]),
        3 => numbers(&[id, count, 1]),
        _ => numbers(&[id, count]),
    };
    let fields = fields.iter().flat_map(|(element, length)| numbers(&[*element, *length]));
    set(set_id, &[head, fields.collect()].concat())
}

/// A message of one of the two versions with these sets.
pub fn message(version: u16, sequence: u32, uptime: u32, sets: &[u8]) -> Vec<u8> {
    let mut out = numbers(&[version]);
    if version == 10 {
        out.extend(numbers(&[sets.len() as u16 + 16]));
    } else {
        out.extend(numbers(&[1]));
        out.extend(uptime.to_be_bytes());
    }
    out.extend([1_795_392_000, sequence, 7].into_iter().flat_map(u32::to_be_bytes));
    out.extend(sets);
    out
}

/// Big-endian numbers of four bytes.
pub fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}
