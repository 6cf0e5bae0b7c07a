use super::*;
use crate::Error;
use crate::event::{Event, EventLog};
use crate::vdev::{AllocClass, Priority, VdevKind, VdevSpec, layout};
use abd::Abd;
use blockdev::{BlockDevice, Op};
use blockdev_host::MemDisk;
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, DmuType, ObjectId, Txg};
use proptest::prelude::*;
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DISK: u64 = 64 << 20;

pub(super) struct Pool {
    pub(super) storage: Arc<Storage>,
    pub(super) disks: Vec<Arc<MemDisk>>,
    pub(super) events: EventLog,
}

fn leaf(id: u32, disk: &Arc<MemDisk>, ashift: u8) -> VdevSpec {
    let asize = layout::leaf_asize(disk.geometry().capacity);
    let device: Arc<dyn BlockDevice> = disk.clone();
    VdevSpec {
        kind: VdevKind::Leaf,
        id,
        guid: u64::from(id) + 1,
        device: Some(device),
        state: crate::vdev::VdevState::Online,
        ashift,
        asize,
        metaslab_shift: layout::metaslab_shift_for(asize),
        metaslab_array: ObjectId(0),
        class: AllocClass::Normal,
        is_excluded: false,
        top_zap: ObjectId(0),
        children: Vec::new(),
    }
}

fn open(specs: &[VdevSpec], disks: Vec<Arc<MemDisk>>, arc: u64) -> Pool {
    let events = EventLog::new();
    let config =
        StorageConfig { is_read_only: false, arc_target: arc, nr_allocators: 1, events: events.clone() };
    let storage = Storage::open(specs, &config).unwrap();
    storage.set_format(Format::all());
    storage.init_metaslabs().unwrap();
    Pool { storage, disks, events }
}

pub(super) fn striped(nr: u32, ashift: u8) -> Pool {
    let disks: Vec<_> = (0..nr).map(|_| Arc::new(MemDisk::new(DISK))).collect();
    let specs: Vec<_> = disks.iter().zip(0..).map(|(d, id)| leaf(id, d, ashift)).collect();
    open(&specs, disks, 16 << 20)
}

fn mirror(nr: u32) -> Pool {
    let disks: Vec<_> = (0..nr).map(|_| Arc::new(MemDisk::new(DISK))).collect();
    let children = disks.iter().zip(0..).map(|(d, id)| leaf(id, d, 12)).collect();
    let top = VdevSpec { kind: VdevKind::Mirror, device: None, children, ..leaf(0, &disks[0], 12) };
    open(&[top], disks, 16 << 20)
}

pub(super) fn data_policy() -> WritePolicy {
    WritePolicy {
        kind: DmuType::PLAIN_FILE_CONTENTS,
        level: 0,
        checksum: Checksum::On,
        compress: Compression::On,
        copies: 1,
        fill: 1,
        small_max: 0,
        pass: 1,
    }
}

pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

pub(super) fn mark(blkid: u64) -> Bookmark {
    Bookmark::new(5, ObjectId(7), 0, blkid)
}

impl Pool {
    fn write(&self, ctx: &SyncCtx, data: &[u8], policy: &WritePolicy, old: &BlkPtr) -> crate::Result<BlkPtr> {
        let prepared =
            self.storage.prepare(Abd::copy_from(data), &WritePolicy { pass: ctx.pass, ..*policy })?;
        self.storage.issue(ctx, prepared, old, mark(0))
    }

    fn write_one(&self, data: &[u8], policy: &WritePolicy) -> BlkPtr {
        let ctx = self.storage.begin_sync(Txg(4));
        let bp = self.write(&ctx, data, policy, &BlkPtr::HOLE).unwrap();
        ctx.batch.wait().unwrap();
        bp
    }

    pub(super) fn read(&self, bp: &BlkPtr) -> crate::Result<Vec<u8>> {
        self.storage.read(bp, mark(3), Priority::SyncRead).map(|buf| buf.abd().to_vec())
    }

