//! Space of the pool promised to transactions: whether what is let in can be written.
//!
//! What it is: one account of the whole pool, in allocatable bytes as the allocator counts them, parity and padding
//! included. What it is not: quotas and reservations, which the object sets ask for themselves.
//!
//! Why a group that was let in can always be written:
//! 1. `free` is what could be allocated when the last group was done: neither what is allocated nor what was freed and
//!    still waits. Until the next group is done it only shrinks, and only by what is allocated.
//! 2. Whoever is let in has its worst case taken off before: while it runs, and, for what it left dirty, until its
//!    group is *on disk* (not only written out): there is no moment at which neither the promise nor `free` shows it.
//!    The worst case of a block is what the allocator would take on the least favourable vdev: whole sectors, parity,
//!    padding, every copy.
//! 3. The promise is made first and looked at then, so that any number of threads together are let in to no more
//!    than there is.
//! 4. Ordinary changes leave the whole reserve (the slop), those that free leave half of it, and log blocks, which are
//!    allocated without a promise, stop there too. Replaying leaves a quarter: what it does was let in before the crash
//!    with all of the reserve left. The rest is for what nobody promises: the pool's own objects, space maps, headers
//!    of gangs, and indirect blocks beyond those that are counted.
use super::storage::Space;
use crate::txg::TXG_SLOTS;
use crate::vdev::TopInfo;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::Txg;

/// Parts of one for the share of space that is not parity.
const WHOLE: u64 = 1 << 10;

/// How much of the reserve a change must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Ordinary,
    /// Half: it frees more than it takes.
    NetFree,
    /// A quarter: it was acknowledged.
    Replay,
}

/// The account.
#[derive(Debug)]
pub struct Room {
    free: AtomicU64,
    /// Freed, but not yet allocatable.
    waiting: AtomicU64,
    reserve: AtomicU64,
    /// Of 1024 bytes those that are not parity.
    net: AtomicU64,
    /// Worst vdev: shift of its sectors, parity, columns of data; a byte each.
    shape: AtomicU64,
    running: Arc<AtomicU64>,
    dirty: [AtomicU64; TXG_SLOTS],
    /// Somebody waits for what was freed: groups are to be written though nothing changed.
    is_wanted: AtomicBool,
}

