use crate::{Config, Failure, run, stats};
use rt::{Condvar, Event, Mutex, RwLock, Semaphore, SpinLock, Taskq};
use std::sync::Arc;
use std::time::Duration;

fn config(seed: u64) -> Config {
    Config { seed, preempt: 8192, ..Config::default() }
}

/// The order in which four threads, racing for a lock, came by it.
fn race(seed: u64) -> Vec<usize> {
    run(config(seed), || {
        let order = Arc::new(Mutex::<Vec<usize>>::new(Vec::new()));
        let racer = |n: usize| {
            let order = order.clone();
            rt::spawn("racer", move || (0..10).for_each(|_| order.lock().push(n)))
        };
        let racers: Vec<_> = (0..4).map(racer).collect();
        racers.into_iter().for_each(rt::JoinHandle::join);
        order.lock().clone()
    })
    .expect("ends")
}

#[test]
fn the_seed_decides_the_order() {
    assert_eq!(race(1), race(1));
    let orders: std::collections::BTreeSet<_> = (0..20).map(race).collect();
    assert!(orders.len() > 10, "{}", orders.len());
}

#[test]
fn time_is_virtual() {
    let start = std::time::Instant::now();
    let slept = run(config(2), || {
        let before = rt::now();
        rt::sleep(Duration::from_secs(3600));
        rt::now().since(before)
    })
    .expect("ends");
    assert!(slept >= Duration::from_secs(3600) && slept < Duration::from_secs(3601));
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn timeouts_fire_in_order_also_while_others_run() {
    run(config(3), || {
        let event = Arc::new(Event::new());
        let order = Arc::new(Mutex::<Vec<u64>>::new(Vec::new()));
        let sleeper = |n: u64| {
            let (event, order) = (event.clone(), order.clone());
            rt::spawn("sleeper", move || {
                assert!(!event.wait_until(rt::now().after(Duration::from_millis(n))));
                order.lock().push(n);
            })
        };
        let sleepers: Vec<_> = [30, 10, 20].map(sleeper).into();
        // Someone who never sleeps does not keep the timers from firing.
        while order.lock().len() < 3 {
            rt::yield_now();
        }
        sleepers.into_iter().for_each(rt::JoinHandle::join);
        assert_eq!(*order.lock(), [10, 20, 30]);
    })
    .expect("ends");
}

#[test]
fn a_deadlock_names_everyone_and_what_they_wait_for() {
    let failure = run(config(4), || {
        let permits = Arc::new(Semaphore::new(0));
        let theirs = permits.clone();
        let stuck = rt::spawn("stuck", move || theirs.acquire());
        stuck.join();
    })
    .expect_err("nobody releases");
    let Failure::Deadlock(report) = failure else { panic!("{failure:?}") };
    assert!(report.contains("(main): waits for event"), "{report}");
    assert!(report.contains("(stuck): waits for semaphore"), "{report}");
}

#[test]
fn an_endless_wait_with_timeouts_is_a_run_away() {
    let limited = Config { time_limit: Duration::from_secs(60), ..config(5) };
    let failure = run(limited, || {
        let event = Event::new();
        while !event.wait_until(rt::now().after(Duration::from_millis(20))) {}
    });
    assert!(matches!(failure, Err(Failure::TimeLimit(_))));
}

#[test]
fn every_primitive_works_under_pre_emption() {
    for seed in 0..50 {
        run(config(seed), || {
            let total = Arc::new((RwLock::<u64>::new(0), SpinLock::new(0_u64)));
            let (lock, changed) = &*Box::leak(Box::new((Mutex::<u32>::new(0), Condvar::new())));
            {
                let tasks = Taskq::new("adders", 3, 4);
                for _ in 0..100 {
                    let total = total.clone();
                    tasks.dispatch(move || {
                        *total.0.write() += 1;
                        *total.1.lock() += 1;
                        *lock.lock() += 1;
                        changed.notify_one();
                    });
                }
                let mut seen = lock.lock();
                while *seen < 100 {
                    seen = changed.wait(seen);
                }
            }
            assert_eq!((*total.0.read(), *total.1.lock()), (100, 100));
        })
        .expect("ends");
    }
}

#[test]
fn two_runs_of_one_seed_end_in_the_same_state() {
    let once = |seed| {
        run(config(seed), || {
            let tasks = Taskq::new("sleepers", 4, 4);
            for n in 0..50 {
                tasks.dispatch(move || rt::sleep(Duration::from_micros(n * 7 % 13)));
            }
            tasks.wait_idle();
            drop(tasks);
            stats()
        })
        .expect("ends")
    };
    assert_eq!(once(7), once(7));
    assert_ne!(once(7), once(8));
}

#[test]
fn switches_are_counted() {
    let stats = run(config(9), || {
        let theirs = rt::spawn("other", || (0..1000).for_each(|_| rt::yield_now()));
        (0..1000).for_each(|_| rt::yield_now());
        theirs.join();
        stats()
    })
    .expect("ends");
    assert!(stats.switches >= 2000 && stats.spawned == 2);
}
