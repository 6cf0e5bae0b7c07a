//! Logs of ours that nobody has replayed, judged, claimed and (by ours again) replayed.
use blockdev::BlockDevice;
use blockdev_host::{Crash, MemDisk};
use interop_tests::Judged;
use rt_std as _;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{Fsync, OpenFlags, SliceSource, XattrMode};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions, ZplFs, create_fs, mount};

/// A pool with a mounted file system whose log has its first block.
fn ready(disk: &Arc<MemDisk>, change: impl FnOnce(&mut PoolSpec)) -> (Arc<Spa>, Arc<ZplFs>, Tree) {
    let mut spec = PoolSpec::new("tank");
    change(&mut spec);
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    let spa =
        Spa::create(vec![vdev], &spec, &mut |tx, objset| create_fs(tx, objset, &CreateOptions::default()))
            .unwrap();
    let fs = mount(&spa, "tank", &MountOptions::default()).unwrap();
    let tree = Tree::new(fs.clone());
    tree.write("/warm", b"up").unwrap();
    fsync(&tree, "/warm");
    (spa, fs, tree)
}

fn fsync(tree: &Tree, path: &str) {
    tree.open(path, OpenFlags::READ).unwrap().fsync(Fsync::All).unwrap();
}

/// A copy of what a power cut leaves.
fn cut(disk: &MemDisk, spa: &Spa) -> Judged {
    let survivor = disk.after_crash(Crash::DropAll);
    spa.abandon();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    survivor.save(&path).unwrap();
    Judged::copy(&[&path], "tank")
}

/// How many records of a kind zdb counts in the logs.
fn nr_records(text: &str, kind: &str) -> u64 {
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix(kind)?.trim().parse::<u64>().ok());
    counts.sum()
}

/// Imports the image and mounts it: the log is replayed.
fn replayed(judged: &Judged) -> (Arc<Spa>, Tree) {
    let device: Arc<dyn BlockDevice> = Arc::new(MemDisk::from_file(&judged.image(0)).unwrap());
    let options = ImportOptions { force: true, ..ImportOptions::default() };
    let spa = Spa::import(&[device], &options).unwrap();
    let tree = Tree::new(mount(&spa, "tank", &MountOptions::default()).unwrap());
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    (spa, tree)
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Extended attributes, and large writes: whole, changed again in the same group, freed in it, compressed, all zeroes.
#[test]
fn logs_of_ours_are_openzfs_s() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let (spa, fs, tree) = ready(&disk, |_| ());
    tree.write("/file", b"content").unwrap();
    let file = tree.find("/file").unwrap().vnode().clone();
    file.setxattr(b"user.name", b"value", XattrMode::Any).unwrap();
    file.setxattr(b"user.gone", b"value", XattrMode::Any).unwrap();
    file.removexattr(b"user.gone").unwrap();
    fsync(&tree, "/file");
    let mut large = noise(1_000_000, 1);
    large[200_000..500_000].fill(0);
    large[500_000..700_000].fill(b'x');
    tree.write("/large", &large).unwrap();
    fsync(&tree, "/large");
    let patch = noise(150_000, 2);
    tree.find("/large").unwrap().vnode().write(20_000, &mut SliceSource::new(&patch)).unwrap();
    large[20_000..170_000].copy_from_slice(&patch);
    tree.write("/freed", &noise(400_000, 3)).unwrap();
    for path in ["/large", "/freed"] {
        fsync(&tree, path);
    }
    tree.ns.unlink_at(&tree.from(), b"/freed").unwrap();
    fsync(&tree, "/large");
    assert_eq!(fs.objset().zil().unwrap().stats().nr_group_waits, 1);
    let judged = cut(&disk, &spa);
    judged.assert_clean();
    let (is_ok, text) = judged.zdb(&["-ivv"]);
    assert!(is_ok && nr_records(&text, "TX_SETSAXATTR") == 3 && nr_records(&text, "TX_WRITE") > 10, "{text}");
    // OpenZFS claims the log; ours replays what it claimed.
    judged.assert_openzfs_writes();
    let (spa, tree) = replayed(&judged);
    assert_eq!(tree.read("/file").unwrap(), b"content");
    assert!(tree.read("/large").unwrap() == large);
    assert!(tree.find("/freed").is_err());
    let file = tree.find("/file").unwrap().vnode().clone();
    assert_eq!(file.getxattr(b"user.name").unwrap(), b"value");
    assert!(file.getxattr(b"user.gone").is_err());
    spa.export().unwrap();
}

/// A group whose blocks were written ahead is on disk, and a log with records of the next one beside it.
#[test]
fn groups_whose_blocks_were_written_ahead_are_faultless() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let (spa, _fs, tree) = ready(&disk, |_| ());
    let large = noise(900_000, 4);
    for round in 0..4u64 {
        tree.write("/large", &large[..600_000 + 100_000 * round as usize]).unwrap();
        fsync(&tree, "/large");
        tree.write("/other", &noise(300_000, round)).unwrap();
        fsync(&tree, "/other");
        tree.write("/other", &noise(200_000, round + 10)).unwrap();
        if round < 3 {
            spa.sync().unwrap();
        }
    }
    let judged = cut(&disk, &spa);
    judged.assert_clean();
    let (spa, tree) = replayed(&judged);
    assert!(tree.read("/large").unwrap() == large);
    spa.export().unwrap();
}
