//! Shared blocks between us and OpenZFS's kernel module, in turn on one pool, and logs that clone, replayed by the other.
//!
//! Needs a virtual machine for the kernel module, which takes minutes, so it is built only with the feature `slow`.
use blockdev::BlockDevice;
use blockdev_host::{Crash, FileDisk, MemDisk};
use interop_tests::{Judged, in_linux};
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{CloneMode, Fsync, OpenFlags};
use zfs::spa::{ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions};

fn create(device: Arc<dyn BlockDevice>) -> Arc<Spa> {
    let vdev = VdevSpec { device, path: "/dev/vda".into(), is_file: false };
    let fill = CreateOptions::default();
    let spa =
        Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |tx, objset| zpl::create_fs(tx, objset, &fill));
    let spa = spa.unwrap();
    spa.create_dataset("tank/b", &[], &mut |tx, objset| zpl::create_fs(tx, objset, &fill)).unwrap();
    spa
}

fn import(path: &Path) -> Arc<Spa> {
    let options = ImportOptions { force: true, ..ImportOptions::default() };
    let device: Arc<dyn BlockDevice> = Arc::new(FileDisk::open(path).unwrap());
    let spa = Spa::import(&[device], &options).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    spa
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

fn verified(spa: &Arc<Spa>) {
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn both_share_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    std::fs::File::create(&image).unwrap().set_len(192 << 20).unwrap();
    let content = noise(3_000_000);
    let spa = create(Arc::new(FileDisk::open(&image).unwrap()));
    {
        let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
        a.write("/file", &content).unwrap();
        clone_file((&a, "/file"), (&a, "/one"));
        clone_file((&a, "/one"), (&b, "/two"));
        // The file system would hold the pool, and with it the image.
        [a, b].iter().for_each(|tree| tree.ns.unmount_all().unwrap());
    }
    verified(&spa);
    spa.export().unwrap();
    drop(spa);
    in_linux(
        "set -e; echo 1 > /sys/module/zfs/parameters/zfs_bclone_enabled
             zpool import -f -d /dev/oracle -R /a tank
             cmp /a/tank/file /a/tank/one; cmp /a/tank/file /a/tank/b/two
             zpool list -Hp -o bcloneused,bclonesaved,bcloneratio tank
             cp --reflink=always /a/tank/one /a/tank/three; cp --reflink=always /a/tank/b/two /a/tank/b/four
             rm /a/tank/file; printf ours | dd of=/a/tank/one bs=1 seek=500000 conv=notrunc 2>/dev/null
             zpool sync tank; zpool scrub -w tank; zpool status tank | grep 'with 0 errors'; zpool export tank",
        &[&image],
    );
    Judged::copy(&[&image], "tank").assert_clean();
    let spa = import(&image);
    verified(&spa);
    {
        let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
        for copy in [a.read("/three"), b.read("/two"), b.read("/four")] {
            assert!(copy.unwrap() == content);
        }
        let mut changed = content.clone();
        changed[500_000..][..4].copy_from_slice(b"ours");
        assert!(a.read("/one").unwrap() == changed);
        clone_file((&b, "/four"), (&a, "/five"));
        a.ns.unlink_at(&a.from(), b"/three").unwrap();
    }
    verified(&spa);
    spa.export().unwrap();
    Judged::copy(&[&image], "tank").assert_clean();
}

#[test]
fn logs_that_clone_are_replayed_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("d0.img");
    let content = noise(1_000_000);
    // Ours, by OpenZFS.
    let disk = Arc::new(MemDisk::new(192 << 20));
    let spa = create(disk.clone());
    let a = tree(&spa, "tank");
    a.write("/file", &content).unwrap();
    let fsync = |path: &str| a.open(path, OpenFlags::READ).unwrap().fsync(Fsync::All).unwrap();
    fsync("/file");
    spa.sync().unwrap();
    clone_file((&a, "/file"), (&a, "/copy"));
    fsync("/copy");
    disk.after_crash(Crash::DropAll).save(&image).unwrap();
    spa.abandon();
    drop((a, spa));
    // And its own, for us: the power is cut with the clone in the log only.
    in_linux(
        "set -e; . /lib/oracle.sh; echo 1 > /sys/module/zfs/parameters/zfs_bclone_enabled
             zpool import -f -d /dev/oracle -R /a tank
             cmp /a/tank/file /a/tank/copy
             zpool sync tank; zpool scrub -w tank; zpool status tank | grep 'with 0 errors'
             echo 3600 > /sys/module/zfs/parameters/zfs_txg_timeout
             dd if=/dev/urandom of=/a/tank/b/prime bs=100 count=1 conv=fsync 2>/dev/null; zpool sync tank; zpool sync tank
             cp --reflink=always /a/tank/copy /a/tank/logged; sync /a/tank/logged
             hard_kill 0",
        &[&image],
    );
    let spa = import(&image);
    verified(&spa);
    assert!(tree(&spa, "tank").read("/logged").unwrap() == content);
    verified(&spa);
    spa.export().unwrap();
    Judged::copy(&[&image], "tank").assert_clean();
}
