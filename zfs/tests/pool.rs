//! Pools of ours: made, written, exported, imported, walked; and cut off at any moment.
use blockdev::{BlockDevice, Op, WriteCache};
use blockdev_host::{Crash, MemDisk};
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zfs::Error;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::dsl::{Property, PropertyValue, Source};
use zfs::spa::{Compatibility, Deterministic, ImportOptions, PoolSpec, Spa, VdevSpec};

fn vdevs(disks: &[Arc<MemDisk>]) -> Vec<VdevSpec> {
    let vdev =
        |disk: &Arc<MemDisk>| VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    disks.iter().map(vdev).collect()
}

fn disks(sizes: &[u64]) -> Vec<Arc<MemDisk>> {
    sizes.iter().map(|size| Arc::new(MemDisk::new(*size))).collect()
}

fn devices(disks: &[Arc<MemDisk>]) -> Vec<Arc<dyn BlockDevice>> {
    disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect()
}

/// One object, so that the dataset is not empty.
fn fill(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    let object = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096))?;
    object.write_slice(tx, 0, &[7; 4096])
}

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

fn spec() -> PoolSpec {
    PoolSpec { deterministic: Some(Deterministic { seed: 1, time: 1_700_000_000 }), ..PoolSpec::new("tank") }
}

fn create(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    Spa::create(vdevs(disks), &spec(), &mut fill).unwrap()
}

fn import(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    Spa::import(&devices(disks), &ImportOptions::default()).unwrap()
}

fn assert_clean(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// A reproducible stream of numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Writes `bytes` of noise as a new object.
fn write_object(
    objset: &Arc<Objset>,
    random: &mut Random,
    bytes: u64,
    block_size: u32,
) -> zfs::Result<ObjectId> {
    let tx = DmuTx::begin(objset, TxSpace::names(1, 0))?;
    let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, block_size))?;
    drop(tx);
    overwrite(objset, random, object.id(), bytes, block_size)?;
    Ok(object.id())
}

fn overwrite(
    objset: &Arc<Objset>,
    random: &mut Random,
    id: ObjectId,
    bytes: u64,
    block_size: u32,
) -> zfs::Result<()> {
    let object = objset.hold(id)?;
    let mut at = 0;
    while at < bytes {
        let data: Vec<u8> = (0..block_size).map(|_| random.next() as u8).collect();
        let tx = DmuTx::begin(objset, TxSpace::write(block_size.into()))?;
        object.write_slice(&tx, at, &data)?;
        at += u64::from(block_size);
    }
    Ok(())
}

#[test]
fn create_export_import() {
    let disks = disks(&[128 << 20]);
    let spa = create(&disks);
    assert_clean(&spa);
    let before = spa.properties().unwrap();
    spa.export().unwrap();
    assert_eq!(Spa::probe(&devices(&disks)[0]).unwrap().state, zfs::spa::PoolState::Exported);
    let spa = import(&disks);
    assert_eq!(Spa::probe(&devices(&disks)[0]).unwrap().state, zfs::spa::PoolState::Active);
    assert_clean(&spa);
    let after = spa.properties().unwrap();
    assert_eq!((before.guid, &before.name), (after.guid, &after.name));
    assert!(after.txg > before.txg && !after.is_read_only);
    spa.export().unwrap();
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let image = || {
        let disks = disks(&[64 << 20, 64 << 20]);
        let spa = create(&disks);
        spa.create_dataset("tank/a", &[], &mut fill).unwrap();
        let ds = spa.open_dataset("tank/a").unwrap();
        write_object(&ds.objset(), &mut Random(5), 1 << 20, 8192).unwrap();
        drop(ds);
        spa.export().unwrap();
        disks.iter().map(|d| d.peek(0, 64 << 20)).collect::<Vec<_>>()
    };
    assert!(image() == image());
}

