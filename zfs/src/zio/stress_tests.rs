//! Readers, a writer of transaction groups and a disk that rots, all at once.
use super::tests::{data_policy, mark, noise, striped};
use super::*;
use crate::event::Event;
use crate::metaslab::MosStore;
use crate::vdev::{Priority, layout};
use abd::Abd;
use ondisk::{BlkPtr, ObjectId, Txg};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// Swallows space maps: this test is about blocks.
#[derive(Default)]
struct NoMos(AtomicU64);

impl MosStore for NoMos {
    fn read(&self, _: ObjectId, _: u64, len: usize) -> crate::Result<Vec<u8>> {
        Ok(vec![0; len])
    }
    fn bonus(&self, _: ObjectId) -> crate::Result<Vec<u8>> {
        Ok(vec![0; 320])
    }
    fn block_size(&self, _: ObjectId) -> crate::Result<u32> {
        Ok(16 << 10)
    }
    fn create(&self, _: &SyncCtx, _: &crate::metaslab::NewMapObject) -> crate::Result<ObjectId> {
        Ok(ObjectId(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
    fn write(&self, _: &SyncCtx, _: ObjectId, _: u64, _: &[u8]) -> crate::Result<()> {
        Ok(())
    }
    fn set_bonus(&self, _: &SyncCtx, _: ObjectId, _: &[u8]) -> crate::Result<()> {
        Ok(())
    }
    fn truncate(&self, _: &SyncCtx, _: ObjectId) -> crate::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Live {
    bp: BlkPtr,
    len: usize,
    seed: u64,
}

#[test]
fn readers_always_get_what_was_written() {
    let pool = striped(2, 12);
    // So small that blocks come and go all the time.
    pool.storage.arc().set_target(2 << 20);
    let pool = Arc::new(pool);
    let live: Arc<RwLock<Vec<Live>>> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let nr_reads = Arc::new(AtomicU64::new(0));
    let rotting = Arc::new(Mutex::new(()));
    let mut threads = Vec::new();
    for seed in 0..3 {
        let (pool, live, is_over, nr_reads) = (pool.clone(), live.clone(), is_over.clone(), nr_reads.clone());
        threads.push(std::thread::spawn(move || {
            let mut random = Random(seed);
            while !is_over.load(Ordering::Relaxed) {
                let live = live.read().unwrap();
                if live.is_empty() {
                    continue;
                }
                let picked: Vec<Live> = (0..4).map(|_| live[random.below(live.len())]).collect();
                pool.storage.prefetch(&picked[3].bp, mark(0));
                let list: Vec<_> = picked[..3].iter().map(|l| (l.bp, mark(0))).collect();
                for (buf, l) in pool.storage.read_many(&list, Priority::SyncRead).into_iter().zip(&picked) {
                    assert_eq!(buf.unwrap().abd().to_vec(), noise(l.len, l.seed));
                }
                let l = picked[3];
                assert_eq!(pool.read(&l.bp).unwrap(), noise(l.len, l.seed));
                nr_reads.fetch_add(4, Ordering::Relaxed);
            }
        }));
    }
    {
        let (pool, live, is_over, rotting) = (pool.clone(), live.clone(), is_over.clone(), rotting.clone());
        threads.push(std::thread::spawn(move || {
            let mut random = Random(99);
            while !is_over.load(Ordering::Relaxed) {
                let _rotting = rotting.lock().unwrap();
                let live = live.read().unwrap();
                if !live.is_empty() {
                    let dva = live[random.below(live.len())].bp.dva(0);
                    pool.disks[dva.vdev as usize].rot(layout::DATA_START + dva.offset + 64, &[0x33; 32]);
                }
                drop(live);
                std::thread::yield_now();
            }
        }));
    }
    write_txgs(&pool, &live, 60);
    while nr_reads.load(Ordering::Relaxed) < 2000 {
        std::thread::yield_now();
    }
    is_over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|t| t.join().unwrap());
    let events = pool.events.snapshot();
    assert!(events.iter().any(|e| matches!(e, Event::Repaired { .. })));
    assert!(!events.iter().any(|e| matches!(e, Event::Lost { .. } | Event::WriteFailed { .. })));
    let mut used = 0;
    for l in live.read().unwrap().iter() {
        assert_eq!(pool.fresh_read(&l.bp).unwrap(), noise(l.len, l.seed));
        used += l.bp.asize();
    }
    assert_eq!(pool.storage.space().allocated, used);
}

fn write_txgs(pool: &super::tests::Pool, live: &RwLock<Vec<Live>>, nr: u64) {
    let mut random = Random(7);
    let mos = NoMos::default();
    let policy = WritePolicy { copies: 2, ..data_policy() };
    for txg in 4..4 + nr {
        let mut ctx = pool.storage.begin_sync(Txg(txg));
        let mut born = Vec::new();
        for index in 0..20 {
            let (len, seed) = (4096 * (1 + random.below(16)), txg * 100 + index);
            let data = Abd::copy_from(&noise(len, seed));
            let block = pool.storage.prepare(data.clone(), &policy).unwrap();
            let bp = pool.storage.issue(&ctx, block, &BlkPtr::HOLE, mark(index)).unwrap();
            if index % 2 == 0 {
                pool.storage.arc().insert(&bp, data);
            }
            born.push(Live { bp, len, seed });
        }
        // Some are rewritten in place in the next pass.
        ctx = ctx.next_pass();
        for l in born.iter_mut().step_by(5) {
            l.seed += 50;
            let data = Abd::copy_from(&noise(l.len, l.seed));
            let block = pool.storage.prepare(data, &policy).unwrap();
            l.bp = pool.storage.issue(&ctx, block, &l.bp, mark(0)).unwrap();
        }
        let mut dead = Vec::new();
        {
            let mut live = live.write().unwrap();
            while live.len() > 80 {
                let index = random.below(live.len());
                dead.push(live.swap_remove(index));
            }
            live.extend(&born);
        }
        for l in &dead {
            pool.storage.free(&ctx, &l.bp).unwrap();
        }
        while pool.storage.sync_metaslabs(&mos, &ctx).unwrap() {
            ctx = ctx.next_pass();
        }
        ctx.batch.wait().unwrap();
        pool.storage.flush_all().unwrap();
        pool.storage.sync_done(Txg(txg)).unwrap();
    }
}
