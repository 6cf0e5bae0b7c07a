//! Clones, promotion, rolling back, destroying.
use crate::pool::{Content, Pool, content};
use blockdev::{BlockDevice, Op};
use blockdev_host::{Crash, MemDisk};
use ondisk::ObjectId;
use std::mem;
use std::sync::{Arc, Mutex};
use zfs::Error;
use zfs::spa::{ImportOptions, Spa};

fn origin_of(pool: &Pool, name: &str) -> Option<String> {
    pool.spa.datasets().unwrap().into_iter().find(|d| d.name == name).unwrap().origin
}

#[test]
fn a_clone_begins_as_its_snapshot_and_goes_its_own_way() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let id = pool.write_object(&ds, 40);
    pool.spa.snapshot(&["tank/a@s"], false, &[]).unwrap();
    let before = content(&ds);
    pool.write_block(&ds, id, 0);
    pool.spa.clone_snapshot("tank/a@s", "tank/c", &[]).unwrap();
    assert_eq!(pool.spa.clone_snapshot("tank/a@s", "tank/c", &[]), Err(Error::Exists));
    let clone = pool.open("tank/c");
    assert_eq!(content(&clone), before);
    (5..20).for_each(|blkid| pool.write_block(&clone, id, blkid));
    pool.write_object(&clone, 7);
    pool.assert_clean();
    assert_eq!(origin_of(&pool, "tank/c").as_deref(), Some("tank/a@s"));
    assert_eq!(pool.spa.destroy_snapshots(&["tank/a@s"], false), Err(Error::Busy));
    pool.spa.destroy_snapshots(&["tank/a@s"], true).unwrap();
    assert!(pool.names().contains(&"tank/a@s".into()));
    let after = content(&clone);
    drop((ds, clone));
    pool.reopen();
    assert_eq!(content(&pool.open("tank/c")), after);
    pool.spa.destroy_dataset("tank/c").unwrap();
    pool.wait_freed();
    assert!(!pool.names().contains(&"tank/a@s".into()), "its destruction had been put off");
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn promotion_moves_shared_snapshots() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let id = pool.write_object(&ds, 60);
    for (name, from) in [("tank/a@1", 0), ("tank/a@2", 10), ("tank/a@3", 20)] {
        (from..from + 15).for_each(|blkid| pool.write_block(&ds, id, blkid));
        pool.spa.snapshot(&[name], false, &[]).unwrap();
    }
    pool.spa.clone_snapshot("tank/a@2", "tank/c", &[]).unwrap();
    pool.spa.clone_snapshot("tank/a@1", "tank/d", &[]).unwrap();
    let clone = pool.open("tank/c");
    (30..50).for_each(|blkid| pool.write_block(&clone, id, blkid));
    pool.spa.snapshot(&["tank/c@4"], false, &[]).unwrap();
    (30..40).for_each(|blkid| pool.write_block(&clone, id, blkid));
    pool.write_block(&ds, id, 59);
    let other = pool.open("tank/d");
    pool.write_block(&other, id, 3);
    pool.assert_clean();
    let contents = |pool: &Pool, names: &[&str]| -> Vec<Content> {
        names.iter().map(|n| content(&pool.open(n))).collect()
    };
    let before =
        contents(&pool, &["tank/a", "tank/a@1", "tank/a@2", "tank/a@3", "tank/c", "tank/c@4", "tank/d"]);
    drop((ds, clone, other));
    pool.spa.promote("tank/c").unwrap();
    pool.assert_clean();
    let after =
        contents(&pool, &["tank/a", "tank/c@1", "tank/c@2", "tank/a@3", "tank/c", "tank/c@4", "tank/d"]);
    assert!(before == after);
    assert_eq!(origin_of(&pool, "tank/a").as_deref(), Some("tank/c@2"));
    assert_eq!(origin_of(&pool, "tank/d").as_deref(), Some("tank/c@1"));
    assert_eq!(origin_of(&pool, "tank/c"), None);
    assert_eq!(pool.spa.promote("tank/c"), Err(Error::Invalid));
    // Both can be changed, and what is left be destroyed, without a trace.
    let ds = pool.open("tank/a");
    (0..60).for_each(|blkid| pool.write_block(&ds, id, blkid));
    pool.assert_clean();
    drop(ds);
    pool.spa.destroy_snapshots(&["tank/a@3"], false).unwrap();
    pool.spa.destroy_dataset("tank/a").unwrap();
    pool.assert_clean();
    pool.spa.promote("tank/d").unwrap();
    pool.assert_clean();
    pool.reopen();
    pool.spa.destroy_snapshots(&["tank/c@4"], false).unwrap();
    pool.spa.destroy_snapshots(&["tank/c@2"], false).unwrap();
    pool.spa.destroy_dataset("tank/c").unwrap();
    pool.spa.destroy_snapshots(&["tank/d@1"], false).unwrap();
    pool.spa.destroy_dataset("tank/d").unwrap();
    pool.wait_freed();
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn rolling_back_gives_up_what_came_after() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let ids: Vec<ObjectId> = (0..3).map(|_| pool.write_object(&ds, 20)).collect();
    pool.spa.snapshot(&["tank/a@1"], false, &[]).unwrap();
    let before = content(&ds);
    pool.free_object(&ds, ids[0]);
    (0..20).for_each(|blkid| pool.write_block(&ds, ids[1], blkid));
    pool.spa.snapshot(&["tank/a@2"], false, &[]).unwrap();
    pool.write_object(&ds, 30);
    assert_eq!(pool.spa.rollback("tank/a@2", false), Err(Error::Busy));
    drop(ds);
    assert_eq!(pool.spa.rollback("tank/a@1", false), Err(Error::Exists));
    pool.spa.rollback("tank/a@2", false).unwrap();
    pool.assert_clean();
    pool.spa.rollback("tank/a@1", true).unwrap();
    pool.assert_clean();
    assert!(content(&pool.open("tank/a")) == before);
    assert!(!pool.names().contains(&"tank/a@2".into()));
    let ds = pool.open("tank/a");
    pool.write_object(&ds, 5);
    pool.assert_clean();
    drop(ds);
    pool.reopen();
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn destroying_goes_on_after_a_crash() {
    let mut pool = Pool::new(1 << 30);
    let free = pool.spa.space().unwrap().allocated;
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    // Many small objects, so that the tree has more blocks than one group frees.
    for _ in 0..60 {
        pool.write_many(&ds, 1000);
    }
    drop(ds);
    pool.spa.sync().unwrap();
    let cuts = cuts_during(&pool.disk, || {
        pool.spa.destroy_dataset("tank/a").unwrap();
        pool.wait_freed();
    });
    pool.spa.abandon();
    let cut = cuts.into_iter().find(|disk| {
        // What is on disk, with nobody going on with it.
        let options = ImportOptions { read_only: true, ..ImportOptions::default() };
        let looked = Spa::import(&[disk.clone() as Arc<dyn BlockDevice>], &options).unwrap();
        looked.space().unwrap().freeing > 0
    });
    pool.disk = cut.expect("everything was freed in one group");
    pool.import();
    assert!(pool.names() == ["tank"]);
    pool.wait_freed();
    pool.assert_clean();
    assert!(pool.spa.space().unwrap().allocated < free + (4 << 20));
    pool.spa.export().unwrap();
}

