//! Zero-length encoding: a code `c` below 64 is followed by `c + 1` literals, any other stands for `c - 63` zeros.

use crate::error::{CodecError, Result};
use alloc::vec::Vec;

/// Literals of one code.
const LITERALS_MAX: usize = 64;
/// Zeros of one code.
const ZEROS_MAX: usize = 256 - LITERALS_MAX;

pub(super) fn compress(src: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(max);
    let mut rest = src;
    while let Some(first) = rest.first() {
        let run = if *first == 0 { zeros(rest) } else { literals(rest) };
        let (taken, after) = rest.split_at(run);
        if *first == 0 {
            out.push((run + LITERALS_MAX - 1) as u8);
        } else {
            out.push((run - 1) as u8);
            out.extend_from_slice(taken);
        }
        if out.len() > max {
            return None;
        }
        rest = after;
    }
    Some(out)
}

fn zeros(bytes: &[u8]) -> usize {
    bytes.iter().take(ZEROS_MAX).take_while(|b| **b == 0).count()
}

/// Literals go on over a single zero: a code of its own for it would save nothing.
fn literals(bytes: &[u8]) -> usize {
    let limit = bytes.len().min(LITERALS_MAX);
    let stop = bytes[..limit].windows(2).position(|pair| pair == [0, 0]).unwrap_or(limit);
    if stop == limit && limit > 1 && bytes[limit - 1] == 0 { limit - 1 } else { stop }
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let (mut src, mut out) = (src, out);
    while !out.is_empty() {
        let (code, rest) = src.split_first().ok_or(CodecError::Corrupt)?;
        let code = usize::from(*code);
        if code < LITERALS_MAX {
            let (literals, rest) = rest.split_at_checked(code + 1).ok_or(CodecError::Corrupt)?;
            let (place, after) = out.split_at_mut_checked(literals.len()).ok_or(CodecError::Corrupt)?;
            place.copy_from_slice(literals);
            (src, out) = (rest, after);
        } else {
            let run = code + 1 - LITERALS_MAX;
            let (place, after) = out.split_at_mut_checked(run).ok_or(CodecError::Corrupt)?;
            place.fill(0);
            (src, out) = (rest, after);
        }
    }
    Ok(())
}
