//! Pools on mirrors and raidz, made and changed by the `zfs` crate, judged by OpenZFS.
mod common;

use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use common::{assert_verified, churn, fill, judge};
use std::sync::Arc;
use zfs::spa::{Blocks, ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};

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
        (vec![(TopKind::Mirror, 3), (TopKind::Mirror, 2)], 9),
        (vec![(raidz(1), 3)], 12),
        (vec![(raidz(2), 5), (TopKind::Disk, 1)], 9),
        (vec![(raidz(3), 7)], 13),
    ] {
        println!("{tops:?} {ashift}");
        let (disks, spa) = create(&tops, ashift);
        churn(&spa, 1);
        spa.export().unwrap();
        let (_folder, judged) = judge(&disks, "tank");
        judged.assert_openzfs_writes();
        let spa = import(&disks);
        churn(&spa, 2);
        assert_verified(&spa);
        spa.export().unwrap();
        let (_folder, judged) = judge(&disks, "tank");
        judged.assert_clean();
    }
}

fn leaf(spa: &Spa, nr: usize) -> u64 {
    spa.storage().leaves()[nr].guid()
}

fn new_disk(disks: &mut Vec<Arc<MemDisk>>) -> VdevSpec {
    let disk = Arc::new(MemDisk::new(DISK));
    disks.push(disk.clone());
    VdevSpec { device: disk, path: format!("/dev/disk{}", disks.len()), is_file: false }
}

fn top(disks: &mut Vec<Arc<MemDisk>>, kind: TopKind, purpose: Purpose, width: usize) -> TopSpec {
    TopSpec { kind, purpose, devices: (0..width).map(|_| new_disk(disks)).collect() }
}

/// Waits for what began by itself when the last group was written.
fn resilver(spa: &Arc<Spa>) {
    spa.log_history("one more group").unwrap();
    spa.scan_wait(std::time::Duration::from_millis(50), &mut |_| {});
    assert_eq!(spa.storage().resilver_range(), None);
}

/// Exports, and has OpenZFS look at those of the disks that are not `absent`.
fn export_and_judge(spa: &Arc<Spa>, disks: &[Arc<MemDisk>], absent: &[usize]) {
    spa.export().unwrap();
    let there = disks.iter().enumerate().filter(|(nr, _)| !absent.contains(nr));
    let there: Vec<_> = there.map(|(_, disk)| disk.clone()).collect();
    let devices: Vec<_> = there.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    let options = ImportOptions { read_only: true, ..ImportOptions::default() };
    let reader = Spa::import(&devices, &options).unwrap();
    assert_verified(&reader);
    reader.export().unwrap();
    let (_folder, judged) = judge(&there, "tank");
    judged.assert_clean();
    judged.assert_openzfs_writes();
}

#[test]
fn degraded_and_healed_pools_are_faultless() {
    for (kind, width) in [(TopKind::Mirror, 2), (TopKind::RaidZ { nparity: 2 }, 4)] {
        let (disks, spa) = create(&[(kind, width)], 12);
        churn(&spa, 1);
        spa.export().unwrap();
        let spa = import(&disks[1..]);
        churn(&spa, 2);
        export_and_judge(&spa, &disks, &[0]);
        let spa = import(&disks);
        resilver(&spa);
        churn(&spa, 3);
        export_and_judge(&spa, &disks, &[]);
    }
}

#[test]
fn pools_with_changed_vdevs_are_faultless() {
    let (mut disks, spa) = create(&[(TopKind::RaidZ { nparity: 1 }, 3), (TopKind::Disk, 1)], 12);
    churn(&spa, 1);
    let added = [
        top(&mut disks, TopKind::Disk, Purpose::Log, 1),
        top(&mut disks, TopKind::Mirror, Purpose::Special, 2),
        top(&mut disks, TopKind::Disk, Purpose::Spare, 1),
    ];
    spa.add(&added, None).unwrap();
    churn(&spa, 2);
    // A side for the single disk, which is not finished when OpenZFS looks at it.
    let side = new_disk(&mut disks);
    spa.attach(leaf(&spa, 3), &side, Blocks::Fit).unwrap();
    export_and_judge(&spa, &disks, &[]);
    let spa = import(&disks);
    resilver(&spa);
    let other = new_disk(&mut disks);
    spa.replace(leaf(&spa, 1), &other, Blocks::Fit).unwrap();
    resilver(&spa);
    spa.detach(leaf(&spa, 3)).unwrap();
    spa.remove(spa.vdevs()[2].guid).unwrap();
    churn(&spa, 3);
    assert_eq!(spa.vdevs()[2].kind, "hole");
    export_and_judge(&spa, &disks, &[1, 3, 4]);
    // The spare comes in for the disk that is missing now.
    let there: Vec<_> = [0, 5, 6, 7, 8, 9].iter().map(|nr| disks[*nr].clone()).collect();
    let spa = import(&there);
    resilver(&spa);
    assert_eq!(spa.vdevs()[0].children[2].kind, "spare");
    export_and_judge(&spa, &there, &[]);
}
