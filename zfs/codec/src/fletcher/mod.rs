//! Fletcher-2 and fletcher-4: running sums over the words of a block.
//!
//! Fletcher-4 keeps `a += w; b += a; c += b; d += c` over 32-bit words. The vector forms run several such sums over
//! interleaved words and put them together at the end; they give the same result by test.

mod simd;

use core::sync::atomic::{AtomicU8, Ordering};
use ondisk::Digest;

/// Which instructions the sums may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Simd {
    /// None.
    Scalar = 0,
    /// SSE2, which every x86-64 has.
    Sse2 = 1,
    /// AVX2. In a guest its registers belong to the application.
    Avx2 = 2,
}

static LEVEL: AtomicU8 = AtomicU8::new(Simd::Sse2 as u8);

/// Limits the instructions used from now on; what the CPU lacks is never used.
pub fn set_simd(limit: Simd) {
    let level = limit.min(simd::best_available());
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Uses the best instructions the CPU and the operating system offer. For processes with an operating system below
/// them, or kernels that save all vector state.
pub fn use_best() {
    set_simd(Simd::Avx2);
}

/// The instructions in use.
#[must_use]
pub fn simd() -> Simd {
    match LEVEL.load(Ordering::Relaxed) {
        0 => Simd::Scalar,
        1 => Simd::Sse2,
        _ => Simd::Avx2,
    }
}

/// Fletcher-4 in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fletcher4 {
    sums: [u64; 4],
}

impl Fletcher4 {
    /// Adds bytes written by a little-endian host. A rest shorter than a word is ignored: only the last piece may have
    /// one.
    pub fn update(&mut self, bytes: &[u8]) {
        let (vector, rest) = match simd() {
            Simd::Avx2 => simd::fletcher4_avx2(&mut self.sums, bytes),
            Simd::Sse2 => simd::fletcher4_sse2(&mut self.sums, bytes),
            Simd::Scalar => (0, bytes),
        };
        debug_assert_eq!(vector + rest.len(), bytes.len());
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
