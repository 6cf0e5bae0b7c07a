//! Making datasets on disk: the tree of a new pool, and single file systems and volumes.
//!
//! ```text
//! root dir -+- $MOS                  charged for the MOS
//!           +- $FREE                 charged for space that a destroy has still to free
//!           +- $ORIGIN               its snapshot $ORIGIN@$ORIGIN, empty, is the origin of all that is no clone
//!           +- children ...
//! ```
use super::bpobj;
use super::deadlist;
use super::dir::{self, Change, Kinds};
use super::{limits, livelist, snapshot};
use crate::dmu::DmuTx;
use crate::spa::environment::Environment;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use ondisk::dsl::{
    DdUsed, DslDatasetFlags, DslDatasetPhys, FREE_DIR_NAME, MOS_DIR_NAME, ORIGIN_DIR_NAME, RawDslDataset,
};
use ondisk::feature::Feature;
use ondisk::pool_directory as names;
use ondisk::{DmuType, ObjectId, Txg};

/// File system identifiers have 56 bits.
pub(crate) const FSID_MASK: u64 = (1 << 56) - 1;

/// Transaction group to note as that of a creation: what is made with the pool counts as older than everything.
fn creation_txg(txg: Txg) -> Txg {
    if txg == Txg::INITIAL { Txg(1) } else { txg }
}

/// The internal directories of a new pool; returns the root directory.
pub(crate) fn new_tree(mos: &Mos, tx: &DmuTx, env: &Environment) -> Result<ObjectId> {
    let root = dir::create(mos, tx, ObjectId(0), env.time())?;
    mos.set_directory_entry(tx, names::ROOT_DATASET, root)?;
    for name in [MOS_DIR_NAME, FREE_DIR_NAME] {
        new_dir(mos, tx, root, name, env)?;
    }
    let free_list = bpobj::create(mos, tx)?;
    mos.set_directory_entry(tx, names::FREE_BPOBJ, free_list)?;
    new_origin(mos, tx, root, env)?;
    Ok(root)
}

/// A new directory, entered in its parent.
pub(crate) fn new_dir(
    mos: &Mos,
    tx: &DmuTx,
    parent: ObjectId,
    name: &str,
    env: &Environment,
) -> Result<ObjectId> {
    let id = dir::create(mos, tx, parent, env.time())?;
    mos.zap_add(tx, dir::read(mos, parent)?.child_dir_zap, name, id.0)?;
    limits::dir_added(mos, tx, parent, id, name)?;
    Ok(id)
}

/// `$ORIGIN` with its head and its snapshot, both without any content.
fn new_origin(mos: &Mos, tx: &DmuTx, root: ObjectId, env: &Environment) -> Result<()> {
    let dir_id = new_dir(mos, tx, root, ORIGIN_DIR_NAME, env)?;
    let bonus_len = size_of::<RawDslDataset>();
    let head = mos.create_object(tx, DmuType::DSL_DATASET, DmuType::DSL_DATASET, bonus_len)?;
    let snapshot = mos.create_object(tx, DmuType::DSL_DATASET, DmuType::DSL_DATASET, bonus_len)?;
    let names = mos.create_zap(tx, DmuType::DSL_DS_SNAP_MAP, DmuType::NONE, 0)?;
    mos.zap_add(tx, names, ORIGIN_DIR_NAME, snapshot.0)?;
    let txg = creation_txg(tx.txg());
    let old_deadlist = deadlist::create(mos, tx, &[])?;
    let new_deadlist = deadlist::create(mos, tx, &[0])?;
    let next_clones = mos.create_zap(tx, DmuType::NEXT_CLONES, DmuType::NONE, 0)?;
    dir::modify_dataset(mos, tx, snapshot, |ds| {
        ds.dir = dir_id;
        ds.next_snap = head;
        ds.num_children = 1;
        ds.creation_time = env.time();
        ds.creation_txg = txg;
        ds.deadlist = old_deadlist;
        ds.fsid_guid = env.random() & FSID_MASK;
        ds.guid = env.guid();
        ds.flags = DslDatasetFlags::UNIQUE_ACCURATE;
        ds.next_clones = next_clones;
    })?;
    dir::modify_dataset(mos, tx, head, |ds| {
        ds.dir = dir_id;
        ds.prev_snap = snapshot;
        ds.prev_snap_txg = txg;
        ds.snapnames_zap = names;
        ds.creation_time = env.time();
        ds.creation_txg = txg;
        ds.deadlist = new_deadlist;
        ds.fsid_guid = env.random() & FSID_MASK;
        ds.guid = env.guid();
        ds.flags = DslDatasetFlags::UNIQUE_ACCURATE;
    })?;
    let clones = mos.create_zap(tx, DmuType::DSL_CLONES, DmuType::NONE, 0)?;
    dir::modify(mos, tx, dir_id, |dir| {
        dir.head_dataset = head;
        dir.clones = clones;
    })
}

/// The snapshot that datasets which are no clones descend from; pools before version 11 have none.
pub(crate) fn origin_snapshot(mos: &Mos, root: ObjectId) -> Result<Option<ObjectId>> {
    let children = dir::read(mos, root)?.child_dir_zap;
    let Some(id) = mos.zap_lookup(children, ORIGIN_DIR_NAME)? else {
        return Ok(None);
    };
    let head = dir::read(mos, ObjectId(id))?.head_dataset;
    Ok(dir::read_dataset(mos, head)?.prev_snap.non_zero())
}

