//! What one dataset gains and loses within a transaction group: collected block by block while its objset is synced,
//! booked once afterwards.
//!
//! The one decision made per block is who owns it: born after the last snapshot, only the head knows it and it is
//! freed; older, a snapshot holds it too and it goes on the dead list. Freeing the latter would take blocks away
//! from the snapshot.
use super::bpobj::Sums;
use crate::Result;
use crate::dmu::{FeatureUse, ObjsetHooks, Owner};
use crate::zio::{Storage, SyncCtx};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::feature::Feature;
use ondisk::{BlkPtr, Compression, DmuType, Txg};
use rt::SpinLock;

/// No block is born later.
const NOT_LIVE: u64 = u64::MAX;

/// Collected since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Written.
    pub(crate) born: Sums,
    /// Overwritten or freed, known to the head only.
    pub(crate) freed: Sums,
    /// Overwritten or freed, held by a snapshot.
    pub(crate) dead: Sums,
    /// The blocks behind `dead`.
    pub(crate) dead_blocks: Vec<BlkPtr>,
    /// What of all that was there at the time of bookmarks, by their transaction groups.
    pub(crate) marked: Vec<(Txg, Sums)>,
    /// Features used for the first time as far as the objset knows.
    pub(crate) features: Vec<Feature>,
    /// Of a clone's own blocks, for its live list: written, and given up (held by a snapshot or not).
    pub(crate) live_born: Vec<BlkPtr>,
    pub(crate) live_gone: Vec<BlkPtr>,
    /// This is all that the dataset's objects changed in the group.
    pub(crate) is_of_objset: bool,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.born.is_zero() && self.freed.is_zero() && self.dead.is_zero() && self.features.is_empty()
    }
}

/// The hooks of a dataset's objset.
#[derive(Debug)]
pub(crate) struct Ledger {
    storage: Arc<Storage>,
    pending: SpinLock<Pending>,
    prev_snap_txg: AtomicU64,
    /// Transaction groups of bookmarks since the last snapshot that count what is given up.
    watched: SpinLock<Vec<Txg>>,
    /// The group of the snapshot that a clone with a live list began as; others have [`NOT_LIVE`].
    live_after: AtomicU64,
    /// What the dataset may still write, as of the last transaction group.
    available: AtomicU64,
    /// The same as far as quotas (not the pool) limit it.
    quota: AtomicU64,
    /// The pool's features.
    enabled: Vec<Feature>,
}

const fn feature_of(used: FeatureUse) -> Feature {
    match used {
        FeatureUse::LargeBlocks => Feature::LargeBlocks,
        FeatureUse::LargeDnode => Feature::LargeDnode,
        FeatureUse::UserobjAccounting => Feature::UserobjAccounting,
        FeatureUse::ProjectQuota => Feature::ProjectQuota,
        FeatureUse::ZilSaXattr => Feature::Zilsaxattr,
    }
}

impl Ledger {
    pub(crate) fn new(storage: Arc<Storage>, prev_snap_txg: Txg, enabled: Vec<Feature>) -> Self {
        Self {
            storage,
            pending: SpinLock::default(),
            prev_snap_txg: AtomicU64::new(prev_snap_txg.0),
            watched: SpinLock::default(),
            live_after: AtomicU64::new(NOT_LIVE),
            available: AtomicU64::new(u64::MAX),
            quota: AtomicU64::new(u64::MAX),
            enabled,
        }
    }

    pub(crate) fn take(&self) -> Pending {
        let pending = core::mem::take(&mut *self.pending.lock());
        Pending { is_of_objset: true, ..pending }
    }

    /// Blocks born after `origin` are collected for the dataset's live list; `None`: it has none (any more).
    pub(crate) fn set_live(&self, origin: Option<Txg>) {
        self.live_after.store(origin.map_or(NOT_LIVE, |txg| txg.0), Ordering::Relaxed);
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live_after.load(Ordering::Relaxed) != NOT_LIVE
    }

    /// Live lists have no embedded blocks: there is nothing to free.
    fn is_listed(&self, bp: &BlkPtr) -> bool {
        bp.birth().0 > self.live_after.load(Ordering::Relaxed) && !bp.is_embedded()
    }

    /// A snapshot was taken, or the last one destroyed: what is born until then is held by it.
    /// `watched`: bookmarks since then that count what is given up.
    pub(crate) fn set_prev_snap(&self, txg: Txg, watched: Vec<Txg>) {
        self.prev_snap_txg.store(txg.0, Ordering::Relaxed);
        *self.watched.lock() = watched;
    }

    /// What bookmarks must be told of a block that the head gives up.
    fn count_marked(&self, pending: &mut Pending, birth: Txg, sums: Sums) {
        for txg in self.watched.lock().iter().filter(|txg| birth <= **txg) {
            match pending.marked.iter_mut().find(|(marked, _)| marked == txg) {
                Some((_, counted)) => counted.add(sums),
                None => pending.marked.push((*txg, sums)),
            }
        }
    }

    pub(crate) fn set_available(&self, pool: u64, quota: u64) {
        self.available.store(pool, Ordering::Relaxed);
        self.quota.store(quota, Ordering::Relaxed);
    }
}

impl ObjsetHooks for Ledger {
    fn block_born(&self, _ctx: &SyncCtx, bp: &BlkPtr) {
        let mut pending = self.pending.lock();
        pending.born.add(Sums::of(&self.storage, bp));
        // Only a clone brings a block that this build would not have written so.
        let is_zstd = bp.compression() == Compression::Zstd;
        if is_zstd && !pending.features.contains(&Feature::ZstdCompress) {
            pending.features.push(Feature::ZstdCompress);
        }
        if self.is_listed(bp) {
            pending.live_born.push(*bp);
        }
    }

    fn block_killed(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()> {
        if bp.is_hole() {
            return Ok(());
        }
        let sums = Sums::of(&self.storage, bp);
        if self.is_listed(bp) {
            self.pending.lock().live_gone.push(*bp);
        }
        if bp.birth().0 > self.prev_snap_txg.load(Ordering::Relaxed) {
            {
                let mut pending = self.pending.lock();
                pending.freed.add(sums);
                self.count_marked(&mut pending, bp.birth(), sums);
            }
            if !bp.is_embedded() {
                self.storage.free(ctx, bp)?;
            }
        } else {
            let mut pending = self.pending.lock();
            pending.dead.add(sums);
            self.count_marked(&mut pending, bp.birth(), sums);
            pending.dead_blocks.push(*bp);
        }
        Ok(())
    }

    fn owner_of(&self, bonus_kind: DmuType, bonus: &[u8]) -> Option<Owner> {
        crate::sa::owner_of(bonus_kind, bonus)
    }

    fn space_available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    fn quota_available(&self) -> u64 {
        self.quota.load(Ordering::Relaxed)
    }

    fn is_feature_enabled(&self, feature: FeatureUse) -> bool {
        self.enabled.contains(&feature_of(feature))
    }

    fn feature_used(&self, _ctx: &SyncCtx, feature: FeatureUse) {
        let feature = feature_of(feature);
        let mut pending = self.pending.lock();
        if !pending.features.contains(&feature) {
            pending.features.push(feature);
        }
    }
}
