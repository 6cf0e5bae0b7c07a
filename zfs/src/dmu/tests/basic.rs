use super::*;
use crate::zap::Zap;

fn hex(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}

#[test]
fn what_is_written_is_there_before_and_after_the_sync_and_on_disk() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let data = noise(300_000, 1);
    let file = {
        let tx = pool.tx();
        let file = pool.file(&tx, 128 << 10);
        file.write_slice(&tx, 1000, &data).unwrap();
        file
    };
    let id = file.id();
    assert_eq!(file.read_vec(1000, data.len()).unwrap(), data);
    assert_eq!(file.read_vec(0, 1000).unwrap(), vec![0; 1000]);
    let root = pool.sync();
    assert_eq!(file.read_vec(1000, data.len()).unwrap(), data);
    assert_eq!(root.fill(), 1);
    let again = pool.reopen(root);
    assert_eq!(again.kind(), ObjsetKind::Zfs);
    let file = again.hold(id).unwrap();
    assert_eq!(
        (file.block_size(), file.max_blkid(), file.kind()),
        (128 << 10, 2, DmuType::PLAIN_FILE_CONTENTS)
    );
    assert_eq!(file.read_vec(1000, data.len()).unwrap(), data);
    assert!(file.used_bytes() > 300_000);
    assert_eq!(again.hold(ObjectId(id.0 + 1)).unwrap_err(), Error::NotFound);
}

#[test]
fn a_write_never_changes_what_an_older_group_writes() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let file = {
        let tx = pool.tx();
        let file = pool.file(&tx, 16 << 10);
        file.write_slice(&tx, 0, &noise(50_000, 1)).unwrap();
        file
    };
    let txg = pool.close();
    {
        let tx = pool.tx();
        assert!(tx.txg() > txg);
        file.write_slice(&tx, 100, b"newer").unwrap();
        file.free_range(&tx, 16 << 10, 16 << 10).unwrap();
        file.set_bonus(&tx, &mut |bonus| bonus.extend_from_slice(b"bonus")).unwrap();
    }
    let root = pool.write_out(txg);
    let old = pool.reopen(root).hold(file.id()).unwrap();
    assert_eq!(old.read_vec(0, 50_000).unwrap(), noise(50_000, 1));
    assert_eq!(old.bonus_len(), 0);
    let mut want = noise(50_000, 1);
    want[100..105].copy_from_slice(b"newer");
    want[16 << 10..32 << 10].fill(0);
    assert_eq!(file.read_vec(0, 50_000).unwrap(), want);
    let root = pool.sync();
    let new = pool.reopen(root).hold(file.id()).unwrap();
    assert_eq!(new.read_vec(0, 50_000).unwrap(), want);
    assert_eq!(new.bonus_vec(), b"bonus");
}

#[test]
fn one_block_grows_and_then_there_are_many() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let file = pool.file(&tx, 512);
    file.write_slice(&tx, 0, &[7; 512]).unwrap();
    file.set_block_size(&tx, 1536, 0).unwrap();
    file.write_slice(&tx, 512, &[8; 1024]).unwrap();
    drop(tx);
    pool.sync();
    let tx = pool.tx();
    assert_eq!(file.write(&tx, 2000, 5, &mut |_| Ok(())).unwrap_err(), Error::Invalid);
    file.set_block_size(&tx, 128 << 10, 0).unwrap();
    file.write_slice(&tx, 200 << 10, &[9; 100]).unwrap();
    assert_eq!(file.set_block_size(&tx, 4096, 0).unwrap_err(), Error::Invalid);
    drop(tx);
    let root = pool.sync();
    let file = pool.reopen(root).hold(file.id()).unwrap();
    let mut want = vec![0; (200 << 10) + 100];
    want[..512].fill(7);
    want[512..1536].fill(8);
    want[200 << 10..].fill(9);
    assert_eq!(file.read_vec(0, want.len()).unwrap(), want);
}

