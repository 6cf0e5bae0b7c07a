//! Space that a pool checkpoint keeps: what the pool frees but the checkpointed state refers to.
//!
//! Such space stays allocated in the metaslabs' maps, and each vdev lists it in a map of its own (entries of kind
//! free), from which it is freed for good when the checkpoint is discarded. Opening the pool at the checkpoint drops the
//! lists with everything else that is newer, so nothing of them need be undone.
//!
//! Invariant: whatever is in a list is allocated. Discarding takes whole blocks of a list from its end, in the group
//! that frees what they name: a power cut finds the rest of the list, and that rest still allocated.
use super::allocator::{Allocator, MsId};
use super::group::Group;
use super::metaslab::MapObject;
use super::space_map::{Encoder, Extent, for_each_run};
use super::store::{MosStore, NewMapObject};
use super::sync::{MAP_INDIRECT_SHIFT, put_header};
use crate::zio::{Format, SyncCtx};
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::pool_directory::VDEV_CHECKPOINT_SM;
use ondisk::space_map::{MapType, SPACE_MAP_BLOCK_SIZE, SPACE_MAP_SIZE_V0, SPACE_MAP_SIZE_V1, SpaceMapPhys};
use ondisk::{DmuType, ObjectId, Txg};

/// Blocks of a list whose space is freed in one group.
const STEP_BLOCKS: u64 = 8;

impl Allocator {
    /// The pool gives a place up that the checkpoint refers to.
    ///
    /// # Errors
    /// `Damaged` when it lies in no metaslab or is free.
    pub(crate) fn retain(&self, vdev: u32, offset: u64, asize: u64, txg: Txg) -> Result<()> {
        let (group, id) = self.place(vdev, offset, asize)?;
        let mut state = group.metaslabs[id as usize].state.lock();
        state.retain(offset, asize)?;
        let is_new = state.mark_dirty(txg);
        drop(state);
        group.checkpointed.fetch_add(asize, Ordering::Relaxed);
        self.note_dirty(is_new, txg, (vdev, id));
        Ok(())
    }

    /// Reads the header of a vdev's list.
    ///
    /// # Errors
    /// `Damaged` when it makes no sense, what reading gives.
    pub(crate) fn load_checkpoint(&self, mos: &dyn MosStore, vdev: u32, object: ObjectId) -> Result<()> {
        let group = self.group(vdev).ok_or(Error::Damaged)?;
        let bonus = mos.bonus(object)?;
        let phys = SpaceMapPhys::parse(&bonus).map_err(|_| Error::Damaged)?;
        let bytes = phys.alloc.checked_neg().and_then(|n| u64::try_from(n).ok()).ok_or(Error::Damaged)?;
        let has_histogram = bonus.len() >= SPACE_MAP_SIZE_V1;
        let map = MapObject { object, phys, block_size: mos.block_size(object)?, has_histogram };
        group.checkpointed.store(bytes, Ordering::Relaxed);
        *group.checkpoint.lock() = Some(map);
        Ok(())
    }

    /// Writes what was given up since the last call into the vdevs' lists.
    pub(super) fn sync_checkpoint(
        &self,
        mos: &dyn MosStore,
        ctx: &SyncCtx,
        format: Format,
        dirty: &BTreeSet<MsId>,
    ) -> Result<()> {
        let mut by_vdev: BTreeMap<u32, Vec<super::RangeTree>> = BTreeMap::new();
        for &(vdev, id) in dirty {
            let Some(group) = self.group(vdev) else { continue };
            let tree = core::mem::take(&mut group.metaslabs[id as usize].state.lock().checkpointing);
            if !tree.is_empty() {
                by_vdev.entry(vdev).or_default().push(tree);
            }
        }
        for (vdev, trees) in by_vdev {
            let group = self.group(vdev).ok_or(Error::Invalid)?;
            let mut map = list_of(mos, ctx, format, &group)?;
            let v2 = format.contains(Format::SPACEMAP_V2);
            let mut encoder = Encoder::new(whole(&group), map.phys.length, map.block_size, v2);
            for tree in &trees {
                encoder.add(MapType::Free, tree, ctx.txg, ctx.pass)?;
                map.phys.alloc -= tree.bytes().cast_signed();
            }
            let bytes = encoder.into_bytes();
            mos.write(ctx, map.object, map.phys.length, &bytes)?;
            map.phys.length += bytes.len() as u64;
            put_header(mos, ctx, &map)?;
            *group.checkpoint.lock() = Some(map);
        }
        Ok(())
    }

    /// Frees part of what a discarded checkpoint kept; false when nothing is left.
    ///
    /// # Errors
    /// `Damaged` when a list names what is free, what changing the MOS gives.
    pub(crate) fn discard_step(&self, mos: &dyn MosStore, ctx: &SyncCtx) -> Result<bool> {
        for group in self.groups().iter() {
            let Some(mut map) = *group.checkpoint.lock() else { continue };
            let block = u64::from(map.block_size).max(8);
            for _ in 0..STEP_BLOCKS {
                if map.phys.length > 0 {
                    self.discard_block(mos, ctx, group, &mut map, block)?;
                }
            }
            if map.phys.length > 0 {
                put_header(mos, ctx, &map)?;
                *group.checkpoint.lock() = Some(map);
            } else {
                mos.remove_vdev_map(ctx, group.top_zap(), VDEV_CHECKPOINT_SM, map.object)?;
                *group.checkpoint.lock() = None;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn discard_block(
        &self,
        mos: &dyn MosStore,
        ctx: &SyncCtx,
        group: &Arc<Group>,
        map: &mut MapObject,
        block: u64,
    ) -> Result<()> {
        let start = (map.phys.length - 1) / block * block;
        let bytes = mos.read(map.object, start, (map.phys.length - start) as usize)?;
        for_each_run(&bytes, |run| {
            let (offset, len) = whole(group).bytes_of(&run)?;
            if run.kind != MapType::Free {
                return Err(Error::Damaged);
            }
            self.free(group.info.id, offset, len, ctx.txg)?;
            map.phys.alloc += len.cast_signed();
            group.checkpointed.fetch_sub(len, Ordering::Relaxed);
            Ok(())
        })?;
        map.phys.length = start;
        Ok(())
    }

    /// Bytes that a checkpoint keeps allocated and the pool does not use.
    pub(crate) fn checkpointed(&self) -> u64 {
        self.groups().iter().map(|g| g.checkpointed.load(Ordering::Relaxed)).sum()
    }
}

/// The extent of a vdev's list: the vdev.
fn whole(group: &Group) -> Extent {
    Extent { start: 0, size: group.size(), shift: group.info.ashift }
}

/// A vdev's list, made when there is none.
fn list_of(mos: &dyn MosStore, ctx: &SyncCtx, format: Format, group: &Group) -> Result<MapObject> {
    if let Some(map) = *group.checkpoint.lock() {
        return Ok(map);
    }
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
    mos.add_vdev_object(ctx, group.top_zap(), VDEV_CHECKPOINT_SM, object)?;
    Ok(MapObject { object, phys: SpaceMapPhys::default(), block_size: SPACE_MAP_BLOCK_SIZE, has_histogram })
}