/// What a running transaction was promised.
#[derive(Debug)]
pub(crate) struct Promise {
    running: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.running.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Room {
    /// Of a pool whose space is not known yet: everybody is let in.
    pub(super) fn new(tops: impl Iterator<Item = TopInfo>) -> Self {
        let room = Self {
            free: AtomicU64::new(u64::MAX),
            waiting: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            net: AtomicU64::new(WHOLE),
            shape: AtomicU64::new(0),
            running: Arc::default(),
            dirty: [const { AtomicU64::new(0) }; TXG_SLOTS],
            is_wanted: AtomicBool::new(false),
        };
        room.set_shape(tops);
        room
    }

    /// Allocatable bytes that a block of `bytes` takes at most, once.
    pub(crate) fn of_block(&self, bytes: u64) -> u64 {
        let shape = self.shape.load(Ordering::Relaxed);
        let (shift, parity, columns) = (shape & 0xff, shape >> 8 & 0xff, (shape >> 16 & 0xff).max(1));
        let sectors = bytes.div_ceil(1 << shift);
        let sectors = sectors.saturating_add(parity * sectors.div_ceil(columns));
        sectors.div_ceil(parity + 1).saturating_mul(parity + 1).saturating_mul(1 << shift)
    }

    /// Allocatable bytes as datasets are charged for them.
    pub(crate) fn net_of(&self, bytes: u64) -> u64 {
        let net = self.net.load(Ordering::Relaxed);
        (bytes / WHOLE).saturating_mul(net).saturating_add(bytes % WHOLE * net / WHOLE)
    }

    /// Bytes promised and not on disk.
    pub(crate) fn promised(&self) -> u64 {
        let dirty = self.dirty.iter().map(|d| d.load(Ordering::Relaxed)).fold(0, u64::saturating_add);
        self.running.load(Ordering::Relaxed).saturating_add(dirty)
    }

    /// Promises `bytes`, if they are there.
    pub(crate) fn promise(&self, bytes: u64, share: Share) -> Option<Promise> {
        self.running.fetch_add(bytes, Ordering::Relaxed);
        let promise = Promise { running: self.running.clone(), bytes };
        let needed = self.promised().saturating_add(self.reserve_left_by(share));
        (needed <= self.free.load(Ordering::Relaxed)).then_some(promise)
    }

    /// Whether `bytes` could be there once everything freed up to now is allocatable.
    pub(crate) fn may_have(&self, bytes: u64, share: Share) -> bool {
        let free = self.free.load(Ordering::Relaxed).saturating_add(self.waiting.load(Ordering::Relaxed));
        bytes.saturating_add(self.reserve_left_by(share)) <= free
    }

    /// Something that was let in became dirty.
    pub(crate) fn add_dirty(&self, txg: Txg, bytes: u64) {
        self.dirty[txg.slot()].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Asks for groups to be written, so that what was freed becomes allocatable.
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for since the last call.
    pub(crate) fn take_wanted(&self) -> bool {
        self.is_wanted.swap(false, Ordering::Relaxed)
    }

    /// The pool's space as it is now.
    pub(super) fn set(&self, space: &Space, tops: impl Iterator<Item = TopInfo>) {
        self.set_shape(tops);
        let net = space.file_size_net.checked_div(space.file_size / WHOLE).unwrap_or(WHOLE).clamp(1, WHOLE);
        self.net.store(net, Ordering::Relaxed);
        self.reserve.store(space.file_reserve, Ordering::Relaxed);
        self.waiting.store(space.deferred, Ordering::Relaxed);
        self.free.store(space.file_free, Ordering::Relaxed);
    }

    /// `txg` is on disk, or had nothing to write. To be told after [`Self::set`].
    pub(super) fn done(&self, txg: Txg) {
        self.dirty[txg.slot()].store(0, Ordering::Relaxed);
    }

    fn reserve_left_by(&self, share: Share) -> u64 {
        let reserve = self.reserve.load(Ordering::Relaxed);
        match share {
            Share::Ordinary => reserve,
            Share::NetFree => reserve / 2,
            Share::Replay => reserve / 4,
        }
    }

    fn set_shape(&self, tops: impl Iterator<Item = TopInfo>) {
        let worst = |(shift, parity, columns): (u64, u64, u64), top: TopInfo| {
            let own = u64::from(top.nr_columns).saturating_sub(top.nr_parity.into()).clamp(1, 255);
            let columns = if top.nr_parity > 0 { columns.min(own) } else { columns };
            (shift.max(top.ashift.into()), parity.max(top.nr_parity.into()), columns)
        };
        let (shift, parity, columns) = tops.fold((9, 0, 255), worst);
        self.shape.store(shift | parity << 8 | columns << 16, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(free: u64, deferred: u64, reserve: u64) -> Space {
        let size = 1 << 30;
        Space {
            file_free: free,
            file_reserve: reserve,
            deferred,
            file_size: size,
            file_size_net: size / 4 * 3,
            ..Space::default()
        }
    }

    #[test]
    fn a_promise_holds_until_its_group_is_on_disk() {
        let room = Room::new(core::iter::empty());
        room.set(&space(100 << 20, 10 << 20, 20 << 20), core::iter::empty());
        let first = room.promise(60 << 20, Share::Ordinary).unwrap();
        assert!(room.promise(30 << 20, Share::Ordinary).is_none(), "the reserve is left alone");
        let second = room.promise(30 << 20, Share::NetFree).unwrap();
        drop(second);
        room.add_dirty(Txg(5), 60 << 20);
        drop(first);
        assert!(room.promise(30 << 20, Share::Ordinary).is_none(), "what waits for its group counts");
        // Half of it became blocks.
        room.set(&space(70 << 20, 10 << 20, 20 << 20), core::iter::empty());
        room.done(Txg(5));
        assert!(room.promise(50 << 20, Share::Ordinary).is_some());
        assert!(room.promise(51 << 20, Share::Ordinary).is_none());
        assert!(room.may_have(60 << 20, Share::Ordinary), "with what was freed");
        assert!(!room.may_have(61 << 20, Share::Ordinary));
        assert_eq!(room.promised(), 0);
    }

    #[test]
    fn space_free_of_parity_is_a_share_of_all() {
        let room = Room::new(core::iter::empty());
        room.set(&space(1 << 20, 0, 0), core::iter::empty());
        assert_eq!(room.net_of(1 << 20), 3 << 18);
        assert_eq!(room.net_of(4), 3);
    }
}
