use crate::{CrashMode, DiskConfig, Fault, FaultRates, Image, Moment, Random, SimDisk};
use abd::{Abd, AbdMut};
use blockdev::{BlockDevice, Error, IoWait, Op, Request, WriteCache};
use rt_sim::{Config, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn simulate(body: impl FnOnce() + 'static) {
    run(Config::default(), body).expect("ends");
}

fn read(image: &Image, offset: u64) -> u8 {
    let mut byte = [0];
    image.read(offset, &mut byte);
    byte[0]
}

fn after(disk: &SimDisk, mode: CrashMode, seed: u64) -> Image {
    disk.state().crash(mode, &mut Random::new(seed))
}

fn write_all(disk: &SimDisk, writes: &[(u64, u8)]) -> Vec<u64> {
    let wait = IoWait::new();
    for (tag, (offset, byte)) in writes.iter().enumerate() {
        let op = Op::Write { offset: *offset, data: Abd::copy_from(&[*byte; 4096]), is_fua: false };
        disk.submit_blocking(0, Request { op, done: wait.completion(tag as u64) });
    }
    wait.wait().into_iter().map(|done| done.tag).collect()
}

#[test]
fn images_share_until_they_differ() {
    let mut a = Image::new(8 * MIB);
    a.write(5000, &[7; 10_000]);
    let b = a.clone();
    a.write(5000, &[8; 1]);
    assert_eq!((read(&a, 5000), read(&b, 5000), read(&b, 5001), read(&b, 4999)), (8, 7, 7, 0));
    assert_ne!(a.digest(), b.digest());
    a.write(5000, &[7]);
    assert_eq!(a.digest(), b.digest());
    a.write(4096, &[0; 12_288]);
    assert_eq!(a.allocated(), 0);
}

#[test]
fn a_completed_write_is_read_and_lost_until_it_is_flushed() {
    simulate(|| {
        let disk = SimDisk::new(DiskConfig::instant(MIB));
        disk.write(0, Abd::copy_from(&[1; 512])).expect("write");
        assert_eq!(disk.read(0, 512).expect("read").freeze().to_vec(), vec![1; 512]);
        assert_eq!(read(&after(&disk, CrashMode::DropAll, 0), 0), 0);
        assert_eq!(read(&after(&disk, CrashMode::KeepAll, 0), 0), 1);
        disk.flush().expect("flush");
        disk.write(0, Abd::copy_from(&[2; 512])).expect("write");
        assert_eq!(read(&after(&disk, CrashMode::DropAll, 0), 0), 1);
    });
}

#[test]
fn requests_in_flight_complete_in_any_order_but_repeatably() {
    let order = |seed| {
        run(Config { seed: 1, ..Config::default() }, move || {
            let latency = (Duration::from_micros(10), Duration::from_micros(500));
            let disk = SimDisk::new(DiskConfig::timed(MIB, latency.0, latency.1, seed));
            let writes: Vec<(u64, u8)> = (0..32).map(|n| (n * 4096, n as u8)).collect();
            write_all(&disk, &writes)
        })
        .expect("ends")
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert!(!order(3).is_sorted());
}

#[test]
fn what_is_in_flight_may_survive_and_a_flush_covers_only_what_was_completed() {
    simulate(|| {
        let ms = Duration::from_millis;
        let disk = SimDisk::new(DiskConfig::timed(MIB, ms(1), ms(1), 3));
        disk.write(0, Abd::copy_from(&[1; 512])).expect("write");
        let wait = IoWait::new();
        let op = Op::Write { offset: 4096, data: Abd::copy_from(&[2; 512]), is_fua: false };
        disk.submit(0, Request { op, done: wait.completion(0) }).expect("room");
        assert_eq!(read(&after(&disk, CrashMode::KeepAll, 0), 4096), 2);
        disk.flush().expect("flush");
        wait.wait();
        let image = after(&disk, CrashMode::DropAll, 0);
        assert_eq!((read(&image, 0), read(&image, 4096)), (1, 0));
    });
}

#[test]
fn durable_writes_survive_and_are_not_overtaken() {
    simulate(|| {
        let disk = SimDisk::new(DiskConfig { has_fua: true, ..DiskConfig::instant(MIB) });
        disk.write(0, Abd::copy_from(&[1; 8192])).expect("write");
        let wait = IoWait::new();
        let op = Op::Write { offset: 4096, data: Abd::copy_from(&[2; 512]), is_fua: true };
        disk.submit(0, Request { op, done: wait.completion(0) }).expect("room");
        wait.wait();
        for seed in 0..50 {
            let mode = CrashMode::pick(&mut Random::new(seed));
            assert_eq!(read(&after(&disk, mode, seed), 4096), 2);
        }
    });
}

#[test]
fn crashes_tear_between_sectors_only() {
    simulate(|| {
        let disk = SimDisk::new(DiskConfig::instant(MIB));
        write_all(&disk, &[(0, 1), (8192, 2), (0, 3)]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let image = after(&disk, CrashMode::Sectors, seed);
            for sector in 0..8_u64 {
                let first = read(&image, sector * 512);
                assert!([0, 1, 3].contains(&first) && first == read(&image, sector * 512 + 511));
                seen.insert((sector, first));
            }
        }
        assert_eq!(seen.len(), 24, "every sector was seen old, with the first and with the second write");
    });
}

#[test]
fn a_disk_without_cache_keeps_what_it_completed_and_one_that_lies_keeps_nothing() {
    simulate(|| {
        let disk = SimDisk::new(DiskConfig { write_cache: WriteCache::None, ..DiskConfig::instant(MIB) });
        write_all(&disk, &[(0, 1)]);
        assert_eq!(read(&after(&disk, CrashMode::DropAll, 0), 0), 1);
        let disk = SimDisk::new(DiskConfig::instant(MIB));
        disk.set_lying(true);
        write_all(&disk, &[(0, 1)]);
        disk.flush().expect("says it did");
        assert_eq!(read(&after(&disk, CrashMode::DropAll, 0), 0), 0);
    });
}

#[test]
fn faults_come_as_asked_for() {
    simulate(|| {
        let disk = SimDisk::new(DiskConfig::instant(MIB));
        let is_write = |op: &Op| matches!(op, Op::Write { .. });
        disk.set_rule(Some(Arc::new(move |op| is_write(op).then_some(Fault::Misdirect(65536)))));
        write_all(&disk, &[(0, 1)]);
        assert_eq!((read(&disk.current(), 0), read(&disk.current(), 65536)), (0, 1));
        disk.set_rule(Some(Arc::new(move |op| is_write(op).then_some(Fault::Fail(Error::Io)))));
        assert_eq!(disk.write(0, Abd::zeroed(512)), Err(Error::Io));
        disk.set_rule(None);
        disk.set_rates(FaultRates { read_error: 32_768, ..FaultRates::default() });
        let failed = (0..100).filter(|_| disk.read(0, 512).is_err()).count();
        assert!((20..80).contains(&failed));
        disk.set_rates(FaultRates { bad_read: 65_536, ..FaultRates::default() });
        let got: AbdMut = disk.read(65536, 512).expect("read");
        assert_eq!(got.freeze().to_vec().iter().filter(|b| **b != 1).count(), 1);
        disk.set_rates(FaultRates::default());
        disk.spoil(4096..8192);
        assert_eq!(disk.read(0, 8192).map(drop), Err(Error::Io));
        assert!(disk.read(8192, 512).is_ok());
        disk.rot(65536..65537, 1, &mut Random::new(1));
        assert_ne!(read(&disk.current(), 65536), 1);
    });
}

#[test]
fn a_vanished_disk_answers_everything_and_may_come_back() {
    simulate(|| {
        let ms = Duration::from_millis;
        let disk = SimDisk::new(DiskConfig::timed(MIB, ms(1), ms(2), 1));
        write_all(&disk, &[(0, 1)]);
        let wait = IoWait::new();
        let op = Op::Write { offset: 0, data: Abd::copy_from(&[2; 512]), is_fua: false };
        disk.submit(0, Request { op, done: wait.completion(0) }).expect("room");
        disk.vanish();
        assert_eq!(wait.wait().pop().map(|done| done.result), Some(Err(Error::Gone)));
        assert_eq!(disk.flush(), Err(Error::Gone));
        let left = after(&disk, CrashMode::DropAll, 0);
        disk.reappear(Some(left));
        assert_eq!(read(&disk.current(), 0), 0);
        disk.flush().expect("is back");
    });
}

#[test]
fn an_observer_hears_of_every_moment() {
    simulate(|| {
        let disk =
            SimDisk::new(DiskConfig::timed(MIB, Duration::from_micros(5), Duration::from_micros(9), 1));
        let heard = Arc::new(AtomicU64::new(0));
        let counter = heard.clone();
        disk.set_observer(Some(Arc::new(move |moment| {
            let weight = match moment {
                Moment::WriteSubmitted => 1,
                Moment::WriteCompleted => 10,
                Moment::FlushSubmitted => 100,
                Moment::FlushCompleted => 1000,
            };
            counter.fetch_add(weight, Ordering::Relaxed);
        })));
        write_all(&disk, &[(0, 1), (4096, 2)]);
        disk.flush().expect("flush");
        assert_eq!(heard.load(Ordering::Relaxed), 1122);
    });
}
