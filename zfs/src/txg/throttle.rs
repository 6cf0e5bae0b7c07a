//! The dirty-data limit, and the delay that keeps writers from running into it.
//!
//! Writers that outrun the disks would fill memory and then stop all at once for as long as a group takes to sync.
//! From [`DELAY_START_PERCENT`] of the limit on, each transaction is therefore delayed a little, and more the nearer
//! the limit is (the curve of OpenZFS: 500 us * (dirty - start) / (max - dirty), at most 100 ms). Delays are handed
//! out one after the other, so that many threads together are slowed as much as one.
//!
//! Groups close early so that the disks are busy while a stream is written: at [`CLOSE_PERCENT`] of new blocks. Blocks
//! that are written over do not count for that. They may be written over again before the group closes, and each group
//! writes them as a whole: small changes of large records would cost a record's worth of work for every few of them.
use super::Txgs;
use crate::{Error, Result};
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::Txg;

/// From this share of the limit on, transactions are delayed.
const DELAY_START_PERCENT: u64 = 60;
/// At this share of the limit in new blocks the open group is closed.
const CLOSE_PERCENT: u64 = 20;
const DELAY_SCALE_NS: u64 = 500_000;
const DELAY_MAX_NS: u64 = 100_000_000;

/// What became dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dirtied {
    /// A block that was not there before.
    New,
    /// A block that was.
    Rewritten,
}

impl Txgs {
    /// `bytes` of `txg` became dirty.
    pub fn add_dirty(&self, txg: Txg, bytes: u64, what: Dirtied) {
        self.dirty_total.fetch_add(bytes, Ordering::Relaxed);
        let passes = |count: &AtomicU64, limit: u64| {
            let now = count.fetch_add(bytes, Ordering::Relaxed) + bytes;
            now >= limit && now - bytes < limit
        };
        let slot = txg.slot();
        let is_full = passes(&self.dirty[slot], percent(self.config.dirty_max, DELAY_START_PERCENT));
        let is_streaming = what == Dirtied::New && passes(&self.dirty_new[slot], self.close_at());
        if !self.config.is_deterministic && (is_full || is_streaming) {
            self.kick(txg);
        }
    }

    /// `bytes` of `txg` were written (or are not dirty any more).
    pub fn sub_dirty(&self, txg: Txg, bytes: u64) {
        let take = |now: u64| Some(now.saturating_sub(bytes));
        let before = self.dirty[txg.slot()].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let bytes = bytes.min(before.unwrap_or(0));
        self.dirty_total.fetch_sub(bytes, Ordering::Relaxed);
        self.room.wake_all();
    }

    /// Dirty bytes of all groups.
    pub fn dirty(&self) -> u64 {
        self.dirty_total.load(Ordering::Relaxed)
    }

    fn close_at(&self) -> u64 {
        percent(self.config.dirty_max, CLOSE_PERCENT)
    }

    /// Holds a transaction back as the dirty data asks for. Called before the open group is joined: a delayed
    /// holder would keep the group from closing, which is what it waits for.
    ///
    /// # Errors
    /// `Suspended`.
    pub fn throttle(&self) -> Result<()> {
        if self.gives_up() {
            return Err(Error::Suspended);
        }
        if self.config.is_deterministic {
            self.close_if_full();
        }
        if self.dirty() >= self.config.dirty_max {
            self.wait_for_room()?;
        }
        if !self.config.is_deterministic {
            self.delay();
        }
        Ok(())
    }

    /// Closes the open group by its content alone, and waits until it is closed.
    fn close_if_full(&self) {
        let open = self.open_txg();
        if self.dirty[open.slot()].load(Ordering::Relaxed) < self.close_at() {
            return;
        }
        self.kick(open);
        self.progress.wait("txg close", || {
            (self.open_txg() > open || self.gives_up() || self.is_stopped()).then_some(())
        });
    }

    fn wait_for_room(&self) -> Result<()> {
        self.room.wait("dirty data", || {
            let is_over = self.dirty() < self.config.dirty_max || self.gives_up() || self.is_stopped();
            if !is_over {
                self.kick(self.open_txg());
            }
            is_over.then_some(())
        });
        if self.gives_up() || self.is_stopped() { Err(Error::Suspended) } else { Ok(()) }
    }

    fn delay(&self) {
        let span = delay_ns(self.dirty(), self.config.dirty_max);
        if span == 0 {
            return;
        }
        let now = rt::now().0;
        let next = |last: u64| Some(last.max(now).saturating_add(span));
        let last = self.last_wakeup.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let until = last.unwrap_or(now).max(now).saturating_add(span).min(now + DELAY_MAX_NS);
        rt::sleep(core::time::Duration::from_nanos(until.saturating_sub(now)));
    }
}

fn percent(of: u64, share: u64) -> u64 {
    of / 100 * share
}

/// The delay of one transaction.
fn delay_ns(dirty: u64, max: u64) -> u64 {
    let start = percent(max, DELAY_START_PERCENT);
    if dirty <= start {
        return 0;
    }
    if dirty >= max {
        return DELAY_MAX_NS;
    }
    let curve = u128::from(DELAY_SCALE_NS) * u128::from(dirty - start) / u128::from(max - dirty);
    u64::try_from(curve).unwrap_or(u64::MAX).min(DELAY_MAX_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_from_nothing_to_its_limit() {
        let max = 100 << 20;
        assert_eq!(delay_ns(0, max), 0);
        assert_eq!(delay_ns(60 << 20, max), 0);
        assert!(delay_ns(70 << 20, max) > 100_000);
        assert!(delay_ns(80 << 20, max) > delay_ns(70 << 20, max));
        assert_eq!(delay_ns(max, max), DELAY_MAX_NS);
        assert_eq!(delay_ns(max - 1, max), DELAY_MAX_NS);
    }
}
