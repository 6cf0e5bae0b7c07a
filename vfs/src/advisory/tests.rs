use super::*;
use proptest::prelude::*;
use rt_std as _;
use std::vec::Vec;

const KEY: FileKey = FileKey { device: DeviceId { major: 0, minor: 1 }, ino: 7 };

fn lock(process: u64, start: u64, last: u64, kind: LockKind) -> RecordLock {
    RecordLock { start, last, owner: LockOwner::Process(process), kind }
}

#[test]
fn readers_share_and_writers_exclude() {
    let table = LockTable::new();
    table.set_record(KEY, lock(1, 0, 9, LockKind::Shared), Wait::No).unwrap();
    table.set_record(KEY, lock(2, 5, 20, LockKind::Shared), Wait::No).unwrap();
    let refused = table.set_record(KEY, lock(1, 5, 5, LockKind::Exclusive), Wait::No);
    assert_eq!(refused, Err(Error::WouldBlock));
    let found = table.test_record(KEY, &lock(3, 10, 10, LockKind::Exclusive)).unwrap();
    assert_eq!(found.owner, LockOwner::Process(2));
    table.unlock_records(KEY, LockOwner::Process(2), 0, u64::MAX);
    table.set_record(KEY, lock(1, 5, 5, LockKind::Exclusive), Wait::No).unwrap();
    table.unlock_records(KEY, LockOwner::Process(1), 0, u64::MAX);
    assert_eq!(table.nr_files.load(Ordering::Relaxed), 0);
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_released() {
    let table = LockTable::new();
    table.set_record(KEY, lock(1, 0, 9, LockKind::Exclusive), Wait::No).unwrap();
    let other = table.clone();
    let thread = std::thread::spawn(move || {
        other.set_record(KEY, lock(2, 0, 9, LockKind::Exclusive), Wait::Until(&|| false))
    });
    while table.state.lock().waits.is_empty() {
        std::thread::yield_now();
    }
    table.unlock_records(KEY, LockOwner::Process(1), 0, 9);
    assert_eq!(thread.join().unwrap(), Ok(()));
}

#[test]
fn a_circle_of_waiters_is_refused() {
    let table = LockTable::new();
    table.set_record(KEY, lock(1, 0, 0, LockKind::Exclusive), Wait::No).unwrap();
    table.set_record(KEY, lock(2, 1, 1, LockKind::Exclusive), Wait::No).unwrap();
    let other = table.clone();
    let thread = std::thread::spawn(move || {
        other.set_record(KEY, lock(1, 1, 1, LockKind::Exclusive), Wait::Until(&|| false))
    });
    while table.state.lock().waits.is_empty() {
        std::thread::yield_now();
    }
    let refused = table.set_record(KEY, lock(2, 0, 0, LockKind::Exclusive), Wait::Until(&|| false));
    assert_eq!(refused, Err(Error::Deadlock));
    table.unlock_records(KEY, LockOwner::Process(2), 0, u64::MAX);
    assert_eq!(thread.join().unwrap(), Ok(()));
}

#[test]
fn a_signal_ends_a_wait() {
    let table = LockTable::new();
    table.set_record(KEY, lock(1, 0, 0, LockKind::Exclusive), Wait::No).unwrap();
    let refused = table.set_record(KEY, lock(2, 0, 0, LockKind::Shared), Wait::Until(&|| true));
    assert_eq!(refused, Err(Error::Interrupted));
    assert!(table.state.lock().files[&KEY].waiters.is_empty());
}

proptest! {
    /// Against a byte map.
    #[test]
    fn record_lists_match_a_byte_map(ops in prop::collection::vec((0u64..3, 0u64..24, 0u64..8, 0u8..3), 1..60)) {
        let mut map: Vec<Vec<Option<LockKind>>> = vec![vec![None; 40]; 3];
        let table = LockTable::new();
        for (owner, start, len, what) in ops {
            let last = start + len;
            let kind = match what {
                0 => None,
                1 => Some(LockKind::Shared),
                _ => Some(LockKind::Exclusive),
            };
            let Some(kind) = kind else {
                table.unlock_records(KEY, LockOwner::Process(owner), start, last);
                map[owner as usize][start as usize..=last as usize].fill(None);
                continue;
            };
            let is_free = (0..3).filter(|o| *o != owner as usize).all(|o| {
                map[o][start as usize..=last as usize].iter().flatten()
                    .all(|k| *k == LockKind::Shared && kind == LockKind::Shared)
            });
            let got = table.set_record(KEY, lock(owner, start, last, kind), Wait::No);
            prop_assert_eq!(got.is_ok(), is_free);
            if is_free {
                map[owner as usize][start as usize..=last as usize].fill(Some(kind));
            }
        }
        for (owner, bytes) in map.iter().enumerate() {
            for (at, kind) in bytes.iter().enumerate() {
                let probe = RecordLock {
                    start: at as u64, last: at as u64, owner: LockOwner::Process(99), kind: LockKind::Exclusive,
                };
                let state = table.state.lock();
                let found = state.files.get(&KEY).and_then(|l| l.records.iter().find(|r| {
                    r.owner == LockOwner::Process(owner as u64) && r.start <= probe.start && probe.last <= r.last
                }).map(|r| r.kind));
                prop_assert_eq!(found, *kind);
            }
        }
    }
}
