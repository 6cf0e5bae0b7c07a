//! Pools that cannot write: nothing is acknowledged, and what stopped goes on when the device is mended.
use blockdev::{Error as DiskError, Op};
use blockdev_host::MemDisk;
use ondisk::DmuType;
use rt_std as _;
use std::sync::Arc;
use std::time::Duration;
use zfs::Error;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::{FailMode, PoolNumber, PoolSpec, Spa, VdevSpec};

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

fn pool(mode: Option<FailMode>) -> (Arc<MemDisk>, Arc<Spa>) {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut nothing).unwrap();
    if let Some(mode) = mode {
        spa.set_pool_number(PoolNumber::FailMode, mode as u64).unwrap();
    }
    (disk, spa)
}

fn write(spa: &Arc<Spa>) {
    let objset = spa.open_dataset("tank").unwrap().objset();
    let tx = DmuTx::begin(&objset, TxSpace::write(1 << 20)).unwrap();
    let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 4096);
    let object = objset.allocate(&tx, &new).unwrap();
    let content: Vec<u8> = (0..40_000u32).map(|i| ((i * i) >> 7) as u8).collect();
    object.write_slice(&tx, 0, &content).unwrap();
}

/// Every write beyond `from` fails.
fn break_writes(disk: &MemDisk, from: u64) {
    disk.set_hook(Some(Arc::new(move |op: &Op| {
        matches!(op, Op::Write { offset, .. } if *offset >= from).then_some(DiskError::Io)
    })));
}

fn wait_suspended(spa: &Arc<Spa>) {
    while !spa.properties().unwrap().is_suspended {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether it is so within some seconds.
fn soon(is_so: impl Fn() -> bool) -> bool {
    (0..20_000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        is_so()
    })
}

fn assert_whole(spa: &Arc<Spa>) {
    spa.sync().unwrap();
    // What the device missed meanwhile is looked after.
    spa.scan_wait(Duration::from_millis(50), &mut |_| {});
    assert_eq!(spa.scan_status().errors, 0);
    for _ in 0..3 {
        let hold = spa.txgs().hold_open();
        let txg = hold.txg();
        drop(hold);
        spa.txgs().wait_synced(txg).unwrap();
    }
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    spa.export().unwrap();
}

#[test]
fn users_wait_for_a_pool_that_is_to_be_waited_for() {
    // Data that cannot be written, and labels that cannot.
    for from in [4 << 20, 0] {
        let (disk, spa) = pool(Some(FailMode::Wait));
        write(&spa);
        break_writes(&disk, from);
        let user = {
            let spa = spa.clone();
            std::thread::spawn(move || spa.txgs().sync_all())
        };
        wait_suspended(&spa);
        std::thread::sleep(Duration::from_millis(30));
        assert!(!user.is_finished(), "it must not be answered");
        disk.set_hook(None);
        spa.clear(None).unwrap();
        user.join().unwrap().unwrap();
        assert!(!spa.properties().unwrap().is_suspended);
        write(&spa);
        assert_whole(&spa);
    }
}

#[test]
fn users_get_errors_from_a_pool_that_continues() {
    for mode in [None, Some(FailMode::Continue)] {
        let (disk, spa) = pool(mode);
        write(&spa);
        break_writes(&disk, 0);
        assert_eq!(spa.sync(), Err(Error::Suspended));
        assert_eq!(spa.sync(), Err(Error::Suspended));
        disk.set_hook(None);
        spa.clear(None).unwrap();
        while spa.properties().unwrap().is_suspended {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_whole(&spa);
    }
}

#[test]
fn a_scan_goes_on_when_the_pool_does() {
    let (disk, spa) = pool(Some(FailMode::Continue));
    write(&spa);
    for _ in 0..20 {
        // Slow enough to be still under way when writes fail.
        disk.set_hook(Some(Arc::new(|op: &Op| {
            if matches!(op, Op::Read { .. }) {
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        })));
        // What the device missed may be looked after first.
        assert!(soon(|| spa.scrub().is_ok()), "{:?}", spa.scan_status());
        break_writes(&disk, 0);
        write(&spa);
        assert_eq!(spa.sync(), Err(Error::Suspended));
        assert!(spa.scan_status().is_running());
        disk.set_hook(None);
        spa.clear(None).unwrap();
        assert!(soon(|| !spa.scan_status().is_running()), "{:?}", spa.scan_status());
    }
    assert_whole(&spa);
}

#[test]
fn a_flush_that_failed_cannot_be_made_good() {
    let (disk, spa) = pool(Some(FailMode::Continue));
    write(&spa);
    disk.set_hook(Some(Arc::new(|op: &Op| matches!(op, Op::Flush).then_some(DiskError::Io))));
    assert_eq!(spa.sync(), Err(Error::Suspended));
    disk.set_hook(None);
    assert_eq!(spa.clear(None), Err(Error::Suspended));
    assert_eq!(spa.sync(), Err(Error::Suspended));
    spa.abandon();
}

#[test]
fn a_suspended_pool_can_be_closed() {
    let (disk, spa) = pool(Some(FailMode::Wait));
    write(&spa);
    break_writes(&disk, 0);
    spa.txgs().kick(spa.txgs().open_txg());
    wait_suspended(&spa);
    assert_eq!(spa.export(), Err(Error::Suspended));
}

#[test]
fn a_pool_that_is_to_panic_ends_its_sync_thread() {
    let (disk, spa) = pool(Some(FailMode::Panic));
    write(&spa);
    break_writes(&disk, 0);
    // On a host the thread ends; in the guest the machine does.
    assert_eq!(spa.sync(), Err(Error::Suspended));
    assert_eq!(spa.clear(None), Err(Error::Suspended));
    assert_eq!(spa.export(), Err(Error::Suspended));
}

#[test]
fn a_patient_pool_that_is_closed_answers_its_users() {
    let (disk, spa) = pool(Some(FailMode::Wait));
    write(&spa);
    break_writes(&disk, 0);
    let user = {
        let spa = spa.clone();
        std::thread::spawn(move || spa.txgs().sync_all())
    };
    wait_suspended(&spa);
    spa.abandon();
    assert_eq!(user.join().unwrap(), Err(Error::Suspended));
}

/// Runs `job` on a thread of its own: a hang is a failure, not a test that never ends.
fn in_time<R: Send + 'static>(job: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(job()));
    receiver.recv_timeout(Duration::from_secs(120)).expect("it hangs")
}

#[test]
fn a_pool_that_is_suspended_while_a_scan_looks_at_it_can_be_exported() {
    let (disk, spa) = pool(Some(FailMode::Continue));
    (0..20).for_each(|_| write(&spa));
    spa.sync().unwrap();
    // A scan that takes long, step by step, and a group whose writes take long and fail: a step waits for the group.
    disk.set_hook(Some(Arc::new(|op: &Op| {
        if matches!(op, Op::Read { .. }) {
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    })));
    spa.scrub().unwrap();
    write(&spa);
    let (group, is_written) = std::sync::mpsc::channel();
    disk.set_hook(Some(Arc::new(move |op: &Op| {
        if !matches!(op, Op::Write { .. }) {
            return None;
        }
        let _ = group.send(());
        std::thread::sleep(Duration::from_millis(100));
        Some(DiskError::Io)
    })));
    let writer = {
        let spa = spa.clone();
        std::thread::spawn(move || spa.sync())
    };
    is_written.recv().unwrap();
    assert_eq!(in_time(move || spa.export()), Err(Error::Suspended));
    assert_eq!(in_time(move || writer.join().unwrap()), Err(Error::Suspended));
}
