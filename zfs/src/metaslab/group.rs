//! The metaslabs of one vdev, and which of them is next.
//!
//! Invariant: the metaslab kept for intent logs is in no order of preference, so nothing else is put into it. It is
//! chosen when the vdev is loaded and only in memory; what lies in it already stays there.
use super::list::Metaslabs;
use super::metaslab::{MapObject, Metaslab, Weight};
use super::pool::SpaceClass;
use crate::Result;
use crate::vdev::{AllocClass, TopInfo};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::{Dva, ObjectId, Txg};
use rt::Mutex;
use smallvec::SmallVec;

const RANK_ORDER: u16 = 840;
const RANK_CHECKPOINT: u16 = 847;

/// Bytes a vdev gets before it is the next one's turn.
pub(super) const ALIQUOT: u64 = 2 << 20;
/// Copies on one vdev are this share of it apart.
const DISTANCE_SHIFT: u32 = 3;
/// Metaslabs tried under one order of preference.
const CANDIDATES_MAX: usize = 64;
/// A vdev with more metaslabs than this sets one aside for intent logs (`zfs_embedded_slog_min_ms`).
const EMBEDDED_LOG_MIN: usize = 64;
/// No metaslab.
const NONE: u32 = u32::MAX;

/// The metaslabs of a vdev.
#[derive(Debug)]
pub(crate) struct Group {
    pub info: TopInfo,
    pub metaslabs: Metaslabs,
    /// MOS object with the numbers of the space maps, 0 when there is none yet.
    pub array: AtomicU64,
    /// MOS object with the groups from which logs matter to each metaslab, 0 when there is none yet.
    pub unflushed_array: AtomicU64,
    top_zap: AtomicU64,
    /// The list of what a checkpoint keeps; only the sync thread's.
    pub(super) checkpoint: Mutex<Option<MapObject>, RANK_CHECKPOINT>,
    /// Bytes in it.
    pub(super) checkpointed: AtomicU64,
    order: Mutex<Order, RANK_ORDER>,
    pub(super) allocated: AtomicU64,
    /// Of those, in the metaslab kept for logs.
    pub(super) log_allocated: AtomicU64,
    embedded_log: AtomicU32,
    is_excluded: AtomicBool,
    /// How much more or less than an aliquot is its due.
    pub(super) bias: AtomicI64,
}

/// Metaslabs by preference.
#[derive(Debug, Default)]
struct Order {
    by_weight: BTreeSet<(Reverse<Weight>, u32)>,
    weights: Vec<Weight>,
    /// The allocator that is active in each, plus 1; 0 for none.
    holders: Vec<u16>,
}

/// Who allocates: allocators keep out of each other's metaslabs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub class: SpaceClass,
    pub asize: u64,
    pub txg: Txg,
    /// Copies of the block that have their place already.
    pub others: &'a [Dva],
    /// Number of the allocator, plus 1.
    pub holder: u16,
}

impl Group {
    pub(crate) fn new(info: TopInfo) -> Self {
        let size = 1u64 << info.metaslab_shift.min(63);
        let metaslabs: Vec<Metaslab> =
            (0..info.nr_metaslabs()).map(|id| Metaslab::new(id * size, size, info.ashift)).collect();
        let order = Order {
            by_weight: BTreeSet::new(),
            weights: alloc::vec![Weight::default(); metaslabs.len()],
            holders: alloc::vec![0; metaslabs.len()],
        };
        Self {
            info,
            metaslabs: Metaslabs::new(metaslabs),
            array: AtomicU64::new(info.metaslab_array.0),
            unflushed_array: AtomicU64::new(0),
            top_zap: AtomicU64::new(info.top_zap.0),
            checkpoint: Mutex::new(None),
            checkpointed: AtomicU64::new(0),
            order: Mutex::new(order),
            allocated: AtomicU64::new(0),
            log_allocated: AtomicU64::new(0),
            embedded_log: AtomicU32::new(NONE),
            is_excluded: AtomicBool::new(info.is_excluded),
            bias: AtomicI64::new(0),
        }
    }

    /// Takes in what the vdev has grown by, up to `nr` metaslabs in all. For the sync thread.
    ///
    /// # Errors
    /// `Busy` when it has grown too often since it was opened.
    pub(super) fn grow(&self, nr: usize) -> Result<()> {
        let size = 1u64 << self.info.metaslab_shift.min(63);
        let before = self.metaslabs.len();
        let make = |id: usize| {
            let metaslab = Metaslab::new(id as u64 * size, size, self.info.ashift);
            metaslab.set_all_free().map(|()| metaslab)
        };
        let more = (before..nr).map(make).collect::<Result<Vec<_>>>()?;
        if more.is_empty() {
            return Ok(());
        }
        {
            let mut order = self.order.lock();
            order.weights.resize(nr, Weight::default());
            order.holders.resize(nr, 0);
        }
        self.metaslabs.extend(more)?;
        if self.embedded_log().is_none() {
            self.choose_embedded_log();
        }
        for id in before..nr {
            let weight = self.metaslabs[id].state.lock().weight();
            self.set_weight(id as u32, weight);
        }
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        (self.metaslabs.len() as u64) << self.info.metaslab_shift
    }

    /// The vdev's ZAP, 0 while it has none.
    pub(crate) fn top_zap(&self) -> ObjectId {
        ObjectId(self.top_zap.load(Ordering::Relaxed))
    }

