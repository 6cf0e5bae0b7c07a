//! Damaged and half-written mirrors and raidz that OpenZFS left, healed by us: afterwards either side alone, or a raidz
//! without as many others as it has parity, holds everything.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use golden_tests::open::Opened;
use golden_tests::{Pool, difference};
use mkfs::tree::manifest::{self, List};
use mkfs::tree::walk::Covered;
use rt_std as _;
use std::sync::Arc;
use std::time::Duration;
use zfs::scan::{ScanFunc, ScanState, ScanStatus};

fn disks(pool: &Pool) -> Vec<Arc<MemDisk>> {
    pool.images.iter().map(|path| Arc::new(MemDisk::from_file(path).unwrap())).collect()
}

fn devices(disks: &[Arc<MemDisk>]) -> Vec<Arc<dyn BlockDevice>> {
    disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect()
}

fn wait(opened: &Opened) -> ScanStatus {
    opened.spa.scan_wait(Duration::from_millis(50), &mut |_| {});
    opened.spa.scan_status()
}

fn scrub(opened: &Opened) -> ScanStatus {
    opened.spa.scrub().unwrap();
    wait(opened)
}

fn checksum_errors(opened: &Opened) -> Vec<u64> {
    opened.spa.storage().leaves().iter().map(|leaf| leaf.health().errors().checksum).collect()
}

/// Reads everything from one device alone and compares it with the lists.
fn assert_holds_all(pool: &Pool, disk: &Arc<MemDisk>) {
    assert_hold_all(pool, std::slice::from_ref(disk));
}

/// As [`assert_holds_all`], from these devices.
fn assert_hold_all(pool: &Pool, disks: &[Arc<MemDisk>]) {
    let devices: Vec<_> =
        disks.iter().map(|disk| Arc::new(disk.snapshot()) as Arc<dyn BlockDevice>).collect();
    let opened = Opened::devices(&devices).unwrap_or_else(|e| panic!("{}: {e}", pool.name));
    for dataset in pool.listed().unwrap() {
        let root = opened.mount(&dataset).unwrap().root().unwrap();
        for (kind, list) in [("sha256", List::Sha256), ("meta", List::Meta)] {
            let Some(expected) = pool.list(&dataset, kind).unwrap() else { continue };
            let mut actual = Vec::new();
            manifest::write(&root, &Covered::new(), list, &mut actual).unwrap();
            assert_eq!(difference(&expected, &actual), None, "{dataset}");
        }
    }
    let report = opened.spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{}: {:?}", pool.name, report.findings);
}

#[test]
fn a_damaged_side_is_repaired() {
    let pool = Pool::unpack("corrupt").unwrap();
    let disks = disks(&pool);
    let opened = Opened::writable(&devices(&disks)).unwrap();
    assert_eq!(opened.spa.properties().unwrap().read_only_reason, None);
    let status = scrub(&opened);
    assert_eq!((status.state, status.errors), (ScanState::Finished, 0));
    // As much as OpenZFS's own scrub of it repaired, but for what importing has read (and healed) before.
    assert!(status.processed > 400 << 10 && status.processed <= 640 << 10, "{status:?}");
    let errors = checksum_errors(&opened);
    assert!(errors[0] == 0 && errors[1] > 20 && errors[1] <= 40, "{errors:?}");
    assert_eq!(scrub(&opened).processed, 0);
    opened.spa.export().unwrap();
    disks.iter().for_each(|disk| assert_holds_all(&pool, disk));
}

#[test]
fn a_stale_side_is_brought_up_to_date() {
    let pool = Pool::unpack("degraded").unwrap();
    let disks = disks(&pool);
    let opened = Opened::writable(&devices(&disks)).unwrap();
    assert_eq!(opened.spa.properties().unwrap().read_only_reason, None);
    let stale = opened.spa.vdev_tree().children[0].children[1].guid;
    opened.spa.online(stale, false).unwrap();
    let status = wait(&opened);
    assert_eq!((status.func, status.state, status.errors), (ScanFunc::Resilver, ScanState::Finished, 0));
    assert!(status.processed > 100 << 10, "{status:?}");
    let status = scrub(&opened);
    assert_eq!((status.state, status.errors, status.processed), (ScanState::Finished, 0, 0), "{status:?}");
    opened.spa.export().unwrap();
    disks.iter().for_each(|disk| assert_holds_all(&pool, disk));
}

#[test]
fn a_side_that_was_wiped_between_its_labels_is_rebuilt_by_a_scrub() {
    let pool = Pool::unpack("twoway").unwrap();
    let disks = disks(&pool);
    let opened = Opened::writable(&devices(&disks)).unwrap();
    wipe(&disks[0]);
    let status = scrub(&opened);
    assert_eq!((status.state, status.errors), (ScanState::Finished, 0));
    opened.spa.export().unwrap();
    disks.iter().for_each(|disk| assert_holds_all(&pool, disk));
}

/// Everything between the labels is gone.
fn wipe(disk: &MemDisk) {
    let end = disk.geometry().capacity - (512 << 10);
    for at in ((4 << 20)..end).step_by(1 << 20) {
        let len = (end - at).min(1 << 20) as usize;
        disk.write(at, abd::Abd::zeroed(len)).unwrap();
    }
}

#[test]
fn a_spare_that_stood_in_goes_back() {
    let pool = Pool::unpack("hotspare").unwrap();
    let disks = disks(&pool);
    let opened = Opened::writable(&devices(&disks)).unwrap();
    assert_eq!(opened.spa.properties().unwrap().read_only_reason, None);
    let away = opened.spa.vdev_tree().children[0].children[1].children[0].guid;
    opened.spa.online(away, false).unwrap();
    let status = wait(&opened);
    assert_eq!((status.func, status.state, status.errors), (ScanFunc::Resilver, ScanState::Finished, 0));
    opened.spa.sync().unwrap();
    let tree = opened.spa.vdev_tree();
    let kinds: Vec<_> = tree.children[0].children.iter().map(|side| side.kind.as_str()).collect();
    assert_eq!(kinds, ["disk", "disk"]);
    assert!(!tree.spares[0].is_in_use);
    opened.spa.export().unwrap();
    disks[..2].iter().for_each(|disk| assert_holds_all(&pool, disk));
}

/// As many devices as there is parity are wiped while the pool is open; then as many others are missing.
#[test]
fn wiped_columns_of_raidz_are_rebuilt_by_a_scrub() {
    for (name, nparity) in [("rz1", 1), ("rz2", 2), ("rz3", 3)] {
        let pool = Pool::unpack(name).unwrap();
        let disks = disks(&pool);
        let opened = Opened::writable(&devices(&disks)).unwrap();
        assert_eq!(opened.spa.properties().unwrap().read_only_reason, None);
        disks[..nparity].iter().for_each(|disk| wipe(disk));
        let status = scrub(&opened);
        assert_eq!((status.state, status.errors), (ScanState::Finished, 0), "{name}");
        assert_eq!(scrub(&opened).processed, 0, "{name}");
        opened.spa.export().unwrap();
        assert_hold_all(&pool, &disks[..disks.len() - nparity]);
    }
}
