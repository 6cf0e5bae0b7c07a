//! gzip-1 to gzip-9: a bare zlib stream; what follows it is padding.

use crate::error::{CodecError, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress as inflate};

pub(super) fn compress(src: &[u8], level: u8) -> Vec<u8> {
    compress_to_vec_zlib(src, level)
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let mut state = Box::<DecompressorOxide>::default();
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, written) = inflate(&mut state, src, out, 0, flags);
    if status == TINFLStatus::Done && written == out.len() { Ok(()) } else { Err(CodecError::Corrupt) }
}
