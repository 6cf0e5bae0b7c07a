//! Prefix codes of literals: their table, its description, and decoding.

use super::bits::Backward;
use super::fse::Table as FseTable;
use crate::error::{CodecError, Result};
use alloc::vec;
use alloc::vec::Vec;

/// Longest code.
const BITS_MAX: u32 = 11;
const SIZE: usize = 1 << BITS_MAX;
/// States of the table that weights are coded with.
const WEIGHT_STATES: usize = 1 << 6;
/// Symbols a description gives weights of; the last symbol's follows from theirs.
const WEIGHTS_MAX: usize = 255;

/// Code to symbol (low byte) and code length (high byte).
pub(super) struct Table {
    entries: Vec<u16>,
    nr_bits: u32,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: vec![0; SIZE], nr_bits: 0 }
    }

    /// Whether there is one to use again.
    pub(super) fn is_set(&self) -> bool {
        self.nr_bits > 0
    }

    /// Reads a description (RFC 8878, 4.2.1); how many bytes it took.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<usize> {
        let (&head, rest) = data.split_first().ok_or(CodecError::Corrupt)?;
        let mut weights = [0_u8; WEIGHTS_MAX + 1];
        let (nr_weights, nr_bytes) = if head < 128 {
            let coded = rest.get(..usize::from(head)).ok_or(CodecError::Corrupt)?;
            (read_coded(coded, &mut weights)?, coded.len())
        } else {
            let nr_weights = usize::from(head - 127);
            let packed = rest.get(..nr_weights.div_ceil(2)).ok_or(CodecError::Corrupt)?;
            for (pair, byte) in weights.chunks_mut(2).zip(packed) {
                pair[0] = byte >> 4;
                pair[1] = byte & 15;
            }
            (nr_weights, packed.len())
        };
        self.build(&mut weights, nr_weights)?;
        Ok(1 + nr_bytes)
    }

    /// Completes the weights by the last one, and lays the codes out: longest first, then by symbol.
    fn build(&mut self, weights: &mut [u8; WEIGHTS_MAX + 1], nr_weights: usize) -> Result<()> {
        self.nr_bits = 0;
        if let Some(packing) = weights.get_mut(nr_weights) {
            *packing = 0;
        }
        let weights = weights.get_mut(..=nr_weights).ok_or(CodecError::Corrupt)?;
        if weights.iter().any(|w| u32::from(*w) > BITS_MAX) {
            return Err(CodecError::Corrupt);
        }
        let share = |weight: u8| if weight == 0 { 0 } else { 1_usize << (weight - 1) };
        let sum: usize = weights.iter().map(|w| share(*w)).sum();
        let nr_bits = sum.checked_ilog2().ok_or(CodecError::Corrupt)? + 1;
        let rest = (1_usize << nr_bits) - sum;
        if nr_bits > BITS_MAX || !rest.is_power_of_two() {
            return Err(CodecError::Corrupt);
        }
        weights[nr_weights] = rest.ilog2() as u8 + 1;
        // Where the codes of each weight begin: those of small weight are the longest and lowest.
        let mut at = [0_usize; BITS_MAX as usize + 2];
        for weight in &*weights {
            at[usize::from(*weight) + 1] += share(*weight);
        }
        for weight in 1..at.len() {
            at[weight] += at[weight - 1];
        }
        for (symbol, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0) {
            let start = &mut at[usize::from(*weight)];
            let end = *start + share(*weight);
            let length = nr_bits + 1 - u32::from(*weight);
            self.entries
                .get_mut(*start..end)
                .ok_or(CodecError::Corrupt)?
                .fill((length as u16) << 8 | symbol as u16);
            *start = end;
        }
        self.nr_bits = nr_bits;
        Ok(())
    }

    /// Decodes a stream that holds exactly `out.len()` symbols.
    pub(super) fn decode(&self, data: &[u8], out: &mut [u8]) -> Result<()> {
        const AT_ONCE: usize = (Backward::REFILLED / BITS_MAX) as usize;
        let mut bits = Backward::new(data)?;
        let (groups, rest) = out.as_chunks_mut::<AT_ONCE>();
        for group in groups {
            bits.refill();
            group.iter_mut().for_each(|byte| *byte = self.next(&mut bits));
        }
        bits.refill();
        rest.iter_mut().for_each(|byte| *byte = self.next(&mut bits));
        bits.refill();
        if bits.is_finished() { Ok(()) } else { Err(CodecError::Corrupt) }
    }

    fn next(&self, bits: &mut Backward<'_>) -> u8 {
        let entry = self.entries.get(bits.look(self.nr_bits) as usize).copied().unwrap_or(0);
        bits.skip(u32::from(entry >> 8));
        entry as u8
    }
}

/// Weights coded with two states in turn, up to the end of the stream; how many there are.
fn read_coded(data: &[u8], weights: &mut [u8; WEIGHTS_MAX + 1]) -> Result<usize> {
    let mut table = FseTable::<WEIGHT_STATES>::new();
    let nr_bytes = table.read(data, BITS_MAX as usize + 1)?;
    let mut bits = Backward::new(data.get(nr_bytes..).ok_or(CodecError::Corrupt)?)?;
    let mut states = [table.start(&mut bits), table.start(&mut bits)];
    if bits.is_overrun() {
        return Err(CodecError::Corrupt);
    }
    for nr in 0..WEIGHTS_MAX {
        bits.refill();
        weights[nr] = table.symbol(states[nr % 2]);
        table.step(&mut states[nr % 2], &mut bits);
        if bits.is_overrun() {
            // This state could not go on; the other one still stands for a symbol.
            let last = weights.get_mut(nr + 1).filter(|_| nr + 1 < WEIGHTS_MAX).ok_or(CodecError::Corrupt)?;
            *last = table.symbol(states[(nr + 1) % 2]);
            return Ok(nr + 2);
        }
    }
    Err(CodecError::Corrupt)
}
