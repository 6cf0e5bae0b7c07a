//! Taking and destroying snapshots, in syncing context, after the group's datasets were written.
//!
//! A snapshot takes over its head's root block, dead list and figures; the head goes on with a dead list of empty buckets.
//! From then on the head's ledger puts everything born until then on that list instead of freeing it: both must happen in
//! one transaction group, or blocks of the snapshot would be freed under it.
//!
//! ```text
//!   prev <---> snapshot <---> next          prev_snap, next_snap: a chain from the origin to the head
//!                                           clones hang below a snapshot by prev_snap only
//!   deadlist(next): what next has given up of what snapshot refers to
//! ```
//! Destroying one in the middle joins its dead list with next's; what next gave up and only the snapshot still held is
//! what becomes free.
use super::book;
use super::bpobj::Sums;
use super::dataset::ref_limits;
use super::deadlist::{self, Deadlist};
use super::dir::{self, Change, Kinds};
use super::limits::{self, Counted};
use super::property::{Property, PropertyValue};
use super::{create, freeing, names, props};
use crate::dmu::DmuTx;
use crate::spa::environment::Environment;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::{DdUsed, DslDatasetFlags, DslDatasetPhys, RawDslDataset, keys};
use ondisk::feature::{Feature, FeatureFlags};
use ondisk::{DmuType, ObjectId, Txg};

/// Longest chain of heads whose clones are visited; more is damage.
const CLONE_DEPTH_MAX: usize = 256;

/// Checks that a snapshot of that name can be taken of a dataset.
///
/// # Errors
/// `Invalid`, `NameTooLong`, `Exists`; `NoSpace` when what a refreservation keeps would no longer fit; `Unsupported` for a
/// dataset with a dead list of the oldest form.
pub(crate) fn check(mos: &Mos, dir_id: ObjectId, path: &str, name: &str, usable: u64) -> Result<()> {
    names::check_snapshot(path, name)?;
    let own = dir::read(mos, dir_id)?;
    let head = own.head_dataset.non_zero().ok_or(Error::NotFound)?;
    let ds = dir::read_dataset(mos, head)?;
    if mos.zap_has(ds.snapnames_zap, name)? {
        return Err(Error::Exists);
    }
    let (_, reserved) = ref_limits(mos, dir_id)?;
    if ds.unique_bytes.min(reserved) > dir::available(mos, dir_id, usable)? {
        return Err(Error::NoSpace);
    }
    Ok(())
}

/// Takes a snapshot of the head of `dir_id`; its object.
pub(crate) fn take(
    mos: &Mos,
    tx: &DmuTx,
    env: &Environment,
    dir_id: ObjectId,
    name: &str,
    properties: &[(Property, PropertyValue)],
) -> Result<ObjectId> {
    let head_id = dir::read(mos, dir_id)?.head_dataset;
    let head = dir::read_dataset(mos, head_id)?;
    let id = new_object(mos, tx)?;
    let snapshot = DslDatasetPhys {
        next_snap: head_id,
        snapnames_zap: ObjectId(0),
        // The head holds all of it as yet.
        unique_bytes: 0,
        num_children: 1,
        creation_time: env.time(),
        creation_txg: tx.txg(),
        fsid_guid: env.random() & create::FSID_MASK,
        guid: env.guid(),
        next_clones: ObjectId(0),
        props: ObjectId(0),
        userrefs: ObjectId(0),
        ..head
    };
    dir::modify_dataset(mos, tx, id, |ds| *ds = snapshot)?;
    copy_features(mos, tx, head_id, id)?;
    link_after_prev(mos, tx, &head, head_id, id)?;
    let deadlist = start_deadlist(mos, tx, &head)?;
    keep_ref_reservation(mos, tx, dir_id, head.unique_bytes)?;
    dir::modify_dataset(mos, tx, head_id, |ds| {
        ds.prev_snap = id;
        ds.prev_snap_txg = tx.txg();
        ds.unique_bytes = 0;
        ds.deadlist = deadlist;
        ds.flags |= DslDatasetFlags::UNIQUE_ACCURATE;
    })?;
    super::bookmark::snapshotted(mos, tx, head_id, head.prev_snap_txg)?;
    mos.zap_add(tx, head.snapnames_zap, name, id.0)?;
    limits::adjust(mos, tx, dir_id, 1, Counted::Snapshots)?;
    set_properties(mos, tx, id, properties)?;
    crate::scan::datasets::snapshotted(mos, tx, head_id, id)?;
    changed(mos, tx, env, dir_id)?;
    Ok(id)
}

