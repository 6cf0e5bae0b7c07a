//! fsync is true: what it acknowledged is there after a power cut.
use crate::pools;
use blockdev_host::{Crash, MemDisk};
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{Fsync, OpenFlags, RenameMode, SetAttr, SliceSource};
use zfs::spa::Spa;
use zpl::ZplFs;

/// A pool whose log has its first block: the very first commit waits for a group.
pub(crate) fn ready(disk: &Arc<MemDisk>) -> (Arc<Spa>, Arc<ZplFs>, Tree) {
    let spa = pools::create(disk, |_| ());
    let fs = pools::root(&spa);
    let tree = Tree::new(fs.clone());
    tree.write("/warm", b"up").unwrap();
    fsync(&tree, "/warm");
    (spa, fs, tree)
}

pub(crate) fn fsync(tree: &Tree, path: &str) {
    tree.open(path, OpenFlags::READ).unwrap().fsync(Fsync::All).unwrap();
}

fn mkdir(tree: &Tree, name: &[u8], perm: u32) {
    let root = tree.find("/").unwrap().vnode().clone();
    root.create(name, vfs::NewNode::Directory, perm, vfs::Cred::default()).unwrap();
}

/// Cuts the power, opens what is left, and mounts it: the log is replayed.
pub(crate) fn after_power_cut(disk: &MemDisk, spa: &Spa, crash: Crash) -> (Arc<Spa>, Tree) {
    let survivor = Arc::new(disk.after_crash(crash));
    spa.abandon();
    let spa = pools::import(&survivor);
    let tree = Tree::new(pools::root(&spa));
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    (spa, tree)
}

#[test]
fn what_fsync_acknowledged_survives_a_power_cut() {
    pools::log_to_stderr();
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    let group = spa.txgs().open_txg();
    let content: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
    mkdir(&tree, b"dir", 0o755);
    tree.write("/dir/file", &content).unwrap();
    tree.write("/dir/other", b"not asked for").unwrap();
    fsync(&tree, "/dir/file");
    assert_eq!(spa.txgs().open_txg(), group, "the log was not used");
    let stats = fs.objset().zil().unwrap().stats();
    assert!(stats.nr_blocks > 0 && stats.nr_group_waits == 1, "{stats:?}");
    let (spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert_eq!(tree.read("/dir/file").unwrap(), content);
    assert_eq!(tree.read("/dir/other").unwrap(), b"");
    // And once more: replay leaves nothing to replay.
    spa.export().unwrap();
}

#[test]
fn a_reader_is_told_what_it_does_not_see() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    spa.sync().unwrap();
    let look = |disk: &MemDisk| {
        let device: Arc<dyn blockdev::BlockDevice> = Arc::new(disk.after_crash(Crash::DropAll));
        let read = zfs::spa::ImportOptions { read_only: true, ..Default::default() };
        let spa = Spa::import(&[device], &read).unwrap();
        let found = spa.unreplayed().unwrap();
        spa.export().unwrap();
        found.into_iter().map(|u| (u.dataset, u.records)).collect::<Vec<_>>()
    };
    assert_eq!(look(&disk), []);
    // A name, a write and a size, or some such.
    tree.write("/file", b"content").unwrap();
    fsync(&tree, "/file");
    let found = look(&disk);
    assert!(matches!(&found[..], [(name, 2..=3)] if name == "tank"), "{found:?}");
    drop((tree, fs));
    spa.export().unwrap();
    assert_eq!(look(&disk), []);
}

