//! Writes that are durable when answered, against a model that counts which were done with its cache off.
extern crate std;

use crate::config::Features;
use crate::model::{Misdeed, Traits};
use crate::tests::{Bench, all_features, pattern, traits};
use blockdev::{BlockDevice, Error, IoWait, Op, Request, WriteCache};
use core::sync::atomic::Ordering;

fn write(bench: &Bench, is_fua: bool) -> Result<(), Error> {
    bench.run(Op::Write { offset: 4096, data: pattern(512, 1), is_fua }).map(drop)
}

/// Writes done with the cache off, and with it on.
fn counts(bench: &Bench) -> (usize, usize) {
    let get = |n: &std::sync::atomic::AtomicUsize| n.load(Ordering::SeqCst);
    (get(&bench.model.nr_through), get(&bench.model.nr_back))
}

#[test]
fn only_durable_writes_go_through_the_cache() {
    let bench = Bench::new(traits());
    assert!(bench.disk.geometry().has_fua && bench.disk.geometry().write_cache == WriteCache::Volatile);
    for (nr, is_fua) in [false, true, true, false, false, true, false].into_iter().enumerate() {
        let (through, back) = counts(&bench);
        write(&bench, is_fua).expect("write");
        let expected = if is_fua { (through + 1, back) } else { (through, back + 1) };
        assert_eq!(counts(&bench), expected, "write {nr}");
    }
    bench.end();
}

#[test]
fn the_cache_stays_off_while_a_durable_write_is_in_flight() {
    let bench = Bench::new(traits());
    bench.model.pause(true);
    let wait = IoWait::new();
    for (queue, is_fua) in [(0, false), (1, true), (0, false), (1, false), (0, true)] {
        let op = Op::Write { offset: 4096, data: pattern(512, 1), is_fua };
        bench.disk.submit_blocking(queue, Request { op, done: wait.completion(0) });
    }
    assert_eq!(bench.model.writeback.load(Ordering::SeqCst), 0);
    bench.model.pause(false);
    assert!(wait.wait().iter().all(|done| done.result.is_ok()));
    assert_eq!(counts(&bench), (5, 0));
    write(&bench, false).expect("write");
    assert_eq!(counts(&bench), (5, 1));
    bench.end();
}

#[test]
fn after_a_reset_the_cache_is_on_until_a_durable_write() {
    let bench = Bench::new(traits());
    write(&bench, true).expect("write");
    bench.model.misbehave(&[Misdeed::IndexJump]);
    assert_eq!(write(&bench, true), Err(Error::Io));
    write(&bench, false).expect("write");
    write(&bench, true).expect("write");
    // The one that failed had reached the medium.
    assert_eq!(counts(&bench), (3, 1));
    bench.end();
}

#[test]
fn a_cache_that_stays_on_makes_nothing_durable() {
    let bench = Bench::new(traits());
    bench.model.is_stubborn.store(true, Ordering::SeqCst);
    assert_eq!(write(&bench, true), Err(Error::Io));
    write(&bench, false).expect("write");
    assert_eq!(counts(&bench), (0, 1));
    bench.end();
}

#[test]
fn devices_without_a_switch_have_no_durable_writes() {
    let without = |feature: Features| Traits { features: all_features() & !feature.bits(), ..traits() };
    let legacy = Traits { is_legacy: true, queue_size: 128, ..traits() };
    let through = {
        let mut t = traits();
        t.config[32] = 0;
        t
    };
    for t in [without(Features::CONFIG_WCE), without(Features::FLUSH), legacy, through] {
        let bench = Bench::new(t);
        assert!(!bench.disk.geometry().has_fua);
        bench.end();
    }
}
