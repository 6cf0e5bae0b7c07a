//! Scrubs that begin in one implementation and end in the other, and what both say of the errors.
//!
//! Needs a virtual machine for the kernel module, so it is built only with the feature `slow`.
use blockdev::{BlockDevice, Op};
use blockdev_host::{FileDisk, MemDisk};
use interop_tests::{Judged, in_linux};
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::scan::{ScanFunc, ScanState};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};

const RECORD: u64 = 32 << 10;
const SIZE: u64 = 256 << 20;

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

/// Bytes that nothing compresses, `seed`'s own.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..RECORD).map(step).collect()
}

/// Datasets with snapshots between rounds of writing.
fn fill(spa: &Arc<Spa>) {
    for name in ["tank/a", "tank/b", "tank/c"] {
        spa.create_dataset(name, &[], &mut nothing).unwrap();
    }
    for round in 0..3 {
        for (index, name) in ["tank/a", "tank/b", "tank/c"].into_iter().enumerate() {
            let objset = spa.open_dataset(name).unwrap().objset();
            let tx = DmuTx::begin(&objset, TxSpace::names(1, 0)).unwrap();
            let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, RECORD as u32);
            let id: ObjectId = objset.allocate(&tx, &new).unwrap().id();
            drop(tx);
            for record in 0..150 {
                let tx = DmuTx::begin(&objset, TxSpace::write(RECORD)).unwrap();
                let data = noise(round * 1_000_000 + index as u64 * 1000 + record);
                objset.hold(id).unwrap().write_slice(&tx, record * RECORD, &data).unwrap();
            }
        }
        spa.sync().unwrap();
        spa.snapshot(&[&format!("tank@r{round}")], true, &[]).unwrap();
    }
}

fn import(device: Arc<dyn BlockDevice>) -> Arc<Spa> {
    let spa = Spa::import(&[device], &ImportOptions::default()).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    spa
}

#[test]
fn openzfs_ends_what_we_began_and_we_end_what_openzfs_began() {
    let disk = Arc::new(MemDisk::new(SIZE));
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut nothing).unwrap();
    fill(&spa);
    let nr_reads = Arc::new(AtomicU64::new(0));
    let reads = nr_reads.clone();
    disk.set_hook(Some(Arc::new(move |op: &Op| {
        if matches!(op, Op::Read { .. }) && reads.fetch_add(1, Ordering::Relaxed) > 300 {
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    })));
    spa.scrub().unwrap();
    while spa.scan_status().examined < 12 << 20 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The thread stores where it is when the pool is closed.
    spa.export().unwrap();
    disk.set_hook(None);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    disk.save(&image).unwrap();
    let half = Spa::import(
        &[Arc::new(FileDisk::open(&image).unwrap()) as Arc<dyn BlockDevice>],
        &ImportOptions { read_only: true, ..ImportOptions::default() },
    )
    .unwrap();
    let status = half.scan_status();
    assert_eq!(status.state, ScanState::Scanning);
    assert!(status.examined > 8 << 20 && status.examined < status.to_examine * 9 / 10, "{status:?}");
    half.export().unwrap();
    drop(half);
    in_linux(
        "set -e; zpool import -N -f -d /dev/oracle tank; zpool wait -t scrub tank; zpool status tank
             zpool status tank | grep 'scrub repaired 0B in .* with 0 errors'
             zpool history -i tank | grep 'scan done errors=0'
             echo 1 > /sys/module/zfs/parameters/zfs_scan_suspend_progress
             zpool scrub tank; zfs destroy tank/b@r1; zpool scrub -p tank; zpool status tank | grep 'scrub paused'; zpool export tank",
        &[&image],
    );
    Judged::copy(&[&image], "tank").assert_clean();
    let spa = import(Arc::new(FileDisk::open(&image).unwrap()));
    let paused = spa.scan_status();
    assert!(paused.is_paused && paused.func == ScanFunc::Scrub, "{paused:?}");
    spa.scrub().unwrap();
    spa.scan_wait(Duration::from_millis(100), &mut |_| {});
    let status = spa.scan_status();
    assert_eq!((status.state, status.errors, status.processed), (ScanState::Finished, 0, 0), "{status:?}");
    spa.export().unwrap();
    Judged::copy(&[&image], "tank").assert_clean();
}

#[test]
fn both_name_the_same_lost_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    in_linux_with_damage(&image);
    // OpenZFS has scrubbed and logged; its log is by head dataset.
    let spa = import(Arc::new(FileDisk::open(&image).unwrap()));
    let told = lost_names(&spa);
    assert_eq!(told, ["tank/f", "tank/f@s"]);
    spa.scrub().unwrap();
    spa.scan_wait(Duration::from_millis(100), &mut |_| {});
    assert_eq!(spa.scan_status().errors, 1);
    assert_eq!(lost_names(&spa), told);
    spa.export().unwrap();
    in_linux(
        "set -e; zpool import -f -d /dev/oracle -R /a tank; zpool status -v tank
         zpool status -v tank | grep 'with 1 errors'; zpool status -v tank | grep '/a/tank/f/victim'
         zpool status -v tank | grep 'tank/f@s:/victim'; zpool export tank",
        &[&image],
    );
}

/// A pool of OpenZFS's with one damaged record that a head and a snapshot share, scrubbed by it.
fn in_linux_with_damage(image: &Path) {
    let file = std::fs::File::create(image).unwrap();
    file.set_len(SIZE).unwrap();
    in_linux(
        "set -e; zpool create -f -O compression=off -R /a tank /dev/oracle/d0; zfs create tank/f
         head -c 300000 /dev/urandom > /a/tank/f/victim; head -c 3000000 /dev/urandom > /a/tank/f/other
         zpool sync tank; zfs snapshot tank/f@s; zpool sync tank
         obj=$(stat -c %i /a/tank/f/victim)
         off=$(zdb -ddddd tank/f $obj | awk '$2 == \"L0\" && $1 == \"20000\" {print $3}' | cut -d: -f2)
         zpool export tank
         dd if=/dev/zero of=/dev/oracle/d0 bs=512 seek=$(( (0x$off + 0x400000) / 512 + 3 )) count=4 conv=notrunc
         zpool import -N -d /dev/oracle tank; zpool scrub -w tank; zpool status -v tank
         zpool status tank | grep 'with 1 errors'; zpool export tank",
        &[image],
    );
}

fn lost_names(spa: &Arc<Spa>) -> Vec<String> {
    let lost = spa.lost_blocks().unwrap();
    let mut names: Vec<String> =
        lost.iter().map(|l| spa.dataset_name(l.bookmark.objset).unwrap_or_default()).collect();
    names.sort();
    names
}
