//! Where one IPFIX message ends and the next begins in a stream: each tells its own length (RFC 7011, 3.1 and 10.4).
//!
//! Promises: whatever comes in, in whatever pieces, is either cut into whole messages in order or found not to be IPFIX; at
//! most the longest possible message is held. It knows no sockets.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use std::fmt;

/// The version in the header of every IPFIX message.
const VERSION: u16 = 10;
/// Bytes of a message's header, and so the shortest message.
const HEADER_BYTES: u16 = 16;
/// What a new buffer holds; most exporters' messages fit into an Ethernet frame.
const FIRST_BYTES: usize = 4 << 10;
/// What a buffer holds at most: a message of 65,535 bytes fits.
const MOST_BYTES: usize = 64 << 10;
/// How many bytes are told of what is no message.
const SHOWN_BYTES: usize = 16;

/// What stands where a message should begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotIpfix(Vec<u8>);

impl fmt::Display for NotIpfix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_str(" is not how an IPFIX message begins: version 10, then a length of at least 16")
    }
}

/// The message that `bytes` begin with; `None` when it is not complete yet.
///
/// # Errors
/// As soon as it cannot become a message.
pub fn cut(bytes: &[u8]) -> Result<Option<&[u8]>, NotIpfix> {
    let refuse = || Err(NotIpfix(bytes.iter().take(SHOWN_BYTES).copied().collect()));
    if !bytes.iter().zip(VERSION.to_be_bytes()).all(|(byte, expected)| *byte == expected) {
        return refuse();
    }
    let Some([_, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    let length = u16::from_be_bytes([*high, *low]);
    if length < HEADER_BYTES { refuse() } else { Ok(bytes.get(..length.into())) }
}

/// What came and is not cut yet. Its memory grows with what comes, up to the longest message.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// Room for more; never empty as long as whole messages are removed before more is asked for.
    pub fn room(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            let more = self.bytes.len().saturating_mul(2).clamp(FIRST_BYTES, MOST_BYTES);
            self.bytes.resize(more, 0);
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Notes that the room's first `count` bytes were filled.
    pub fn add(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count).min(self.bytes.len());
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Removes the first `count` bytes.
    pub fn remove(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.bytes.copy_within(count..self.filled, 0);
        self.filled = self.filled.saturating_sub(count);
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(length: u16, fill: u8) -> Vec<u8> {
        let mut bytes = [VERSION.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.resize(length.into(), fill);
        bytes
    }

    /// Feeds `bytes` in pieces of the given lengths, over and over: the messages, and whether a fault was found.
    fn feed(bytes: &[u8], lengths: &[usize]) -> (Vec<Vec<u8>>, Option<NotIpfix>, Buffer) {
        let (mut buffer, mut messages, mut rest) = (Buffer::default(), Vec::new(), bytes);
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let room = buffer.room();
            let count = rest.len().min(*length).min(room.len());
            assert!(count > 0, "there is room");
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            buffer.add(count);
            assert!(buffer.bytes.len() <= MOST_BYTES);
            let mut taken = 0;
            loop {
                match cut(&buffer.bytes()[taken..]) {
                    Ok(Some(message)) => {
                        taken += message.len();
                        messages.push(message.to_vec());
                    }
                    Ok(None) => break,
                    Err(fault) => return (messages, Some(fault), buffer),
                }
            }
            buffer.remove(taken);
        }
        (messages, None, buffer)
    }

    #[test]
    fn messages_are_whole_wherever_the_stream_is_cut() {
        let sent = [message(16, 1), message(17, 10), message(40, 0)];
        let stream = sent.concat();
        for first in 1..stream.len() {
            for second in 1..=stream.len() - first {
                let (messages, fault, buffer) = feed(&stream, &[first, second, stream.len()]);
                assert_eq!((messages.as_slice(), fault), (&sent[..], None), "cut at {first} and {second} later");
                assert!(buffer.is_empty());
            }
        }
        for length in 1..stream.len() {
            let (messages, fault, buffer) = feed(&stream[..length], &[1]);
            let whole = sent
                .iter()
                .scan(0, |end, each| {
                    *end += each.len();
                    Some(*end)
                })
                .filter(|end| *end <= length);
            assert_eq!((messages.len(), fault), (whole.count(), None));
            assert_eq!(buffer.is_empty(), [16, 33].contains(&length), "{length}");
        }
    }

    #[test]
    fn the_longest_message_fits_and_takes_no_more_memory_than_itself() {
        let sent = [message(u16::MAX, 7), message(16, 8), message(u16::MAX, 9)];
        for length in [1, 1_460, 65_536] {
            let (messages, fault, _) = feed(&sent.concat(), &[length]);
            assert_eq!((messages.as_slice(), fault), (&sent[..], None), "pieces of {length}");
        }
        let (_, _, small) = feed(&message(100, 1).repeat(50), &[1_460]);
        assert_eq!(small.bytes.len(), FIRST_BYTES);
    }

    #[test]
    fn what_is_no_message_is_found_at_its_first_wrong_byte() {
        for (bytes, at) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], 1),
            (&[0, 9, 0, 20, 0, 0], 2),
            (&[0, 5, 0, 1], 2),
            (&[0, 10, 0, 15], 4),
            (&[0, 10, 0, 0], 4),
            (&[1, 10, 0, 16], 1),
        ] {
            assert_eq!(cut(&bytes[..at - 1]), Ok(None), "{bytes:?}");
            assert_eq!(cut(&bytes[..at]), Err(NotIpfix(bytes[..at].to_vec())));
            let (messages, fault, _) = feed(&[&message(20, 3), bytes].concat(), &[1_000]);
            assert_eq!(messages, [message(20, 3)], "what came before it counts");
            let told = fault.unwrap().to_string();
            assert!(told.starts_with(&format!("{:02x}", bytes[0])) && told.contains("version 10"), "{told}");
        }
    }

    proptest! {
        #[test]
        fn any_stream_gives_the_same_messages_in_any_pieces(
            lengths in prop::collection::vec(prop_oneof![16u16..60, 16u16..3_000, Just(u16::MAX)], 0..6),
            pieces in prop::collection::vec(1usize..4_000, 1..20),
            junk in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let sent: Vec<_> = lengths.iter().map(|length| message(*length, *length as u8)).collect();
            let stream = [sent.concat(), junk].concat();
            let (whole, fault, buffer) = feed(&stream, &[MOST_BYTES]);
            let (in_pieces, fault_in_pieces, buffer_in_pieces) = feed(&stream, &pieces);
            prop_assert!(whole.len() >= sent.len());
            prop_assert_eq!(&whole, &in_pieces);
            prop_assert_eq!(fault.is_some(), fault_in_pieces.is_some());
            if fault.is_none() {
                prop_assert_eq!(buffer.bytes(), buffer_in_pieces.bytes());
            }
        }
    }
}
