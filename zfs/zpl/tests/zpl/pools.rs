//! Pools in memory.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;
use vfs::FileSystem;
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions, ZplFs, create_fs, mount};

/// Makes a pool `tank` whose root dataset is an empty file system.
pub fn create(disk: &Arc<MemDisk>, change: impl FnOnce(&mut PoolSpec)) -> Arc<Spa> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    let vdev = VdevSpec { device, path: "/dev/disk".into(), is_file: false };
    let mut spec = PoolSpec::new("tank");
    change(&mut spec);
    Spa::create(vec![vdev], &spec, &mut |tx, objset| create_fs(tx, objset, &CreateOptions::default()))
        .unwrap()
}

/// Opens the pool on a disk.
pub fn import(disk: &Arc<MemDisk>) -> Arc<Spa> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    Spa::import(&[device], &ImportOptions { force: true, ..ImportOptions::default() }).unwrap()
}

/// Mounts the pool's root dataset.
pub fn root(spa: &Arc<Spa>) -> Arc<ZplFs> {
    mount(spa, "tank", &MountOptions::default()).unwrap()
}

/// A new pool's root file system.
pub fn fresh() -> Arc<dyn FileSystem> {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = create(&disk, |_| ());
    root(&spa)
}

/// Shows what the crates log.
pub fn log_to_stderr() {
    struct Stderr;
    impl log::Log for Stderr {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, r: &log::Record<'_>) {
            eprintln!("{}: {}", r.level(), r.args());
        }
        fn flush(&self) {}
    }
    let _ = log::set_logger(&Stderr);
    log::set_max_level(log::LevelFilter::Info);
}
