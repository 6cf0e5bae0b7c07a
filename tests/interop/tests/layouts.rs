//! Pools on mirrors and raidz, made and changed by the `zfs` crate, judged by OpenZFS.
mod common;

use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use common::{assert_verified, churn, fill, judge};
use std::sync::Arc;
use zfs::spa::{ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

const DISK: u64 = 80 << 20;

/// A pool on memory disks, and the disks in the order of the layout.
fn create(tops: &[(TopKind, usize)], ashift: u8) -> (Vec<Arc<MemDisk>>, Arc<Spa>) {
    let mut disks = Vec::new();
    let specs = tops.iter().map(|(kind, width)| {
        let devices = (0..*width).map(|_| {
            let disk = Arc::new(MemDisk::new(DISK));
            disks.push(disk.clone());
            VdevSpec { device: disk, path: format!("/dev/disk{}", disks.len()), is_file: false }
        });
        TopSpec { kind: *kind, purpose: Purpose::Data, devices: devices.collect() }
    });
    let specs: Vec<_> = specs.collect();
    let spa = Spa::create(specs, &PoolSpec { ashift, ..PoolSpec::new("tank") }, &mut fill).unwrap();
    (disks, spa)
}

fn import(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    let devices: Vec<_> = disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    Spa::import(&devices, &ImportOptions::default()).unwrap()
}

#[test]
fn every_layout_is_faultless() {
    let raidz = |nparity| TopKind::RaidZ { nparity };
    for (tops, ashift) in [
        (vec![(TopKind::Mirror, 2)], 12),
        (vec![(TopKind::Mirror, 3), (TopKind::Mirror, 2)], 9),
        (vec![(raidz(1), 2)], 12),
        (vec![(raidz(1), 3)], 12),
        (vec![(raidz(2), 5), (TopKind::Disk, 1)], 9),
        (vec![(raidz(3), 7)], 13),
        (vec![(raidz(1), 4), (raidz(1), 4)], 12),
    ] {
        println!("{tops:?} {ashift}");
        let (disks, spa) = create(&tops, ashift);
        churn(&spa, 1);
        spa.export().unwrap();
        let (_folder, judged) = judge(&disks, "tank");
        judged.assert_clean();
        judged.assert_openzfs_writes();
        let spa = import(&disks);
        churn(&spa, 2);
        assert_verified(&spa);
        spa.export().unwrap();
        let (_folder, judged) = judge(&disks, "tank");
        judged.assert_clean();
    }
}
