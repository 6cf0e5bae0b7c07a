//! The cache: lookup, waiting for a block on its way, insertion.
use super::adapt::Shares;
use super::buf::{Account, ArcBuf, Key};
use super::evict::Evictor;
use super::pending::Pending;
use super::shard::{Content, ListId, Shard};
use crate::Result;
use abd::{Abd, AbdMut};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::BlkPtr;
use rt::Mutex;

/// Lock rank of a shard.
pub(crate) const RANK_SHARD: u16 = 800;
/// Most shards: so many that CPUs rarely meet in one.
const NR_SHARDS_MAX: u64 = 64;
/// A shard has at least this share of the target, or its lists would be too short to tell old from new.
const SHARD_BYTES_MIN: u64 = 16 << 20;
/// Shares of the target that make an epoch.
const EPOCHS_PER_TARGET: u64 = 64;

/// The cache.
#[derive(Debug)]
pub struct ArcCache {
    pub(super) shards: Box<[Mutex<Shard, RANK_SHARD>]>,
    pub(super) account: Arc<Account>,
    pub(super) shares: Shares,
    pub(super) target: AtomicU64,
    pub(super) evictor: Evictor,
}

/// Counters of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArcStats {
    /// Bytes of buffers, cached or still held by someone.
    pub used: u64,
    /// What it should take.
    pub target: u64,
    /// Lookups that found the block.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Bytes cached of blocks used once: data, metadata.
    pub recent: [u64; 2],
    /// Bytes cached of blocks used again: data, metadata.
    pub frequent: [u64; 2],
}

/// What a lookup found.
pub(crate) enum Lookup {
    Hit(ArcBuf),
    /// Someone reads it.
    Wait(Arc<Pending>),
    /// The caller is to read it.
    Miss(Fill),
}

impl ArcCache {
    /// A cache that keeps to `target` bytes.
    pub fn new(target: u64) -> Arc<Self> {
        let nr_shards = (target / SHARD_BYTES_MIN).clamp(1, NR_SHARDS_MAX);
        let nr_shards = nr_shards.next_power_of_two();
        Arc::new_cyclic(|me| {
            let cache = Self {
                shards: (0..nr_shards).map(|_| Mutex::default()).collect(),
                account: Arc::default(),
                shares: Shares::default(),
                target: AtomicU64::new(target),
                evictor: Evictor::new(me.clone()),
            };
            cache.account.set_epoch_bytes(target / EPOCHS_PER_TARGET);
            cache
        })
    }

    /// The block, if it is cached.
    pub fn get(&self, bp: &BlkPtr) -> Option<ArcBuf> {
        let key = Key::of(bp)?;
        let mut shard = self.shard(&key).lock();
        let Some((Content::Cached(buf), _)) = shard.get(&key) else { return None };
        let buf = buf.clone();
        shard.nr_hits += 1;
        drop(shard);
        buf.touch();
        Some(buf)
    }

    /// Whether the block is cached or on its way. Not a use of it.
    pub(crate) fn has(&self, key: &Key) -> bool {
        let shard = self.shard(key).lock();
        matches!(shard.get(key), Some((Content::Cached(_) | Content::Pending(_), _)))
    }

    /// The block, or the duty to read it, or whom to wait for.
    pub(crate) fn lookup(self: &Arc<Self>, bp: &BlkPtr, key: Key) -> Lookup {
        let mut shard = self.shard(&key).lock();
        let list = match shard.get(&key) {
            Some((Content::Cached(buf), _)) => {
                let buf = buf.clone();
                shard.nr_hits += 1;
                drop(shard);
                buf.touch();
                return Lookup::Hit(buf);
            }
            Some((Content::Pending(pending), _)) => return Lookup::Wait(pending.clone()),
            Some((Content::Ghost, list)) => {
                self.shares.missed(list, u64::from(bp.lsize()), self.target());
                ListId::new(list.is_metadata(), true)
            }
            None => ListId::new(is_metadata(bp), false),
        };
        let pending = Arc::new(Pending::new());
        shard.put(key, Content::Pending(pending.clone()), list, u64::from(bp.lsize()));
        shard.nr_misses += 1;
        drop(shard);
        Lookup::Miss(Fill { cache: self.clone(), key, pending, is_open: true })
    }

    /// The duty to finish what a waiter took over from a read ahead.
    pub(crate) fn take_over(self: &Arc<Self>, key: Key, pending: Arc<Pending>) -> Fill {
        Fill { cache: self.clone(), key, pending, is_open: true }
    }

