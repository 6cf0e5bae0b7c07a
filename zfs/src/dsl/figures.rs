//! What can be asked about a dataset, snapshot or bookmark besides its properties: space figures and facts, as `zfs get`
//! shows them.
//!
//! Most figures are kept and only read; `written` is computed from dead lists: what a dataset refers to now and did not
//! at a snapshot is what both differ by, plus all that died in between of what the snapshot knew.
use super::dataset::{DatasetSpace, space_of};
use super::deadlist::{self, Deadlist};
use super::limits::{self, Counted};
use super::names::Found;
use super::{bookmark, dir, snapshot};
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetFlags, DslDatasetPhys, keys};
use ondisk::{DmuType, ObjectId, Txg};

/// Longest chain of snapshots; more is a loop.
const CHAIN_MAX: usize = 1 << 20;

/// Figures and facts of a dataset or snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Space, bytes.
    pub space: DatasetSpace,
    /// Bytes written since the last snapshot (for a snapshot: since the one before).
    pub written: u64,
    /// Bytes only it refers to.
    pub unique: u64,
    /// Compression of what it refers to, hundredths.
    pub ref_compress_ratio: u64,
    /// Compression of what is used (for a snapshot: referred to), hundredths.
    pub compress_ratio: u64,
    /// When it was made, seconds since 1970.
    pub creation: u64,
    /// In which transaction group.
    pub create_txg: u64,
    /// Its guid.
    pub guid: u64,
    /// Its object in the MOS.
    pub objset_id: u64,
    /// Holds on a snapshot.
    pub user_refs: u64,
    /// A snapshot that goes with its last hold or clone.
    pub is_defer_destroy: bool,
    /// File systems below, where a limit makes the pool count them.
    pub filesystem_count: Option<u64>,
    /// Snapshots of it and below.
    pub snapshot_count: Option<u64>,
    /// Half received or half destroyed.
    pub is_inconsistent: bool,
    /// Heads cloned from a snapshot: their directories.
    pub(crate) clones: Vec<ObjectId>,
    /// When a dataset's snapshots last changed, seconds since 1970.
    pub snapshots_changed: Option<u64>,
}

/// Hundredths by which something shrank.
fn ratio(uncompressed: u64, compressed: u64) -> u64 {
    if compressed == 0 { 100 } else { (u128::from(uncompressed) * 100 / u128::from(compressed)) as u64 }
}

/// The figures of what a name was found to mean.
pub(crate) fn of(mos: &Mos, found: &Found, usable: u64) -> Result<Figures> {
    let ds = dir::read_dataset(mos, found.dataset)?;
    let own = dir::read(mos, ds.dir)?;
    let ref_compress_ratio = ratio(ds.uncompressed_bytes, ds.compressed_bytes);
    let mut figures = Figures {
        space: space_of(mos, found.dataset, found.is_snapshot, usable)?,
        written: written_since_prev(mos, &ds)?,
        unique: ds.unique_bytes,
        ref_compress_ratio,
        compress_ratio: match found.is_snapshot {
            true => ref_compress_ratio,
            false => ratio(own.uncompressed_bytes, own.compressed_bytes),
        },
        creation: ds.creation_time,
        create_txg: ds.creation_txg.0,
        guid: ds.guid,
        objset_id: found.dataset.0,
        is_inconsistent: ds.flags.contains(DslDatasetFlags::INCONSISTENT),
        ..Figures::default()
    };
    if found.is_snapshot {
        figures.user_refs = snapshot::nr_holds(mos, &ds)?;
        figures.is_defer_destroy = ds.flags.contains(DslDatasetFlags::DEFER_DESTROY);
        figures.clones = clones_of(mos, &ds)?;
    } else {
        figures.snapshots_changed = snapshots_changed(mos, ds.dir)?;
        figures.filesystem_count = limits::count(mos, ds.dir, Counted::Filesystems)?;
        figures.snapshot_count = limits::count(mos, ds.dir, Counted::Snapshots)?;
    }
    Ok(figures)
}

/// The directories of the clones of a snapshot.
fn clones_of(mos: &Mos, ds: &DslDatasetPhys) -> Result<Vec<ObjectId>> {
    let Some(set) = ds.next_clones.non_zero() else {
        return Ok(Vec::new());
    };
    // In the order of the set, as OpenZFS lists them.
    let mut clones = Vec::new();
    mos.for_each_u64(set, &mut |_, id| {
        clones.push(ObjectId(id));
        Ok(())
    })?;
    clones.into_iter().map(|id| dir::read_dataset(mos, id).map(|clone| clone.dir)).collect()
}

