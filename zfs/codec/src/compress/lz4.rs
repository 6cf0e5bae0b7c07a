//! LZ4: a big-endian length, then one raw block.

use super::split_length;
use crate::error::{CodecError, Result};
use alloc::vec;
use alloc::vec::Vec;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

const LENGTH_SIZE: usize = 4;

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
    match decompress_into(block, out) {
        Ok(written) if written == out.len() => Ok(()),
        _ => Err(CodecError::Corrupt),
    }
}
