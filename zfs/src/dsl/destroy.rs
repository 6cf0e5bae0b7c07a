//! Unmaking a dataset: its blocks, its dead list, its directory, and every place that names it.
//!
//! Done in one transaction group, in syncing context, after the dataset's last dirty data were written: what is freed
//! is exactly the tree on disk. A dataset with snapshots, children or clones is refused before it comes here. The tree
//! itself is handed to `freeing`.
use super::dir::{self, Change, Kinds};
use super::{bookmark, deadlist, freeing, limits, livelist, log, names, snapshot};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use ondisk::dsl::{DdUsed, DslDatasetFlags};
use ondisk::feature::Feature;
use ondisk::{DmuType, ObjectId};

/// What stands in the way of destroying a dataset.
///
/// # Errors
/// `NotEmpty` with children or snapshots; `Busy` for what clones depend on.
pub(crate) fn check(mos: &Mos, dir_id: ObjectId) -> Result<()> {
    let dir = dir::read(mos, dir_id)?;
    if dir.parent.is_none() {
        return Err(Error::Busy);
    }
    if mos.zap(dir.child_dir_zap)?.len()? > 0 {
        return Err(Error::NotEmpty);
    }
    let head = dir::read_dataset(mos, dir.head_dataset)?;
    if !head.snapnames_zap.is_none() && mos.zap(head.snapnames_zap)?.len()? > 0 {
        return Err(Error::NotEmpty);
    }
    Ok(())
}

/// Destroys the dataset at `dir_id`, which [`check`] let pass and which is not open. The snapshot it was cloned from, if
/// its own destruction waited for that.
pub(crate) fn destroy(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx, dir_id: ObjectId) -> Result<Option<ObjectId>> {
    let own = dir::read(mos, dir_id)?;
    let head = own.head_dataset;
    let ds = dir::read_dataset(mos, head)?;
    crate::scan::datasets::destroyed(mos, tx, head)?;
    log::free(mos, ctx, &ds.bp, head)?;
    let sums = freeing::own_sums(mos, &ds)?;
    if !freeing::free_live(mos, tx, dir_id, sums)? {
        freeing::free_tree(mos, ctx, tx, &ds, sums)?;
    }
    let change = Change::of(sums.negated());
    let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::Head, bytes: change.used };
    dir::charge(mos, tx, dir_id, change, kinds)?;
    release_reservations(mos, tx, dir_id)?;
    livelist::remove(mos, tx, dir_id)?;
    deadlist::free(mos, tx, ds.deadlist)?;
    forget_clone(mos, tx, head, ds.prev_snap)?;
    bookmark::head_destroyed(mos, tx, head)?;
    mos.free(tx, ds.snapnames_zap)?;
    snapshot::forget_object(mos, tx, head, &ds)?;
    forget_dir(mos, tx, dir_id)?;
    let Some(origin) = ds.prev_snap.non_zero() else {
        return Ok(None);
    };
    let left = dir::read_dataset(mos, origin)?;
    let is_due = left.flags.contains(DslDatasetFlags::DEFER_DESTROY)
        && left.num_children == 1
        && snapshot::nr_holds(mos, &left)? == 0;
    Ok(is_due.then_some(origin))
}

/// Gives back what was set aside above what was used, all the way up.
fn release_reservations(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let own = dir::read(mos, dir_id)?;
    let left = own.used_bytes.cast_signed();
    if left != 0 {
        let change = Change { used: -left, ..Change::default() };
        let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::Head, bytes: 0 };
        dir::charge(mos, tx, dir_id, change, kinds)?;
    }
    dir::set_reservation(mos, tx, dir_id, 0)
}

fn forget_clone(mos: &Mos, tx: &DmuTx, head: ObjectId, origin: ObjectId) -> Result<()> {
    if origin.is_none() {
        return Ok(());
    }
    let key = alloc::format!("{:x}", head.0);
    let snapshot = dir::read_dataset(mos, origin)?;
    if !snapshot.next_clones.is_none() {
        ignore_missing(mos.zap_remove(tx, snapshot.next_clones, &key))?;
    }
    dir::modify_dataset(mos, tx, origin, |ds| ds.num_children = ds.num_children.saturating_sub(1))?;
    let clones = dir::read(mos, snapshot.dir)?.clones;
    if !clones.is_none() {
        ignore_missing(mos.zap_remove(tx, clones, &key))?;
    }
    Ok(())
}

fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotFound) => Ok(()),
        other => other,
    }
}

fn forget_dir(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let own = dir::read(mos, dir_id)?;
    let above = dir::read(mos, own.parent)?;
    let name = mos.zap_name_of(above.child_dir_zap, dir_id.0)?.ok_or(Error::Damaged)?;
    mos.zap_remove(tx, above.child_dir_zap, &name)?;
    limits::dir_removed(mos, tx, own.parent, &name)?;
    if mos.kind(dir_id)? == DmuType::OTN_ZAP_METADATA {
        features::decrement(mos, tx, Feature::ExtensibleDataset)?;
    }
    for object in [own.child_dir_zap, own.props_zap, own.deleg_zap, own.clones] {
        if !object.is_none() {
            mos.free(tx, object)?;
        }
    }
    mos.free(tx, dir_id)
}

/// Checks and resolves a new name for a dataset: its directory and the new parent.
///
/// # Errors
/// `Invalid` when a dataset would get below itself or into another pool; `Exists`; `NameTooLong`; `Quota` when a limit on
/// datasets is reached; `NoSpace` when a quota above its new place has no room for it.
pub(crate) fn check_rename(
    mos: &Mos,
    root: ObjectId,
    name: &str,
    to: &str,
    usable: u64,
) -> Result<(ObjectId, ObjectId)> {
    names::check(to)?;
    let dir_id = names::find_dir(mos, root, name)?;
    let (parent, _) = names::split(to)?;
    if dir_id == root || alloc::format!("{to}/").starts_with(&alloc::format!("{name}/")) {
        return Err(Error::Invalid);
    }
    if names::find_dir(mos, root, to).is_ok() {
        return Err(Error::Exists);
    }
    let longest = {
        let mut longest = 0;
        names::walk(mos, dir_id, name, false, &mut |entry| {
            longest = longest.max(entry.name.len());
            Ok(())
        })?;
        longest
    };
    if longest - name.len() + to.len() > names::DATASET_NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let parent = names::find_dir(mos, root, parent)?;
    limits::check_move(mos, dir_id, parent)?;
    let own = dir::read(mos, dir_id)?;
    if own.used_bytes.max(own.reserved) > dir::available_for_move(mos, own.parent, parent, usable)? {
        return Err(Error::NoSpace);
    }
    Ok((dir_id, parent))
}

/// Moves a directory under another parent and name, with its space.
pub(crate) fn rename(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, parent: ObjectId, name: &str) -> Result<()> {
    let own = dir::read(mos, dir_id)?;
    let old_zap = dir::read(mos, own.parent)?.child_dir_zap;
    let old_name = mos.zap_name_of(old_zap, dir_id.0)?.ok_or(Error::Damaged)?;
    mos.zap_remove(tx, old_zap, &old_name)?;
    if parent != own.parent {
        let seen = own.used_bytes.max(own.reserved).cast_signed();
        let used = own.used_bytes.cast_signed();
        let (compressed, uncompressed) =
            (own.compressed_bytes.cast_signed(), own.uncompressed_bytes.cast_signed());
        let kinds = |bytes| Kinds { from: DdUsed::ChildReserved, to: DdUsed::Child, bytes };
        let leaving = Change { used: -seen, compressed: -compressed, uncompressed: -uncompressed };
        dir::charge(mos, tx, own.parent, leaving, kinds(-used))?;
        dir::charge(mos, tx, parent, Change { used: seen, compressed, uncompressed }, kinds(used))?;
        limits::dir_moved(mos, tx, dir_id, own.parent, parent)?;
        dir::modify(mos, tx, dir_id, |dir| dir.parent = parent)?;
    }
    mos.zap_add(tx, dir::read(mos, parent)?.child_dir_zap, name, dir_id.0)
}
