//! Pools of ours: made, written, exported, imported, walked.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
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

fn spec() -> PoolSpec {
    PoolSpec { deterministic: Some(Deterministic { seed: 1, time: 1_700_000_000 }), ..PoolSpec::new("tank") }
}

fn assert_clean(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

#[test]
fn create_export_import() {
    let disks = disks(&[128 << 20]);
    let spa = Spa::create(vdevs(&disks), &spec(), &mut fill).unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
    let spa = Spa::import(&devices(&disks), &ImportOptions::default()).unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
}
