//! Many threads, while groups close and sync.
use super::*;
use std::sync::atomic::AtomicBool;

/// A sync thread for the pool, and its end.
struct Syncing(Option<rt::JoinHandle>, Arc<Txgs>);

impl Syncing {
    fn start(pool: &Arc<Pool>) -> Self {
        let theirs = pool.clone();
        let thread = rt::spawn("sync", move || {
            let _end = SuspendOnDrop(theirs.txgs.clone());
            while let Some(txg) = theirs.txgs.quiesce_next() {
                theirs.write_out(txg);
            }
        });
        Self(Some(thread), pool.txgs.clone())
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.1.stop();
        if let Some(thread) = self.0.take() {
            thread.join();
        }
    }
}

fn threads(nr: u64, body: impl Fn(u64) + Send + Sync + 'static) {
    let body = Arc::new(body);
    let all: Vec<_> = (0..nr)
        .map(|n| {
            let body = body.clone();
            std::thread::spawn(move || body(n))
        })
        .collect();
    all.into_iter().for_each(|t| t.join().unwrap());
}

/// A sync thread that fails lets nobody wait for ever.
struct SuspendOnDrop(Arc<Txgs>);

impl Drop for SuspendOnDrop {
    fn drop(&mut self) {
        self.0.suspend(false);
    }
}

/// Ends the others also when this thread fails.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A block that says which block it is and which version; the whole of it is one write.
fn stamp(block: u64, version: u64, len: usize) -> Vec<u8> {
    noise(len - 16, block ^ (version << 32))
        .into_iter()
        .chain(block.to_le_bytes())
        .chain(version.to_le_bytes())
        .collect()
}

fn check_stamp(bytes: &[u8], block: u64, at_least: u64) -> u64 {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let version = word(bytes.len() - 8);
    if version == 0 && at_least == 0 && bytes.iter().all(|b| *b == 0) {
        return 0;
    }
    assert_eq!(word(bytes.len() - 16), block);
    assert!(version >= at_least, "block {block}: version {version} after {at_least}");
    assert!(bytes == stamp(block, version, bytes.len()), "block {block} version {version} is torn");
    version
}

#[test]
fn one_object_is_read_and_written_by_many_while_it_syncs() {
    const BLOCK: usize = 4096;
    const BLOCKS: u64 = 96;
    let pool = Arc::new(Pool::new(ObjsetKind::Zfs));
    let syncing = Syncing::start(&pool);
    let file = {
        let tx = pool.tx();
        let new =
            NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, BLOCK as u32) };
        pool.objset.allocate(&tx, &new).unwrap()
    };
    let newest: Arc<Vec<AtomicU64>> = Arc::new((0..BLOCKS).map(|_| AtomicU64::new(0)).collect());
    let (theirs, id) = (pool.clone(), file.id());
    let versions = newest.clone();
    threads(4, move |n| {
        let pool = &theirs;
        for round in 0..1500u64 {
            let mine = (round * 7 + n * 13) % (BLOCKS / 4) * 4 + n;
            let other = (round * 11 + n) % BLOCKS;
            let at_least = versions[other as usize].load(Ordering::SeqCst);
            let seen = file.read_vec(other * BLOCK as u64, BLOCK).unwrap();
            check_stamp(&seen, other, at_least);
            let tx = pool.tx();
            let version = round + 1;
            file.write_slice(&tx, mine * BLOCK as u64, &stamp(mine, version, BLOCK)).unwrap();
            versions[mine as usize].store(version, Ordering::SeqCst);
            if round % 100 == 99 {
                pool.txgs.kick(tx.txg());
            }
            drop(tx);
            if round % 40 == 0 {
                pool.storage.arc().shrink(1 << 20);
            }
        }
    });
    pool.txgs.sync_all().unwrap();
    drop(syncing);
    let again = pool.reopen(pool.objset.root()).hold(id).unwrap();
    for block in 0..BLOCKS {
        let at_least = newest[block as usize].load(Ordering::SeqCst);
        let seen = again.read_vec(block * BLOCK as u64, BLOCK).unwrap();
        assert_eq!(check_stamp(&seen, block, at_least), at_least);
    }
}

