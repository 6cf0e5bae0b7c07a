use super::*;
use proptest::prelude::*;
use rt_std as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::vec::Vec;

#[test]
fn disjoint_writers_and_overlapping_readers_do_not_wait() {
    let lock = RangeLock::new();
    let _a = lock.write(0..10);
    let _b = lock.write(10..20);
    let _c = lock.read(20..40);
    let _d = lock.read(30..50);
    assert!(lock.try_write(50..60).is_some());
    assert!(lock.try_write(49..60).is_none());
    assert!(lock.try_write(5..6).is_none());
}

#[test]
fn empty_ranges_lock_nothing() {
    let lock = RangeLock::new();
    let _all = lock.write(0..u64::MAX);
    let _none = lock.write(7..7);
}

#[test]
fn shrinking_lets_waiters_in() {
    let lock = Arc::new(RangeLock::new());
    let mut append = lock.write(100..u64::MAX);
    let other = lock.clone();
    let thread = std::thread::spawn(move || drop(other.write(200..300)));
    append.shrink(100..200);
    thread.join().unwrap();
    assert!(lock.try_write(150..151).is_none());
}

#[test]
fn a_waiting_writer_is_not_overtaken_by_readers() {
    let lock = Arc::new(RangeLock::new());
    let reader = lock.read(0..100);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (l, o) = (lock.clone(), order.clone());
    let writer = std::thread::spawn(move || {
        let _g = l.write(50..60);
        o.lock().unwrap().push("writer");
    });
    while lock.state.lock().waiting.is_empty() {
        std::thread::yield_now();
    }
    let (l, o) = (lock.clone(), order.clone());
    let late = std::thread::spawn(move || {
        let _g = l.read(55..70);
        o.lock().unwrap().push("reader");
    });
    while lock.state.lock().waiting.len() < 2 {
        std::thread::yield_now();
    }
    // A reader that conflicts with no waiter passes.
    drop(lock.read(0..50));
    drop(reader);
    writer.join().unwrap();
    late.join().unwrap();
    assert_eq!(*order.lock().unwrap(), ["writer", "reader"]);
}

#[test]
fn threads_never_share_a_written_cell() {
    const CELLS: usize = 64;
    let lock = Arc::new(RangeLock::new());
    // Positive: readers inside; -1: a writer inside.
    let cells: Arc<Vec<AtomicI64>> = Arc::new((0..CELLS).map(|_| AtomicI64::new(0)).collect());
    let total = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4u64)
        .map(|t| {
            let (lock, cells, total) = (lock.clone(), cells.clone(), total.clone());
            std::thread::spawn(move || {
                let mut seed = t.wrapping_mul(0x9e37_79b9) + 1;
                let mut next = move || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed
                };
                for _ in 0..5_000 {
                    let start = next() % CELLS as u64;
                    let end = (start + 1 + next() % 16).min(CELLS as u64);
                    let range = start as usize..end as usize;
                    if next() % 3 == 0 {
                        let _g = lock.write(start..end);
                        for c in &cells[range.clone()] {
                            assert_eq!(c.swap(-1, Ordering::SeqCst), 0);
                        }
                        cells[range].iter().for_each(|c| c.store(0, Ordering::SeqCst));
                    } else {
                        let _g = lock.read(start..end);
                        for c in &cells[range.clone()] {
                            assert!(c.fetch_add(1, Ordering::SeqCst) >= 0);
                        }
                        for c in &cells[range] {
                            c.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    total.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(total.load(Ordering::Relaxed), 20_000);
    let state = lock.state.lock();
    assert!(state.held.is_empty() && state.waiting.is_empty());
}

proptest! {
    /// A request is granted at once exactly when it conflicts with nothing held.
    #[test]
    fn grants_match_the_definition(ops in prop::collection::vec((0u64..40, 1u64..12, any::<bool>(), any::<bool>()), 1..60)) {
        let lock = RangeLock::new();
        let mut held: Vec<(u64, u64, bool, RangeGuard<'_>)> = Vec::new();
        for (start, len, is_exclusive, is_release) in ops {
            if is_release && !held.is_empty() {
                drop(held.remove((start as usize) % held.len()));
                continue;
            }
            let end = start + len;
            let is_free = !held.iter().any(|(s, e, x, _)| *s < end && start < *e && (*x || is_exclusive));
            if is_exclusive {
                let got = lock.try_write(start..end);
                prop_assert_eq!(got.is_some(), is_free);
                if let Some(g) = got { held.push((start, end, true, g)); }
            } else if is_free {
                held.push((start, end, false, lock.read(start..end)));
            }
        }
    }
}