#[test]
fn sparse_objects_grow_levels_and_find_data_and_holes() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096) };
    let file = pool.objset.allocate(&tx, &new).unwrap();
    let places = [0u64, 5, 40, 1 << 12, (1 << 12) + 1, 1 << 22, 1 << 40];
    for place in places {
        file.write_slice(&tx, place << 12, &noise(4096, place + 1)).unwrap();
    }
    drop(tx);
    let check = |file: &Dnode| {
        for place in places {
            assert_eq!(file.read_vec(place << 12, 4096).unwrap(), noise(4096, place + 1));
        }
        let mut found = Vec::new();
        let mut at = Some(0);
        while let Some(data) = at.and_then(|at| file.next_offset(at, Seek::Data).unwrap()) {
            found.push(data >> 12);
            at = file.next_offset(data + 4096, Seek::Data).unwrap();
        }
        assert_eq!(found, places);
        assert_eq!(file.next_offset(0, Seek::Hole).unwrap(), Some(4096));
        assert_eq!(file.next_offset((1 << 24) + 7, Seek::Hole).unwrap(), Some((1 << 24) + 8192));
    };
    check(&file);
    let root = pool.sync();
    check(&file);
    check(&pool.reopen(root).hold(file.id()).unwrap());
    // A hole across levels: nothing but the first and the last stays.
    let tx = pool.tx();
    file.free_range(&tx, 4096, (1 << 52) - 4096).unwrap();
    assert_eq!(file.next_offset(4096, Seek::Data).unwrap(), Some(1 << 52));
    drop(tx);
    let root = pool.sync();
    assert_eq!(file.next_offset(4096, Seek::Data).unwrap(), Some(1 << 52));
    let again = pool.reopen(root).hold(file.id()).unwrap();
    assert_eq!(again.next_offset(4096, Seek::Data).unwrap(), Some(1 << 52));
    let tx = pool.tx();
    file.free_range(&tx, 0, u64::MAX).unwrap();
    drop(tx);
    let root = pool.sync();
    assert_eq!((file.used_bytes(), file.max_blkid()), (0, 0));
    assert_eq!(pool.reopen(root).hold(file.id()).unwrap().next_offset(0, Seek::Data).unwrap(), None);
}

#[test]
fn objects_are_allocated_freed_and_their_numbers_reused_only_after_the_sync() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let files: Vec<_> = (0..40).map(|_| pool.file(&tx, 512)).collect();
    files.iter().for_each(|f| f.write_slice(&tx, 0, b"x").unwrap());
    drop(tx);
    let ids: Vec<u64> = files.iter().map(|f| f.id().0).collect();
    assert_eq!(ids, (1..=40).collect::<Vec<_>>());
    assert_eq!(pool.sync().fill(), 40);
    let tx = pool.tx();
    for id in [3, 4, 39] {
        pool.objset.free(&tx, ObjectId(id)).unwrap();
    }
    assert_eq!(pool.objset.hold(ObjectId(3)).unwrap_err(), Error::NotFound);
    assert_eq!(files[2].write_slice(&tx, 0, b"y").unwrap_err(), Error::NotFound);
    let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512);
    assert_eq!(pool.objset.claim(&tx, ObjectId(3), &new).unwrap_err(), Error::Exists);
    drop(tx);
    assert_eq!(pool.sync().fill(), 37);
    let tx = pool.tx();
    pool.objset.claim(&tx, ObjectId(3), &new).unwrap();
    let large = NewObject { dnode_slots: 4, ..new };
    let big = pool.objset.allocate(&tx, &large).unwrap();
    assert!(big.id().0 % 32 <= 28);
    assert_eq!(pool.objset.claim(&tx, ObjectId(big.id().0 + 1), &new).unwrap_err(), Error::Exists);
    assert_eq!(pool.objset.hold(ObjectId(big.id().0 + 1)).unwrap_err(), Error::NotFound);
    let walk = |objset: &Objset| {
        let mut ids = Vec::new();
        let mut at = ObjectId(0);
        while let Some(next) = objset.next_object(at).unwrap() {
            ids.push(next.0);
            at = next;
        }
        ids
    };
    let mut want: Vec<u64> = (1..=40).filter(|id| ![4, 39].contains(id)).collect();
    want.push(big.id().0);
    want.sort_unstable();
    assert_eq!(walk(&pool.objset), want);
    drop(tx);
    let again = pool.reopen(pool.sync());
    assert_eq!(walk(&again), want);
    assert_eq!(again.hold(ObjectId(big.id().0 + 1)).unwrap_err(), Error::NotFound);
    assert!(pool.books.features.lock().unwrap().contains(&FeatureUse::LargeDnode));
}

