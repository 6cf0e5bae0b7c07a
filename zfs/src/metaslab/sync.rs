//! Writing space maps, in every pass of a transaction group's syncing.
//!
//! Why the passes end: a call writes only what was allocated and freed since the last one. Writing dirties MOS blocks;
//! syncing the MOS gives each of them a new place once, in the pass that dirties it first, which the next call records.
//! From pass 2 on a block already born in this transaction group is rewritten where it is and allocates nothing. The
//! blocks that recording can dirty are few and always the same: of each touched space map the last block, its
//! indirect blocks and its dnode; the metaslab array. Once each has its place nothing new is allocated, unless a block
//! changes its compressed size; from pass 8 on nothing is compressed. Frees of older blocks from pass 2 on are put off to
//! the next transaction group by the caller, so they do not come here.
use super::allocator::Allocator;
use super::group::Group;
use super::metaslab::{MapObject, Metaslab, MsState};
use super::space_map::Encoder;
use super::store::{MosStore, NewMapObject};
use crate::bugs::{self, Bug};
use crate::zio::{Format, SyncCtx};
use crate::{Error, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::space_map::{
    HISTOGRAM_SIZE, MapType, SPACE_MAP_BLOCK_SIZE, SPACE_MAP_SIZE_V0, SPACE_MAP_SIZE_V1, SpaceMapPhys,
};
use ondisk::{DmuType, ObjectId};

/// Condense when a map is this many times as long as it need be.
const CONDENSE_FACTOR: u64 = 2;

/// Space maps are short: small indirect blocks, of which three copies are rewritten in most transaction groups.
pub(super) const MAP_INDIRECT_SHIFT: u8 = 14;

/// What goes into a space map.
pub(super) struct Update {
    pub bytes: Vec<u8>,
    /// The bytes replace the whole map.
    pub is_condensed: bool,
    /// Change of the allocated bytes, or their new number when condensed.
    pub alloc: i64,
}

impl Allocator {
    /// Makes the metaslab arrays of the vdevs that have none.
    ///
    /// # Errors
    /// What making MOS objects gives.
    fn create_arrays(&self, mos: &dyn MosStore, ctx: &SyncCtx) -> Result<()> {
        for group in self.groups().iter() {
            if group.array.load(Ordering::Relaxed) == 0 && !group.metaslabs.is_empty() {
                let object = mos.create(ctx, &array_object(group))?;
                group.array.store(object.0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Writes what is new into the space maps; true if anything was.
    pub(crate) fn sync(&self, mos: &dyn MosStore, ctx: &SyncCtx, format: Format) -> Result<bool> {
        self.create_arrays(mos, ctx)?;
        let dirty = self.take_dirty(ctx.txg);
        let has_written = !dirty.is_empty();
        self.sync_checkpoint(mos, ctx, format, &dirty)?;
        if has_written && format.contains(Format::LOG_SPACEMAP) && self.may_log()? {
            self.sync_log(mos, ctx, format, &dirty)?;
            self.waiting.lock().extend(dirty);
            return Ok(true);
        }
        for (vdev, id) in dirty {
            let group = self.group(vdev).ok_or(Error::Invalid)?;
            sync_one(mos, ctx, format, &group, id)?;
            self.waiting.lock().insert((vdev, id));
        }
        Ok(has_written)
    }

    /// Space maps that have a histogram: the feature's reference count.
    pub(crate) fn nr_histograms(&self) -> u64 {
        let groups = self.groups();
        let metaslabs = groups.iter().flat_map(|g| g.metaslabs.iter());
        metaslabs.filter(|m| m.state.lock().map.has_histogram).count() as u64
    }
}

fn sync_one(mos: &dyn MosStore, ctx: &SyncCtx, format: Format, group: &Group, id: u32) -> Result<()> {
    let metaslab = &group.metaslabs[id as usize];
    let mut map = metaslab.state.lock().map;
    if map.object.is_none() {
        map = create_map(mos, ctx, format, group, id)?;
        metaslab.state.lock().map = map;
    }
    let mut state = metaslab.state.lock();
    let update = state.take_update(&metaslab.extent, ctx, format)?;
    let histogram = state.histogram(metaslab.extent.shift);
    debug_assert!(state.is_loaded, "a pool that is written has all its metaslabs loaded");
    drop(state);
    put_update(mos, ctx, metaslab, map, update, histogram)
}

/// Writes the entries and the header of a space map.
pub(super) fn put_update(
    mos: &dyn MosStore,
    ctx: &SyncCtx,
    metaslab: &Metaslab,
    mut map: MapObject,
    update: Update,
    histogram: [u64; HISTOGRAM_SIZE],
) -> Result<()> {
    if update.is_condensed {
        mos.truncate(ctx, map.object)?;
        map.phys.length = 0;
        map.phys.alloc = 0;
    }
    mos.write(ctx, map.object, map.phys.length, &update.bytes)?;
    map.phys.length += update.bytes.len() as u64;
    map.phys.alloc += update.alloc;
    if map.has_histogram {
        map.phys.histogram = histogram;
    }
    put_header(mos, ctx, &map)?;
    metaslab.state.lock().map = map;
    Ok(())
}

/// Writes the header of a space map.
pub(super) fn put_header(mos: &dyn MosStore, ctx: &SyncCtx, map: &MapObject) -> Result<()> {
    let raw = map.phys.to_raw();
    let bonus_len = if map.has_histogram { SPACE_MAP_SIZE_V1 } else { SPACE_MAP_SIZE_V0 };
    mos.set_bonus(ctx, map.object, &zerocopy::IntoBytes::as_bytes(&raw)[..bonus_len])
}

impl MsState {
    /// The entries for what is new, which becomes old thereby.
    fn take_update(
        &mut self,
        extent: &super::space_map::Extent,
        ctx: &SyncCtx,
        format: Format,
    ) -> Result<Update> {
        let v2 = format.contains(Format::SPACEMAP_V2);
        let slot = ctx.txg.slot();
        self.mark_clean(ctx.txg);
        let is_condensed = ctx.pass == 1 && self.is_loaded && self.should_condense(v2);
        let (length, alloc);
        let mut encoder;
        if is_condensed {
            let allocated = self.allocated_on_disk(extent, ctx.txg)?;
            encoder = Encoder::new(*extent, 0, self.map.block_size, v2);
            encoder.add(MapType::Alloc, &allocated, ctx.txg, ctx.pass)?;
            alloc = allocated.bytes().cast_signed();
        } else {
            length = self.map.phys.length;
            encoder = Encoder::new(*extent, length, self.map.block_size, v2);
            if !bugs::nth(Bug::LostAllocation, 5) {
                encoder.add(MapType::Alloc, &self.allocating[slot], ctx.txg, ctx.pass)?;
            }
            if !bugs::nth(Bug::LostFree, 5) {
                encoder.add(MapType::Free, &self.freeing, ctx.txg, ctx.pass)?;
            }
            alloc = self.allocating[slot].bytes().cast_signed() - self.freeing.bytes().cast_signed();
        }
        self.allocating[slot].empty();
        let mut freeing = core::mem::take(&mut self.freeing);
        self.freed.absorb(&mut freeing)?;
        Ok(Update { bytes: encoder.into_bytes(), is_condensed, alloc })
    }

    pub(super) fn should_condense(&self, has_two_words: bool) -> bool {
        let block = u64::from(self.map.block_size);
        let entry = if has_two_words { 16 } else { 8 };
        // Between two free ranges lies an allocated one.
        let optimal = (self.allocatable.nr_ranges() as u64 + 1) * entry;
        self.map.phys.length > CONDENSE_FACTOR * optimal.max(block)
    }
}

fn array_object(group: &Group) -> NewMapObject {
    let bytes = (group.metaslabs.len() as u64 * 8).next_multiple_of(512);
    NewMapObject {
        kind: DmuType::OBJECT_ARRAY,
        block_size: bytes.clamp(512, 128 << 10) as u32,
        indirect_shift: 0,
        bonus_kind: DmuType::NONE,
        bonus_len: 0,
    }
}

pub(super) fn create_map(
    mos: &dyn MosStore,
    ctx: &SyncCtx,
    format: Format,
    group: &Group,
    id: u32,
) -> Result<MapObject> {
    let has_histogram = format.contains(Format::SPACEMAP_HISTOGRAM);
    let bonus_len = if has_histogram { SPACE_MAP_SIZE_V1 } else { SPACE_MAP_SIZE_V0 };
    let new = NewMapObject {
        kind: DmuType::SPACE_MAP,
        block_size: SPACE_MAP_BLOCK_SIZE,
        indirect_shift: MAP_INDIRECT_SHIFT,
        bonus_kind: DmuType::SPACE_MAP_HEADER,
        bonus_len: bonus_len as u16,
    };
    let object = mos.create(ctx, &new)?;
    let array = ObjectId(group.array.load(Ordering::Relaxed));
    if array.is_none() {
        return Err(Error::Invalid);
    }
    mos.write(ctx, array, u64::from(id) * 8, &object.0.to_le_bytes())?;
    Ok(MapObject { object, phys: SpaceMapPhys::default(), block_size: SPACE_MAP_BLOCK_SIZE, has_histogram })
}