    pub(super) fn fresh_read(&self, bp: &BlkPtr) -> crate::Result<Vec<u8>> {
        self.storage.read_uncached(bp, mark(3), Priority::SyncRead).map(|abd| abd.to_vec())
    }

    /// Damages the bytes of one copy.
    fn rot(&self, disk: usize, offset: u64) {
        self.disks[disk].rot(layout::DATA_START + offset, &[0xa5; 64]);
    }
}

#[test]
fn what_is_written_is_read_back() {
    for ashift in [9, 12, 13] {
        let pool = striped(2, ashift);
        for (len, seed) in [(512, 1), (4096, 2), (5120, 3), (131_072, 4), (1 << 20, 5)] {
            let mut data = noise(len, seed);
            data[len / 2..].fill(7);
            for compress in
                [Compression::Off, Compression::On, Compression::Lzjb, Compression::Gzip6, Compression::Zle]
            {
                for checksum in
                    [Checksum::On, Checksum::Off, Checksum::Sha256, Checksum::Fletcher2, Checksum::Sha512]
                {
                    let policy = WritePolicy { compress, checksum, ..data_policy() };
                    let bp = pool.write_one(&data, &policy);
                    assert_eq!(bp.lsize() as usize, len);
                    assert_eq!(bp.fill(), 1);
                    assert!(bp.is_embedded() || bp.dva(0).asize.is_multiple_of(1 << ashift));
                    assert_eq!(pool.fresh_read(&bp).unwrap(), data, "{bp:?}");
                    assert_eq!(pool.read(&bp).unwrap(), data);
                    assert_eq!(pool.read(&bp).unwrap(), data);
                }
            }
        }
        assert!(pool.events.snapshot().is_empty());
    }
}

#[test]
fn zeroes_are_holes_and_little_is_embedded() {
    let pool = striped(1, 12);
    let ctx = pool.storage.begin_sync(Txg(9));
    let never = pool.write(&ctx, &[0; 4096], &data_policy(), &BlkPtr::HOLE).unwrap();
    assert_eq!(never, BlkPtr::HOLE, "no birth where nothing was");
    let block = pool.write(&ctx, &noise(4096, 1), &data_policy(), &never).unwrap();
    let hole = pool.write(&ctx, &[0; 4096], &data_policy(), &block).unwrap();
    assert!(hole.is_hole() && hole.birth() == Txg(9) && hole.lsize() == 4096);
    assert_eq!(hole.dmu_type(), DmuType::PLAIN_FILE_CONTENTS);
    assert_eq!(pool.read(&hole).unwrap(), [0; 4096]);
    pool.storage.set_format(Format::all() - Format::HOLE_BIRTH - Format::EMBEDDED_DATA);
    assert_eq!(pool.write(&ctx, &[0; 4096], &data_policy(), &block).unwrap(), BlkPtr::HOLE);
    let raw = WritePolicy { compress: Compression::Off, ..data_policy() };
    assert!(!pool.write(&ctx, &[0; 4096], &raw, &block).unwrap().is_hole());

    let mut little = vec![0; 4096];
    little[..10].copy_from_slice(b"0123456789");
    assert!(!pool.write(&ctx, &little, &data_policy(), &BlkPtr::HOLE).unwrap().is_embedded());
    pool.storage.set_format(Format::all());
    let bp = pool.write(&ctx, &little, &data_policy(), &BlkPtr::HOLE).unwrap();
    assert!(bp.is_embedded() && bp.birth() == Txg(9));
    assert_eq!(pool.read(&bp).unwrap(), little);
    for policy in
        [WritePolicy { level: 1, ..data_policy() }, WritePolicy { kind: DmuType::DNODE, ..data_policy() }]
    {
        assert!(!pool.write(&ctx, &little, &policy, &BlkPtr::HOLE).unwrap().is_embedded());
    }
    ctx.batch.wait().unwrap();
}

