//! Writing log space maps: one for each transaction group, for the whole pool, instead of a change of the space map of
//! every metaslab that was touched.
//!
//! A metaslab's own map is written (*flushed*) when there are too many logs, or they are too long, or what they say
//! takes too much memory: those longest behind first, some in each group, until half of that is gone. A log is
//! freed when no metaslab needs it any more.
//!
//! Invariants:
//! 1. A metaslab is flushed in pass 1, before anything of the group is in the group's log: its map then holds what was
//!    true before the group, and the logs from this group on matter to it.
//! 2. The header of a metaslab's own map has the histogram of what is free now, whatever the map says: who opens the
//!    pool takes it for what can be allocated.
//! 3. There is a log of the group from which a metaslab counts, even an empty one: OpenZFS does not import a pool
//!    without.
use super::allocator::{Allocator, MsId};
use super::group::Group;
use super::metaslab::{Metaslab, MsState};
use super::space_map::{Encoder, Extent};
use super::store::{MosStore, NewMapObject};
use super::sync::{MAP_INDIRECT_SHIFT, Update, create_map, put_header, put_update};
use crate::bugs::{self, Bug};
use crate::zio::{Format, SyncCtx};
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::pool_directory::VDEV_MS_UNFLUSHED_TXGS;
use ondisk::space_map::{MapType, SPACE_MAP_BLOCK_SIZE, SPACE_MAP_SIZE_V0, SPACE_MAP_SIZE_V1, SpaceMapPhys};
use ondisk::{DmuType, ObjectId, Txg};

/// Entries of a log are for the whole of any vdev, in sectors.
pub(super) const LOG_EXTENT: Extent = Extent { start: 0, size: 1 << 62, shift: 9 };

/// Above these, metaslabs are flushed until half is gone.
const LOGS_MAX: usize = 64;
const LOG_BYTES_MAX: u64 = 16 << 20;
const RANGES_MAX: usize = 128 << 10;
/// Metaslabs flushed in one group: at least so many, and this share of all that are behind.
const FLUSH_MIN: usize = 4;
const FLUSH_SHARE_SHIFT: u32 = 4;

/// A log on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub object: ObjectId,
    pub phys: SpaceMapPhys,
    pub block_size: u32,
    pub has_histogram: bool,
}

/// The pool's logs, and how far behind each metaslab's own map is.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(super) by_txg: BTreeMap<Txg, Log>,
    pub(super) behind: BTreeSet<(Txg, MsId)>,
    /// Ranges in memory that are only in logs.
    nr_ranges: usize,
    is_catching_up: bool,
    /// The next group flushes everything.
    pub(super) is_flush_all: bool,
}

impl Logs {
    /// Notes a metaslab met when the logs were read.
    pub(super) fn note(&mut self, since: Txg, id: MsId, nr_ranges: usize) {
        if since != Txg::ZERO {
            self.behind.insert((since, id));
        }
        self.nr_ranges += nr_ranges;
    }

    fn bytes(&self) -> u64 {
        self.by_txg.values().map(|log| log.phys.length).sum()
    }

    /// The metaslabs to be flushed in this group.
    fn due(&mut self) -> Vec<MsId> {
        let share = if self.is_catching_up { 2 } else { 1 };
        self.is_catching_up = self.by_txg.len() > LOGS_MAX / share
            || self.bytes() > LOG_BYTES_MAX / share as u64
            || self.nr_ranges > RANGES_MAX / share;
        let nr = match (core::mem::take(&mut self.is_flush_all), self.is_catching_up) {
            (true, _) => self.behind.len(),
            (_, true) => FLUSH_MIN.max(self.behind.len() >> FLUSH_SHARE_SHIFT),
            _ => 0,
        };
        self.behind.iter().take(nr).map(|(_, id)| *id).collect()
    }
}

impl Allocator {
    /// Everything that is only in logs goes into the metaslabs' own maps with the next group: before the pool is closed.
    pub(crate) fn flush_all(&self) {
        self.logs.lock().is_flush_all = true;
    }

    /// Number of logs, and of metaslabs whose own map is behind them.
    pub(crate) fn nr_logs(&self) -> (usize, usize) {
        let logs = self.logs.lock();
        (logs.by_txg.len(), logs.behind.len())
    }

    /// Whether logs can be written: the vdevs have ZAPs.
    ///
    /// # Errors
    /// `Invalid` when there are logs already, and a vdev without ZAP: its changes could be written nowhere.
    pub(super) fn may_log(&self) -> Result<bool> {
        let has_zaps = self.groups().iter().all(|g| g.metaslabs.is_empty() || !g.top_zap().is_none());
        if !has_zaps && !self.logs.lock().by_txg.is_empty() {
            return Err(Error::Invalid);
        }
        Ok(has_zaps)
    }

