//! Snapshots as directories, and limits of users, groups and projects.
use crate::pools;
use blockdev_host::MemDisk;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{Cred, Error, FileSystem, NewNode, Vnode};
use zfs::dsl::{Property, PropertyValue};
use zpl::quota::{self, Account, Unit};
use zpl::{MountOptions, mount};

const USER: Cred = Cred { uid: 1000, gid: 7 };

fn names(dir: &dyn Vnode) -> Vec<String> {
    let mut found = Vec::new();
    dir.readdir(0, &mut |entry| {
        found.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    })
    .unwrap();
    found
}

fn write(file: &dyn Vnode, bytes: &[u8]) -> vfs::Result<usize> {
    file.write(0, &mut vfs::SliceSource::new(bytes))
}

fn read(file: &dyn Vnode) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let n = file.read(0, &mut vfs::SliceSink::new(&mut bytes)).unwrap();
    bytes.truncate(n);
    bytes
}

#[test]
fn snapshots_are_directories_below_the_root() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let fs = pools::root(&spa);
    let root = fs.root().unwrap();
    let file = root.create(b"f", NewNode::Regular, 0o644, Cred::default()).unwrap();
    write(&*file, b"before").unwrap();
    spa.snapshot(&["tank@a"], false, &[]).unwrap();
    write(&*file, b"after!").unwrap();
    spa.snapshot(&["tank@b"], false, &[]).unwrap();
    assert_eq!(names(&*root), ["f"], "hidden");
    let snapshots = root.lookup(b".zfs").unwrap().lookup(b"snapshot").unwrap();
    assert_eq!(names(&*snapshots), ["a", "b"]);
    let old = snapshots.lookup(b"a").unwrap();
    assert_eq!(read(&*old.lookup(b"f").unwrap()), b"before");
    assert_eq!(read(&*snapshots.lookup(b"b").unwrap().lookup(b"f").unwrap()), b"after!");
    let made = old.create(b"x", NewNode::Regular, 0o644, Cred::default());
    assert_eq!(made.err(), Some(Error::ReadOnly));
    assert_eq!(
        snapshots.create(b"x", NewNode::Directory, 0o755, Cred::default()).err(),
        Some(Error::ReadOnly)
    );
    assert_eq!(snapshots.lookup(b"c").err(), Some(Error::NotFound));
    assert!(root.lookup(b".zfs").unwrap().getattr().unwrap().perm == 0o555);
    assert_eq!(old.lookup(b".zfs").err(), Some(Error::NotFound));
    assert_eq!(spa.destroy_snapshots(&["tank@a"], false), Err(zfs::Error::Busy));
    let visible = PropertyValue::Number(1);
    spa.set_property("tank", &Property::SnapDir, &visible).unwrap();
    fs.reload_properties().unwrap();
    assert_eq!(names(&*root), ["f", ".zfs"]);
    spa.set_property("tank", &Property::SnapDir, &PropertyValue::Number(2)).unwrap();
    fs.reload_properties().unwrap();
    assert_eq!(root.lookup(b".zfs").err(), Some(Error::NotFound));
}

/// What the name cache knows of snapshots neither outlives them nor keeps them.
#[test]
fn names_of_snapshots_are_not_kept() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let tree = Tree::new(pools::root(&spa));
    tree.write("/f", b"1").unwrap();
    assert_eq!(tree.read("/.zfs/snapshot/a/f"), Err(Error::NotFound));
    spa.snapshot(&["tank@a"], false, &[]).unwrap();
    assert_eq!(tree.read("/.zfs/snapshot/a/f").unwrap(), b"1", "its absence was not kept");
    tree.write("/f", b"2").unwrap();
    spa.rename_snapshot("tank@a", "b", false).unwrap();
    assert_eq!(tree.read("/.zfs/snapshot/a/f"), Err(Error::NotFound));
    assert_eq!(tree.read("/.zfs/snapshot/b/f").unwrap(), b"1");
    spa.snapshot(&["tank@a"], false, &[]).unwrap();
    assert_eq!(tree.read("/.zfs/snapshot/a/f").unwrap(), b"2");
    spa.destroy_snapshots(&["tank@a", "tank@b"], false).unwrap();
    assert_eq!(tree.read("/.zfs/snapshot/b/f"), Err(Error::NotFound));
}