#[test]
fn compression_is_kept_only_when_it_pays() {
    let pool = striped(1, 12);
    let mut data = noise(8192, 1);
    data[7400..].fill(0);
    let bp = pool.write_one(&data, &data_policy());
    assert_eq!(
        (bp.compression(), bp.psize()),
        (Compression::Off, 8192),
        "less than an eighth, or no unit saved"
    );
    data[3000..].fill(0);
    let bp = pool.write_one(&data, &data_policy());
    assert_eq!((bp.compression(), bp.psize()), (Compression::Lz4, 4096));
    let late = WritePolicy { pass: PASS_DONT_COMPRESS, ..data_policy() };
    let prepared = pool.storage.prepare(Abd::copy_from(&data), &late).unwrap();
    assert_eq!(prepared.psize(), 8192);
    assert!(!pool.storage.prepare(Abd::zeroed(8192), &late).unwrap().is_hole());
    pool.storage.set_format(Format::empty());
    assert_eq!(pool.write_one(&data, &data_policy()).compression(), Compression::Lzjb);
}

#[test]
fn a_bad_copy_heals_from_a_good_one() {
    let pool = striped(1, 12);
    let data = noise(16 << 10, 1);
    let bp = pool.write_one(&data, &WritePolicy { copies: 3, ..data_policy() });
    assert_eq!(bp.nr_dvas(), 3);
    pool.rot(0, bp.dva(0).offset + 100);
    pool.rot(0, bp.dva(1).offset + 5000);
    assert_eq!(pool.read(&bp).unwrap(), data);
    let events = pool.events.snapshot();
    let place = |i: usize| (u64::from(bp.dva(i).vdev), bp.dva(i).offset);
    for index in [0, 1] {
        let (vdev, offset) = place(index);
        assert!(events.contains(&Event::BadCopy { bookmark: mark(3), vdev, offset, is_device_error: false }));
        assert!(events.contains(&Event::Repaired { bookmark: mark(3), vdev, offset }));
    }
    let checks = pool.storage.check_copies(&bp, mark(3)).unwrap();
    assert!(checks.len() == 3 && checks.iter().all(|c| c.result.is_ok()));
    pool.rot(0, bp.dva(2).offset);
    let checks = pool.storage.check_copies(&bp, mark(3)).unwrap();
    assert_eq!(checks.iter().map(|c| c.result).collect::<Vec<_>>(), [Ok(()), Ok(()), Err(Error::Checksum)]);
}

#[test]
fn a_lost_block_is_an_error_and_an_event_and_is_tried_again() {
    let pool = striped(1, 12);
    let data = noise(8192, 1);
    let bp = pool.write_one(&data, &data_policy());
    let kept = pool.disks[0].peek(layout::DATA_START + bp.dva(0).offset, 64);
    pool.rot(0, bp.dva(0).offset);
    assert_eq!(pool.read(&bp), Err(Error::Checksum));
    assert!(pool.events.snapshot().contains(&Event::Lost { bookmark: mark(3), offset: 3 * 8192 }));
    pool.disks[0].rot(layout::DATA_START + bp.dva(0).offset, &kept);
    assert_eq!(pool.read(&bp).unwrap(), data, "the failure was not cached");
}

#[test]
fn device_errors_are_retried_once_and_then_another_copy_serves() {
    let pool = striped(2, 12);
    let data = noise(8192, 1);
    let bp = pool.write_one(&data, &WritePolicy { copies: 2, ..data_policy() });
    let first = bp.dva(0);
    let nr_failed = Arc::new(AtomicUsize::new(0));
    let fail_times = |times: usize| {
        nr_failed.store(0, Ordering::Relaxed);
        let nr_failed = nr_failed.clone();
        pool.disks[first.vdev as usize].set_hook(Some(Arc::new(move |op: &Op| {
            let is_read = matches!(op, Op::Read { .. });
            (is_read && nr_failed.fetch_add(1, Ordering::Relaxed) < times).then_some(blockdev::Error::Io)
        })));
    };
    fail_times(1);
    assert_eq!(pool.fresh_read(&bp).unwrap(), data);
    assert!(pool.events.snapshot().is_empty(), "a passing fault");
    fail_times(100);
    assert_eq!(pool.fresh_read(&bp).unwrap(), data);
    let (vdev, offset) = (u64::from(first.vdev), first.offset);
    assert!(pool.events.snapshot().contains(&Event::BadCopy {
        bookmark: mark(3),
        vdev,
        offset,
        is_device_error: true
    }));
    let single = pool.write_one(&data, &data_policy());
    pool.disks.iter().for_each(|d| d.set_hook(Some(Arc::new(|_| Some(blockdev::Error::Io)))));
    assert_eq!(pool.fresh_read(&single), Err(Error::Io));
}

