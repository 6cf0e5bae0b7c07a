//! Reading what the last uberblock names while groups after it are written.
//!
//! A reader beside the sync loop takes the root of a group on disk and follows it for a while. What later groups free
//! becomes allocatable only two groups after the group that freed it: so nothing below the root of group `t` is
//! overwritten before group `t + 3` has been completed. A hold keeps exactly that from happening: the sync thread waits,
//! after the uberblock of `t + 3` is durable and before it lets go of the space. Without it, a slow reader would take
//! the block that came after for a damaged one, and "repair" it.
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicUsize, Ordering};
use ondisk::Txg;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// Groups that may complete while a hold lasts: what the first of them frees waits for two more.
const GROUPS_SAFE: u64 = 3;

/// The readers there are, by the group whose root they follow.
#[derive(Debug, Default)]
pub(crate) struct ReadHolds {
    by_txg: SpinLock<BTreeMap<Txg, usize>>,
    released: WaitQueue,
    nr_waiting: AtomicUsize,
}

/// One reader. Dropped, it gives the space up.
#[derive(Debug)]
pub(crate) struct ReadHold<'a> {
    holds: &'a ReadHolds,
    txg: Txg,
}

impl ReadHolds {
    /// Keeps what the root of `txg` names, which is the newest group on disk and stays so during the call.
    pub(crate) fn take(&self, txg: Txg) -> ReadHold<'_> {
        *self.by_txg.lock().entry(txg).or_default() += 1;
        ReadHold { holds: self, txg }
    }

    /// Whether the sync thread waits for a reader: time to come to an end.
    pub(crate) fn is_wanted(&self) -> bool {
        self.nr_waiting.load(Ordering::Relaxed) > 0
    }

    /// Blocks until no reader needs what group `txg` is about to let go of.
    pub(crate) fn wait_before_done(&self, txg: Txg) {
        let limit = Txg(txg.0.saturating_sub(GROUPS_SAFE));
        let is_free = || self.by_txg.lock().keys().next().is_none_or(|oldest| *oldest > limit).then_some(());
        if is_free().is_some() {
            return;
        }
        self.nr_waiting.fetch_add(1, Ordering::Relaxed);
        self.released.wait("readers of older groups", is_free);
        self.nr_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadHold<'_> {
    /// The group whose root may be followed.
    pub(crate) fn txg(&self) -> Txg {
        self.txg
    }
}

impl Drop for ReadHold<'_> {
    fn drop(&mut self) {
        let mut by_txg = self.holds.by_txg.lock();
        if let Some(count) = by_txg.get_mut(&self.txg) {
            *count -= 1;
            if *count == 0 {
                by_txg.remove(&self.txg);
            }
        }
        drop(by_txg);
        self.holds.released.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt_std as _;
    use std::sync::Arc;

    #[test]
    fn two_groups_pass_and_the_third_waits() {
        let holds = Arc::new(ReadHolds::default());
        let hold = holds.take(Txg(10));
        holds.wait_before_done(Txg(11));
        holds.wait_before_done(Txg(12));
        assert!(!holds.is_wanted());
        let other = holds.clone();
        let waiter = std::thread::spawn(move || other.wait_before_done(Txg(13)));
        while !holds.is_wanted() {
            std::thread::yield_now();
        }
        assert!(!waiter.is_finished());
        drop(hold);
        waiter.join().unwrap();
        assert!(!holds.is_wanted());
    }
}
