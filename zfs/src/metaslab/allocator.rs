//! The allocator: which vdev, which metaslab.
//!
//! Vdevs take turns, each for an aliquot biased by how much freer it is than the others. Within a vdev an allocator
//! stays in its active metaslab as long as that has room. Copies of a block go to different vdevs, or at least an
//! eighth of the vdev apart: one damaged region must not take them all.
//!
//! Several allocators work side by side, each with its own turn and active metaslabs. A block's bookmark chooses the
//! allocator, so the choice is the same each time.
//!
//! Locks, in this order: an allocator's turn, a group's order, a metaslab. Nothing is read or written under them.
use super::log::UnflushedLogs;
use super::metaslab::{Metaslab, Weight};
use crate::vdev::{TopInfo, Vdev};
use crate::zio::Space;
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::{Bookmark, Dva, Txg};
use rt::Mutex;
use smallvec::SmallVec;

const RANK_TURN: u16 = 830;
const RANK_ORDER: u16 = 840;
const RANK_DIRTY: u16 = 845;

/// Bytes a vdev gets before it is the next one's turn.
const ALIQUOT: u64 = 2 << 20;
/// Copies on one vdev are this share of it apart.
const DISTANCE_SHIFT: u32 = 3;
/// Metaslabs tried under one order of preference.
const CANDIDATES_MAX: usize = 64;
/// Blocks of a file within this many of each other use the same allocator.
const BLOCKS_PER_ALLOCATOR_SHIFT: u32 = 12;

/// Reserve that keeps a full pool deletable: 1/32, at least 128 MiB or half, at most 128 GiB.
const SLOP_SHIFT: u32 = 5;
const SLOP_MIN: u64 = 128 << 20;
const SLOP_MAX: u64 = 128 << 30;

/// The metaslabs of a vdev.
#[derive(Debug)]
pub(crate) struct Group {
    pub info: TopInfo,
    pub metaslabs: Vec<Metaslab>,
    /// MOS object with the numbers of the space maps, 0 when there is none yet.
    pub array: AtomicU64,
    order: Mutex<Order, RANK_ORDER>,
    allocated: AtomicU64,
    /// How much more or less than an aliquot is its due.
    bias: AtomicI64,
}

/// Metaslabs by preference.
#[derive(Debug, Default)]
struct Order {
    by_weight: BTreeSet<(Reverse<Weight>, u32)>,
    weights: Vec<Weight>,
}

/// An allocator's turn.
#[derive(Debug, Default)]
struct Turn {
    group: usize,
    bytes: u64,
    /// Active metaslab for each group and copy.
    active: Vec<[Option<u32>; DVAS_PER_BP]>,
}

/// A metaslab's name: vdev and index.
pub(crate) type MsId = (u32, u32);

/// All metaslabs of the pool.
#[derive(Debug)]
pub(crate) struct Allocator {
    pub groups: Vec<Group>,
    turns: Vec<Mutex<Turn, RANK_TURN>>,
    vdevs: Arc<[Vdev]>,
    /// Metaslabs touched by each transaction group and not yet written.
    dirty: Mutex<[BTreeSet<MsId>; 4], RANK_DIRTY>,
    /// Metaslabs with space on its way to being allocatable.
    pub waiting: Mutex<BTreeSet<MsId>, RANK_DIRTY>,
    deferred: AtomicU64,
}

impl Allocator {
    pub(crate) fn new(vdevs: Arc<[Vdev]>, nr_allocators: usize) -> Self {
        let groups: Vec<Group> = vdevs.iter().map(Group::new).collect();
        let turn =
            || Mutex::new(Turn { active: alloc::vec![[None; DVAS_PER_BP]; groups.len()], ..Turn::default() });
        Self {
            turns: (0..nr_allocators.max(1)).map(|_| turn()).collect(),
            groups,
            vdevs,
            dirty: Mutex::default(),
            waiting: Mutex::default(),
            deferred: AtomicU64::new(0),
        }
    }

