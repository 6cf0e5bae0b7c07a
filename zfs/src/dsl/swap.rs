//! Exchanging the contents of a clone and of the head it was cloned from: how a received stream takes the head's place.
//!
//! Both descend from the same snapshot, the head's last. Names, properties and snapshots stay where they are; trees, dead
//! lists and figures change sides.
use super::dataset::ref_limits;
use super::deadlist::{self, Deadlist};
use super::dir::{self, Change, Kinds};
use super::{bookmark, livelist, snapshot};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use core::mem::swap;
use ondisk::dsl::{DdUsed, DslDatasetPhys};
use ondisk::feature::Feature;
use ondisk::{ObjectId, Txg};

fn total(mos: &Mos, ds: &DslDatasetPhys) -> Result<Change> {
    let dead = deadlist::sums(mos, ds.deadlist)?;
    Ok(Change {
        used: ds.referenced_bytes.wrapping_add(dead.used).cast_signed(),
        compressed: ds.compressed_bytes.wrapping_add(dead.compressed).cast_signed(),
        uncompressed: ds.uncompressed_bytes.wrapping_add(dead.uncompressed).cast_signed(),
    })
}

const fn minus(a: Change, b: Change) -> Change {
    Change {
        used: a.used.wrapping_sub(b.used),
        compressed: a.compressed.wrapping_sub(b.compressed),
        uncompressed: a.uncompressed.wrapping_sub(b.uncompressed),
    }
}

fn charge_head(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, change: Change) -> Result<()> {
    dir::charge(mos, tx, dir_id, change, Kinds { from: DdUsed::Head, to: DdUsed::Head, bytes: change.used })
}

/// Exchanges the contents of two heads, in syncing context; neither may be open, and the clone's origin must be the
/// head's last snapshot (both may have none that counts).
///
/// # Errors
/// `Invalid` when they do not descend from the same snapshot; `Unsupported` for dead lists of the oldest form.
pub(crate) fn heads(mos: &Mos, tx: &DmuTx, clone_id: ObjectId, head_id: ObjectId) -> Result<()> {
    let mut clone = dir::read_dataset(mos, clone_id)?;
    let mut head = dir::read_dataset(mos, head_id)?;
    if clone.prev_snap != head.prev_snap {
        return Err(Error::Invalid);
    }
    swap_features(mos, tx, clone_id, head_id)?;
    if let Some(origin_id) = clone.prev_snap.non_zero() {
        let origin = dir::read_dataset(mos, origin_id)?;
        if origin.next_snap == head_id {
            let from = origin.prev_snap_txg;
            let unique = Deadlist::load(mos, clone.deadlist)?.sum_range(mos, from, Txg(u64::MAX))?.used;
            dir::modify_dataset(mos, tx, origin_id, |ds| ds.unique_bytes = unique)?;
        }
    }
    let change = minus(total(mos, &clone)?, total(mos, &head)?);
    charge_head(mos, tx, head.dir, change)?;
    charge_head(mos, tx, clone.dir, minus(Change::default(), change))?;
    let first = match dir::read(mos, head.dir)?.origin.non_zero() {
        Some(origin) => dir::read_dataset(mos, origin)?.creation_txg,
        None => Txg::ZERO,
    };
    let dead = |ds: &DslDatasetPhys| -> Result<u64> {
        Ok(Deadlist::load(mos, ds.deadlist)?.sum_range(mos, first, Txg(u64::MAX))?.used)
    };
    let moved = dead(&clone)?.wrapping_sub(dead(&head)?).cast_signed();
    dir::transfer(mos, tx, head.dir, moved, DdUsed::Head, DdUsed::Snap)?;
    let (_, reserved) = ref_limits(mos, head.dir)?;
    let kept = |unique: u64| unique.min(reserved).cast_signed();
    let ref_reserved = kept(head.unique_bytes) - kept(clone.unique_bytes);
    snapshot::change_ref_reserved(mos, tx, head.dir, ref_reserved)?;
    swap(&mut clone.bp, &mut head.bp);
    swap(&mut clone.referenced_bytes, &mut head.referenced_bytes);
    swap(&mut clone.compressed_bytes, &mut head.compressed_bytes);
    swap(&mut clone.uncompressed_bytes, &mut head.uncompressed_bytes);
    swap(&mut clone.unique_bytes, &mut head.unique_bytes);
    swap(&mut clone.deadlist, &mut head.deadlist);
    dir::modify_dataset(mos, tx, clone_id, |ds| *ds = clone)?;
    dir::modify_dataset(mos, tx, head_id, |ds| *ds = head)?;
    crate::scan::datasets::swapped(mos, tx, clone_id, head_id)?;
    bookmark::head_reset(mos, tx, head_id)?;
    livelist::remove(mos, tx, head.dir)?;
    livelist::remove(mos, tx, clone.dir)
}

/// The features that trees use go with them.
fn swap_features(mos: &Mos, tx: &DmuTx, a: ObjectId, b: ObjectId) -> Result<()> {
    let (of_a, of_b) = (snapshot::features_of(mos, a)?, snapshot::features_of(mos, b)?);
    let give = |from: ObjectId, to: ObjectId, feature: Feature| -> Result<()> {
        let value = mos.zap(from)?.lookup(feature.guid().as_bytes())?;
        mos.zap_remove(tx, from, feature.guid())?;
        features::decrement(mos, tx, feature)?;
        super::book::activate(mos, tx, to, feature)?;
        mos.zap(to)?.update(tx, feature.guid().as_bytes(), &value)
    };
    for feature in of_a.iter().filter(|f| !of_b.contains(f)) {
        give(a, b, *feature)?;
    }
    for feature in of_b.iter().filter(|f| !of_a.contains(f)) {
        give(b, a, *feature)?;
    }
    Ok(())
}
