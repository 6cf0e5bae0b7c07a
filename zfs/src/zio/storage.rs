//! [`Storage`]: the pool's blocks.
use super::batch::{SyncCtx, WriteBatch};
use super::in_flight::InFlight;
use super::log::LogPace;
use super::room::Room;
use crate::arc::ArcCache;
use crate::brt::Brt;
use crate::event::EventLog;
use crate::metaslab::{Allocator, LogIndex, MosStore, RangeTree, SpaceClass, UnflushedLogs};
use crate::vdev::layout::ASHIFT_MIN;
use crate::vdev::{AllocClass, Leaf, TopInfo, Tops, Vdev, VdevKind, VdevSpec, VdevTree};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use codec::checksum::Salt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use ondisk::{BlkPtr, Dva, ObjectId, Txg};
use rt::Once;

/// I/O under way may take this share of what the cache may, within bounds: a small guest must not drown in it.
const IO_SHARE_SHIFT: u32 = 3;
const IO_BYTES_MIN: u64 = 1 << 20;
const IO_BYTES_MAX: u64 = 32 << 20;

bitflags::bitflags! {
    /// What the pool's features allow to be written. Set after the MOS has told.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Format: u32 {
        /// Holes remember their birth.
        const HOLE_BIRTH = 1;
        /// Small blocks may lie in their block pointers.
        const EMBEDDED_DATA = 2;
        /// lz4; without it `Compression::On` is lzjb.
        const LZ4 = 4;
        /// Two-word space map entries.
        const SPACEMAP_V2 = 8;
        /// Space maps keep a histogram.
        const SPACEMAP_HISTOGRAM = 16;
        /// What is allocated and freed goes to a log of each group.
        const LOG_SPACEMAP = 32;
    }
}

/// How to run.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Nothing is written, bad copies are not repaired.
    pub is_read_only: bool,
    /// What the cache may take, in bytes.
    pub arc_target: u64,
    /// Allocators that work side by side; 1 for images that must come out the same each time.
    pub nr_allocators: usize,
    /// Where events go.
    pub events: EventLog,
}

/// The pool's space, in bytes of the vdevs' allocatable space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Of all metaslabs.
    pub size: u64,
    /// In use.
    pub allocated: u64,
    /// Could be allocated now.
    pub free: u64,
    /// Freed, but not yet allocatable.
    pub deferred: u64,
    /// What file systems may use in total: the normal class' size less the slop that keeps a full pool deletable.
    /// Here and in the next figure parity is not counted.
    pub usable_by_fs: u64,
    /// What of that is neither allocated nor part of the slop; what waits to become allocatable counts.
    pub free_for_fs: u64,
    /// Of metaslabs for blocks of files; here and in the next two parity is counted.
    pub file_size: u64,
    /// What of them could be allocated now, the slop included.
    pub file_free: u64,
    /// The slop.
    pub file_reserve: u64,
    /// `file_size` without parity.
    pub file_size_net: u64,
}

/// The pool's blocks.
#[derive(Debug)]
pub struct Storage {
    pub(super) vdevs: VdevTree,
    pub(super) arc: Arc<ArcCache>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) events: EventLog,
    pub(super) is_read_only: bool,
    pub(super) allocator: Allocator,
    pub(super) brt: Brt,
    room: Room,
    /// Bytes of reads ahead under way.
    pub(super) prefetching: Arc<AtomicU64>,
    /// Most bytes that a batch of writes, the reads ahead, or one call's reads have under way, each.
    pub(super) io_bytes_max: u64,
    /// The transaction group that is, or was last, written.
    pub(super) syncing: AtomicU64,
    pub(super) has_lost_flush: AtomicBool,
    /// Grows whenever a leaf comes that misses something.
    pub(super) resilver_generation: AtomicU64,
    min_alloc: usize,
    format: AtomicU32,
    /// The group whose state a checkpoint keeps, 0 without.
    checkpoint_txg: AtomicU64,
    salt: Once<Salt>,
    pub(super) log_pace: LogPace,
}

