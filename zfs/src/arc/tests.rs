use super::*;
use crate::Error;
use abd::Abd;
use ondisk::{BlkPtr, DmuType, Dva, Txg};
use rt_std as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

const SIZE: u64 = 4096;

fn bp(block: u64) -> BlkPtr {
    bp_of(block, DmuType::PLAIN_FILE_CONTENTS)
}

fn bp_of(block: u64, kind: DmuType) -> BlkPtr {
    let mut bp = BlkPtr::HOLE;
    bp.set_dva(0, Dva::new(0, (block + 1) * SIZE, SIZE)).unwrap();
    bp.set_type(kind);
    bp.set_lsize(SIZE as u32);
    bp.set_birth(Txg(10), Txg(10));
    bp
}

fn read(cache: &Arc<ArcCache>, bp: &BlkPtr) -> (ArcBuf, bool) {
    match cache.lookup(bp, Key::of(bp).unwrap()) {
        Lookup::Hit(buf) => (buf, true),
        Lookup::Miss(fill) => (fill.finish(Ok(Abd::zeroed(bp.lsize() as usize))).unwrap(), false),
        Lookup::Wait(_) => panic!("no one else reads"),
    }
}

fn is_cached(cache: &ArcCache, bp: &BlkPtr) -> bool {
    cache.get(bp).is_some()
}

#[test]
fn a_second_reader_waits_for_the_first() {
    let cache = ArcCache::new(1 << 20);
    let Lookup::Miss(fill) = cache.lookup(&bp(1), Key::of(&bp(1)).unwrap()) else { panic!() };
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let Lookup::Wait(pending) = cache.lookup(&bp(1), Key::of(&bp(1)).unwrap()) else { panic!() };
            std::thread::spawn(move || match pending.wait(|| ()) {
                Arrival::Done(Ok(buf)) => buf.abd().to_vec(),
                other => panic!("{other:?}"),
            })
        })
        .collect();
    fill.finish(Ok(Abd::copy_from(&[7; 4096]))).unwrap();
    waiters.into_iter().for_each(|w| assert_eq!(w.join().unwrap(), [7; 4096]));
    assert!(is_cached(&cache, &bp(1)));
}

#[test]
fn a_failed_read_is_not_cached_and_a_dropped_one_passes_its_duty_on() {
    let cache = ArcCache::new(1 << 20);
    let key = Key::of(&bp(1)).unwrap();
    let Lookup::Miss(fill) = cache.lookup(&bp(1), key) else { panic!() };
    let Lookup::Wait(pending) = cache.lookup(&bp(1), key) else { panic!() };
    assert_eq!(fill.finish(Err(Error::Checksum)).unwrap_err(), Error::Checksum);
    assert!(matches!(pending.wait(|| ()), Arrival::Done(Err(Error::Checksum))));
    let Lookup::Miss(fill) = cache.lookup(&bp(1), key) else { panic!() };
    drop(fill);
    let Lookup::Wait(pending) = cache.lookup(&bp(1), key) else { panic!() };
    assert!(matches!(pending.wait(|| ()), Arrival::Abandoned));
    cache.take_over(key, pending).finish(Ok(Abd::zeroed(4096))).unwrap();
    assert!(is_cached(&cache, &bp(1)));
}

/// Waits until so many bytes are in use. The cache's own thread may still have in hand what it is evicting, and what it
/// has in hand counts.
fn await_used(cache: &ArcCache, bytes: u64) {
    let deadline = rt::now().after(core::time::Duration::from_secs(60));
    while cache.used() != bytes {
        assert!(rt::now() < deadline, "{} bytes in use instead of {bytes}", cache.used());
        std::thread::yield_now();
    }
}

#[test]
fn memory_is_counted_until_the_last_reference_goes() {
    const TARGET: u64 = 1 << 20;
    /// What the cache's thread may have in hand: a batch.
    const IN_HAND: u64 = 16 * SIZE;
    let cache = ArcCache::new(TARGET);
    let held = read(&cache, &bp(0)).0;
    for block in 1..1000 {
        read(&cache, &bp(block));
        assert!(cache.used() <= TARGET + IN_HAND);
    }
    while cache.list_bytes(super::shard::ListId::new(false, false)) > SIZE {
        cache.shrink(u64::MAX);
    }
    await_used(&cache, SIZE);
    cache.forget(&bp(0));
    assert_eq!(cache.used(), SIZE, "only what is held is left");
    drop(held);
    await_used(&cache, 0);
}

#[test]
fn a_long_scan_leaves_the_blocks_used_again() {
    let cache = ArcCache::new(4 << 20);
    let hot: Vec<BlkPtr> = (0..128).map(bp).collect();
    for round in 0..4 {
        hot.iter().for_each(|bp| drop(read(&cache, bp)));
        (0..256).for_each(|i| drop(read(&cache, &bp(1000 + round * 256 + i))));
    }
    for block in 100_000..110_000 {
        read(&cache, &bp(block));
    }
    let nr_left = hot.iter().filter(|bp| is_cached(&cache, bp)).count();
    assert!(nr_left > 120, "{nr_left} of 128 blocks used again survived a scan of ten times the cache");
}

