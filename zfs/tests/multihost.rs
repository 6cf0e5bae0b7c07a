//! Two hosts and one pool: the second must not open what the first has open.
use blockdev::{BlockDevice, Error as DiskError, Op};
use blockdev_host::MemDisk;
use rt_std as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zfs::dmu::{DmuTx, Objset};
use zfs::spa::{ImportOptions, Multihost, PoolNumber, PoolSpec, Spa, VdevSpec};
use zfs::{Error, Result};

/// Quick enough for a test.
const QUICK: Multihost = Multihost { interval: Duration::from_millis(100), fail_intervals: 3 };

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> Result<()> {
    Ok(())
}

fn import(disk: &Arc<MemDisk>, hostid: u64, force: bool) -> Result<Arc<Spa>> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    Spa::import(&[device], &ImportOptions { hostid, force, multihost: QUICK, ..ImportOptions::default() })
}

fn pool() -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut nothing).unwrap().export().unwrap();
    disk
}

#[test]
fn a_pool_that_is_open_elsewhere_is_not_opened() {
    let disk = pool();
    let first = import(&disk, 1, false).unwrap();
    first.set_pool_number(PoolNumber::MultiHost, 1).unwrap();
    first.sync().unwrap();
    assert_eq!(import(&disk, 2, false).map(drop), Err(Error::Busy), "another host id");
    assert_eq!(import(&disk, 0, true).map(drop), Err(Error::Busy), "no host id");
    let began = Instant::now();
    assert_eq!(import(&disk, 2, true).map(drop), Err(Error::Busy), "signs of life");
    assert!(began.elapsed() < Duration::from_secs(3));
    // The first host dies: after its time is up, the pool may be taken over by force.
    first.abandon();
    assert_eq!(import(&disk, 2, false).map(drop), Err(Error::Busy));
    let began = Instant::now();
    let second = import(&disk, 2, true).unwrap();
    assert!(began.elapsed() >= QUICK.interval * 3 * 2);
    assert!(second.verify(&mut |_| {}).unwrap().is_clean());
    second.export().unwrap();
    // Exported: nobody has to wait.
    let began = Instant::now();
    let third = import(&disk, 3, false).unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
    third.set_pool_number(PoolNumber::MultiHost, 0).unwrap();
    third.abandon();
    let fourth = import(&disk, 4, true).unwrap();
    fourth.export().unwrap();
}

#[test]
fn a_host_that_cannot_show_itself_stops_writing() {
    let disk = pool();
    let spa = import(&disk, 1, false).unwrap();
    spa.set_pool_number(PoolNumber::MultiHost, 1).unwrap();
    // The last slot of each label's ring of 4 KiB slots.
    disk.set_hook(Some(Arc::new(|op: &Op| {
        let is_sign = |offset: u64| offset % (256 << 10) == (252 << 10);
        matches!(op, Op::Write { offset, .. } if is_sign(*offset)).then_some(DiskError::Io)
    })));
    while !spa.properties().unwrap().is_suspended {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(spa.sync(), Err(Error::Suspended));
    spa.abandon();
}

#[test]
fn protection_needs_a_host_id() {
    let disk = pool();
    let spa = import(&disk, 0, false).unwrap();
    assert_eq!(spa.set_pool_number(PoolNumber::MultiHost, 1), Err(Error::Invalid));
    assert_eq!(spa.set_pool_number(PoolNumber::MultiHost, 2), Err(Error::Invalid));
    spa.export().unwrap();
}
