//! Log space maps (feature `log_spacemap`): what was allocated and freed anywhere in the pool in one transaction group,
//! until each metaslab's part of it has been flushed into its own space map.
//!
//! Read only: a pool where the feature is active is opened read-only, so that the logs need no writing. Each metaslab
//! has the number of the first transaction group whose log still matters to it.
use super::range_tree::RangeTree;
use super::space_map::{Extent, for_each_run};
use super::store::MosStore;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::space_map::{MapType, SpaceMapPhys};
use ondisk::{ObjectId, Txg};

/// Unit of log entries, log2.
const LOG_SHIFT: u8 = 9;
/// Bytes of a log read at a time: a multiple of every block size.
const CHUNK: u64 = 16 << 20;
const LENGTH_MAX: u64 = 1 << 32;

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
}

/// Where a pool's logs are.
#[derive(Clone, Debug, Default)]
pub struct LogIndex {
    /// Transaction group and object of each log, from the pool directory's `com.delphix:log_spacemap_zap`.
    pub logs: BTreeMap<Txg, ObjectId>,
    /// For each vdev its object with the metaslabs' first unflushed transaction groups
    /// (`com.delphix:ms_unflushed_phys_txgs` of its ZAP), and its metaslab shift.
    pub vdevs: BTreeMap<u32, (ObjectId, u8)>,
}

impl UnflushedLogs {
    /// No logs.
    pub const fn none() -> Self {
        Self { changes: BTreeMap::new() }
    }

    /// Reads all logs.
    ///
    /// # Errors
    /// `Damaged` when an entry names no vdev of the index or leaves its metaslab, what reading gives.
    pub fn read(mos: &dyn MosStore, index: &LogIndex) -> Result<Self> {
        let mut all = Self::none();
        let mut first_txgs: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for (&txg, &object) in &index.logs {
            all.read_log(mos, index, txg, object, &mut first_txgs)?;
        }
        Ok(all)
    }

    fn read_log(
        &mut self,
        mos: &dyn MosStore,
        index: &LogIndex,
        txg: Txg,
        object: ObjectId,
        first_txgs: &mut BTreeMap<(u32, u64), u64>,
    ) -> Result<()> {
        let phys = SpaceMapPhys::parse(&mos.bonus(object)?).map_err(|_| Error::Damaged)?;
        if phys.length > LENGTH_MAX {
            return Err(Error::Damaged);
        }
        let whole = Extent { start: 0, size: 1 << 62, shift: LOG_SHIFT };
        let mut at = 0;
        while at < phys.length {
            let len = CHUNK.min(phys.length - at);
            let bytes = mos.read(object, at, len as usize)?;
            for_each_run(&bytes, |run| {
                let (start, len) = whole.bytes_of(&run)?;
                let &(array, shift) = index.vdevs.get(&run.vdev).ok_or(Error::Damaged)?;
                let place = (run.vdev, start >> shift);
                let first = match first_txgs.get(&place) {
                    Some(first) => *first,
                    None => *first_txgs.entry(place).or_insert(read_word(mos, array, place.1)?),
                };
                if txg.0 >= first {
                    self.changes.entry(place).or_default().push(Change { kind: run.kind, start, len });
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

    /// Bytes allocated and bytes freed on a vdev.
    pub(crate) fn sums(&self, vdev: u32) -> (u64, u64) {
        let changes = self.changes.range((vdev, 0)..=(vdev, u64::MAX)).flat_map(|(_, changes)| changes);
        changes.fold((0, 0), |(allocated, freed), change| match change.kind {
            MapType::Alloc => (allocated.wrapping_add(change.len), freed),
            MapType::Free => (allocated, freed.wrapping_add(change.len)),
        })
    }

    /// Applies a metaslab's changes to its set of free ranges.
    pub(crate) fn apply(&self, vdev: u32, id: u32, extent: &Extent, free: &mut RangeTree) -> Result<()> {
        let changes = self.changes.get(&(vdev, u64::from(id)));
        for change in changes.into_iter().flatten() {
            let is_inside =
                change.start >= extent.start && change.start + change.len <= extent.start + extent.size;
            if !is_inside {
                return Err(Error::Damaged);
            }
            match change.kind {
                MapType::Alloc => free.remove(change.start, change.len)?,
                MapType::Free => free.add(change.start, change.len)?,
            }
        }
        Ok(())
    }
}

fn read_word(mos: &dyn MosStore, array: ObjectId, index: u64) -> Result<u64> {
    let bytes = mos.read(array, index.checked_mul(8).ok_or(Error::Damaged)?, 8)?;
    bytes.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| Error::Damaged)
}
