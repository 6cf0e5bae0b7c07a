//! Limits on the number of file systems and snapshots below a directory (`filesystem_limit`, `snapshot_limit`), and the
//! counts that they are held against.
//!
//! The counts are entries of a directory's object (`com.joyent:filesystem_count`, `com.joyent:snapshot_count`). A directory
//! has them from the first limit set on it or above it on; one without ends the way up, since nothing above it has a
//! limit either. What is being received (`%recv`) and the pool's own directories (`$FREE`) count nowhere.
use super::property::Property;
use super::{dir, names, props};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::keys;
use ondisk::feature::Feature;
use ondisk::{DmuType, ObjectId};

/// The value of a limit that is none, as OpenZFS stores it.
pub(crate) const NONE: u64 = u64::MAX;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Filesystems,
    Snapshots,
}

impl Counted {
    const fn key(self) -> &'static str {
        match self {
            Self::Filesystems => keys::FILESYSTEM_COUNT,
            Self::Snapshots => keys::SNAPSHOT_COUNT,
        }
    }

    const fn limit(self) -> Property {
        match self {
            Self::Filesystems => Property::FilesystemLimit,
            Self::Snapshots => Property::SnapshotLimit,
        }
    }
}

/// A directory's child by that name counts.
pub(crate) fn is_counted(name: &str) -> bool {
    !name.starts_with(['%', '$'])
}

/// A directory's count; `None` when it has none.
pub(crate) fn count(mos: &Mos, dir_id: ObjectId, what: Counted) -> Result<Option<u64>> {
    match mos.kind(dir_id)? {
        DmuType::OTN_ZAP_METADATA => mos.zap_lookup(dir_id, what.key()),
        _ => Ok(None),
    }
}

/// A limit is about to be stored: from now on the counts are kept.
///
/// # Errors
/// `Unsupported` in a pool without the feature; reading's and writing's.
pub(crate) fn activate(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    if !features::is_active(mos, Feature::FilesystemLimits)? {
        features::increment(mos, tx, Feature::FilesystemLimits)?;
    }
    init(mos, tx, dir_id)
}

/// Whether a limit can be set at all.
///
/// # Errors
/// `Unsupported` in a pool without the feature.
pub(crate) fn check_enabled(mos: &Mos) -> Result<()> {
    if features::is_enabled(mos, Feature::FilesystemLimits)? { Ok(()) } else { Err(Error::Unsupported) }
}

/// Counts what is at and below a directory, as far as that was not done yet.
fn init(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let mut below = Vec::new();
    names::walk(mos, dir_id, "", false, &mut |entry| {
        if !entry.is_snapshot {
            below.push(entry.dir);
        }
        Ok(())
    })?;
    // Parents come before their children: backwards, a directory's children are counted when it is.
    for id in below.into_iter().rev() {
        if count(mos, id, Counted::Filesystems)?.is_none() {
            init_one(mos, tx, id)?;
        }
    }
    Ok(())
}

fn init_one(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    let own = dir::read(mos, id)?;
    let (mut nr_filesystems, mut nr_snapshots) = (0u64, 0u64);
    let mut children = Vec::new();
    mos.for_each_u64(own.child_dir_zap, &mut |name, child| {
        children.extend(is_counted(name).then_some(ObjectId(child)));
        Ok(())
    })?;
    for child in children {
        let of = |what| count(mos, child, what).map(Option::unwrap_or_default);
        nr_filesystems = nr_filesystems.saturating_add(1).saturating_add(of(Counted::Filesystems)?);
        nr_snapshots = nr_snapshots.saturating_add(of(Counted::Snapshots)?);
    }
    if !own.head_dataset.is_none() {
        mos.for_each_name(dir::read_dataset(mos, own.head_dataset)?.snapnames_zap, &mut |name| {
            nr_snapshots += u64::from(is_counted(name));
            Ok(())
        })?;
    }
    store(mos, tx, id, nr_filesystems, nr_snapshots)
}

fn store(mos: &Mos, tx: &DmuTx, id: ObjectId, nr_filesystems: u64, nr_snapshots: u64) -> Result<()> {
    dir::zapify(mos, tx, id)?;
    mos.zap_update(tx, id, Counted::Filesystems.key(), nr_filesystems)?;
    mos.zap_update(tx, id, Counted::Snapshots.key(), nr_snapshots)
}

/// A new directory was entered in its parent under that name.
pub(crate) fn dir_added(mos: &Mos, tx: &DmuTx, parent: ObjectId, id: ObjectId, name: &str) -> Result<()> {
    if features::is_active(mos, Feature::FilesystemLimits)? {
        store(mos, tx, id, 0, 0)?;
    }
    if is_counted(name) { adjust(mos, tx, parent, 1, Counted::Filesystems) } else { Ok(()) }
}

