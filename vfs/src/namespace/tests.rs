use super::*;
use crate::attr::Cred;
use crate::devfs::DevFs;
use crate::file::OpenFlags;
use crate::ramfs::RamFs;
use crate::test_support::Tree;
use crate::walk::{WalkFlags, WalkFrom};
use crate::{SliceSink, SliceSource};
use rt_std as _;

fn tree() -> Tree {
    Tree::new(RamFs::new(1 << 24, 0o755))
}

fn mkdir(t: &Tree, path: &str) -> DentryRef {
    t.ns.create_at(&t.from(), path.as_bytes(), NewNode::Directory, 0o755).unwrap()
}

#[test]
fn mounts_are_crossed_both_ways() {
    let t = tree();
    let at = mkdir(&t, "/mnt");
    mkdir(&t, "/mnt/hidden");
    t.ns.mount(&at, RamFs::new(1 << 20, 0o755), MountFlags::empty()).unwrap();
    assert_eq!(t.list("/mnt").unwrap().len(), 0);
    t.write("/mnt/f", b"1").unwrap();
    mkdir(&t, "/mnt/d");
    let inner = t.find("/mnt/d").unwrap();
    assert_eq!(t.ns.path_of(&inner, t.ns.root()), b"/mnt/d");
    let up = t.find("/mnt/d/../..").unwrap();
    assert!(Arc::ptr_eq(&up, t.ns.root()));
    let mv = t.ns.rename_at(&t.from(), b"/mnt/f", &t.from(), b"/f", RenameMode::Replace);
    assert_eq!(mv, Err(Error::CrossDevice));
    assert_eq!(t.ns.rmdir_at(&t.from(), b"/mnt"), Err(Error::Busy));
    let beneath = t.ns.walk(&t.from(), b"mnt/d", WalkFlags::NO_XDEV);
    assert_eq!(beneath.unwrap_err(), Error::CrossDevice);
    assert_eq!(t.ns.mounts()[1].path, b"/mnt");
    let root = t.find("/mnt").unwrap();
    assert_eq!(t.ns.unmount(root.clone()), Err(Error::Busy), "a directory in it is held");
    drop(inner);
    t.ns.unmount(root).unwrap();
    assert_eq!(t.list("/mnt").unwrap(), [b"hidden"]);
}

#[test]
fn a_read_only_mount_refuses_changes() {
    let fs = RamFs::new(1 << 20, 0o755);
    Tree::new(fs.clone()).write("/f", b"1").unwrap();
    let t = tree();
    let at = mkdir(&t, "/ro");
    t.ns.mount(&at, fs, MountFlags::READ_ONLY).unwrap();
    assert_eq!(t.read("/ro/f").unwrap(), b"1");
    assert_eq!(t.write("/ro/f", b"2"), Err(Error::ReadOnly));
    assert_eq!(t.write("/ro/g", b"2"), Err(Error::ReadOnly));
    assert_eq!(t.ns.unlink_at(&t.from(), b"/ro/f"), Err(Error::ReadOnly));
}

#[test]
fn negative_names_are_remembered_and_forgotten() {
    let t = tree();
    assert_eq!(t.find("/x").unwrap_err(), Error::NotFound);
    let hash = t.ns.cache.hash(t.ns.root().id(), b"x");
    assert!(matches!(t.ns.cache.find(hash, t.ns.root().id(), b"x"), Cached::Negative));
    t.write("/x", b"1").unwrap();
    assert_eq!(t.read("/x").unwrap(), b"1");
    t.ns.unlink_at(&t.from(), b"/x").unwrap();
    assert!(matches!(t.ns.cache.find(hash, t.ns.root().id(), b"x"), Cached::Negative));
    t.write("/y", b"1").unwrap();
    t.ns.rename_at(&t.from(), b"/y", &t.from(), b"/x", RenameMode::Replace).unwrap();
    assert_eq!(t.read("/x").unwrap(), b"1");
    assert_eq!(t.find("/y").unwrap_err(), Error::NotFound);
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let t = tree();
    let held = mkdir(&t, "/held");
    for i in 0..5000 {
        t.write(&alloc::format!("/f{i}"), b"").unwrap();
    }
    assert!(t.ns.cached_names() < 400, "{} names", t.ns.cached_names());
    assert!(Arc::ptr_eq(&t.find("/held").unwrap(), &held));
}

#[test]
fn a_held_directory_keeps_its_path_through_renames_and_removal() {
    let t = tree();
    mkdir(&t, "/a");
    mkdir(&t, "/a/b");
    let b = t.find("/a/b").unwrap();
    t.ns.rename_at(&t.from(), b"/a", &t.from(), b"/z", RenameMode::Replace).unwrap();
    assert_eq!(t.ns.path_of(&b, t.ns.root()), b"/z/b");
    t.ns.rmdir_at(&t.from(), b"/z/b").unwrap();
    assert!(b.is_removed() && !t.ns.is_reachable(&b, t.ns.root()));
    let inside = WalkFrom { start: &b, ..t.from() };
    assert_eq!(t.ns.walk(&inside, b"x", WalkFlags::empty()).unwrap_err(), Error::NotFound);
    assert!(t.ns.walk(&inside, b"..", WalkFlags::empty()).is_ok());
}

