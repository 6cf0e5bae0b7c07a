//! Rolling a head back to its last snapshot, in syncing context, before the group's datasets are written.
//!
//! The head's own blocks are freed like a destroyed dataset's; what it had given up of the snapshot is its own again, so
//! its dead list is emptied without freeing anything.
use super::dataset::ref_limits;
use super::deadlist::{self, Deadlist};
use super::dir::{self, Change, Kinds};
use super::{bookmark, freeing, livelist, log, snapshot};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use ondisk::dsl::{DdUsed, DslDatasetPhys};
use ondisk::{ObjectId, Txg};

/// Checks that a head can be rolled back to a snapshot: it must be the last.
///
/// # Errors
/// `Exists` when there are newer snapshots or bookmarks; `Unsupported` for a dead list of the oldest form; `Quota` when
/// a refreservation no longer fits.
pub(crate) fn check(mos: &Mos, dir_id: ObjectId, to: ObjectId, usable: u64) -> Result<()> {
    let head_id = dir::read(mos, dir_id)?.head_dataset;
    let head = dir::read_dataset(mos, head_id)?;
    if head.prev_snap != to {
        return Err(Error::Exists);
    }
    if bookmark::all(mos, head_id)?.iter().any(|mark| mark.txg() > head.prev_snap_txg) {
        return Err(Error::Exists);
    }
    if matches!(Deadlist::load(mos, head.deadlist)?, Deadlist::Plain(_)) {
        return Err(Error::Unsupported);
    }
    let (_, reserved) = ref_limits(mos, dir_id)?;
    let kept = head.unique_bytes.min(reserved);
    if kept > dir::available(mos, dir_id, usable)?.saturating_add(head.unique_bytes) {
        return Err(Error::NoSpace);
    }
    Ok(())
}

/// Rolls back what [`check`] let pass; nobody has the head open.
pub(crate) fn rollback(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let head_id = dir::read(mos, dir_id)?.head_dataset;
    let head = dir::read_dataset(mos, head_id)?;
    log::free(mos, ctx, &head.bp, head_id)?;
    let to = dir::read_dataset(mos, head.prev_snap)?;
    let own_sums = freeing::own_sums(mos, &head)?;
    give_back_dead(mos, tx, dir_id, &head)?;
    freeing::free_tree(mos, ctx, tx, &head, own_sums)?;
    let (_, reserved) = ref_limits(mos, dir_id)?;
    let change = Change::of(own_sums.negated());
    let kept = head.unique_bytes.min(reserved).cast_signed();
    let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::Head, bytes: change.used };
    dir::charge(mos, tx, dir_id, Change { used: change.used + kept, ..change }, kinds)?;
    dir::modify_dataset(mos, tx, head_id, |ds| {
        ds.bp = to.bp;
        ds.referenced_bytes = to.referenced_bytes;
        ds.compressed_bytes = to.compressed_bytes;
        ds.uncompressed_bytes = to.uncompressed_bytes;
        ds.unique_bytes = 0;
    })?;
    dir::modify_dataset(mos, tx, head.prev_snap, |ds| {
        if ds.next_snap == head_id {
            ds.unique_bytes = 0;
        }
    })?;
    bookmark::head_reset(mos, tx, head_id)?;
    livelist::remove(mos, tx, dir_id)?;
    forget_newer_features(mos, tx, head_id, head.prev_snap)?;
    log::clear(mos, ctx, tx, head_id)
}

/// What the head had given up of its snapshots is the head's again.
fn give_back_dead(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, head: &DslDatasetPhys) -> Result<()> {
    let origin = dir::read(mos, dir_id)?.origin;
    let origin_txg = match origin.non_zero() {
        Some(origin) => dir::read_dataset(mos, origin)?.creation_txg,
        None => Txg::ZERO,
    };
    let list = Deadlist::load(mos, head.deadlist)?;
    let dead = list.sum_range(mos, origin_txg, Txg(u64::MAX))?;
    dir::transfer(mos, tx, dir_id, dead.used.cast_signed(), DdUsed::Snap, DdUsed::Head)?;
    let empty = deadlist::create(mos, tx, &list.keys())?;
    deadlist::free(mos, tx, head.deadlist)?;
    let head_id = dir::read(mos, dir_id)?.head_dataset;
    dir::modify_dataset(mos, tx, head_id, |ds| ds.deadlist = empty)
}

/// Features that the head came to use after the snapshot.
fn forget_newer_features(mos: &Mos, tx: &DmuTx, head: ObjectId, to: ObjectId) -> Result<()> {
    let kept = snapshot::features_of(mos, to)?;
    for feature in snapshot::features_of(mos, head)? {
        if !kept.contains(&feature) {
            mos.zap_remove(tx, head, feature.guid())?;
            features::decrement(mos, tx, feature)?;
        }
    }
    Ok(())
}
