//! Users' holds on snapshots: a ZAP of tags, each with the time it was set. A held snapshot is not destroyed; one whose
//! destruction was put off goes with its last hold or clone.
//!
//! Holds of OpenZFS that are to live no longer than a program (`zfs send`, `zfs diff`) also stand in `tmp_userrefs` of the
//! pool, as `SNAPSHOT-TAG`: those that a crash left go at the next import. This build makes none.
use super::dir;
use super::snapshot;
use crate::dmu::DmuTx;
use crate::spa::environment::Environment;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::DslDatasetFlags;
use ondisk::pool_directory::TMP_USERREFS;
use ondisk::{DmuType, ObjectId};

/// Longest tag, as OpenZFS has it.
const TAG_MAX: usize = 255;

/// Checks that a snapshot can be held under a tag.
///
/// # Errors
/// `Exists`, `TooLarge` for the tag, `Invalid` for none.
pub(crate) fn check_hold(mos: &Mos, id: ObjectId, tag: &str) -> Result<()> {
    if tag.is_empty() {
        return Err(Error::Invalid);
    }
    if tag.len() > TAG_MAX {
        return Err(Error::TooLarge);
    }
    match dir::read_dataset(mos, id)?.userrefs.non_zero() {
        Some(zap) if mos.zap_has(zap, tag)? => Err(Error::Exists),
        _ => Ok(()),
    }
}

/// Holds a snapshot; the number of holds it has then.
pub(crate) fn hold(mos: &Mos, tx: &DmuTx, env: &Environment, id: ObjectId, tag: &str) -> Result<u64> {
    let zap = match dir::read_dataset(mos, id)?.userrefs.non_zero() {
        Some(zap) => zap,
        None => {
            let zap = mos.create_zap(tx, DmuType::USERREFS, DmuType::NONE, 0)?;
            dir::modify_dataset(mos, tx, id, |ds| ds.userrefs = zap)?;
            zap
        }
    };
    mos.zap_add(tx, zap, tag, env.time())?;
    mos.zap(zap)?.len()
}

/// The tags of a snapshot and when they were set, by tag.
pub(crate) fn all(mos: &Mos, id: ObjectId) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    if let Some(zap) = dir::read_dataset(mos, id)?.userrefs.non_zero() {
        mos.for_each_u64(zap, &mut |tag, time| {
            found.push((String::from(tag), time));
            Ok(())
        })?;
    }
    found.sort_unstable();
    Ok(found)
}

/// Checks that a hold can be released; true if the snapshot goes with it.
///
/// # Errors
/// `NotFound`: no such tag.
pub(crate) fn check_release(mos: &Mos, id: ObjectId, tag: &str) -> Result<bool> {
    let ds = dir::read_dataset(mos, id)?;
    let zap = ds.userrefs.non_zero().ok_or(Error::NotFound)?;
    if !mos.zap_has(zap, tag)? {
        return Err(Error::NotFound);
    }
    let is_last = snapshot::nr_holds(mos, &ds)? == 1 && ds.num_children == 1;
    Ok(is_last && ds.flags.contains(DslDatasetFlags::DEFER_DESTROY))
}

/// Releases a hold; the number of holds left.
pub(crate) fn release(mos: &Mos, tx: &DmuTx, id: ObjectId, tag: &str) -> Result<u64> {
    let zap = dir::read_dataset(mos, id)?.userrefs.non_zero().ok_or(Error::NotFound)?;
    mos.zap_remove(tx, zap, tag)?;
    forget_temporary(mos, tx, id, tag)?;
    mos.zap(zap)?.len()
}

/// The temporary holds of the pool: snapshots and tags.
pub(crate) fn temporary(mos: &Mos) -> Result<Vec<(ObjectId, String)>> {
    let mut found = Vec::new();
    if let Some(zap) = mos.directory_entry(TMP_USERREFS)?.and_then(ObjectId::non_zero) {
        mos.for_each_u64(zap, &mut |name, _| {
            let (id, tag) = name.split_once('-').ok_or(Error::Damaged)?;
            let id = u64::from_str_radix(id, 16).map_err(|_| Error::Damaged)?;
            found.push((ObjectId(id), String::from(tag)));
            Ok(())
        })?;
    }
    Ok(found)
}

/// A hold is no temporary one (any more).
pub(crate) fn forget_temporary(mos: &Mos, tx: &DmuTx, id: ObjectId, tag: &str) -> Result<()> {
    let Some(zap) = mos.directory_entry(TMP_USERREFS)?.and_then(ObjectId::non_zero) else {
        return Ok(());
    };
    match mos.zap_remove(tx, zap, &format!("{:x}-{tag}", id.0)) {
        Err(Error::NotFound) => Ok(()),
        other => other,
    }
}