/// An object for a dataset, with room for features where the pool has that.
fn new_object(mos: &Mos, tx: &DmuTx) -> Result<ObjectId> {
    mos.create_object(tx, DmuType::DSL_DATASET, DmuType::DSL_DATASET, size_of::<RawDslDataset>())
}

/// What a head uses its snapshot uses too.
pub(crate) fn copy_features(mos: &Mos, tx: &DmuTx, from: ObjectId, to: ObjectId) -> Result<()> {
    for feature in features_of(mos, from)? {
        book::activate(mos, tx, to, feature)?;
        let value = mos.zap(from)?.lookup(feature.guid().as_bytes())?;
        mos.zap(to)?.update(tx, feature.guid().as_bytes(), &value)?;
    }
    Ok(())
}

/// The features that a dataset is counted for.
pub(crate) fn features_of(mos: &Mos, id: ObjectId) -> Result<Vec<Feature>> {
    let mut used = Vec::new();
    if mos.kind(id)? == DmuType::OTN_ZAP_METADATA {
        mos.for_each_name(id, &mut |name| {
            let feature = Feature::from_guid(name);
            used.extend(feature.filter(|f| f.info().flags.contains(FeatureFlags::PER_DATASET)));
            Ok(())
        })?;
    }
    Ok(used)
}

/// Puts the new snapshot between the head and what was before it.
fn link_after_prev(
    mos: &Mos,
    tx: &DmuTx,
    head: &DslDatasetPhys,
    head_id: ObjectId,
    id: ObjectId,
) -> Result<()> {
    let Some(prev_id) = head.prev_snap.non_zero() else {
        return Ok(());
    };
    let prev = dir::read_dataset(mos, prev_id)?;
    if prev.next_snap == head_id {
        dir::modify_dataset(mos, tx, prev_id, |ds| ds.next_snap = id)
    } else if !prev.next_clones.is_none() {
        replace_clone(mos, tx, prev.next_clones, head_id, Some(id))
    } else {
        Ok(())
    }
}

/// A set of object numbers has another one, or one less.
pub(crate) fn replace_clone(
    mos: &Mos,
    tx: &DmuTx,
    set: ObjectId,
    old: ObjectId,
    new: Option<ObjectId>,
) -> Result<()> {
    match mos.zap_remove(tx, set, &alloc::format!("{:x}", old.0)) {
        Ok(()) | Err(Error::NotFound) => {}
        Err(e) => return Err(e),
    }
    new.map_or(Ok(()), |new| mos.zap_add(tx, set, &alloc::format!("{:x}", new.0), new.0))
}

/// The dead list that a head goes on with: the buckets it had, and one more for what its new snapshot added.
fn start_deadlist(mos: &Mos, tx: &DmuTx, head: &DslDatasetPhys) -> Result<ObjectId> {
    let mut keys = Deadlist::load(mos, head.deadlist)?.keys();
    if !keys.contains(&head.prev_snap_txg.0) {
        keys.push(head.prev_snap_txg.0);
    }
    deadlist::create(mos, tx, &keys)
}

/// What only the head held the snapshot holds too: a refreservation sets space aside for it once more.
fn keep_ref_reservation(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, unique: u64) -> Result<()> {
    let (_, reserved) = ref_limits(mos, dir_id)?;
    change_ref_reserved(mos, tx, dir_id, unique.min(reserved).cast_signed())
}

