//! The name cache: (directory, name) to dentry, or to the knowledge that there is none.
//!
//! A hit costs one hash, one short spin lock and one reference count. The table is split into shards; each shard
//! has two locks: `table`, held for a probe, and `changing`, held across a file system's lookup or change of a name
//! that hashes there. So a miss can never insert what a concurrent unlink has just made untrue: both hold
//! `changing`.
//!
//! Bounded: each shard evicts by the clock rule. A dentry that anyone but the cache refers to stays, which keeps
//! the one-dentry-per-directory invariant (a child refers to its parent, so leaves go first).
//!
//! Nothing is dropped while a spin lock is held: dropping the last reference to a vnode may do real work.
use crate::dentry::{DentryRef, Name};
use crate::mount::Mount;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashTable;
use rt::{Mutex, MutexGuard, SpinLock};

/// Rank of the change locks: above nothing but the rename lock; file systems lock inside.
pub(crate) const RANK_CHANGE: u16 = 0;

/// Slots looked at for one eviction.
const SWEEP_MAX: usize = 32;

/// What the cache knows of a name.
pub(crate) enum Cached {
    Hit(DentryRef),
    /// There is no such name.
    Negative,
    Miss,
}

struct Slot {
    hash: u64,
    dir: u64,
    name: Name,
    target: Option<DentryRef>,
    is_referenced: bool,
}

#[derive(Default)]
struct Table {
    index: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    hand: usize,
}

struct Shard {
    changing: Mutex<(), RANK_CHANGE>,
    table: SpinLock<Table>,
}

pub(crate) type ChangeGuard<'a> = MutexGuard<'a, (), RANK_CHANGE>;

pub(crate) struct NameCache {
    shards: Box<[Shard]>,
    seed: u64,
    slots_max: usize,
}

impl NameCache {
    /// A cache of about `entries_max` names.
    pub(crate) fn new(entries_max: usize) -> Self {
        let nr_shards = (entries_max / 64).clamp(1, 256).next_power_of_two();
        let mut seed = [0; 8];
        rt::fill_random(&mut seed);
        let shard = |_| Shard { changing: Mutex::new(()), table: SpinLock::default() };
        Self {
            shards: (0..nr_shards).map(shard).collect(),
            seed: u64::from_le_bytes(seed),
            slots_max: (entries_max / nr_shards).max(8),
        }
    }

    /// The hash of a name in a directory, for the calls below.
    pub(crate) fn hash(&self, dir: u64, name: &[u8]) -> u64 {
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |h: u64, word: u64| {
            let wide = u128::from(h ^ word).wrapping_mul(u128::from(K));
            (wide as u64) ^ ((wide >> 64) as u64)
        };
        let mut h = mix(self.seed ^ dir, name.len() as u64);
        let mut chunks = name.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            h = mix(h, u64::from_le_bytes(word));
        }
        let mut last = 0;
        for &b in chunks.remainder() {
            last = last << 8 | u64::from(b);
        }
        mix(h, last)
    }

    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)]
    }

    /// What is known.
    pub(crate) fn find(&self, hash: u64, dir: u64, name: &[u8]) -> Cached {
        let mut table = self.shard(hash).table.lock();
        let Some(slot) = table.slot_mut(hash, dir, name) else { return Cached::Miss };
        slot.is_referenced = true;
        match &slot.target {
            Some(dentry) => Cached::Hit(dentry.clone()),
            None => Cached::Negative,
        }
    }

    /// Keeps every other lookup miss and change of names of this shard out.
    pub(crate) fn lock_change(&self, hash: u64) -> ChangeGuard<'_> {
        self.shard(hash).changing.lock()
    }

    /// As `lock_change` for two names, in an order that cannot deadlock.
    pub(crate) fn lock_change_two(&self, a: u64, b: u64) -> (ChangeGuard<'_>, Option<ChangeGuard<'_>>) {
        let index = |hash: u64| (hash >> 48) as usize & (self.shards.len() - 1);
        let (low, high) = (index(a).min(index(b)), index(a).max(index(b)));
        let first = self.shards[low].changing.lock();
        let second = (low != high).then(|| self.shards[high].changing.lock());
        (first, second)
    }

    /// Records what `name` is now. The caller holds the change lock.
    pub(crate) fn put(&self, hash: u64, dir: u64, name: &[u8], target: Option<DentryRef>) {
        let mut table = self.shard(hash).table.lock();
        let old = match table.slot_mut(hash, dir, name) {
            Some(slot) => core::mem::replace(&mut slot.target, target),
            None => {
                let evicted = table.make_room(self.slots_max);
                table.insert(Slot { hash, dir, name: Name::from_slice(name), target, is_referenced: false });
                evicted
            }
        };
        drop(table);
        drop(old);
    }

    /// Forgets `name` and gives what was known.
    pub(crate) fn take(&self, hash: u64, dir: u64, name: &[u8]) -> Option<DentryRef> {
        let mut table = self.shard(hash).table.lock();
        let at = table.position(hash, dir, name)?;
        let slot = table.remove(at);
        drop(table);
        slot.and_then(|s| s.target)
    }

    /// Forgets every unused name of `mount`; how many names that are in use remain.
    pub(crate) fn purge(&self, mount: &Arc<Mount>) -> usize {
        loop {
            let (mut nr_dropped, mut nr_kept) = (0, 0);
            for shard in &self.shards {
                let (dropped, kept) = shard.table.lock().purge(mount);
                nr_dropped += dropped.len();
                nr_kept += kept;
            }
            // Parents become unused when their children are gone: again, until nothing changes.
            if nr_dropped == 0 {
                return nr_kept;
            }
        }
    }

    /// Forgets every unused name (memory is short, or a test wants cold lookups).
    pub(crate) fn shrink(&self) {
        for shard in &self.shards {
            let dropped = shard.table.lock().drop_unused();
            drop(dropped);
        }
    }

    /// Names held.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.table.lock().index.len()).sum()
    }
}

