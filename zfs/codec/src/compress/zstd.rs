//! Zstandard: a big-endian length, a big-endian word of library version and level, a frame without magic number.

use super::split_length;
use crate::error::{CodecError, Result};
use alloc::vec::Vec;
use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};

/// Length and version words.
const HEADER_SIZE: usize = 8;
/// Magic number of an ordinary frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The library version OpenZFS ships and writes: 1.4.5.
const VERSION: u32 = 10405;
const LEVEL_DEFAULT: u8 = 3;
const LEVEL_MAX: u8 = 19;
/// Largest window a block can need: the largest block, rounded up.
const WINDOW_MAX: u64 = 1 << 24;

pub(super) fn compress(src: &[u8], level: u8) -> Vec<u8> {
    let level = if level == 0 { LEVEL_DEFAULT } else { level.min(LEVEL_MAX) };
    let frame = compress_slice_to_vec(src, CompressionLevel::from_level(i32::from(level)));
    let frame = frame.strip_prefix(&MAGIC).unwrap_or(&frame);
    let mut out = Vec::with_capacity(HEADER_SIZE + frame.len());
    out.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&(VERSION << 8 | u32::from(level)).to_be_bytes());
    out.extend_from_slice(frame);
    out
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let (length, rest) = split_length(src)?;
    let frame = rest.get(HEADER_SIZE - 4..).and_then(|f| f.get(..length)).ok_or(CodecError::Corrupt)?;
    let mut decoder = FrameDecoder::new();
    decoder.set_magicless(true);
    decoder.set_max_window_size(WINDOW_MAX).map_err(|_| CodecError::Corrupt)?;
    match decoder.decode_all(frame, out) {
        Ok(written) if written == out.len() => Ok(()),
        _ => Err(CodecError::Corrupt),
    }
}
