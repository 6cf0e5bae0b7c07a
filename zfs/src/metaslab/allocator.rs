//! The allocator: which vdev, which metaslab.
//!
//! Vdevs of a class take turns, each for an aliquot biased by how much freer it is than the others. Within a vdev an
//! allocator stays in its active metaslab as long as that has room. Copies of a block go to different vdevs, or at
//! least an eighth of the vdev apart: one damaged region must not take them all.
//!
//! Several allocators work side by side, each with its own turns and active metaslabs. A block's bookmark chooses the
//! allocator, so the choice is the same each time. Intent log blocks are allocated by any thread in open context: each
//! class has a lock of its own in each allocator, so they wait for nobody who writes a transaction group.
//!
//! Locks, in this order: an allocator's turn, a group's order, a metaslab. Nothing is read or written under them.
use super::group::{ALIQUOT, Group, Request};
use super::log_write::Logs;
use super::metaslab::Weight;
use super::pool::{NR_CLASSES, SpaceClass};
use crate::vdev::TopInfo;
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::{Bookmark, Dva, ObjectId, Txg};
use rt::{Mutex, SpinLock};
use smallvec::SmallVec;

const RANK_TURN: u16 = 830;
const RANK_DIRTY: u16 = 845;
const RANK_LOGS: u16 = 846;

/// Blocks of a file within this many of each other use the same allocator.
const BLOCKS_PER_ALLOCATOR_SHIFT: u32 = 12;

/// The vdevs' metaslabs, by number of the vdev.
pub(crate) type Groups = Arc<[Arc<Group>]>;

/// An allocator's turn in one class.
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
    groups: SpinLock<Groups>,
    turns: Vec<[Mutex<Turn, RANK_TURN>; NR_CLASSES]>,
    /// Metaslabs touched by each transaction group and not yet written.
    dirty: Mutex<[BTreeSet<MsId>; 4], RANK_DIRTY>,
    /// Metaslabs with space on its way to being allocatable.
    pub waiting: Mutex<BTreeSet<MsId>, RANK_DIRTY>,
    pub(super) deferred: AtomicU64,
    /// What becomes allocatable is noted, to be discarded.
    pub(super) notes_freed: AtomicBool,
    /// Only the sync thread's.
    pub(super) logs: Mutex<Logs, RANK_LOGS>,
}

impl Allocator {
    /// Metaslabs of vdevs whose numbers are their indexes.
    pub(crate) fn new(vdevs: impl IntoIterator<Item = TopInfo>, nr_allocators: usize) -> Self {
        let groups: Groups = vdevs.into_iter().map(|info| Arc::new(Group::new(info))).collect();
        Self {
            turns: (0..nr_allocators.max(1)).map(|_| core::array::from_fn(|_| Mutex::default())).collect(),
            groups: SpinLock::new(groups),
            dirty: Mutex::default(),
            waiting: Mutex::default(),
            deferred: AtomicU64::new(0),
            notes_freed: AtomicBool::new(false),
            logs: Mutex::default(),
        }
    }

    /// The vdevs' metaslabs as they are now.
    pub(crate) fn groups(&self) -> Groups {
        self.groups.lock().clone()
    }

    /// The metaslabs of one vdev.
    pub(crate) fn group(&self, vdev: u32) -> Option<Arc<Group>> {
        self.groups.lock().get(vdev as usize).cloned()
    }

    /// Takes in a new vdev, all of whose space is free, or one that takes the number of a vdev that was removed.
    ///
    /// # Errors
    /// `Invalid` when its number is neither the next nor that of a vdev without space.
    pub(crate) fn add_group(&self, info: TopInfo) -> Result<()> {
        let group = Arc::new(Group::new(info));
        load_empty(&group)?;
        let mut groups = self.groups();
        let id = info.id as usize;
        let mut all: Vec<Arc<Group>> = groups.iter().cloned().collect();
        if id == all.len() {
            all.push(group);
        } else {
            let old = all.get_mut(id).filter(|old| old.metaslabs.is_empty());
            *old.ok_or(Error::Invalid)? = group;
        }
        groups = all.into();
        *self.groups.lock() = groups;
        Ok(())
    }

