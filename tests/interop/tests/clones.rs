//! Shared blocks, judged by OpenZFS: tables that it made and we changed, tables that we made, and logs that clone.
use blockdev::BlockDevice;
use blockdev_host::{Crash, MemDisk};
use interop_tests::{Judged, unpack};
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{CloneMode, Fsync, OpenFlags, SliceSource};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions};

fn import(disk: &Arc<MemDisk>) -> Arc<Spa> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    let spa = Spa::import(&[device], &ImportOptions { force: true, ..ImportOptions::default() }).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    spa
}

fn assert_verified(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

fn tree(spa: &Arc<Spa>, dataset: &str) -> Tree {
    Tree::new(zpl::mount(spa, dataset, &MountOptions::default()).unwrap())
}

fn clone_file(from: (&Tree, &str), to: (&Tree, &str)) {
    let source = from.0.open(from.1, OpenFlags::READ).unwrap();
    let target = to.0.open(to.1, OpenFlags::WRITE | OpenFlags::CREATE).unwrap();
    let len = source.getattr().unwrap().size;
    assert_eq!(target.clone_range(0, &source, 0..len, CloneMode::Wait), Ok(len));
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The table as zdb prints it: entries, and nothing wrong with the rest of the pool.
fn judge(disk: &MemDisk, pool: &str) -> (Judged, String) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    disk.save(&image).unwrap();
    let judged = Judged::copy(&[&image], pool);
    judged.assert_clean();
    let (is_ok, table) = judged.zdb(&["-TTT"]);
    assert!(is_ok, "{table}");
    (judged, table)
}

#[test]
fn tables_of_openzfs_are_kept_up() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
    unpack(&data.join("brt/d0.img.zst"), &image);
    let disk = Arc::new(MemDisk::from_file(&image).unwrap());
    let spa = import(&disk);
    let figures = spa.storage().brt().figures();
    // `zpool list -o bcloneused,bclonesaved,bcloneratio`
    assert_eq!((figures.used, figures.saved, figures.ratio()), (289_280, 515_584, 278));
    let contents: Vec<Vec<u8>> = {
        let (a, x) = (tree(&spa, "brt"), tree(&spa, "brt/x"));
        clone_file((&a, "/c1"), (&x, "/again"));
        clone_file((&x, "/c2"), (&a, "/back"));
        clone_file((&a, "/c3"), (&a, "/c5"));
        a.open("/c5", OpenFlags::WRITE).unwrap().write_at(9, &mut SliceSource::new(b"ours")).unwrap();
        a.ns.unlink_at(&a.from(), b"/c1").unwrap();
        ["/c4", "/back", "/c5"]
            .iter()
            .map(|p| a.read(p).unwrap())
            .chain([x.read("/again").unwrap()])
            .collect()
    };
    spa.sync().unwrap();
    assert_verified(&spa);
    spa.export().unwrap();
    let (judged, table) = judge(&disk, "brt");
    assert!(table.contains("refcnt"), "{table}");
    judged.assert_openzfs_writes();
    let spa = import(&disk);
    let (a, x) = (tree(&spa, "brt"), tree(&spa, "brt/x"));
    let read = [a.read("/c4"), a.read("/back"), a.read("/c5"), x.read("/again")];
    assert!(read.into_iter().map(Result::unwrap).eq(contents));
    // Everything that shares goes: the table goes with it.
    for (tree, names) in [(&a, &["/orig", "/back", "/c3", "/c4", "/c5"][..]), (&x, &["/c2"][..])] {
        for name in names {
            tree.ns.unlink_at(&tree.from(), name.as_bytes()).unwrap();
        }
        let fs = tree.find("/").unwrap().vnode().fs();
        fs.sync().unwrap();
        fs.sync().unwrap();
    }
    drop((a, x));
    assert_verified(&spa);
    assert_eq!(spa.storage().brt().figures().used, 0);
    spa.export().unwrap();
    let (_, table) = judge(&disk, "brt");
    assert!(!table.contains("refcnt"), "{table}");
}

fn create(disk: &Arc<MemDisk>) -> Arc<Spa> {
    let device: Arc<dyn BlockDevice> = disk.clone();
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    let mut spec = PoolSpec::new("tank");
    spec.root_properties = vec![(Property::RecordSize, PropertyValue::Number(8192))];
    let fill = CreateOptions::default();
    Spa::create(vec![vdev], &spec, &mut |tx, objset| zpl::create_fs(tx, objset, &fill)).unwrap()
}

#[test]
fn tables_of_ours_are_faultless() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    {
        let t = tree(&spa, "tank");
        for i in 0..8 {
            t.write(&format!("/f{i}"), &noise(300_000 + i * 1000, i as u64)).unwrap();
        }
        spa.sync().unwrap();
        for i in 0..8 {
            for copy in 0..=i {
                clone_file((&t, &format!("/f{i}")), (&t, &format!("/c{i}-{copy}")));
            }
            if i == 4 {
                spa.snapshot(&["tank@s"], false, &[]).unwrap();
            }
        }
        for i in 0..4 {
            t.ns.unlink_at(&t.from(), format!("/f{i}").as_bytes()).unwrap();
        }
    }
    spa.sync().unwrap();
    assert_verified(&spa);
    spa.export().unwrap();
    let (judged, table) = judge(&disk, "tank");
    assert!(table.contains("refcnt"), "{table}");
    judged.assert_openzfs_writes();
    let spa = import(&disk);
    spa.destroy_snapshots(&["tank@s"], false).unwrap();
    spa.sync().unwrap();
    assert_verified(&spa);
    spa.export().unwrap();
    judge(&disk, "tank");
}

/// OpenZFS claims a log of ours that clones; what it claimed, we replay.
#[test]
fn a_claimed_log_of_clones_changes_hands() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let content = noise(200_000, 1);
    let t = tree(&spa, "tank");
    t.write("/file", &content).unwrap();
    let fsync = |path: &str| t.open(path, OpenFlags::READ).unwrap().fsync(Fsync::All).unwrap();
    fsync("/file");
    spa.sync().unwrap();
    clone_file((&t, "/file"), (&t, "/copy"));
    fsync("/copy");
    let survivor = disk.after_crash(Crash::DropAll);
    spa.abandon();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    survivor.save(&image).unwrap();
    let judged = Judged::copy(&[&image], "tank");
    judged.assert_openzfs_writes();
    let disk = Arc::new(MemDisk::from_file(&judged.image(0)).unwrap());
    let spa = import(&disk);
    assert_verified(&spa);
    let t = tree(&spa, "tank");
    assert!(t.read("/copy").unwrap() == content);
    drop(t);
    spa.sync().unwrap();
    assert_verified(&spa);
    let figures = spa.storage().brt().figures();
    assert_eq!(figures.used, figures.saved);
    spa.export().unwrap();
    judge(&disk, "tank");
}