    /// Writes what is new of `dirty` into the group's log; in the group's first pass also flushes metaslabs.
    pub(super) fn sync_log(
        &self,
        mos: &dyn MosStore,
        ctx: &SyncCtx,
        format: Format,
        dirty: &BTreeSet<MsId>,
    ) -> Result<()> {
        let mut log = self.open_log(mos, ctx, format)?;
        if ctx.pass == 1 {
            let due = self.logs.lock().due();
            for (vdev, id) in due {
                let group = self.group(vdev).ok_or(Error::Invalid)?;
                self.flush(mos, ctx, format, &group, id)?;
            }
            self.free_logs(mos, ctx)?;
        }
        let mut encoder = Encoder::new(LOG_EXTENT, log.phys.length, log.block_size, true);
        for &(vdev, id) in dirty {
            let group = self.group(vdev).ok_or(Error::Invalid)?;
            self.log_one(mos, ctx, format, (&group, id), (&mut encoder, &mut log.phys))?;
        }
        let bytes = encoder.into_bytes();
        mos.write(ctx, log.object, log.phys.length, &bytes)?;
        log.phys.length += bytes.len() as u64;
        let bonus_len = if log.has_histogram { SPACE_MAP_SIZE_V1 } else { SPACE_MAP_SIZE_V0 };
        let raw = log.phys.to_raw();
        mos.set_bonus(ctx, log.object, &zerocopy::IntoBytes::as_bytes(&raw)[..bonus_len])?;
        self.logs.lock().by_txg.insert(ctx.txg, log);
        Ok(())
    }

    /// The log of the group that is being written.
    fn open_log(&self, mos: &dyn MosStore, ctx: &SyncCtx, format: Format) -> Result<Log> {
        if let Some(log) = self.logs.lock().by_txg.get(&ctx.txg) {
            return Ok(*log);
        }
        let has_histogram = format.contains(Format::SPACEMAP_HISTOGRAM);
        let bonus_len = if has_histogram { SPACE_MAP_SIZE_V1 } else { SPACE_MAP_SIZE_V0 };
        let object = mos.create(
            ctx,
            &NewMapObject {
                kind: DmuType::SPACE_MAP,
                block_size: SPACE_MAP_BLOCK_SIZE,
                indirect_shift: MAP_INDIRECT_SHIFT,
                bonus_kind: DmuType::SPACE_MAP_HEADER,
                bonus_len: bonus_len as u16,
            },
        )?;
        mos.add_log(ctx, ctx.txg, object)?;
        let block_size = mos.block_size(object)?;
        let log = Log { object, phys: SpaceMapPhys::default(), block_size, has_histogram };
        self.logs.lock().by_txg.insert(ctx.txg, log);
        Ok(log)
    }

    /// Puts one metaslab's changes into the log.
    fn log_one(
        &self,
        mos: &dyn MosStore,
        ctx: &SyncCtx,
        format: Format,
        (group, id): (&Group, u32),
        (encoder, phys): (&mut Encoder, &mut SpaceMapPhys),
    ) -> Result<()> {
        let metaslab = &group.metaslabs[id as usize];
        if metaslab.state.lock().map.object.is_none() {
            let map = create_map(mos, ctx, format, group, id)?;
            metaslab.state.lock().map = map;
        }
        let mut state = metaslab.state.lock();
        let nr_before = state.unflushed.nr_ranges();
        state.log_into(encoder, phys, ctx, group.info.id)?;
        let nr_after = state.unflushed.nr_ranges();
        let is_first = state.unflushed.since == Txg::ZERO;
        state.map.phys.histogram = state.histogram(metaslab.extent.shift);
        let map = state.map;
        drop(state);
        if map.has_histogram {
            put_header(mos, ctx, &map)?;
        }
        {
            let mut logs = self.logs.lock();
            logs.nr_ranges = (logs.nr_ranges + nr_after).saturating_sub(nr_before);
        }
        if is_first {
            self.set_since(mos, ctx, group, id)?;
        }
        Ok(())
    }

    /// Brings a metaslab's own map up to what was true before this group.
    fn flush(&self, mos: &dyn MosStore, ctx: &SyncCtx, format: Format, group: &Group, id: u32) -> Result<()> {
        let metaslab = &group.metaslabs[id as usize];
        let mut state = metaslab.state.lock();
        if state.unflushed.since == ctx.txg {
            return Ok(());
        }
        if !state.unflushed.is_empty() {
            let nr_ranges = state.unflushed.nr_ranges();
            let update = state.flush_update(metaslab, ctx, format)?;
            let (map, histogram) = (state.map, state.histogram(metaslab.extent.shift));
            drop(state);
            put_update(mos, ctx, metaslab, map, update, histogram)?;
            let mut logs = self.logs.lock();
            logs.nr_ranges = logs.nr_ranges.saturating_sub(nr_ranges);
        } else {
            drop(state);
        }
        self.set_since(mos, ctx, group, id)
    }

