//! The dnodes in memory: by object number, bounded, evictable.
//!
//! Sharded by block of the dnode file, so that all slots of a block stand behind one lock: claiming the slots of a
//! large dnode is one step.
//!
//! A dnode is evicted only when the table holds the only reference: dirty ones stand on a dirty list, used ones are
//! held by their users. Invariant against the race of loading and evicting: a loader notes the shard's `nr_evicted`
//! before it reads the dnode's block and starts over if it moved; the dnode may have been loaded, changed, written and
//! evicted meanwhile, and the block's content read before would be old.
use super::dnode::Dnode;
use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;
use hashbrown::HashMap;
use ondisk::ObjectId;
use ondisk::dnode::DNODES_PER_BLOCK;
use rt::Mutex;

const SHARDS: usize = 32;
/// Looks at candidates for each dnode that is added beyond the bound.
const SWEEP: usize = 4;

#[derive(Clone)]
enum Entry {
    Dnode(Arc<Dnode>),
    /// A slot inside the large dnode that starts at this object.
    Inside(ObjectId),
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u64, Entry>,
    /// Candidates for eviction, in the order they are looked at.
    clock: VecDeque<u64>,
    nr_evicted: u64,
}

pub(super) struct DnodeTable {
    shards: Box<[Mutex<Shard, 650>]>,
    shard_max: usize,
}

/// What the table says about an object.
pub(super) enum Found {
    Dnode(Arc<Dnode>),
    /// Nothing; the state to pass to [`DnodeTable::insert_loaded`].
    Missing(u64),
}

/// How adding a new dnode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    Added,
    /// A slot is in use.
    Taken,
    /// What the caller knows of the dnode file may be old.
    LookAgain,
}

impl DnodeTable {
    /// For about `max` unused dnodes.
    pub(super) fn new(max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, shard_max: (max / SHARDS).max(1) }
    }

    fn shard(&self, id: ObjectId) -> &Mutex<Shard, 650> {
        &self.shards[(id.0 / DNODES_PER_BLOCK as u64) as usize % SHARDS]
    }

    /// # Errors
    /// `NotFound` for a slot inside a large dnode.
    pub(super) fn find(&self, id: ObjectId) -> Result<Found> {
        let shard = self.shard(id).lock();
        match shard.entries.get(&id.0) {
            Some(Entry::Dnode(dnode)) => {
                dnode.is_referenced.store(true, Ordering::Relaxed);
                Ok(Found::Dnode(dnode.clone()))
            }
            Some(Entry::Inside(_)) => Err(Error::NotFound),
            None => Ok(Found::Missing(shard.nr_evicted)),
        }
    }

    pub(super) fn peek(&self, id: ObjectId) -> Option<Arc<Dnode>> {
        match self.shard(id).lock().entries.get(&id.0) {
            Some(Entry::Dnode(dnode)) => Some(dnode.clone()),
            _ => None,
        }
    }

    /// The state to pass to [`DnodeTable::insert_new`]: taken before the block of the dnode file is looked at.
    pub(super) fn nr_evicted(&self, id: ObjectId) -> u64 {
        self.shard(id).lock().nr_evicted
    }

    /// Adds a dnode that was read from disk after [`Found::Missing`]. Gives the one to use, which another loader may
    /// have added; `None`: look again.
    pub(super) fn insert_loaded(&self, dnode: Arc<Dnode>, nr_evicted: u64) -> Option<Arc<Dnode>> {
        let mut shard = self.shard(dnode.id()).lock();
        match shard.entries.get(&dnode.id().0) {
            Some(Entry::Dnode(other)) => Some(other.clone()),
            Some(Entry::Inside(_)) => None,
            None if shard.nr_evicted != nr_evicted => None,
            None => {
                shard.add(&dnode);
                let evicted = shard.sweep(self.shard_max);
                drop(shard);
                // Their memory is given back without the lock.
                drop(evicted);
                Some(dnode)
            }
        }
    }

    /// Adds a new dnode if none of its slots is known.
    pub(super) fn insert_new(&self, dnode: &Arc<Dnode>, slots: u8, nr_evicted: u64) -> Inserted {
        let id = dnode.id();
        let mut shard = self.shard(id).lock();
        let inside = id.0 + 1..id.0 + u64::from(slots.max(1));
        if shard.entries.contains_key(&id.0) || inside.clone().any(|n| shard.entries.contains_key(&n)) {
            return Inserted::Taken;
        }
        if shard.nr_evicted != nr_evicted {
            return Inserted::LookAgain;
        }
        inside.for_each(|n| {
            shard.entries.insert(n, Entry::Inside(id));
        });
        shard.add(dnode);
        let evicted = shard.sweep(self.shard_max);
        drop(shard);
        drop(evicted);
        Inserted::Added
    }

    /// Takes a freed dnode out.
    pub(super) fn remove(&self, dnode: &Dnode) {
        let mut shard = self.shard(dnode.id()).lock();
        let taken = match shard.entries.get(&dnode.id().0) {
            Some(Entry::Dnode(d)) if core::ptr::eq(&**d, dnode) => shard.take(dnode.id()),
            _ => None,
        };
        drop(shard);
        drop(taken);
    }

    /// Dnodes in memory.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().clock.len()).sum()
    }

    /// Evicts what is beyond the bound: after a sync, when what was dirty no longer is.
    pub(super) fn trim(&self) {
        self.evict(|shard| shard.clock.len().saturating_sub(self.shard_max));
    }

    /// Evicts what is not in use.
    pub(super) fn evict_unused(&self) {
        self.evict(|shard| shard.clock.len() * 2);
    }

    /// Looks at as many candidates of each shard as `nr_looks` says.
    fn evict(&self, nr_looks: impl Fn(&Shard) -> usize) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let nr_looks = nr_looks(&shard);
            let evicted: Vec<_> = (0..nr_looks).filter_map(|_| shard.sweep_one()).collect();
            drop(shard);
            // Their memory is given back without the lock.
            drop(evicted);
        }
    }
}

impl Shard {
    fn add(&mut self, dnode: &Arc<Dnode>) {
        self.entries.insert(dnode.id().0, Entry::Dnode(dnode.clone()));
        self.clock.push_back(dnode.id().0);
    }

    /// Forgets a dnode and the slots inside it. It stays in the clock, which skips what is not there.
    fn take(&mut self, id: ObjectId) -> Option<Entry> {
        let mut next = id.0 + 1;
        while matches!(self.entries.get(&next), Some(Entry::Inside(of)) if *of == id) {
            self.entries.remove(&next);
            next += 1;
        }
        self.nr_evicted += 1;
        self.entries.remove(&id.0)
    }

    fn sweep(&mut self, max: usize) -> Option<Entry> {
        if self.clock.len() <= max {
            return None;
        }
        (0..SWEEP).find_map(|_| self.sweep_one())
    }

    /// Looks at one candidate: evicts it, or gives it another round.
    fn sweep_one(&mut self) -> Option<Entry> {
        let id = self.clock.pop_front()?;
        let Some(Entry::Dnode(dnode)) = self.entries.get(&id) else { return None };
        let is_used = dnode.is_referenced.swap(false, Ordering::Relaxed);
        // New references come only through this (locked) table while the count is 1.
        if is_used || Arc::strong_count(dnode) > 1 || dnode.is_dirty() {
            self.clock.push_back(id);
            return None;
        }
        self.take(ObjectId(id))
    }
}

impl fmt::Debug for DnodeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnodeTable({} in memory)", self.len())
    }
}