#[test]
fn a_pool_that_nobody_changes_writes_nothing() {
    let disks = disks(&[64 << 20]);
    let spa = create(&disks);
    let txg = spa.properties().unwrap().txg;
    let writes = disks[0].stats().writes;
    for _ in 0..3 {
        spa.sync().unwrap();
        let hold = spa.txgs().hold_open();
        let open = hold.txg();
        drop(hold);
        spa.txgs().wait_synced(open).unwrap();
    }
    assert_eq!(spa.properties().unwrap().txg, txg);
    assert_eq!(disks[0].stats().writes, writes);
    spa.export().unwrap();
}

#[test]
fn datasets_come_move_and_go() {
    let disks = disks(&[128 << 20]);
    let spa = create(&disks);
    let allocated = spa.space().unwrap().allocated;
    for name in ["tank/a", "tank/a/b", "tank/c"] {
        spa.create_dataset(name, &[(Property::Atime, PropertyValue::Number(0))], &mut fill).unwrap();
    }
    assert_eq!(spa.create_dataset("tank/a", &[], &mut nothing), Err(Error::Exists));
    assert_eq!(spa.create_dataset("tank/x/y", &[], &mut nothing), Err(Error::NotFound));
    assert_eq!(spa.create_dataset("other/x", &[], &mut nothing), Err(Error::NotFound));
    assert_eq!(spa.create_dataset("tank/x@y", &[], &mut nothing), Err(Error::Invalid));
    let mut random = Random(3);
    let b = spa.open_dataset("tank/a/b").unwrap();
    write_object(&b.objset(), &mut random, 3 << 20, 128 << 10).unwrap();
    spa.sync().unwrap();
    assert_clean(&spa);
    assert_eq!(spa.destroy_dataset("tank/a"), Err(Error::NotEmpty));
    assert_eq!(spa.destroy_dataset("tank/a/b"), Err(Error::Busy));
    assert_eq!(spa.destroy_dataset("tank"), Err(Error::Busy));
    spa.rename_dataset("tank/a", "tank/c/z").unwrap();
    assert_eq!(b.name(), "tank/c/z/b");
    assert_clean(&spa);
    assert_eq!(spa.rename_dataset("tank/c", "tank/c/z/c"), Err(Error::Invalid));
    assert_eq!(spa.rename_dataset("tank/c/z", "tank/c"), Err(Error::Exists));
    let names: Vec<_> = spa.datasets().unwrap().into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["tank", "tank/c", "tank/c/z", "tank/c/z/b"]);
    drop(b);
    for name in ["tank/c/z/b", "tank/c/z", "tank/c"] {
        spa.destroy_dataset(name).unwrap();
        assert_clean(&spa);
    }
    assert_eq!(spa.open_dataset("tank/c").map(drop), Err(Error::NotFound));
    // Nothing is left but what the history and the space maps have grown by.
    assert!(spa.space().unwrap().allocated <= allocated + (256 << 10));
    let history: Vec<_> = spa.history().unwrap().into_iter().map(|r| r.text).collect();
    assert_eq!(history[0], "zpool create tank");
    assert!(history.contains(&"zfs rename tank/a tank/c/z".to_owned()));
    spa.export().unwrap();
}

