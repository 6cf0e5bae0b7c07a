//! gzip-1 to gzip-9: a bare zlib stream; what follows it is padding.
//!
//! The compressor's state is larger than a kernel stack. `Box::default` makes it in place, and the functions that do
//! so are kept apart: inlined, its size could end up in a caller's frame after all.

use crate::error::{CodecError, Result};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress as deflate};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress as inflate};

#[inline(never)]
fn compressor() -> Box<CompressorOxide> {
    Box::default()
}

#[inline(never)]
fn decompressor() -> Box<DecompressorOxide> {
    Box::default()
}

/// Compresses; `None` when the result would be longer than `max`.
pub(super) fn compress(src: &[u8], level: u8, max: usize) -> Option<Vec<u8>> {
    let mut state = compressor();
    state.set_format_and_level(DataFormat::Zlib, level);
    let mut out = vec![0; max];
    let (status, _, written) = deflate(&mut state, src, &mut out, TDEFLFlush::Finish);
    out.truncate(written);
    (status == TDEFLStatus::Done).then_some(out)
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let mut state = decompressor();
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = inflate(&mut state, src, out, 0, flags);
    if status == TINFLStatus::Done && written == out.len() { Ok(()) } else { Err(CodecError::Corrupt) }
}