    /// Allocates `copies` places for `psize` bytes.
    ///
    /// # Errors
    /// `NoSpace` when no place is long enough; then nothing is allocated.
    pub(crate) fn allocate(
        &self,
        psize: u64,
        copies: usize,
        txg: Txg,
        bookmark: &Bookmark,
    ) -> Result<SmallVec<[Dva; DVAS_PER_BP]>> {
        let mut turn = self.turns[self.turn_of(bookmark)].lock();
        let mut dvas: SmallVec<[Dva; DVAS_PER_BP]> = SmallVec::new();
        for copy in 0..copies.clamp(1, DVAS_PER_BP) {
            let Some(dva) = self.allocate_copy(&mut turn, psize, copy, txg, &dvas) else {
                dvas.iter().for_each(|dva| self.untake(dva, txg));
                return Err(Error::NoSpace);
            };
            dvas.push(dva);
        }
        Ok(dvas)
    }

    /// Gives back what was allocated for `txg` and is not going to be used.
    pub(crate) fn untake(&self, dva: &Dva, txg: Txg) {
        if let Ok((group, id)) = self.place(dva.vdev, dva.offset, dva.asize) {
            let metaslab = &group.metaslabs[id as usize];
            if metaslab.state.lock().untake(dva.offset, dva.asize, txg).is_ok() {
                group.allocated.fetch_sub(dva.asize, Ordering::Relaxed);
            }
        }
    }

    /// Takes a given place for `txg`.
    ///
    /// # Errors
    /// `Damaged` when it lies in no metaslab or is not free.
    pub(crate) fn claim(&self, vdev: u32, offset: u64, asize: u64, txg: Txg) -> Result<()> {
        let (group, id) = self.place(vdev, offset, asize)?;
        group.metaslabs[id as usize].state.lock().take(offset, asize, txg)?;
        group.allocated.fetch_add(asize, Ordering::Relaxed);
        self.dirty.lock()[txg.slot()].insert((vdev, id));
        Ok(())
    }

    /// Frees a place in the syncing transaction group.
    ///
    /// # Errors
    /// `Damaged` when it lies in no metaslab or is free already.
    pub(crate) fn free(&self, vdev: u32, offset: u64, asize: u64, txg: Txg) -> Result<()> {
        let (group, id) = self.place(vdev, offset, asize)?;
        group.metaslabs[id as usize].state.lock().free(offset, asize)?;
        group.allocated.fetch_sub(asize, Ordering::Relaxed);
        self.deferred.fetch_add(asize, Ordering::Relaxed);
        self.dirty.lock()[txg.slot()].insert((vdev, id));
        Ok(())
    }

    /// The metaslabs touched by `txg` since the last call.
    pub(crate) fn take_dirty(&self, txg: Txg) -> BTreeSet<MsId> {
        core::mem::take(&mut self.dirty.lock()[txg.slot()])
    }

    /// Space on its way moves on one step.
    pub(crate) fn sync_done(&self, txg: Txg) -> Result<()> {
        let waiting = core::mem::take(&mut *self.waiting.lock());
        let mut still_waiting = BTreeSet::new();
        let mut result = Ok(());
        for (vdev, id) in waiting {
            let group = &self.groups[vdev as usize];
            let mut state = group.metaslabs[id as usize].state.lock();
            match state.sync_done(txg) {
                Ok(bytes) => drop(self.deferred.fetch_sub(bytes, Ordering::Relaxed)),
                Err(e) => result = Err(e),
            }
            if state.has_deferred() {
                still_waiting.insert((vdev, id));
            }
            let weight = state.weight();
            drop(state);
            group.order.lock().set(id, weight);
        }
        self.waiting.lock().append(&mut still_waiting);
        self.set_biases();
        result
    }

    /// Notes what a loaded metaslab offers.
    pub(crate) fn loaded(&self, vdev: u32, id: u32, weight: Weight) {
        self.groups[vdev as usize].order.lock().set(id, weight);
    }

