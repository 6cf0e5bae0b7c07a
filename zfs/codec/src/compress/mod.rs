//! Compression with ZFS's framing and its rule for when it is worth it.
//!
//! | algorithm | frame |
//! |---|---|
//! | lz4 | u32 big-endian length, one LZ4 block |
//! | zstd | u32 big-endian length, u32 big-endian version and level, frame without magic number |
//! | gzip | a zlib stream |
//! | zle, lzjb | bare |
//!
//! What follows the frame is padding up to the allocation unit and is ignored.

mod gzip;
mod lz4;
mod lzjb;
mod zle;
mod zstd;

use crate::error::{CodecError, Result};
use alloc::vec::Vec;
use ondisk::Compression;

/// The algorithm is built in, both ways. Zstd is not: it is only read.
#[must_use]
pub const fn supports_compression(alg: Compression) -> bool {
    !matches!(alg, Compression::Inherit | Compression::Empty | Compression::Zstd)
}

/// Most bytes a compressed form may have to be kept: it must save an eighth.
#[must_use]
pub const fn compressed_max(size: usize) -> usize {
    size - (size >> 3)
}

/// Compresses, without padding. `None` when that saves less than an eighth, or the algorithm does not compress.
///
/// `On` is lz4. This is the form that may be embedded in a block pointer.
#[must_use]
pub fn compress_raw(alg: Compression, src: &[u8]) -> Option<Vec<u8>> {
    let max = compressed_max(src.len());
    let out = match alg {
        Compression::Lz4 | Compression::On => lz4::compress(src),
        Compression::Lzjb => lzjb::compress(src, max)?,
        Compression::Zle => zle::compress(src, max)?,
        _ => gzip::compress(src, alg.gzip_level()?, max)?,
    };
    (out.len() <= max).then_some(out)
}

/// Compresses and pads with zeros to a multiple of `min_alloc`, the pool's allocation unit. `None` when the padded form
/// would not be smaller than `src` or saves less than an eighth: store `src` as it is.
#[must_use]
pub fn compress(alg: Compression, src: &[u8], min_alloc: usize) -> Option<Vec<u8>> {
    pad(compress_raw(alg, src)?, src.len(), min_alloc)
}

/// Pads a compressed form to the allocation unit; `None` when it is then no smaller than the original.
#[must_use]
pub fn pad(mut compressed: Vec<u8>, size: usize, min_alloc: usize) -> Option<Vec<u8>> {
    let padded = compressed.len().checked_next_multiple_of(min_alloc.max(1))?;
    if padded >= size {
        return None;
    }
    compressed.resize(padded, 0);
    Some(compressed)
}

/// Expands `src` to exactly `out.len()` bytes, the block's logical size.
///
/// # Errors
/// `Corrupt` when `src` is not what a compressor made of that many bytes, `Unsupported` when the algorithm is not built
/// in.
pub fn decompress(alg: Compression, src: &[u8], out: &mut [u8]) -> Result<()> {
    match alg {
        Compression::Off => {
            out.copy_from_slice(src.get(..out.len()).ok_or(CodecError::Corrupt)?);
            Ok(())
        }
        Compression::Empty => {
            out.fill(0);
            Ok(())
        }
        Compression::Lz4 => lz4::decompress(src, out),
        Compression::Lzjb => lzjb::decompress(src, out),
        Compression::Zle => zle::decompress(src, out),
        Compression::Zstd => zstd::decompress(src, out),
        alg if alg.gzip_level().is_some() => gzip::decompress(src, out),
        _ => Err(CodecError::Unsupported),
    }
}

/// Splits a big-endian length and what it counts off the start of `src`.
fn split_length(src: &[u8]) -> Result<(usize, &[u8])> {
    let (length, rest) = src.split_first_chunk::<4>().ok_or(CodecError::Corrupt)?;
    Ok((u32::from_be_bytes(*length) as usize, rest))
}

#[cfg(test)]
mod tests;
