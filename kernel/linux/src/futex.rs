//! Futexes: threads that sleep on a word of memory.
//!
//! Waiters hang in hashed buckets, each with its own lock. A wait compares the word under the bucket's lock, a wake
//! takes waiters off under it: whoever changes the word before waking finds every waiter that saw the old value.
//!
//! A key is the word's place in what backs it: process-private words by address space and address, words in shared
//! memory by object and offset, so that processes that map it at different addresses meet.
use crate::errno::{Errno, SysResult};
use crate::wait::{Ended, Waiter};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use rt::SpinLock;
use rt::time::Instant;

/// Number of buckets.
const BUCKETS: usize = 256;
/// A bit set that matches every waiter.
pub const MATCH_ANY: u32 = u32::MAX;

/// Where a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Address space or object.
    pub owner: u64,
    /// Address or offset.
    pub at: u64,
    /// Whether `owner` is an object.
    pub is_shared: bool,
}

impl Key {
    fn bucket(&self) -> usize {
        let mixed = (self.at >> 2 ^ self.owner.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % BUCKETS
    }
}

struct Sleeper {
    key: Key,
    bits: u32,
    waiter: Arc<Waiter>,
}

/// All futexes of a system.
pub struct FutexTable([SpinLock<VecDeque<Sleeper>>; BUCKETS]);

impl core::fmt::Debug for FutexTable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FutexTable")
    }
}

/// The system's futexes.
pub static FUTEXES: FutexTable = FutexTable::new();

impl FutexTable {
    /// No waiters.
    pub const fn new() -> Self {
        Self([const { SpinLock::new(VecDeque::new()) }; BUCKETS])
    }

    /// Sleeps while the word at `key` is what `is_expected` says, until woken.
    ///
    /// # Errors
    /// [`Errno::EAGAIN`] (the word differs), [`Errno::ETIMEDOUT`], [`Errno::RESTARTSYS`], what `is_expected` reports.
    pub fn wait(
        &self,
        key: Key,
        bits: u32,
        waiter: &Arc<Waiter>,
        deadline: Instant,
        is_interrupted: &dyn Fn() -> bool,
        is_expected: impl FnOnce() -> SysResult<bool>,
    ) -> SysResult<()> {
        waiter.reset();
        waiter.arm();
        {
            let mut bucket = self.0[key.bucket()].lock();
            if !is_expected()? {
                return Err(Errno::EAGAIN);
            }
            bucket.push_back(Sleeper { key, bits, waiter: waiter.clone() });
        }
        loop {
            let ended = waiter.park(deadline, "futex", is_interrupted);
            if !waiter.is_armed() {
                return Ok(());
            }
            match ended {
                // A wake-up left over from something else.
                Ok(()) => waiter.reset(),
                Err(ended) => {
                    if !self.withdraw(key, waiter) {
                        return Ok(());
                    }
                    return Err(if ended == Ended::Timeout { Errno::ETIMEDOUT } else { Errno::RESTARTSYS });
                }
            }
            if !waiter.is_armed() {
                return Ok(());
            }
        }
    }

    /// Takes a sleeper out again; false when a wake was faster. Looks in its own bucket first: only a requeue can
    /// have moved it.
    fn withdraw(&self, key: Key, waiter: &Arc<Waiter>) -> bool {
        let others = (0..BUCKETS).filter(|b| *b != key.bucket());
        for bucket in core::iter::once(key.bucket()).chain(others) {
            let mut sleepers = self.0[bucket].lock();
            if let Some(at) = sleepers.iter().position(|s| Arc::ptr_eq(&s.waiter, waiter)) {
                sleepers.remove(at);
                return true;
            }
            if !waiter.is_armed() {
                return false;
            }
        }
        false
    }

    /// Wakes up to `max` waiters whose bits meet `bits`; how many.
    pub fn wake(&self, key: Key, max: usize, bits: u32) -> usize {
        let mut nr_woken = 0;
        let mut sleepers = self.0[key.bucket()].lock();
        if sleepers.is_empty() {
            return 0;
        }
        let mut i = 0;
        while i < sleepers.len() && nr_woken < max {
            if sleepers[i].key == key && sleepers[i].bits & bits != 0 {
                if let Some(sleeper) = sleepers.remove(i) {
                    sleeper.waiter.disarm();
                    sleeper.waiter.wake();
                    nr_woken += 1;
                }
            } else {
                i += 1;
            }
        }
        nr_woken
    }

    /// Wakes up to `nr_wake` waiters and moves up to `nr_move` others to `to`, if the word is as `is_expected` says;
    /// how many were woken and moved.
    ///
    /// # Errors
    /// [`Errno::EAGAIN`], what `is_expected` reports.
    pub fn requeue(
        &self,
        from: Key,
        to: Key,
        nr_wake: usize,
        nr_move: usize,
        is_expected: impl FnOnce() -> SysResult<bool>,
    ) -> SysResult<(usize, usize)> {
        let (a, b) = (from.bucket(), to.bucket());
        // Both locks in order of index, so that two requeues in opposite directions cannot wait for each other.
        let mut low = self.0[a.min(b)].lock();
        let mut high = if a == b { None } else { Some(self.0[a.max(b)].lock()) };
        if !is_expected()? {
            return Err(Errno::EAGAIN);
        }
        let source: &mut VecDeque<Sleeper> = match &mut high {
            Some(high) if a > b => high,
            _ => &mut low,
        };
        let mut moved = VecDeque::new();
        let (mut nr_woken, mut nr_moved, mut i) = (0, 0, 0);
        while i < source.len() && nr_woken + nr_moved < nr_wake.saturating_add(nr_move) {
            if source[i].key != from {
                i += 1;
                continue;
            }
            let Some(mut sleeper) = source.remove(i) else { break };
            if nr_woken < nr_wake {
                sleeper.waiter.disarm();
                sleeper.waiter.wake();
                nr_woken += 1;
            } else {
                sleeper.key = to;
                moved.push_back(sleeper);
                nr_moved += 1;
            }
        }
        let target: &mut VecDeque<Sleeper> = match &mut high {
            Some(high) if a < b => high,
            _ => &mut low,
        };
        target.append(&mut moved);
        Ok((nr_woken, nr_moved))
    }
}

impl Default for FutexTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
