//! Bit streams: the forward one of table descriptions, the backward one of everything coded.

use crate::error::{CodecError, Result};

/// Reads from the lowest bit of the first byte upwards.
pub(super) struct Forward<'a> {
    data: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// The next `n` bits, at most 16, without passing them. Bits behind the end are 0.
    pub(super) fn look(&self, n: u32) -> u32 {
        let byte = |i: usize| u32::from(self.data.get(self.at / 8 + i).copied().unwrap_or(0));
        let word = byte(0) | byte(1) << 8 | byte(2) << 16;
        word >> (self.at % 8) & ((1 << n) - 1)
    }

    pub(super) fn skip(&mut self, n: u32) {
        self.at += n as usize;
    }

    /// Bytes begun.
    ///
    /// # Errors
    /// `Corrupt` when more was read than there is.
    pub(super) fn nr_bytes(&self) -> Result<usize> {
        let nr = self.at.div_ceil(8);
        if nr <= self.data.len() { Ok(nr) } else { Err(CodecError::Corrupt) }
    }
}

/// Reads from the highest bit of the last byte downwards; the highest bit set there marks the start.
pub(super) struct Backward<'a> {
    data: &'a [u8],
    /// Where in `data` the word was loaded from.
    at: usize,
    word: u64,
    /// Bits of the word that were read, from the top; above 64 when more was read than there is.
    nr_read: u32,
}

impl<'a> Backward<'a> {
    /// Bits that can be read after a [`Backward::refill`].
    pub(super) const REFILLED: u32 = 57;

    pub(super) fn new(data: &'a [u8]) -> Result<Self> {
        let last = data.last().copied().filter(|last| *last != 0).ok_or(CodecError::Corrupt)?;
        let nr_missing = 8 - data.len().min(8) as u32;
        let mut bits = Self { data, at: data.len().saturating_sub(8), word: 0, nr_read: 0 };
        bits.load();
        bits.nr_read = nr_missing * 8 + last.leading_zeros() + 1;
        Ok(bits)
    }

    fn load(&mut self) {
        let rest = self.data.get(self.at..).unwrap_or_default();
        self.word = match rest.first_chunk() {
            Some(chunk) => u64::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
    }

    /// Makes [`Backward::REFILLED`] bits readable, or as many as there are.
    pub(super) fn refill(&mut self) {
        let nr_bytes = ((self.nr_read / 8) as usize).min(self.at);
        if nr_bytes > 0 {
            self.at -= nr_bytes;
            self.nr_read -= nr_bytes as u32 * 8;
            self.load();
        }
    }

    /// The next `n` bits, at most 57. Bits behind the end are 0.
    pub(super) fn look(&self, n: u32) -> u64 {
        self.word.unbounded_shl(self.nr_read).unbounded_shr(64 - n)
    }

    pub(super) fn skip(&mut self, n: u32) {
        self.nr_read += n;
    }

    pub(super) fn read(&mut self, n: u32) -> u64 {
        let bits = self.look(n);
        self.skip(n);
        bits
    }

    /// More was read than there is.
    pub(super) fn is_overrun(&self) -> bool {
        self.at == 0 && self.nr_read > 64
    }

    /// Everything was read and nothing beyond.
    pub(super) fn is_finished(&self) -> bool {
        self.at == 0 && self.nr_read == 64
    }
}
