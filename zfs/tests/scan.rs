//! Scrubs: what they find, what they repair, and that they go on where they stopped.
use blockdev::{BlockDevice, Op};
use blockdev_host::MemDisk;
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zfs::Error;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::dsl::{Property, PropertyValue};
use zfs::scan::{ScanFunc, ScanState, ScanStatus};
use zfs::spa::{ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

const RECORD: u32 = 16 << 10;

fn disk() -> Arc<MemDisk> {
    Arc::new(MemDisk::new(256 << 20))
}

fn create(disk: &Arc<MemDisk>) -> Arc<Spa> {
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut nothing).unwrap()
}

fn import(disk: &Arc<MemDisk>) -> Arc<Spa> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    Spa::import(&[device], &ImportOptions::default()).unwrap()
}

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

/// Noise that no compression touches, different for each seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..len).map(step).collect()
}

/// A new object of `nr` records; record `i` holds the noise of seed `first + i`.
fn write_object(objset: &Arc<Objset>, first: u64, nr: u64) -> ObjectId {
    let tx = DmuTx::begin(objset, TxSpace::names(1, 0)).unwrap();
    let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, RECORD)).unwrap();
    drop(tx);
    overwrite(objset, object.id(), first, nr);
    object.id()
}

fn overwrite(objset: &Arc<Objset>, id: ObjectId, first: u64, nr: u64) {
    let object = objset.hold(id).unwrap();
    for index in 0..nr {
        let tx = DmuTx::begin(objset, TxSpace::write(RECORD.into())).unwrap();
        let data = noise(first + index, RECORD as usize);
        object.write_slice(&tx, index * u64::from(RECORD), &data).unwrap();
    }
}

/// Where on the disk a record's copies lie.
fn copies_of(disk: &MemDisk, seed: u64) -> Vec<u64> {
    let wanted = noise(seed, 64);
    let all = disk.peek(0, 256 << 20);
    all.chunks(4096)
        .enumerate()
        .filter(|(_, c)| c.starts_with(&wanted))
        .map(|(i, _)| i as u64 * 4096)
        .collect()
}

fn damage(disk: &MemDisk, at: u64) {
    disk.write(at, abd::Abd::copy_from(&[0x55; 512])).unwrap();
}

fn scrub(spa: &Arc<Spa>) -> ScanStatus {
    spa.scrub().unwrap();
    wait(spa)
}

fn wait(spa: &Arc<Spa>) -> ScanStatus {
    spa.scan_wait(Duration::from_millis(100), &mut |_| {});
    let status = spa.scan_status();
    assert!(!status.is_running(), "{status:?}");
    status
}

fn dataset(spa: &Arc<Spa>, name: &str, copies: u64) -> Arc<Objset> {
    spa.create_dataset(name, &[(Property::Copies, PropertyValue::Number(copies))], &mut nothing).unwrap();
    spa.open_dataset(name).unwrap().objset()
}

#[test]
fn a_whole_pool_scrubs_without_a_finding() {
    let disk = disk();
    let spa = create(&disk);
    assert_eq!(spa.scan_status().func, ScanFunc::None);
    let objset = dataset(&spa, "tank/a", 1);
    write_object(&objset, 1, 200);
    spa.sync().unwrap();
    let status = scrub(&spa);
    assert_eq!((status.func, status.state), (ScanFunc::Scrub, ScanState::Finished));
    assert_eq!((status.errors, status.processed), (0, 0));
    assert!(status.examined > 200 * u64::from(RECORD), "{status:?}");
    // What was allocated when it began, less what the beginning itself has freed, give or take what is in no tree.
    assert!(status.examined - status.skipped <= status.to_examine, "{status:?}");
    assert!(status.examined + (1 << 20) > status.to_examine, "{status:?}");
    let spa = {
        drop(objset);
        spa.export().unwrap();
        import(&disk)
    };
    let again = spa.scan_status();
    assert_eq!(
        (again.state, again.end_time, again.examined),
        (status.state, status.end_time, status.examined)
    );
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn a_bad_copy_is_rewritten_from_the_good_one() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 2);
    write_object(&objset, 1, 50);
    spa.sync().unwrap();
    for seed in [3, 17, 50] {
        let copies = copies_of(&disk, seed);
        assert_eq!(copies.len(), 2);
        damage(&disk, copies[seed as usize % 2]);
    }
    let status = scrub(&spa);
    assert_eq!((status.state, status.errors), (ScanState::Finished, 0));
    assert_eq!(status.processed, 3 * u64::from(RECORD));
    assert_clean(&spa);
    let status = scrub(&spa);
    assert_eq!((status.errors, status.processed), (0, 0));
    spa.export().unwrap();
}