#[test]
fn every_kind_of_change_is_replayed() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, _fs, tree) = ready(&disk);
    let from = tree.from();
    for name in ["/a", "/b", "/c", "/d", "/e"] {
        tree.write(name, name.repeat(3000).as_bytes()).unwrap();
    }
    mkdir(&tree, b"dir", 0o750);
    mkdir(&tree, b"gone", 0o755);
    tree.ns.rmdir_at(&from, b"/gone").unwrap();
    tree.ns.unlink_at(&from, b"/b").unwrap();
    let root = tree.find("/").unwrap().vnode().clone();
    let dir = tree.find("/dir").unwrap().vnode().clone();
    root.rename(b"c", &dir, b"moved", RenameMode::Replace).unwrap();
    root.rename(b"d", &root, b"e", RenameMode::Exchange).unwrap();
    let a = tree.find("/a").unwrap().vnode().clone();
    dir.link(b"hard", &a).unwrap();
    root.create(b"soft", vfs::NewNode::Symlink(b"dir/hard"), 0o777, vfs::Cred::default()).unwrap();
    a.setattr(&SetAttr {
        perm: Some(0o600),
        uid: Some(7),
        gid: Some(8),
        size: Some(5000),
        ..SetAttr::default()
    })
    .unwrap();
    a.fallocate(vfs::FallocateMode::PunchHole, 1000..2000).unwrap();
    a.write(10_000, &mut SliceSource::new(b"tail")).unwrap();
    a.fsync(0..u64::MAX, Fsync::All).unwrap();
    for name in ["/e", "/d", "/dir/moved"] {
        fsync(&tree, name);
    }
    let list = |tree: &Tree| ["/a", "/d", "/e", "/dir/moved", "/dir/hard"].map(|p| tree.read(p).unwrap());
    // By other names, which the name cache has not seen: the operations above went past it.
    let tree = Tree::new(pools::root(&spa));
    let before = list(&tree);
    let ino = a.ino();
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    for (i, (now, then)) in list(&tree).iter().zip(&before).enumerate() {
        let first = now.iter().zip(then).position(|(a, b)| a != b);
        assert_eq!((now.len(), first), (then.len(), None), "{i}");
    }
    for gone in ["/b", "/c", "/gone"] {
        assert!(tree.find(gone).is_err(), "{gone}");
    }
    let attr = tree.find("/a").unwrap().vnode().getattr().unwrap();
    assert_eq!((attr.perm, attr.uid, attr.gid, attr.size, attr.nlink), (0o600, 7, 8, 10_004, 2));
    assert_eq!(attr.ino, ino);
    assert_eq!(tree.find("/dir").unwrap().vnode().getattr().unwrap().perm, 0o750);
}