fn snapshots_changed(mos: &Mos, dir_id: ObjectId) -> Result<Option<u64>> {
    if mos.kind(dir_id)? != DmuType::OTN_ZAP_METADATA {
        return Ok(None);
    }
    mos.zap_lookup(dir_id, keys::SNAPSHOTS_CHANGED)
}

fn written_since_prev(mos: &Mos, ds: &DslDatasetPhys) -> Result<u64> {
    let Some(prev) = ds.prev_snap.non_zero() else {
        return Ok(ds.referenced_bytes);
    };
    let prev = dir::read_dataset(mos, prev)?;
    let dead = deadlist::sums(mos, ds.deadlist)?.used;
    Ok(ds.referenced_bytes.wrapping_sub(prev.referenced_bytes).wrapping_add(dead))
}

/// Bytes written to a dataset or snapshot since another snapshot it descends from.
///
/// # Errors
/// `Invalid` when it does not.
pub(crate) fn written_since(mos: &Mos, id: ObjectId, since: ObjectId) -> Result<u64> {
    let (new, old) = (dir::read_dataset(mos, id)?, dir::read_dataset(mos, since)?);
    let mut written = new.referenced_bytes.wrapping_sub(old.referenced_bytes);
    let (mut at, mut ds) = (id, new);
    for _ in 0..CHAIN_MAX {
        if at == since {
            return Ok(written);
        }
        let dead = if ds.prev_snap_txg == old.creation_txg {
            deadlist::sums(mos, ds.deadlist)?
        } else {
            Deadlist::load(mos, ds.deadlist)?.sum_range(mos, Txg::ZERO, old.creation_txg)?
        };
        written = written.wrapping_add(dead.used);
        at = ds.prev_snap.non_zero().ok_or(Error::Invalid)?;
        ds = dir::read_dataset(mos, at)?;
    }
    Err(Error::Damaged)
}

/// Bytes written to a head since a bookmark of its own.
///
/// # Errors
/// `NotFound`, `Unsupported` for a bookmark that does not know.
pub(crate) fn written_since_mark(mos: &Mos, found: &Found, mark: &str) -> Result<u64> {
    let head = dir::read(mos, found.dir)?.head_dataset;
    let marks = bookmark::all(mos, head)?;
    let mark = marks.iter().find(|m| m.name == mark).ok_or(Error::NotFound)?;
    if !mark.has_fbn() {
        return Err(Error::Unsupported);
    }
    let new = dir::read_dataset(mos, found.dataset)?;
    if new.next_snap != ObjectId(0) && new.creation_txg < mark.txg() {
        return Err(Error::Invalid);
    }
    let mut written = new.referenced_bytes.wrapping_sub(mark.referenced()).wrapping_add(mark.freed());
    // What died later than the first snapshot after the bookmark stands on the dead lists after that.
    let mut at = new;
    for _ in 0..CHAIN_MAX {
        let Some(prev) = at.prev_snap.non_zero().filter(|_| at.prev_snap_txg > mark.txg()) else {
            return Ok(written);
        };
        let dead = Deadlist::load(mos, at.deadlist)?.sum_range(mos, Txg::ZERO, mark.txg())?;
        written = written.wrapping_add(dead.used);
        at = dir::read_dataset(mos, prev)?;
    }
    Err(Error::Damaged)
}

/// What destroying snapshots of one dataset together would free: from `first` to `last`, both included.
///
/// # Errors
/// `Invalid` when they are not of one line.
pub(crate) fn reclaimed(mos: &Mos, first: ObjectId, last: ObjectId) -> Result<u64> {
    let (first_ds, last_ds) = (dir::read_dataset(mos, first)?, dir::read_dataset(mos, last)?);
    if first_ds.dir != last_ds.dir || first_ds.creation_txg > last_ds.creation_txg {
        return Err(Error::Invalid);
    }
    let (mut at, mut freed) = (first, 0u64);
    for _ in 0..CHAIN_MAX {
        let next = dir::read_dataset(mos, at)?.next_snap.non_zero().ok_or(Error::Invalid)?;
        let list = dir::read_dataset(mos, next)?.deadlist;
        let dead = Deadlist::load(mos, list)?.sum_range(mos, first_ds.prev_snap_txg, Txg(u64::MAX))?;
        freed = freed.saturating_add(dead.used);
        if at == last {
            return Ok(freed);
        }
        at = next;
    }
    Err(Error::Damaged)
}