#[test]
fn what_has_no_good_copy_is_counted_and_stays() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 1);
    let id = write_object(&objset, 1, 50);
    spa.sync().unwrap();
    for seed in [9, 40] {
        copies_of(&disk, seed).into_iter().for_each(|at| damage(&disk, at));
    }
    let status = scrub(&spa);
    assert_eq!((status.state, status.errors, status.processed), (ScanState::Finished, 2, 0));
    let dataset = spa.open_dataset("tank/a").unwrap().id();
    let lost = |spa: &Arc<Spa>| -> Vec<_> {
        let all = spa.lost_blocks().unwrap();
        all.iter().map(|l| (l.bookmark.objset, l.bookmark.object, l.bookmark.blkid)).collect()
    };
    let expected = [(dataset, id, 8), (dataset, id, 39)];
    assert_eq!(lost(&spa), expected);
    assert_eq!(spa.dataset_name(dataset).unwrap(), "tank/a");
    drop(objset);
    spa.export().unwrap();
    let spa = import(&disk);
    assert_eq!(lost(&spa), expected);
    let objset = spa.open_dataset("tank/a").unwrap().objset();
    overwrite(&objset, id, 100, 50);
    spa.sync().unwrap();
    assert_eq!(scrub(&spa).errors, 0);
    assert_eq!(lost(&spa), []);
    // What a reader meets is noted without a scrub.
    copies_of(&disk, 120).into_iter().for_each(|at| damage(&disk, at));
    drop(objset);
    spa.export().unwrap();
    let spa = import(&disk);
    let objset = spa.open_dataset("tank/a").unwrap().objset();
    assert!(objset.hold(id).unwrap().read_vec(20 * u64::from(RECORD), 4096).is_err());
    assert_eq!(lost(&spa), [(dataset, id, 20)]);
    drop(objset);
    spa.export().unwrap();
    let spa = import(&disk);
    assert_eq!(lost(&spa), [(dataset, id, 20)]);
    spa.scrub().unwrap();
    assert_eq!(wait(&spa).errors, 1);
    assert_eq!(lost(&spa), [(dataset, id, 20)]);
    assert_clean_but_for_lost(&spa);
    spa.export().unwrap();
}

#[test]
fn lost_blocks_are_told_for_each_snapshot_that_holds_them() {
    let disk = disk();
    let names = ["head_errlog", "async_destroy", "spacemap_histogram", "lz4_compress", "hole_birth"];
    let list = zfs::spa::Compatibility::List(names.map(String::from).to_vec());
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spec = PoolSpec { compatibility: list, ..PoolSpec::new("tank") };
    let spa = Spa::create(vec![vdev], &spec, &mut nothing).unwrap();
    let objset = dataset(&spa, "tank/a", 1);
    let id = write_object(&objset, 1, 20);
    spa.snapshot(&["tank/a@one"], false, &[]).unwrap();
    spa.snapshot(&["tank/a@two"], false, &[]).unwrap();
    overwrite(&objset, id, 500, 10);
    spa.sync().unwrap();
    // One that only the snapshots hold, one that everything holds, one that only the head does.
    for seed in [7, 17, 502] {
        copies_of(&disk, seed).into_iter().for_each(|at| damage(&disk, at));
    }
    assert_eq!(scrub(&spa).errors, 3);
    let mut names: Vec<(String, u64)> = Vec::new();
    for lost in spa.lost_blocks().unwrap() {
        names.push((spa.dataset_name(lost.bookmark.objset).unwrap(), lost.bookmark.blkid));
    }
    names.sort();
    let at = |name: &str, blkid: u64| (name.to_owned(), blkid);
    assert_eq!(
        names,
        [
            at("tank/a", 2),
            at("tank/a", 16),
            at("tank/a@one", 6),
            at("tank/a@one", 16),
            at("tank/a@two", 6),
            at("tank/a@two", 16),
        ]
    );
    drop(objset);
    assert_clean_but_for_lost(&spa);
    spa.export().unwrap();
}

