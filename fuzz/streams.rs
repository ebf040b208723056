//! What must hold for whatever comes over a connection, in whatever pieces.
//!
//! An input is a byte that tells how many lengths of pieces follow (bits 0 to 3, and one more), the lengths, one byte each
//! and one more (from 128 on (n - 127) * 64), used over and over; then the stream.

use flowledger::collect::framing::{Buffer, cut};
use flowledger::wire::{Version, recognise};

/// Messages one after the other, and whether something followed that cannot be one. `rest` is what is left then.
fn cut_all<'a>(mut rest: &'a [u8], messages: &mut Vec<Vec<u8>>) -> (&'a [u8], bool) {
    loop {
        match cut(rest) {
            Ok(Some(message)) => {
                assert_eq!(recognise(message), Ok(Version::Ipfix), "a message that the decoder refuses");
                messages.push(message.to_vec());
                rest = &rest[message.len()..];
            }
            Ok(None) => return (rest, false),
            Err(fault) => {
                assert!(fault.to_string().len() < 150, "what is told of a fault is short");
                return (rest, true);
            }
        }
    }
}

/// Cuts the stream of `input` in pieces and at once; panics when both are not the same.
pub fn frame(input: &[u8]) {
    let Some((count, input)) = input.split_first() else { return };
    let Some((lengths, stream)) = input.split_at_checked(usize::from(count & 15) + 1) else { return };
    let mut whole = Vec::new();
    let (rest, fault) = cut_all(stream, &mut whole);
    assert_eq!([whole.concat().as_slice(), rest].concat(), stream, "a byte is lost or made up");

    let (mut buffer, mut messages, mut coming) = (Buffer::default(), Vec::new(), stream);
    let mut lengths = lengths.iter().cycle().map(|length| usize::from(*length));
    while !coming.is_empty() {
        let length = lengths.next().map_or(1, |length| if length < 128 { length + 1 } else { (length - 127) * 64 });
        let room = buffer.room();
        assert!(!room.is_empty() && room.len() <= 1 << 16);
        let length = length.min(room.len()).min(coming.len());
        room[..length].copy_from_slice(&coming[..length]);
        buffer.add(length);
        coming = &coming[length..];
        let before = buffer.bytes().len();
        let (left, faulty) = cut_all(buffer.bytes(), &mut messages);
        let left = left.len();
        if faulty {
            assert!(fault, "a fault that is none at once");
            break;
        }
        buffer.remove(before - left);
    }
    assert_eq!(messages, whole);
    if fault {
        assert!(cut(buffer.bytes()).is_err() || !messages.is_empty());
    } else {
        assert_eq!(buffer.bytes(), rest);
    }
}
