//! Imports that cannot read all they need.
use blockdev::{BlockDevice, Error as DiskError, Op};
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zfs::dmu::{DmuTx, Objset};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

/// Whatever an import cannot read, early or late: nothing of it goes on when it has failed. A pool that nobody has would
/// write to devices that somebody else opens next.
#[test]
fn nobody_is_left_who_writes() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut nothing).unwrap();
    spa.create_dataset("tank/fs", &[], &mut nothing).unwrap();
    spa.snapshot(&["tank/fs@1"], false, &[]).unwrap();
    spa.abandon();
    drop(spa);
    let mut nr_failed = 0;
    for nr_good in 0.. {
        let copy = Arc::new(disk.snapshot());
        let nr_reads = Arc::new(AtomicUsize::new(0));
        let counted = nr_reads.clone();
        copy.set_hook(Some(Arc::new(move |op: &Op| {
            let is_late = matches!(op, Op::Read { .. }) && counted.fetch_add(1, Ordering::Relaxed) >= nr_good;
            is_late.then_some(DiskError::Io)
        })));
        let opened = Spa::import(&[copy.clone() as Arc<dyn BlockDevice>], &ImportOptions::default());
        copy.set_hook(None);
        match &opened {
            Ok(spa) => spa.abandon(),
            Err(_) => nr_failed += 1,
        }
        drop(opened);
        // Whoever is ending still has a moment for it.
        let is_gone = (0..2000).any(|_| {
            let is_gone = Arc::strong_count(&copy) == 1;
            if !is_gone {
                std::thread::sleep(Duration::from_millis(1));
            }
            is_gone
        });
        assert!(is_gone, "somebody has the disk after {nr_good} reads");
        if nr_reads.load(Ordering::Relaxed) <= nr_good {
            break;
        }
    }
    assert!(nr_failed > 30, "{nr_failed}");
}