#[test]
fn properties_are_kept_and_inherited() {
    let disks = disks(&[64 << 20]);
    let spa = create(&disks);
    spa.create_dataset("tank/a", &[], &mut nothing).unwrap();
    spa.create_dataset("tank/a/b", &[], &mut nothing).unwrap();
    let user = Property::parse("com.example:tag").unwrap();
    spa.set_property("tank/a", &Property::Compression, &PropertyValue::Number(15)).unwrap();
    spa.set_property("tank/a", &user, &PropertyValue::Text("x y".into())).unwrap();
    spa.set_property("tank", &Property::Mountpoint, &PropertyValue::Text("/".into())).unwrap();
    assert_eq!(spa.set_property("tank/a", &Property::Copies, &PropertyValue::Number(4)), Err(Error::Invalid));
    let spa = {
        spa.export().unwrap();
        import(&disks)
    };
    let get = |ds: &str, p: &Property| spa.get_property(ds, p).unwrap();
    let from_a = Source::Inherited("tank/a".into());
    assert_eq!(get("tank/a/b", &Property::Compression), (PropertyValue::Number(15), from_a.clone()));
    assert_eq!(get("tank/a/b", &user), (PropertyValue::Text("x y".into()), from_a.clone()));
    assert_eq!(get("tank/a/b", &Property::Mountpoint).0, PropertyValue::Text("/a/b".into()));
    let b = spa.open_dataset("tank/a/b").unwrap();
    assert_eq!(b.properties().unwrap().compression, ondisk::Compression::Lz4);
    assert_eq!(b.objset().properties().compress, ondisk::Compression::Lz4);
    spa.set_property("tank/a/b", &Property::Compression, &PropertyValue::Number(2)).unwrap();
    assert_eq!(b.objset().properties().compress, ondisk::Compression::Off);
    assert_eq!(get("tank/a/b", &Property::Compression).1, Source::Local);
    spa.inherit_property("tank/a/b", &Property::Compression, false).unwrap();
    assert_eq!(get("tank/a/b", &Property::Compression), (PropertyValue::Number(15), from_a));
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn quotas_and_reservations_hold() {
    let disks = disks(&[256 << 20]);
    let spa = create(&disks);
    let mib = |n: u64| PropertyValue::Number(n << 20);
    spa.create_dataset("tank/q", &[(Property::Quota, mib(8))], &mut nothing).unwrap();
    spa.create_dataset("tank/q/r", &[], &mut nothing).unwrap();
    spa.create_dataset("tank/res", &[(Property::Reservation, mib(20))], &mut nothing).unwrap();
    spa.create_dataset("tank/ref", &[(Property::RefReservation, mib(10))], &mut nothing).unwrap();
    assert_clean(&spa);
    let r = spa.open_dataset("tank/q/r").unwrap();
    let mut random = Random(9);
    assert_eq!(write_object(&r.objset(), &mut random, 32 << 20, 128 << 10), Err(Error::Quota));
    spa.sync().unwrap();
    let space = r.space().unwrap();
    assert!(space.used > 4 << 20 && space.used <= 9 << 20, "{space:?}");
    assert_clean(&spa);
    let find = |name: &str| spa.datasets().unwrap().into_iter().find(|d| d.name == name).unwrap().space;
    assert_eq!(find("tank/ref").used_by_refreservation + find("tank/ref").referenced, 10 << 20);
    let free = find("tank").available;
    let reserved = spa.open_dataset("tank/ref").unwrap();
    write_object(&reserved.objset(), &mut random, 3 << 20, 128 << 10).unwrap();
    spa.sync().unwrap();
    // What was set aside became use: nothing changes for the others but the MOS's own growth.
    assert!(find("tank").available + (1 << 20) > free);
    assert_clean(&spa);
    drop(reserved);
    assert_eq!(spa.set_property("tank/q", &Property::Quota, &mib(1)), Err(Error::Quota));
    assert_eq!(spa.set_property("tank/q", &Property::Reservation, &mib(1000)), Err(Error::NoSpace));
    spa.set_property("tank/res", &Property::Reservation, &mib(0)).unwrap();
    assert!(find("tank").available > free + (18 << 20));
    assert_clean(&spa);
    spa.destroy_dataset("tank/ref").unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn a_full_pool_can_be_emptied() {
    let disks = disks(&[64 << 20]);
    let spa = create(&disks);
    spa.create_dataset("tank/a", &[], &mut nothing).unwrap();
    let a = spa.open_dataset("tank/a").unwrap();
    let objset = a.objset();
    let mut random = Random(1);
    let mut objects = Vec::new();
    loop {
        match write_object(&objset, &mut random, 1 << 20, 128 << 10) {
            Ok(id) => objects.push(id),
            Err(Error::NoSpace) => break,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(objects.len() > 10);
    spa.sync().unwrap();
    assert_clean(&spa);
    for id in objects {
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
        objset.free(&tx, id).unwrap();
    }
    for _ in 0..4 {
        spa.sync().unwrap();
    }
    assert!(a.space().unwrap().referenced < 1 << 20);
    assert_clean(&spa);
    write_object(&objset, &mut random, 4 << 20, 128 << 10).unwrap();
    spa.export().unwrap();
}

/// Small blocks on large sectors, in several copies: what is let in has to count whole sectors, what other datasets were
/// promised, and that what was freed cannot be used again before two more groups.
#[test]
fn whatever_is_let_in_can_be_written() {
    const BLOCK: u32 = 512;
    const SPAN: u64 = 700;
    let disks = disks(&[64 << 20]);
    let mut random = Random(7);
    for copies in [2, 3] {
        let spa = Spa::create(vdevs(&disks), &PoolSpec { ashift: 13, ..spec() }, &mut fill).unwrap();
        let number = |n: u64| PropertyValue::Number(n);
        let objects: Vec<_> = ["tank/a", "tank/b", "tank/c"]
            .iter()
            .map(|name| {
                let properties = [(Property::Copies, number(copies)), (Property::RecordSize, number(512))];
                spa.create_dataset(name, &properties, &mut nothing).unwrap();
                let objset = spa.open_dataset(name).unwrap().objset();
                let id = write_object(&objset, &mut random, BLOCK.into(), BLOCK).unwrap();
                (objset, id)
            })
            .collect();
        let (mut nr_written, mut nr_full) = (0, 0);
        for step in 0..60 {
            let (objset, id) = &objects[random.below(3) as usize];
            let object = objset.hold(*id).unwrap();
            let first = random.below(SPAN) * u64::from(BLOCK);
            let data: Vec<u8> = (0..SPAN * u64::from(BLOCK)).map(|_| random.next() as u8).collect();
            match DmuTx::begin(objset, TxSpace::write_range(first, data.len() as u64, BLOCK)) {
                Ok(tx) => {
                    object.write_slice(&tx, first, &data).unwrap();
                    nr_written += 1;
                }
                Err(Error::NoSpace) => {
                    nr_full += 1;
                    let tx = DmuTx::begin(objset, TxSpace::write(BLOCK.into()).net_free()).unwrap();
                    object.free_range(&tx, 0, u64::MAX).unwrap();
                }
                Err(e) => panic!("step {step}: {e}"),
            }
        }
        spa.sync().unwrap();
        assert!(nr_written > 10 && nr_full > 0, "{nr_written} written, {nr_full} times full");
        drop(objects);
        assert_clean(&spa);
        spa.export().unwrap();
    }
}

/// Random changes to several datasets, synced at random, with the whole pool walked now and then.
fn churn(disks: &[Arc<MemDisk>], seed: u64, steps: usize) -> Arc<Spa> {
    let mut random = Random(seed);
    let mut spa = create(disks);
    let mut objects: Vec<(String, ObjectId, u32)> = Vec::new();
    let mut datasets = vec!["tank".to_owned()];
    for step in 0..steps {
        let ds = datasets[random.below(datasets.len() as u64) as usize].clone();
        match random.below(12) {
            0 if datasets.len() < 6 => {
                let name = format!("{ds}/d{step}");
                let record = PropertyValue::Number(512 << random.below(9));
                spa.create_dataset(&name, &[(Property::RecordSize, record)], &mut nothing).unwrap();
                datasets.push(name);
            }
            1 => spa.sync().unwrap(),
            2 => {
                objects.retain(|(name, id, _)| {
                    let is_gone = random.below(3) == 0;
                    if is_gone {
                        let objset = spa.open_dataset(name).unwrap().objset();
                        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
                        objset.free(&tx, *id).unwrap();
                    }
                    !is_gone
                });
            }
            3 if datasets.len() > 3 => {
                let name = datasets.last().unwrap().clone();
                if spa.destroy_dataset(&name).is_ok() {
                    datasets.pop();
                    objects.retain(|(n, ..)| *n != name);
                }
            }
            4 => {
                spa.export().unwrap();
                spa = import(disks);
            }
            5 if !objects.is_empty() => {
                let (name, id, size) = objects[random.below(objects.len() as u64) as usize].clone();
                let objset = spa.open_dataset(&name).unwrap().objset();
                let tx = DmuTx::begin(&objset, TxSpace::write(0)).unwrap();
                let at = random.below(20) * u64::from(size);
                objset.hold(id).unwrap().free_range(&tx, at, 3 * u64::from(size)).unwrap();
            }
            6 if !objects.is_empty() => {
                let (name, id, size) = objects[random.below(objects.len() as u64) as usize].clone();
                let objset = spa.open_dataset(&name).unwrap().objset();
                overwrite(&objset, &mut random, id, 5 * u64::from(size), size).unwrap();
            }
            _ => {
                let objset = spa.open_dataset(&ds).unwrap().objset();
                let size = 512 << random.below(9);
                let bytes = u64::from(size) * random.below(30);
                objects.push((ds, write_object(&objset, &mut random, bytes, size).unwrap(), size));
            }
        }
        if random.below(8) == 0 {
            spa.sync().unwrap();
            assert_clean(&spa);
        }
    }
    spa
}

#[test]
fn churn_leaves_no_trace() {
    for seed in 0..6 {
        let disks = if seed % 2 == 0 { disks(&[192 << 20]) } else { disks(&[96 << 20, 128 << 20]) };
        let spa = churn(&disks, seed, 120);
        spa.export().unwrap();
        let spa = import(&disks);
        assert_clean(&spa);
        spa.export().unwrap();
    }
}

#[test]
fn a_power_cut_leaves_the_last_group() {
    for seed in 0..12 {
        let disk = Arc::new(MemDisk::with(192 << 20, 512, WriteCache::Volatile));
        let spa = churn(std::slice::from_ref(&disk), 100 + seed, 30);
        spa.sync().unwrap();
        let synced = spa.properties().unwrap().txg;
        // More, of which nothing is waited for.
        let objset = spa.open_dataset("tank").unwrap().objset();
        write_object(&objset, &mut Random(seed), 600 << 10, 4096).unwrap();
        let open = spa.txgs().open_txg();
        spa.txgs().kick(open);
        std::thread::sleep(std::time::Duration::from_micros(300 * seed));
        let survivor = Arc::new(disk.after_crash(Crash::Random(seed)));
        spa.abandon();
        let spa = import(&[survivor]);
        assert!(spa.properties().unwrap().txg > synced);
        assert_clean(&spa);
        spa.export().unwrap();
    }
}

#[test]
fn a_failed_write_suspends() {
    let disk = Arc::new(MemDisk::new(64 << 20));
    let spa = create(std::slice::from_ref(&disk));
    let objset = spa.open_dataset("tank").unwrap().objset();
    write_object(&objset, &mut Random(1), 1 << 20, 4096).unwrap();
    disk.kill();
    assert_eq!(spa.sync(), Err(Error::Suspended));
    assert!(spa.properties().unwrap().is_suspended);
    assert_eq!(spa.create_dataset("tank/a", &[], &mut nothing), Err(Error::Suspended));
    assert_eq!(spa.export(), Err(Error::Suspended));
}

#[test]
fn what_cannot_be_made_is_refused() {
    let make =
        |sizes: &[u64], spec: &PoolSpec| Spa::create(vdevs(&disks(sizes)), spec, &mut nothing).map(drop);
    assert_eq!(make(&[32 << 20], &spec()), Err(Error::NoSpace));
    assert_eq!(make(&[], &spec()), Err(Error::Invalid));
    assert_eq!(make(&[64 << 20], &PoolSpec { ashift: 8, ..spec() }), Err(Error::Invalid));
    assert_eq!(make(&[64 << 20], &PoolSpec::new("mirror1")), Err(Error::Invalid));
    let list = Compatibility::List(vec!["encryption".into()]);
    assert_eq!(make(&[64 << 20], &PoolSpec { compatibility: list, ..spec() }), Err(Error::Invalid));
    let mut fail = |_: &DmuTx, _: &Arc<Objset>| Err(Error::Interrupted);
    assert_eq!(
        Spa::create(vdevs(&disks(&[64 << 20])), &spec(), &mut fail).map(drop),
        Err(Error::Interrupted)
    );
}

/// Runs `work` on a copy of `disk` whose device goes away at the `nr`-th write or flush, then cuts the power. The
/// survivor, and whether the end was reached before.
fn cut_at(
    disk: &MemDisk,
    nr: u64,
    seed: u64,
    work: &dyn Fn(&[Arc<MemDisk>]) -> zfs::Result<()>,
) -> (Arc<MemDisk>, bool) {
    let copy = Arc::new(disk.snapshot());
    let count = AtomicU64::new(0);
    copy.set_hook(Some(Arc::new(move |op| {
        let is_change = !matches!(op, Op::Read { .. });
        let is_over = is_change && count.fetch_add(1, Ordering::SeqCst) >= nr;
        is_over.then_some(blockdev::Error::Gone)
    })));
    let is_done = work(std::slice::from_ref(&copy)).is_ok();
    copy.set_hook(None);
    (Arc::new(copy.after_crash(Crash::Random(seed))), is_done)
}

#[test]
fn a_power_cut_at_any_write_of_a_life() {
    let disk = Arc::new(MemDisk::with(64 << 20, 512, WriteCache::Volatile));
    let spa = create(std::slice::from_ref(&disk));
    spa.create_dataset("tank/a", &[], &mut fill).unwrap();
    spa.export().unwrap();
    // Imported, changed in three groups, exported: at each write and flush of it the power may fail.
    let life = |disks: &[Arc<MemDisk>]| -> zfs::Result<()> {
        let spa = Spa::import(&devices(disks), &ImportOptions::default())?;
        let work = || -> zfs::Result<()> {
            let objset = spa.open_dataset("tank/a")?.objset();
            let id = write_object(&objset, &mut Random(4), 64 << 10, 4096)?;
            spa.sync()?;
            overwrite(&objset, &mut Random(5), id, 32 << 10, 4096)?;
            spa.sync()?;
            spa.set_property("tank/a", &Property::Quota, &PropertyValue::Number(32 << 20))?;
            spa.export()
        };
        let result = work();
        spa.abandon();
        result
    };
    let mut nr = 0;
    loop {
        let (survivor, is_done) = cut_at(&disk, nr, nr, &life);
        let spa = import(&[survivor]);
        assert_clean(&spa);
        assert!(spa.open_dataset("tank/a").is_ok());
        spa.abandon();
        if is_done {
            break;
        }
        nr += 1;
    }
    assert!(nr > 60, "{nr}");
}

#[test]
fn a_power_cut_while_a_pool_is_made_leaves_a_pool_or_none() {
    let blank = MemDisk::with(64 << 20, 512, WriteCache::Volatile);
    let make = |disks: &[Arc<MemDisk>]| Spa::create(vdevs(disks), &spec(), &mut fill)?.export();
    let mut nr = 0;
    loop {
        let (survivor, is_done) = cut_at(&blank, nr, nr, &make);
        match Spa::import(&devices(&[survivor]), &ImportOptions::default()) {
            Ok(spa) => {
                assert_clean(&spa);
                spa.abandon();
            }
            Err(e) => assert!(!is_done && matches!(e, Error::NoLabel | Error::NoUberblock), "{nr}: {e}"),
        }
        if is_done {
            break;
        }
        nr += 1;
    }
}

#[test]
fn a_rewind_gives_up_newer_groups_for_good() {
    let disks = disks(&[128 << 20]);
    let spa = create(&disks);
    let old = spa.properties().unwrap().txg;
    spa.create_dataset("tank/new", &[], &mut fill).unwrap();
    spa.export().unwrap();
    let rewind = ImportOptions { rewind_txg: Some(old), ..ImportOptions::default() };
    let spa = Spa::import(&devices(&disks), &rewind).unwrap();
    assert_eq!(spa.open_dataset("tank/new").map(drop), Err(Error::NotFound));
    assert_clean(&spa);
    spa.create_dataset("tank/other", &[], &mut fill).unwrap();
    spa.export().unwrap();
    let spa = import(&disks);
    assert_eq!(spa.open_dataset("tank/new").map(drop), Err(Error::NotFound));
    assert!(spa.open_dataset("tank/other").is_ok());
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn commands_and_writers_do_not_meet() {
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 40;
    let disks = disks(&[192 << 20, 192 << 20]);
    let spec = PoolSpec { deterministic: None, ..spec() };
    let spa = Spa::create(vdevs(&disks), &spec, &mut fill).unwrap();
    for n in 0..WRITERS {
        spa.create_dataset(&format!("tank/w{n}"), &[], &mut nothing).unwrap();
    }
    std::thread::scope(|scope| {
        for n in 0..WRITERS {
            let spa = &spa;
            scope.spawn(move || {
                let mut random = Random(n);
                let ds = spa.open_dataset(&format!("tank/w{n}")).unwrap();
                let objset = ds.objset();
                let mut objects = Vec::new();
                for _ in 0..ROUNDS {
                    let size = 512 << random.below(8);
                    let bytes = u64::from(size) * random.below(20);
                    objects.push(write_object(&objset, &mut random, bytes, size).unwrap());
                    if random.below(3) == 0 {
                        let id = objects.swap_remove(random.below(objects.len() as u64) as usize);
                        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
                        objset.free(&tx, id).unwrap();
                    }
                    if random.below(10) == 0 {
                        spa.sync().unwrap();
                    }
                    assert!(ds.properties().is_ok() && ds.space().is_ok());
                }
            });
        }
        let spa = &spa;
        scope.spawn(move || {
            for n in 0..ROUNDS / 4 {
                let (name, to) = (format!("tank/t{n}"), format!("tank/u{n}"));
                spa.create_dataset(&name, &[], &mut fill).unwrap();
                spa.set_property(&name, &Property::Atime, &PropertyValue::Number(0)).unwrap();
                spa.rename_dataset(&name, &to).unwrap();
                assert!(spa.datasets().unwrap().iter().any(|d| d.name == to));
                if n % 2 == 0 {
                    spa.destroy_dataset(&to).unwrap();
                }
            }
        });
    });
    spa.sync().unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
    let spa = import(&disks);
    assert_clean(&spa);
    spa.export().unwrap();
}

/// Writes, and bytes of them, of one transaction group, on average over many in which small files come and go.
fn cost_of_a_group(with_logs: bool) -> (u64, u64) {
    let disks = disks(&[1 << 30]);
    let mut spec = spec();
    if !with_logs {
        let names = spec.compatibility.features().unwrap().into_iter();
        let names = names.filter(|f| *f != zfs::spa::Feature::LogSpacemap).map(|f| f.guid().to_string());
        spec.compatibility = Compatibility::List(names.collect());
    }
    let spa = Spa::create(vdevs(&disks), &spec, &mut fill).unwrap();
    let objset = spa.open_dataset("tank").unwrap().objset();
    let mut random = Random(3);
    let mut objects: Vec<ObjectId> = Vec::new();
    let (mut before, mut groups) = (disks[0].stats(), 0);
    for group in 0..300 {
        for _ in 0..20 {
            let tx = DmuTx::begin(&objset, TxSpace::write(64 << 10)).unwrap();
            let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096)).unwrap();
            let data: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
            (0..random.next() % 4).for_each(|block| object.write_slice(&tx, block * 4096, &data).unwrap());
            objects.push(object.id());
        }
        for _ in 0..if group < 100 { 0 } else { 20 } {
            let tx = DmuTx::begin(&objset, TxSpace::write(64 << 10)).unwrap();
            let at = random.next() as usize % objects.len();
            objset.free(&tx, objects.swap_remove(at)).unwrap();
        }
        spa.sync().unwrap();
        if group == 100 {
            (before, groups) = (disks[0].stats(), 0);
        }
        groups += 1;
    }
    let after = disks[0].stats();
    drop(objset);
    assert_clean(&spa);
    ((after.writes - before.writes) / groups, (after.written_bytes - before.written_bytes) / groups)
}

#[test]
fn logs_of_space_maps_make_groups_cheaper() {
    let (plain, logged) = (cost_of_a_group(false), cost_of_a_group(true));
    println!("writes and bytes of a group: {plain:?} without logs of space maps, {logged:?} with");
    assert!(logged.1 <= plain.1, "{logged:?} with logs, {plain:?} without");
}