#[test]
fn a_scrub_goes_on_where_it_was_paused_or_cut_off() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 2);
    for first in 0..20 {
        write_object(&objset, 1 + first * 100, 60);
    }
    drop(objset);
    spa.sync().unwrap();
    assert_eq!(spa.scrub_pause(), Err(Error::NotFound));
    assert_eq!(spa.scrub_stop(), Err(Error::NotFound));
    for seed in [5, 905, 1955] {
        damage(&disk, copies_of(&disk, seed)[0]);
    }
    // Slow enough that it cannot be over before it is paused.
    let nr_reads = Arc::new(AtomicU64::new(0));
    let reads = nr_reads.clone();
    disk.set_hook(Some(Arc::new(move |op: &Op| {
        if matches!(op, Op::Read { .. }) && reads.fetch_add(1, Ordering::Relaxed) > 40 {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    })));
    spa.scrub().unwrap();
    assert_eq!(spa.scrub(), Err(Error::Busy));
    while nr_reads.load(Ordering::Relaxed) < 60 {
        std::thread::yield_now();
    }
    spa.scrub_pause().unwrap();
    disk.set_hook(None);
    spa.export().unwrap();
    let spa = import(&disk);
    let paused = spa.scan_status();
    assert!(paused.is_paused && paused.state == ScanState::Scanning, "{paused:?}");
    assert_eq!(spa.scrub_pause(), Err(Error::Busy));
    spa.scrub().unwrap();
    // As a power cut: it is taken up by itself at the next import.
    spa.abandon();
    let spa = import(&disk);
    let status = wait(&spa);
    assert_eq!((status.state, status.errors), (ScanState::Finished, 0), "{status:?}");
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn a_scrub_that_is_stopped_leaves_nothing_behind() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 1);
    write_object(&objset, 1, 100);
    spa.sync().unwrap();
    disk.set_hook(Some(Arc::new(|op: &Op| {
        if matches!(op, Op::Read { .. }) {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    })));
    spa.scrub().unwrap();
    spa.scrub_stop().unwrap();
    disk.set_hook(None);
    assert_eq!(wait(&spa).state, ScanState::Canceled);
    assert_clean(&spa);
    assert_eq!(scrub(&spa).state, ScanState::Finished);
    spa.export().unwrap();
}

#[test]
fn changes_meanwhile_are_no_findings() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 1);
    let mut objects: Vec<ObjectId> = (0..8).map(|i| write_object(&objset, 1 + i * 100, 60)).collect();
    spa.sync().unwrap();
    for round in 0..12u64 {
        if !spa.scan_status().is_running() {
            spa.scrub().unwrap();
        }
        let id = objects[round as usize % objects.len()];
        overwrite(&objset, id, 5000 + round * 100, 60);
        spa.sync().unwrap();
        let gone = objects.remove(0);
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
        objset.free(&tx, gone).unwrap();
        drop(tx);
        objects.push(write_object(&objset, 9000 + round * 100, 60));
        spa.snapshot(&[&format!("tank/a@s{round}")], false, &[]).unwrap();
        if round >= 2 {
            spa.destroy_snapshots(&[&format!("tank/a@s{}", round - 2)], false).unwrap();
        }
    }
    let status = wait(&spa);
    assert_eq!((status.state, status.errors, status.processed), (ScanState::Finished, 0, 0));
    spa.sync().unwrap();
    drop(objset);
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    spa.export().unwrap();
}

#[test]
fn blocks_of_snapshots_are_found_too() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 2);
    let id = write_object(&objset, 1, 20);
    spa.snapshot(&["tank/a@old"], false, &[]).unwrap();
    overwrite(&objset, id, 500, 20);
    spa.snapshot(&["tank/a@new"], false, &[]).unwrap();
    overwrite(&objset, id, 700, 20);
    spa.sync().unwrap();
    for seed in [7, 507, 707] {
        damage(&disk, copies_of(&disk, seed)[1]);
    }
    let status = scrub(&spa);
    assert_eq!((status.errors, status.processed), (0, 3 * u64::from(RECORD)));
    drop(objset);
    assert_clean(&spa);
    spa.export().unwrap();
}

