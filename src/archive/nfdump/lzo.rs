//! LZO1X decompression, as the Linux kernel documents the stream (Documentation/staging/lzo.rst).
//!
//! The format has no checksum: any stream that keeps within its input and within `limit` is taken.

/// Why a stream is refused: it runs beyond its input, its output or the limit, or does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<usize, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok((*first).into())
    }

    /// A distance in the upper 14 bits and a state in the lower two.
    fn pair(&mut self) -> Result<(usize, usize), Malformed> {
        let number = self.byte()? | (self.byte()? << 8);
        Ok((number >> 2, number & 3))
    }

    /// The length that an instruction holds in its own bits, or, where these are 0, `all` and what follows: 255 for each
    /// byte of 0, then a byte that ends it.
    fn length(&mut self, own: usize, all: usize) -> Result<usize, Malformed> {
        if own != 0 {
            return Ok(own);
        }
        let mut length = all;
        loop {
            match self.byte()? {
                0 => length = length.saturating_add(255),
                last => return Ok(length.saturating_add(last)),
            }
        }
    }

    fn literals(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }
}

fn copy(out: &mut Vec<u8>, distance: usize, length: usize, limit: usize) -> Result<(), Malformed> {
    let start = out.len().checked_sub(distance).filter(|_| distance > 0).ok_or(Malformed)?;
    if out.len().saturating_add(length) > limit {
        return Err(Malformed);
    }
    // A match may overlap what it writes: then it repeats the last `distance` bytes.
    let mut left = length;
    while left > 0 {
        let count = left.min(out.len().saturating_sub(start));
        out.extend_from_within(start..start.saturating_add(count));
        left = left.saturating_sub(count);
    }
    Ok(())
}

/// Decompresses `input` into `out`, which is cleared first and holds `limit` bytes at most.
pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Malformed> {
    out.clear();
    let mut input = Input(input);
    let append = |out: &mut Vec<u8>, input: &mut Input<'_>, count: usize| {
        let literals = input.literals(count)?;
        if out.len().saturating_add(count) > limit {
            return Err(Malformed);
        }
        out.extend_from_slice(literals);
        Ok(())
    };
    // How many literals came with the last instruction; 4 stands for a long run.
    let mut state = 0usize;
    if let Some(first) = input.0.first().copied().filter(|first| *first > 17) {
        input.byte()?;
        let count = usize::from(first).saturating_sub(17);
        append(out, &mut input, count)?;
        state = count.min(4);
    }
    loop {
        let instruction = input.byte()?;
        let (distance, length, literals) = match instruction {
            0..=15 if state == 0 => {
                let count = input.length(instruction, 15)?.saturating_add(3);
                append(out, &mut input, count)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let distance = (input.byte()? << 2) | (instruction >> 2);
                let (base, length) = if state == 4 { (2_049, 3) } else { (1, 2) };
                (distance.saturating_add(base), length, instruction & 3)
            }
            16..=31 => {
                let length = input.length(instruction & 7, 7)?.saturating_add(2);
                let (lower, literals) = input.pair()?;
                let distance = ((instruction & 8) << 11) | lower;
                if distance == 0 {
                    return if input.0.is_empty() { Ok(()) } else { Err(Malformed) };
                }
                (distance.saturating_add(16_384), length, literals)
            }
            32..=63 => {
                let length = input.length(instruction & 31, 31)?.saturating_add(2);
                let (distance, literals) = input.pair()?;
                (distance.saturating_add(1), length, literals)
            }
            _ => {
                let length = if instruction < 128 {
                    ((instruction >> 5) & 1).saturating_add(3)
                } else {
                    ((instruction >> 5) & 3).saturating_add(5)
                };
                let distance = (input.byte()? << 3) | ((instruction >> 2) & 7);
                (distance.saturating_add(1), length, instruction & 3)
            }
        };
        copy(out, distance, length, limit)?;
        append(out, &mut input, literals)?;
        state = literals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(stream: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        decompress(stream, &mut out, 64).map(|()| out)
    }

    const END: [u8; 3] = [17, 0, 0];

    #[test]
    fn literals_matches_and_repeats_become_what_they_stand_for() {
        let stream = |parts: &[&[u8]]| [parts.concat(), END.to_vec()].concat();
        assert_eq!(unpack(&END), Ok(vec![]));
        assert_eq!(unpack(&stream(&[&[17 + 3], b"abc"])), Ok(b"abc".to_vec()));
        assert_eq!(unpack(&stream(&[&[17 + 5], b"abcde"])), Ok(b"abcde".to_vec()));
        // A run of 3 + 15 + 2 literals at the beginning.
        assert_eq!(unpack(&stream(&[&[0, 2], b"01234567890123456789"])), Ok(b"01234567890123456789".to_vec()));
        // Four bytes, then 3 + 2 bytes from a distance of 2 with one literal behind, in three kinds of instruction.
        assert_eq!(
            unpack(&stream(&[&[17 + 4], b"abcd", &[32 + 3, (1 << 2) | 1, 0], b"X"])),
            Ok(b"abcdcdcdcX".to_vec())
        );
        assert_eq!(unpack(&stream(&[&[17 + 4], b"abcd", &[128 | (1 << 2) | 1, 0], b"X"])), Ok(b"abcdcdcdcX".to_vec()));
        assert_eq!(unpack(&stream(&[&[17 + 4], b"abcd", &[64 | (1 << 2), 0]])), Ok(b"abcdcdc".to_vec()));
        // Two bytes after few literals.
        assert_eq!(unpack(&stream(&[&[17 + 2], b"ab", &[1 << 2, 0]])), Ok(b"abab".to_vec()));
    }

    #[test]
    fn what_runs_beyond_its_input_its_output_or_the_limit_is_refused() {
        for stream in [
            &[][..],
            &[17, 0],
            &[17 + 3, b'a'],
            &[17 + 1, b'a', 64, 9],
            &[17 + 4, b'a', b'b', b'c', b'd', 32, 255, 0, 0, 17, 0, 0],
            &[0, 0, 0, 0, 0],
            &[17, 0, 0, 0],
        ] {
            assert_eq!(unpack(stream), Err(Malformed), "{stream:?}");
        }
    }
}
