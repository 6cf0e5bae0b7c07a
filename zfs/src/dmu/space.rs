//! Whether a transaction has the space it may need.
//!
//! Asked twice: of the pool, which must be able to write whatever it lets in (`zio::Room` says why it is), and of the
//! dataset with its quotas. Each has two sums between what is there and what may still be promised: the worst case of
//! the transactions that are running, and the worst case of what finished ones have left dirty in groups that are not
//! on disk. Both are estimates from above; when they say no, the group is written first and the question asked again,
//! for the truth is usually smaller, and frees may come through.
use super::config::ObjsetHooks;
use super::tx::TxSpace;
use crate::txg::{TXG_SLOTS, Txgs};
use crate::zio::{Promise, Room, Share, Storage};
use crate::{Error, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::Txg;

/// Groups written before a transaction is refused: what is freed can be allocated two groups later.
const TRIES: usize = 3;
/// What metadata is counted in: a small block, which takes whole sectors and parity.
const META_BLOCK: u64 = 4 << 10;
/// What the indirect blocks above a dirty block are counted as: half of it, within these limits.
const ABOVE: core::ops::RangeInclusive<u64> = META_BLOCK..=32 << 10;

/// The worst case of an object set's blocks, in the pool's allocatable bytes.
#[derive(Clone, Copy)]
pub(super) struct Worst<'a> {
    pub(super) room: &'a Room,
    pub(super) copies: u64,
}

impl Worst<'_> {
    /// So many bytes of metadata, which has a copy more than data.
    fn metadata(&self, bytes: u64) -> u64 {
        let one = self.room.of_block(META_BLOCK).saturating_mul((self.copies + 1).min(3));
        bytes.div_ceil(META_BLOCK).saturating_mul(one)
    }

    /// A dirty block of data, and what points to it.
    pub(super) fn dirty_block(&self, size: u64) -> u64 {
        let data = self.room.of_block(size).saturating_mul(self.copies);
        data.saturating_add(self.metadata((size / 2).clamp(*ABOVE.start(), *ABOVE.end())))
    }

    /// A dirty object: its part of the dnode file and of the indirect blocks above.
    pub(super) fn dirty_object(&self) -> u64 {
        self.metadata(META_BLOCK)
    }

    /// Bytes that change what points to blocks.
    pub(super) fn pointers(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.copies).saturating_add(bytes / 2)
    }

    /// All that a transaction may need.
    pub(super) fn of(&self, space: &TxSpace) -> u64 {
        let data = space
            .blocks()
            .map_or(0, |(nr, size)| self.room.of_block(size).saturating_mul(self.copies).saturating_mul(nr));
        data.saturating_add(self.metadata(space.metadata_bytes()))
    }
}

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
    _of_pool: Promise,
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
        share: Share,
        copies: u64,
        hooks: &dyn ObjsetHooks,
        pool: (&Storage, &Txgs),
    ) -> Result<Reservation> {
        let (storage, txgs) = pool;
        let room = storage.room();
        let bytes_of_pool = Worst { room, copies }.of(space);
        let bytes = room.net_of(bytes_of_pool);
        let mut nr_left = TRIES;
        loop {
            let promise = room.promise(bytes_of_pool, share);
            let has_promise = promise.is_some();
            let result = match promise {
                Some(promise) => self.check(space, bytes, hooks).map(|()| promise),
                None => Err(Error::NoSpace),
            };
            let error = match result {
                Ok(promise) => {
                    self.running.fetch_add(bytes, Ordering::Relaxed);
                    let running = self.running.clone();
                    return Ok(Reservation { running, bytes, _of_pool: promise });
                }
                Err(error) => error,
            };
            let is_pending = self.bytes() > 0 || self.cloned() > 0 || room.promised() > 0;
            let may_change = is_pending || (!has_promise && room.may_have(bytes_of_pool, share));
            if nr_left == 0 || !may_change {
                return Err(error);
            }
            nr_left -= 1;
            room.want();
            txgs.wait_synced(txgs.open_txg())?;
        }
    }

    fn check(&self, space: &TxSpace, bytes: u64, hooks: &dyn ObjsetHooks) -> Result<()> {
        if space.is_net_free {
            return Ok(());
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
