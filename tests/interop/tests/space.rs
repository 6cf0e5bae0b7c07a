//! What hangs on allocation (classes of vdevs), judged by OpenZFS.
mod common;

use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use common::{assert_verified, churn, fill};
use interop_tests::Judged;
use std::sync::Arc;
use zfs::dsl::{Property, PropertyValue};
use zfs::metaslab::SpaceClass;
use zfs::spa::{Compatibility, Feature, ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

fn tops(disks: &[Arc<MemDisk>], purposes: &[Purpose]) -> Vec<TopSpec> {
    let top = |(disk, purpose): (&Arc<MemDisk>, &Purpose)| TopSpec {
        kind: TopKind::Disk,
        purpose: *purpose,
        devices: vec![VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false }],
    };
    disks.iter().zip(purposes).map(top).collect()
}

fn import(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    let devices: Vec<_> = disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    let spa = Spa::import(&devices, &ImportOptions { force: true, ..ImportOptions::default() }).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    spa
}

/// Exports, and has OpenZFS look at the disks, write them, and look again.
fn judge(spa: &Arc<Spa>, disks: &[Arc<MemDisk>], pool: &str) -> (tempfile::TempDir, Judged) {
    assert_verified(spa);
    spa.export().unwrap();
    let (folder, judged) = common::judge(disks, pool);
    judged.assert_clean();
    judged.assert_openzfs_writes();
    (folder, judged)
}

#[test]
fn vdevs_of_every_class() {
    let disks: Vec<_> = (0..4).map(|_| Arc::new(MemDisk::new(96 << 20))).collect();
    let purposes = [Purpose::Data, Purpose::Log, Purpose::Special, Purpose::Dedup];
    let spec = PoolSpec {
        root_properties: vec![(Property::SpecialSmallBlocks, PropertyValue::Number(4096))],
        ..PoolSpec::new("tank")
    };
    let spa = Spa::create(tops(&disks, &purposes), &spec, &mut fill).unwrap();
    churn(&spa, 1);
    let storage = spa.storage();
    let counted = spa.features().unwrap().into_iter().find(|f| f.known == Some(Feature::AllocationClasses));
    assert_eq!(counted.map(|f| f.refcount), Some(2));
    assert!(storage.space_of(SpaceClass::Special).1 > 256 << 10);
    assert_eq!(storage.space_of(SpaceClass::Log).1 + storage.space_of(SpaceClass::Dedup).1, 0);
    let log = storage.allocate_log(8192, storage_txg(&spa), 1, true);
    let (bp, is_on_log_vdev) = log.unwrap();
    assert!(is_on_log_vdev && bp.dva(0).vdev == 1);
    storage.unallocate_log(&bp, storage_txg(&spa));
    judge(&spa, &disks, "tank");
    let spa = import(&disks);
    assert!(spa.storage().space_of(SpaceClass::Special).1 > 256 << 10);
    churn(&spa, 2);
    judge(&spa, &disks, "tank");
}

/// The open transaction group: nobody else is here to close it.
fn storage_txg(spa: &Arc<Spa>) -> ondisk::Txg {
    spa.txgs().hold_open().txg()
}

#[test]
fn classes_need_their_feature() {
    let disks: Vec<_> = (0..2).map(|_| Arc::new(MemDisk::new(96 << 20))).collect();
    let spec = PoolSpec { compatibility: Compatibility::Grub2, ..PoolSpec::new("tank") };
    let tops = tops(&disks, &[Purpose::Data, Purpose::Special]);
    let made = Spa::create(tops, &spec, &mut fill).map(drop);
    assert_eq!(made, Err(zfs::Error::UnsupportedFeature));
}

fn golden(name: &str) -> Vec<Arc<MemDisk>> {
    let golden = golden_tests::Pool::unpack(name).unwrap();
    golden.images.iter().map(|image| Arc::new(MemDisk::from_file(image).unwrap())).collect()
}

#[test]
fn pools_of_openzfs_with_logs_of_space_maps() {
    for name in ["logsm", "nologsm", "special", "plain"] {
        println!("{name}");
        let disks = golden(name);
        for seed in 1..3 {
            let spa = import(&disks);
            churn(&spa, seed);
            // Cut off: the logs are what the next import has.
            spa.sync().unwrap();
            spa.abandon();
            let spa = import(&disks);
            churn(&spa, seed + 10);
            judge(&spa, &disks, name);
        }
    }
}

#[test]
fn logs_of_space_maps_come_and_go() {
    let disks = [Arc::new(MemDisk::new(128 << 20))];
    let spa = Spa::create(tops(&disks, &[Purpose::Data]), &PoolSpec::new("tank"), &mut fill).unwrap();
    for seed in 0..24 {
        churn(&spa, seed);
    }
    let (nr_logs, _) = spa.storage().nr_logs();
    assert!((2..70).contains(&nr_logs), "{nr_logs}");
    assert_verified(&spa);
    // As a power cut leaves it.
    spa.abandon();
    let (_folder, judged) = common::judge(&disks, "tank");
    judged.assert_clean();
    judged.assert_openzfs_writes();
    let spa = import(&disks);
    assert_eq!(spa.storage().nr_logs().0, nr_logs + 1);
    churn(&spa, 99);
    judge(&spa, &disks, "tank");
}

fn rewound(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    let devices: Vec<_> = disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    let options = ImportOptions { force: true, rewind_to_checkpoint: true, ..ImportOptions::default() };
    Spa::import(&devices, &options).unwrap()
}

#[test]
fn a_checkpoint_of_ours() {
    let disks = [Arc::new(MemDisk::new(128 << 20))];
    let spa = Spa::create(tops(&disks, &[Purpose::Data]), &PoolSpec::new("tank"), &mut fill).unwrap();
    spa.create_dataset("tank/old", &[], &mut fill).unwrap();
    churn(&spa, 1);
    spa.checkpoint().unwrap();
    spa.destroy_dataset("tank/old").unwrap();
    spa.create_dataset("tank/new", &[], &mut fill).unwrap();
    churn(&spa, 2);
    let (_folder, judged) = judge(&spa, &disks, "tank");
    // The state it keeps is whole.
    let (is_ok, text) = judged.zdb(&["-k", "-d"]);
    assert!(is_ok && text.contains("/old [ZPL]"), "{text}");
    let other = [Arc::new(disks[0].snapshot())];
    let spa = rewound(&other);
    churn(&spa, 3);
    judge(&spa, &other, "tank");
    let spa = import(&disks);
    churn(&spa, 4);
    spa.discard_checkpoint().unwrap();
    churn(&spa, 5);
    judge(&spa, &disks, "tank");
}

#[test]
fn a_checkpoint_of_openzfs() {
    let disks = golden("ckpoint");
    let spa = import(&disks);
    assert!(spa.checkpoint_info().unwrap().is_some_and(|c| c.bytes > 0));
    churn(&spa, 1);
    judge(&spa, &disks, "ckpoint");
    let other = [Arc::new(disks[0].snapshot())];
    let spa = rewound(&other);
    assert_eq!(spa.checkpoint_info().unwrap(), None);
    churn(&spa, 2);
    judge(&spa, &other, "ckpoint");
    let spa = import(&disks);
    spa.discard_checkpoint().unwrap();
    churn(&spa, 3);
    judge(&spa, &disks, "ckpoint");
}