fn assert_clean(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

fn assert_clean_but_for_lost(spa: &Arc<Spa>) {
    spa.sync().unwrap();
    let is_expected = |f: &zfs::verify::Finding| {
        // Where blocks are lost, snapshots' figures are not counted.
        use zfs::verify::Finding;
        matches!(f, Finding::Lost { .. } | Finding::BadCopy { .. } | Finding::Accounting { .. })
    };
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.findings.iter().all(is_expected), "{:?}", report.findings);
}

// --- several devices -------------------------------------------------------------------------------------------------

struct Pool {
    disks: Vec<Arc<MemDisk>>,
    spa: Arc<Spa>,
}

const LAYOUTS: [(TopKind, usize); 5] = [
    (TopKind::Mirror, 2),
    (TopKind::Mirror, 3),
    (TopKind::RaidZ { nparity: 1 }, 3),
    (TopKind::RaidZ { nparity: 2 }, 5),
    (TopKind::RaidZ { nparity: 3 }, 6),
];

impl Pool {
    fn create(kind: TopKind, width: usize) -> Self {
        let disks: Vec<_> = (0..width).map(|_| Arc::new(MemDisk::new(128 << 20))).collect();
        let device =
            |disk: &Arc<MemDisk>| VdevSpec { device: disk.clone(), path: "/dev/x".into(), is_file: false };
        let devices = disks.iter().map(device).collect();
        let top = TopSpec { kind, purpose: Purpose::Data, devices };
        let spa = Spa::create(vec![top], &PoolSpec::new("tank"), &mut nothing).unwrap();
        Self { disks, spa }
    }

    fn reopen_without(&mut self, absent: &[usize]) {
        self.spa.export().unwrap();
        let there = self.disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
        let devices: Vec<_> = there.map(|(_, disk)| disk.clone() as Arc<dyn BlockDevice>).collect();
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }

    /// Whatever of a disk is allocatable is overwritten in part: every 64 KiB, 4 KiB.
    fn spoil(&self, nr: usize) {
        for at in (DATA_START..(128 << 20) - (512 << 10)).step_by(64 << 10) {
            let bytes = noise(at, 4096);
            self.disks[nr].write(at, abd::Abd::copy_from(&bytes)).unwrap();
        }
    }

    fn nr_stale(&self) -> usize {
        self.spa.storage().leaves().iter().filter(|leaf| leaf.health().is_stale()).count()
    }
}

const DATA_START: u64 = 4 << 20;

fn nr_lost(kind: TopKind, width: usize) -> usize {
    match kind {
        TopKind::Mirror => width - 1,
        TopKind::RaidZ { nparity } => nparity.into(),
        _ => 0,
    }
}

#[test]
fn every_side_and_all_parity_are_checked_and_repaired() {
    for (kind, width) in LAYOUTS {
        let mut pool = Pool::create(kind, width);
        let objset = dataset(&pool.spa, "tank/a", 1);
        let id = write_object(&objset, 1, 300);
        drop(objset);
        pool.spa.sync().unwrap();
        for nr in 0..nr_lost(kind, width) {
            pool.spoil(nr);
        }
        let status = scrub(&pool.spa);
        assert_eq!((status.state, status.errors), (ScanState::Finished, 0), "{kind:?}");
        assert!(status.processed > 0);
        let leaves = pool.spa.storage().leaves();
        for (nr, leaf) in leaves.iter().enumerate() {
            let is_spoilt = nr < nr_lost(kind, width);
            assert_eq!(leaf.health().errors().checksum > 0, is_spoilt, "{kind:?} {nr}");
        }
        assert_eq!(scrub(&pool.spa).processed, 0, "{kind:?}: everything was repaired");
        // Now the disks that were whole may go: what was repaired, parity too, carries the pool.
        let others: Vec<usize> = (width - nr_lost(kind, width)..width).collect();
        pool.reopen_without(&others);
        let objset = pool.spa.open_dataset("tank/a").unwrap().objset();
        for record in [0u64, 77, 299] {
            let read =
                objset.hold(id).unwrap().read_vec(record * u64::from(RECORD), RECORD as usize).unwrap();
            assert!(read == noise(1 + record, RECORD as usize), "{kind:?} {record}");
        }
        drop(objset);
        assert_clean(&pool.spa);
        pool.spa.export().unwrap();
    }
}