/// The disks that power cuts would leave just before each flush that `job` brings about.
fn cuts_during(disk: &Arc<MemDisk>, job: impl FnOnce()) -> Vec<Arc<MemDisk>> {
    let cuts = Arc::new(Mutex::new(Vec::new()));
    let (kept, watched) = (cuts.clone(), Arc::downgrade(disk));
    disk.set_hook(Some(Arc::new(move |op| {
        if let (Op::Flush, Some(disk)) = (op, watched.upgrade()) {
            kept.lock().unwrap().push(Arc::new(disk.after_crash(Crash::DropAll)));
        }
        None
    })));
    job();
    disk.set_hook(None);
    mem::take(&mut *cuts.lock().unwrap())
}

#[test]
fn holds_keep_snapshots() {
    let pool = Pool::new(64 << 20);
    pool.create("tank/a");
    pool.spa.snapshot(&["tank@s"], true, &[]).unwrap();
    // Named twice, by itself or by one above it, a snapshot is held once.
    pool.spa.hold("twice", &["tank@s", "tank/a@s"], true).unwrap();
    pool.spa.hold("thrice", &["tank/a@s"; 3], false).unwrap();
    assert_eq!(pool.spa.holds("tank/a@s").unwrap().len(), 2);
    pool.spa.release("thrice", &["tank/a@s"; 3], false).unwrap();
    pool.spa.release("twice", &["tank/a@s", "tank@s"], true).unwrap();
    pool.spa.hold("keep", &["tank@s"], true).unwrap();
    assert_eq!(pool.spa.hold("keep", &["tank/a@s"], false), Err(Error::Exists));
    assert_eq!(pool.spa.holds("tank/a@s").unwrap()[0].0, "keep");
    assert_eq!(pool.spa.destroy_snapshots(&["tank/a@s"], false), Err(Error::Busy));
    pool.spa.destroy_snapshots(&["tank/a@s"], true).unwrap();
    pool.assert_clean();
    assert_eq!(pool.spa.release("other", &["tank/a@s"], false), Err(Error::NotFound));
    pool.spa.release("keep", &["tank/a@s"], false).unwrap();
    assert!(!pool.names().contains(&"tank/a@s".into()));
    pool.spa.release("keep", &["tank@s"], false).unwrap();
    pool.spa.rename_snapshot("tank@s", "t", true).unwrap();
    assert!(pool.names().contains(&"tank@t".into()));
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn bookmarks_outlive_their_snapshots() {
    let mut pool = Pool::new(64 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let id = pool.write_object(&ds, 20);
    pool.spa.snapshot(&["tank/a@1"], false, &[]).unwrap();
    pool.spa.bookmark("tank/a@1", "tank/a#m").unwrap();
    pool.spa.bookmark("tank/a#m", "tank/a#n").unwrap();
    assert_eq!(pool.spa.bookmark("tank/a@1", "tank/a#m"), Err(Error::Exists));
    assert_eq!(pool.spa.bookmark("tank/a@1", "tank#m"), Err(Error::Invalid));
    pool.write_block(&ds, id, 3);
    pool.spa.destroy_snapshots(&["tank/a@1"], false).unwrap();
    pool.write_block(&ds, id, 4);
    pool.spa.snapshot(&["tank/a@2"], false, &[]).unwrap();
    let marks = pool.spa.bookmarks("tank/a").unwrap();
    assert_eq!(marks.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["tank/a#m", "tank/a#n"]);
    pool.assert_clean();
    pool.spa.destroy_bookmark("tank/a#m").unwrap();
    pool.spa.destroy_bookmark("tank/a#n").unwrap();
    assert_eq!(pool.spa.destroy_bookmark("tank/a#n"), Err(Error::NotFound));
    pool.assert_clean();
    drop(ds);
    pool.spa.export().unwrap();
}