#[test]
fn others_need_permission() {
    let t = tree();
    mkdir(&t, "/d");
    t.write("/d/f", b"1").unwrap();
    let groups = [50];
    let caller = Caller { cred: Cred { uid: 7, gid: 7 }, groups: &groups };
    let from = WalkFrom { caller, ..t.from() };
    let chmod = |path: &str, perm, gid| {
        let set = crate::SetAttr { perm: Some(perm), gid: Some(gid), ..Default::default() };
        t.find(path).unwrap().vnode().setattr(&set).unwrap();
    };
    let open = |flags| t.ns.open(&from, b"/d/f", flags, 0).map(|_| ());
    assert_eq!(open(OpenFlags::READ), Ok(()));
    assert_eq!(open(OpenFlags::WRITE), Err(Error::Access));
    chmod("/d/f", 0o620, 50);
    assert_eq!(open(OpenFlags::WRITE), Ok(()));
    assert_eq!(open(OpenFlags::READ), Err(Error::Access));
    assert_eq!(t.ns.unlink_at(&from, b"/d/f"), Err(Error::Access));
    chmod("/d", 0o1777, 0);
    assert_eq!(t.ns.unlink_at(&from, b"/d/f"), Err(Error::NotPermitted), "sticky");
    let create = OpenFlags::WRITE | OpenFlags::CREATE;
    t.ns.open(&from, b"/d/own", create, 0o600).unwrap();
    assert_eq!(t.find("/d/own").unwrap().vnode().getattr().unwrap().uid, 7);
    t.ns.unlink_at(&from, b"/d/own").unwrap();
    chmod("/d", 0o2777, 50);
    t.ns.open(&from, b"/d/grp", create, 0o600).unwrap();
    assert_eq!(t.find("/d/grp").unwrap().vnode().getattr().unwrap().gid, 50);
    chmod("/d", 0o600, 0);
    assert_eq!(open(OpenFlags::READ), Err(Error::Access));
}

#[test]
fn beneath_and_in_root_confine_the_walk() {
    let t = tree();
    for path in ["/jail", "/jail/d", "/out"] {
        mkdir(&t, path);
    }
    t.ns.create_at(&t.from(), b"/jail/esc", NewNode::Symlink(b"/out"), 0o777).unwrap();
    t.ns.create_at(&t.from(), b"/jail/d/up", NewNode::Symlink(b"../.."), 0o777).unwrap();
    let jail = t.find("/jail").unwrap();
    let from = WalkFrom { start: &jail, ..t.from() };
    let walk =
        |path: &[u8], flags| t.ns.walk(&from, path, flags | WalkFlags::FOLLOW).map(|d| d.name().to_vec());
    assert_eq!(walk(b"d/..", WalkFlags::BENEATH), Ok(b"jail".to_vec()));
    for path in [&b"../out"[..], b"/out", b"esc", b"d/up"] {
        assert_eq!(walk(path, WalkFlags::BENEATH), Err(Error::CrossDevice));
    }
    assert_eq!(walk(b"/../../d", WalkFlags::IN_ROOT), Ok(b"d".to_vec()));
    assert_eq!(walk(b"esc", WalkFlags::IN_ROOT), Err(Error::NotFound));
    assert_eq!(walk(b"esc", WalkFlags::NO_SYMLINKS), Err(Error::Loop));
}

#[test]
fn devices_open_through_their_numbers() {
    let t = tree();
    let at = mkdir(&t, "/dev");
    let dev = DevFs::new(t.ns.devices()).unwrap();
    t.ns.mount(&at, dev.file_system(), MountFlags::empty()).unwrap();
    let both = OpenFlags::READ | OpenFlags::WRITE;
    let mut room = [1; 8];
    let null = t.open("/dev/null", both).unwrap();
    assert_eq!(null.write(&mut SliceSource::new(b"abc")), Ok(3));
    assert_eq!(null.read(&mut SliceSink::new(&mut room)), Ok(0));
    let zero = t.open("/dev/zero", both).unwrap();
    assert_eq!((zero.read(&mut SliceSink::new(&mut room)), room), (Ok(8), [0; 8]));
    let full = t.open("/dev/full", both).unwrap();
    assert_eq!(full.write(&mut SliceSource::new(b"abc")), Err(Error::NoSpace));
    let random = t.open("/dev/urandom", both).unwrap();
    assert_eq!(random.read(&mut SliceSink::new(&mut room)), Ok(8));
    assert_eq!(random.read_at(0, &mut SliceSink::new(&mut room)), Err(Error::NotSeekable));
    // A node on any file system reaches the same driver.
    let id = crate::DeviceId { major: 1, minor: 3 };
    t.ns.create_at(&t.from(), b"/n", NewNode::CharDevice(id), 0o666).unwrap();
    assert_eq!(t.open("/n", both).unwrap().write(&mut SliceSource::new(b"abc")), Ok(3));
}

#[test]
fn parallel_renames_lookups_and_removals_leave_a_true_cache() {
    let t = tree();
    for dir in ["/p", "/q"] {
        mkdir(&t, dir);
    }
    std::thread::scope(|scope| {
        for id in 0..3 {
            let t = &t;
            scope.spawn(move || {
                for round in 0..400 {
                    let (a, b) = if (round + id) % 2 == 0 { ("/p/x", "/q/y") } else { ("/q/y", "/p/x") };
                    let _ = t.write(a, b"1");
                    let _ =
                        t.ns.rename_at(&t.from(), a.as_bytes(), &t.from(), b.as_bytes(), RenameMode::Replace);
                    let _ = t.find(a);
                    let _ = t.ns.unlink_at(&t.from(), b.as_bytes());
                }
            });
        }
    });
    for path in ["/p/x", "/q/y"] {
        let cached = t.find(path).map(|d| d.vnode().ino());
        t.ns.shrink_cache();
        assert_eq!(t.find(path).map(|d| d.vnode().ino()).ok(), cached.ok());
    }
}
