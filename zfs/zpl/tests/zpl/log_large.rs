//! Large writes: their data is written once, in blocks that the log's records point to.
use crate::log::{after_power_cut, fsync, ready};
use crate::pools;
use blockdev_host::{Crash, MemDisk};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::test_support::Tree;
use vfs::{FallocateMode, SetAttr, SliceSource};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::Spa;

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn vnode(tree: &Tree, path: &str) -> vfs::VnodeRef {
    tree.find(path).unwrap().vnode().clone()
}

#[test]
fn a_large_fsync_writes_its_data_once_and_waits_for_no_group() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    let data = noise((9 << 20) + 12_345, 3);
    let before = disk.stats().written_bytes;
    tree.write("/large", &data).unwrap();
    fsync(&tree, "/large");
    let stats = fs.objset().zil().unwrap().stats();
    assert_eq!((stats.nr_group_waits, stats.nr_large), (1, 72), "{stats:?}");
    // Records, and what the last block has of it.
    assert!(stats.bytes < 128 << 10, "{stats:?}");
    spa.sync().unwrap();
    let written = disk.stats().written_bytes - before;
    assert!(written < data.len() as u64 * 12 / 10, "{written} for {}", data.len());
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert!(tree.read("/large").unwrap() == data);
}

#[test]
fn large_writes_are_replayed() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    let mut data = noise(700_000, 4);
    tree.write("/large", &data).unwrap();
    fsync(&tree, "/large");
    // Once more, with changes: some blocks stay as they were written.
    let file = vnode(&tree, "/large");
    let patch = noise(200_000, 5);
    file.write(150_000, &mut SliceSource::new(&patch)).unwrap();
    data[150_000..350_000].copy_from_slice(&patch);
    file.fallocate(FallocateMode::PunchHole, 400_000..600_000).unwrap();
    data[400_000..600_000].fill(0);
    file.setattr(&SetAttr { size: Some(650_000), ..SetAttr::default() }).unwrap();
    data.truncate(650_000);
    fsync(&tree, "/large");
    tree.write("/gone", &noise(300_000, 6)).unwrap();
    fsync(&tree, "/gone");
    tree.ns.unlink_at(&tree.from(), b"/gone").unwrap();
    fsync(&tree, "/large");
    assert_eq!(fs.objset().zil().unwrap().stats().nr_group_waits, 1);
    let (spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert!(tree.read("/large").unwrap() == data);
    assert!(tree.find("/gone").is_err());
    spa.sync().unwrap();
    assert!(spa.verify(&mut |_| ()).unwrap().is_clean());
}

#[test]
fn with_logbias_throughput_every_write_goes_to_its_block() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    spa.set_property("tank", &Property::LogBias, &PropertyValue::Number(1)).unwrap();
    fs.reload_properties().unwrap();
    let mut data = noise(300_000, 7);
    tree.write("/file", &data).unwrap();
    spa.sync().unwrap();
    let file = vnode(&tree, "/file");
    // Many small writes to one block: one block is written for all of them.
    for i in 0..20 {
        let patch = noise(500, i);
        let at = 131_072 + i as usize * 3000;
        file.write(at as u64, &mut SliceSource::new(&patch)).unwrap();
        data[at..at + 500].copy_from_slice(&patch);
    }
    fsync(&tree, "/file");
    let stats = fs.objset().zil().unwrap().stats();
    assert_eq!((stats.nr_group_waits, stats.nr_large), (1, 1), "{stats:?}");
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert!(tree.read("/file").unwrap() == data);
}

/// One life of a pool: whole rounds of writing one file anew, each acknowledged by an fsync.
fn rounds(spa: &Arc<Spa>, acknowledged: &AtomicU64) -> vfs::Result<()> {
    let fs = zpl::mount(spa, "tank", &zpl::MountOptions::default()).map_err(|_| vfs::Error::Io)?;
    let tree = Tree::new(fs);
    for round in 1..6 {
        tree.write("/file", &content(round))?;
        tree.open("/file", vfs::OpenFlags::READ)?.fsync(vfs::Fsync::All)?;
        acknowledged.store(round, Ordering::SeqCst);
        if round % 2 == 0 {
            spa.sync().map_err(|_| vfs::Error::Io)?;
        }
    }
    Ok(())
}

/// What the file holds after a round: its blocks differ from those of every other round, its length does not.
fn content(round: u64) -> Vec<u8> {
    noise(300_000, 100 + round)
}

#[test]
fn a_power_cut_at_any_write_keeps_acknowledged_large_writes() {
    let disk = Arc::new(MemDisk::new(64 << 20));
    pools::create(&disk, |_| ()).export().unwrap();
    for cut in (0..).step_by(3) {
        let copy = Arc::new(disk.snapshot());
        let count = AtomicU64::new(0);
        copy.set_hook(Some(Arc::new(move |op| {
            let is_change = !matches!(op, blockdev::Op::Read { .. });
            (is_change && count.fetch_add(1, Ordering::SeqCst) >= cut).then_some(blockdev::Error::Gone)
        })));
        let acknowledged = AtomicU64::new(0);
        let device: Arc<dyn blockdev::BlockDevice> = copy.clone();
        let options = zfs::spa::ImportOptions { force: true, ..Default::default() };
        let is_done = Spa::import(&[device], &options).is_ok_and(|spa| {
            let result = rounds(&spa, &acknowledged);
            spa.abandon();
            result.is_ok()
        });
        copy.set_hook(None);
        let survivor = Arc::new(copy.after_crash(Crash::Random(cut)));
        let spa = pools::import(&survivor);
        let tree = Tree::new(pools::root(&spa));
        let last = acknowledged.load(Ordering::SeqCst);
        if last > 0 {
            let found = tree.read("/file").unwrap();
            // The round after may have been cut off between its own blocks, but not within one.
            let (old, new) = (content(last), content(last + 1));
            for (i, block) in found.chunks(128 << 10).enumerate() {
                let at = i * (128 << 10)..i * (128 << 10) + block.len();
                assert!(
                    block == &old[at.clone()] || block == &new[at],
                    "cut {cut}: block {i} after round {last}"
                );
            }
            assert!(found.len() == old.len() || found.len() < old.len() && !is_done, "cut {cut}");
        }
        let report = spa.verify(&mut |_| ()).unwrap();
        assert!(report.is_clean(), "cut {cut}: {report:?}");
        spa.abandon();
        if is_done {
            assert!(cut > 40, "{cut}");
            break;
        }
    }
}
