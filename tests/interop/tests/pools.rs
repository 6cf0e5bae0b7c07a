//! Pools that the `zfs` crate makes and changes, judged by OpenZFS.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use interop_tests::Judged;
use ondisk::DmuType;
use rt_std as _;
use std::path::PathBuf;
use std::sync::Arc;
use zfs::dmu::{DmuTx, NewObject, Objset};
use zfs::spa::{Compatibility, ImportOptions, PoolSpec, Spa, VdevSpec};

fn fill(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    let object = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096))?;
    object.write_slice(tx, 0, &[7; 4096])
}

struct Pool {
    disks: Vec<Arc<MemDisk>>,
    spa: Arc<Spa>,
}

impl Pool {
    fn create(sizes: &[u64], spec: &PoolSpec) -> Self {
        let disks: Vec<_> = sizes.iter().map(|size| Arc::new(MemDisk::new(*size))).collect();
        let vdev = |d: &Arc<MemDisk>| VdevSpec { device: d.clone(), path: "/dev/vda".into(), is_file: false };
        let spa = Spa::create(disks.iter().map(vdev).collect(), spec, &mut fill).unwrap();
        Self { disks, spa }
    }

    /// Exports, and has OpenZFS look at the disks.
    fn judge(&self) -> (tempfile::TempDir, Judged) {
        self.spa.export().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> =
            (0..self.disks.len()).map(|n| folder.path().join(format!("d{n}.img"))).collect();
        for (disk, path) in self.disks.iter().zip(&paths) {
            disk.save(path).unwrap();
        }
        let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
        let judged = Judged::copy(&paths, "tank");
        (folder, judged)
    }

    fn reopen(&mut self) {
        let devices: Vec<_> = self.disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }
}

#[test]
fn new_pools_are_faultless() {
    for (sizes, ashift, compatibility) in [
        (vec![128 << 20], 12, Compatibility::Full),
        (vec![64 << 20], 9, Compatibility::Full),
        (vec![64 << 20, 96 << 20], 12, Compatibility::Grub2),
        (vec![64 << 20], 9, Compatibility::NoFeatures),
        (vec![256 << 20], 16, Compatibility::OpenZfs20Linux),
        (vec![4 << 30], 13, Compatibility::Full),
    ] {
        let spec = PoolSpec { ashift, compatibility: compatibility.clone(), ..PoolSpec::new("tank") };
        println!("{sizes:?} {ashift} {compatibility:?}");
        let mut pool = Pool::create(&sizes, &spec);
        let (_folder, judged) = pool.judge();
        judged.assert_clean();
        judged.assert_openzfs_writes();
        pool.reopen();
        let (_folder, judged) = pool.judge();
        judged.assert_clean();
    }
}