/// Changes what a directory is charged for its head's refreservation.
pub(crate) fn change_ref_reserved(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, bytes: i64) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::RefReserved, bytes: 0 };
    dir::charge(mos, tx, dir_id, Change { used: bytes, ..Change::default() }, kinds)
}

/// Stores properties of a snapshot's own.
pub(crate) fn set_properties(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    properties: &[(Property, PropertyValue)],
) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let zap = match dir::read_dataset(mos, id)?.props.non_zero() {
        Some(zap) => zap,
        None => {
            let zap = mos.create_zap(tx, DmuType::DSL_PROPS, DmuType::NONE, 0)?;
            dir::modify_dataset(mos, tx, id, |ds| ds.props = zap)?;
            zap
        }
    };
    properties.iter().try_for_each(|(property, value)| props::set_in(mos, tx, zap, property, value))
}

/// Notes in a directory when its snapshots changed.
pub(crate) fn changed(mos: &Mos, tx: &DmuTx, env: &Environment, dir_id: ObjectId) -> Result<()> {
    if !features::is_enabled(mos, Feature::ExtensibleDataset)? {
        return Ok(());
    }
    dir::zapify(mos, tx, dir_id)?;
    let value = crate::zap::ZapValue::words(&[env.time(), 0]);
    mos.zap(dir_id)?.update(tx, keys::SNAPSHOTS_CHANGED.as_bytes(), &value)
}

/// Checks that a snapshot can be destroyed now, or later if `defer`.
///
/// # Errors
/// `Busy` with holds or clones, `Unsupported` for dead lists of the oldest form.
pub(crate) fn check_destroy(mos: &Mos, id: ObjectId, defer: bool) -> Result<()> {
    let ds = dir::read_dataset(mos, id)?;
    for list in [ds.deadlist, dir::read_dataset(mos, ds.next_snap)?.deadlist] {
        if mos.kind(list)? == DmuType::BPOBJ {
            return Err(Error::Unsupported);
        }
    }
    if !defer && (ds.num_children > 1 || nr_holds(mos, &ds)? > 0) {
        return Err(Error::Busy);
    }
    Ok(())
}

/// Number of holds on a snapshot.
pub(crate) fn nr_holds(mos: &Mos, ds: &DslDatasetPhys) -> Result<u64> {
    ds.userrefs.non_zero().map_or(Ok(0), |zap| mos.zap(zap)?.len())
}

/// The name a snapshot goes by among those of its head.
pub(crate) fn name_of(mos: &Mos, id: ObjectId) -> Result<String> {
    let ds = dir::read_dataset(mos, id)?;
    let head = dir::read(mos, ds.dir)?.head_dataset;
    let names = dir::read_dataset(mos, head)?.snapnames_zap;
    mos.zap_name_of(names, id.0)?.ok_or(Error::Damaged)
}

/// A snapshot about to go, with its neighbours.
struct Leaving {
    id: ObjectId,
    ds: DslDatasetPhys,
    next: DslDatasetPhys,
    /// The one before it, unless it hangs below that as a clone's first.
    prev: Option<(ObjectId, DslDatasetPhys)>,
    /// `prev` is of the same branch.
    is_in_line: bool,
    /// A bookmark stands for its transaction group: buckets keep their edges.
    is_marked: bool,
}

