//! Files without names: freed when they are closed, or after a crash at the next mount.
use crate::pools;
use blockdev_host::MemDisk;
use ondisk::ObjectId;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{FileSystem, OpenFlags, SliceSource};
use zpl::ZplFs;

fn exists(fs: &ZplFs, ino: u64) -> bool {
    fs.objset().hold(ObjectId(ino)).is_ok()
}

#[test]
fn an_open_file_is_freed_after_its_last_close() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let fs = pools::root(&spa);
    let tree = Tree::new(fs.clone());
    tree.write("/a", &[1; 100_000]).unwrap();
    let file = tree.open("/a", OpenFlags::READ).unwrap();
    let ino = file.vnode().ino();
    tree.ns.unlink_at(&tree.from(), b"/a").unwrap();
    fs.sync().unwrap();
    assert!(exists(&fs, ino));
    drop(file);
    fs.sync().unwrap();
    assert!(!exists(&fs, ino));
    // One that no one has open goes at once.
    tree.write("/b", b"1").unwrap();
    let ino = tree.find("/b").unwrap().vnode().ino();
    tree.ns.unlink_at(&tree.from(), b"/b").unwrap();
    assert!(!exists(&fs, ino));
}

#[test]
fn a_crash_leaves_nothing_behind() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let fs = pools::root(&spa);
    let tree = Tree::new(fs.clone());
    tree.write("/a", &[1; 100_000]).unwrap();
    let file = tree.open("/a", OpenFlags::READ).unwrap();
    tree.ns.unlink_at(&tree.from(), b"/a").unwrap();
    let unnamed = tree.open("/", OpenFlags::WRITE | OpenFlags::UNNAMED).unwrap();
    unnamed.write(&mut SliceSource::new(&[2; 5000])).unwrap();
    let inos = [file.vnode().ino(), unnamed.vnode().ino()];
    fs.sync().unwrap();
    assert!(inos.iter().all(|ino| exists(&fs, *ino)));
    spa.abandon();
    drop((file, unnamed, tree, fs, spa));
    let spa = pools::import(&disk);
    let fs = pools::root(&spa);
    fs.sync().unwrap();
    assert!(inos.iter().all(|ino| !exists(&fs, *ino)));
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn fsync_of_a_clean_file_writes_nothing() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    let tree = Tree::new(pools::root(&spa));
    tree.write("/a", b"1").unwrap();
    let file = tree.open("/a", OpenFlags::READ).unwrap();
    file.fsync(vfs::Fsync::All).unwrap();
    let before = disk.stats().writes;
    for _ in 0..100 {
        file.fsync(vfs::Fsync::All).unwrap();
    }
    assert_eq!(disk.stats().writes, before);
    assert_eq!(file.getattr().unwrap().size, 1);
}

#[test]
fn a_full_pool_says_so_and_can_be_emptied() {
    let disk = Arc::new(MemDisk::new(64 << 20));
    let spa = pools::create(&disk, |_| ());
    let fs = pools::root(&spa);
    let tree = Tree::new(fs.clone());
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    };
    let noise: Vec<u8> = (0..1_000_000).map(|_| random()).collect();
    let mut nr_files = 0;
    let error = loop {
        match tree.write(&format!("/f{nr_files}"), &noise) {
            Ok(()) => nr_files += 1,
            Err(e) => break e,
        }
        assert!(nr_files < 100, "never full");
    };
    // A write that ends early is an I/O error to the helper.
    assert!(matches!(error, vfs::Error::NoSpace | vfs::Error::Io), "{error}");
    assert!(nr_files > 10);
    // A reservation that cannot be kept is not promised.
    let file = tree.find("/f0").unwrap();
    let reserve = |end| file.vnode().fallocate(vfs::FallocateMode::Allocate { keep_size: false }, 0..end);
    assert_eq!(reserve(32 << 20), Err(vfs::Error::NoSpace));
    assert_eq!(file.vnode().getattr().unwrap().size, 1_000_000);
    drop(file);
    for i in 0..nr_files {
        tree.ns.unlink_at(&tree.from(), format!("/f{i}").as_bytes()).unwrap();
    }
    for _ in 0..4 {
        fs.sync().unwrap();
    }
    tree.write("/again", &noise).unwrap();
    assert_eq!(tree.read("/again").unwrap(), noise);
}
