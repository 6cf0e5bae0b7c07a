//! Commands on datasets that are open and being written all the while.
use crate::pool::{BLOCK, Pool};
use blockdev::BlockDevice;
use ondisk::{DmuType, ObjectId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use zfs::Error;
use zfs::dmu::{DmuTx, NewObject, TxSpace};
use zfs::dsl::Dataset;
use zfs::spa::{ImportOptions, Spa};

/// Changes that a writer makes in each group at most: commands wait for groups.
const CHANGES_MAX: u32 = 50;
/// Rounds of commands.
const ROUNDS: u64 = 12;

/// Writes, makes and frees objects until told to stop; every write says of what it is the newest.
fn write_on(dataset: &Dataset, seed: u64, stop: &AtomicBool) {
    let objset = dataset.objset();
    let mut random = seed;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let mut objects: Vec<ObjectId> = Vec::new();
    let (spa, mut group, mut nr_changes) = (dataset.spa().unwrap(), 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let open = spa.txgs().open_txg().0;
        nr_changes = if group == open { nr_changes + 1 } else { 0 };
        group = open;
        if nr_changes > CHANGES_MAX {
            thread::yield_now();
            continue;
        }
        if objects.len() < 4 || (objects.len() < 40 && next() % 8 == 0) {
            let tx = DmuTx::begin(&objset, TxSpace::names(1, 0)).unwrap();
            let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, BLOCK);
            objects.push(objset.allocate(&tx, &new).unwrap().id());
        } else if next() % 16 == 0 {
            let id = objects.swap_remove(next() as usize % objects.len());
            let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
            objset.free(&tx, id).unwrap();
        } else {
            let object = objset.hold(objects[next() as usize % objects.len()]).unwrap();
            let noise: Vec<u8> = (0..BLOCK / 8).flat_map(|_| next().to_le_bytes()).collect();
            let tx = DmuTx::begin(&objset, TxSpace::write(BLOCK.into())).unwrap();
            object.write_slice(&tx, next() % 64 * u64::from(BLOCK), &noise).unwrap();
        }
    }
}

/// What may stand in the way of a command while others are at work.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Busy | Error::Exists | Error::NotFound | Error::Invalid | Error::NotEmpty)
}

/// One round of commands; `n` makes names.
fn commands(spa: &Arc<Spa>, n: u64) {
    let may_refuse = |result: zfs::Result<()>| {
        if let Err(error) = result {
            assert!(is_refusal(&error), "{error}");
        }
    };
    let (new, old) = (format!("tank/a@{n}"), format!("tank/a@{}", n.saturating_sub(3)));
    spa.snapshot(&[&new, &format!("tank/c@{n}")], false, &[]).unwrap();
    may_refuse(spa.clone_snapshot(&new, &format!("tank/x{n}"), &[]));
    may_refuse(spa.rename_dataset(&format!("tank/x{n}"), &format!("tank/y{n}")));
    may_refuse(spa.rename_snapshot(&new, &format!("r{n}"), false));
    may_refuse(spa.destroy_snapshots(&[&old], true));
    may_refuse(spa.destroy_snapshots(&[&format!("tank/c@{}", n.saturating_sub(1))], false));
    // What is in use stays.
    let refused = [spa.destroy_dataset("tank/c"), spa.rollback(&format!("tank/c@{n}"), false)];
    assert!(refused.iter().all(|r| r.as_ref().is_err_and(is_refusal)), "{refused:?}");
    may_refuse(spa.promote("tank/c"));
    may_refuse(spa.promote("tank/a"));
    may_refuse(spa.destroy_dataset(&format!("tank/y{}", n.saturating_sub(1))));
}

/// Stops the others, also when an assertion failed.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn commands_on_datasets_in_use() {
    let mut pool = Pool::new(512 << 20);
    pool.reopen();
    pool.create("tank/a");
    let first = pool.open("tank/a");
    pool.write_object(&first, 300);
    pool.spa.snapshot(&["tank/a@origin"], false, &[]).unwrap();
    pool.spa.clone_snapshot("tank/a@origin", "tank/c", &[]).unwrap();
    let clone = pool.open("tank/c");
    let (stop, nr_opened) = (AtomicBool::new(false), AtomicU64::new(0));
    let spa = pool.spa.clone();
    thread::scope(|scope| {
        scope.spawn(|| write_on(&first, 1, &stop));
        scope.spawn(|| write_on(&clone, 2, &stop));
        // Someone looks at whatever there is, as mounts and listings do.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for info in spa.datasets().into_iter().flatten() {
                    let found = spa.open_dataset(&info.name);
                    nr_opened.fetch_add(u64::from(found.is_ok()), Ordering::Relaxed);
                }
            }
        });
        let _stop = StopAtEnd(&stop);
        (0..ROUNDS).for_each(|n| commands(&spa, n));
    });
    assert!(nr_opened.load(Ordering::Relaxed) > 0);
    drop((first, clone, spa));
    pool.wait_freed();
    pool.assert_clean();
    pool.spa.abandon();
    let devices = [pool.disk.clone() as Arc<dyn BlockDevice>];
    pool.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    pool.wait_freed();
    pool.assert_clean();
    pool.spa.export().unwrap();
}