#[test]
fn freeing_everything_gives_everything_back() {
    let pool = Pool::new(ObjsetKind::Other);
    let empty = {
        let tx = pool.tx();
        let file = pool.file(&tx, 512);
        drop(tx);
        pool.sync();
        let tx = pool.tx();
        pool.objset.free(&tx, file.id()).unwrap();
        drop(tx);
        drop(file);
        pool.sync();
        pool.books.allocated.load(Ordering::SeqCst)
    };
    let tx = pool.tx();
    let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512) }
        .with_bonus(DmuType::SA, 100);
    let file = pool.objset.allocate(&tx, &new).unwrap();
    for n in 0..2000 {
        file.write_slice(&tx, n * 7 * 512, &noise(512, n)).unwrap();
    }
    file.set_spill(&tx, Some(&noise(3000, 5))).unwrap();
    drop(tx);
    pool.sync();
    assert_eq!(
        pool.reopen(pool.objset.root()).hold(file.id()).unwrap().spill().unwrap().unwrap().len(),
        3072
    );
    let tx = pool.tx();
    pool.objset.free(&tx, file.id()).unwrap();
    drop(tx);
    drop(file);
    pool.sync();
    assert_eq!(pool.books.allocated.load(Ordering::SeqCst), empty);
}

/// Without bonus a dnode may be full of block pointers: there is no room for that of a spill block.
#[test]
fn a_spill_pointer_needs_room() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let full = pool.objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512)).unwrap();
    assert_eq!((full.nr_blkptr(), full.bonus_len()), (3, 0));
    assert_eq!(full.set_spill(&tx, Some(&[1; 512])), Err(Error::TooLarge));
    assert!(!full.has_spill());
}

#[test]
fn bonus_and_spill_follow_their_transactions() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512).with_bonus(DmuType::SA, 24);
    let file = pool.objset.allocate(&tx, &new).unwrap();
    assert_eq!((file.bonus_len(), file.bonus_max()), (24, 320));
    assert_eq!(file.set_bonus(&tx, &mut |b| b.resize(321, 1)).unwrap_err(), Error::TooLarge);
    file.set_bonus(&tx, &mut |b| b.resize(320, 1)).unwrap();
    assert_eq!(file.set_spill(&tx, Some(b"spill")).unwrap_err(), Error::TooLarge);
    file.set_bonus(&tx, &mut |b| b.truncate(192)).unwrap();
    file.set_spill(&tx, Some(b"spill")).unwrap();
    drop(tx);
    let root = pool.sync();
    let old = pool.reopen(root);
    let old = old.hold(file.id()).unwrap();
    assert_eq!(old.bonus_vec(), [[0; 24].as_slice(), &[1; 168]].concat());
    assert_eq!(&old.spill().unwrap().unwrap().to_vec()[..5], b"spill");
    assert_eq!(old.bonus_max(), 192);
    let tx = pool.tx();
    file.set_spill(&tx, None).unwrap();
    drop(tx);
    let new = pool.reopen(pool.sync()).hold(file.id()).unwrap();
    assert!(new.spill().unwrap().is_none());
    assert_eq!(new.bonus_max(), 320);
}

