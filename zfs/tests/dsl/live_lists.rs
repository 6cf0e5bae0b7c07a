//! Live lists: written, condensed, given up, and clones destroyed by them.
use crate::pool::{BLOCK, Pool, content};
use ondisk::ObjectId;
use zfs::dsl::Dataset;
use zfs::spa::Feature;

/// `tank/a@s` of an object of many blocks, and its clone `tank/c`.
fn cloned(nr_blocks: u64) -> (Pool, ObjectId) {
    let mut pool = Pool::new(256 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let id = pool.write_object(&ds, nr_blocks);
    pool.spa.snapshot(&["tank/a@s"], false, &[]).unwrap();
    pool.spa.clone_snapshot("tank/a@s", "tank/c", &[]).unwrap();
    (pool, id)
}

/// References to the feature: live lists in the pool.
fn nr_lists(pool: &Pool) -> u64 {
    let all = pool.spa.features().unwrap();
    all.iter().find(|f| f.known == Some(Feature::Livelist)).unwrap().refcount
}

fn overwrite(pool: &mut Pool, ds: &Dataset, id: ObjectId, blocks: std::ops::Range<u64>) {
    blocks.for_each(|blkid| pool.write_block(ds, id, blkid));
    pool.spa.sync().unwrap();
}

#[test]
fn a_clone_is_destroyed_by_its_live_list() {
    let (mut pool, id) = cloned(400);
    assert_eq!(nr_lists(&pool), 1);
    pool.assert_clean();
    let clone = pool.open("tank/c");
    for start in [0, 10, 5] {
        overwrite(&mut pool, &clone, id, start..start + 20);
        pool.assert_clean();
    }
    let own = pool.write_object(&clone, 10);
    pool.spa.sync().unwrap();
    pool.free_object(&clone, own);
    pool.assert_clean();
    // What a snapshot of the clone holds is given up by its head all the same.
    pool.spa.snapshot(&["tank/c@t"], false, &[]).unwrap();
    overwrite(&mut pool, &clone, id, 0..12);
    pool.assert_clean();
    drop(clone);
    pool.reopen();
    let clone = pool.open("tank/c");
    overwrite(&mut pool, &clone, id, 8..16);
    pool.spa.destroy_snapshots(&["tank/c@t"], false).unwrap();
    overwrite(&mut pool, &clone, id, 30..35);
    pool.assert_clean();
    assert_eq!(nr_lists(&pool), 1, "the clone shares enough to keep it");
    drop(clone);
    let before = content(&pool.open("tank/a"));
    pool.spa.destroy_dataset("tank/c").unwrap();
    pool.wait_freed();
    assert_eq!(nr_lists(&pool), 0);
    pool.assert_clean();
    assert!(content(&pool.open("tank/a")) == before);
    pool.spa.destroy_snapshots(&["tank/a@s"], false).unwrap();
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn a_clone_that_shares_little_has_none() {
    let (mut pool, id) = cloned(200);
    let clone = pool.open("tank/c");
    overwrite(&mut pool, &clone, id, 0..20);
    assert_eq!(nr_lists(&pool), 1);
    overwrite(&mut pool, &clone, id, 20..60);
    assert_eq!(nr_lists(&pool), 0);
    overwrite(&mut pool, &clone, id, 60..70);
    pool.assert_clean();
    drop(clone);
    pool.spa.destroy_dataset("tank/c").unwrap();
    pool.wait_freed();
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn lists_go_when_contents_change_sides() {
    let (mut pool, id) = cloned(200);
    let clone = pool.open("tank/c");
    overwrite(&mut pool, &clone, id, 0..5);
    pool.spa.snapshot(&["tank/c@t"], false, &[]).unwrap();
    pool.spa.clone_snapshot("tank/c@t", "tank/d", &[]).unwrap();
    pool.spa.clone_snapshot("tank/c@t", "tank/e", &[]).unwrap();
    overwrite(&mut pool, &clone, id, 0..5);
    assert_eq!(nr_lists(&pool), 3);
    drop(clone);
    pool.spa.rollback("tank/c@t", false).unwrap();
    assert_eq!(nr_lists(&pool), 2);
    pool.assert_clean();
    let other = pool.open("tank/e");
    overwrite(&mut pool, &other, id, 2..9);
    pool.spa.promote("tank/d").unwrap();
    assert_eq!(nr_lists(&pool), 1);
    overwrite(&mut pool, &other, id, 3..12);
    pool.assert_clean();
    drop(other);
    pool.spa.destroy_dataset("tank/e").unwrap();
    pool.wait_freed();
    assert_eq!(nr_lists(&pool), 0);
    pool.assert_clean();
    pool.spa.export().unwrap();
}

/// A block written over and over leaves two entries each time: the list must not grow without bound, and what stays must be
/// right.
#[test]
fn lists_are_condensed() {
    let (mut pool, id) = cloned(6000);
    let clone = pool.open("tank/c");
    for _ in 0..6 {
        overwrite(&mut pool, &clone, id, 100..1100);
    }
    pool.assert_clean();
    overwrite(&mut pool, &clone, id, 1050..1200);
    pool.assert_clean();
    assert_eq!(nr_lists(&pool), 1);
    drop(clone);
    pool.reopen();
    let used = pool.spa.space().unwrap().allocated;
    pool.spa.destroy_dataset("tank/c").unwrap();
    pool.wait_freed();
    pool.assert_clean();
    assert!(pool.spa.space().unwrap().allocated + 1100 * u64::from(BLOCK) < used);
    pool.spa.export().unwrap();
}
