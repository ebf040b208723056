//! Bytes of a block, read from front to back; every read can fail and none goes past the end.

use super::error::Damage;

/// What is left of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        self.array().map(|[byte]| byte)
    }

    /// A varint of at most five bytes.
    pub(super) fn varint(&mut self) -> Result<usize, Damage> {
        let mut number = 0u64;
        for shift in [0u32, 7, 14, 21, 28] {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| Damage::Count);
            }
        }
        Err(Damage::Count)
    }

    /// That nothing is left.
    pub(super) fn end(self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage::Long) }
    }
}

/// Writes a varint. Numbers in blocks are below 2^35.
pub(super) fn put_varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_endless_ones_end() {
        for number in [0, 1, 127, 128, 300, 65_536, 0xffff_ffff] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut input = Input(&bytes);
            assert_eq!(input.varint(), Ok(number));
            assert_eq!(input.end(), Ok(()));
        }
        assert_eq!(Input(&[0x80; 9]).varint(), Err(Damage::Count));
        assert_eq!(Input(&[0x80; 3]).varint(), Err(Damage::Short));
    }
}
