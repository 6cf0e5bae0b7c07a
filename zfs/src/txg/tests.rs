use super::*;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use rt_std as _;

fn config() -> TxgConfig {
    TxgConfig { dirty_max: 1000, timeout: None, is_deterministic: false }
}

/// A sync thread that does nothing but take time to be seen.
fn sync_thread(txgs: &Arc<Txgs>) -> rt::JoinHandle {
    let txgs = txgs.clone();
    rt::spawn("sync", move || {
        while let Some(txg) = txgs.quiesce_next() {
            txgs.synced(txg);
        }
    })
}

#[test]
fn a_held_group_does_not_sync() {
    let txgs = Txgs::new(Txg(4), config());
    let hold = txgs.hold_open();
    let sync = sync_thread(&txgs);
    txgs.kick(Txg(4));
    while txgs.open_txg() == Txg(4) {
        rt::yield_now();
    }
    assert_eq!(txgs.synced_txg(), Txg(3));
    drop(hold);
    assert_eq!(txgs.wait_synced(Txg(4)), Ok(()));
    assert_eq!(txgs.hold_open().txg(), Txg(5));
    txgs.stop();
    sync.join();
}

#[test]
fn the_open_group_is_joined_only_when_the_closed_one_has_drained() {
    // Else a change made late in the closed group could land in a block's newer version only.
    let txgs = Txgs::new(Txg(4), config());
    let old = txgs.hold_open();
    let sync = sync_thread(&txgs);
    txgs.kick(Txg(4));
    while txgs.open_txg() == Txg(4) {
        rt::yield_now();
    }
    let joined = Arc::new(AtomicU64::new(0));
    let joiner = {
        let (txgs, joined) = (txgs.clone(), joined.clone());
        rt::spawn("joiner", move || {
            let hold = txgs.hold_open();
            joined.store(hold.txg().0, Ordering::SeqCst);
        })
    };
    rt::sleep(core::time::Duration::from_millis(20));
    assert_eq!(joined.load(Ordering::SeqCst), 0);
    drop(old);
    joiner.join();
    assert_eq!(joined.load(Ordering::SeqCst), 5);
    txgs.stop();
    sync.join();
}

#[test]
fn holds_from_many_threads_never_outlive_their_group() {
    let txgs = Txgs::new(Txg(4), config());
    let held: Arc<[AtomicU64; TXG_SLOTS]> = Arc::default();
    let sync = {
        let (txgs, held) = (txgs.clone(), held.clone());
        rt::spawn("sync", move || {
            while let Some(txg) = txgs.quiesce_next() {
                assert_eq!(held[txg.slot()].load(Ordering::SeqCst), 0);
                txgs.synced(txg);
            }
        })
    };
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (txgs, held) = (txgs.clone(), held.clone());
            rt::spawn("worker", move || {
                for n in 0..2000 {
                    let hold = txgs.hold_open();
                    held[hold.txg().slot()].fetch_add(1, Ordering::SeqCst);
                    if n % 50 == 0 {
                        txgs.kick(hold.txg());
                    }
                    held[hold.txg().slot()].fetch_sub(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(rt::JoinHandle::join);
    assert_eq!(txgs.sync_all(), Ok(()));
    txgs.stop();
    sync.join();
}

#[test]
fn full_of_dirty_data_waits_for_room() {
    let txgs = Txgs::new(Txg(4), config());
    {
        let hold = txgs.hold_open();
        txgs.add_dirty(hold.txg(), 1000, Dirtied::New);
    }
    let sync = sync_thread(&txgs);
    assert_eq!(txgs.throttle(), Ok(()));
    assert_eq!(txgs.dirty(), 0);
    txgs.stop();
    sync.join();
}

/// New blocks close a group at a fifth of the limit, blocks that are written over only where delays begin.
#[test]
fn rewriting_gathers_more_than_streaming() {
    let closes_after = |what: Dirtied| {
        let txgs = Txgs::new(Txg(4), config());
        while txgs.wanted.load(Ordering::SeqCst) < 4 {
            txgs.add_dirty(Txg(4), 50, what);
        }
        txgs.dirty()
    };
    assert_eq!(closes_after(Dirtied::New), 200);
    assert_eq!(closes_after(Dirtied::Rewritten), 600);
}

#[test]
fn deterministic_groups_close_by_content() {
    let txgs = Txgs::new(Txg(4), TxgConfig { is_deterministic: true, ..config() });
    let sync = sync_thread(&txgs);
    let mut seen = Vec::new();
    for _ in 0..6 {
        txgs.throttle().unwrap();
        let hold = txgs.hold_open();
        txgs.add_dirty(hold.txg(), 100, Dirtied::New);
        seen.push(hold.txg().0);
    }
    assert_eq!(seen, [4, 4, 5, 5, 6, 6]);
    txgs.stop();
    sync.join();
}

#[test]
fn suspension_and_stopping_wake_waiters() {
    let txgs = Txgs::new(Txg(4), config());
    let waiter = {
        let txgs = txgs.clone();
        rt::spawn("waiter", move || assert_eq!(txgs.wait_synced(Txg(4)), Err(Error::Suspended)))
    };
    txgs.suspend(false);
    waiter.join();
    assert_eq!(txgs.throttle(), Err(Error::Suspended));
}
