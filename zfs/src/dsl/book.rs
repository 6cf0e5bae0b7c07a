//! Entering in the dataset's and the directories' figures what a transaction group changed.
//!
//! Every figure here is one that OpenZFS will subtract from later, when it frees: an error does not show at once, it
//! underflows then. `verify` recounts them.
use super::bpobj::Mark;
use super::dataset::{Dataset, ref_limits};
use super::deadlist::Deadlist;
use super::dir::{self, Change, Kinds};
use super::ledger::Pending;
use super::{bookmark, livelist};
use crate::Result;
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use ondisk::dsl::DdUsed;
use ondisk::feature::Feature;
use ondisk::{BlkPtr, DmuType, ObjectId, Txg};

const fn signed(n: u64) -> i64 {
    n.cast_signed()
}

/// Enters a dataset's new root block and what its ledger collected.
pub(crate) fn book(mos: &Mos, tx: &DmuTx, dataset: &Dataset, root: Option<BlkPtr>) -> Result<()> {
    let pending = dataset.ledger().take();
    if root.is_none() && pending.is_empty() {
        return Ok(());
    }
    enter(mos, tx, ObjectId(dataset.id()), &pending, root)?;
    if dataset.ledger().is_live() {
        dataset.ledger().set_live(livelist::since(mos, dataset.dir())?);
    }
    Ok(())
}

/// Enters a head's new root block and what it gained and lost.
pub(crate) fn enter(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    pending: &Pending,
    root: Option<BlkPtr>,
) -> Result<()> {
    bookmark::killed(mos, tx, id, &pending.marked)?;
    for feature in &pending.features {
        activate(mos, tx, id, *feature)?;
    }
    let before = dir::read_dataset(mos, id)?;
    let (_, reserved) = ref_limits(mos, before.dir)?;
    let unique = signed(pending.born.used.wrapping_sub(pending.freed.used));
    let seen = dir::seen_above(before.unique_bytes, reserved, unique);
    dir::modify_dataset(mos, tx, id, |ds| {
        if let Some(root) = root {
            ds.bp = root;
        }
        let add = |value: &mut u64, born: u64, freed: u64, dead: u64| {
            *value = value.saturating_add(born).saturating_sub(freed).saturating_sub(dead);
        };
        let Pending { born, freed, dead, .. } = pending;
        add(&mut ds.referenced_bytes, born.used, freed.used, dead.used);
        add(&mut ds.compressed_bytes, born.compressed, freed.compressed, dead.compressed);
        add(&mut ds.uncompressed_bytes, born.uncompressed, freed.uncompressed, dead.uncompressed);
        ds.unique_bytes = ds.unique_bytes.saturating_add_signed(unique);
    })?;
    let change = Change {
        used: seen,
        compressed: signed(pending.born.compressed.wrapping_sub(pending.freed.compressed)),
        uncompressed: signed(pending.born.uncompressed.wrapping_sub(pending.freed.uncompressed)),
    };
    let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::Head, bytes: unique };
    dir::charge(mos, tx, before.dir, change, kinds)?;
    book_dead(mos, tx, id, pending, before.deadlist, before.prev_snap)?;
    livelist::changed(mos, tx, id, pending)
}

/// Blocks that the head gave up and a snapshot still holds.
fn book_dead(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    pending: &Pending,
    deadlist: ObjectId,
    prev_snap: ObjectId,
) -> Result<()> {
    if pending.dead_blocks.is_empty() {
        return Ok(());
    }
    Deadlist::load(mos, deadlist)?.insert(mos, tx, &pending.dead_blocks, Mark::Alloc)?;
    let dir_id = dir::read_dataset(mos, id)?.dir;
    let origin = dir::read(mos, dir_id)?.origin;
    let origin_txg = match origin.non_zero() {
        Some(origin) => dir::read_dataset(mos, origin)?.creation_txg,
        None => Txg::ZERO,
    };
    let born_after = |txg: Txg| -> u64 {
        let sum = |bp: &BlkPtr| if bp.birth() > txg { mos.storage().deflated(bp) } else { 0 };
        pending.dead_blocks.iter().map(sum).sum()
    };
    // The directory was charged for these by its head; from now on by its snapshots. Not so what a clone shares with
    // its origin: that never was the clone's.
    let moved = signed(born_after(origin_txg));
    dir::transfer(mos, tx, dir_id, moved, DdUsed::Head, DdUsed::Snap)?;
    if prev_snap.is_none() {
        return Ok(());
    }
    let snapshot = dir::read_dataset(mos, prev_snap)?;
    if snapshot.next_snap == id {
        let bytes = born_after(snapshot.prev_snap_txg);
        dir::modify_dataset(mos, tx, prev_snap, |ds| {
            ds.unique_bytes = ds.unique_bytes.saturating_add(bytes);
        })?;
    }
    Ok(())
}

/// Notes in a dataset that it uses a feature, and counts it in the pool, once.
pub(crate) fn activate(mos: &Mos, tx: &DmuTx, dataset: ObjectId, feature: Feature) -> Result<()> {
    if !features::is_enabled(mos, feature)? {
        return Ok(());
    }
    if mos.kind(dataset)? != DmuType::OTN_ZAP_METADATA {
        mos.zapify(tx, dataset)?;
        features::increment(mos, tx, Feature::ExtensibleDataset)?;
    }
    if mos.zap_lookup(dataset, feature.guid())?.is_none() {
        mos.zap_add(tx, dataset, feature.guid(), 0)?;
        features::increment(mos, tx, feature)?;
    }
    Ok(())
}

/// Tells a dataset what it may still write. `pool_free`: what the pool can still allocate beyond the slop.
pub(crate) fn refresh_available(mos: &Mos, dataset: &Dataset, usable: u64, pool_free: u64) -> Result<()> {
    let id = ObjectId(dataset.id());
    if dataset.is_snapshot() || id.is_none() {
        return Ok(());
    }
    let ds = dir::read_dataset(mos, id)?;
    let (ref_quota, ref_reserved) = ref_limits(mos, ds.dir)?;
    let set_aside = ref_reserved.saturating_sub(ds.unique_bytes);
    let unlimited = dir::available_in_pool(mos, ds.dir, usable)?.saturating_add(set_aside);
    let mut quota = dir::available(mos, ds.dir, usable)?.saturating_add(set_aside);
    if quota >= unlimited {
        quota = u64::MAX;
    }
    if ref_quota > 0 {
        quota = quota.min(ref_quota.saturating_sub(ds.referenced_bytes));
    }
    dataset.ledger().set_available(unlimited.min(pool_free), quota);
    Ok(())
}