#[test]
fn a_failed_write_fails_the_batch() {
    let pool = striped(1, 12);
    let ctx = pool.storage.begin_sync(Txg(4));
    pool.disks[0]
        .set_hook(Some(Arc::new(|op: &Op| matches!(op, Op::Write { .. }).then_some(blockdev::Error::Io))));
    pool.write(&ctx, &noise(4096, 1), &data_policy(), &BlkPtr::HOLE).unwrap();
    assert_eq!(ctx.batch.wait(), Err(Error::Io));
    assert!(matches!(pool.events.snapshot()[..], [Event::WriteFailed { vdev: 0, .. }]));
}

#[test]
fn flush_makes_durable_and_only_what_was_written_is_flushed() {
    let pool = striped(2, 12);
    let bp = pool.write_one(&noise(4096, 1), &data_policy());
    let written = bp.dva(0).vdev as usize;
    assert!(pool.disks[written].nr_unflushed() > 0);
    pool.storage.flush_all().unwrap();
    assert_eq!(pool.disks[written].nr_unflushed(), 0);
    let flushes = |disk: usize| pool.disks[disk].stats().flushes;
    assert_eq!((flushes(written), flushes(1 - written)), (1, 0));
    pool.storage.flush_all().unwrap();
    assert_eq!(flushes(written), 1);
    pool.write_one(&noise(4096, 1), &data_policy());
    for disk in &pool.disks {
        let fail = |op: &Op| matches!(op, Op::Flush).then_some(blockdev::Error::Io);
        disk.set_hook(Some(Arc::new(fail)));
    }
    assert_eq!(pool.storage.flush_all(), Err(Error::Io));
    pool.disks.iter().for_each(|d| d.set_hook(None));
    pool.storage.flush_all().unwrap();
    assert!(
        pool.disks.iter().all(|d| d.nr_unflushed() == 0),
        "what a failed flush left is flushed by the next one"
    );
}

#[test]
fn a_block_of_this_txg_is_rewritten_in_place_from_pass_two() {
    let pool = striped(1, 12);
    let ctx = pool.storage.begin_sync(Txg(4));
    let raw = WritePolicy { compress: Compression::Off, copies: 3, ..data_policy() };
    let first = pool.write(&ctx, &noise(8192, 1), &raw, &BlkPtr::HOLE).unwrap();
    pool.storage.arc().insert(&first, Abd::copy_from(&noise(8192, 1)));
    let same_pass = pool.write(&ctx, &noise(8192, 2), &raw, &first).unwrap();
    assert_ne!(same_pass.dva(0), first.dva(0));
    let ctx = ctx.next_pass();
    let again = pool.write(&ctx, &noise(8192, 3), &raw, &first).unwrap();
    assert!(again.dvas().eq(first.dvas()) && again.digest() != first.digest());
    assert_eq!(pool.read(&again).unwrap(), noise(8192, 3), "the cache does not keep the old content");
    let longer = pool.write(&ctx, &noise(16384, 3), &raw, &again).unwrap();
    assert_ne!(longer.dva(0), first.dva(0));
    ctx.batch.wait().unwrap();
    assert_eq!(pool.fresh_read(&again).unwrap(), noise(8192, 3));
    let next = pool.storage.begin_sync(Txg(5)).next_pass();
    let newer = pool.write(&next, &noise(8192, 4), &raw, &again).unwrap();
    assert_ne!(newer.dva(0), first.dva(0), "an older block is never overwritten");
    next.batch.wait().unwrap();
}

