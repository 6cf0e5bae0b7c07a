//! LZJB: eight items after each bitmap byte (lowest bit first); an item is a literal or a match of six bits length less
//! three and ten bits distance.

use crate::error::{CodecError, Result};
use alloc::vec;
use alloc::vec::Vec;

const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = (1 << 6) + (MATCH_MIN - 1);
const DISTANCE_MASK: usize = (1 << 10) - 1;
const HASH_SIZE: usize = 1024;

pub(super) fn compress(src: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(max);
    // position + 1 of the last place each hash was seen
    let mut seen = vec![0u32; HASH_SIZE];
    let (mut at, mut bitmap_at, mut bit) = (0, 0, 8);
    while at < src.len() {
        if bit == 8 {
            bit = 0;
            bitmap_at = out.len();
            out.push(0);
        }
        if let Some((length, distance)) = find_match(src, at, &mut seen) {
            out[bitmap_at] |= 1 << bit;
            let word = ((length - MATCH_MIN) << 10 | distance) as u16;
            out.extend_from_slice(&word.to_be_bytes());
            at += length;
        } else {
            out.push(src[at]);
            at += 1;
        }
        bit += 1;
        if out.len() > max {
            return None;
        }
    }
    Some(out)
}

/// The match at `at`, as length and distance; remembers the place.
fn find_match(src: &[u8], at: usize, seen: &mut [u32]) -> Option<(usize, usize)> {
    let here = src.get(at..).filter(|rest| rest.len() > MATCH_MAX)?;
    let mut hash = usize::from(here[0]) << 16 | usize::from(here[1]) << 8 | usize::from(here[2]);
    hash = hash.wrapping_add(hash >> 9);
    hash = hash.wrapping_add(hash >> 5);
    let slot = seen.get_mut(hash % HASH_SIZE)?;
    let before = core::mem::replace(slot, u32::try_from(at + 1).ok()?);
    let candidate = (before as usize).checked_sub(1)?;
    let distance = at - candidate;
    if distance > DISTANCE_MASK {
        return None;
    }
    let there = &src[candidate..];
    let length = here.iter().zip(there).take(MATCH_MAX).take_while(|(a, b)| a == b).count();
    (length >= MATCH_MIN).then_some((length, distance))
}

pub(super) fn decompress(src: &[u8], out: &mut [u8]) -> Result<()> {
    let (mut src, mut at) = (src.iter().copied(), 0);
    let mut next = || src.next().ok_or(CodecError::Corrupt);
    while at < out.len() {
        let bitmap = next()?;
        for bit in 0..8 {
            if at == out.len() {
                break;
            }
            if bitmap >> bit & 1 == 0 {
                out[at] = next()?;
                at += 1;
                continue;
            }
            let word = usize::from(u16::from_be_bytes([next()?, next()?]));
            let (length, distance) = ((word >> 10) + MATCH_MIN, word & DISTANCE_MASK);
            if distance == 0 || distance > at {
                return Err(CodecError::Corrupt);
            }
            // the last match may state more than is left: the format's own decoder stops there too
            for _ in 0..length.min(out.len() - at) {
                out[at] = out[at - distance];
                at += 1;
            }
        }
    }
    Ok(())
}
