//! Finite state entropy: tables, their descriptions, and stepping through them.

use super::bits::{Backward, Forward};
use crate::error::{CodecError, Result};
use alloc::vec;
use alloc::vec::Vec;

/// What a state stands for and where it leads.
#[derive(Clone, Copy, Default)]
struct Entry {
    symbol: u8,
    nr_bits: u8,
    base: u16,
}

/// A decoding table of at most `SIZE` states. `SIZE` is a power of two.
pub(super) struct Table<const SIZE: usize> {
    /// `SIZE` of them, on the heap: kernel stacks are small.
    entries: Vec<Entry>,
    accuracy: u32,
}

/// Symbols any table may have.
const SYMBOLS_MAX: usize = 64;

impl<const SIZE: usize> Table<SIZE> {
    const ACCURACY_MAX: u32 = SIZE.trailing_zeros();

    pub(super) fn new() -> Self {
        Self { entries: vec![Entry::default(); SIZE], accuracy: 0 }
    }

    /// A table with one state.
    pub(super) fn set_single(&mut self, symbol: u8) {
        self.accuracy = 0;
        self.entries[0] = Entry { symbol, nr_bits: 0, base: 0 };
    }

    /// Reads a description (RFC 8878, 4.1.1); how many bytes it took. Symbols from `nr_symbols` on are refused.
    pub(super) fn read(&mut self, data: &[u8], nr_symbols: usize) -> Result<usize> {
        let mut bits = Forward::new(data);
        let accuracy = bits.look(4) + 5;
        bits.skip(4);
        if accuracy > Self::ACCURACY_MAX {
            return Err(CodecError::Corrupt);
        }
        let mut counts = [0_i16; SYMBOLS_MAX];
        let mut nr = 0;
        let mut remaining = 1_i32 << accuracy;
        while remaining > 0 {
            let count = read_count(&mut bits, remaining);
            remaining -= count.abs();
            *counts.get_mut(nr).ok_or(CodecError::Corrupt)? = count as i16;
            nr += 1;
            if count == 0 {
                nr += read_zeroes(&mut bits, nr_symbols)?;
            }
        }
        let counts = counts.get(..nr).filter(|c| remaining == 0 && c.len() <= nr_symbols);
        self.build(counts.ok_or(CodecError::Corrupt)?, accuracy)?;
        bits.nr_bytes()
    }

    /// Builds the table of a distribution: counts that sum up to `1 << accuracy`, -1 for "less than one".
    pub(super) fn build(&mut self, counts: &[i16], accuracy: u32) -> Result<()> {
        let size = 1_usize << accuracy;
        let entries = self.entries.get_mut(..size).ok_or(CodecError::Corrupt)?;
        let mut next = [0_u16; SYMBOLS_MAX];
        let mut end = size;
        for (symbol, count) in counts.iter().enumerate() {
            if *count == -1 {
                end = end.checked_sub(1).ok_or(CodecError::Corrupt)?;
                entries[end].symbol = symbol as u8;
            }
            next[symbol] = count.unsigned_abs();
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, count) in counts.iter().enumerate() {
            for _ in 0..(*count).max(0) {
                entries[at].symbol = symbol as u8;
                at = (at + step) & (size - 1);
                while at >= end && end > 0 {
                    at = (at + step) & (size - 1);
                }
            }
        }
        if at != 0 {
            return Err(CodecError::Corrupt);
        }
        for entry in entries {
            let next = &mut next[usize::from(entry.symbol)];
            let state = u32::from(*next);
            *next += 1;
            let nr_bits = accuracy - state.checked_ilog2().ok_or(CodecError::Corrupt)?;
            entry.nr_bits = nr_bits as u8;
            entry.base = ((state << nr_bits) - size as u32) as u16;
        }
        self.accuracy = accuracy;
        Ok(())
    }

    pub(super) fn start(&self, bits: &mut Backward<'_>) -> State {
        State(bits.read(self.accuracy) as u16)
    }

    pub(super) fn symbol(&self, state: State) -> u8 {
        self.entry(state).symbol
    }

    pub(super) fn step(&self, state: &mut State, bits: &mut Backward<'_>) {
        let entry = self.entry(*state);
        // Below the table's size by construction: base plus all ones of nr_bits is a state.
        state.0 = entry.base + bits.read(u32::from(entry.nr_bits)) as u16;
    }

    fn entry(&self, state: State) -> Entry {
        self.entries.get(usize::from(state.0)).copied().unwrap_or_default()
    }
}

/// A place in a table.
#[derive(Clone, Copy)]
pub(super) struct State(u16);

/// One count: as few bits as what remains allows, small values one bit shorter.
fn read_count(bits: &mut Forward<'_>, remaining: i32) -> i32 {
    let most = remaining as u32 + 1;
    let nr_bits = most.ilog2() + 1;
    let value = bits.look(nr_bits);
    let low_mask = (1 << (nr_bits - 1)) - 1;
    let threshold = (1 << nr_bits) - 1 - most;
    let low = value & low_mask;
    let value = if low < threshold {
        bits.skip(nr_bits - 1);
        low
    } else {
        bits.skip(nr_bits);
        if value > low_mask { value - threshold } else { value }
    };
    value as i32 - 1
}

/// How many further symbols have the count 0: two bits each time, until they are not 3.
fn read_zeroes(bits: &mut Forward<'_>, nr_max: usize) -> Result<usize> {
    let mut nr = 0;
    while nr <= nr_max {
        let n = bits.look(2);
        bits.skip(2);
        nr += n as usize;
        if n < 3 {
            return Ok(nr);
        }
    }
    Err(CodecError::Corrupt)
}