/// Destroys a snapshot that [`check_destroy`] let pass; true when it is gone, false when that was put off.
pub(crate) fn destroy(mos: &Mos, tx: &DmuTx, env: &Environment, id: ObjectId, defer: bool) -> Result<bool> {
    let ds = dir::read_dataset(mos, id)?;
    if ds.num_children > 1 || nr_holds(mos, &ds)? > 0 {
        if !defer {
            return Err(Error::Busy);
        }
        dir::modify_dataset(mos, tx, id, |ds| ds.flags |= DslDatasetFlags::DEFER_DESTROY)?;
        return Ok(false);
    }
    crate::scan::datasets::destroyed(mos, tx, id)?;
    let is_marked = super::bookmark::snapshot_destroyed(mos, tx, &ds)?;
    let prev = match ds.prev_snap.non_zero() {
        Some(prev) => Some((prev, dir::read_dataset(mos, prev)?)),
        None => None,
    };
    let is_in_line = prev.is_some_and(|(_, prev)| prev.next_snap == id);
    let next = dir::read_dataset(mos, ds.next_snap)?;
    let leaving = Leaving { id, ds, next, prev, is_in_line, is_marked };
    unlink(mos, tx, &leaving)?;
    merge(mos, tx, &leaving)?;
    if next.next_snap.is_none() {
        head_owns_again(mos, tx, ds.next_snap)?;
    } else {
        next_owns_more(mos, tx, &leaving)?;
    }
    forget(mos, tx, env, &leaving)?;
    Ok(true)
}

/// Takes the snapshot out of the chain.
fn unlink(mos: &Mos, tx: &DmuTx, leaving: &Leaving) -> Result<()> {
    let Leaving { id, ds, prev, is_in_line, .. } = leaving;
    if let Some((prev_id, prev)) = prev {
        if *is_in_line {
            dir::modify_dataset(mos, tx, *prev_id, |prev| prev.next_snap = ds.next_snap)?;
        } else if !prev.next_clones.is_none() {
            replace_clone(mos, tx, prev.next_clones, *id, ds.next_snap.non_zero())?;
        }
    }
    dir::modify_dataset(mos, tx, ds.next_snap, |next| {
        next.prev_snap = ds.prev_snap;
        next.prev_snap_txg = ds.prev_snap_txg;
    })
}

/// Frees what only this snapshot held, and joins the dead lists.
fn merge(mos: &Mos, tx: &DmuTx, leaving: &Leaving) -> Result<()> {
    let Leaving { ds, next, prev, is_in_line, .. } = leaving;
    let mut list = Deadlist::load(mos, next.deadlist)?;
    if let (Some((prev_id, prev)), true) = (prev, is_in_line) {
        let more = list.sum_range(mos, prev.prev_snap_txg, ds.prev_snap_txg)?;
        dir::modify_dataset(mos, tx, *prev_id, |prev| {
            prev.unique_bytes = prev.unique_bytes.saturating_add(more.used);
        })?;
    }
    let (lists, sums) = list.take_from(mos, tx, ds.prev_snap_txg)?;
    let change = Change::of(sums.negated());
    dir::charge(mos, tx, ds.dir, change, Kinds { from: DdUsed::Snap, to: DdUsed::Snap, bytes: change.used })?;
    freeing::add_lists(mos, tx, lists, sums)?;
    list.merge(mos, tx, ds.deadlist)?;
    deadlist::free(mos, tx, ds.deadlist)
}

/// The snapshot after it alone holds what both did and the one after that has given up.
fn next_owns_more(mos: &Mos, tx: &DmuTx, leaving: &Leaving) -> Result<()> {
    let Leaving { ds, next, is_marked, .. } = leaving;
    let after = dir::read_dataset(mos, next.next_snap)?;
    let more = Deadlist::load(mos, after.deadlist)?.sum_range(mos, ds.prev_snap_txg, ds.creation_txg)?;
    dir::modify_dataset(mos, tx, ds.next_snap, |next| {
        next.unique_bytes = next.unique_bytes.saturating_add(more.used);
    })?;
    if *is_marked {
        return Ok(());
    }
    let head = dir::read(mos, ds.dir)?.head_dataset;
    let list = dir::read_dataset(mos, head)?.deadlist;
    Deadlist::load(mos, list)?.remove_key(mos, tx, ds.creation_txg.0)
}

