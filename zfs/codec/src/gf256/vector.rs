//! The operations in vector registers. Each does whole registers and says how many bytes that were.
//!
//! Doubling a byte is a shift, and the sum with 0x1d where a bit fell out: compared with zero, bytes with the highest bit
//! give a mask. A product with a constant is, with SSE2, doublings and sums by the bits of the constant; with AVX2, two
//! tables of sixteen products, of the lower and the upper half of the byte.

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(in super::super) fn add_sse2(_: &mut [u8], _: &[u8]) -> usize {
        0
    }

    pub(in super::super) fn add_avx2(_: &mut [u8], _: &[u8]) -> usize {
        0
    }

    pub(in super::super) fn double_add_sse2(_: &mut [u8], _: &[u8]) -> usize {
        0
    }

    pub(in super::super) fn double_add_avx2(_: &mut [u8], _: &[u8]) -> usize {
        0
    }

    pub(in super::super) fn mul_add_sse2(_: &mut [u8], _: &[u8], _: u8) -> usize {
        0
    }

    pub(in super::super) fn mul_add_avx2(_: &mut [u8], _: &[u8], _: u8) -> usize {
        0
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::super::mul;
    use core::arch::x86_64::*;

    /// What is added when a bit falls out.
    const POLYNOMIAL: i8 = 0x1d;

    pub(in super::super) fn add_sse2(out: &mut [u8], data: &[u8]) -> usize {
        // SAFETY: SSE2 belongs to the x86-64 baseline.
        unsafe { each_sse2(out, data, |old, new| _mm_xor_si128(old, new)) }
    }

    pub(in super::super) fn double_add_sse2(out: &mut [u8], data: &[u8]) -> usize {
        // SAFETY: SSE2 belongs to the x86-64 baseline.
        unsafe { each_sse2(out, data, |old, new| _mm_xor_si128(double_sse2(old), new)) }
    }

    pub(in super::super) fn mul_add_sse2(out: &mut [u8], data: &[u8], weight: u8) -> usize {
        let top = 7 - weight.leading_zeros();
        // SAFETY: SSE2 belongs to the x86-64 baseline.
        unsafe {
            each_sse2(out, data, |old, new| {
                let mut product = new;
                for bit in (0..top).rev() {
                    product = double_sse2(product);
                    if weight >> bit & 1 != 0 {
                        product = _mm_xor_si128(product, new);
                    }
                }
                _mm_xor_si128(old, product)
            })
        }
    }

    pub(in super::super) fn add_avx2(out: &mut [u8], data: &[u8]) -> usize {
        // SAFETY: the level is only chosen where the CPU has AVX2 and its registers are saved.
        unsafe { xor_avx2(out, data) }
    }

    pub(in super::super) fn double_add_avx2(out: &mut [u8], data: &[u8]) -> usize {
        // SAFETY: as above.
        unsafe { horner_avx2(out, data) }
    }

    pub(in super::super) fn mul_add_avx2(out: &mut [u8], data: &[u8], weight: u8) -> usize {
        // SAFETY: as above.
        unsafe { product_avx2(out, data, weight) }
    }

    /// Puts `f(out, data)` into each register's worth of `out`.
    #[inline(always)]
    fn each_sse2(out: &mut [u8], data: &[u8], f: impl Fn(__m128i, __m128i) -> __m128i) -> usize {
        let (rounds, _) = out.as_chunks_mut::<16>();
        let (data, _) = data.as_chunks::<16>();
        for (round, data) in rounds.iter_mut().zip(data) {
            // SAFETY: both are 16 readable bytes, unaligned loads and stores; SSE2 belongs to the baseline.
            unsafe {
                let old = _mm_loadu_si128(round.as_ptr().cast());
                let new = _mm_loadu_si128(data.as_ptr().cast());
                _mm_storeu_si128(round.as_mut_ptr().cast(), f(old, new));
            }
        }
        rounds.len().min(data.len()) * 16
    }

    #[inline(always)]
    fn double_sse2(x: __m128i) -> __m128i {
        // SAFETY: SSE2 belongs to the x86-64 baseline.
        unsafe {
            let carries = _mm_cmpgt_epi8(_mm_setzero_si128(), x);
            _mm_xor_si128(_mm_add_epi8(x, x), _mm_and_si128(carries, _mm_set1_epi8(POLYNOMIAL)))
        }
    }

    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 readable bytes, unaligned.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn store(bytes: &mut [u8; 32], value: __m256i) {
        // SAFETY: 32 writable bytes, unaligned.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
    }

    #[target_feature(enable = "avx2")]
    fn xor_avx2(out: &mut [u8], data: &[u8]) -> usize {
        let (rounds, _) = out.as_chunks_mut::<32>();
        let (data, _) = data.as_chunks::<32>();
        for (round, data) in rounds.iter_mut().zip(data) {
            store(round, _mm256_xor_si256(load(round), load(data)));
        }
        rounds.len().min(data.len()) * 32
    }

    #[target_feature(enable = "avx2")]
    fn horner_avx2(out: &mut [u8], data: &[u8]) -> usize {
        let polynomial = _mm256_set1_epi8(POLYNOMIAL);
        let (rounds, _) = out.as_chunks_mut::<32>();
        let (data, _) = data.as_chunks::<32>();
        for (round, data) in rounds.iter_mut().zip(data) {
            let old = load(round);
            let carries = _mm256_cmpgt_epi8(_mm256_setzero_si256(), old);
            let doubled = _mm256_xor_si256(_mm256_add_epi8(old, old), _mm256_and_si256(carries, polynomial));
            store(round, _mm256_xor_si256(doubled, load(data)));
        }
        rounds.len().min(data.len()) * 32
    }

    #[target_feature(enable = "avx2")]
    fn product_avx2(out: &mut [u8], data: &[u8], weight: u8) -> usize {
        let table =
            |shift: u32| -> [u8; 32] { core::array::from_fn(|i| mul((i as u8 & 15) << shift, weight)) };
        let (low, high) = (load(&table(0)), load(&table(4)));
        let nibble = _mm256_set1_epi8(15);
        let (rounds, _) = out.as_chunks_mut::<32>();
        let (data, _) = data.as_chunks::<32>();
        for (round, data) in rounds.iter_mut().zip(data) {
            let bytes = load(data);
            let lower = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, nibble));
            let upper = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), nibble);
            let product = _mm256_xor_si256(lower, _mm256_shuffle_epi8(high, upper));
            store(round, _mm256_xor_si256(load(round), product));
        }
        rounds.len().min(data.len()) * 32
    }
}

pub(super) use arch::*;
