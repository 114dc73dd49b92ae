//! Random numbers that are the same in every run.

/// xorshift64*, so that an input is known by its number.
pub(crate) struct Random(u64);

impl Random {
    /// Makes the source of random values for the input of this number.
    pub(crate) fn numbered(number: u64) -> Random {
        Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % limit.max(1)
    }

    /// Numbers that break things: small, large, near powers of two, or any.
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next() % 64,
            1 => u64::MAX - self.next() % 64,
            2 => (1 << (self.next() % 64)) - self.next() % 2,
            _ => self.next(),
        }
    }
}