/// Leaves no free range longer than `len` bytes.
fn fragment(pool: &Pool, len: u64) {
    let size = pool.storage.space().size;
    let step = len + 4096;
    let mut at = 0;
    while at + step <= size {
        pool.storage.allocator.claim(0, at + len, 4096, Txg(3)).unwrap();
        at += step;
    }
    if at + len < size {
        pool.storage.allocator.claim(0, at, size - at, Txg(3)).unwrap();
    }
}

#[test]
fn blocks_are_ganged_when_space_is_in_pieces() {
    for (free, psize) in [(64 << 10, 128 << 10), (4096, 128 << 10), (8192, 1 << 20)] {
        let pool = striped(1, 12);
        fragment(&pool, free);
        let before = pool.storage.space();
        let data = noise(psize, 9);
        let bp = pool.write_one(&data, &WritePolicy { copies: 2, ..data_policy() });
        assert!(bp.is_gang() && bp.nr_dvas() == 3, "{bp:?}");
        assert_eq!(pool.fresh_read(&bp).unwrap(), data);
        assert_eq!(pool.read(&bp).unwrap(), data);
        let mut bytes = 0;
        pool.storage
            .for_each_place(&bp, &mut |_, _, asize| {
                bytes += asize;
                Ok(())
            })
            .unwrap();
        let after = pool.storage.space();
        assert_eq!(after.allocated - before.allocated, bytes);
        assert!(pool.storage.check_copies(&bp, mark(0)).unwrap().iter().all(|c| c.result.is_ok()));
        pool.rot(0, bp.dva(0).offset + 10);
        assert_eq!(pool.fresh_read(&bp).unwrap(), data, "another copy of the header");
        let ctx = pool.storage.begin_sync(Txg(5));
        pool.storage.free(&ctx, &bp).unwrap();
        assert_eq!(pool.storage.space().allocated, before.allocated, "the pieces are freed with it");
        let lost = pool.write_one(&noise(psize, 10), &data_policy());
        let with_it = pool.storage.space().allocated;
        lost.dvas().for_each(|dva| pool.rot(dva.vdev as usize, dva.offset));
        pool.storage.free(&ctx, &lost).unwrap();
        let headers = lost.nr_dvas() as u64 * 4096;
        assert_eq!(pool.storage.space().allocated, with_it - headers, "pieces that no one knows leak");
        assert!(pool.events.snapshot().iter().any(|e| matches!(e, Event::Damaged { .. })));
    }
}

#[test]
fn no_space_leaves_nothing_behind() {
    let pool = striped(1, 12);
    fragment(&pool, 4096);
    let before = pool.storage.space();
    let ctx = pool.storage.begin_sync(Txg(4));
    let raw = WritePolicy { copies: 3, ..data_policy() };
    let mut blocks = Vec::new();
    let error = loop {
        match pool.write(&ctx, &noise(1 << 20, 9), &raw, &BlkPtr::HOLE) {
            Ok(bp) => blocks.push(bp),
            Err(e) => break e,
        }
    };
    assert_eq!(error, Error::NoSpace);
    ctx.batch.wait().unwrap();
    let mut bytes = 0;
    for bp in &blocks {
        pool.storage
            .for_each_place(bp, &mut |_, _, asize| {
                bytes += asize;
                Ok(())
            })
            .unwrap();
        assert_eq!(pool.fresh_read(bp).unwrap(), noise(1 << 20, 9));
    }
    assert_eq!(pool.storage.space().allocated - before.allocated, bytes);
}

#[test]
fn a_block_being_written_is_read_from_memory_and_large_batches_stay_bounded() {
    let pool = striped(2, 12);
    let ctx = pool.storage.begin_sync(Txg(4));
    let mut blocks = Vec::new();
    for seed in 0..70 {
        let bp = pool.write(&ctx, &noise(1 << 20, seed), &data_policy(), &BlkPtr::HOLE).unwrap();
        assert_eq!(pool.fresh_read(&bp).unwrap(), noise(1 << 20, seed));
        blocks.push((bp, mark(seed)));
    }
    ctx.batch.wait().unwrap();
    let read = pool.storage.read_many(&blocks, Priority::SyncRead);
    for (seed, buf) in read.into_iter().enumerate() {
        assert_eq!(buf.unwrap().abd().to_vec(), noise(1 << 20, seed as u64));
    }
}

