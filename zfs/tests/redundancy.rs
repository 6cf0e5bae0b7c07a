//! Pools that lose devices while they are written, and get them back.
use blockdev::{BlockDevice, Error as DiskError, Op};
use blockdev_host::MemDisk;
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::event::Event;
use zfs::scan::ScanFunc;
use zfs::spa::{Blocks, ImportOptions, PoolNumber, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};
use zfs::vdev::VdevState;

const DISK: u64 = 64 << 20;
const MIRROR: TopKind = TopKind::Mirror;

struct Pool {
    disks: Vec<Arc<MemDisk>>,
    spa: Arc<Spa>,
}

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

fn device(disk: &Arc<MemDisk>, nr: usize) -> VdevSpec {
    VdevSpec { device: disk.clone(), path: format!("/dev/disk{nr}"), is_file: false }
}

impl Pool {
    fn create(kind: TopKind, width: usize) -> Self {
        let disks: Vec<_> = (0..width).map(|_| Arc::new(MemDisk::new(DISK))).collect();
        let devices = disks.iter().enumerate().map(|(nr, disk)| device(disk, nr)).collect();
        let top = TopSpec { kind, purpose: Purpose::Data, devices };
        let spa = Spa::create(vec![top], &PoolSpec::new("tank"), &mut nothing).unwrap();
        Self { disks, spa }
    }

    /// Opens it again on those of its disks that are not `absent`.
    fn reopen_without(&mut self, absent: &[usize]) {
        self.spa.export().unwrap();
        let there = self.disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
        let devices: Vec<_> = there.map(|(_, disk)| disk.clone() as Arc<dyn BlockDevice>).collect();
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }

    /// Writes an object and waits until it is on disk.
    fn write(&self, seed: u64) -> ObjectId {
        let objset = self.spa.open_dataset("tank").unwrap().objset();
        let tx = DmuTx::begin(&objset, TxSpace::write(4 << 20)).unwrap();
        let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 128 << 10);
        let object = objset.allocate(&tx, &new).unwrap();
        object.write_slice(&tx, 0, &content(seed)).unwrap();
        drop(tx);
        self.spa.sync().unwrap();
        object.id()
    }

    fn assert_holds(&self, object: ObjectId, seed: u64) {
        let objset = self.spa.open_dataset("tank").unwrap().objset();
        let expected = content(seed);
        assert!(
            objset.hold(object).unwrap().read_vec(0, expected.len()).unwrap() == expected,
            "object {object}"
        );
    }

    fn assert_clean(&self) {
        self.settle();
        let report = self.spa.verify(&mut |_| {}).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }

    /// A walk wants a pool that is quiet. What devices missed is brought back in the background, and begins only in a
    /// group after the one in which they are found usable: quiet is what stays so from group to group.
    fn settle(&self) {
        let mut nr_quiet = 0;
        for _ in 0..200 {
            self.spa.log_history("settling").unwrap();
            self.spa.scan_wait(Duration::from_millis(20), &mut |_| {});
            let is_quiet =
                self.spa.storage().resilver_range().is_none() && !self.spa.scan_status().is_running();
            nr_quiet = if is_quiet { nr_quiet + 1 } else { 0 };
            if nr_quiet == 3 {
                break;
            }
        }
    }

    fn state(&self, nr: usize) -> VdevState {
        self.spa.storage().leaves()[nr].health().state()
    }

    /// Every write and flush of a disk fails from now on, while the flag is up.
    fn fail_writes(&self, nr: usize, with: DiskError) -> Arc<AtomicBool> {
        let is_up = Arc::new(AtomicBool::new(true));
        let flag = is_up.clone();
        self.disks[nr].set_hook(Some(Arc::new(move |op: &Op| {
            let is_read = matches!(op, Op::Read { .. });
            (flag.load(Ordering::Relaxed) && !is_read).then_some(with)
        })));
        is_up
    }
}

/// 3 MiB that do not compress.
fn content(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..3 << 20).map(|_| next()).collect()
}

