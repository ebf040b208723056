//! A slow sFlow reader that only counts, to compare the real one with.

use super::naive::Naive;

fn word(bytes: &[u8], position: usize) -> Option<usize> {
    let bytes = bytes.get(position..position + 4)?;
    Some(bytes.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

/// The block at `position`: its format, its bytes, and where the next one begins.
fn block(bytes: &[u8], position: usize) -> Option<(usize, &[u8], usize)> {
    let (format, length) = (word(bytes, position)?, word(bytes, position + 4)?);
    let body = bytes.get(position + 8..position + 8 + length)?;
    Some((format, body, (position + 8 + length.next_multiple_of(4)).min(bytes.len())))
}

/// Whether the records from `position` on are whole, and whether something follows them.
fn records(body: &[u8], position: usize) -> Option<bool> {
    let (count, mut position) = (word(body, position)?, position + 4);
    for _ in 0..count {
        (_, _, position) = block(body, position)?;
    }
    Some(body[position..].iter().any(|&byte| byte != 0))
}

pub(super) fn decode(naive: &mut Naive, bytes: &[u8]) {
    if word(bytes, 0) != Some(5) {
        return naive.count("unknown_version");
    }
    let Some(kind) = word(bytes, 4) else { return naive.count("too_short") };
    let Some(address) = [0, 4, 16].get(kind) else { return naive.count("unknown_version") };
    let mut position = 8 + address + 16;
    if bytes.len() < position {
        return naive.count("too_short");
    }
    for _ in 0..word(bytes, position - 4).unwrap_or(0) {
        let left = bytes.len() - position;
        if left == 0 {
            return;
        }
        naive.count("sets");
        if left < 8 {
            return naive.count("set_length");
        }
        let Some((format, body, next)) = block(bytes, position) else { return naive.count("set_overrun") };
        let head = match format {
            1 => 28,
            2 => 8,
            3 => 40,
            4 => 12,
            _ => 0,
        };
        match records(body, head) {
            _ if head == 0 => naive.count("set_reserved"),
            None => naive.count("set_overrun"),
            Some(trailing) => {
                if format % 2 == 1 {
                    naive.count("records");
                }
                if trailing {
                    naive.count("suspect");
                }
            }
        }
        position = next;
    }
}
