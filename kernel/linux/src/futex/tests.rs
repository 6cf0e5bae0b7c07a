//! Futexes with real threads.
use super::*;
use rt_std as _;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

const KEY: Key = Key { owner: 1, at: 0x1000, is_shared: false };
const OTHER: Key = Key { owner: 1, at: 0x2000, is_shared: false };

fn table() -> Arc<FutexTable> {
    Arc::new(FutexTable::new())
}

fn sleeper(table: &Arc<FutexTable>, key: Key, bits: u32, woken: &Arc<AtomicUsize>) -> rt::thread::JoinHandle {
    let (table, woken) = (table.clone(), woken.clone());
    rt::thread::spawn("sleeper", move || {
        let waiter = Waiter::of_current();
        table.wait(key, bits, &waiter, Instant::NEVER, &|| false, || Ok(true)).unwrap();
        woken.fetch_add(1, Ordering::SeqCst);
    })
}

fn sleeping(table: &FutexTable, key: Key) -> usize {
    table.0[key.bucket()].lock().iter().filter(|s| s.key == key).count()
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn a_word_that_changed_is_not_waited_for() {
    let waiter = Waiter::of_current();
    let result = table().wait(KEY, 1, &waiter, Instant::NEVER, &|| false, || Ok(false));
    assert_eq!(result, Err(Errno::EAGAIN));
}

#[test]
fn waits_end_at_their_deadline_and_by_signals() {
    let (table, waiter) = (table(), Waiter::of_current());
    let soon = rt::time::now().after(Duration::from_millis(5));
    assert_eq!(table.wait(KEY, 1, &waiter, soon, &|| false, || Ok(true)), Err(Errno::ETIMEDOUT));
    assert_eq!(table.wait(KEY, 1, &waiter, Instant::NEVER, &|| true, || Ok(true)), Err(Errno::RESTARTSYS));
    assert_eq!(sleeping(&table, KEY), 0);
}

#[test]
fn wake_counts_and_bit_sets() {
    let (table, woken) = (table(), Arc::new(AtomicUsize::new(0)));
    let all: Vec<_> = (0..3).map(|i| sleeper(&table, KEY, 1 << i, &woken)).collect();
    until(|| sleeping(&table, KEY) == 3);
    assert_eq!(table.wake(OTHER, 9, MATCH_ANY), 0);
    assert_eq!(table.wake(KEY, 9, 1 << 1), 1);
    until(|| woken.load(Ordering::SeqCst) == 1);
    assert_eq!(table.wake(KEY, 1, MATCH_ANY), 1);
    assert_eq!(table.wake(KEY, 9, MATCH_ANY), 1);
    all.into_iter().for_each(rt::thread::JoinHandle::join);
}

#[test]
fn requeue_moves_waiters_to_another_word() {
    let (table, woken) = (table(), Arc::new(AtomicUsize::new(0)));
    let all: Vec<_> = (0..4).map(|_| sleeper(&table, KEY, MATCH_ANY, &woken)).collect();
    until(|| sleeping(&table, KEY) == 4);
    assert_eq!(table.requeue(KEY, OTHER, 1, 2, || Ok(false)), Err(Errno::EAGAIN));
    assert_eq!(table.requeue(KEY, OTHER, 1, 2, || Ok(true)), Ok((1, 2)));
    assert_eq!((sleeping(&table, KEY), sleeping(&table, OTHER)), (1, 2));
    assert_eq!(table.wake(OTHER, 9, MATCH_ANY), 2);
    assert_eq!(table.wake(KEY, 9, MATCH_ANY), 1);
    all.into_iter().for_each(rt::thread::JoinHandle::join);
}

#[test]
fn a_mutex_of_futexes_excludes() {
    struct Lock(FutexTable, AtomicU32, AtomicUsize);
    let lock = Arc::new(Lock(FutexTable::new(), AtomicU32::new(0), AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            rt::thread::spawn("worker", move || {
                let waiter = Waiter::of_current();
                for _ in 0..500 {
                    while lock.1.swap(2, Ordering::SeqCst) != 0 {
                        let is_held = || Ok(lock.1.load(Ordering::SeqCst) == 2);
                        let _ = lock.0.wait(KEY, MATCH_ANY, &waiter, Instant::NEVER, &|| false, is_held);
                    }
                    let seen = lock.2.load(Ordering::Relaxed);
                    std::thread::yield_now();
                    lock.2.store(seen + 1, Ordering::Relaxed);
                    lock.1.store(0, Ordering::SeqCst);
                    lock.0.wake(KEY, 1, MATCH_ANY);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(rt::thread::JoinHandle::join);
    assert_eq!(lock.2.load(Ordering::SeqCst), 2000);
}
