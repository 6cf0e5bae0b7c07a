//! LZ4: a big-endian length, then one raw block.

use super::split_length;
use crate::error::{CodecError, Result};
use alloc::vec;
use alloc::vec::Vec;
use lz4_flex::block::{compress_into, get_maximum_output_size};

const LENGTH_SIZE: usize = 4;
/// Shortest match.
const MATCH_MIN: usize = 4;
/// A length field that goes on in the bytes behind.
const LENGTH_GOES_ON: u8 = 15;

pub(super) fn compress(src: &[u8]) -> Vec<u8> {
    let mut out = vec![0; LENGTH_SIZE + get_maximum_output_size(src.len())];
    // cannot fail: the output has the largest size; the fallback is a form that is never kept
    let Ok(used) = compress_into(src, &mut out[LENGTH_SIZE..]) else { return out };
    let length = u32::try_from(used).unwrap_or(u32::MAX);
    out[..LENGTH_SIZE].copy_from_slice(&length.to_be_bytes());
    out.truncate(LENGTH_SIZE + used);
    out
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let (length, rest) = split_length(src)?;
    let block = rest.get(..length).ok_or(CodecError::Corrupt)?;
    match decode(block, out) {
        Some(written) if written == out.len() => Ok(()),
        _ => Err(CodecError::Corrupt),
    }
}

/// Decodes a block into the start of `out`; how many bytes it held. Written out here because blocks of a pool are full of
/// long runs (indirect blocks, dnodes), which have to go in large steps.
fn decode(mut src: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let token = take(&mut src, 1)?[0];
        let nr_literals = length(&mut src, token >> 4)?;
        let literals = take(&mut src, nr_literals)?;
        let end = at.checked_add(nr_literals)?;
        out.get_mut(at..end)?.copy_from_slice(literals);
        at = end;
        // A block ends with literals.
        if src.is_empty() {
            return Some(at);
        }
        let distance = take(&mut src, 2)?;
        let distance = usize::from(u16::from_le_bytes([distance[0], distance[1]]));
        let len = length(&mut src, token & 15)?.checked_add(MATCH_MIN)?;
        at = repeat(out, at, distance, len)?;
    }
}

fn take<'a>(src: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = src.split_at_checked(len)?;
    *src = rest;
    Some(head)
}

/// A length whose first part is `first`.
fn length(src: &mut &[u8], first: u8) -> Option<usize> {
    let mut sum = usize::from(first);
    let mut goes_on = first == LENGTH_GOES_ON;
    while goes_on {
        let more = take(src, 1)?[0];
        sum = sum.checked_add(usize::from(more))?;
        goes_on = more == u8::MAX;
    }
    Some(sum)
}

/// Copies `len` bytes to `at` from `distance` before it, where source and target may overlap; the end.
fn repeat(out: &mut [u8], at: usize, distance: usize, len: usize) -> Option<usize> {
    let start = at.checked_sub(distance).filter(|_| distance != 0)?;
    let end = at.checked_add(len)?;
    if end > out.len() {
        return None;
    }
    if distance == 1 {
        let byte = out[start];
        out[at..end].fill(byte);
        return Some(end);
    }
    // What has been copied can be copied from: each step may be twice as long as the one before.
    let mut done = at;
    while done < end {
        let n = (done - start).min(end - done);
        out.copy_within(start..start + n, done);
        done += n;
    }
    Some(end)
}