#[test]
fn read_many_serves_duplicates_holes_and_bad_copies() {
    let pool = striped(2, 12);
    let a = pool.write_one(&noise(8192, 1), &WritePolicy { copies: 2, ..data_policy() });
    let b = pool.write_one(&noise(8192, 2), &data_policy());
    let lost = pool.write_one(&noise(8192, 3), &data_policy());
    pool.rot(a.dva(0).vdev as usize, a.dva(0).offset);
    pool.rot(lost.dva(0).vdev as usize, lost.dva(0).offset);
    let list = [a, b, a, BlkPtr::HOLE, lost, b].map(|bp| (bp, mark(1)));
    let results: Vec<_> = pool
        .storage
        .read_many(&list, Priority::SyncRead)
        .into_iter()
        .map(|r| r.map(|buf| buf.abd().to_vec()))
        .collect();
    let expected = [
        Ok(noise(8192, 1)),
        Ok(noise(8192, 2)),
        Ok(noise(8192, 1)),
        Ok(vec![0; 512]),
        Err(Error::Checksum),
        Ok(noise(8192, 2)),
    ];
    assert_eq!(results, expected);
}

#[test]
fn a_prefetched_block_is_verified_by_its_reader() {
    let pool = striped(1, 12);
    let good = pool.write_one(&noise(8192, 1), &data_policy());
    let bad = pool.write_one(&noise(8192, 2), &WritePolicy { copies: 2, ..data_policy() });
    pool.rot(0, bad.dva(0).offset);
    pool.storage.prefetch(&good, mark(0));
    pool.storage.prefetch(&bad, mark(0));
    let reads = pool.disks[0].stats().reads;
    assert_eq!(pool.read(&good).unwrap(), noise(8192, 1));
    assert_eq!(pool.disks[0].stats().reads, reads, "it was there");
    assert_eq!(pool.read(&bad).unwrap(), noise(8192, 2));
    assert_eq!(pool.storage.prefetching.load(Ordering::Relaxed), 0);
    pool.disks[0].set_hook(Some(Arc::new(|_| Some(blockdev::Error::Io))));
    let third = BlkPtr::from_bytes(&{
        let mut bp = good;
        bp.set_birth(Txg(3), Txg(3));
        bp.to_bytes()
    })
    .unwrap();
    pool.storage.prefetch(&third, mark(0));
    pool.disks[0].set_hook(None);
    assert_eq!(pool.read(&third).unwrap(), noise(8192, 1), "a failed read ahead is read anew");
}

#[test]
fn mirrors_write_all_sides_and_heal_the_bad_one() {
    let pool = mirror(3);
    let data = noise(128 << 10, 1);
    let bp = pool.write_one(&data, &data_policy());
    let at = layout::DATA_START + bp.dva(0).offset;
    for disk in &pool.disks {
        assert_eq!(disk.peek(at, data.len()), data);
    }
    pool.rot(0, bp.dva(0).offset);
    pool.rot(1, bp.dva(0).offset);
    assert_eq!(pool.fresh_read(&bp).unwrap(), data);
    let checks = pool.storage.check_copies(&bp, mark(0)).unwrap();
    assert!(checks.len() == 3 && checks.iter().all(|c| c.result.is_ok()), "{checks:?}");
    for disk in &pool.disks {
        disk.rot(at, &data);
    }
    for kept in 0..3 {
        for (index, disk) in pool.disks.iter().enumerate() {
            let is_dead = index != kept;
            disk.set_hook(Some(Arc::new(move |_: &Op| is_dead.then_some(blockdev::Error::Gone))));
        }
        assert_eq!(pool.fresh_read(&bp).unwrap(), data, "one side is enough");
    }
}

