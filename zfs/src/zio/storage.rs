//! [`Storage`]: the pool's blocks.
use super::batch::{SyncCtx, WriteBatch};
use super::in_flight::InFlight;
use super::policy::WritePolicy;
use super::prepare::Prepared;
use crate::arc::{ArcBuf, ArcCache};
use crate::event::EventLog;
use crate::metaslab::MosStore;
use crate::vdev::{IoGroup, Leaf, Priority, Vdev, VdevSpec};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use ondisk::{BlkPtr, Bookmark, Txg};

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
    /// What file systems may use in total: the size less the slop that keeps a full pool deletable.
    pub usable_by_fs: u64,
}

/// The pool's blocks.
#[derive(Debug)]
pub struct Storage {
    pub(super) vdevs: Arc<[Vdev]>,
    pub(super) arc: Arc<ArcCache>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) events: EventLog,
    pub(super) is_read_only: bool,
    format: AtomicU32,
}

impl Storage {
    /// Opens the vdevs of a pool. `tops` are the top-level vdevs; their ids are their indexes.
    ///
    /// # Errors
    /// `Invalid` when ids and indexes differ or a description contradicts itself, `MissingVdev`, `Unsupported`.
    pub fn open(tops: &[VdevSpec], config: &StorageConfig) -> Result<Arc<Self>> {
        if tops.iter().enumerate().any(|(index, top)| top.id as usize != index) {
            return Err(Error::Invalid);
        }
        let vdevs: Vec<Vdev> =
            tops.iter().map(|top| Vdev::open(top, &config.events)).collect::<Result<_>>()?;
        let vdevs: Arc<[Vdev]> = vdevs.into();
        Ok(Arc::new(Self {
            in_flight: Arc::new(InFlight::new(vdevs.clone())),
            vdevs,
            arc: ArcCache::new(config.arc_target),
            events: config.events.clone(),
            is_read_only: config.is_read_only,
            format: AtomicU32::new(0),
        }))
    }

    /// The top-level vdevs.
    pub fn vdevs(&self) -> &[Vdev] {
        &self.vdevs
    }

    /// Every device.
    pub fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf>> + Clone {
        self.vdevs.iter().flat_map(|v| v.io().leaves())
    }

    /// The cache.
    pub fn arc(&self) -> &Arc<ArcCache> {
        &self.arc
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
        WriteBatch::new(self.in_flight.clone())
    }

    /// The first pass of a transaction group.
    pub fn begin_sync(&self, txg: Txg) -> SyncCtx {
        SyncCtx { txg, pass: 1, batch: self.new_batch() }
    }

    /// Makes every completed write on every device durable.
    ///
    /// # Errors
    /// `Io` when any device failed to.
    pub fn flush_all(&self) -> Result<()> {
        let group = IoGroup::new();
        let leaves: Vec<&Leaf> = self.leaves().map(|l| &**l).collect();
        for (tag, leaf) in leaves.iter().enumerate() {
            leaf.start_flush(group.completion(tag as u64));
        }
        let mut result = Ok(());
        for done in group.wait(leaves.iter().copied()) {
            if done.result.is_err() {
                leaves[done.tag as usize].flush_failed();
                result = Err(Error::Io);
            }
        }
        result
    }
    // The rest of the interface lands with its parts.

    /// Reads a block through the cache.
    ///
    /// # Errors
    /// `Io` or `Checksum` when no copy is good, `Encrypted`, `Damaged` when the pointer or the content is impossible.
    pub fn read(&self, _bp: &BlkPtr, _bookmark: Bookmark, _priority: Priority) -> Result<ArcBuf> {
        Err(Error::Unsupported)
    }

    /// As [`Self::read`], without looking into the cache or leaving anything there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_uncached(&self, _bp: &BlkPtr, _bookmark: Bookmark, _priority: Priority) -> Result<Abd> {
        Err(Error::Unsupported)
    }

    /// As [`Self::read`] for several blocks, all in flight at once.
    pub fn read_many(&self, blocks: &[(BlkPtr, Bookmark)], _priority: Priority) -> Vec<Result<ArcBuf>> {
        blocks.iter().map(|_| Err(Error::Unsupported)).collect()
    }

    /// Starts reading a block into the cache; best effort.
    pub fn prefetch(&self, _bp: &BlkPtr, _bookmark: Bookmark) {}

    /// Compresses and checksums a block's content. CPU only.
    ///
    /// # Errors
    /// `Unsupported` for checksums or compressions that are not implemented, `Invalid` for sizes no block has.
    pub fn prepare(&self, _data: Abd, _policy: &WritePolicy) -> Result<Prepared> {
        Err(Error::Unsupported)
    }

    /// Allocates and starts writing. The pointer returned is final; the I/O ends at the latest with the batch. `old`
    /// is the pointer the block had (a hole if none): when it was born in this very transaction group and has the same
    /// size, and the pass is [`super::PASS_REWRITE`] or later, the block is rewritten in place and the pointer returned
    /// has the same addresses. Otherwise freeing `old` is the caller's business.
    ///
    /// # Errors
    /// `NoSpace`, `ReadOnly`.
    pub fn issue(
        &self,
        _ctx: &SyncCtx,
        _block: Prepared,
        _old: &BlkPtr,
        _bookmark: Bookmark,
    ) -> Result<BlkPtr> {
        Err(Error::Unsupported)
    }

    /// Frees a block in this transaction group, a gang block's pieces with it.
    ///
    /// # Errors
    /// `Damaged` when the addresses are impossible or the space is free already; what reading a gang header gives.
    pub fn free(&self, _ctx: &SyncCtx, _bp: &BlkPtr) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Loads the space maps.
    ///
    /// # Errors
    /// `Damaged` when they contradict themselves.
    pub fn load_metaslabs(&self, _mos: &dyn MosStore) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Writes what this transaction group has allocated and freed since the last call into the space maps. True if
    /// anything was written (then the MOS is dirty and another pass is needed).
    ///
    /// # Errors
    /// What writing MOS objects gives.
    pub fn sync_metaslabs(&self, _mos: &dyn MosStore, _ctx: &SyncCtx) -> Result<bool> {
        Err(Error::Unsupported)
    }

    /// The transaction group is durable: what it freed starts its way to being allocatable.
    pub fn sync_done(&self, _txg: Txg) {}

    /// Marks a block as allocated: intent log blocks found at import.
    ///
    /// # Errors
    /// `Damaged` when the space is not free.
    pub fn claim(&self, _bp: &BlkPtr, _txg: Txg) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// The pool's space.
    pub fn space(&self) -> Space {
        Space::default()
    }
}
