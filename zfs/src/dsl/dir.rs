//! DSL directories: the nodes of the dataset tree, and the space that is charged to them.
//!
//! A directory's `used` is its head dataset, its snapshots, its children and what reservations set aside beyond use.
//! A change anywhere is carried up to the root in the same transaction group; a directory with a reservation hides
//! changes below it from its parent as long as it uses less than is reserved.
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::string::String;
use ondisk::dsl::{DdUsed, DslDatasetPhys, DslDirFlags, DslDirPhys};
use ondisk::feature::Feature;
use ondisk::{DmuType, ObjectId};
use zerocopy::IntoBytes;

/// Most directories from the root to a leaf; more is a loop.
pub(crate) const DEPTH_MAX: usize = 256;

/// A change of space, bytes, may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) used: i64,
    pub(crate) compressed: i64,
    pub(crate) uncompressed: i64,
}

pub(crate) fn read(mos: &Mos, id: ObjectId) -> Result<DslDirPhys> {
    mos.bonus_of(id, DmuType::DSL_DIR, |bytes| Ok(DslDirPhys::parse(bytes)?))
}

pub(crate) fn write(mos: &Mos, tx: &DmuTx, id: ObjectId, dir: &DslDirPhys) -> Result<()> {
    let raw = dir.to_raw();
    mos.modify_bonus(tx, id, |bonus| {
        let room = bonus.get_mut(..size_of_val(&raw)).ok_or(Error::Damaged)?;
        room.copy_from_slice(raw.as_bytes());
        Ok(())
    })
}

pub(crate) fn modify(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    change: impl FnOnce(&mut DslDirPhys),
) -> Result<()> {
    let mut dir = read(mos, id)?;
    change(&mut dir);
    write(mos, tx, id, &dir)
}

pub(crate) fn read_dataset(mos: &Mos, id: ObjectId) -> Result<DslDatasetPhys> {
    mos.bonus_of(id, DmuType::DSL_DATASET, |bytes| Ok(DslDatasetPhys::parse(bytes)?))
}

pub(crate) fn modify_dataset(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    change: impl FnOnce(&mut DslDatasetPhys),
) -> Result<()> {
    let mut dataset = read_dataset(mos, id)?;
    change(&mut dataset);
    let raw = dataset.to_raw();
    mos.modify_bonus(tx, id, |bonus| {
        let room = bonus.get_mut(..size_of_val(&raw)).ok_or(Error::Damaged)?;
        room.copy_from_slice(raw.as_bytes());
        Ok(())
    })
}

/// A new directory's object and its ZAPs; `parent` 0 makes the root. The caller enters it in its parent.
pub(crate) fn create(mos: &Mos, tx: &DmuTx, parent: ObjectId, time: u64) -> Result<ObjectId> {
    let bonus_len = size_of::<ondisk::dsl::RawDslDir>();
    let id = mos.create_object(tx, DmuType::DSL_DIR, DmuType::DSL_DIR, bonus_len)?;
    let dir = DslDirPhys {
        creation_time: time,
        parent,
        props_zap: mos.create_zap(tx, DmuType::DSL_PROPS, DmuType::NONE, 0)?,
        child_dir_zap: mos.create_zap(tx, DmuType::DSL_DIR_CHILD_MAP, DmuType::NONE, 0)?,
        flags: DslDirFlags::USED_BREAKDOWN,
        ..DslDirPhys::default()
    };
    write(mos, tx, id, &dir)?;
    Ok(id)
}

/// Makes a directory's object a ZAP as well, for what has no field of its own.
pub(crate) fn zapify(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    if mos.kind(id)? == DmuType::OTN_ZAP_METADATA {
        return Ok(());
    }
    mos.zapify(tx, id)?;
    features::increment(mos, tx, Feature::ExtensibleDataset).map(drop)
}

/// What a parent sees of a change below: nothing while use stays under the reservation.
pub(crate) fn seen_above(used: u64, reserved: u64, change: i64) -> i64 {
    let before = used.max(reserved);
    let after = used.saturating_add_signed(change).max(reserved);
    after.wrapping_sub(before).cast_signed()
}

fn add(value: &mut u64, change: i64) {
    // Wrong figures in a pool that came to us must not stop a free: they stay at zero instead of wrapping.
    *value = value.saturating_add_signed(change);
}

/// Which kinds of use a change touches: `bytes` go to `to`, and what they exceed the change itself came from `from`
/// (space that a reservation had set aside becomes use, without any change of the sum).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds {
    pub(crate) from: DdUsed,
    pub(crate) to: DdUsed,
    pub(crate) bytes: i64,
}