#[test]
fn many_threads_share_their_writes() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    let tree = Arc::new(tree);
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let tree = tree.clone();
            std::thread::spawn(move || {
                for i in 0..40 {
                    let path = format!("/t{t}-{i}");
                    tree.write(&path, path.repeat(500).as_bytes()).unwrap();
                    fsync(&tree, &path);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let stats = fs.objset().zil().unwrap().stats();
    assert_eq!(stats.nr_commits, 8 * 40 + 1, "{stats:?}");
    drop(fs);
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    for (t, i) in (0..8).flat_map(|t| (0..40).map(move |i| (t, i))) {
        let path = format!("/t{t}-{i}");
        assert_eq!(tree.read(&path).unwrap(), path.repeat(500).as_bytes(), "{path}");
    }
}

#[test]
fn a_log_lives_through_many_groups() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let (spa, fs, tree) = ready(&disk);
    for round in 0..30u32 {
        tree.write("/file", &round.to_le_bytes().repeat(2000)).unwrap();
        fsync(&tree, "/file");
        if round % 3 == 0 {
            spa.sync().unwrap();
        }
    }
    assert_eq!(fs.objset().zil().unwrap().stats().nr_group_waits, 1);
    let (spa, tree) = after_power_cut(&disk, &spa, Crash::Random(7));
    assert_eq!(tree.read("/file").unwrap(), 29u32.to_le_bytes().repeat(2000));
    drop(tree);
    spa.export().unwrap();
}

/// One life: files are made, written, renamed and synced, groups close in between. Whenever an fsync has returned, its
/// file and content are noted.
fn life(disk: &Arc<MemDisk>, acked: &mut Vec<(String, Vec<u8>)>) -> vfs::Result<()> {
    let device: Arc<dyn blockdev::BlockDevice> = disk.clone();
    let options = zfs::spa::ImportOptions { force: true, ..Default::default() };
    let Ok(spa) = Spa::import(&[device], &options) else { return Err(vfs::Error::Io) };
    let result = work(&spa, acked);
    spa.abandon();
    result
}

fn work(spa: &Arc<Spa>, acked: &mut Vec<(String, Vec<u8>)>) -> vfs::Result<()> {
    let fs = zpl::mount(spa, "tank", &zpl::MountOptions::default()).map_err(|_| vfs::Error::Io)?;
    let tree = Tree::new(fs.clone());
    for i in 0..7u8 {
        let (temporary, path) = (format!("/tmp{i}"), format!("/file{}", i % 4));
        let content = vec![i; 3000 * usize::from(i) + 100];
        tree.write(&temporary, &content)?;
        let from = tree.from();
        tree.ns.rename_at(&from, temporary.as_bytes(), &from, path.as_bytes(), RenameMode::Replace)?;
        tree.open(&path, OpenFlags::READ)?.fsync(Fsync::All)?;
        acked.retain(|(p, _)| *p != path);
        acked.push((path, content));
        if i % 3 == 2 {
            spa.sync().map_err(|_| vfs::Error::Io)?;
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_write_keeps_what_was_acknowledged() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let disk = Arc::new(MemDisk::new(64 << 20));
    pools::create(&disk, |_| ()).export().unwrap();
    for cut in 0.. {
        let copy = Arc::new(disk.snapshot());
        let count = AtomicU64::new(0);
        copy.set_hook(Some(Arc::new(move |op| {
            let is_change = !matches!(op, blockdev::Op::Read { .. });
            (is_change && count.fetch_add(1, Ordering::SeqCst) >= cut).then_some(blockdev::Error::Gone)
        })));
        let mut acked = Vec::new();
        let is_done = life(&copy, &mut acked).is_ok();
        copy.set_hook(None);
        let survivor = Arc::new(copy.after_crash(Crash::Random(cut)));
        let spa = pools::import(&survivor);
        let tree = Tree::new(pools::root(&spa));
        for (path, content) in &acked {
            // A later round may have replaced it without being acknowledged: then it is that round's, as a whole.
            let found = tree.read(path).unwrap_or_else(|e| panic!("cut {cut}: {path}: {e}"));
            let round = found.first().copied().unwrap_or(0);
            let is_whole = found == vec![round; 3000 * usize::from(round) + 100];
            assert!(
                is_whole && round >= content[0],
                "cut {cut}: {path} of round {round}, {} bytes",
                found.len()
            );
        }
        let report = spa.verify(&mut |_| ()).unwrap();
        assert!(report.is_clean(), "cut {cut}: {report:?}");
        spa.abandon();
        if is_done {
            assert!(cut > 40, "{cut}");
            break;
        }
    }
}

#[test]
fn what_was_acknowledged_in_a_full_pool_is_replayed() {
    let disk = Arc::new(MemDisk::new(64 << 20));
    let (spa, fs, tree) = ready(&disk);
    let mut random = 1_u64;
    let mut piece = || {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        (0..100_000).map(|_| next()).collect::<Vec<u8>>()
    };
    tree.write("/a", b"").unwrap();
    let file = tree.open("/a", OpenFlags::WRITE | OpenFlags::APPEND).unwrap();
    let mut content = Vec::new();
    // Until nothing goes in any more, most of it in groups; then what is only in the log.
    while let Ok(n) = file.write(&mut SliceSource::new(&piece())) {
        content.resize(content.len() + n, 0);
    }
    file.vnode()
        .setattr(&SetAttr { size: Some(content.len() as u64 / 10 * 9), ..SetAttr::default() })
        .unwrap();
    // What was cut off is free once more groups were written.
    for nr in 0..4 {
        tree.write(&format!("/turn{nr}"), b"").unwrap();
        spa.sync().unwrap();
    }
    // As many as fit into the log of one group: the next that asks for space has the group written.
    let group = spa.txgs().open_txg();
    let mut acked: Vec<(String, Vec<u8>)> = Vec::new();
    let mut left = Arc::new(disk.snapshot());
    for nr in 0.. {
        let (name, bytes) = (format!("/file{nr}"), piece());
        if tree.write(&name, &bytes).is_err() || spa.txgs().open_txg() != group {
            break;
        }
        fsync(&tree, &name);
        if spa.txgs().open_txg() != group {
            break;
        }
        acked.push((name, bytes));
        left = Arc::new(disk.snapshot());
    }
    assert!(fs.objset().zil().unwrap().stats().nr_blocks > 0 && acked.len() > 2);
    let (_spa, tree) = after_power_cut(&left, &spa, Crash::DropAll);
    for (name, bytes) in acked {
        assert!(tree.read(&name).unwrap() == bytes, "{name}");
    }
}