/// A directory of that name is gone from its parent.
pub(crate) fn dir_removed(mos: &Mos, tx: &DmuTx, parent: ObjectId, name: &str) -> Result<()> {
    if is_counted(name) { adjust(mos, tx, parent, -1, Counted::Filesystems) } else { Ok(()) }
}

/// A directory moves below another parent: what it has below it and it itself count there.
pub(crate) fn dir_moved(mos: &Mos, tx: &DmuTx, id: ObjectId, from: ObjectId, to: ObjectId) -> Result<()> {
    if !features::is_active(mos, Feature::FilesystemLimits)? {
        return Ok(());
    }
    init(mos, tx, id)?;
    for what in [Counted::Filesystems, Counted::Snapshots] {
        let own = u64::from(what == Counted::Filesystems);
        let nr = count(mos, id, what)?.unwrap_or_default().saturating_add(own).cast_signed();
        adjust(mos, tx, from, -nr, what)?;
        adjust(mos, tx, to, nr, what)?;
    }
    Ok(())
}

/// Changes the counts of a directory and of all above it that have one.
pub(crate) fn adjust(mos: &Mos, tx: &DmuTx, id: ObjectId, change: i64, what: Counted) -> Result<()> {
    let mut at = id;
    for _ in 0..dir::DEPTH_MAX {
        let Some(before) = (if at.is_none() || change == 0 { None } else { count(mos, at, what)? }) else {
            return Ok(());
        };
        mos.zap_update(tx, at, what.key(), before.saturating_add_signed(change))?;
        at = dir::read(mos, at)?.parent;
    }
    Err(Error::Damaged)
}

/// What a command adds, by directory: itself and all above it are asked.
#[derive(Debug, Default)]
pub(crate) struct Additions(BTreeMap<(ObjectId, bool), u64>);

impl Additions {
    /// Adds to a directory and all above it, up to (not including) `until`.
    pub(crate) fn add(
        &mut self,
        mos: &Mos,
        id: ObjectId,
        nr: u64,
        what: Counted,
        until: &[ObjectId],
    ) -> Result<()> {
        let mut at = id;
        for _ in 0..dir::DEPTH_MAX {
            if at.is_none() || until.contains(&at) {
                return Ok(());
            }
            let sum = self.0.entry((at, what == Counted::Snapshots)).or_default();
            *sum = sum.saturating_add(nr);
            at = dir::read(mos, at)?.parent;
        }
        Err(Error::Damaged)
    }

    /// Whether all limits allow it.
    ///
    /// # Errors
    /// `Quota`, with the limit in the log.
    pub(crate) fn check(&self, mos: &Mos) -> Result<()> {
        if !features::is_active(mos, Feature::FilesystemLimits)? {
            return Ok(());
        }
        for ((id, is_snapshots), nr) in &self.0 {
            let what = if *is_snapshots { Counted::Snapshots } else { Counted::Filesystems };
            let Some(before) = count(mos, *id, what)? else {
                continue;
            };
            let limit = props::get(mos, *id, &what.limit())?.0.number().unwrap_or(NONE);
            if *nr > 0 && before.saturating_add(*nr) > limit {
                let name: String = dir::name(mos, *id)?;
                log::error!("zfs: {name} has a {} of {limit}", what.limit().name());
                return Err(Error::Quota);
            }
        }
        Ok(())
    }
}

/// Whether the limits allow one more file system below a directory.
///
/// # Errors
/// `Quota`.
pub(crate) fn check_new_dir(mos: &Mos, parent: ObjectId) -> Result<()> {
    let mut more = Additions::default();
    more.add(mos, parent, 1, Counted::Filesystems, &[])?;
    more.check(mos)
}

/// Whether the limits allow a directory to move below another parent.
///
/// # Errors
/// `Quota`.
pub(crate) fn check_move(mos: &Mos, id: ObjectId, to: ObjectId) -> Result<()> {
    let above = dir::path(mos, dir::read(mos, id)?.parent)?;
    let mut more = Additions::default();
    for what in [Counted::Filesystems, Counted::Snapshots] {
        let own = u64::from(what == Counted::Filesystems);
        let nr = count(mos, id, what)?.unwrap_or_default().saturating_add(own);
        more.add(mos, to, nr, what, &above)?;
    }
    more.check(mos)
}

/// Whether the limits allow that many snapshots to move from one directory to another.
///
/// # Errors
/// `Quota`.
pub(crate) fn check_snapshots_move(mos: &Mos, from: ObjectId, to: ObjectId, nr: u64) -> Result<()> {
    let mut more = Additions::default();
    more.add(mos, to, nr, Counted::Snapshots, &dir::path(mos, from)?)?;
    more.check(mos)
}