/// A raidz; `absent` are the children without a device.
fn raidz(nr: u32, nparity: u8, ashift: u8, disks: Vec<Arc<MemDisk>>, absent: &[usize]) -> Pool {
    let children: Vec<VdevSpec> = disks
        .iter()
        .zip(0..)
        .map(|(d, id)| {
            let device = (!absent.contains(&(id as usize))).then(|| -> Arc<dyn BlockDevice> { d.clone() });
            VdevSpec { device, ..leaf(id, d, ashift) }
        })
        .collect();
    let asize = children[0].asize * u64::from(nr);
    let metaslab_shift = layout::metaslab_shift_for(asize);
    let kind = VdevKind::RaidZ { nparity };
    let top = VdevSpec { kind, asize, metaslab_shift, device: None, children, ..leaf(0, &disks[0], ashift) };
    open(&[top], disks, 16 << 20)
}

#[test]
fn raidz_survives_as_many_bad_children_as_it_has_parity() {
    for (nr, nparity, ashift) in [(3, 1, 9), (4, 1, 12), (5, 2, 9), (6, 3, 12)] {
        let disks: Vec<_> = (0..nr).map(|_| Arc::new(MemDisk::new(DISK))).collect();
        let pool = raidz(nr, nparity, ashift, disks.clone(), &[]);
        let sizes = [1 << ashift, 5 << ashift, 12 << 10, 128 << 10, 1 << 20];
        let blocks: Vec<(BlkPtr, Vec<u8>)> = sizes
            .iter()
            .map(|size| {
                let data = noise(*size, *size as u64);
                (pool.write_one(&data, &data_policy()), data)
            })
            .collect();
        for (bp, data) in &blocks {
            assert_eq!(&pool.fresh_read(bp).unwrap(), data);
        }
        let before = pool.disks.iter().map(|d| d.peek(layout::DATA_START, 2 << 20)).collect::<Vec<_>>();
        for first in 0..nr as usize {
            let bad: Vec<usize> = (0..usize::from(nparity)).map(|i| (first + i) % nr as usize).collect();
            for &disk in &bad {
                pool.disks[disk].rot(layout::DATA_START, &vec![0x5a; 2 << 20]);
            }
            for (bp, data) in &blocks {
                assert_eq!(&pool.fresh_read(bp).unwrap(), data, "{bad:?} of {nr} bad");
                let checks = pool.storage.check_copies(bp, mark(0)).unwrap();
                assert!(checks.iter().all(|c| c.result.is_ok()), "repaired");
            }
            let degraded = raidz(nr, nparity, ashift, disks.clone(), &bad);
            assert!(degraded.storage.vdevs()[0].is_degraded());
            for (bp, data) in &blocks {
                assert_eq!(&degraded.fresh_read(bp).unwrap(), data, "{bad:?} of {nr} absent");
            }
            for &disk in &bad {
                pool.disks[disk].rot(layout::DATA_START, &before[disk]);
            }
        }
        for disk in 0..=usize::from(nparity) {
            pool.disks[disk].rot(layout::DATA_START, &vec![0x5a; 2 << 20]);
        }
        assert_eq!(pool.fresh_read(&blocks[4].0), Err(Error::Checksum), "one too many");
    }
}

#[test]
fn any_three_bad_children_of_a_wide_raidz_are_found() {
    const WIDTH: usize = 80;
    let disks: Vec<_> = (0..WIDTH).map(|_| Arc::new(MemDisk::new(DISK))).collect();
    let pool = raidz(WIDTH as u32, 3, 9, disks, &[]);
    let first_child = |bp: &BlkPtr| (bp.dva(0).offset >> 9) as usize % WIDTH;
    let data = noise(8 << 10, 7);
    // Three parity columns, then sixteen of data, the last of them on one of the last children.
    let bp = (0..200)
        .map(|_| pool.write_one(&data, &data_policy()))
        .find(|bp| (WIDTH - 24..=WIDTH - 19).contains(&first_child(bp)))
        .expect("blocks begin everywhere");
    let last = first_child(&bp) + 18;
    let before: u64 = pool.disks.iter().map(|disk| disk.stats().reads).sum();
    for child in last - 2..=last {
        pool.disks[child].rot(layout::DATA_START, &vec![0x5a; 2 << 20]);
    }
    assert!(pool.fresh_read(&bp).unwrap() == data);
    let reads = pool.disks.iter().map(|disk| disk.stats().reads).sum::<u64>() - before;
    assert!(reads <= 2 * 19, "columns are read once, and once more to be tried: {reads}");
    assert!(pool.fresh_read(&bp).unwrap() == data);
    for child in last - 3..=last {
        pool.disks[child].rot(layout::DATA_START, &vec![0x5a; 2 << 20]);
    }
    assert_eq!(pool.fresh_read(&bp), Err(Error::Checksum), "one too many");
}