    /// Corrects the allocated bytes by what the logs say that the space maps do not yet.
    pub(crate) fn apply_logs(&self, logs: &UnflushedLogs) {
        for group in &self.groups {
            let (allocated, freed) = logs.sums(group.info.id);
            group.allocated.fetch_add(allocated, Ordering::Relaxed);
            group.allocated.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// Notes what the space maps say is allocated.
    pub(crate) fn set_allocated(&self, vdev: u32, bytes: u64) {
        self.groups[vdev as usize].allocated.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn space(&self) -> Space {
        let groups = || self.groups.iter().filter(|g| !g.info.is_excluded);
        let size: u64 = groups().map(Group::size).sum();
        let allocated: u64 = groups().map(|g| g.allocated.load(Ordering::Relaxed)).sum();
        let deferred = self.deferred.load(Ordering::Relaxed);
        let slop = (size >> SLOP_SHIFT).min(SLOP_MAX).max((size / 2).min(SLOP_MIN));
        Space {
            size,
            allocated,
            free: size.saturating_sub(allocated).saturating_sub(deferred),
            deferred,
            usable_by_fs: size - slop,
        }
    }

    /// The metaslab a place lies in.
    ///
    /// # Errors
    /// `Damaged` when it lies in none, or in two.
    pub(crate) fn place(&self, vdev: u32, offset: u64, asize: u64) -> Result<(&Group, u32)> {
        let group = self.groups.get(vdev as usize).ok_or(Error::Damaged)?;
        let id = offset >> group.info.metaslab_shift;
        let metaslab = usize::try_from(id).ok().and_then(|id| group.metaslabs.get(id));
        if !metaslab.is_some_and(|m| m.holds(offset, asize)) {
            return Err(Error::Damaged);
        }
        Ok((group, id as u32))
    }

    fn turn_of(&self, bookmark: &Bookmark) -> usize {
        if self.turns.len() == 1 {
            return 0;
        }
        let mixed = bookmark.objset.wrapping_mul(31).wrapping_add(bookmark.object.0).wrapping_mul(31)
            ^ bookmark.blkid >> BLOCKS_PER_ALLOCATOR_SHIFT;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.turns.len()
    }

    fn allocate_copy(
        &self,
        turn: &mut Turn,
        psize: u64,
        copy: usize,
        txg: Txg,
        others: &[Dva],
    ) -> Option<Dva> {
        let nr = self.groups.len();
        // Vdevs without a copy of this block first, beginning with the one whose turn it is.
        let first = turn.group + copy;
        let by_turn = (0..nr).map(|i| (first + i) % nr);
        let has_copy = |group: &usize| others.iter().any(|dva| dva.vdev as usize == *group);
        let (repeated, fresh): (SmallVec<[usize; 8]>, SmallVec<[usize; 8]>) = by_turn.partition(has_copy);
        for index in fresh.into_iter().chain(repeated) {
            let group = &self.groups[index];
            if group.info.is_excluded || group.metaslabs.is_empty() {
                continue;
            }
            let asize = self.vdevs[index].asize_of(psize);
            let Some((id, offset)) = group.allocate(&mut turn.active[index][copy], asize, txg, others) else {
                continue;
            };
            group.allocated.fetch_add(asize, Ordering::Relaxed);
            self.dirty.lock()[txg.slot()].insert((group.info.id, id));
            if copy == 0 {
                turn.advance(index, nr, asize, group.due());
            }
            return Some(Dva::new(group.info.id, offset, asize));
        }
        None
    }

    fn set_biases(&self) {
        let space = self.space();
        for group in &self.groups {
            let size = group.size().max(1);
            let free = size.saturating_sub(group.allocated.load(Ordering::Relaxed));
            // Both as shares of 1024.
            let own = (u128::from(free) * 1024 / u128::from(size)) as i64;
            let all = (u128::from(space.free) * 1024 / u128::from(space.size.max(1))) as i64;
            group.bias.store((own - all) * ALIQUOT as i64 / 1024, Ordering::Relaxed);
        }
    }
}

impl Turn {
    fn advance(&mut self, group: usize, nr: usize, bytes: u64, due: u64) {
        if group != self.group {
            (self.group, self.bytes) = (group, 0);
        }
        self.bytes += bytes;
        if self.bytes >= due {
            (self.group, self.bytes) = ((group + 1) % nr, 0);
        }
    }
}

impl Group {
    fn new(vdev: &Vdev) -> Self {
        let info = *vdev.info();
        let size = 1u64 << info.metaslab_shift.min(63);
        let nr = vdev.nr_metaslabs();
        let metaslabs: Vec<Metaslab> =
            (0..nr).map(|id| Metaslab::new(id * size, size, info.ashift)).collect();
        let order =
            Order { by_weight: BTreeSet::new(), weights: alloc::vec![Weight::default(); metaslabs.len()] };
        Self {
            info,
            metaslabs,
            array: AtomicU64::new(info.metaslab_array.0),
            order: Mutex::new(order),
            allocated: AtomicU64::new(0),
            bias: AtomicI64::new(0),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        (self.metaslabs.len() as u64) << self.info.metaslab_shift
    }

    fn due(&self) -> u64 {
        ALIQUOT.saturating_add_signed(self.bias.load(Ordering::Relaxed)).max(ALIQUOT / 8)
    }

    fn allocate(&self, active: &mut Option<u32>, asize: u64, txg: Txg, others: &[Dva]) -> Option<(u32, u64)> {
        let others: SmallVec<[u64; DVAS_PER_BP]> =
            others.iter().filter(|dva| dva.vdev == self.info.id).map(|dva| dva.offset).collect();
        // Rather near another copy than nowhere; and better in another metaslab than in the same.
        let own = self.size();
        let distances = [own >> DISTANCE_SHIFT, 1 << self.info.metaslab_shift, 0];
        let distances = if others.is_empty() { &distances[2..] } else { &distances[..] };
        for &distance in distances {
            let is_apart = |id: u32| {
                let start = u64::from(id) << self.info.metaslab_shift;
                others.iter().all(|&o| {
                    (o >> self.info.metaslab_shift << self.info.metaslab_shift).abs_diff(start) >= distance
                })
            };
            if let Some(id) = active.filter(|id| is_apart(*id))
                && let Some(offset) = self.allocate_in(id, asize, txg)
            {
                return Some((id, offset));
            }
            for id in self.candidates(asize, is_apart) {
                if let Some(offset) = self.allocate_in(id, asize, txg) {
                    *active = Some(id);
                    return Some((id, offset));
                }
            }
        }
        None
    }

    fn allocate_in(&self, id: u32, asize: u64, txg: Txg) -> Option<u64> {
        let metaslab = &self.metaslabs[id as usize];
        let mut state = metaslab.state.lock();
        let offset = state.allocate(&metaslab.extent, asize, txg);
        if offset.is_none() {
            let weight = state.weight();
            drop(state);
            self.order.lock().set(id, weight);
        }
        offset
    }

    /// Metaslabs that may have room, best first.
    fn candidates(&self, asize: u64, is_wanted: impl Fn(u32) -> bool) -> SmallVec<[u32; 8]> {
        let order = self.order.lock();
        let roomy = order.by_weight.iter().take_while(|(Reverse(w), _)| !w.is_too_small_for(asize));
        roomy.map(|(_, id)| *id).filter(|id| is_wanted(*id)).take(CANDIDATES_MAX).collect()
    }
}

impl Order {
    fn set(&mut self, id: u32, weight: Weight) {
        let Some(old) = self.weights.get_mut(id as usize) else { return };
        self.by_weight.remove(&(Reverse(*old), id));
        *old = weight;
        if weight != Weight::default() {
            self.by_weight.insert((Reverse(weight), id));
        }
    }
}
