//! Fletcher-4 in vector registers: `N` interleaved sums, put together at the end.
//!
//! Lane `s` sums words `s`, `s + N`, ... A word that is `t` words before the end counts `1, t, t(t+1)/2, t(t+1)(t+2)/6`
//! times in `a, b, c, d`. With `u` rounds left for its lane, `t = N*u - s`; expressing the first polynomials in the
//! second kind gives the coefficients of [`combine`].

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(in super::super) fn fletcher4_sse2<'a>(_: &mut [u64; 4], bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }

    pub(in super::super) fn fletcher4_avx2<'a>(_: &mut [u64; 4], bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{combine, join};
    use core::arch::x86_64::*;

    /// Adds all whole rounds of 16 bytes; returns the rest.
    pub(in super::super) fn fletcher4_sse2<'a>(sums: &mut [u64; 4], bytes: &'a [u8]) -> &'a [u8] {
        let (rounds, rest) = bytes.as_chunks::<16>();
        if !rounds.is_empty() {
            // SAFETY: SSE2 belongs to the x86-64 baseline.
            let part = unsafe { rounds_sse2(rounds) };
            join(sums, part, rounds.len() as u64 * 4);
        }
        rest
    }

    #[target_feature(enable = "sse2")]
    fn rounds_sse2(rounds: &[[u8; 16]]) -> [u64; 4] {
        let zero = _mm_setzero_si128();
        let (mut a, mut b, mut c, mut d) = ([zero; 2], [zero; 2], [zero; 2], [zero; 2]);
        for round in rounds {
            // SAFETY: an unaligned load of the 16 bytes of `round`.
            let words = unsafe { _mm_loadu_si128(round.as_ptr().cast()) };
            let words = [_mm_unpacklo_epi32(words, zero), _mm_unpackhi_epi32(words, zero)];
            for i in 0..2 {
                a[i] = _mm_add_epi64(a[i], words[i]);
                b[i] = _mm_add_epi64(b[i], a[i]);
                c[i] = _mm_add_epi64(c[i], b[i]);
                d[i] = _mm_add_epi64(d[i], c[i]);
            }
        }
        let lanes = |v: [__m128i; 2]| {
            let mut out = [0u64; 4];
            // SAFETY: two unaligned stores of 16 bytes each into 32 bytes.
            unsafe {
                _mm_storeu_si128(out.as_mut_ptr().cast(), v[0]);
                _mm_storeu_si128(out.as_mut_ptr().add(2).cast(), v[1]);
            }
            out
        };
        combine([lanes(a), lanes(b), lanes(c), lanes(d)])
    }

    /// Adds all whole rounds of 32 bytes; returns the rest.
    pub(in super::super) fn fletcher4_avx2<'a>(sums: &mut [u64; 4], bytes: &'a [u8]) -> &'a [u8] {
        let (rounds, rest) = bytes.as_chunks::<32>();
        if !rounds.is_empty() {
            // SAFETY: the level is only chosen where the CPU has AVX2 and its registers are kept.
            let part = unsafe { rounds_avx2(rounds) };
            join(sums, part, rounds.len() as u64 * 8);
        }
        rest
    }

    #[target_feature(enable = "avx2")]
    fn rounds_avx2(rounds: &[[u8; 32]]) -> [u64; 4] {
        let zero = _mm256_setzero_si256();
        let (mut a, mut b, mut c, mut d) = ([zero; 2], [zero; 2], [zero; 2], [zero; 2]);
        for round in rounds {
            let (low, high) = round.split_at(16);
            // SAFETY: two unaligned loads of 16 bytes each.
            let halves =
                unsafe { [_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())] };
            let words = halves.map(|half| _mm256_cvtepu32_epi64(half));
            for i in 0..2 {
                a[i] = _mm256_add_epi64(a[i], words[i]);
                b[i] = _mm256_add_epi64(b[i], a[i]);
                c[i] = _mm256_add_epi64(c[i], b[i]);
                d[i] = _mm256_add_epi64(d[i], c[i]);
            }
        }
        let lanes = |v: [__m256i; 2]| {
            let mut out = [0u64; 8];
            // SAFETY: two unaligned stores of 32 bytes each into 64 bytes.
            unsafe {
                _mm256_storeu_si256(out.as_mut_ptr().cast(), v[0]);
                _mm256_storeu_si256(out.as_mut_ptr().add(4).cast(), v[1]);
            }
            out
        };
        combine([lanes(a), lanes(b), lanes(c), lanes(d)])
    }
}

pub(super) use arch::{fletcher4_avx2, fletcher4_sse2};

/// The sums over all words from the lanes' sums.
#[cfg(target_arch = "x86_64")]
fn combine<const N: usize>([a, b, c, d]: [[u64; N]; 4]) -> [u64; 4] {
    let n = N as i64;
    let mut out = [0u64; 4];
    for lane in 0..N {
        let s = lane as i64;
        let weights: [[i64; 4]; 4] = [
            [1, 0, 0, 0],
            [-s, n, 0, 0],
            [(s * s - s) / 2, (n - n * n - 2 * n * s) / 2, n * n, 0],
            [
                (3 * s * s - s * s * s - 2 * s) / 6,
                (n * n * n - 3 * n * n * (1 - s) + 3 * n * s * s - 6 * n * s + 2 * n) / 6,
                n * n * (1 - s) - n * n * n,
                n * n * n,
            ],
        ];
        let sums = [a[lane], b[lane], c[lane], d[lane]];
        for (total, row) in out.iter_mut().zip(weights) {
            for (weight, sum) in row.into_iter().zip(sums) {
                *total = total.wrapping_add(sum.wrapping_mul(weight.cast_unsigned()));
            }
        }
    }
    out
}

/// Appends the sums of `words` words to the sums before them: each earlier sum goes on counting through those words.
#[cfg(target_arch = "x86_64")]
fn join(sums: &mut [u64; 4], part: [u64; 4], words: u64) {
    let [a, b, c, d] = *sums;
    let n = u128::from(words);
    let pairs = (n * (n + 1) / 2) as u64;
    // a piece has at most 2^62 words; its third power would need more than 128 bits only beyond 2^42
    let triples = (n * (n + 1) / 2).wrapping_mul(n + 2) / 3;
    let grow = |from: u64, times: u64| from.wrapping_mul(times);
    sums[0] = a.wrapping_add(part[0]);
    sums[1] = b.wrapping_add(grow(a, words)).wrapping_add(part[1]);
    sums[2] = c.wrapping_add(grow(b, words)).wrapping_add(grow(a, pairs)).wrapping_add(part[2]);
    sums[3] = d
        .wrapping_add(grow(c, words))
        .wrapping_add(grow(b, pairs))
        .wrapping_add(grow(a, triples as u64))
        .wrapping_add(part[3]);
}