#[test]
fn what_is_written_without_a_device_is_known_when_it_returns() {
    for (kind, width, absent) in [
        (MIRROR, 2, vec![0]),
        (MIRROR, 3, vec![0, 2]),
        (TopKind::RaidZ { nparity: 1 }, 3, vec![1]),
        (TopKind::RaidZ { nparity: 2 }, 5, vec![0, 3]),
    ] {
        let mut pool = Pool::create(kind, width);
        let first = pool.write(1);
        pool.reopen_without(&absent);
        assert_eq!(pool.spa.properties().unwrap().read_only_reason, None);
        pool.assert_holds(first, 1);
        let second = pool.write(2);
        pool.assert_clean();
        assert_eq!(pool.spa.storage().resilver_range(), None, "what is absent cannot be written");
        pool.reopen_without(&[]);
        pool.assert_holds(first, 1);
        pool.assert_holds(second, 2);
        pool.assert_clean();
        pool.spa.scan_wait(Duration::from_millis(100), &mut |_| {});
        assert_eq!(pool.spa.scan_status().func, ScanFunc::Resilver);
        assert_eq!(pool.spa.storage().resilver_range(), None);
        for (nr, leaf) in pool.spa.storage().leaves().iter().enumerate() {
            assert!(!leaf.health().is_stale(), "{kind:?} {nr}");
            assert_eq!(leaf.health().errors(), Default::default(), "stale copies are no errors");
        }
        pool.spa.export().unwrap();
    }
}

#[test]
fn a_device_that_fails_writes_costs_nothing_but_redundancy() {
    for (kind, width) in [(MIRROR, 2), (TopKind::RaidZ { nparity: 1 }, 4)] {
        for error in [DiskError::Io, DiskError::Gone] {
            let mut pool = Pool::create(kind, width);
            let first = pool.write(1);
            let fails = pool.fail_writes(1, error);
            let second = pool.write(2);
            let third = pool.write(3);
            let expected = if error == DiskError::Gone { VdevState::Removed } else { VdevState::Faulted };
            assert_eq!(pool.state(1), expected);
            let is_told = |e: &Event| matches!(e, Event::VdevState { state, .. } if *state == expected);
            assert!(pool.spa.events().snapshot().iter().any(is_told));
            fails.store(false, Ordering::Relaxed);
            pool.reopen_without(&[]);
            assert_eq!(pool.state(1), VdevState::Online, "importing gives it another chance");
            for (object, seed) in [(first, 1), (second, 2), (third, 3)] {
                pool.assert_holds(object, seed);
            }
            pool.assert_clean();
            assert!(!pool.spa.storage().leaves()[1].health().is_stale());
        }
    }
}

#[test]
fn too_many_failing_devices_stop_the_pool() {
    for (kind, width, failing) in [(MIRROR, 2, 2), (TopKind::RaidZ { nparity: 1 }, 3, 2)] {
        let pool = Pool::create(kind, width);
        let objset = pool.spa.open_dataset("tank").unwrap().objset();
        (0..failing).for_each(|nr| drop(pool.fail_writes(nr, DiskError::Io)));
        let tx = DmuTx::begin(&objset, TxSpace::write(4096)).unwrap();
        objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096)).unwrap();
        drop(tx);
        assert_eq!(pool.spa.sync(), Err(zfs::Error::Suspended), "{kind:?}");
    }
}

#[test]
fn too_few_devices_are_refused() {
    for (kind, width, there) in [(MIRROR, 2, 0), (TopKind::RaidZ { nparity: 2 }, 4, 1)] {
        let pool = Pool::create(kind, width);
        pool.spa.export().unwrap();
        let devices: Vec<_> = pool.disks[..there].iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
        let result = Spa::import(&devices, &ImportOptions::default()).map(drop);
        let expected = if there == 0 { zfs::Error::NoLabel } else { zfs::Error::MissingVdev };
        assert_eq!(result, Err(expected), "{kind:?}");
    }
}

fn leaf_guids(spa: &Spa) -> Vec<u64> {
    spa.storage().leaves().iter().map(|leaf| leaf.guid()).collect()
}

fn kinds(spa: &Spa) -> Vec<String> {
    spa.vdevs().iter().map(|v| format!("{}{}", v.kind, v.children.len())).collect()
}

impl Pool {
    fn add_disk(&mut self) -> VdevSpec {
        let disk = Arc::new(MemDisk::new(DISK));
        self.disks.push(disk.clone());
        device(&disk, self.disks.len() - 1)
    }

    fn top(&mut self, kind: TopKind, purpose: Purpose, width: usize) -> TopSpec {
        TopSpec { kind, purpose, devices: (0..width).map(|_| self.add_disk()).collect() }
    }

    /// Lets what devices have missed be brought back to them.
    fn resilver(&self) {
        for _ in 0..100 {
            // A group that is written whether or not anything is dirty.
            self.spa.log_history("test").unwrap();
            if self.spa.storage().resilver_range().is_none() {
                break;
            }
            self.spa.scan_wait(std::time::Duration::from_millis(20), &mut |_| {});
        }
        assert_eq!(self.spa.storage().resilver_range(), None, "brought back");
    }
}