    pub(crate) fn set_top_zap(&self, zap: ObjectId) {
        self.top_zap.store(zap.0, Ordering::Relaxed);
    }

    /// Nothing new may be put here.
    pub(crate) fn is_excluded(&self) -> bool {
        self.is_excluded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_excluded(&self, is_excluded: bool) {
        self.is_excluded.store(is_excluded, Ordering::Relaxed);
    }

    /// The metaslab kept for intent logs.
    pub(crate) fn embedded_log(&self) -> Option<u32> {
        Some(self.embedded_log.load(Ordering::Relaxed)).filter(|id| *id != NONE)
    }

    /// Sets aside a metaslab for intent logs, if the vdev is large enough: the emptiest, of several the last, so that
    /// a thin medium is still filled from its start.
    pub(super) fn choose_embedded_log(&self) {
        if self.info.class != AllocClass::Normal || self.metaslabs.len() <= EMBEDDED_LOG_MIN {
            return;
        }
        let free = |m: &Metaslab| m.state.lock().allocatable.bytes();
        let emptiest = self.metaslabs.iter().map(free).enumerate().max_by_key(|(id, free)| (*free, *id));
        let Some((id, free)) = emptiest else { return };
        let allocated = (1 << self.info.metaslab_shift) - free;
        self.order.lock().set(id as u32, Weight::default());
        self.log_allocated.store(allocated, Ordering::Relaxed);
        self.embedded_log.store(id as u32, Ordering::Relaxed);
    }

    /// Corrects the allocated bytes.
    pub(super) fn account(&self, id: u32, bytes: i64) {
        self.allocated.fetch_add(bytes.cast_unsigned(), Ordering::Relaxed);
        if self.embedded_log() == Some(id) {
            self.log_allocated.fetch_add(bytes.cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// Notes what a metaslab offers.
    pub(super) fn set_weight(&self, id: u32, weight: Weight) {
        if self.embedded_log() != Some(id) {
            self.order.lock().set(id, weight);
        }
    }

    pub(super) fn due(&self) -> u64 {
        ALIQUOT.saturating_add_signed(self.bias.load(Ordering::Relaxed)).max(ALIQUOT / 8)
    }

    /// Metaslab and offset of a new place, and whether the metaslab was not yet among those touched by the group.
    pub(super) fn allocate(
        &self,
        active: &mut Option<u32>,
        request: &Request<'_>,
    ) -> Option<(u32, u64, bool)> {
        if request.class == SpaceClass::EmbeddedLog {
            let id = self.embedded_log()?;
            return self.allocate_in(id, request);
        }
        let others: SmallVec<[u64; DVAS_PER_BP]> =
            request.others.iter().filter(|dva| dva.vdev == self.info.id).map(|dva| dva.offset).collect();
        // Rather near another copy than nowhere; and better in another metaslab than in the same.
        let distances = [self.size() >> DISTANCE_SHIFT, 1 << self.info.metaslab_shift, 0];
        let distances = if others.is_empty() { &distances[2..] } else { &distances[..] };
        for &distance in distances {
            let is_apart = |id: u32| {
                let start = u64::from(id) << self.info.metaslab_shift;
                others.iter().all(|&o| {
                    (o >> self.info.metaslab_shift << self.info.metaslab_shift).abs_diff(start) >= distance
                })
            };
            if let Some(id) = active.filter(|id| is_apart(*id))
                && let Some(place) = self.allocate_in(id, request)
            {
                return Some(place);
            }
            for id in self.candidates(request, is_apart) {
                if let Some(place) = self.allocate_in(id, request) {
                    self.order.lock().move_holder(active.replace(id), id, request.holder);
                    return Some(place);
                }
            }
        }
        None
    }

    fn allocate_in(&self, id: u32, request: &Request<'_>) -> Option<(u32, u64, bool)> {
        let metaslab = self.metaslabs.get(id as usize)?;
        let mut state = metaslab.state.lock();
        let Some(offset) = state.allocate(&metaslab.extent, request.asize, request.txg) else {
            let weight = state.weight();
            drop(state);
            self.set_weight(id, weight);
            return None;
        };
        let is_new = state.mark_dirty(request.txg);
        drop(state);
        self.account(id, request.asize.cast_signed());
        Some((id, offset, is_new))
    }

    /// Metaslabs that may have room, best first; those where another allocator is active come last.
    fn candidates(&self, request: &Request<'_>, is_wanted: impl Fn(u32) -> bool) -> SmallVec<[u32; 8]> {
        let order = self.order.lock();
        let roomy = order.by_weight.iter().take_while(|(Reverse(w), _)| !w.is_too_small_for(request.asize));
        let wanted = roomy.map(|(_, id)| *id).filter(|id| is_wanted(*id)).take(CANDIDATES_MAX);
        let is_ours =
            |id: &u32| order.holders.get(*id as usize).is_none_or(|h| *h == 0 || *h == request.holder);
        let (mut ours, others): (SmallVec<[u32; 8]>, SmallVec<[u32; 8]>) = wanted.partition(is_ours);
        ours.extend(others);
        ours
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

    /// An allocator leaves one metaslab for another.
    fn move_holder(&mut self, from: Option<u32>, to: u32, holder: u16) {
        if let Some(place) = from.and_then(|id| self.holders.get_mut(id as usize)).filter(|h| **h == holder) {
            *place = 0;
        }
        if let Some(place) = self.holders.get_mut(to as usize) {
            *place = holder;
        }
    }
}