#[test]
fn owners_are_charged_for_bytes_and_objects() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let owned = |tx: &DmuTx, uid: u64, len: u64| {
        let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096).with_bonus(DmuType::SA, 24);
        let file = pool.objset.allocate(tx, &new).unwrap();
        file.set_bonus(tx, &mut |b| b[..8].copy_from_slice(&uid.to_le_bytes())).unwrap();
        file.write_slice(tx, 0, &noise(len as usize, uid)).unwrap();
        file
    };
    let tx = pool.tx();
    let a = owned(&tx, 1000, 40_000);
    let b = owned(&tx, 1000, 4_000);
    let c = owned(&tx, 0xbeef, 9_000);
    drop(tx);
    pool.sync();
    let used = |objset: &Arc<Objset>, account: ObjectId, name: &[u8]| {
        Zap::hold(objset, account).and_then(|zap| zap.lookup_u64(name)).unwrap_or(0)
    };
    let check = |objset: &Arc<Objset>, want: &[(u64, u64, u64)]| {
        for (uid, bytes, count) in want {
            assert_eq!(used(objset, ObjectId::USERUSED, &hex(*uid)), *bytes, "user {uid:x}");
            let name = [b"obj-".to_vec(), hex(*uid)].concat();
            assert_eq!(used(objset, ObjectId::USERUSED, &name), *count);
        }
        let total: u64 = want.iter().map(|w| w.1).sum();
        assert_eq!(used(objset, ObjectId::GROUPUSED, b"0"), total);
        assert_eq!(used(objset, ObjectId::PROJECTUSED, b"0"), total);
    };
    let sum = |files: &[&Arc<Dnode>]| files.iter().map(|f| f.used_bytes() + 512).sum::<u64>();
    check(&pool.objset, &[(1000, sum(&[&a, &b]), 2), (0xbeef, sum(&[&c]), 1)]);
    let tx = pool.tx();
    b.set_bonus(&tx, &mut |bonus| bonus[..8].copy_from_slice(&0xbeefu64.to_le_bytes())).unwrap();
    c.write_slice(&tx, 9_000, &noise(20_000, 5)).unwrap();
    pool.objset.free(&tx, a.id()).unwrap();
    drop(tx);
    let root = pool.sync();
    for objset in [pool.objset.clone(), pool.reopen(root)] {
        check(&objset, &[(1000, 0, 0), (0xbeef, sum(&[&b, &c]), 2)]);
    }
}

#[test]
fn a_source_that_fails_leaves_what_was_there() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let file = pool.file(&tx, 4096);
    file.write_slice(&tx, 0, &[1; 8192]).unwrap();
    drop(tx);
    pool.sync();
    let tx = pool.tx();
    assert_eq!(file.write(&tx, 0, 8192, &mut |_| Err(Error::Fault)), Err(Error::Fault));
    let mut calls = 0;
    let n = file.write(&tx, 0, 8192, &mut |piece| {
        calls += 1;
        piece.fill(2);
        if calls > 1 { Err(Error::Fault) } else { Ok(()) }
    });
    assert_eq!(n, Ok(4096));
    assert_eq!(file.read_vec(0, 8192).unwrap(), [[2; 4096], [1; 4096]].concat());
}

#[test]
fn space_and_quota_are_asked_before_a_transaction() {
    let pool = Pool::new(ObjsetKind::Zfs);
    pool.books.available.store(1 << 20, Ordering::SeqCst);
    assert_eq!(DmuTx::begin(&pool.objset, TxSpace::write(2 << 20)).unwrap_err(), Error::NoSpace);
    assert!(DmuTx::begin(&pool.objset, TxSpace::write(2 << 20).net_free()).is_ok());
    assert!(DmuTx::begin(&pool.objset, TxSpace::write(4096)).is_ok());
}

#[test]
fn unused_dnodes_are_evicted_and_come_back() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let ids: Vec<_> = (0..100u64)
        .map(|n| {
            let file = pool.file(&tx, 512);
            file.write_slice(&tx, 0, &noise(512, n)).unwrap();
            file.id()
        })
        .collect();
    drop(tx);
    pool.objset.evict_unused();
    pool.sync();
    pool.objset.evict_unused();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(pool.objset.hold(*id).unwrap().read_vec(0, 512).unwrap(), noise(512, n as u64));
    }
}