#[test]
fn sides_come_and_go() {
    let mut pool = Pool::create(TopKind::Disk, 1);
    let first = pool.write(1);
    let original = leaf_guids(&pool.spa)[0];
    let new = pool.add_disk();
    pool.spa.attach(original, &new, Blocks::Fit).unwrap();
    assert_eq!(kinds(&pool.spa), ["mirror2"]);
    assert_eq!(pool.spa.attach(original, &new, Blocks::Fit), Err(zfs::Error::Busy));
    let second = pool.write(2);
    pool.reopen_without(&[]);
    pool.resilver();
    pool.spa.detach(original).unwrap();
    assert_eq!(kinds(&pool.spa), ["disk0"]);
    assert_eq!(pool.spa.detach(leaf_guids(&pool.spa)[0]), Err(zfs::Error::Invalid));
    pool.disks[0].rot(0, &vec![0xa5; DISK as usize]);
    pool.assert_clean();
    pool.reopen_without(&[0]);
    pool.assert_holds(first, 1);
    pool.assert_holds(second, 2);
    pool.assert_clean();
}

#[test]
fn a_detached_device_belongs_to_no_pool() {
    let mut pool = Pool::create(MIRROR, 3);
    let guids = leaf_guids(&pool.spa);
    pool.spa.detach(guids[1]).unwrap();
    assert_eq!(kinds(&pool.spa), ["mirror2"]);
    let device: Arc<dyn BlockDevice> = pool.disks[1].clone();
    assert_eq!(Spa::probe(&device).map(drop), Err(zfs::Error::NoLabel));
    pool.reopen_without(&[0]);
    assert_eq!(kinds(&pool.spa), ["mirror2"]);
    pool.assert_clean();
    assert_eq!(pool.spa.detach(guids[2]), Err(zfs::Error::Busy), "the other side is not there");
    pool.spa.detach(guids[0]).unwrap();
}

#[test]
fn replaced_devices_leave_when_all_is_brought_over() {
    for (kind, width) in [(MIRROR, 2), (TopKind::RaidZ { nparity: 1 }, 3), (TopKind::RaidZ { nparity: 2 }, 5)]
    {
        for is_lost in [false, true] {
            let mut pool = Pool::create(kind, width);
            let first = pool.write(1);
            let old = leaf_guids(&pool.spa)[1];
            if is_lost {
                pool.reopen_without(&[1]);
            }
            let new = pool.add_disk();
            pool.spa.replace(old, &new, Blocks::Fit).unwrap();
            let second = pool.write(2);
            pool.resilver();
            assert!(!leaf_guids(&pool.spa).contains(&old), "{kind:?}: the old one has left");
            assert!(pool.spa.vdevs()[0].children.iter().all(|c| c.kind == "disk"), "{:#?}", pool.spa.vdevs());
            pool.assert_clean();
            pool.reopen_without(&[1]);
            // All that the others had is not needed any more, as far as redundancy goes.
            pool.reopen_without(&[0, 1]);
            pool.assert_holds(first, 1);
            pool.assert_holds(second, 2);
            pool.assert_clean();
        }
    }
}

/// One block is not brought over to the disk before the flag is down: no resilver is complete.
fn refuse_one_block(disk: &MemDisk) -> Arc<AtomicBool> {
    const DATA: std::ops::Range<u64> = 4 << 20..DISK - (4 << 20);
    let is_failing = Arc::new(AtomicBool::new(true));
    let (flag, at) = (is_failing.clone(), AtomicU64::new(0));
    disk.set_hook(Some(Arc::new(move |op: &Op| match op {
        Op::Write { offset, data, .. }
            if data.len() >= 128 << 10 && DATA.contains(offset) && flag.load(Ordering::Relaxed) =>
        {
            let first = at.compare_exchange(0, *offset, Ordering::Relaxed, Ordering::Relaxed);
            (first.is_ok() || first == Err(*offset)).then_some(DiskError::Io)
        }
        _ => None,
    })));
    is_failing
}