/// A new, empty dataset as the head of `dir_id`: a clone of the empty origin, where the pool has that.
pub(crate) fn new_dataset(
    mos: &Mos,
    tx: &DmuTx,
    root: ObjectId,
    dir_id: ObjectId,
    env: &Environment,
) -> Result<ObjectId> {
    let origin = origin_snapshot(mos, root)?;
    new_head(mos, tx, origin, dir_id, env)
}

/// A new head of `dir_id` that begins as its origin is. Its object is a ZAP where the pool can have that, so that
/// features can be noted in it.
fn new_head(
    mos: &Mos,
    tx: &DmuTx,
    origin: Option<ObjectId>,
    dir_id: ObjectId,
    env: &Environment,
) -> Result<ObjectId> {
    let bonus_len = size_of::<RawDslDataset>();
    let id = if features::is_enabled(mos, Feature::ExtensibleDataset)? {
        features::increment(mos, tx, Feature::ExtensibleDataset)?;
        mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::DSL_DATASET, bonus_len)?
    } else {
        mos.create_object(tx, DmuType::DSL_DATASET, DmuType::DSL_DATASET, bonus_len)?
    };
    let snapshots = mos.create_zap(tx, DmuType::DSL_DS_SNAP_MAP, DmuType::NONE, 0)?;
    let (mut from, mut keys) = (DslDatasetPhys::default(), alloc::vec::Vec::new());
    if let Some(origin) = origin {
        from = dir::read_dataset(mos, origin)?;
        keys = add_clone(mos, tx, origin, id, from.creation_txg)?;
        snapshot::copy_features(mos, tx, origin, id)?;
    }
    let deadlist = deadlist::create(mos, tx, &keys)?;
    dir::modify_dataset(mos, tx, id, |ds| {
        ds.dir = dir_id;
        ds.prev_snap = origin.unwrap_or_default();
        ds.prev_snap_txg = from.creation_txg;
        ds.snapnames_zap = snapshots;
        ds.creation_time = env.time();
        ds.creation_txg = creation_txg(tx.txg());
        ds.deadlist = deadlist;
        ds.fsid_guid = env.random() & FSID_MASK;
        ds.guid = env.guid();
        ds.flags = DslDatasetFlags::UNIQUE_ACCURATE | (from.flags & DslDatasetFlags::CASE_INSENSITIVE);
        ds.bp = from.bp;
        ds.referenced_bytes = from.referenced_bytes;
        ds.compressed_bytes = from.compressed_bytes;
        ds.uncompressed_bytes = from.uncompressed_bytes;
    })?;
    dir::modify(mos, tx, dir_id, |dir| {
        dir.head_dataset = id;
        dir.origin = origin.unwrap_or_default();
    })?;
    Ok(id)
}

/// A new clone of a snapshot.
pub(crate) fn new_clone(
    mos: &Mos,
    tx: &DmuTx,
    origin: ObjectId,
    dir_id: ObjectId,
    env: &Environment,
) -> Result<ObjectId> {
    let id = new_head(mos, tx, Some(origin), dir_id, env)?;
    livelist::create(mos, tx, dir_id)?;
    Ok(id)
}

/// Enters a clone of `origin`; returns the keys its dead list starts with.
fn add_clone(
    mos: &Mos,
    tx: &DmuTx,
    origin: ObjectId,
    clone: ObjectId,
    until: Txg,
) -> Result<alloc::vec::Vec<u64>> {
    let key = alloc::format!("{:x}", clone.0);
    let snapshot = dir::read_dataset(mos, origin)?;
    let next_clones = match snapshot.next_clones.non_zero() {
        Some(zap) => zap,
        None => mos.create_zap(tx, DmuType::NEXT_CLONES, DmuType::NONE, 0)?,
    };
    mos.zap_add(tx, next_clones, &key, clone.0)?;
    dir::modify_dataset(mos, tx, origin, |ds| {
        ds.num_children += 1;
        ds.next_clones = next_clones;
    })?;
    let origin_dir = dir::read(mos, snapshot.dir)?;
    let clones = match origin_dir.clones.non_zero() {
        Some(zap) => zap,
        None => mos.create_zap(tx, DmuType::DSL_CLONES, DmuType::NONE, 0)?,
    };
    mos.zap_add(tx, clones, &key, clone.0)?;
    dir::modify(mos, tx, snapshot.dir, |dir| dir.clones = clones)?;
    let head = origin_dir.head_dataset.non_zero().ok_or(Error::Damaged)?;
    deadlist::keys_below(mos, dir::read_dataset(mos, head)?.deadlist, until)
}

/// Charges what a dataset's refreservation sets aside beyond what it uses; the property itself is stored by the caller
/// afterwards.
pub(crate) fn set_ref_reservation(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, bytes: u64) -> Result<()> {
    let (_, before) = super::dataset::ref_limits(mos, dir_id)?;
    let head = dir::read(mos, dir_id)?.head_dataset;
    let unique = dir::read_dataset(mos, head)?.unique_bytes;
    let used = bytes.max(unique).wrapping_sub(before.max(unique)).cast_signed();
    if used == 0 {
        return Ok(());
    }
    let kinds = Kinds { from: DdUsed::RefReserved, to: DdUsed::RefReserved, bytes: 0 };
    dir::charge(mos, tx, dir_id, Change { used, ..Change::default() }, kinds)
}
