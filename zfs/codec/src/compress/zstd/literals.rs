//! The first section of a compressed block: the bytes that sequences put between their copies.

use super::huffman::Table;
use super::{BLOCK_MAX, Source};
use crate::error::{CodecError, Result};
use alloc::vec::Vec;

mod kind {
    pub const RAW: u8 = 0;
    pub const REPEATED: u8 = 1;
    pub const CODED: u8 = 2;
}

/// Sizes of the first three of four streams.
const JUMPS_SIZE: usize = 6;

/// A frame's memory for literals: a block may use the code of the one before.
pub(super) struct Literals {
    table: Table,
    bytes: Vec<u8>,
}

impl Literals {
    pub(super) fn new() -> Self {
        Self { table: Table::new(), bytes: Vec::new() }
    }

    /// Reads the section off the front of a block; at most `room` bytes of literals.
    pub(super) fn read<'a>(&'a mut self, block: &mut Source<'a>, room: usize) -> Result<&'a [u8]> {
        let head = block.0.first().copied().ok_or(CodecError::Corrupt)?;
        let (kind, format) = (head & 3, usize::from(head >> 2 & 3));
        let room = room.min(BLOCK_MAX);
        if kind <= kind::REPEATED {
            // Formats 0 and 2 leave one bit more to the size.
            let (nr_bytes, shift) = [(1, 3), (2, 4), (1, 3), (3, 4)][format];
            let size = (block.number(nr_bytes)? >> shift) as usize;
            if size > room {
                return Err(CodecError::Corrupt);
            }
            if kind == kind::RAW {
                return block.take(size);
            }
            let byte = block.take(1)?[0];
            self.bytes.clear();
            self.bytes.resize(size, byte);
            return Ok(&self.bytes);
        }
        let (nr_bytes, nr_bits) = [(3, 10), (3, 10), (4, 14), (5, 18)][format];
        let sizes = block.number(nr_bytes)? >> 4;
        let mask = (1 << nr_bits) - 1;
        let (size, coded_size) = ((sizes & mask) as usize, (sizes >> nr_bits & mask) as usize);
        if size > room {
            return Err(CodecError::Corrupt);
        }
        let mut coded = block.take(coded_size)?;
        if kind == kind::CODED {
            let nr_bytes = self.table.read(coded)?;
            coded = coded.get(nr_bytes..).ok_or(CodecError::Corrupt)?;
        } else if !self.table.is_set() {
            return Err(CodecError::Corrupt);
        }
        self.bytes.resize(size, 0);
        if format == 0 {
            self.table.decode(coded, &mut self.bytes)?;
        } else {
            decode_four(&self.table, coded, &mut self.bytes)?;
        }
        Ok(&self.bytes)
    }
}

/// Four streams, each a quarter (rounded up) of the literals, the last one the rest.
fn decode_four(table: &Table, coded: &[u8], out: &mut [u8]) -> Result<()> {
    let mut source = Source(coded);
    let mut jumps = Source(source.take(JUMPS_SIZE)?);
    let quarter = out.len().div_ceil(4);
    let mut out = out;
    for _ in 0..3 {
        let size = jumps.number(2)? as usize;
        let (part, rest) = out.split_at_mut_checked(quarter).ok_or(CodecError::Corrupt)?;
        table.decode(source.take(size)?, part)?;
        out = rest;
    }
    table.decode(source.0, out)
}
