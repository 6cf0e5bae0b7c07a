//! The znodes in memory, by object number: at most one live for each object.
//!
//! The table does not keep them alive: open files, cached names and operations do.
use crate::znode::Znode;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;
use rt::SpinLock;

const SHARDS: usize = 64;

enum Slot {
    Live(Weak<Znode>),
    /// Its last name goes away and it is being freed: as good as gone.
    Dying,
}

/// What is known of an object.
pub(crate) enum Found {
    Live(Arc<Znode>),
    Dying,
    Absent,
}

#[derive(Default)]
struct Shard(SpinLock<HashMap<u64, Slot>>);

pub(crate) struct ZnodeTable {
    shards: Box<[Shard]>,
}

impl ZnodeTable {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }

    fn shard(&self, id: u64) -> &SpinLock<HashMap<u64, Slot>> {
        &self.shards[id as usize % SHARDS].0
    }

    pub(crate) fn find(&self, id: u64) -> Found {
        match self.shard(id).lock().get(&id) {
            Some(Slot::Live(weak)) => weak.upgrade().map_or(Found::Absent, Found::Live),
            Some(Slot::Dying) => Found::Dying,
            None => Found::Absent,
        }
    }

    /// Adds a znode; the one that is there already, if another thread was faster.
    pub(crate) fn add(&self, znode: Arc<Znode>) -> Found {
        let id = znode.id();
        let mut shard = self.shard(id).lock();
        match shard.get(&id) {
            Some(Slot::Dying) => return Found::Dying,
            Some(Slot::Live(weak)) => {
                if let Some(live) = weak.upgrade() {
                    drop(shard);
                    return Found::Live(live);
                }
            }
            None => {}
        }
        shard.insert(id, Slot::Live(Arc::downgrade(&znode)));
        drop(shard);
        Found::Live(znode)
    }

    /// Marks an object as dying if the caller has the only reference to its znode: from now on no one finds it.
    pub(crate) fn begin_death(&self, znode: &Arc<Znode>) -> bool {
        let mut shard = self.shard(znode.id()).lock();
        let is_alone = Arc::strong_count(znode) == 1;
        if is_alone {
            shard.insert(znode.id(), Slot::Dying);
        }
        is_alone
    }

    /// The object is freed, or will live after all.
    pub(crate) fn end_death(&self, znode: &Arc<Znode>, is_freed: bool) {
        let mut shard = self.shard(znode.id()).lock();
        if is_freed {
            shard.remove(&znode.id());
        } else {
            shard.insert(znode.id(), Slot::Live(Arc::downgrade(znode)));
        }
    }

    /// A znode is dropped. Its successor, if there is one already, stays.
    pub(crate) fn forget(&self, id: u64, znode: *const Znode) {
        let mut shard = self.shard(id).lock();
        if let Some(Slot::Live(weak)) = shard.get(&id)
            && core::ptr::eq(weak.as_ptr(), znode)
        {
            shard.remove(&id);
        }
    }

    /// Znodes in memory.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.0.lock().len()).sum()
    }
}