#[test]
fn read_only_pools_are_not_repaired() {
    let pool = striped(1, 12);
    let data = noise(8192, 1);
    let bp = pool.write_one(&data, &WritePolicy { copies: 2, ..data_policy() });
    pool.rot(0, bp.dva(0).offset);
    let config = StorageConfig {
        is_read_only: true,
        arc_target: 1 << 20,
        nr_allocators: 1,
        events: pool.events.clone(),
    };
    let storage = Storage::open(&[leaf(0, &pool.disks[0], 12)], &config).unwrap();
    let writes = pool.disks[0].stats().writes;
    assert_eq!(storage.read(&bp, mark(0), Priority::SyncRead).unwrap().abd().to_vec(), data);
    assert_eq!(pool.disks[0].stats().writes, writes);
    let ctx = storage.begin_sync(Txg(5));
    let prepared = storage.prepare(Abd::copy_from(&data), &data_policy()).unwrap();
    assert_eq!(storage.issue(&ctx, prepared, &BlkPtr::HOLE, mark(0)), Err(Error::ReadOnly));
    assert_eq!(storage.free(&ctx, &bp), Err(Error::ReadOnly));
}

#[test]
fn foreign_blocks_are_swapped_once() {
    let pool = striped(1, 12);
    let words: Vec<u64> = (0..512u64).map(|i| i.wrapping_mul(0x0102_0304_0506_0708)).collect();
    let swapped: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
    let native: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let policy = WritePolicy { kind: DmuType::SPACE_MAP, compress: Compression::Off, ..data_policy() };
    let mut bp = pool.write_one(&swapped, &policy);
    bp.set_little_endian(false);
    bp.set_digest(codec::checksum(Checksum::Fletcher4, &swapped, true, None).unwrap());
    assert_eq!(pool.fresh_read(&bp).unwrap(), native);
    assert_eq!(pool.read(&bp).unwrap(), native);
    assert_eq!(pool.read(&bp).unwrap(), native);
}

#[test]
fn same_input_same_bytes() {
    let run = || {
        let pool = striped(2, 12);
        let ctx = pool.storage.begin_sync(Txg(4));
        for seed in 0..50 {
            let policy = WritePolicy { copies: (seed % 3 + 1) as u8, ..data_policy() };
            pool.write(&ctx, &noise(4096 * (seed as usize % 40 + 1), seed), &policy, &BlkPtr::HOLE).unwrap();
        }
        ctx.batch.wait().unwrap();
        pool.disks.iter().map(|d| d.peek(0, DISK as usize)).collect::<Vec<_>>()
    };
    assert!(run() == run());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_block_pointer_is_an_error_or_data_never_a_panic(words in prop::array::uniform16(any::<u64>()), small: bool) {
        let pool = striped(1, 12);
        let mut words = words;
        if small {
            // Likely to pass the first checks.
            words[0] &= 0xff;
            words[1] &= 0x8000_0000_0000_ffff;
            words[6] = words[6] & 0x80ff_0f0f_00ff_00ff | 2 << 32;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        if let Ok(bp) = BlkPtr::from_bytes(&bytes) {
            let _ = pool.read(&bp);
            pool.storage.prefetch(&bp, mark(0));
            let _ = pool.storage.check_copies(&bp, mark(0));
            let _ = pool.storage.free(&pool.storage.begin_sync(Txg(4)), &bp);
            let _ = pool.storage.claim(&bp, Txg(4));
        }
    }
}