#[test]
fn metadata_survives_a_scan_of_data() {
    let cache = ArcCache::new(4 << 20);
    let metadata: Vec<BlkPtr> = (0..128).map(|b| bp_of(b, DmuType::DNODE)).collect();
    metadata.iter().for_each(|bp| drop(read(&cache, bp)));
    for block in 100_000..110_000 {
        read(&cache, &bp(block));
    }
    let nr_left = metadata.iter().filter(|bp| is_cached(&cache, bp)).count();
    assert!(nr_left > 120, "{nr_left} of 128");
}

#[test]
fn a_rewritten_block_replaces_its_entry() {
    let cache = ArcCache::new(1 << 20);
    cache.insert(&bp(1), Abd::copy_from(&[1; 4096]));
    cache.insert(&bp(1), Abd::copy_from(&[2; 4096]));
    assert_eq!(cache.get(&bp(1)).unwrap().abd().to_vec(), [2; 4096]);
    assert_eq!(cache.used(), SIZE);
}

/// Holds a buffer as a dbuf would.
struct Dbuf {
    buf: Mutex<Option<ArcBuf>>,
    is_dirty: AtomicBool,
    nr_asked: AtomicUsize,
}

impl Holder for Dbuf {
    fn try_evict(&self) -> bool {
        self.nr_asked.fetch_add(1, Ordering::Relaxed);
        if self.is_dirty.load(Ordering::Relaxed) {
            return false;
        }
        let buf = self.buf.try_lock().ok().and_then(|mut b| b.take());
        buf.is_some()
    }
}

#[test]
fn holders_are_asked_and_dirty_ones_keep_theirs() {
    let cache = ArcCache::new(64 << 20);
    let dbufs: Vec<Arc<Dbuf>> = (0..100)
        .map(|block| {
            let buf = read(&cache, &bp(block)).0;
            let dbuf = Arc::new(Dbuf {
                buf: Mutex::new(Some(buf.clone())),
                is_dirty: AtomicBool::new(block % 2 == 0),
                nr_asked: AtomicUsize::new(0),
            });
            let weak: Weak<Dbuf> = Arc::downgrade(&dbuf);
            buf.set_holder(weak);
            dbuf
        })
        .collect();
    let freed = cache.shrink(u64::MAX);
    assert_eq!(freed, 50 * SIZE);
    assert_eq!(cache.used(), 50 * SIZE);
    assert!(dbufs.iter().all(|d| d.nr_asked.load(Ordering::Relaxed) > 0));
    assert_eq!(dbufs.iter().filter(|d| d.buf.lock().unwrap().is_some()).count(), 50);
}

#[test]
fn the_own_thread_asks_holders_when_the_target_is_passed() {
    let cache = ArcCache::new(1 << 20);
    let mut dbufs = Vec::new();
    for block in 0..1000 {
        let buf = read(&cache, &bp(block)).0;
        let dbuf = Arc::new(Dbuf {
            buf: Mutex::new(Some(buf.clone())),
            is_dirty: AtomicBool::new(false),
            nr_asked: AtomicUsize::new(0),
        });
        let weak: Weak<Dbuf> = Arc::downgrade(&dbuf);
        buf.set_holder(weak);
        drop(buf);
        dbufs.push(dbuf);
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while cache.used() > 1 << 20 {
        assert!(std::time::Instant::now() < end, "still {} bytes", cache.used());
        std::thread::yield_now();
    }
}

#[test]
fn many_threads_agree_with_the_account() {
    let cache = ArcCache::new(256 << 10);
    let threads: Vec<_> = (0..4u64)
        .map(|seed| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                let mut state = seed + 1;
                for _ in 0..20_000 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let bp = bp((state >> 33) % 300);
                    let key = Key::of(&bp).unwrap();
                    match (state >> 20) % 8 {
                        0 => cache.forget(&bp),
                        1 => drop(cache.insert(&bp, Abd::zeroed(4096))),
                        _ => match cache.lookup(&bp, key) {
                            Lookup::Hit(buf) => assert_eq!(buf.len(), 4096),
                            Lookup::Miss(fill) => drop(fill.finish(Ok(Abd::zeroed(4096)))),
                            Lookup::Wait(pending) => match pending.wait(|| ()) {
                                Arrival::Done(result) => assert_eq!(result.unwrap().len(), 4096),
                                other => panic!("{other:?}"),
                            },
                        },
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    cache.shrink(u64::MAX);
    assert_eq!(cache.used(), 0);
}