    /// Puts freshly written data into the cache under its final pointer, replacing what was there. Holes and embedded
    /// blocks give a buffer that is not cached.
    pub fn insert(&self, bp: &BlkPtr, data: Abd) -> ArcBuf {
        let Some(key) = Key::of(bp) else { return self.uncached(data) };
        let buf = ArcBuf::new(Some(key), data, &self.account);
        let mut shard = self.shard(&key).lock();
        let list = match shard.get(&key) {
            Some((_, list)) if list.is_frequent() => ListId::new(list.is_metadata(), true),
            Some((_, list)) => ListId::new(list.is_metadata(), list.is_ghost()),
            None => ListId::new(is_metadata(bp), false),
        };
        let old = shard.put(key, Content::Cached(buf.clone()), list, buf.0.size());
        drop(shard);
        drop(old);
        self.keep_to_target();
        buf
    }

    /// A buffer that the cache counts but does not keep.
    pub(crate) fn uncached(&self, data: Abd) -> ArcBuf {
        ArcBuf::new(None, data, &self.account)
    }

    /// Forgets a block: it was freed, or is about to be rewritten in place.
    pub fn forget(&self, bp: &BlkPtr) {
        if let Some(key) = Key::of(bp) {
            let old = self.shard(&key).lock().remove(&key);
            drop(old);
        }
    }

    /// What the cache should take, in bytes.
    pub fn target(&self) -> u64 {
        self.target.load(Ordering::Relaxed)
    }

    /// Changes the target; what is above it is evicted soon.
    pub fn set_target(&self, bytes: u64) {
        self.target.store(bytes, Ordering::Relaxed);
        self.account.set_epoch_bytes(bytes / EPOCHS_PER_TARGET);
        self.keep_to_target();
    }

    /// Bytes of all buffers, cached or still held by someone.
    pub fn used(&self) -> u64 {
        self.account.used()
    }

    /// The counters.
    pub fn stats(&self) -> ArcStats {
        let bytes = |m, f| self.list_bytes(ListId::new(m, f));
        ArcStats {
            used: self.used(),
            target: self.target(),
            hits: self.shards.iter().map(|s| s.lock().nr_hits).sum(),
            misses: self.shards.iter().map(|s| s.lock().nr_misses).sum(),
            recent: [bytes(false, false), bytes(true, false)],
            frequent: [bytes(false, true), bytes(true, true)],
        }
    }

    /// Bytes on a list, over all shards.
    pub(super) fn list_bytes(&self, list: ListId) -> u64 {
        self.shards.iter().map(|s| s.lock().bytes(list)).sum()
    }

    pub(super) fn shard(&self, key: &Key) -> &Mutex<Shard, RANK_SHARD> {
        &self.shards[key.shard(self.shards.len())]
    }
}

fn is_metadata(bp: &BlkPtr) -> bool {
    bp.level() > 0 || bp.dmu_type().is_metadata()
}

/// The duty to bring a block into the cache. Dropped unfinished, it tells the waiters to read for themselves.
#[derive(Debug)]
pub(crate) struct Fill {
    cache: Arc<ArcCache>,
    key: Key,
    pending: Arc<Pending>,
    is_open: bool,
}

impl Fill {
    /// The block is read, or cannot be.
    pub(crate) fn finish(mut self, result: Result<Abd>) -> Result<ArcBuf> {
        self.is_open = false;
        let buf = result.map(|data| ArcBuf::new(Some(self.key), data, &self.cache.account));
        let mut shard = self.cache.shard(&self.key).lock();
        match &buf {
            Ok(buf) => {
                shard.resolve(&self.key, &self.pending, Content::Cached(buf.clone()), buf.0.size());
            }
            Err(_) => self.give_up(&mut shard),
        }
        drop(shard);
        self.pending.finish(buf.clone());
        self.cache.keep_to_target();
        buf
    }

    /// A read ahead has the bytes as they lie on disk. Callable from a completion.
    pub(crate) fn arrived(mut self, bytes: AbdMut) {
        self.is_open = false;
        let charge = self.cache.account.charge(bytes.len() as u64);
        self.pending.arrived(bytes, charge);
    }

    fn give_up(&self, shard: &mut Shard) {
        let is_ours =
            matches!(shard.get(&self.key), Some((Content::Pending(p), _)) if Arc::ptr_eq(p, &self.pending));
        if is_ours {
            shard.remove(&self.key);
        }
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if self.is_open {
            // The entry stays: a completion may not take the shard's lock. Its next reader takes it over.
            self.pending.abandon();
        }
    }
}