#[test]
fn spares_and_replacements_do_not_nest_for_ever() {
    let mut pool = Pool::create(MIRROR, 2);
    let first = pool.write(1);
    let old = leaf_guids(&pool.spa)[0];
    // Spares stay while what they stand in for is not used.
    pool.spa.offline(old, true).unwrap();
    let spares: Vec<_> = (0..8).map(|_| pool.add_disk()).collect();
    let top = TopSpec { kind: TopKind::Disk, purpose: Purpose::Spare, devices: spares.clone() };
    pool.spa.add(&[top], None).unwrap();
    let mut spares = spares.into_iter();
    let mut refusal = None;
    for nr in 0..16 {
        let new = if nr % 2 == 0 { spares.next().unwrap() } else { pool.add_disk() };
        // Whoever comes does not get all it lacks before it is taken offline: nobody leaves.
        let nr: usize = new.path.trim_start_matches("/dev/disk").parse().unwrap();
        refuse_one_block(&pool.disks[nr]);
        refusal = pool.spa.replace(old, &new, Blocks::Fit).err();
        if refusal.is_some() {
            break;
        }
        pool.spa.offline(pool.spa.find_vdev(&new.path).unwrap(), true).unwrap();
    }
    assert_eq!(refusal, Some(zfs::Error::Unsupported));
    assert_eq!(leaf_guids(&pool.spa).len(), 2 + 6, "one more at each depth from the third on");
    pool.disks.iter().for_each(|disk| disk.set_hook(None));
    pool.reopen_without(&[]);
    assert_eq!(pool.spa.properties().unwrap().read_only_reason, None);
    pool.assert_holds(first, 1);
    pool.resilver();
    pool.assert_clean();
}

#[test]
fn a_replaced_device_stays_while_there_is_a_checkpoint() {
    let mut pool = Pool::create(TopKind::Disk, 1);
    let first = pool.write(1);
    let old = leaf_guids(&pool.spa)[0];
    let new = pool.add_disk();
    let is_failing = refuse_one_block(&pool.disks[1]);
    pool.spa.replace(old, &new, Blocks::Fit).unwrap();
    pool.spa.checkpoint().unwrap();
    is_failing.store(false, Ordering::Relaxed);
    // A resilver that has ended without that block meanwhile is not repeated unasked.
    pool.spa.clear_errors(None).unwrap();
    pool.settle();
    assert!(pool.spa.storage().leaves().iter().all(|leaf| !leaf.health().is_stale()));
    assert!(leaf_guids(&pool.spa).contains(&old), "what the checkpoint keeps is nowhere else");
    pool.spa.discard_checkpoint().unwrap();
    assert!(!leaf_guids(&pool.spa).contains(&old));
    pool.assert_holds(first, 1);
    pool.assert_clean();
}

#[test]
fn a_device_taken_offline_is_brought_up_to_date() {
    let mut pool = Pool::create(TopKind::RaidZ { nparity: 1 }, 4);
    let guid = leaf_guids(&pool.spa)[2];
    pool.spa.offline(guid, false).unwrap();
    assert_eq!(pool.state(2), VdevState::Offline);
    assert_eq!(pool.spa.offline(leaf_guids(&pool.spa)[0], false), Err(zfs::Error::Busy));
    let first = pool.write(1);
    pool.reopen_without(&[]);
    assert_eq!(pool.state(2), VdevState::Offline, "it stays so");
    let second = pool.write(2);
    pool.spa.online(guid, false).unwrap();
    pool.resilver();
    pool.reopen_without(&[0]);
    pool.assert_holds(first, 1);
    pool.assert_holds(second, 2);
    pool.assert_clean();
    pool.reopen_without(&[]);
    pool.resilver();
    pool.spa.offline(guid, true).unwrap();
    pool.reopen_without(&[]);
    assert_eq!(pool.state(2), VdevState::Online, "for the time being only");
}

#[test]
fn vdevs_are_added_and_logs_removed() {
    let mut pool = Pool::create(MIRROR, 2);
    let first = pool.write(1);
    let mirror = pool.top(MIRROR, Purpose::Data, 2);
    let log = pool.top(TopKind::Disk, Purpose::Log, 1);
    let special = pool.top(MIRROR, Purpose::Special, 2);
    pool.spa.add(&[mirror, log, special], None).unwrap();
    assert_eq!(kinds(&pool.spa), ["mirror2", "mirror2", "disk0", "mirror2"]);
    let second = pool.write(2);
    pool.assert_clean();
    pool.reopen_without(&[]);
    let log = pool.spa.vdevs()[2].guid;
    pool.spa.remove(log).unwrap();
    assert_eq!(kinds(&pool.spa), ["mirror2", "mirror2", "hole0", "mirror2"]);
    pool.assert_clean();
    assert_eq!(pool.spa.remove(pool.spa.vdevs()[1].guid), Err(zfs::Error::Unsupported));
    pool.reopen_without(&[]);
    let data = pool.top(MIRROR, Purpose::Data, 2);
    pool.spa.add(&[data], None).unwrap();
    assert_eq!(kinds(&pool.spa), ["mirror2"; 4], "the hole is filled");
    pool.reopen_without(&[]);
    pool.assert_holds(first, 1);
    pool.assert_holds(second, 2);
    pool.assert_clean();
}