#[test]
fn what_a_device_missed_is_brought_back() {
    for (kind, width) in LAYOUTS {
        let mut pool = Pool::create(kind, width);
        let objset = dataset(&pool.spa, "tank/a", 1);
        write_object(&objset, 1, 200);
        drop(objset);
        let absent: Vec<usize> = (0..nr_lost(kind, width)).collect();
        pool.reopen_without(&absent);
        let objset = pool.spa.open_dataset("tank/a").unwrap().objset();
        let id = write_object(&objset, 1000, 100);
        drop(objset);
        pool.reopen_without(&[]);
        let status = wait(&pool.spa);
        assert_eq!((status.func, status.state), (ScanFunc::Resilver, ScanState::Finished), "{kind:?}");
        assert_eq!(status.errors, 0);
        assert!(status.processed > 50 * u64::from(RECORD), "{kind:?} {status:?}");
        // What was written before was not touched.
        assert!(status.examined - status.skipped < 200 * u64::from(RECORD) * width as u64, "{status:?}");
        assert_eq!(pool.nr_stale(), 0, "{kind:?}");
        assert_eq!(pool.spa.resilver(), Err(Error::NotFound));
        assert_eq!(scrub(&pool.spa).processed, 0, "{kind:?}: everything was brought back");
        let others: Vec<usize> = (width - nr_lost(kind, width)..width).collect();
        pool.reopen_without(&others);
        let objset = pool.spa.open_dataset("tank/a").unwrap().objset();
        let read = objset.hold(id).unwrap().read_vec(50 * u64::from(RECORD), RECORD as usize).unwrap();
        assert!(read == noise(1050, RECORD as usize));
        drop(objset);
        pool.spa.export().unwrap();
    }
}

