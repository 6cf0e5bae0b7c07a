//! Whether a transaction has the space it may need.
//!
//! Two sums stand between what the dataset says is available and what may still be promised: the worst case of the
//! transactions that are running, and the worst case of what finished ones have left dirty in groups that are not on
//! disk. Both are estimates from above; when they say no, the group is written first and the question asked again, for
//! the truth is usually smaller, and frees may come through.
use super::config::ObjsetHooks;
use super::tx::TxSpace;
use crate::txg::{TXG_SLOTS, Txgs};
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::Txg;

/// Groups written before a transaction is refused: what is freed can be allocated two groups later.
const TRIES: usize = 3;
/// What a dirty object adds: its part of the dnode file and of the indirect blocks above.
pub(super) const PER_OBJECT: u64 = 4 << 10;

/// Space promised in one object set.
#[derive(Debug, Default)]
pub(super) struct Promised {
    /// Worst case of running transactions.
    running: Arc<AtomicU64>,
    /// Worst case of what is dirty, by slot.
    dirty: [AtomicU64; TXG_SLOTS],
    /// Bytes of blocks that became shared, by slot.
    cloned: [AtomicU64; TXG_SLOTS],
}

/// A running transaction's part.
#[derive(Debug)]
pub(super) struct Reservation {
    running: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.running.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Promised {
    /// Bytes promised and not on disk.
    pub(super) fn bytes(&self) -> u64 {
        let dirty = self.dirty.iter().map(|d| d.load(Ordering::Relaxed)).fold(0, u64::saturating_add);
        self.running.load(Ordering::Relaxed).saturating_add(dirty)
    }

    /// Reserves what a transaction may need.
    ///
    /// # Errors
    /// `NoSpace`, `Quota`, `Suspended`.
    pub(super) fn reserve(
        &self,
        space: &TxSpace,
        copies: u64,
        hooks: &dyn ObjsetHooks,
        pool: (&Storage, &Txgs),
    ) -> Result<Reservation> {
        let bytes = space.worst_case(copies);
        let (storage, txgs) = pool;
        let mut nr_left = TRIES;
        while let Err(error) = self.check(space, bytes, hooks, storage) {
            let may_change = self.bytes() > 0 || self.cloned() > 0 || storage.space().deferred > 0;
            if nr_left == 0 || !may_change {
                return Err(error);
            }
            nr_left -= 1;
            txgs.wait_synced(txgs.open_txg())?;
        }
        self.running.fetch_add(bytes, Ordering::Relaxed);
        Ok(Reservation { running: self.running.clone(), bytes })
    }

    fn check(&self, space: &TxSpace, bytes: u64, hooks: &dyn ObjsetHooks, storage: &Storage) -> Result<()> {
        if space.is_net_free {
            // Down to what the pool really has: the dataset's figure keeps the slop back.
            let is_there = bytes <= storage.space().free;
            return if is_there { Ok(()) } else { Err(Error::NoSpace) };
        }
        let needed = bytes.saturating_add(self.bytes());
        if needed > hooks.space_available() {
            Err(Error::NoSpace)
        } else if needed.saturating_add(space.clone_bytes).saturating_add(self.cloned())
            > hooks.quota_available()
        {
            Err(Error::Quota)
        } else {
            Ok(())
        }
    }

    /// Something became dirty.
    pub(super) fn add_dirty(&self, txg: Txg, bytes: u64) {
        self.dirty[txg.slot()].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Blocks became shared.
    pub(super) fn add_cloned(&self, txg: Txg, bytes: u64) {
        self.cloned[txg.slot()].fetch_add(bytes, Ordering::Relaxed);
    }

    fn cloned(&self) -> u64 {
        self.cloned.iter().map(|c| c.load(Ordering::Relaxed)).fold(0, u64::saturating_add)
    }

    /// `txg` is written: what it took shows in the space itself.
    pub(super) fn written(&self, txg: Txg) {
        self.dirty[txg.slot()].store(0, Ordering::Relaxed);
        self.cloned[txg.slot()].store(0, Ordering::Relaxed);
    }
}