impl Table {
    fn position(&self, hash: u64, dir: u64, name: &[u8]) -> Option<u32> {
        let is_it = |at: &u32| {
            let slot = self.slots.get(*at as usize).and_then(Option::as_ref);
            slot.is_some_and(|s| s.hash == hash && s.dir == dir && s.name[..] == *name)
        };
        self.index.find(hash, is_it).copied()
    }

    fn slot_mut(&mut self, hash: u64, dir: u64, name: &[u8]) -> Option<&mut Slot> {
        let at = self.position(hash, dir, name)?;
        self.slots.get_mut(at as usize)?.as_mut()
    }

    fn insert(&mut self, slot: Slot) {
        let hash = slot.hash;
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(slot);
                at
            }
            None => {
                self.slots.push(Some(slot));
                (self.slots.len() - 1) as u32
            }
        };
        let Self { index, slots, .. } = self;
        index.insert_unique(hash, at, |at| slots[*at as usize].as_ref().map_or(0, |s| s.hash));
    }

    fn remove(&mut self, at: u32) -> Option<Slot> {
        let slot = self.slots.get_mut(at as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(slot.hash, |x| *x == at) {
            entry.remove();
        }
        self.free.push(at);
        Some(slot)
    }

    fn is_unused(slot: &Slot) -> bool {
        slot.target.as_ref().is_none_or(|d| Arc::strong_count(d) == 1)
    }

    /// Evicts one name if the table is full and one is unused; what it referred to, for the caller to drop.
    fn make_room(&mut self, slots_max: usize) -> Option<DentryRef> {
        if self.index.len() < slots_max {
            return None;
        }
        for _ in 0..SWEEP_MAX {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) else { continue };
            if core::mem::take(&mut slot.is_referenced) || !Self::is_unused(slot) {
                continue;
            }
            return self.remove(at as u32).and_then(|s| s.target);
        }
        None
    }

    fn purge(&mut self, mount: &Arc<Mount>) -> (Vec<Slot>, usize) {
        let (mut dropped, mut nr_kept) = (Vec::new(), 0);
        for at in 0..self.slots.len() {
            let Some(Some(slot)) = self.slots.get(at) else { continue };
            // Negative names are found through their directory's id, which is never used again: they age out.
            if !slot.target.as_ref().is_some_and(|d| Arc::ptr_eq(d.mount(), mount)) {
                continue;
            }
            if Self::is_unused(slot) {
                dropped.extend(self.remove(at as u32));
            } else {
                nr_kept += 1;
            }
        }
        (dropped, nr_kept)
    }

    fn drop_unused(&mut self) -> Vec<Slot> {
        let unused = |at: &usize| self.slots[*at].as_ref().is_some_and(Self::is_unused);
        let all: Vec<usize> = (0..self.slots.len()).filter(unused).collect();
        all.into_iter().filter_map(|at| self.remove(at as u32)).collect()
    }
}
