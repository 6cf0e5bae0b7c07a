//! Limits on numbers of file systems and snapshots.
use crate::pool::{Pool, nothing};
use zfs::Error;
use zfs::dsl::{Property, PropertyValue};

fn set(pool: &Pool, name: &str, property: &Property, limit: u64) -> zfs::Result<()> {
    pool.spa.set_property(name, property, &PropertyValue::Number(limit))
}

#[track_caller]
fn assert_counts(pool: &Pool, name: &str, filesystems: u64, snapshots: u64) {
    let figures = pool.spa.figures(name).unwrap();
    assert_eq!((figures.filesystem_count, figures.snapshot_count), (Some(filesystems), Some(snapshots)));
    pool.assert_clean();
}

#[test]
fn limits_hold_for_all_that_is_below() {
    let mut pool = Pool::new(64 << 20);
    for name in ["tank/a", "tank/a/b", "tank/c"] {
        pool.create(name);
    }
    pool.spa.snapshot(&["tank@0"], true, &[]).unwrap();
    assert_eq!(pool.spa.figures("tank/a").unwrap().filesystem_count, None, "nothing is counted yet");
    set(&pool, "tank/a", &Property::FilesystemLimit, 3).unwrap();
    set(&pool, "tank/a", &Property::SnapshotLimit, 4).unwrap();
    assert_counts(&pool, "tank/a", 1, 2);
    assert_counts(&pool, "tank/a/b", 0, 1);
    assert_eq!(pool.spa.figures("tank").unwrap().filesystem_count, None, "no limit here");
    pool.create("tank/a/b/d");
    pool.spa.clone_snapshot("tank/a@0", "tank/a/e", &[]).unwrap();
    assert_counts(&pool, "tank/a", 3, 2);
    assert_eq!(pool.spa.create_dataset("tank/a/b/f", &[], &mut nothing), Err(Error::Quota));
    assert_eq!(pool.spa.clone_snapshot("tank/a@0", "tank/a/f", &[]), Err(Error::Quota));
    assert_eq!(pool.spa.rename_dataset("tank/c", "tank/a/c"), Err(Error::Quota));
    pool.spa.rename_dataset("tank/a/b/d", "tank/a/d").unwrap();
    assert_eq!(pool.spa.snapshot(&["tank/a@1"], true, &[]), Err(Error::Quota), "four more");
    pool.spa.snapshot(&["tank/a@1", "tank/a/d@1"], false, &[]).unwrap();
    assert_counts(&pool, "tank/a", 3, 4);
    assert_counts(&pool, "tank/a/b", 0, 1);
    pool.reopen();
    pool.spa.rename_dataset("tank/a/d", "tank/d").unwrap();
    assert_counts(&pool, "tank/a", 2, 3);
    pool.spa.promote("tank/a/e").unwrap();
    assert_counts(&pool, "tank/a/e", 0, 1);
    assert_counts(&pool, "tank/a", 2, 3);
    pool.spa.destroy_snapshots(&["tank/a@1", "tank/a/b@0"], false).unwrap();
    pool.spa.destroy_dataset("tank/a/b").unwrap();
    assert_counts(&pool, "tank/a", 1, 1);
    set(&pool, "tank", &Property::SnapshotLimit, 100).unwrap();
    assert_counts(&pool, "tank", 4, 4);
    set(&pool, "tank/a", &Property::SnapshotLimit, u64::MAX).unwrap();
    pool.spa.snapshot(&["tank@2"], true, &[]).unwrap();
    assert_counts(&pool, "tank", 4, 9);
    pool.spa.export().unwrap();
}

#[test]
fn no_more_is_reserved_than_there_is() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    pool.create("tank/b");
    let ds = pool.open("tank/a");
    pool.write_object(&ds, 2000);
    pool.spa.sync().unwrap();
    pool.spa.snapshot(&["tank/a@s"], false, &[]).unwrap();
    drop(ds);
    let space = |pool: &Pool, name: &str| pool.spa.figures(name).unwrap().space;
    let all = space(&pool, "tank/a").available;
    // What the snapshot holds is not the head's: it has to be set aside beside it.
    assert_eq!(set(&pool, "tank/a", &Property::RefReservation, all + (1 << 20)), Err(Error::NoSpace));
    set(&pool, "tank/a", &Property::RefReservation, all / 2).unwrap();
    assert_eq!(set(&pool, "tank/a", &Property::RefReservation, all + (1 << 20)), Err(Error::NoSpace));
    // Nor is what is reserved already there once more.
    set(&pool, "tank/b", &Property::Reservation, all / 4).unwrap();
    assert_eq!(set(&pool, "tank/b", &Property::Reservation, all * 5 / 8), Err(Error::NoSpace));
    set(&pool, "tank/b", &Property::Reservation, all * 3 / 8).unwrap();
    // A refquota is not below what is referred to or reserved, nor is that above it.
    let referenced = space(&pool, "tank/a").referenced;
    assert_eq!(set(&pool, "tank/a", &Property::RefQuota, referenced - 1), Err(Error::Quota));
    assert_eq!(set(&pool, "tank/a", &Property::RefQuota, all / 2 - 1), Err(Error::Quota));
    set(&pool, "tank/a", &Property::RefQuota, all / 2).unwrap();
    assert_eq!(set(&pool, "tank/a", &Property::RefReservation, all / 2 + 1), Err(Error::NoSpace));
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn a_dataset_does_not_move_to_where_a_quota_has_no_room_for_it() {
    let mut pool = Pool::new(128 << 20);
    for name in ["tank/a", "tank/a/b", "tank/q", "tank/q/r"] {
        pool.create(name);
    }
    let ds = pool.open("tank/a/b");
    pool.write_object(&ds, 1000);
    pool.spa.sync().unwrap();
    drop(ds);
    set(&pool, "tank/q", &Property::Quota, 3 << 20).unwrap();
    assert_eq!(pool.spa.rename_dataset("tank/a", "tank/q/r/a"), Err(Error::NoSpace));
    set(&pool, "tank/q", &Property::Quota, 6 << 20).unwrap();
    pool.spa.rename_dataset("tank/a", "tank/q/r/a").unwrap();
    // What is above both places sees no difference.
    set(&pool, "tank/q", &Property::Quota, pool.spa.figures("tank/q").unwrap().space.used).unwrap();
    pool.spa.rename_dataset("tank/q/r/a/b", "tank/q/b").unwrap();
    pool.assert_clean();
    pool.spa.export().unwrap();
}
