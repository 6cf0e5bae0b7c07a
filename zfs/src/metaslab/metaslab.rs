//! One metaslab: what of it is free, and where its space is on the way between allocated and free.
//!
//! The life of space, and the crash behind each step:
//!
//! ```text
//! allocatable -> allocating[txg] -> (space map: allocated)
//! allocated -> freeing -> (space map: free) -> freed -> defer[txg % 2] -> allocatable
//! ```
//!
//! Freed space waits two more transaction groups: the uberblocks of the last ones still point to what was there, and
//! a power cut (or a rewind) may make one of them the pool's state again.
use super::range_tree::RangeTree;
use super::space_map::Extent;
use super::space_map::add_histogram;
use super::unflushed::Unflushed;
use crate::bugs::{self, Bug};
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::space_map::{HISTOGRAM_SIZE, SpaceMapPhys};
use ondisk::{ObjectId, Txg};
use rt::Mutex;

/// Lock rank of a metaslab's state.
pub(crate) const RANK_METASLAB: u16 = 850;
/// Transaction groups in flight, and one more.
const TXG_SLOTS: usize = 4;
/// Transaction groups for which freed space waits.
pub(crate) const TXG_DEFER: usize = 2;
/// Ranges the first-fit cursor looks at before best fit decides.
const FIRST_FIT_STEPS: usize = 32;
/// Below this longest free range, or this share of free space, fragmentation is fought by best fit.
const BEST_FIT_BELOW: u64 = 128 << 10;
const BEST_FIT_FREE_PERCENT: u64 = 4;
/// Free ranges from this length on are equally good.
const LONG_ENOUGH: u32 = 24;

/// A metaslab of a vdev.
#[derive(Debug)]
pub(crate) struct Metaslab {
    pub extent: Extent,
    pub state: Mutex<MsState, RANK_METASLAB>,
}

/// How its space map object looks now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapObject {
    /// 0: never written, everything is free.
    pub object: ObjectId,
    pub phys: SpaceMapPhys,
    pub block_size: u32,
    /// The bonus has room for a histogram.
    pub has_histogram: bool,
}

/// What is known of a metaslab.
#[derive(Debug)]
pub(crate) struct MsState {
    pub map: MapObject,
    pub is_loaded: bool,
    pub allocatable: RangeTree,
    pub allocating: [RangeTree; TXG_SLOTS],
    pub freeing: RangeTree,
    pub freed: RangeTree,
    pub defer: [RangeTree; TXG_DEFER],
    /// Given up by the pool, kept by a checkpoint, and not yet in the vdev's list.
    pub checkpointing: RangeTree,
    /// What is only in the pool's logs.
    pub unflushed: Unflushed,
    /// Nothing is allocated here at the moment.
    pub(super) is_quiet: bool,
    /// What became allocatable since it was last asked for, if that is noted.
    pub(super) noted: Vec<(u64, u64)>,
    /// Where the last allocation of each alignment ended: blocks of a size stay together.
    cursors: BTreeMap<u32, u64>,
    /// The groups in flight that have touched it since it was last written.
    is_dirty: [bool; TXG_SLOTS],
}

/// How good a metaslab is to allocate from; greater is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    /// log2 of the longest free range, capped: a range long enough for many of the largest blocks is as good as any, so
    /// that a pool fills from its start and leaves the rest of a thin medium untouched.
    longest: u32,
    /// Free MiB, when ranges have become short.
    free: u64,
}

impl Metaslab {
    pub(crate) fn new(start: u64, size: u64, shift: u8) -> Self {
        let state = MsState {
            map: MapObject::default(),
            is_loaded: false,
            allocatable: RangeTree::with_sizes(),
            allocating: [const { RangeTree::new() }; TXG_SLOTS],
            freeing: RangeTree::new(),
            freed: RangeTree::new(),
            defer: [const { RangeTree::new() }; TXG_DEFER],
            checkpointing: RangeTree::new(),
            unflushed: Unflushed::default(),
            is_quiet: false,
            noted: Vec::new(),
            cursors: BTreeMap::new(),
            is_dirty: [false; TXG_SLOTS],
        };
        Self { extent: Extent { start, size, shift }, state: Mutex::new(state) }
    }