#[test]
fn a_new_object_set_is_written_though_it_is_empty() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let root = pool.sync();
    assert!(!root.is_hole());
    let ctx = pool.storage.begin_sync(Txg(5));
    assert_eq!(pool.objset.sync(&ctx).unwrap(), None);
    assert_eq!(pool.reopen(root).next_object(ObjectId(0)).unwrap(), None);
}

#[test]
fn the_pools_own_object_set_is_written_again_and_again_in_one_group() {
    let pool = Pool::new(ObjsetKind::Meta);
    let txg = pool.close();
    let mut ctx = pool.storage.begin_sync(txg);
    for pass in 1..=9u64 {
        let tx = DmuTx::syncing(&ctx);
        let object = pool.objset.allocate(&tx, &NewObject::new(DmuType::OBJECT_ARRAY, 4096)).unwrap();
        assert_eq!(object.id(), ObjectId(pass));
        pool.objset.hold(ObjectId(1)).unwrap().write_slice(&tx, pass * 8, &pass.to_le_bytes()).unwrap();
        pool.objset.sync(&ctx).unwrap().unwrap();
        ctx = ctx.next_pass();
    }
    assert_eq!(pool.objset.sync(&ctx).unwrap(), None);
    ctx.batch.wait().unwrap();
    pool.storage.sync_done(txg).unwrap();
    let again = pool.reopen(pool.objset.root());
    let got = again.hold(ObjectId(1)).unwrap().read_vec(8, 72).unwrap();
    assert_eq!(got, (1..=9u64).flat_map(u64::to_le_bytes).collect::<Vec<_>>());
    assert_eq!(again.nr_objects(), 9);
}

#[test]
fn many_dnodes_do_not_stay_in_memory() {
    let pool = Pool::new(ObjsetKind::Zfs);
    for _ in 0..4 {
        let tx = pool.tx();
        for _ in 0..2000 {
            pool.file(&tx, 512);
        }
        drop(tx);
        pool.sync();
        pool.sync();
    }
    // What was used lately gets another round.
    for _ in 0..2 {
        let tx = pool.tx();
        pool.file(&tx, 512);
        drop(tx);
        pool.sync();
    }
    assert!(pool.objset.table.len() < 2500, "{}", pool.objset.table.len());
}

#[test]
fn the_same_changes_give_the_same_blocks() {
    let run = || {
        let pool = Pool::new(ObjsetKind::Zfs);
        let mut roots = Vec::new();
        for round in 0..3u64 {
            let tx = pool.tx();
            for n in 0..20u64 {
                let file = pool.file(&tx, 16 << 10);
                file.write_slice(&tx, n * 1000, &noise(200_000, n + round)).unwrap();
            }
            if round == 1 {
                pool.objset.free(&tx, ObjectId(7)).unwrap();
                pool.objset.hold(ObjectId(8)).unwrap().free_range(&tx, 30_000, 90_000).unwrap();
            }
            drop(tx);
            roots.push(pool.sync());
        }
        roots
    };
    // Root pointers hold the checksum of everything below them, addresses included.
    assert_eq!(run(), run());
}

#[test]
fn sequential_reads_are_read_ahead() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 16 << 10) };
    let file = pool.objset.allocate(&tx, &new).unwrap();
    file.write_slice(&tx, 0, &noise(4 << 20, 1)).unwrap();
    drop(tx);
    let objset = pool.reopen(pool.sync());
    let file = objset.hold(file.id()).unwrap();
    let stats = || objset.storage().arc().stats();
    let mut nr_missed = 0;
    for block in 0..256u64 {
        let before = stats().misses;
        let want = noise(4 << 20, 1)[(block as usize) << 14..][..16 << 10].to_vec();
        assert_eq!(file.read_vec(block << 14, 16 << 10).unwrap(), want);
        nr_missed += u64::from(stats().misses > before);
    }
    // Lookups that miss are those of whole bunches read ahead; a block at a time would be 256 and more.
    assert!(nr_missed < 60, "{nr_missed} of 256 reads waited");
}

