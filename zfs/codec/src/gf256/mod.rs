//! The field GF(2^8) with the polynomial 0x11d, over runs of bytes: what raidz parity is made of.
//!
//! Every operation exists in general registers and in SSE2 and AVX2 registers, with the same results by test; which is
//! used is what [`crate::simd`] says.
mod vector;

use crate::simd::{Simd, in_pieces, level_for};

/// Product of two elements.
#[must_use]
pub const fn mul(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a as u16, b, 0u16);
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= 0x11d;
        }
        b >>= 1;
    }
    product as u8
}

/// `out += data`, as far as `data` goes.
pub fn add(out: &mut [u8], data: &[u8]) {
    add_with(level_for(data.len()), out, data);
}

/// `out = 2 * out + data`; `data` counts as continued with zeroes.
pub fn double_add(out: &mut [u8], data: &[u8]) {
    double_add_with(level_for(data.len()), out, data);
}

/// `out += weight * data`, as far as `data` goes.
pub fn mul_add(out: &mut [u8], data: &[u8], weight: u8) {
    mul_add_with(level_for(data.len()), out, data, weight);
}

/// Has `work` done on pieces of both, which are of one length; how many bytes it did, each piece but the last as a whole.
fn widely(out: &mut [u8], data: &[u8], mut work: impl FnMut(&mut [u8], &[u8]) -> usize) -> usize {
    let mut done = 0;
    in_pieces(out.len(), |piece| done += work(&mut out[piece.clone()], &data[piece]));
    done
}

fn add_with(level: Simd, out: &mut [u8], data: &[u8]) {
    let len = out.len().min(data.len());
    let (out, data) = (&mut out[..len], &data[..len]);
    let done = match level {
        Simd::Avx2 => widely(out, data, vector::add_avx2),
        Simd::Sse2 => vector::add_sse2(out, data),
        Simd::Scalar => 0,
    };
    out[done..].iter_mut().zip(&data[done..]).for_each(|(o, d)| *o ^= d);
}

fn double_add_with(level: Simd, out: &mut [u8], data: &[u8]) {
    let both = out.len().min(data.len());
    let (head, tail) = out.split_at_mut(both);
    let data = &data[..both];
    let done = match level {
        Simd::Avx2 => widely(head, data, vector::double_add_avx2),
        Simd::Sse2 => vector::double_add_sse2(head, data),
        Simd::Scalar => 0,
    };
    let (head, data) = (&mut head[done..], &data[done..]);
    let (words, rest) = head.as_chunks_mut::<8>();
    let (data_words, data_rest) = data.as_chunks::<8>();
    for (word, data) in words.iter_mut().zip(data_words) {
        *word = (double_word(u64::from_le_bytes(*word)) ^ u64::from_le_bytes(*data)).to_le_bytes();
    }
    rest.iter_mut().zip(data_rest).for_each(|(o, d)| *o = mul(*o, 2) ^ d);
    let (words, rest) = tail.as_chunks_mut::<8>();
    words.iter_mut().for_each(|word| *word = double_word(u64::from_le_bytes(*word)).to_le_bytes());
    rest.iter_mut().for_each(|o| *o = mul(*o, 2));
}

/// Eight bytes doubled at once.
const fn double_word(word: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A carry is one bit of its byte: times 0x1d it fills no other.
    ((word & !HIGH) << 1) ^ (((word & HIGH) >> 7) * 0x1d)
}

fn mul_add_with(level: Simd, out: &mut [u8], data: &[u8], weight: u8) {
    match weight {
        0 => return,
        1 => return add_with(level, out, data),
        _ => {}
    }
    let len = out.len().min(data.len());
    let (out, data) = (&mut out[..len], &data[..len]);
    let done = match level {
        Simd::Avx2 => widely(out, data, |out, data| vector::mul_add_avx2(out, data, weight)),
        Simd::Sse2 => vector::mul_add_sse2(out, data, weight),
        Simd::Scalar => 0,
    };
    if done < len {
        let table: [u8; 256] = core::array::from_fn(|i| mul(i as u8, weight));
        let rest = out[done..].iter_mut().zip(&data[done..]);
        rest.for_each(|(o, d)| *o ^= table[usize::from(*d)]);
    }
}

#[cfg(test)]
mod tests;