    /// A new one: nothing is allocated in it.
    ///
    /// # Errors
    /// `Damaged` when it was loaded before.
    pub(crate) fn set_all_free(&self) -> Result<()> {
        let mut all = RangeTree::with_sizes();
        all.add(self.extent.start, self.extent.size)?;
        self.state.lock().load(all)
    }

    /// Whether the whole range lies in this metaslab.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        let is_aligned = (offset | len) & ((1 << self.extent.shift) - 1) == 0;
        let end = offset.checked_add(len);
        is_aligned
            && len > 0
            && offset >= self.extent.start
            && end.is_some_and(|e| e <= self.extent.start + self.extent.size)
    }
}

impl MsState {
    /// Takes the replayed set of free ranges as what may be allocated, less what the space map says is free but is
    /// still protected.
    ///
    /// # Errors
    /// `Damaged` when the sets contradict each other.
    pub(crate) fn load(&mut self, mut free: RangeTree) -> Result<()> {
        let held = self.allocating.iter().chain([&self.freed]).chain(&self.defer);
        for (start, len) in held.flat_map(RangeTree::iter) {
            free.remove(start, len)?;
        }
        self.allocatable = free;
        self.is_loaded = true;
        Ok(())
    }

    /// Notes that the group has touched it; true when it had not since it was last written.
    pub(crate) fn mark_dirty(&mut self, txg: Txg) -> bool {
        !core::mem::replace(&mut self.is_dirty[txg.slot()], true)
    }

    /// It is about to be written.
    pub(crate) fn mark_clean(&mut self, txg: Txg) {
        self.is_dirty[txg.slot()] = false;
    }

    /// Finds and takes `len` bytes for `txg`.
    pub(crate) fn allocate(&mut self, extent: &Extent, len: u64, txg: Txg) -> Option<u64> {
        let start = self.find(extent, len)?;
        self.take(start, len, txg).ok()?;
        Some(start)
    }

    /// Takes the given range for `txg`.
    ///
    /// # Errors
    /// `Damaged` when it is not free.
    pub(crate) fn take(&mut self, start: u64, len: u64, txg: Txg) -> Result<()> {
        self.allocatable.remove(start, len)?;
        self.allocating[txg.slot()].add(start, len)
    }

    /// Gives back what was taken for `txg` and never used.
    ///
    /// # Errors
    /// `Damaged` when it was not.
    pub(crate) fn untake(&mut self, start: u64, len: u64, txg: Txg) -> Result<()> {
        self.allocating[txg.slot()].remove(start, len)?;
        self.allocatable.add(start, len)
    }

    /// Frees a range in the syncing transaction group.
    ///
    /// # Errors
    /// `Damaged` when it is free already.
    pub(crate) fn free(&mut self, start: u64, len: u64) -> Result<()> {
        let mut free = [&self.allocatable, &self.freed].into_iter().chain(&self.defer);
        if free.any(|tree| tree.overlaps(start, len)) {
            return Err(Error::Damaged);
        }
        self.freeing.add(start, len)
    }

    /// Keeps a range for the checkpoint.
    ///
    /// # Errors
    /// `Damaged` when it is free.
    pub(crate) fn retain(&mut self, start: u64, len: u64) -> Result<()> {
        let mut free = [&self.allocatable, &self.freeing, &self.freed].into_iter().chain(&self.defer);
        if free.any(|tree| tree.overlaps(start, len)) {
            return Err(Error::Damaged);
        }
        self.checkpointing.add(start, len)
    }

