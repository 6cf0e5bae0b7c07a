//! What an fsync asks of the device: one write that is durable at once, or a write and a flush, or just a write.
use crate::log::fsync;
use blockdev::{BlockDevice, WriteCache};
use blockdev_sim::{CrashMode, DiskConfig, Random, SimDisk};
use std::sync::Arc;
use vfs::test_support::Tree;
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions, create_fs, mount};

const CAPACITY: u64 = 256 << 20;

fn pool(config: DiskConfig) -> (Arc<SimDisk>, Arc<Spa>, Tree) {
    let disk = SimDisk::new(config);
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/disk".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |tx, objset| {
        create_fs(tx, objset, &CreateOptions::default())
    })
    .unwrap();
    let tree = Tree::new(mount(&spa, "tank", &MountOptions::default()).unwrap());
    tree.write("/warm", b"up").unwrap();
    fsync(&tree, "/warm");
    (disk, spa, tree)
}

/// (writes, flushes) of a small file and its fsync, and of a large one; both are there when the power goes.
fn cost(config: DiskConfig) -> [(u64, u64); 2] {
    let (disk, spa, tree) = pool(config);
    let large: Vec<u8> = (0..40_000u64).map(|i| ((i * i) >> 3) as u8).collect();
    let files = [("/small", &large[..4096]), ("/large", &large[..])];
    let costs = files.map(|(path, data)| {
        let before = disk.stats();
        tree.write(path, data).unwrap();
        fsync(&tree, path);
        let after = disk.stats();
        (after.writes - before.writes, after.flushes - before.flushes)
    });
    let image = disk.state().crash(CrashMode::DropAll, &mut Random::new(1));
    spa.abandon();
    let survivor: Arc<dyn BlockDevice> = SimDisk::with_image(config, image);
    let options = ImportOptions { force: true, ..ImportOptions::default() };
    let spa = Spa::import(&[survivor], &options).unwrap();
    let tree = Tree::new(mount(&spa, "tank", &MountOptions::default()).unwrap());
    for (path, data) in files {
        assert!(tree.read(path).unwrap() == data, "{path}");
    }
    assert!(spa.verify(&mut |_| ()).unwrap().is_clean());
    costs
}

#[test]
fn a_volatile_cache_costs_a_flush() {
    assert_eq!(cost(DiskConfig::instant(CAPACITY)), [(1, 1), (2, 1)]);
}

/// A large write's data needs a flush, which serves its log block as well.
#[test]
fn a_write_that_is_durable_at_once_costs_none() {
    assert_eq!(cost(DiskConfig { has_fua: true, ..DiskConfig::instant(CAPACITY) }), [(1, 0), (2, 1)]);
}

#[test]
fn without_a_volatile_cache_nothing_is_flushed() {
    for has_fua in [false, true] {
        let config = DiskConfig { has_fua, write_cache: WriteCache::None, ..DiskConfig::instant(CAPACITY) };
        assert_eq!(cost(config), [(1, 0), (2, 0)]);
    }
}
