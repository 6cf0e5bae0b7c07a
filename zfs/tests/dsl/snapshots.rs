//! Taking and destroying snapshots.
use crate::pool::{Content, Pool, content};
use ondisk::ObjectId;
use zfs::Error;
use zfs::dsl::{Property, PropertyValue};

#[test]
fn a_snapshot_keeps_what_the_head_gives_up() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let ids: Vec<ObjectId> = (0..4).map(|_| pool.write_object(&ds, 20)).collect();
    let before = content(&ds);
    pool.spa.snapshot(&["tank/a@one"], false, &[]).unwrap();
    assert_eq!(pool.spa.snapshot(&["tank/a@one"], false, &[]), Err(Error::Exists));
    pool.free_object(&ds, ids[0]);
    (0..10).for_each(|blkid| pool.write_block(&ds, ids[1], blkid));
    let new = pool.write_object(&ds, 5);
    pool.spa.sync().unwrap();
    assert_eq!(content(&pool.open("tank/a@one")), before);
    pool.assert_clean();
    let after = content(&ds);
    drop(ds);
    pool.reopen();
    assert_eq!(content(&pool.open("tank/a@one")), before);
    assert_eq!(content(&pool.open("tank/a")), after);
    assert!(after.iter().any(|(id, _)| *id == new));
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn destroying_the_last_snapshot_frees_what_only_it_held() {
    let mut pool = Pool::new(128 << 20);
    pool.create("tank/a");
    let ds = pool.open("tank/a");
    let id = pool.write_object(&ds, 100);
    pool.spa.sync().unwrap();
    let used = ds.space().unwrap().used;
    pool.spa.snapshot(&["tank/a@one"], false, &[]).unwrap();
    (0..100).for_each(|blkid| pool.write_block(&ds, id, blkid));
    pool.spa.sync().unwrap();
    let info = pool.spa.datasets().unwrap();
    let snapshot = info.iter().find(|d| d.is_snapshot).unwrap();
    assert!(snapshot.space.used >= 100 * 4096);
    assert!(ds.space().unwrap().used_by_snapshots >= 100 * 4096);
    pool.spa.destroy_snapshots(&["tank/a@one"], false).unwrap();
    pool.wait_freed();
    assert_eq!(ds.space().unwrap().used, used);
    assert_eq!(ds.space().unwrap().used_by_snapshots, 0);
    pool.assert_clean();
    assert_eq!(pool.spa.destroy_snapshots(&["tank/a@one"], false), Err(Error::NotFound));
    drop(ds);
    pool.spa.export().unwrap();
}

#[test]
fn recursive_snapshots_are_of_one_group() {
    let mut pool = Pool::new(128 << 20);
    for name in ["tank/a", "tank/a/b", "tank/c"] {
        pool.create(name);
        let ds = pool.open(name);
        pool.write_object(&ds, 3);
    }
    let name = Property::User("org.x:y".into());
    let value = PropertyValue::Text("z".into());
    pool.spa.snapshot(&["tank@all"], true, &[(name, value)]).unwrap();
    pool.spa.snapshot(&["tank/a@two", "tank/c@two"], false, &[]).unwrap();
    assert_eq!(pool.spa.snapshot(&["tank/a@x", "tank/nothing@x"], false, &[]), Err(Error::NotFound));
    let all = pool.spa.datasets().unwrap();
    let txgs: Vec<u64> = all.iter().filter(|d| d.name.ends_with("@all")).map(|d| d.created_txg).collect();
    assert_eq!(txgs.len(), 4);
    assert!(txgs.iter().all(|txg| *txg == txgs[0]));
    assert!(!pool.names().contains(&"tank/a@x".to_string()));
    pool.assert_clean();
    pool.spa.export().unwrap();
}

#[test]
fn bad_names_are_refused() {
    let pool = Pool::new(64 << 20);
    for bad in ["tank@", "tank@a/b", "tank", "tank@a@b", "tank@\u{e4}"] {
        assert_eq!(pool.spa.snapshot(&[bad], false, &[]), Err(Error::Invalid), "{bad}");
    }
    let long = format!("tank@{}", "a".repeat(251));
    assert_eq!(pool.spa.snapshot(&[&long], false, &[]), Err(Error::NameTooLong));
    assert_eq!(pool.spa.snapshot(&["tank@a", "tank@a"], false, &[]), Err(Error::Invalid));
    pool.spa.export().unwrap();
}

/// Any order of taking and destroying, with changes in between, leaves exact figures and unharmed content.
#[test]
fn any_order_of_destroying_is_clean() {
    for seed in 0..6 {
        let mut pool = Pool::new(128 << 20);
        pool.seed(seed);
        pool.create("tank/a");
        let ds = pool.open("tank/a");
        let mut objects = vec![pool.write_object(&ds, 30)];
        let mut kept: Vec<(String, Content)> = Vec::new();
        for round in 0..16 {
            for _ in 0..10 {
                let id = objects[pool.next() as usize % objects.len()];
                let blkid = pool.next() % 30;
                pool.write_block(&ds, id, blkid);
            }
            if pool.next().is_multiple_of(3) {
                objects.push(pool.write_object(&ds, 8));
            }
            if pool.next().is_multiple_of(3) && objects.len() > 1 {
                let id = objects.swap_remove(pool.next() as usize % objects.len());
                pool.free_object(&ds, id);
            }
            if !pool.next().is_multiple_of(3) || kept.is_empty() {
                let name = format!("tank/a@{round}");
                pool.spa.snapshot(&[&name], false, &[]).unwrap();
                kept.push((name, content(&ds)));
            } else {
                let (name, _) = kept.swap_remove(pool.next() as usize % kept.len());
                pool.spa.destroy_snapshots(&[&name], false).unwrap();
            }
            pool.assert_clean();
        }
        for (name, expected) in &kept {
            assert!(content(&pool.open(name)) == *expected, "{name}");
        }
        drop(ds);
        pool.reopen();
        while let Some((name, expected)) = kept.pop() {
            assert!(content(&pool.open(&name)) == expected, "{name}");
            pool.spa.destroy_snapshots(&[&name], false).unwrap();
            pool.assert_clean();
        }
        pool.spa.export().unwrap();
    }
}