impl Storage {
    /// Opens the vdevs of a pool. `tops` are the top-level vdevs; their ids are their indexes.
    ///
    /// # Errors
    /// `Invalid` when ids and indexes differ or a description contradicts itself, `MissingVdev`, `Unsupported`.
    pub fn open(tops: &[VdevSpec], config: &StorageConfig) -> Result<Arc<Self>> {
        Self::open_with(tops, &[], config)
    }

    /// As [`Self::open`], for a pool that was opened before: what is known of its leaves stays known.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_with(
        tops: &[VdevSpec],
        known: &[Arc<Leaf>],
        config: &StorageConfig,
    ) -> Result<Arc<Self>> {
        if tops.iter().enumerate().any(|(index, top)| top.id as usize != index) {
            return Err(Error::Invalid);
        }
        let vdevs: Vec<Vdev> =
            tops.iter().map(|top| Vdev::open(top, known, &config.events)).collect::<Result<_>>()?;
        let present = vdevs.iter().filter(|v| !matches!(v.kind(), VdevKind::Hole | VdevKind::Missing));
        let min_ashift = present.map(|v| v.info().ashift).min();
        let vdevs = VdevTree::new(vdevs);
        Ok(Arc::new(Self {
            in_flight: Arc::new(InFlight::new(vdevs.clone())),
            allocator: Allocator::new(vdevs.get().iter().map(|v| *v.info()), config.nr_allocators),
            brt: Brt::default(),
            room: Room::new(vdevs.get().iter().map(|v| *v.info())),
            prefetching: Arc::default(),
            io_bytes_max: (config.arc_target >> IO_SHARE_SHIFT).clamp(IO_BYTES_MIN, IO_BYTES_MAX),
            min_alloc: 1 << min_ashift.unwrap_or(ASHIFT_MIN),
            salt: Once::new(),
            log_pace: LogPace::default(),
            syncing: AtomicU64::new(0),
            has_lost_flush: AtomicBool::new(false),
            // A resilver that an earlier opening of the pool began has 0: it was perhaps walked without a leaf that
            // is here now.
            resilver_generation: AtomicU64::new(1),
            vdevs,
            arc: ArcCache::new(config.arc_target),
            events: config.events.clone(),
            is_read_only: config.is_read_only,
            format: AtomicU32::new(0),
            checkpoint_txg: AtomicU64::new(0),
        }))
    }

    /// The top-level vdevs.
    pub fn vdevs(&self) -> Tops {
        self.vdevs.get()
    }

    /// The tree of vdevs, which may change while the pool is open.
    pub(crate) fn tree(&self) -> &VdevTree {
        &self.vdevs
    }

    /// Every device, absent ones too.
    pub fn leaves(&self) -> Vec<Arc<Leaf>> {
        self.vdevs.leaves()
    }

    /// What a block's copies are charged to its owner, bytes: raidz parity does not count, as if every block were as large
    /// as most are; for other vdevs that is what is allocated (`bp_get_dsize`).
    pub(crate) fn deflated(&self, bp: &BlkPtr) -> u64 {
        let top = |dva: &Dva| self.vdevs.top(dva.vdev);
        bp.dvas().map(|dva| top(&dva).map_or(0, |vdev| vdev.info().deflated(dva.asize))).sum()
    }

    /// The cache.
    pub fn arc(&self) -> &Arc<ArcCache> {
        &self.arc
    }

    /// Blocks that several files share.
    pub fn brt(&self) -> &Brt {
        &self.brt
    }

    /// The metaslabs.
    pub(crate) fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Where events go.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// What may be written.
    pub fn format(&self) -> Format {
        Format::from_bits_truncate(self.format.load(Ordering::Relaxed))
    }

    /// Says what may be written.
    pub fn set_format(&self, format: Format) {
        self.format.store(format.bits(), Ordering::Relaxed);
    }

    /// A batch for a transaction group's writes.
    pub fn new_batch(&self) -> WriteBatch {
        WriteBatch::new(self.in_flight.clone(), self.io_bytes_max)
    }

    /// The first pass of a transaction group.
    pub fn begin_sync(&self, txg: Txg) -> SyncCtx {
        self.syncing.store(txg.0, Ordering::Release);
        SyncCtx { txg, pass: 1, batch: self.new_batch() }
    }

    /// The smallest allocation of any vdev, in bytes.
    pub fn min_alloc(&self) -> usize {
        self.min_alloc
    }

    /// The salt of keyed checksums.
    pub(super) fn salt(&self) -> Option<Salt> {
        self.salt.get().copied()
    }

    /// Says what the salt of keyed checksums is (`org.illumos:checksum_salt`). Only the first call counts.
    pub fn set_salt(&self, salt: Salt) {
        self.salt.get_or_init(|| salt);
    }

    /// A new pool: everything is free.
    ///
    /// # Errors
    /// `Damaged` never.
    pub fn init_metaslabs(&self) -> Result<()> {
        self.allocator.init()
    }

    /// Loads the space maps: all of them when the pool is going to be written, else their headers. Before anything is
    /// allocated or freed, and without locks of the DMU held.
    ///
    /// # Errors
    /// `Damaged` when they contradict themselves; what reading MOS objects gives.
    pub fn load_metaslabs(&self, mos: &dyn MosStore, logs: &LogIndex) -> Result<()> {
        self.allocator.load(mos, logs, self.is_read_only)
    }

    /// The next group brings all space maps up to date, so that no logs need be read when the pool is opened again.
    pub fn flush_logs(&self) {
        self.allocator.flush_all();
    }

    /// Logs of space maps, and metaslabs whose own map may be behind them.
    pub fn nr_logs(&self) -> (usize, usize) {
        self.allocator.nr_logs()
    }

    /// Says up to which group blocks belong to the pool's checkpoint; 0: there is none. Called by the sync thread.
    pub(crate) fn set_checkpoint(&self, txg: Txg) {
        self.checkpoint_txg.store(txg.0, Ordering::Release);
    }

    /// Whether the checkpoint refers to a block that is freed in `txg`. What the checkpointed group itself still freed is
    /// not part of it. What counts is when the block was written: a clone made since may be the last to give it up.
    pub(super) fn is_checkpointed(&self, bp: &BlkPtr, txg: Txg) -> bool {
        let kept = Txg(self.checkpoint_txg.load(Ordering::Acquire));
        kept != Txg::ZERO && bp.phys_birth() <= kept && txg > kept
    }

    /// Bytes that a checkpoint keeps and the pool does not use.
    pub fn checkpointed_bytes(&self) -> u64 {
        self.allocator.checkpointed()
    }

    /// Reads the header of a vdev's list of what the checkpoint keeps.
    ///
    /// # Errors
    /// `Damaged`, what reading gives.
    pub(crate) fn load_checkpoint(&self, mos: &dyn MosStore, vdev: u32, object: ObjectId) -> Result<()> {
        self.allocator.load_checkpoint(mos, vdev, object)
    }

    /// Frees a part of what a discarded checkpoint kept; false when nothing is left.
    ///
    /// # Errors
    /// `Damaged`, what changing the MOS gives.
    pub(crate) fn discard_checkpoint_step(&self, mos: &dyn MosStore, ctx: &SyncCtx) -> Result<bool> {
        self.allocator.discard_step(mos, ctx)
    }

    /// The ZAP of a top-level vdev, 0 without.
    pub fn top_zap(&self, vdev: u32) -> ObjectId {
        self.allocator.group(vdev).map_or(ObjectId(0), |g| g.top_zap())
    }

    /// A new vdev has got its ZAP: before the first group that allocates there is written.
    pub fn set_top_zap(&self, vdev: u32, zap: ObjectId) {
        if let Some(group) = self.allocator.group(vdev) {
            group.set_top_zap(zap);
        }
    }

    /// Writes what this transaction group has allocated and freed since the last call into the space maps. True if
    /// anything was written: then the MOS is dirty and another pass is needed. Without locks of the DMU held.
    ///
    /// # Errors
    /// What writing MOS objects gives.
    pub fn sync_metaslabs(&self, mos: &dyn MosStore, ctx: &SyncCtx) -> Result<bool> {
        self.allocator.sync(mos, ctx, self.format())
    }

    /// The transaction group is durable: what it freed starts its way to being allocatable.
    ///
    /// # Errors
    /// `Damaged` when a range turns out to be free twice: a bug, and the pool must not be written any more.
    pub fn sync_done(&self, txg: Txg) -> Result<()> {
        self.allocator.sync_done(txg)?;
        self.refresh_room();
        self.room.done(txg);
        Ok(())
    }

    /// The transaction group had nothing to write.
    pub(crate) fn skip_sync(&self, txg: Txg) {
        self.room.done(txg);
    }

    /// What is promised to transactions.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Tells transactions what there is. While no group is being written, or at the end of one: in between it would
    /// count twice what is allocated already.
    pub(crate) fn refresh_room(&self) {
        let groups = self.allocator.groups();
        let tops = groups.iter().filter(|g| g.serves(SpaceClass::Normal)).map(|g| g.info);
        self.room.set(&self.allocator.space(), tops);
    }

    /// Space maps with a histogram: the reference count of the feature `spacemap_histogram`, as far as metaslabs go.
    pub fn nr_histogram_maps(&self) -> u64 {
        self.allocator.nr_histograms()
    }

    /// The pool's space.
    pub fn space(&self) -> Space {
        let space = self.allocator.space();
        // File systems are charged for each reference to a shared block.
        let usable_by_fs = space.usable_by_fs.saturating_add(self.brt.figures().saved);
        Space { usable_by_fs, ..space }
    }

    /// Size and allocated bytes of a part of the pool's space.
    pub fn space_of(&self, class: SpaceClass) -> (u64, u64) {
        self.allocator.figures(class)
    }

    /// A vdev was added (all of its space is free), or takes the number of one that was removed.
    ///
    /// # Errors
    /// `Invalid` when its number is neither the next nor that of a vdev without space.
    pub fn add_space(&self, info: TopInfo) -> Result<()> {
        self.allocator.add_group(info)
    }

    /// A vdev has grown: what it has more is free.
    ///
    /// # Errors
    /// `NotFound` when there is no such vdev; `Busy` when it has grown too often since it was opened.
    pub(crate) fn grow_space(&self, info: &TopInfo) -> Result<()> {
        self.allocator.grow_group(info)
    }

    /// A vdev is removed.
    ///
    /// # Errors
    /// `Busy` while anything is allocated on it or freed space there waits.
    pub fn remove_space(&self, vdev: u32) -> Result<()> {
        self.allocator.remove_group(vdev)
    }

    /// Whether nothing is allocated on a vdev, and nothing freed waits there.
    pub(crate) fn is_vdev_empty(&self, vdev: u32) -> bool {
        self.allocator.is_empty(vdev)
    }

    /// The MOS objects of a vdev's space maps.
    ///
    /// # Errors
    /// `NotFound` when there is no such vdev.
    pub(crate) fn space_map_objects(&self, vdev: u32) -> Result<Vec<ObjectId>> {
        let group = self.allocator.group(vdev).ok_or(Error::NotFound)?;
        let maps = group.metaslabs.iter().map(|m| m.state.lock().map.object);
        Ok(maps.filter(|object| !object.is_none()).collect())
    }

    /// The object that says from which group on logs matter to a vdev's metaslabs.
    pub(crate) fn unflushed_array(&self, vdev: u32) -> Option<ObjectId> {
        let group = self.allocator.group(vdev)?;
        ObjectId(group.unflushed_array.load(Ordering::Relaxed)).non_zero()
    }

    /// Says whether anything new may be put on a vdev.
    pub fn set_excluded(&self, vdev: u32, is_excluded: bool) {
        if let Some(group) = self.allocator.group(vdev) {
            group.set_excluded(is_excluded);
        }
    }

    /// Whether a vdev holds intent logs only.
    pub fn is_log_vdev(&self, vdev: u32) -> bool {
        self.allocator.group(vdev).is_some_and(|g| g.info.class == AllocClass::Log)
    }

    /// What a metaslab's space map on disk, with the logs not yet in it, says is allocated.
    ///
    /// # Errors
    /// `NotFound` when there is no such metaslab, `Damaged` when the map contradicts itself, what reading gives.
    pub fn allocated_ranges(
        &self,
        mos: &dyn MosStore,
        vdev: u32,
        metaslab: u32,
        logs: &UnflushedLogs,
    ) -> Result<RangeTree> {
        self.allocator.allocated_ranges(mos, vdev, metaslab, logs)
    }
}