/// What of a head no snapshot holds, and what its refreservation need no longer set aside for that.
pub(crate) fn head_owns_again(mos: &Mos, tx: &DmuTx, head_id: ObjectId) -> Result<()> {
    let head = dir::read_dataset(mos, head_id)?;
    let unique = unique_of_head(mos, &head)?;
    dir::modify_dataset(mos, tx, head_id, |ds| ds.unique_bytes = unique)?;
    let (_, reserved) = ref_limits(mos, head.dir)?;
    let less = unique.min(reserved).saturating_sub(head.unique_bytes.min(reserved));
    change_ref_reserved(mos, tx, head.dir, -less.cast_signed())
}

/// Bytes that only a head refers to, from what it refers to and what of its last snapshot it has given up.
pub(crate) fn unique_of_head(mos: &Mos, head: &DslDatasetPhys) -> Result<u64> {
    let shared = match head.prev_snap.non_zero() {
        Some(prev) => dir::read_dataset(mos, prev)?.referenced_bytes,
        None => 0,
    };
    let dead = deadlist::sums(mos, head.deadlist)?.used;
    Ok(head.referenced_bytes.saturating_sub(shared.saturating_sub(dead)))
}

/// Removes the last traces.
fn forget(mos: &Mos, tx: &DmuTx, env: &Environment, leaving: &Leaving) -> Result<()> {
    let Leaving { id, ds, is_marked, .. } = leaving;
    if !is_marked {
        remove_key_from_clones(mos, tx, ds.dir, ds.creation_txg, 0)?;
    }
    let name = name_of(mos, *id)?;
    let head = dir::read(mos, ds.dir)?.head_dataset;
    mos.zap_remove(tx, dir::read_dataset(mos, head)?.snapnames_zap, &name)?;
    limits::adjust(mos, tx, ds.dir, -1, Counted::Snapshots)?;
    forget_object(mos, tx, *id, ds)?;
    changed(mos, tx, env, ds.dir)
}

/// Frees a dataset's object, what hangs on it, and its references to features.
pub(crate) fn forget_object(mos: &Mos, tx: &DmuTx, id: ObjectId, ds: &DslDatasetPhys) -> Result<()> {
    for feature in features_of(mos, id)? {
        features::decrement(mos, tx, feature)?;
    }
    for object in [ds.next_clones, ds.props, ds.userrefs] {
        if !object.is_none() {
            mos.free(tx, object)?;
        }
    }
    if mos.kind(id)? == DmuType::OTN_ZAP_METADATA {
        features::decrement(mos, tx, Feature::ExtensibleDataset)?;
    }
    mos.free(tx, id)
}

/// Clones that came after a snapshot have a bucket for it in their dead lists: it is joined to the one before.
pub(crate) fn remove_key_from_clones(
    mos: &Mos,
    tx: &DmuTx,
    dir_id: ObjectId,
    key: Txg,
    depth: usize,
) -> Result<()> {
    if depth > CLONE_DEPTH_MAX {
        return Err(Error::Damaged);
    }
    let Some(clones) = dir::read(mos, dir_id)?.clones.non_zero() else {
        return Ok(());
    };
    for clone in clones_in(mos, clones)? {
        let ds = dir::read_dataset(mos, clone)?;
        let origin = dir::read(mos, ds.dir)?.origin;
        if !origin.is_none() && dir::read_dataset(mos, origin)?.creation_txg > key {
            Deadlist::load(mos, ds.deadlist)?.remove_key(mos, tx, key.0)?;
            remove_key_from_clones(mos, tx, ds.dir, key, depth + 1)?;
        }
    }
    Ok(())
}

/// The members of a set of object numbers.
pub(crate) fn clones_in(mos: &Mos, set: ObjectId) -> Result<Vec<ObjectId>> {
    let mut all = Vec::new();
    mos.for_each_u64(set, &mut |_, id| {
        all.push(ObjectId(id));
        Ok(())
    })?;
    all.sort_unstable();
    Ok(all)
}

impl Change {
    /// A change by these sums, which may be negative ones.
    pub(crate) const fn of(sums: Sums) -> Self {
        Self {
            used: sums.used.cast_signed(),
            compressed: sums.compressed.cast_signed(),
            uncompressed: sums.uncompressed.cast_signed(),
        }
    }
}
