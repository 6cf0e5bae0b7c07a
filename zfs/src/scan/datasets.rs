//! Which object set comes next, and what snapshots, destroys and swaps do to a scan under way.
//!
//! Source: `dsl_scan_visitds`, `dsl_scan_ds_destroyed`, `dsl_scan_ds_snapshotted`, `dsl_scan_ds_clone_swapped`
//! (dsl_scan.c). Blocks of a dataset that are older than the snapshot before it belong to that one; the queue says for
//! each dataset after which group its blocks count, since the snapshot before it may be gone by then.
use super::{State, sync};
use crate::dmu::DmuTx;
use crate::dsl::{dir, names};
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetPhys, ORIGIN_DIR_NAME};
use ondisk::scan::{OBJSET_DONE, ScanFlags, ScanState};
use ondisk::{Bookmark, ObjectId, Txg};

/// A dataset to walk, as of the root on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) id: u64,
    pub(super) phys: DslDatasetPhys,
    pub(super) is_snapshot: bool,
}

/// The object sets that come after the MOS: the origin of all, or, in pools without, all there are.
pub(super) fn first(mos: &Mos, root_dir: ObjectId) -> Result<Vec<u64>> {
    let children = dir::read(mos, root_dir)?.child_dir_zap;
    if let Some(origin_dir) = mos.zap_lookup(children, ORIGIN_DIR_NAME)? {
        let head = dir::read(mos, ObjectId(origin_dir))?.head_dataset;
        let origin = dir::read_dataset(mos, head)?.prev_snap;
        if !origin.is_none() {
            return Ok(alloc::vec![origin.0]);
        }
    }
    let mut all = Vec::new();
    names::walk(mos, root_dir, &mos.pool_name(), true, &mut |entry| {
        all.extend(entry.dataset.non_zero().map(|id| id.0));
        Ok(())
    })?;
    Ok(all)
}

