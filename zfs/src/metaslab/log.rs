//! Reading log space maps (feature `log_spacemap`): what was allocated and freed anywhere in the pool in one transaction
//! group, until each metaslab's part of it has been flushed into its own space map.
//!
//! Each metaslab has the number of the first transaction group whose log still matters to it.
use super::log_write::LOG_EXTENT;
use super::range_tree::RangeTree;
use super::space_map::{Extent, for_each_run};
use super::store::MosStore;
use super::unflushed::Unflushed;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::space_map::{MapType, SpaceMapPhys};
use ondisk::{ObjectId, Txg};

/// Bytes of a log read at a time: a multiple of every block size.
const CHUNK: u64 = 16 << 20;
const LENGTH_MAX: u64 = 1 << 32;
/// Most metaslabs of a vdev that are believed.
const METASLABS_MAX: u64 = 1 << 24;

#[derive(Clone, Copy, Debug)]
struct Change {
    kind: MapType,
    start: u64,
    len: u64,
}

/// What the logs say that the metaslabs' own maps do not yet.
#[derive(Debug, Default)]
pub struct UnflushedLogs {
    /// By vdev and metaslab, in the order of the logs.
    changes: BTreeMap<(u32, u64), Vec<Change>>,
    /// From which group on logs matter, for each metaslab of a vdev.
    since: BTreeMap<u32, Vec<u64>>,
}

/// Where a vdev keeps from which group on logs matter to each of its metaslabs.
#[derive(Clone, Copy, Debug)]
pub struct VdevLogs {
    /// The object (`com.delphix:ms_unflushed_phys_txgs` of the vdev's ZAP), 0 when there is none.
    pub array: ObjectId,
    /// log2 of the size of a metaslab.
    pub metaslab_shift: u8,
    /// Metaslabs.
    pub nr_metaslabs: u64,
}

/// Where a pool's logs are.
#[derive(Clone, Debug, Default)]
pub struct LogIndex {
    /// Transaction group and object of each log, from the pool directory's `com.delphix:log_spacemap_zap`.
    pub logs: BTreeMap<Txg, ObjectId>,
    /// The vdevs that have space.
    pub vdevs: BTreeMap<u32, VdevLogs>,
}

impl UnflushedLogs {
    /// No logs.
    pub const fn none() -> Self {
        Self { changes: BTreeMap::new(), since: BTreeMap::new() }
    }

    /// Reads all logs.
    ///
    /// # Errors
    /// `Damaged` when an entry leaves its vdev, what reading gives.
    pub fn read(mos: &dyn MosStore, index: &LogIndex) -> Result<Self> {
        let mut all = Self::none();
        for (&id, vdev) in &index.vdevs {
            all.since.insert(id, read_since(mos, vdev)?);
        }
        for (&txg, &object) in &index.logs {
            all.read_log(mos, index, txg, object)?;
        }
        Ok(all)
    }

    fn read_log(&mut self, mos: &dyn MosStore, index: &LogIndex, txg: Txg, object: ObjectId) -> Result<()> {
        let phys = SpaceMapPhys::parse(&mos.bonus(object)?).map_err(|_| Error::Damaged)?;
        if phys.length > LENGTH_MAX {
            return Err(Error::Damaged);
        }
        let mut at = 0;
        while at < phys.length {
            let len = CHUNK.min(phys.length - at);
            let bytes = mos.read(object, at, len as usize)?;
            for_each_run(&bytes, |run| {
                let (start, len) = LOG_EXTENT.bytes_of(&run)?;
                // What lay on a vdev that has been removed since is nobody's concern.
                let Some(vdev) = index.vdevs.get(&run.vdev) else { return Ok(()) };
                let id = start >> vdev.metaslab_shift;
                let since = self.since.get(&run.vdev).and_then(|all| all.get(id as usize));
                if txg.0 >= *since.ok_or(Error::Damaged)? {
                    let change = Change { kind: run.kind, start, len };
                    self.changes.entry((run.vdev, id)).or_default().push(change);
                }
                Ok(())
            })?;
            at += len;
        }
        Ok(())
    }

    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Applies a metaslab's changes to its set of free ranges, and tells them apart.
    ///
    /// # Errors
    /// `Damaged` when a change leaves the metaslab, allocates what is not free or frees what is.
    pub(crate) fn apply(
        &self,
        vdev: u32,
        id: u32,
        extent: &Extent,
        free: &mut RangeTree,
    ) -> Result<Unflushed> {
        let unflushed = self.unflushed(vdev, id)?;
        for (start, len) in unflushed.allocs.iter().chain(unflushed.frees.iter()) {
            if start < extent.start || start + len > extent.start + extent.size {
                return Err(Error::Damaged);
            }
        }
        for (start, len) in unflushed.allocs.iter() {
            free.remove(start, len)?;
        }
        for (start, len) in unflushed.frees.iter() {
            free.add(start, len)?;
        }
        Ok(unflushed)
    }

    /// What the logs change in a metaslab, all in all.
    ///
    /// # Errors
    /// `Damaged` when they contradict themselves.
    pub(crate) fn unflushed(&self, vdev: u32, id: u32) -> Result<Unflushed> {
        let since = self.since.get(&vdev).and_then(|all| all.get(id as usize)).copied().unwrap_or(0);
        let mut unflushed = Unflushed { since: Txg(since), ..Unflushed::default() };
        for change in self.changes.get(&(vdev, u64::from(id))).into_iter().flatten() {
            unflushed.note(change.kind, change.start, change.len)?;
        }
        Ok(unflushed)
    }
}

fn read_since(mos: &dyn MosStore, vdev: &VdevLogs) -> Result<Vec<u64>> {
    let nr = vdev.nr_metaslabs.min(METASLABS_MAX) as usize;
    if vdev.array.is_none() {
        return Ok(alloc::vec![0; nr]);
    }
    let bytes = mos.read(vdev.array, 0, nr * 8)?;
    if bytes.len() != nr * 8 {
        return Err(Error::Damaged);
    }
    Ok(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect())
}
