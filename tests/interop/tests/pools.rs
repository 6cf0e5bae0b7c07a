//! Pools that the `zfs` crate makes and changes, judged by OpenZFS.
mod common;

use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use common::{assert_verified, churn, fill};
use interop_tests::Judged;
use ondisk::DmuType;
use std::sync::Arc;
use zfs::dmu::NewObject;
use zfs::spa::{Compatibility, ImportOptions, PoolSpec, Spa, VdevSpec};

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
        common::judge(&self.disks, "tank")
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

#[test]
fn changed_pools_are_faultless() {
    use zfs::dsl::{Property, PropertyValue};
    let mut pool = Pool::create(&[96 << 20, 128 << 20], &PoolSpec::new("tank"));
    let spa = &pool.spa;
    let mib = |n: u64| PropertyValue::Number(n << 20);
    let user = Property::parse("com.example:tag").unwrap();
    spa.create_dataset("tank/a", &[(Property::Compression, PropertyValue::Number(15))], &mut fill).unwrap();
    spa.create_dataset("tank/a/b", &[(Property::Quota, mib(40)), (Property::Reservation, mib(9))], &mut fill)
        .unwrap();
    spa.create_dataset(
        "tank/c",
        &[(Property::RefReservation, mib(5)), (user, PropertyValue::Text("x".into()))],
        &mut fill,
    )
    .unwrap();
    spa.create_dataset("tank/copies", &[(Property::Copies, PropertyValue::Number(2))], &mut fill).unwrap();
    spa.create_dataset("tank/sha", &[(Property::Checksum, PropertyValue::Number(8))], &mut fill).unwrap();
    spa.create_dataset("tank/big", &[(Property::RecordSize, mib(1))], &mut |tx, objset| {
        let object = objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 1 << 20))?;
        object.write_slice(tx, 0, &[9; 1 << 20])
    })
    .unwrap();
    churn(spa, 1);
    spa.rename_dataset("tank/a", "tank/c/a").unwrap();
    spa.create_dataset("tank/doomed", &[], &mut fill).unwrap();
    churn(spa, 2);
    spa.destroy_dataset("tank/doomed").unwrap();
    spa.set_bootfs(Some("tank/c/a")).unwrap();
    assert_verified(spa);
    let (_folder, judged) = pool.judge();
    judged.assert_clean();
    let (is_ok, text) = judged.zdb(&["-h"]);
    assert!(is_ok && text.contains("zfs rename tank/a tank/c/a"), "{text}");
    judged.assert_openzfs_writes();
    pool.reopen();
    churn(&pool.spa, 3);
    let (_folder, judged) = pool.judge();
    judged.assert_clean();
}

#[test]
fn pools_of_openzfs_can_be_changed() {
    // Those of the golden pools whose features this build writes.
    for name in ["nofeat", "nologsm"] {
        let golden = golden_tests::Pool::unpack(name).unwrap();
        let disk = Arc::new(MemDisk::from_file(&golden.images[0]).unwrap());
        let devices: Vec<_> = vec![disk.clone() as Arc<dyn BlockDevice>];
        let spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
        assert_eq!(spa.properties().unwrap().read_only_reason, None, "{name}");
        assert_verified(&spa);
        churn(&spa, 7);
        let made = format!("{name}/made");
        spa.create_dataset(&made, &[], &mut fill).unwrap();
        churn(&spa, 8);
        assert_verified(&spa);
        spa.export().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d0.img");
        disk.save(&path).unwrap();
        let judged = Judged::copy(&[&path], name);
        judged.assert_clean();
        judged.assert_openzfs_writes();
    }
}