    /// Takes in what a vdev has grown by: all of it is free. For the sync thread.
    ///
    /// # Errors
    /// `NotFound` when there is no such vdev; `Busy` when it has grown too often since it was opened.
    pub(crate) fn grow_group(&self, info: &TopInfo) -> Result<()> {
        let group = self.group(info.id).ok_or(Error::NotFound)?;
        group.grow(usize::try_from(info.nr_metaslabs()).map_err(|_| Error::TooLarge)?)
    }

    /// Whether nothing is allocated on a vdev, and nothing freed waits there.
    pub(crate) fn is_empty(&self, id: u32) -> bool {
        let is_waiting = self.waiting.lock().iter().any(|(vdev, _)| *vdev == id);
        !is_waiting && self.group(id).is_some_and(|g| g.allocated.load(Ordering::Relaxed) == 0)
    }

    /// A vdev is removed: its number stays taken, its space is gone.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while anything is allocated there or waits.
    pub(crate) fn remove_group(&self, id: u32) -> Result<()> {
        let old = self.group(id).ok_or(Error::NotFound)?;
        let is_waiting = self.waiting.lock().iter().any(|(vdev, _)| *vdev == id);
        if is_waiting || old.allocated.load(Ordering::Relaxed) != 0 {
            return Err(Error::Busy);
        }
        let none = ObjectId(0);
        let info =
            TopInfo { is_absent: true, is_excluded: true, top_zap: none, metaslab_array: none, ..old.info };
        let mut all: Vec<Arc<Group>> = self.groups().iter().cloned().collect();
        self.forget_behind(id);
        all[id as usize] = Arc::new(Group::new(info));
        *self.groups.lock() = all.into();
        Ok(())
    }

    /// Allocates `copies` places for `psize` bytes.
    ///
    /// # Errors
    /// `NoSpace` when no place is long enough; then nothing is allocated.
    pub(crate) fn allocate(
        &self,
        class: SpaceClass,
        psize: u64,
        copies: usize,
        txg: Txg,
        bookmark: &Bookmark,
    ) -> Result<SmallVec<[Dva; DVAS_PER_BP]>> {
        let groups = self.groups();
        let index = self.turn_of(bookmark);
        for &class in class.chain() {
            if !groups.iter().any(|g| g.serves(class)) {
                continue;
            }
            let mut turn = self.turns[index][class as usize].lock();
            if turn.active.len() < groups.len() {
                turn.active.resize(groups.len(), [None; DVAS_PER_BP]);
            }
            let mut dvas: SmallVec<[Dva; DVAS_PER_BP]> = SmallVec::new();
            for copy in 0..copies.clamp(1, DVAS_PER_BP) {
                let holder = index as u16 + 1;
                let request = Request { class, asize: 0, txg, others: &dvas, holder };
                let Some(dva) = self.allocate_copy(&groups, &mut turn, psize, copy, request) else { break };
                dvas.push(dva);
            }
            if dvas.len() == copies.clamp(1, DVAS_PER_BP) {
                return Ok(dvas);
            }
            dvas.iter().for_each(|dva| self.untake(dva, txg));
        }
        Err(Error::NoSpace)
    }

    /// Gives back what was allocated for `txg` and is not going to be used.
    pub(crate) fn untake(&self, dva: &Dva, txg: Txg) {
        if let Ok((group, id)) = self.place(dva.vdev, dva.offset, dva.asize) {
            let metaslab = &group.metaslabs[id as usize];
            if metaslab.state.lock().untake(dva.offset, dva.asize, txg).is_ok() {
                group.account(id, -dva.asize.cast_signed());
            }
        }
    }

    /// Takes a given place for `txg`.
    ///
    /// # Errors
    /// `Damaged` when it lies in no metaslab or is not free.
    pub(crate) fn claim(&self, vdev: u32, offset: u64, asize: u64, txg: Txg) -> Result<()> {
        let (group, id) = self.place(vdev, offset, asize)?;
        let mut state = group.metaslabs[id as usize].state.lock();
        state.take(offset, asize, txg)?;
        let is_new = state.mark_dirty(txg);
        drop(state);
        group.account(id, asize.cast_signed());
        self.note_dirty(is_new, txg, (vdev, id));
        Ok(())
    }