#[test]
fn spares_stand_in_and_go_back() {
    let mut pool = Pool::create(TopKind::RaidZ { nparity: 1 }, 3);
    let first = pool.write(1);
    let spares = pool.top(TopKind::Disk, Purpose::Spare, 1);
    pool.spa.add(&[spares], None).unwrap();
    pool.reopen_without(&[]);
    assert_eq!(pool.spa.vdev_tree().spares.len(), 1);
    let fails = pool.fail_writes(1, DiskError::Gone);
    let second = pool.write(2);
    pool.spa.log_history("the spare comes in").unwrap();
    pool.resilver();
    assert_eq!(pool.spa.vdevs()[0].children[1].kind, "spare");
    assert!(pool.spa.vdev_tree().spares[0].is_in_use);
    assert_eq!(pool.spa.remove(pool.spa.vdev_tree().spares[0].guid), Err(zfs::Error::Busy));
    pool.assert_clean();
    fails.store(false, Ordering::Relaxed);
    let original = pool.spa.vdevs()[0].children[1].children[0].guid;
    pool.spa.online(original, false).unwrap();
    pool.resilver();
    pool.spa.sync().unwrap();
    assert_eq!(pool.spa.vdevs()[0].children[1].kind, "disk", "{:#?}", pool.spa.vdevs());
    let spare = pool.spa.vdev_tree().spares[0].clone();
    assert!(!spare.is_in_use);
    pool.reopen_without(&[0]);
    pool.assert_holds(first, 1);
    pool.assert_holds(second, 2);
    // Without the first device the spare has come in again; detaching what it stands in for keeps it for good.
    pool.resilver();
    let lost = pool.spa.vdevs()[0].children[0].children[0].guid;
    pool.spa.detach(lost).unwrap();
    assert_eq!((pool.spa.vdevs()[0].children[0].guid, pool.spa.vdev_tree().spares.len()), (spare.guid, 0));
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn a_mirror_left_with_a_side_that_has_sides_is_the_vdev_it_was() {
    let mut pool = Pool::create(MIRROR, 2);
    let before = pool.write(1);
    let spares = pool.top(TopKind::Disk, Purpose::Spare, 1);
    pool.spa.add(&[spares], None).unwrap();
    let [first, second] = leaf_guids(&pool.spa)[..] else { panic!() };
    // The spare stays at the side of a device that is offline.
    pool.spa.offline(first, false).unwrap();
    let spare = device(&pool.disks[2], 2);
    pool.spa.replace(first, &spare, Blocks::Fit).unwrap();
    pool.settle();
    pool.spa.detach(second).unwrap();
    assert_eq!(pool.spa.vdevs()[0].kind, "spare");
    let zap = pool.spa.storage().top_zap(0);
    let meanwhile = pool.write(2);
    // Some of what is allocated is only in the logs of space maps, and the vdev's ZAP says which.
    pool.spa.abandon();
    let devices: Vec<_> = pool.disks.iter().map(|disk| disk.clone() as Arc<dyn BlockDevice>).collect();
    pool.spa = Spa::import(&devices, &ImportOptions { force: true, ..ImportOptions::default() }).unwrap();
    assert_eq!(pool.spa.properties().unwrap().read_only_reason, None);
    assert_eq!(pool.spa.storage().top_zap(0), zap);
    let after = pool.write(3);
    for (object, seed) in [(before, 1), (meanwhile, 2), (after, 3)] {
        pool.assert_holds(object, seed);
    }
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn an_import_writes_its_uberblock_to_every_leaf_before_anything_else() {
    const LABELS: u64 = 512 << 10;
    let pool = Pool::create(MIRROR, 2);
    let first = pool.write(1);
    let labels = [(0, LABELS), (DISK - LABELS, LABELS)];
    let before: Vec<Vec<u8>> =
        labels.iter().map(|(at, len)| pool.disks[1].peek(*at, *len as usize)).collect();
    pool.write(2);
    pool.spa.abandon();
    // The power went while the uberblock was being written: the second side has the one before.
    for ((at, _), bytes) in labels.iter().zip(&before) {
        pool.disks[1].write(*at, abd::Abd::copy_from(bytes)).unwrap();
    }
    pool.disks.iter().for_each(|disk| disk.flush().unwrap());
    let devices: Vec<Arc<dyn BlockDevice>> = pool.disks.iter().map(|d| d.clone() as _).collect();
    let newest = Spa::probe(&devices[0]).unwrap().txg;
    assert!(Spa::probe(&devices[1]).unwrap().txg < newest);
    let other = devices[1].clone();
    let looked = Arc::new(AtomicBool::new(false));
    let flag = looked.clone();
    pool.disks[0].set_hook(Some(Arc::new(move |op: &Op| {
        let is_data = matches!(op, Op::Write { offset, .. } if (LABELS..DISK - LABELS).contains(offset));
        if is_data && !flag.swap(true, Ordering::Relaxed) {
            assert_eq!(Spa::probe(&other).unwrap().txg, newest, "blocks of the group before are overwritten");
        }
        None
    })));
    let options = ImportOptions::default();
    let spa = Spa::import(&devices, &options).unwrap();
    assert!(looked.load(Ordering::Relaxed));
    let pool = Pool { spa, ..pool };
    pool.assert_holds(first, 1);
    pool.assert_clean();
    pool.spa.export().unwrap();
}

impl Pool {
    fn size(&self) -> u64 {
        self.spa.space().unwrap().size
    }

    /// Writes objects until there are `bytes` more than the pool had room for; all must be read back.
    fn fill(&self, bytes: u64) -> Vec<(ObjectId, u64)> {
        (0..bytes / (3 << 20)).map(|seed| (self.write(100 + seed), 100 + seed)).collect()
    }

    /// Exports, gives its disks another size, imports.
    fn grow_disks(&mut self, which: &[usize], capacity: u64) {
        self.spa.export().unwrap();
        for nr in which {
            self.disks[*nr] = Arc::new(self.disks[*nr].grown(capacity));
        }
        let devices: Vec<_> = self.disks.iter().map(|disk| disk.clone() as Arc<dyn BlockDevice>).collect();
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }
}

#[test]
fn pools_grow_with_their_devices() {
    for (kind, width) in [(TopKind::Disk, 1), (MIRROR, 2), (TopKind::RaidZ { nparity: 1 }, 3)] {
        let mut pool = Pool::create(kind, width);
        let first = pool.write(1);
        let before = pool.size();
        // All but one, where there are several: nothing can be gained.
        let all: Vec<usize> = (0..width).collect();
        let guid = leaf_guids(&pool.spa)[0];
        if width > 1 {
            pool.grow_disks(&all[1..], 4 * DISK);
            pool.spa.online(guid, true).unwrap();
            assert_eq!(pool.size(), before, "{kind:?}");
        }
        pool.grow_disks(&all, 4 * DISK);
        assert_eq!(pool.size(), before, "{kind:?}: not without being asked");
        pool.spa.online(guid, true).unwrap();
        assert!(pool.size() > 3 * before, "{kind:?}: {} of {before}", pool.size());
        let more = pool.fill(before);
        pool.assert_clean();
        pool.reopen_without(&[]);
        pool.assert_holds(first, 1);
        more.iter().for_each(|(object, seed)| pool.assert_holds(*object, *seed));
        // From now on by itself, when it is opened.
        let before = pool.size();
        pool.spa.set_pool_number(PoolNumber::AutoExpand, 1).unwrap();
        pool.grow_disks(&all, 8 * DISK);
        assert!(pool.size() > 2 * before - (32 << 20), "{kind:?}: {} of {before}", pool.size());
        pool.write(2);
        pool.assert_clean();
        pool.reopen_without(&[]);
        pool.assert_holds(first, 1);
        pool.assert_clean();
    }
}

#[test]
fn a_mirror_grows_when_its_last_small_device_has_left() {
    let mut pool = Pool::create(MIRROR, 2);
    let first = pool.write(1);
    let before = pool.size();
    pool.spa.set_pool_number(PoolNumber::AutoExpand, 1).unwrap();
    for old in leaf_guids(&pool.spa) {
        assert_eq!(pool.size(), before);
        let disk = Arc::new(MemDisk::new(4 * DISK));
        pool.disks.push(disk.clone());
        pool.spa.replace(old, &device(&disk, pool.disks.len() - 1), Blocks::Fit).unwrap();
        pool.resilver();
    }
    assert!(pool.size() > 3 * before);
    let more = pool.fill(before);
    pool.assert_clean();
    pool.reopen_without(&[0, 1]);
    pool.assert_holds(first, 1);
    more.iter().for_each(|(object, seed)| pool.assert_holds(*object, *seed));
    pool.assert_clean();
}

impl Pool {
    /// Writes of a disk beyond its labels fail from now on, as many as there are left to fail.
    fn fail_data_writes(&self, nr: usize, times: u64) {
        let left = AtomicU64::new(times);
        self.disks[nr].set_hook(Some(Arc::new(move |op: &Op| match op {
            Op::Write { offset, .. } if (4 << 20..DISK - (1 << 20)).contains(offset) => {
                let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
                fails.is_ok().then_some(DiskError::Io)
            }
            _ => None,
        })));
    }

    /// Lets groups be written until a device is in that state.
    fn await_state(&self, nr: usize, wanted: VdevState) {
        for _ in 0..1000 {
            if self.state(nr) == wanted {
                return;
            }
            self.spa.log_history("waiting").unwrap();
        }
        panic!("device {nr} is {:?} and not {wanted:?}", self.state(nr));
    }
}

#[test]
fn a_device_that_passes_its_probe_stays() {
    for (kind, width) in [(MIRROR, 2), (TopKind::RaidZ { nparity: 1 }, 4)] {
        let mut pool = Pool::create(kind, width);
        let first = pool.write(1);
        // Each is tried twice.
        pool.fail_data_writes(1, 6);
        let second = pool.write(2);
        pool.await_state(1, VdevState::Degraded);
        pool.resilver();
        pool.assert_clean();
        pool.reopen_without(&[0]);
        pool.assert_holds(first, 1);
        pool.assert_holds(second, 2);
    }
}

#[test]
fn a_device_that_goes_on_failing_is_given_up_for_good() {
    let mut pool = Pool::create(MIRROR, 2);
    pool.fail_data_writes(1, u64::MAX);
    let first = pool.write(1);
    pool.await_state(1, VdevState::Faulted);
    pool.disks[1].set_hook(None);
    pool.spa.look_for_devices();
    let second = pool.write(2);
    assert_eq!(pool.state(1), VdevState::Faulted);
    pool.spa.clear(None).unwrap();
    pool.resilver();
    pool.assert_clean();
    pool.reopen_without(&[0]);
    pool.assert_holds(first, 1);
    pool.assert_holds(second, 2);
}

#[test]
fn a_device_that_comes_back_is_taken_back() {
    for error in [DiskError::Io, DiskError::Gone] {
        let mut pool = Pool::create(TopKind::RaidZ { nparity: 1 }, 3);
        let first = pool.write(1);
        let fails = pool.fail_writes(2, error);
        let second = pool.write(2);
        pool.await_state(2, if error == DiskError::Gone { VdevState::Removed } else { VdevState::Faulted });
        let third = pool.write(3);
        fails.store(false, Ordering::Relaxed);
        pool.spa.look_for_devices();
        pool.await_state(2, VdevState::Online);
        pool.resilver();
        pool.assert_clean();
        pool.reopen_without(&[0]);
        for (object, seed) in [(first, 1), (second, 2), (third, 3)] {
            pool.assert_holds(object, seed);
        }
    }
}

#[test]
fn another_device_in_its_place_is_not_taken() {
    let pool = Pool::create(MIRROR, 2);
    let fails = pool.fail_writes(1, DiskError::Gone);
    let first = pool.write(1);
    pool.await_state(1, VdevState::Removed);
    pool.disks[1].rot(0, &vec![0; DISK as usize]);
    fails.store(false, Ordering::Relaxed);
    for _ in 0..5 {
        pool.spa.look_for_devices();
        pool.spa.log_history("looking").unwrap();
    }
    assert_eq!(pool.state(1), VdevState::Removed);
    pool.assert_holds(first, 1);
    pool.assert_clean();
}

#[test]
fn a_pool_of_mirrors_is_split() {
    let mut pool = Pool::create(MIRROR, 2);
    let tops = [
        pool.top(MIRROR, Purpose::Data, 3),
        pool.top(MIRROR, Purpose::Special, 2),
        pool.top(TopKind::Disk, Purpose::Log, 1),
        pool.top(TopKind::Disk, Purpose::Spare, 1),
    ];
    pool.spa.add(&tops, None).unwrap();
    let first = pool.write(1);
    pool.spa.snapshot(&["tank@s"], false, &[]).unwrap();
    let second = pool.write(2);
    let guid = |nr: usize| leaf_guids(&pool.spa)[nr];
    // Disks 0 and 1, 2 to 4, 5 and 6.
    assert_eq!(pool.spa.split_sides(&[]).unwrap(), [guid(1), guid(4), guid(6)]);
    assert_eq!(pool.spa.split_sides(&[guid(0), guid(3)]).unwrap(), [guid(0), guid(3), guid(6)]);
    assert_eq!(pool.spa.split_sides(&[guid(2), guid(3)]), Err(zfs::Error::Invalid));
    assert_eq!(pool.spa.split_sides(&[guid(7)]), Err(zfs::Error::NotFound), "the log");
    assert_eq!(pool.spa.split("tank", &[]).map(drop), Err(zfs::Error::Invalid));
    let new = pool.spa.split("other", &[guid(0), guid(3)]).unwrap();
    assert_eq!(kinds(&pool.spa), ["disk0", "mirror2", "disk0", "disk0"]);
    assert_eq!(kinds(&new), ["disk0", "disk0", "disk0", "hole0"]);
    assert_eq!((new.vdev_tree().spares.len(), pool.spa.vdev_tree().spares.len()), (0, 1));
    // Each goes its own way.
    let other = Pool { disks: Vec::new(), spa: new };
    for (pool, name) in [(&pool, "tank"), (&other, "other")] {
        let dataset = pool.spa.open_dataset(name).unwrap();
        for (object, seed) in [(first, 1), (second, 2)] {
            let read = dataset.objset().hold(object).unwrap().read_vec(0, 3 << 20).unwrap();
            assert!(read == content(seed), "{name}");
        }
        let tx = DmuTx::begin(&dataset.objset(), TxSpace::write(4 << 20)).unwrap();
        let object = dataset.objset().hold(second).unwrap();
        object.write_slice(&tx, 0, &content(name.len() as u64)).unwrap();
        drop(tx);
        drop(dataset);
        pool.spa.sync().unwrap();
        pool.assert_clean();
    }
    other.spa.export().unwrap();
    pool.reopen_without(&[0, 3, 6]);
    let devices: Vec<_> = pool.disks.iter().map(|disk| disk.clone() as Arc<dyn BlockDevice>).collect();
    let options =
        ImportOptions { pool: zfs::spa::PoolName::Name("other".into()), ..ImportOptions::default() };
    let other = Spa::import(&devices, &options).unwrap();
    assert!(other.open_dataset("other@s").is_ok());
    let report = other.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    other.export().unwrap();
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn what_is_no_mirror_or_not_whole_is_not_split() {
    let pool = Pool::create(TopKind::RaidZ { nparity: 1 }, 3);
    assert_eq!(pool.spa.split("other", &[]).map(drop), Err(zfs::Error::Invalid));
    let mut pool = Pool::create(MIRROR, 2);
    pool.reopen_without(&[0]);
    assert_eq!(pool.spa.split("other", &[]).map(drop), Err(zfs::Error::Busy), "nothing would be left");
    assert_eq!(pool.spa.split("a/b", &[]).map(drop), Err(zfs::Error::Invalid));
}

#[test]
fn the_spare_that_fits_best_comes_in() {
    let mut pool = Pool::create(MIRROR, 2);
    // The third is just as large as what it may stand in for.
    let mut spares = Vec::new();
    for capacity in [4 * DISK, 3 * DISK, DISK, 2 * DISK] {
        let disk = Arc::new(MemDisk::new(capacity));
        pool.disks.push(disk.clone());
        spares.push(device(&disk, pool.disks.len() - 1));
    }
    let top = TopSpec { kind: TopKind::Disk, purpose: Purpose::Spare, devices: spares };
    pool.spa.add(&[top], None).unwrap();
    pool.fail_writes(1, DiskError::Gone);
    let first = pool.write(1);
    pool.await_state(1, VdevState::Removed);
    pool.resilver();
    let side = pool.spa.vdevs()[0].children[1].children[1].clone();
    assert_eq!(side.path.as_deref(), Some("/dev/disk4"));
    pool.assert_holds(first, 1);
    pool.assert_clean();
}

#[test]
fn a_device_of_larger_blocks_is_not_taken_unasked() {
    let disks = [Arc::new(MemDisk::new(DISK))];
    let spec = PoolSpec { ashift: 9, ..PoolSpec::new("tank") };
    let spa = Spa::create(vec![device(&disks[0], 0)], &spec, &mut nothing).unwrap();
    let target = leaf_guids(&spa)[0];
    let large = Arc::new(MemDisk::with(DISK, 4096, blockdev::WriteCache::Volatile));
    for blocks in [Blocks::Fit, Blocks::MayBeLarger] {
        assert_eq!(spa.attach(target, &device(&large, 1), blocks), Err(zfs::Error::Invalid));
    }
    spa.attach(target, &device(&Arc::new(MemDisk::new(DISK)), 2), Blocks::Fit).unwrap();
    spa.export().unwrap();
}
