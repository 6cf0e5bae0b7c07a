//! Reading space maps.
//!
//! A pool that is written has all its metaslabs loaded: memory is proportional to fragmentation, and no allocation ever
//! has to read an object from inside the syncing of another. A pool that is only read loads the headers, for the
//! figures.
use super::allocator::{Allocator, load_empty};
use super::group::Group;
use super::log::{LogIndex, UnflushedLogs};
use super::log_write::Log;
use super::metaslab::MapObject;
use super::range_tree::RangeTree;
use super::space_map::replay;
use super::store::MosStore;
use super::unflushed::Unflushed;
use crate::{Error, Result};
use core::sync::atomic::Ordering;
use ondisk::ObjectId;
use ondisk::space_map::{SPACE_MAP_SIZE_V1, SpaceMapPhys};

/// Bytes of a space map read at a time.
const CHUNK: u64 = 1 << 20;
/// Longest space map believed: far above what condensing leaves.
const LENGTH_MAX: u64 = 1 << 32;

impl Allocator {
    /// A pool without space maps: everything is free.
    ///
    /// # Errors
    /// `Damaged` never; the signature is that of loading.
    pub(crate) fn init(&self) -> Result<()> {
        self.groups().iter().try_for_each(|group| load_empty(group))
    }

    /// Reads the headers of all space maps, and the maps themselves when the pool is going to be written. Before
    /// anything is allocated or freed.
    ///
    /// # Errors
    /// `Damaged` when a map contradicts itself or its header; what reading gives.
    pub(crate) fn load(&self, mos: &dyn MosStore, index: &LogIndex, is_read_only: bool) -> Result<()> {
        let logs = UnflushedLogs::read(mos, index)?;
        for group in self.groups().iter() {
            let mut allocated = 0u64;
            let vdev = group.info.id;
            let array = index.vdevs.get(&vdev).map_or(0, |v| v.array.0);
            group.unflushed_array.store(array, Ordering::Relaxed);
            for id in 0..group.metaslabs.len() as u32 {
                let map = read_header(mos, group, id)?;
                let bytes = u64::try_from(map.phys.alloc).map_err(|_| Error::Damaged)?;
                if bytes > group.metaslabs[id as usize].extent.size {
                    return Err(Error::Damaged);
                }
                group.metaslabs[id as usize].state.lock().map = map;
                let unflushed = if is_read_only {
                    logs.unflushed(vdev, id)?
                } else {
                    load_one(mos, group, id, &map, &logs)?
                };
                let (more, less) = (unflushed.allocs.bytes(), unflushed.frees.bytes());
                allocated += (bytes + more).checked_sub(less).ok_or(Error::Damaged)?;
                if !is_read_only {
                    self.logs.lock().note(unflushed.since, (vdev, id), unflushed.nr_ranges());
                    group.metaslabs[id as usize].state.lock().unflushed = unflushed;
                }
            }
            group.allocated.store(allocated, Ordering::Relaxed);
            if !is_read_only {
                group.choose_embedded_log();
            }
        }
        for (&txg, &object) in &index.logs {
            let log = read_log(mos, object)?;
            self.logs.lock().by_txg.insert(txg, log);
        }
        Ok(())
    }

    /// What the space map on disk, with the logs that are not yet in it, says is allocated in a metaslab.
    ///
    /// # Errors
    /// `NotFound` when there is no such metaslab, `Damaged` when the map contradicts itself, what reading gives.
    pub(crate) fn allocated_ranges(
        &self,
        mos: &dyn MosStore,
        vdev: u32,
        id: u32,
        logs: &UnflushedLogs,
    ) -> Result<RangeTree> {
        let group = self.group(vdev).ok_or(Error::NotFound)?;
        let metaslab = group.metaslabs.get(id as usize).ok_or(Error::NotFound)?;
        let map = read_header(mos, &group, id)?;
        let mut free = read_free(mos, &group, id, &map)?;
        logs.apply(vdev, id, &metaslab.extent, &mut free)?;
        let mut allocated = RangeTree::new();
        allocated.add(metaslab.extent.start, metaslab.extent.size)?;
        for (start, len) in free.iter() {
            allocated.remove(start, len)?;
        }
        Ok(allocated)
    }
}

fn load_one(
    mos: &dyn MosStore,
    group: &Group,
    id: u32,
    map: &MapObject,
    logs: &UnflushedLogs,
) -> Result<Unflushed> {
    let metaslab = &group.metaslabs[id as usize];
    let mut free = read_free(mos, group, id, map)?;
    if metaslab.extent.size - free.bytes() != map.phys.alloc.cast_unsigned() {
        return Err(Error::Damaged);
    }
    let unflushed = logs.apply(group.info.id, id, &metaslab.extent, &mut free)?;
    let mut state = metaslab.state.lock();
    state.load(free)?;
    let weight = state.weight();
    drop(state);
    Allocator::loaded(group, id, weight);
    Ok(unflushed)
}

fn read_log(mos: &dyn MosStore, object: ObjectId) -> Result<Log> {
    let bonus = mos.bonus(object)?;
    let phys = SpaceMapPhys::parse(&bonus).map_err(|_| Error::Damaged)?;
    let has_histogram = bonus.len() >= SPACE_MAP_SIZE_V1;
    Ok(Log { object, phys, block_size: mos.block_size(object)?, has_histogram })
}

/// Number and header of a metaslab's space map.
fn read_header(mos: &dyn MosStore, group: &Group, id: u32) -> Result<MapObject> {
    let array = ObjectId(group.array.load(Ordering::Relaxed));
    if array.is_none() {
        return Ok(MapObject::default());
    }
    let entry = mos.read(array, u64::from(id) * 8, 8)?;
    let object = entry.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| Error::Damaged)?;
    let object = ObjectId(object);
    if object.is_none() {
        return Ok(MapObject::default());
    }
    let bonus = mos.bonus(object)?;
    let phys = SpaceMapPhys::parse(&bonus).map_err(|_| Error::Damaged)?;
    if phys.length > LENGTH_MAX {
        return Err(Error::Damaged);
    }
    let has_histogram = bonus.len() >= SPACE_MAP_SIZE_V1;
    Ok(MapObject { object, phys, block_size: mos.block_size(object)?, has_histogram })
}

/// Replays a space map.
fn read_free(mos: &dyn MosStore, group: &Group, id: u32, map: &MapObject) -> Result<RangeTree> {
    let metaslab = &group.metaslabs[id as usize];
    let mut free = RangeTree::with_sizes();
    free.add(metaslab.extent.start, metaslab.extent.size)?;
    // Whole blocks at a time: two-word entries do not straddle them.
    let block = u64::from(map.block_size).max(8);
    let chunk = CHUNK.max(block) / block * block;
    let mut at = 0;
    while at < map.phys.length {
        let len = chunk.min(map.phys.length - at);
        let bytes = mos.read(map.object, at, len as usize)?;
        if bytes.len() as u64 != len {
            return Err(Error::Damaged);
        }
        replay(&bytes, &metaslab.extent, &mut free)?;
        at += len;
    }
    Ok(free)
}