/// Charges a change to a directory and, as far as reservations let it be seen, to all above it.
pub(crate) fn charge(mos: &Mos, tx: &DmuTx, id: ObjectId, change: Change, kinds: Kinds) -> Result<()> {
    let (mut at, mut change, mut kinds) = (id, change, kinds);
    for _ in 0..DEPTH_MAX {
        let mut dir = read(mos, at)?;
        let above = seen_above(dir.used_bytes, dir.reserved, change.used);
        add(&mut dir.used_bytes, change.used);
        add(&mut dir.compressed_bytes, change.compressed);
        add(&mut dir.uncompressed_bytes, change.uncompressed);
        if dir.flags.contains(DslDirFlags::USED_BREAKDOWN) {
            add(&mut dir.used_breakdown[kinds.to as usize], kinds.bytes);
            add(&mut dir.used_breakdown[kinds.from as usize], change.used.wrapping_sub(kinds.bytes));
        }
        write(mos, tx, at, &dir)?;
        if dir.parent.is_none() {
            return Ok(());
        }
        kinds = Kinds { from: DdUsed::ChildReserved, to: DdUsed::Child, bytes: change.used };
        change.used = above;
        at = dir.parent;
    }
    Err(Error::Damaged)
}

/// Moves use from one kind to another within a directory.
pub(crate) fn transfer(
    mos: &Mos,
    tx: &DmuTx,
    id: ObjectId,
    bytes: i64,
    from: DdUsed,
    to: DdUsed,
) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    modify(mos, tx, id, |dir| {
        if dir.flags.contains(DslDirFlags::USED_BREAKDOWN) {
            add(&mut dir.used_breakdown[from as usize], bytes.wrapping_neg());
            add(&mut dir.used_breakdown[to as usize], bytes);
        }
    })
}

/// Bytes that may still be written below a directory, its own and its ancestors' quotas and reservations considered.
/// `pool_bytes`: what the pool gives file systems at all.
pub(crate) fn available(mos: &Mos, id: ObjectId, pool_bytes: u64) -> Result<u64> {
    available_with(mos, id, pool_bytes, true)
}

/// The same without regard to quotas: how far the pool goes.
pub(crate) fn available_in_pool(mos: &Mos, id: ObjectId, pool_bytes: u64) -> Result<u64> {
    available_with(mos, id, pool_bytes, false)
}

/// A directory and all above it, up to the root.
pub(crate) fn path(mos: &Mos, id: ObjectId) -> Result<alloc::vec::Vec<ObjectId>> {
    let (mut path, mut at) = (alloc::vec::Vec::new(), id);
    while !at.is_none() {
        if path.len() >= DEPTH_MAX {
            return Err(Error::Damaged);
        }
        path.push(at);
        at = read(mos, at)?.parent;
    }
    Ok(path)
}

/// Bytes that may move from below one directory to below another: what both have above them does not change.
pub(crate) fn available_for_move(mos: &Mos, from: ObjectId, to: ObjectId, usable: u64) -> Result<u64> {
    let common = path(mos, from)?;
    let mut room = usable;
    for id in path(mos, to)?.into_iter().take_while(|id| !common.contains(id)) {
        let dir = read(mos, id)?;
        if dir.quota != 0 {
            room = room.min(dir.quota.saturating_sub(dir.used_bytes));
        }
    }
    Ok(room)
}

fn available_with(mos: &Mos, id: ObjectId, pool_bytes: u64, with_quotas: bool) -> Result<u64> {
    let mut path = alloc::vec::Vec::new();
    let mut at = id;
    while !at.is_none() {
        if path.len() >= DEPTH_MAX {
            return Err(Error::Damaged);
        }
        let dir = read(mos, at)?;
        at = dir.parent;
        path.push(dir);
    }
    let mut space = u64::MAX;
    for dir in path.iter().rev() {
        let mut quota = if dir.quota == 0 || !with_quotas { u64::MAX } else { dir.quota };
        if dir.parent.is_none() {
            quota = quota.min(pool_bytes);
        }
        // What is reserved here and not used yet is not taken from what the parent has left.
        let set_aside = dir.reserved.saturating_sub(dir.used_bytes);
        space = space.saturating_add(set_aside).min(quota.saturating_sub(dir.used_bytes));
    }
    Ok(space)
}

/// The full name of a directory: `pool/a/b`.
pub(crate) fn name(mos: &Mos, id: ObjectId) -> Result<String> {
    let mut parts = alloc::vec::Vec::new();
    let mut at = id;
    loop {
        if parts.len() >= DEPTH_MAX {
            return Err(Error::Damaged);
        }
        let dir = read(mos, at)?;
        if dir.parent.is_none() {
            break;
        }
        let parent = read(mos, dir.parent)?;
        parts.push(mos.zap_name_of(parent.child_dir_zap, at.0)?.ok_or(Error::Damaged)?);
        at = dir.parent;
    }
    let mut name = mos.pool_name();
    for part in parts.iter().rev() {
        name.push('/');
        name.push_str(part);
    }
    Ok(name)
}

/// Sets a directory's reservation; its parents see it as use.
pub(crate) fn set_reservation(mos: &Mos, tx: &DmuTx, id: ObjectId, bytes: u64) -> Result<()> {
    let dir = read(mos, id)?;
    let before = dir.used_bytes.max(dir.reserved);
    let after = dir.used_bytes.max(bytes);
    modify(mos, tx, id, |dir| dir.reserved = bytes)?;
    let used = after.wrapping_sub(before).cast_signed();
    if used == 0 || dir.parent.is_none() {
        return Ok(());
    }
    let kinds = Kinds { from: DdUsed::ChildReserved, to: DdUsed::ChildReserved, bytes: 0 };
    charge(mos, tx, dir.parent, Change { used, ..Change::default() }, kinds)
}