/// Looks a dataset up; `None` when the object is no dataset any more.
pub(super) fn target(mos: &Mos, id: u64) -> Result<Option<Target>> {
    match dir::read_dataset(mos, ObjectId(id)) {
        Ok(phys) => Ok(Some(Target { id, phys, is_snapshot: phys.num_children > 0 })),
        Err(Error::NotFound | Error::Damaged) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What comes after a dataset has been walked: (object, group after which its blocks count).
pub(super) fn successors(mos: &Mos, root_dir: ObjectId, target: &Target) -> Result<Vec<(u64, u64)>> {
    let mut all = Vec::new();
    let born = target.phys.creation_txg.0;
    all.extend(target.phys.next_snap.non_zero().map(|id| (id.0, born)));
    if target.phys.num_children > 1 {
        let clones = clones(mos, root_dir, target)?;
        all.extend(clones.into_iter().map(|id| (id, born)));
    }
    Ok(all)
}

/// The first dataset of each clone of a snapshot.
fn clones(mos: &Mos, root_dir: ObjectId, target: &Target) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    if let Some(zap) = target.phys.next_clones.non_zero() {
        mos.for_each_u64(zap, &mut |_, id| {
            all.push(id);
            Ok(())
        })?;
        // Old versions left entries out: then the count is wrong, and the directories must be asked.
        if all.len() as u64 + 1 == target.phys.num_children {
            return Ok(all);
        }
        all.clear();
    }
    names::walk(mos, root_dir, &mos.pool_name(), true, &mut |entry| {
        if entry.is_snapshot || dir::read(mos, entry.dir)?.origin.0 != target.id {
            return Ok(());
        }
        let mut at = entry.dataset;
        while let Some(id) = at.non_zero() {
            let prev = dir::read_dataset(mos, id)?.prev_snap;
            if prev.0 == target.id || prev.is_none() {
                all.push(id.0);
                break;
            }
            at = prev;
        }
        Ok(())
    })?;
    Ok(all)
}

impl State {
    /// Makes the next queued object set the one under the bookmark; false when none is left.
    pub(super) fn next_dataset(&mut self) -> Option<(u64, u64)> {
        let (id, after) = self.queue.pop_first()?;
        self.phys.bookmark = Bookmark { objset: id, ..Bookmark::default() };
        Some((id, after))
    }

    /// Which blocks count of the dataset that has just been taken from the queue.
    pub(super) fn set_range(&mut self, target: &Target, after: u64) {
        let after = if after == 0 { target.phys.prev_snap_txg } else { Txg(after) };
        self.phys.cur_min_txg = self.phys.min_txg.max(after);
        let max = self.phys.max_txg;
        self.phys.cur_max_txg = if target.is_snapshot { max.min(target.phys.creation_txg) } else { max };
    }

    /// Enters a dataset into the queue; of two entries the one that counts more blocks stays.
    pub(super) fn enqueue(&mut self, id: u64, after: u64) {
        let entry = self.queue.entry(id).or_insert(after);
        *entry = (*entry).min(after);
    }

    fn is_scanning(&self) -> bool {
        self.phys.state == ScanState::Scanning
    }
}

/// A dataset is about to be destroyed, in the sync thread: its object still exists. What a scan has still to walk of a
/// snapshot is walked in the one after it.
///
/// # Errors
/// What writing the scan's state gives.
pub(crate) fn destroyed(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    if !mos.scan().state.lock().is_scanning() {
        return Ok(());
    }
    let phys = dir::read_dataset(mos, id)?;
    let next = (phys.num_children > 0).then_some(phys.next_snap.0);
    {
        let mut state = mos.scan().state.lock();
        let is_under_bookmark = state.phys.bookmark.objset == id.0;
        let queued = state.queue.remove(&id.0);
        if !is_under_bookmark && queued.is_none() {
            return Ok(());
        }
        state.generation += 1;
        if is_under_bookmark {
            match next {
                // Its remaining blocks are the next one's now, and that one's own are newer than this walk looks.
                Some(next) => {
                    state.phys.bookmark.objset = next;
                    state.phys.flags |= ScanFlags::VISIT_DS_AGAIN;
                }
                None => state.phys.bookmark = Bookmark { objset: OBJSET_DONE, ..Bookmark::default() },
            }
        }
        if let (Some(after), Some(next)) = (queued, next) {
            state.enqueue(next, after);
        }
    }
    sync::store(mos, tx)
}

/// A snapshot of a head was taken, in the sync thread: what was to be walked of the head is the snapshot's now.
///
/// # Errors
/// What writing the scan's state gives.
pub(crate) fn snapshotted(mos: &Mos, tx: &DmuTx, head: ObjectId, snapshot: ObjectId) -> Result<()> {
    renumber(mos, tx, |id| if id == head.0 { snapshot.0 } else { id })
}

/// Two heads have exchanged their contents, in the sync thread: what was to be walked of one is the other's now.
///
/// # Errors
/// What writing the scan's state gives.
pub(crate) fn swapped(mos: &Mos, tx: &DmuTx, a: ObjectId, b: ObjectId) -> Result<()> {
    renumber(mos, tx, |id| match id {
        id if id == a.0 => b.0,
        id if id == b.0 => a.0,
        other => other,
    })
}

fn renumber(mos: &Mos, tx: &DmuTx, new: impl Fn(u64) -> u64) -> Result<()> {
    {
        let mut state = mos.scan().state.lock();
        if !state.is_scanning() {
            return Ok(());
        }
        let objset = new(state.phys.bookmark.objset);
        let queue = state.queue.iter().map(|(id, after)| (new(*id), *after)).collect();
        if objset == state.phys.bookmark.objset && queue == state.queue {
            return Ok(());
        }
        state.phys.bookmark.objset = objset;
        state.queue = queue;
        state.generation += 1;
    }
    sync::store(mos, tx)
}
