//! Fletcher-2 and fletcher-4: running sums over the words of a block.
//!
//! Fletcher-4 keeps `a += w; b += a; c += b; d += c` over 32-bit words. The vector forms run several such sums over
//! interleaved words and put them together at the end; they give the same result by test.

mod lanes;

use crate::simd::{Simd, in_pieces, level_for};
use ondisk::Digest;

/// Fletcher-4 in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fletcher4 {
    sums: [u64; 4],
}

impl Fletcher4 {
    /// Adds bytes written by a little-endian host. A rest shorter than a word is ignored: only the last piece may have
    /// one.
    pub fn update(&mut self, bytes: &[u8]) {
        self.update_with(level_for(bytes.len()), bytes);
    }

    fn update_with(&mut self, level: Simd, bytes: &[u8]) {
        let mut rest = bytes;
        match level {
            // Only the last piece has a rest.
            Simd::Avx2 => {
                in_pieces(bytes.len(), |piece| rest = lanes::fletcher4_avx2(&mut self.sums, &bytes[piece]));
            }
            Simd::Sse2 => rest = lanes::fletcher4_sse2(&mut self.sums, bytes),
            Simd::Scalar => {}
        }
        self.update_scalar(rest, u32::from_le_bytes);
    }

    /// Adds bytes written by a big-endian host.
    pub fn update_foreign(&mut self, bytes: &[u8]) {
        self.update_scalar(bytes, u32::from_be_bytes);
    }

    fn update_scalar(&mut self, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) {
        let [mut a, mut b, mut c, mut d] = self.sums;
        for chunk in bytes.as_chunks::<4>().0 {
            a = a.wrapping_add(u64::from(word(*chunk)));
            b = b.wrapping_add(a);
            c = c.wrapping_add(b);
            d = d.wrapping_add(c);
        }
        self.sums = [a, b, c, d];
    }

    /// The sums.
    #[must_use]
    pub const fn finish(&self) -> Digest {
        Digest(self.sums)
    }
}

/// Fletcher-2 in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fletcher2 {
    sums: [u64; 4],
}

impl Fletcher2 {
    /// Adds bytes written by a little-endian host. A rest shorter than a pair of words is ignored.
    pub fn update(&mut self, bytes: &[u8]) {
        self.update_words(bytes, u64::from_le_bytes);
    }

    /// Adds bytes written by a big-endian host.
    pub fn update_foreign(&mut self, bytes: &[u8]) {
        self.update_words(bytes, u64::from_be_bytes);
    }

    fn update_words(&mut self, bytes: &[u8], word: impl Fn([u8; 8]) -> u64) {
        let [mut a0, mut a1, mut b0, mut b1] = self.sums;
        for pair in bytes.as_chunks::<8>().0.as_chunks::<2>().0 {
            a0 = a0.wrapping_add(word(pair[0]));
            a1 = a1.wrapping_add(word(pair[1]));
            b0 = b0.wrapping_add(a0);
            b1 = b1.wrapping_add(a1);
        }
        self.sums = [a0, a1, b0, b1];
    }

    /// The sums.
    #[must_use]
    pub const fn finish(&self) -> Digest {
        Digest(self.sums)
    }
}

/// Fletcher-4 of one piece of bytes.
#[must_use]
pub fn fletcher4(bytes: &[u8]) -> Digest {
    let mut sums = Fletcher4::default();
    sums.update(bytes);
    sums.finish()
}

/// Fletcher-2 of one piece of bytes.
#[must_use]
pub fn fletcher2(bytes: &[u8]) -> Digest {
    let mut sums = Fletcher2::default();
    sums.update(bytes);
    sums.finish()
}

#[cfg(test)]
mod tests;