    /// The transaction group is durable: what it freed begins to wait, and what waited long enough may be allocated.
    /// How many bytes became allocatable.
    ///
    /// # Errors
    /// `Damaged` when a range is free twice.
    pub(crate) fn sync_done(&mut self, txg: Txg) -> Result<u64> {
        if bugs::is(Bug::EarlyReuse) && self.is_loaded {
            let mut freed = core::mem::take(&mut self.freed);
            let bytes = freed.bytes();
            self.allocatable.absorb(&mut freed)?;
            return Ok(bytes);
        }
        let slot = txg.0 as usize % TXG_DEFER;
        let mut due = core::mem::take(&mut self.defer[slot]);
        self.defer[slot] = core::mem::take(&mut self.freed);
        let bytes = due.bytes();
        if self.is_loaded {
            self.allocatable.absorb(&mut due)?;
        }
        Ok(bytes)
    }

    /// Whether space still waits here.
    pub(crate) fn has_deferred(&self) -> bool {
        self.defer.iter().any(|d| !d.is_empty())
    }

    /// What the space map says, or will say after this transaction group, is allocated.
    pub(crate) fn allocated_on_disk(&self, extent: &Extent, txg: Txg) -> Result<RangeTree> {
        let mut all = RangeTree::new();
        all.add(extent.start, extent.size)?;
        let later = (0..TXG_SLOTS).filter(|slot| *slot != txg.slot()).map(|slot| &self.allocating[slot]);
        let free =
            [&self.allocatable, &self.freeing, &self.freed].into_iter().chain(&self.defer).chain(later);
        for (start, len) in free.flat_map(RangeTree::iter) {
            all.remove(start, len)?;
        }
        Ok(all)
    }

    /// What was allocated before the group that is being written, of which nothing has been noted yet.
    pub(crate) fn allocated_before(&self, extent: &Extent) -> Result<RangeTree> {
        let mut all = RangeTree::new();
        all.add(extent.start, extent.size)?;
        let free = [&self.allocatable, &self.freed].into_iter().chain(&self.defer).chain(&self.allocating);
        for (start, len) in free.flat_map(RangeTree::iter) {
            all.remove(start, len)?;
        }
        Ok(all)
    }

    /// The on-disk histogram of free ranges.
    pub(crate) fn histogram(&self, shift: u8) -> [u64; HISTOGRAM_SIZE] {
        let mut out = [0; HISTOGRAM_SIZE];
        let trees = [&self.allocatable, &self.freeing, &self.freed].into_iter().chain(&self.defer);
        trees.for_each(|tree| add_histogram(&mut out, tree, shift));
        out
    }

    pub(crate) fn weight(&self) -> Weight {
        match self.allocatable.max_len() {
            _ if self.is_quiet => Weight::default(),
            0 => Weight::default(),
            len if len.ilog2() >= LONG_ENOUGH => Weight { longest: LONG_ENOUGH, free: 0 },
            len => Weight { longest: len.ilog2(), free: self.allocatable.bytes() >> 20 },
        }
    }

    fn find(&mut self, extent: &Extent, len: u64) -> Option<u64> {
        let longest = self.allocatable.max_len();
        if longest < len || self.is_quiet {
            return None;
        }
        let is_full = self.allocatable.bytes() * 100 / extent.size < BEST_FIT_FREE_PERCENT;
        if is_full || longest < BEST_FIT_BELOW {
            return self.allocatable.best_fit(len);
        }
        let class = len.trailing_zeros();
        let cursor = self.cursors.get(&class).copied().unwrap_or(extent.start);
        let first = self.allocatable.first_fit(cursor, len, FIRST_FIT_STEPS);
        let start = first
            .or_else(|| self.allocatable.first_fit(extent.start, len, FIRST_FIT_STEPS))
            .or_else(|| self.allocatable.best_fit(len))?;
        self.cursors.insert(class, start + len);
        Some(start)
    }
}

impl Weight {
    /// Whether a block of `len` bytes surely does not fit.
    pub(crate) fn is_too_small_for(self, len: u64) -> bool {
        len > 0 && self.longest < len.ilog2().min(LONG_ENOUGH)
    }
}