#[test]
fn a_resilver_goes_on_after_a_power_cut() {
    let mut pool = Pool::create(TopKind::Mirror, 2);
    pool.reopen_without(&[1]);
    let objset = dataset(&pool.spa, "tank/a", 1);
    for first in 0..10 {
        write_object(&objset, 1 + first * 100, 60);
    }
    drop(objset);
    pool.spa.export().unwrap();
    let nr_writes = Arc::new(AtomicU64::new(0));
    let writes = nr_writes.clone();
    pool.disks[1].set_hook(Some(Arc::new(move |op: &Op| {
        if matches!(op, Op::Write { .. }) {
            writes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    })));
    let devices: Vec<_> = pool.disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    pool.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    while nr_writes.load(Ordering::Relaxed) < 40 {
        std::thread::yield_now();
    }
    assert_eq!(pool.spa.scan_status().func, ScanFunc::Resilver);
    assert_eq!(pool.spa.scrub(), Err(Error::Busy));
    pool.spa.abandon();
    pool.disks[1].set_hook(None);
    pool.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    let status = wait(&pool.spa);
    assert_eq!((status.func, status.state, status.errors), (ScanFunc::Resilver, ScanState::Finished, 0));
    assert_eq!(pool.nr_stale(), 0);
    assert_eq!(scrub(&pool.spa).processed, 0);
    pool.spa.export().unwrap();
}

impl Pool {
    /// Opens it on all its disks but those that are `absent`, lets a resilver write that much to each disk of `slow`, and
    /// closes the pool. Bytes written to each of `slow`.
    fn resilver_a_bit(&mut self, absent: &[usize], slow: &[usize], bytes: u64) -> Vec<u64> {
        let written: Vec<_> = slow.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
        for (nr, written) in slow.iter().zip(&written) {
            let written = written.clone();
            self.disks[*nr].set_hook(Some(Arc::new(move |op: &Op| {
                if let Op::Write { data, .. } = op {
                    written.fetch_add(data.len() as u64, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
                None
            })));
        }
        self.open_without(absent);
        while bytes > 0 && written.iter().any(|w| w.load(Ordering::Relaxed) < bytes) {
            assert!(self.spa.scan_status().func != ScanFunc::Resilver || self.spa.scan_status().is_running());
            std::thread::yield_now();
        }
        if bytes == 0 {
            let status = wait(&self.spa);
            assert_eq!(
                (status.func, status.state, status.errors),
                (ScanFunc::Resilver, ScanState::Finished, 0)
            );
        }
        self.spa.export().unwrap();
        slow.iter().for_each(|nr| self.disks[*nr].set_hook(None));
        written.iter().map(|written| written.load(Ordering::Relaxed)).collect()
    }

    fn open_without(&mut self, absent: &[usize]) {
        let there = self.disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
        let devices: Vec<_> = there.map(|(_, disk)| disk.clone() as Arc<dyn BlockDevice>).collect();
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }
}

/// A pool that is closed, whose disks `stale` miss so many MiB.
fn pool_with_stale(kind: TopKind, width: usize, stale: &[usize], nr_mib: u64) -> (Pool, Vec<ObjectId>) {
    let mut pool = Pool::create(kind, width);
    pool.reopen_without(stale);
    let objset = dataset(&pool.spa, "tank/a", 1);
    let ids = (0..nr_mib).map(|nr| write_object(&objset, 1 + nr * 100, 64)).collect();
    drop(objset);
    pool.spa.export().unwrap();
    (pool, ids)
}

impl Pool {
    /// Everything is right on copies of the disks, and so it is without each of these sets of them.
    fn assert_whole(&self, ids: &[ObjectId], without: &[&[usize]]) {
        for absent in without {
            let there = self.disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
            let devices: Vec<_> =
                there.map(|(_, disk)| Arc::new(disk.snapshot()) as Arc<dyn BlockDevice>).collect();
            let spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
            assert_clean(&spa);
            let objset = spa.open_dataset("tank/a").unwrap().objset();
            for (nr, id) in ids.iter().enumerate() {
                let read = objset.hold(*id).unwrap().read_vec(63 * u64::from(RECORD), RECORD as usize);
                assert!(read.unwrap() == noise(1 + nr as u64 * 100 + 63, RECORD as usize));
            }
            drop(objset);
            spa.abandon();
        }
    }
}

#[test]
fn a_resilver_goes_on_where_the_pool_was_closed() {
    for (kind, width, stale) in [(TopKind::Mirror, 2, 1), (TopKind::RaidZ { nparity: 1 }, 3, 2)] {
        let (mut pool, ids) = pool_with_stale(kind, width, &[stale], 8);
        let first = pool.resilver_a_bit(&[], &[stale], 1 << 20)[0];
        assert_eq!(pool.nr_stale(), 1);
        let rest = pool.resilver_a_bit(&[], &[stale], 0)[0];
        assert_eq!(pool.nr_stale(), 0);
        let all = first + rest;
        let share = if kind == TopKind::Mirror { 8u64 << 20 } else { 4 << 20 };
        assert!(rest < share - (1 << 20), "{kind:?}: {first} and then {rest}");
        assert!(all > share, "{kind:?}: {first} and then {rest}");
        let kept: Vec<usize> = (0..width).filter(|nr| *nr != stale).collect();
        pool.assert_whole(&ids, &[&[], &kept[..1], &[stale]]);
    }
}

#[test]
fn a_resilver_begins_again_when_a_device_comes_that_was_away() {
    let (mut pool, ids) = pool_with_stale(TopKind::Mirror, 3, &[1, 2], 16);
    // Both are begun with; then one is away while the other's part goes on.
    pool.resilver_a_bit(&[], &[1, 2], 1 << 20);
    pool.resilver_a_bit(&[2], &[1], 1 << 20);
    let written = pool.resilver_a_bit(&[], &[1, 2], 0);
    assert!(written.iter().all(|written| *written > 16 << 20), "{written:?}");
    pool.assert_whole(&ids, &[&[], &[0, 1], &[0, 2], &[1, 2]]);
}

#[test]
fn a_replacement_goes_on_where_the_pool_was_closed() {
    let (mut pool, ids) = pool_with_stale(TopKind::Mirror, 2, &[], 8);
    pool.open_without(&[]);
    let disk = Arc::new(MemDisk::new(128 << 20));
    let new = VdevSpec { device: disk.clone(), path: "/dev/y".into(), is_file: false };
    pool.disks.push(disk.clone());
    disk.set_hook(Some(Arc::new(|op: &Op| {
        if matches!(op, Op::Write { .. }) {
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    })));
    let old = pool.spa.storage().leaves()[0].guid();
    pool.spa.replace(old, &new, zfs::spa::Blocks::Fit).unwrap();
    while disk.stats().written_bytes < 4 << 20 {
        std::thread::yield_now();
    }
    pool.spa.export().unwrap();
    let rest = pool.resilver_a_bit(&[], &[2], 0)[0];
    assert!(rest < 6 << 20, "{rest}");
    pool.disks.remove(0);
    pool.assert_whole(&ids, &[&[], &[0], &[1]]);
}

#[test]
fn only_lost_blocks_are_looked_at_again() {
    for list in
        [None, Some(["head_errlog", "async_destroy", "spacemap_histogram", "lz4_compress", "hole_birth"])]
    {
        let disk = disk();
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
        let spec = match list {
            None => PoolSpec::new("tank"),
            Some(names) => PoolSpec {
                compatibility: zfs::spa::Compatibility::List(names.map(String::from).to_vec()),
                ..PoolSpec::new("tank")
            },
        };
        let spa = Spa::create(vec![vdev], &spec, &mut nothing).unwrap();
        let objset = dataset(&spa, "tank/a", 1);
        let id = write_object(&objset, 1, 20);
        spa.snapshot(&["tank/a@one"], false, &[]).unwrap();
        let lost = [7, 8, 17].map(|seed| (seed, copies_of(&disk, seed)));
        lost.iter().flat_map(|(_, copies)| copies).for_each(|at| damage(&disk, *at));
        let restore = |(seed, copies): &(u64, Vec<u64>)| {
            copies.iter().for_each(|at| disk.write(*at, abd::Abd::copy_from(&noise(*seed, 512))).unwrap());
        };
        assert_eq!(scrub(&spa).errors, 3);
        let done = spa.scrub_errors().unwrap();
        assert!(done.nr_lost >= 3 && done.nr_examined == done.nr_lost, "{done:?}");
        // Two are right again, one stays lost in the snapshot.
        restore(&lost[0]);
        overwrite(&objset, id, 300, 20);
        spa.sync().unwrap();
        restore(&lost[1]);
        let done = spa.scrub_errors().unwrap();
        assert_eq!(done.nr_lost, 1, "{done:?}");
        let left: Vec<u64> = spa.lost_blocks().unwrap().iter().map(|l| l.bookmark.blkid).collect();
        assert_eq!(left, [16]);
        spa.destroy_snapshots(&["tank/a@one"], false).unwrap();
        spa.sync().unwrap();
        assert_eq!(spa.scrub_errors().unwrap().nr_lost, 0);
        assert_eq!(spa.lost_blocks().unwrap(), []);
        drop(objset);
        assert_clean(&spa);
        spa.export().unwrap();
    }
}

#[test]
fn what_is_new_is_scrubbed_alone_and_old_losses_are_not_forgotten() {
    let disk = disk();
    let spa = create(&disk);
    let objset = dataset(&spa, "tank/a", 1);
    write_object(&objset, 1, 50);
    spa.sync().unwrap();
    copies_of(&disk, 9).into_iter().for_each(|at| damage(&disk, at));
    spa.scrub_new().unwrap();
    let all = wait(&spa);
    assert_eq!(all.errors, 1, "there was none before: everything is looked at");
    write_object(&objset, 100, 5);
    spa.sync().unwrap();
    copies_of(&disk, 102).into_iter().for_each(|at| damage(&disk, at));
    drop(objset);
    spa.export().unwrap();
    let spa = import(&disk);
    spa.scrub_new().unwrap();
    let new = wait(&spa);
    assert_eq!(new.errors, 1);
    assert!(new.examined - new.skipped < (all.examined - all.skipped) / 2, "{new:?} {all:?}");
    assert_eq!(spa.lost_blocks().unwrap().len(), 2);
    spa.export().unwrap();
}
