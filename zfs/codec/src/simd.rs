//! Which instructions the sums of [`crate::fletcher`] and the field of [`crate::gf256`] may use.
//!
//! SSE2 unless somebody says otherwise: in a kernel the upper halves of the AVX registers belong to the application. A
//! process calls [`use_best`]; a kernel calls [`use_best_within`] with what keeps those halves safe for a while.
//!
//! Invariant: AVX2 is executed only inside the bracket, if there is one. Without it an application would find the upper
//! halves of its registers changed after a system call.
use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};
use once_cell::race::OnceBox;

/// Which instructions may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Simd {
    /// None.
    Scalar = 0,
    /// SSE2, which every x86-64 has.
    Sse2 = 1,
    /// AVX2.
    Avx2 = 2,
}

/// Runs its argument, once, while AVX registers may be used.
pub type Bracket = fn(&mut dyn FnMut());

/// Below this many bytes a bracket costs more than AVX2 wins.
const BRACKETED_MIN: usize = 4 << 10;
/// Bytes worked on in one bracket: nothing else runs on the CPU meanwhile. A multiple of every register.
const BRACKETED_MAX: usize = 32 << 10;

static LEVEL: AtomicU8 = AtomicU8::new(Simd::Sse2 as u8);
static BRACKET: OnceBox<Bracket> = OnceBox::new();

/// Uses the best instructions the CPU and the operating system offer. For processes with an operating system below
/// them, or kernels that save all vector state.
pub fn use_best() {
    LEVEL.store(best_available() as u8, Ordering::Relaxed);
}

/// The same, for a kernel: AVX2 only within `bracket`. The first one given holds.
pub fn use_best_within(bracket: Bracket) {
    let _ = BRACKET.set(alloc::boxed::Box::new(bracket));
    use_best();
}

/// The best instructions in use.
#[must_use]
pub fn level() -> Simd {
    match LEVEL.load(Ordering::Relaxed) {
        0 => Simd::Scalar,
        1 => Simd::Sse2,
        _ => Simd::Avx2,
    }
}

/// Those for so many bytes.
pub(crate) fn level_for(len: usize) -> Simd {
    match level() {
        Simd::Avx2 if len < BRACKETED_MIN && BRACKET.get().is_some() => Simd::Sse2,
        level => level,
    }
}

/// Has `work` done on `len` bytes, piece by piece and in order, where AVX registers may be used.
pub(crate) fn in_pieces(len: usize, work: impl FnMut(Range<usize>)) {
    in_pieces_of(BRACKET.get(), len, work);
}

fn in_pieces_of(bracket: Option<&Bracket>, len: usize, mut work: impl FnMut(Range<usize>)) {
    let Some(bracket) = bracket else { return work(0..len) };
    for start in (0..len).step_by(BRACKETED_MAX) {
        bracket(&mut || work(start..len.min(start + BRACKETED_MAX)));
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn best_available() -> Simd {
    Simd::Scalar
}

#[cfg(target_arch = "x86_64")]
pub(crate) use detect::best_available;

#[cfg(target_arch = "x86_64")]
mod detect {
    use super::Simd;

    /// The CPU has AVX2, and whoever runs below us saves its registers.
    pub(crate) fn best_available() -> Simd {
        let cpuid = raw_cpuid::CpuId::new();
        let has_xgetbv = cpuid.get_feature_info().is_some_and(|f| f.has_oxsave() && f.has_avx());
        if !has_xgetbv || !cpuid.get_extended_feature_info().is_some_and(|f| f.has_avx2()) {
            return Simd::Sse2;
        }
        // SAFETY: CPUID says that XGETBV is enabled.
        let enabled = unsafe { xcr0() };
        if enabled & 6 == 6 { Simd::Avx2 } else { Simd::Sse2 }
    }

    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: register 0 exists wherever XGETBV is enabled, which the caller has checked.
        unsafe { core::arch::x86_64::_xgetbv(0) }
    }
}

/// The levels that can be used here.
#[cfg(test)]
pub(crate) fn levels() -> impl Iterator<Item = Simd> {
    [Simd::Scalar, Simd::Sse2, Simd::Avx2].into_iter().filter(|level| *level <= best_available())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once_and_in_order() {
        for len in [0, 1, BRACKETED_MAX, BRACKETED_MAX + 1, 3 * BRACKETED_MAX + 17] {
            for bracket in [None, Some(&((|work| work()) as Bracket))] {
                let mut end = 0;
                in_pieces_of(bracket, len, |piece| {
                    assert_eq!(piece.start, end);
                    assert!(bracket.is_none() || piece.len() <= BRACKETED_MAX);
                    end = piece.end;
                });
                assert_eq!(end, len);
            }
        }
    }
}
