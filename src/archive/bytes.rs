//! Little-endian numbers from the front of a slice; nothing when the slice has ended.
//!
//! Both layouts of nfdump are the memory of the machine that wrote them; only little-endian machines are read.

/// What is left of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

macro_rules! number {
    ($name:ident $type:ty) => {
        pub(super) fn $name(&mut self) -> Option<$type> {
            let (first, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            Some(<$type>::from_le_bytes(*first))
        }
    };
}

impl<'a> Bytes<'a> {
    number!(u8 u8);
    number!(u16 u16);
    number!(u32 u32);
    number!(u64 u64);

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(first)
    }

    /// An IPv6 address, as nfdump keeps it: two numbers, the upper half first.
    pub(super) fn wide(&mut self) -> Option<u128> {
        let (upper, lower) = (self.u64()?, self.u64()?);
        Some((u128::from(upper) << 64) | u128::from(lower))
    }
}
