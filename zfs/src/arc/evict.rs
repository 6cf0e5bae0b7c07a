//! Keeping to the target: which blocks go, and how their holders are asked.
//!
//! Two ways. The cache's own thread starts a little below the target; it holds no lock and asks the holders of what
//! is held (callers of [`ArcCache::shrink`] do the same). Whoever puts a block into a cache that is full all the same
//! throws out old blocks that no one holds, right there: it may hold locks of dbufs, so it must not call holders. What
//! was read ahead and not yet used it spares, or a cache full of held blocks would forget just what is needed next.
use super::buf::{ArcBuf, Header};
use super::cache::ArcCache;
use super::shard::{Content, ListId};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use rt::Event;
use smallvec::SmallVec;

/// Entries looked at under one hold of a shard's lock.
const BATCH: usize = 16;
/// Fruitless rounds over all shards after which eviction gives up for now: everything is in use or dirty.
const FRUITLESS_ROUNDS: usize = 4;
/// The thread starts this share of the target below it, and evicts to twice that.
const SLACK_SHIFT: u32 = 6;
/// Whoever finds the cache this share above its target lets the thread run first.
const EXCESS_SHIFT: u32 = 2;
/// ... for at most so long: nothing may be evictable.
const EXCESS_WAIT: Duration = Duration::from_millis(2);

/// The cache's thread, started when it is first needed.
#[derive(Debug)]
pub(crate) struct Evictor {
    cache: Weak<ArcCache>,
    signal: Arc<Signal>,
    is_started: AtomicBool,
    next_shard: AtomicUsize,
}

#[derive(Debug, Default)]
struct Signal {
    wake: Event,
    is_over: AtomicBool,
    /// The thread has done a round since this was cleared.
    has_run: Event,
}

impl Evictor {
    pub(crate) fn new(cache: Weak<ArcCache>) -> Self {
        Self {
            cache,
            signal: Arc::default(),
            is_started: AtomicBool::new(false),
            next_shard: AtomicUsize::new(0),
        }
    }

    fn kick(&self) {
        if !self.is_started.swap(true, Ordering::AcqRel) {
            let (cache, signal) = (self.cache.clone(), self.signal.clone());
            drop(rt::spawn("arc_evict", move || run(&cache, &signal)));
        }
        if !self.signal.wake.is_set() {
            self.signal.wake.set();
        }
    }
}

impl Drop for Evictor {
    fn drop(&mut self) {
        self.signal.is_over.store(true, Ordering::Release);
        self.signal.wake.set();
    }
}

fn run(cache: &Weak<ArcCache>, signal: &Signal) {
    loop {
        signal.wake.wait();
        signal.wake.clear();
        if signal.is_over.load(Ordering::Acquire) {
            return;
        }
        let Some(cache) = cache.upgrade() else { return };
        cache.evict_to(cache.slack_below(2), true);
        signal.has_run.set();
    }
}

impl ArcCache {
    /// Evicts up to `bytes`, asking holders; how many bytes were freed. Not to be called with locks held that a holder
    /// needs.
    pub fn shrink(&self, bytes: u64) -> u64 {
        let before = self.used();
        self.evict_to(before.saturating_sub(bytes), true);
        before.saturating_sub(self.used())
    }

    /// Brings the cache to its target, as far as that goes here and now.
    pub(super) fn keep_to_target(&self) {
        let used = self.used();
        if used <= self.slack_below(1) {
            return;
        }
        let target = self.target();
        if used > target {
            self.evict_to(target, false);
        }
        let signal = &self.evictor.signal;
        let is_excessive = self.used() > target + (target >> EXCESS_SHIFT);
        if is_excessive {
            signal.has_run.clear();
        }
        self.evictor.kick();
        if is_excessive {
            signal.has_run.wait_until(rt::now().after(EXCESS_WAIT));
        }
    }

    fn slack_below(&self, times: u64) -> u64 {
        let target = self.target();
        target - times * (target >> SLACK_SHIFT)
    }

    fn evict_to(&self, goal: u64, may_ask: bool) {
        let nr_shards = self.shards.len();
        // Without leave to ask, one look around is all an insertion spends.
        let patience = if may_ask { FRUITLESS_ROUNDS * nr_shards } else { nr_shards.min(4) };
        let mut nr_fruitless = 0;
        while self.used() > goal && nr_fruitless < patience {
            let index = self.evictor.next_shard.fetch_add(1, Ordering::Relaxed) % nr_shards;
            let has_freed = self.evict_some(index, may_ask);
            nr_fruitless = if has_freed { 0 } else { nr_fruitless + 1 };
        }
    }

    /// Looks at the oldest entries of one shard; true if any went.
    fn evict_some(&self, index: usize, may_ask: bool) -> bool {
        let mut gone: SmallVec<[ArcBuf; BATCH]> = SmallVec::new();
        let mut held: SmallVec<[Arc<Header>; BATCH]> = SmallVec::new();
        let mut has_freed = false;
        let mut shard = self.shards[index].lock();
        let list = self.shares.victim(|list| shard.bytes(list));
        for key in shard.oldest::<BATCH>(list) {
            let Some((content, _)) = shard.get(&key) else { continue };
            match content {
                Content::Cached(buf) if buf.0.take_used_again() => shard.refresh(&key, list.frequent()),
                Content::Cached(buf) => {
                    let header = buf.0.clone();
                    // The clone above is the one extra reference.
                    match shard.make_ghost(&key, 1) {
                        Some(buf) => gone.push(buf),
                        None if may_ask => {
                            shard.refresh(&key, list);
                            held.push(header);
                        }
                        None => {}
                    }
                }
                Content::Pending(pending) if may_ask => {
                    if pending.try_discard() {
                        has_freed = true;
                        shard.remove(&key);
                    } else {
                        shard.refresh(&key, list);
                    }
                }
                Content::Pending(_) | Content::Ghost => {}
            }
        }
        let limit = self.target() / self.shards.len() as u64;
        trim_ghosts(&mut shard, limit);
        drop(shard);
        has_freed |= !gone.is_empty();
        drop(gone);
        if may_ask {
            for header in held {
                has_freed |= self.ask(index, header);
            }
        }
        has_freed
    }

    /// Asks the holder of a block to let it go.
    fn ask(&self, index: usize, header: Arc<Header>) -> bool {
        let Some(holder) = header.holder() else { return false };
        if !holder.try_evict() {
            return false;
        }
        drop(holder);
        let mut shard = self.shards[index].lock();
        if !shard.has(&header) {
            return true;
        }
        let Some(key) = header.key else { return true };
        let gone = shard.make_ghost(&key, 1);
        drop(shard);
        gone.is_some()
    }
}

/// Ghosts remember at most as many bytes as a shard may hold.
fn trim_ghosts(shard: &mut super::shard::Shard, limit: u64) {
    for is_metadata in [false, true] {
        for is_frequent in [false, true] {
            let ghosts = ListId::new(is_metadata, is_frequent).ghost();
            while shard.bytes(ghosts) > limit {
                let keys = shard.oldest::<1>(ghosts);
                keys.iter().for_each(|key| drop(shard.remove(key)));
            }
        }
    }
}
