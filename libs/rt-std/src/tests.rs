use rt::{Condvar, Event, Mutex, Once, RwLock, Semaphore, Taskq};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn mutex_excludes_under_contention() {
    let total = Arc::new(Mutex::<u64>::new(0));
    let add = |_| {
        let total = total.clone();
        rt::spawn("adder", move || (0..20_000).for_each(|_| *total.lock() += 1))
    };
    let threads: Vec<_> = (0..8).map(add).collect();
    threads.into_iter().for_each(rt::JoinHandle::join);
    assert_eq!(*total.lock(), 160_000);
}

#[test]
fn rwlock_readers_never_see_half_a_write() {
    let pair = Arc::new(RwLock::<(u64, u64)>::new((0, 0)));
    let mut threads = Vec::new();
    for _ in 0..4 {
        let pair = pair.clone();
        threads.push(rt::spawn("writer", move || {
            for _ in 0..2_000 {
                let mut p = pair.write();
                p.0 += 1;
                p.1 += 1;
            }
        }));
    }
    for _ in 0..4 {
        let pair = pair.clone();
        threads.push(rt::spawn("reader", move || {
            for _ in 0..2_000 {
                let p = pair.read();
                assert_eq!(p.0, p.1);
            }
        }));
    }
    threads.into_iter().for_each(rt::JoinHandle::join);
    assert_eq!(*pair.read(), (8_000, 8_000));
}

#[test]
fn condvar_hands_every_item_over() {
    let queue = Arc::new((Mutex::<Vec<u32>>::new(Vec::new()), Condvar::new()));
    let theirs = queue.clone();
    let producer = rt::spawn("producer", move || {
        for i in 0..5_000 {
            theirs.0.lock().push(i);
            theirs.1.notify_one();
        }
    });
    let mut got = 0;
    while got < 5_000 {
        let mut items = queue.0.lock();
        while items.is_empty() {
            items = queue.1.wait(items);
        }
        got += items.drain(..).count();
    }
    producer.join();
}

#[test]
fn timeouts_end() {
    let event = Event::new();
    let deadline = rt::now().after(Duration::from_millis(20));
    assert!(!event.wait_until(deadline));
    assert!(rt::now() >= deadline);
    event.set();
    assert!(event.wait_until(rt::Instant::NEVER));
}

#[test]
fn semaphore_bounds_concurrency() {
    let permits = Arc::new(Semaphore::new(3));
    let inside = Arc::new(AtomicUsize::new(0));
    let enter = |_| {
        let (permits, inside) = (permits.clone(), inside.clone());
        rt::spawn("worker", move || {
            for _ in 0..500 {
                permits.acquire();
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                inside.fetch_sub(1, Ordering::SeqCst);
                permits.release();
            }
        })
    };
    let threads: Vec<_> = (0..8).map(enter).collect();
    threads.into_iter().for_each(rt::JoinHandle::join);
}

#[test]
fn taskq_runs_everything_before_it_drops() {
    let ran = Arc::new(AtomicUsize::new(0));
    {
        let taskq = Taskq::new("test", 4, 8);
        for _ in 0..1_000 {
            let ran = ran.clone();
            taskq.dispatch(move || {
                ran.fetch_add(1, Ordering::SeqCst);
            });
        }
        taskq.wait_idle();
        assert_eq!(ran.load(Ordering::SeqCst), 1_000);
    }
}

#[test]
fn once_makes_one() {
    let once = Arc::new(Once::<usize>::new());
    assert!(once.get_or_try_init(|| Err::<usize, ()>(())).is_err());
    assert_eq!(*once.get_or_init(|| 7), 7);
    assert_eq!(*once.get_or_init(|| 8), 7);
}

#[test]
#[cfg(debug_assertions)]
fn rank_violation_panics() {
    let low = Mutex::<(), 10>::new(());
    let high = Mutex::<(), 20>::new(());
    {
        let _l = low.lock();
        let _h = high.lock();
    }
    let inverted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _h = high.lock();
        let _l = low.lock();
    }));
    assert!(inverted.is_err());
}