#[test]
fn limits_of_users_and_groups_hold() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let objset = spa.open_dataset("tank").unwrap().objset();
    quota::set(&objset, Account::User, Unit::Space, 1000, 1 << 20).unwrap();
    quota::set(&objset, Account::Group, Unit::Objects, 9, 2).unwrap();
    drop(objset);
    let fs = mount(&spa, "tank", &MountOptions::default()).unwrap();
    let root = fs.root().unwrap();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..2 << 20).map(|_| next()).collect();
    let file = root.create(b"mine", NewNode::Regular, 0o644, USER).unwrap();
    write(&*file, &noise).unwrap();
    spa.sync().unwrap();
    assert_eq!(write(&*file, b"more"), Err(Error::Quota));
    assert_eq!(root.create(b"another", NewNode::Regular, 0o644, USER).err(), Some(Error::Quota));
    for name in [b"a", b"b"] {
        root.create(name, NewNode::Regular, 0o644, Cred { uid: 1, gid: 9 }).unwrap();
    }
    spa.sync().unwrap();
    let third = root.create(b"c", NewNode::Regular, 0o644, Cred { uid: 1, gid: 9 });
    assert_eq!(third.err(), Some(Error::Quota));
    root.create(b"c", NewNode::Regular, 0o644, Cred { uid: 1, gid: 8 }).unwrap();
    root.unlink(b"mine").unwrap();
    drop(file);
    spa.sync().unwrap();
    let usage = quota::usage(fs.objset(), Account::User).unwrap();
    let of = |id: u64| usage.iter().find(|(other, _)| *other == id).map(|(_, usage)| *usage).unwrap();
    assert_eq!((of(1000).quota, of(1).objects), (1 << 20, 3));
    drop(Tree::new(fs));
}

/// A head's log is neither its snapshot's nor its clone's, and leaves no block behind.
#[test]
fn logs_stay_with_their_heads() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let init = zpl::CreateOptions::default();
    spa.create_dataset("tank/a", &[], &mut |tx, objset| zpl::create_fs(tx, objset, &init)).unwrap();
    let synced_writes = |name: &str| {
        let fs = mount(&spa, name, &MountOptions::default()).unwrap();
        let root = fs.root().unwrap();
        for n in 0..4 {
            let file = root.create(format!("f{n}").as_bytes(), NewNode::Regular, 0o644, USER);
            let file = file.or_else(|_| root.lookup(format!("f{n}").as_bytes())).unwrap();
            write(&*file, &[n; 3000]).unwrap();
            file.fsync(0..u64::MAX, vfs::Fsync::All).unwrap();
            if n % 2 == 0 {
                spa.sync().unwrap();
            }
        }
    };
    let check = || {
        spa.sync().unwrap();
        let report = spa.verify(&mut |_| ()).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    };
    synced_writes("tank/a");
    spa.snapshot(&["tank/a@s"], false, &[]).unwrap();
    synced_writes("tank/a");
    spa.clone_snapshot("tank/a@s", "tank/c", &[]).unwrap();
    check();
    synced_writes("tank/c");
    spa.rollback("tank/a@s", false).unwrap();
    check();
    synced_writes("tank/a");
    spa.destroy_dataset("tank/c").unwrap();
    check();
    spa.promote("tank/a").unwrap_err();
    spa.destroy_snapshots(&["tank/a@s"], false).unwrap();
    synced_writes("tank/a");
    spa.destroy_dataset("tank/a").unwrap();
    check();
    spa.export().unwrap();
}