    /// Frees a place in the syncing transaction group.
    ///
    /// # Errors
    /// `Damaged` when it lies in no metaslab or is free already.
    pub(crate) fn free(&self, vdev: u32, offset: u64, asize: u64, txg: Txg) -> Result<()> {
        let (group, id) = self.place(vdev, offset, asize)?;
        let mut state = group.metaslabs[id as usize].state.lock();
        state.free(offset, asize)?;
        let is_new = state.mark_dirty(txg);
        drop(state);
        group.account(id, -asize.cast_signed());
        self.deferred.fetch_add(asize, Ordering::Relaxed);
        self.note_dirty(is_new, txg, (vdev, id));
        Ok(())
    }

    pub(super) fn note_dirty(&self, is_new: bool, txg: Txg, id: MsId) {
        if is_new {
            self.dirty.lock()[txg.slot()].insert(id);
        }
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
            let Some(group) = self.group(vdev) else { continue };
            let mut state = group.metaslabs[id as usize].state.lock();
            if self.notes_freed.load(Ordering::Relaxed) {
                state.note_due(txg);
            }
            match state.sync_done(txg) {
                Ok(bytes) => drop(self.deferred.fetch_sub(bytes, Ordering::Relaxed)),
                Err(e) => result = Err(e),
            }
            if state.has_deferred() {
                still_waiting.insert((vdev, id));
            }
            let weight = state.weight();
            drop(state);
            group.set_weight(id, weight);
        }
        self.waiting.lock().append(&mut still_waiting);
        self.set_biases();
        result
    }

    /// Notes what a loaded metaslab offers.
    pub(crate) fn loaded(group: &Group, id: u32, weight: Weight) {
        group.set_weight(id, weight);
    }

    /// The metaslab a place lies in.
    ///
    /// # Errors
    /// `Damaged` when it lies in none, or in two.
    pub(crate) fn place(&self, vdev: u32, offset: u64, asize: u64) -> Result<(Arc<Group>, u32)> {
        let group = self.group(vdev).ok_or(Error::Damaged)?;
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
        groups: &Groups,
        turn: &mut Turn,
        psize: u64,
        copy: usize,
        request: Request<'_>,
    ) -> Option<Dva> {
        let nr = groups.len();
        // Vdevs without a copy of this block first, beginning with the one whose turn it is.
        let first = turn.group + copy;
        let by_turn = (0..nr).map(|i| (first + i) % nr).filter(|i| groups[*i].serves(request.class));
        let has_copy = |group: &usize| request.others.iter().any(|dva| dva.vdev as usize == *group);
        let (repeated, fresh): (SmallVec<[usize; 8]>, SmallVec<[usize; 8]>) = by_turn.partition(has_copy);
        for index in fresh.into_iter().chain(repeated) {
            let group = &groups[index];
            let asize = group.info.asize_of(psize);
            let request = Request { asize, ..request };
            let Some((id, offset, is_new)) = group.allocate(&mut turn.active[index][copy], &request) else {
                continue;
            };
            self.note_dirty(is_new, request.txg, (group.info.id, id));
            if copy == 0 {
                turn.advance(index, nr, asize, group.due());
            }
            return Some(Dva::new(group.info.id, offset, asize));
        }
        None
    }

    fn set_biases(&self) {
        let groups = self.groups();
        for class in SpaceClass::ALL {
            let (size, allocated) = self.figures(class);
            let all = share_of(size.saturating_sub(allocated), size);
            for group in groups.iter().filter(|g| class != SpaceClass::EmbeddedLog && g.serves(class)) {
                let (size, allocated) = group.figures(class);
                let own = share_of(size.saturating_sub(allocated), size);
                group.bias.store((own - all) * ALIQUOT as i64 / 1024, Ordering::Relaxed);
            }
        }
    }
}

/// A part in 1024ths of the whole.
fn share_of(part: u64, whole: u64) -> i64 {
    (u128::from(part) * 1024 / u128::from(whole.max(1))) as i64
}

/// A vdev without space maps: everything is free.
pub(super) fn load_empty(group: &Group) -> Result<()> {
    for (id, metaslab) in group.metaslabs.iter().enumerate() {
        metaslab.set_all_free()?;
        let weight = metaslab.state.lock().weight();
        Allocator::loaded(group, id as u32, weight);
    }
    group.choose_embedded_log();
    Ok(())
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
