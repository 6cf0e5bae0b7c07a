//! Zstandard: a big-endian length, a big-endian word of library version and level, a frame without magic number.
//!
//! Only reading. The decoder is our own because it runs in the guest on what lies on a disk: no `unsafe`, no window
//! (the whole block is there to copy from), and memory for one block's literals and tables only, whatever the frame
//! says. Written from RFC 8878; dictionaries are not used by ZFS and are refused.

mod bits;
mod fse;
mod huffman;
mod literals;
mod sequences;

use super::split_length;
use crate::error::{CodecError, Result};
use literals::Literals;
use sequences::Sequences;

/// The word of version and level that follows the length.
const VERSION_SIZE: usize = 4;
/// Most bytes one block of a frame stands for.
const BLOCK_MAX: usize = 128 << 10;

const DESCRIPTOR_SINGLE_SEGMENT: u8 = 1 << 5;
const DESCRIPTOR_RESERVED: u8 = 1 << 3;
const DESCRIPTOR_CHECKSUM: u8 = 1 << 2;
const CHECKSUM_SIZE: usize = 4;

/// What a block header says follows it.
mod kind {
    pub const RAW: u32 = 0;
    pub const REPEATED: u32 = 1;
    pub const COMPRESSED: u32 = 2;
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let (length, rest) = split_length(src)?;
    let frame = rest.get(VERSION_SIZE..).and_then(|f| f.get(..length)).ok_or(CodecError::Corrupt)?;
    decode_frame(frame, out)
}

/// Decodes a frame that starts behind its magic number and fills `out` exactly.
fn decode_frame(frame: &[u8], out: &mut [u8]) -> Result<()> {
    let mut source = Source(frame);
    let has_checksum = read_header(&mut source, out.len())?;
    let (mut literals, mut sequences) = (Literals::new(), Sequences::new());
    let mut filled = 0;
    loop {
        let header = source.number(3)? as u32;
        let (is_last, kind, size) = (header & 1 != 0, header >> 1 & 3, (header >> 3) as usize);
        let room = out.len() - filled;
        if size > BLOCK_MAX {
            return Err(CodecError::Corrupt);
        }
        match kind {
            kind::RAW => {
                let bytes = source.take(size)?;
                out.get_mut(filled..filled + size).ok_or(CodecError::Corrupt)?.copy_from_slice(bytes);
                filled += size;
            }
            kind::REPEATED => {
                let byte = source.take(1)?[0];
                out.get_mut(filled..).and_then(|o| o.get_mut(..size)).ok_or(CodecError::Corrupt)?.fill(byte);
                filled += size;
            }
            kind::COMPRESSED => {
                let mut block = Source(source.take(size)?);
                let literals = literals.read(&mut block, room)?;
                filled = sequences.execute(block.0, literals, out, filled)?;
            }
            _ => return Err(CodecError::Corrupt),
        }
        if is_last {
            break;
        }
    }
    // The block's own checksum was verified before; the frame's would add nothing.
    source.take(if has_checksum { CHECKSUM_SIZE } else { 0 })?;
    if filled == out.len() && source.0.is_empty() { Ok(()) } else { Err(CodecError::Corrupt) }
}

/// Reads the frame header; whether a checksum ends the frame. A content size must be the block's.
fn read_header(source: &mut Source<'_>, size: usize) -> Result<bool> {
    let descriptor = source.number(1)? as u8;
    if descriptor & DESCRIPTOR_RESERVED != 0 {
        return Err(CodecError::Corrupt);
    }
    let is_single_segment = descriptor & DESCRIPTOR_SINGLE_SEGMENT != 0;
    if !is_single_segment {
        // The window: all of the block is kept, so its size says nothing.
        source.take(1)?;
    }
    if source.number([0, 1, 2, 4][usize::from(descriptor & 3)])? != 0 {
        return Err(CodecError::Unsupported);
    }
    let content = match descriptor >> 6 {
        0 if !is_single_segment => None,
        0 => Some(source.number(1)?),
        1 => Some(source.number(2)? + 256),
        2 => Some(source.number(4)?),
        _ => Some(source.number(8)?),
    };
    if content.is_some_and(|content| content != size as u64) {
        return Err(CodecError::Corrupt);
    }
    Ok(descriptor & DESCRIPTOR_CHECKSUM != 0)
}

/// Bytes still to be read.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(CodecError::Corrupt)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, nr_bytes: usize) -> Result<u64> {
        Ok(self.take(nr_bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests;
