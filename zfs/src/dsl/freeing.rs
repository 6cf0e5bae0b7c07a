//! What waits to be freed: the lists that destroyed snapshots leave (`free_bpobj`), emptied a step in each transaction
//! group so that no group grows without bound.
//!
//! Until a block is freed its space is charged to `$FREE`. A block leaves the list in the very group that frees it: after
//! a crash it is either still listed or free.
use super::bpobj::{self, Sums};
use super::dir::{self, Change, Kinds};
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::dsl::{DdUsed, FREE_DIR_NAME};
use ondisk::{BlkPtr, ObjectId, pool_directory};

/// Blocks freed in one transaction group at most.
pub(crate) const BLOCKS_PER_TXG: u64 = 100_000;

/// The directory that is charged for what is still to be freed.
fn free_dir(mos: &Mos) -> Result<ObjectId> {
    let root = mos.require(pool_directory::ROOT_DATASET)?;
    let children = dir::read(mos, root)?.child_dir_zap;
    mos.zap_lookup(children, FREE_DIR_NAME)?.map(ObjectId).ok_or(Error::Damaged)
}

/// Charges `$FREE`.
pub(crate) fn charge(mos: &Mos, tx: &DmuTx, sums: Sums) -> Result<()> {
    let change = Change::of(sums);
    let kinds = Kinds { from: DdUsed::Head, to: DdUsed::Head, bytes: change.used };
    dir::charge(mos, tx, free_dir(mos)?, change, kinds)
}

/// Adds lists of blocks that nothing refers to any more; they sum up to `sums`.
pub(crate) fn add_lists(mos: &Mos, tx: &DmuTx, lists: Vec<ObjectId>, sums: Sums) -> Result<()> {
    let to = mos.require(pool_directory::FREE_BPOBJ)?;
    lists.into_iter().try_for_each(|list| bpobj::absorb(mos, tx, to, list))?;
    charge(mos, tx, sums)
}

/// There is something to be freed.
pub(crate) fn is_pending(mos: &Mos) -> Result<bool> {
    match mos.directory_entry(pool_directory::FREE_BPOBJ)?.and_then(ObjectId::non_zero) {
        Some(list) => Ok(!bpobj::is_empty(mos, list)?),
        None => Ok(false),
    }
}

/// Frees some; true if more is left.
pub(crate) fn step(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx) -> Result<bool> {
    if !is_pending(mos)? {
        return Ok(false);
    }
    let list = mos.require(pool_directory::FREE_BPOBJ)?;
    let mut budget = BLOCKS_PER_TXG;
    let mut freed = Sums::default();
    let storage = mos.storage();
    bpobj::consume(mos, tx, list, &mut budget, &mut |bp: &BlkPtr| {
        freed.add(Sums::of(storage, bp));
        if bp.is_hole() || bp.is_embedded() { Ok(()) } else { storage.free(ctx, bp) }
    })?;
    charge(mos, tx, freed.negated())?;
    is_pending(mos)
}