#[test]
fn objects_come_and_go_on_all_cpus() {
    let pool = Arc::new(Pool::new(ObjsetKind::Zfs));
    let syncing = Syncing::start(&pool);
    let alive = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let (theirs, all) = (pool.clone(), alive.clone());
    threads(4, move |n| {
        let mut mine: Vec<(ObjectId, u64)> = Vec::new();
        for round in 0..600u64 {
            let seed = n * 10_000 + round;
            let tx = theirs.tx();
            let slots = if round % 5 == 0 { 3 } else { 1 };
            let new = NewObject { dnode_slots: slots, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512) }
                .with_bonus(DmuType::SA, 24);
            let file = theirs.objset.allocate(&tx, &new).unwrap();
            file.write_slice(&tx, 0, &noise(512, seed)).unwrap();
            mine.push((file.id(), seed));
            drop(tx);
            if round % 3 == 2 {
                let (id, seed) = mine.swap_remove((seed * 31) as usize % mine.len());
                assert_eq!(theirs.objset.hold(id).unwrap().read_vec(0, 512).unwrap(), noise(512, seed));
                let tx = theirs.tx();
                theirs.objset.free(&tx, id).unwrap();
            }
            if round % 60 == 0 {
                theirs.txgs.kick(theirs.txgs.open_txg());
                theirs.objset.evict_unused();
            }
        }
        all.lock().unwrap().extend(mine);
    });
    pool.txgs.sync_all().unwrap();
    drop(syncing);
    let again = pool.reopen(pool.objset.root());
    let mut at = ObjectId(0);
    let mut ids = Vec::new();
    while let Some(next) = again.next_object(at).unwrap() {
        ids.push(next);
        at = next;
    }
    let alive = alive.lock().unwrap();
    assert_eq!(ids, alive.keys().copied().collect::<Vec<_>>());
    assert_eq!(again.nr_objects(), alive.len() as u64);
    for (id, seed) in alive.iter() {
        assert_eq!(again.hold(*id).unwrap().read_vec(0, 512).unwrap(), noise(512, *seed));
    }
}

#[test]
fn growing_and_cutting_off_while_others_read() {
    let pool = Arc::new(Pool::new(ObjsetKind::Zfs));
    let syncing = Syncing::start(&pool);
    let file = {
        let tx = pool.tx();
        let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512) };
        pool.objset.allocate(&tx, &new).unwrap()
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let theirs = pool.clone();
    threads(3, move |n| {
        if n > 0 {
            while !is_over.load(Ordering::SeqCst) {
                for block in 0..200u64 {
                    let seen = file.read_vec(block * 512, 512).unwrap();
                    // Odd sizes while the only block grows: whole blocks are not one write then.
                    assert!(seen.iter().all(|b| *b == 0 || *b == seen[511] || seen[511] == 0));
                }
                file.next_offset(0, Seek::Data).unwrap();
            }
            return;
        }
        let _over = SetOnDrop(is_over.clone());
        for round in 0..60u8 {
            let tx = theirs.tx();
            file.free_range(&tx, 0, u64::MAX).unwrap();
            for size in [1024u32, 1536, 512] {
                file.set_block_size(&tx, size, 0).unwrap();
                file.write_slice(&tx, 0, &vec![round + 1; 512]).unwrap();
            }
            drop(tx);
            for block in 0..100u64 {
                let tx = theirs.tx();
                file.write_slice(&tx, block * 2 * 512, &[round + 1; 512]).unwrap();
            }
            theirs.txgs.sync_all().unwrap();
            let seen = file.read_vec(0, 200 * 512).unwrap();
            for block in 0..200usize {
                let want = if block % 2 == 0 { round + 1 } else { 0 };
                assert!(seen[block * 512..][..512].iter().all(|b| *b == want));
            }
        }
    });
    drop(syncing);
}