    /// From this group on logs matter to the metaslab.
    fn set_since(&self, mos: &dyn MosStore, ctx: &SyncCtx, group: &Group, id: u32) -> Result<()> {
        let mut array = ObjectId(group.unflushed_array.load(Ordering::Relaxed));
        if array.is_none() {
            array = mos.create(ctx, &since_object(group))?;
            mos.add_vdev_object(ctx, group.top_zap(), VDEV_MS_UNFLUSHED_TXGS, array)?;
            group.unflushed_array.store(array.0, Ordering::Relaxed);
        }
        mos.write(ctx, array, u64::from(id) * 8, &ctx.txg.0.to_le_bytes())?;
        let mut state = group.metaslabs[id as usize].state.lock();
        let before = core::mem::replace(&mut state.unflushed.since, ctx.txg);
        drop(state);
        let mut logs = self.logs.lock();
        logs.behind.remove(&(before, (group.info.id, id)));
        logs.behind.insert((ctx.txg, (group.info.id, id)));
        Ok(())
    }

    /// Frees the logs that no metaslab needs any more.
    fn free_logs(&self, mos: &dyn MosStore, ctx: &SyncCtx) -> Result<()> {
        let old: Vec<(Txg, Log)> = {
            let logs = self.logs.lock();
            let oldest = logs.behind.first().map_or(ctx.txg, |(txg, _)| *txg);
            logs.by_txg.range(..oldest).map(|(txg, log)| (*txg, *log)).collect()
        };
        for (txg, log) in old {
            mos.remove_log(ctx, txg, log.object)?;
            self.logs.lock().by_txg.remove(&txg);
        }
        Ok(())
    }

    /// A vdev is gone. The logs that speak of it go too: its number may be given to another.
    pub(super) fn forget_behind(&self, vdev: u32) {
        let mut logs = self.logs.lock();
        logs.behind.retain(|(_, (v, _))| *v != vdev);
        logs.is_flush_all = true;
    }
}

impl MsState {
    /// The entries for what is new, which becomes old thereby.
    fn log_into(
        &mut self,
        encoder: &mut Encoder,
        phys: &mut SpaceMapPhys,
        ctx: &SyncCtx,
        vdev: u32,
    ) -> Result<()> {
        self.mark_clean(ctx.txg);
        let mut allocating = core::mem::take(&mut self.allocating[ctx.txg.slot()]);
        let mut freeing = core::mem::take(&mut self.freeing);
        if !bugs::nth(Bug::LostAllocation, 5) {
            encoder.add_qualified(MapType::Alloc, &allocating, ctx.txg, ctx.pass, vdev)?;
        }
        if !bugs::nth(Bug::LostFree, 5) {
            encoder.add_qualified(MapType::Free, &freeing, ctx.txg, ctx.pass, vdev)?;
        }
        phys.alloc += allocating.bytes().cast_signed() - freeing.bytes().cast_signed();
        self.unflushed.note_all(MapType::Alloc, &allocating)?;
        self.unflushed.note_all(MapType::Free, &freeing)?;
        allocating.empty();
        self.freed.absorb(&mut freeing)
    }

    /// What brings the space map up to the state before the group; in its first pass only.
    fn flush_update(&mut self, metaslab: &Metaslab, ctx: &SyncCtx, format: Format) -> Result<Update> {
        let v2 = format.contains(Format::SPACEMAP_V2);
        let extent = metaslab.extent;
        let update = if self.is_loaded && self.should_condense(v2) {
            let allocated = self.allocated_before(&extent)?;
            let mut encoder = Encoder::new(extent, 0, self.map.block_size, v2);
            encoder.add(MapType::Alloc, &allocated, ctx.txg, ctx.pass)?;
            let alloc = allocated.bytes().cast_signed();
            Update { bytes: encoder.into_bytes(), is_condensed: true, alloc }
        } else {
            let (allocs, frees) = (&self.unflushed.allocs, &self.unflushed.frees);
            let mut encoder = Encoder::new(extent, self.map.phys.length, self.map.block_size, v2);
            encoder.add(MapType::Alloc, allocs, ctx.txg, ctx.pass)?;
            encoder.add(MapType::Free, frees, ctx.txg, ctx.pass)?;
            let alloc = allocs.bytes().cast_signed() - frees.bytes().cast_signed();
            Update { bytes: encoder.into_bytes(), is_condensed: false, alloc }
        };
        let since = self.unflushed.since;
        self.unflushed.flushed(since);
        Ok(update)
    }
}

/// The object with the groups from which logs matter to a vdev's metaslabs (`metaslab_unflushed_phys_t` each).
fn since_object(group: &Group) -> NewMapObject {
    let bytes = (group.metaslabs.len() as u64 * 8).next_multiple_of(512);
    NewMapObject {
        kind: DmuType::OTN_U64_METADATA,
        block_size: bytes.clamp(512, 128 << 10) as u32,
        indirect_shift: 0,
        bonus_kind: DmuType::NONE,
        bonus_len: 0,
    }
}