#[test]
fn reading_more_than_the_cache_holds_stays_within_it() {
    const LEN: u64 = 48 << 20;
    let pool = Pool::new(ObjsetKind::Zfs);
    let file = {
        let tx = pool.tx();
        pool.file(&tx, 64 << 10)
    };
    for part in 0..LEN >> 20 {
        let tx = pool.tx();
        file.write_slice(&tx, part << 20, &noise(1 << 20, part)).unwrap();
        drop(tx);
        if part % 8 == 7 {
            pool.sync();
        }
    }
    let objset = pool.reopen(pool.objset.root());
    let file = objset.hold(file.id()).unwrap();
    let arc = objset.storage().arc();
    let mut most = 0;
    for part in 0..LEN >> 20 {
        assert_eq!(file.read_vec(part << 20, 1 << 20).unwrap(), noise(1 << 20, part));
        most = most.max(arc.used());
    }
    assert!(most < arc.target() * 2, "{most} of {}", arc.target());
    let nr_buffers =
        core::iter::successors(file.level(0).next(0), |(b, _)| file.level(0).next(b + 1)).count();
    assert!((nr_buffers as u64) << 16 < arc.target() * 2, "{nr_buffers} buffers");
}

#[test]
fn pages_are_shared_with_the_cache_and_kept_as_they_were() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let tx = pool.tx();
    let file = pool.file(&tx, 16 << 10);
    file.write_slice(&tx, 0, &noise(16 << 10, 1)).unwrap();
    let page = file.page(5000).unwrap().unwrap();
    assert_eq!(page.as_ptr(), file.page(4096).unwrap().unwrap().as_ptr());
    assert_eq!(page.bytes(), &noise(16 << 10, 1)[4096..8192]);
    file.write_slice(&tx, 4096, &[1; 10]).unwrap();
    assert_eq!(page.bytes(), &noise(16 << 10, 1)[4096..8192]);
    assert_eq!(&file.page(4096).unwrap().unwrap().bytes()[..10], &[1; 10]);
    assert!(file.page(1 << 20).unwrap().is_none());
    let small = pool.file(&tx, 1024);
    small.write_slice(&tx, 0, &[7; 1024]).unwrap();
    let page = small.page(0).unwrap().unwrap();
    assert!(page.bytes()[..1024].iter().all(|b| *b == 7) && page.bytes()[1024..].iter().all(|b| *b == 0));
}

#[test]
fn data_is_found_while_the_object_grows_levels() {
    [40, 5000].into_iter().for_each(grow_to);
}

/// Writes a block far behind another, and looks for both at each step of writing them to disk.
fn grow_to(far: u64) {
    let pool = Pool::new(ObjsetKind::Zfs);
    let file = {
        let tx = pool.tx();
        let new = NewObject { indirect_shift: 12, ..NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512) };
        let file = pool.objset.allocate(&tx, &new).unwrap();
        file.write_slice(&tx, 2 * 512, &noise(512, 1)).unwrap();
        file
    };
    pool.sync();
    pool.storage.arc().shrink(u64::MAX);
    file.write_slice(&pool.tx(), far * 512, &noise(512, 2)).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let (count, looked_at, storage) = (seen.clone(), file.clone(), pool.storage.clone());
    *pool.books.at_birth.lock().unwrap() = Some(Box::new(move || {
        storage.arc().shrink(u64::MAX);
        assert_eq!(looked_at.next_offset(0, Seek::Data), Ok(Some(2 * 512)));
        assert_eq!(looked_at.next_offset(3 * 512, Seek::Data), Ok(Some(far * 512)));
        count.fetch_add(1, Ordering::SeqCst);
    }));
    pool.sync();
    *pool.books.at_birth.lock().unwrap() = None;
    assert!(seen.load(Ordering::SeqCst) > 0);
}
