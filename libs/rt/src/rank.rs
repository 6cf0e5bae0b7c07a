//! Lock ranks: a thread may only take a lock of a higher rank than any it holds.
//!
//! Rank 0 is unranked and unchecked. Checked in builds with debug assertions; a violation panics where it
//! happens, long before the deadlock it would one day cause. Ranks of the project: `docs/ZFS-INTERNALS.md`, section 7.
use core::cell::Cell;

/// Most ranked locks one thread may hold.
pub const HELD_MAX: usize = 24;

/// The ranks a thread holds, in a cell private to it.
#[derive(Debug)]
#[cfg_attr(
    not(debug_assertions),
    expect(dead_code, reason = "only builds with debug assertions check ranks")
)]
pub struct HeldRanks {
    nr_held: Cell<usize>,
    ranks: [Cell<u16>; HELD_MAX],
}

impl HeldRanks {
    /// None held.
    pub const fn new() -> Self {
        Self { nr_held: Cell::new(0), ranks: [const { Cell::new(0) }; HELD_MAX] }
    }
}

impl Default for HeldRanks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(debug_assertions)]
fn with_held<R>(f: impl FnOnce(&HeldRanks) -> R) -> R {
    // SAFETY: the provider returns a cell private to this thread and valid while it runs (Provider, 3).
    f(unsafe { &*crate::provider::__rt_held_ranks() })
}

/// Notes that the calling thread is about to take a lock of `rank`.
pub(crate) fn acquire(rank: u16) {
    #[cfg(debug_assertions)]
    if rank != 0 {
        with_held(|held| {
            let n = held.nr_held.get();
            let highest = held.ranks[..n].iter().map(Cell::get).max().unwrap_or(0);
            assert!(rank > highest, "lock rank {rank} taken while holding rank {highest}");
            assert!(n < HELD_MAX, "more than {HELD_MAX} ranked locks held");
            held.ranks[n].set(rank);
            held.nr_held.set(n + 1);
        });
    }
    #[cfg(not(debug_assertions))]
    let _ = rank;
}

/// Notes that the calling thread released a lock of `rank`.
pub(crate) fn release(rank: u16) {
    #[cfg(debug_assertions)]
    if rank != 0 {
        with_held(|held| {
            let n = held.nr_held.get();
            if let Some(at) = held.ranks[..n].iter().rposition(|r| r.get() == rank) {
                held.ranks[at].set(held.ranks[n - 1].get());
                held.nr_held.set(n - 1);
            }
        });
    }
    #[cfg(not(debug_assertions))]
    let _ = rank;
}
