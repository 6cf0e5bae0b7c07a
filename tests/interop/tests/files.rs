//! Pools with file systems of ours on them, judged by OpenZFS.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use interop_tests::Judged;
use rt_std as _;
use std::path::PathBuf;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::test_support::model::{Model, Op, op, run_ops};
use vfs::{NewNode, OpenFlags, SetAttr, SliceSource, XattrMode};
use zfs::spa::{Compatibility, ImportOptions, PoolSpec, Spa, VdevSpec};
use zpl::{CreateOptions, MountOptions};

struct Pool {
    disk: Arc<MemDisk>,
    spa: Arc<Spa>,
}

impl Pool {
    fn create(size: u64, spec: &PoolSpec, has_projects: bool) -> Self {
        let disk = Arc::new(MemDisk::new(size));
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
        let options = CreateOptions { has_projects, ..CreateOptions::default() };
        let spa = Spa::create(vec![vdev], spec, &mut |tx, os| zpl::create_fs(tx, os, &options)).unwrap();
        Self { disk, spa }
    }

    fn tree(&self) -> Tree {
        Tree::new(zpl::mount(&self.spa, "tank", &MountOptions::default()).unwrap())
    }

    /// Exports, has OpenZFS look, and opens it again.
    fn judge(&mut self, tree: Tree) {
        tree.ns.unmount_all().unwrap();
        drop(tree);
        self.spa.export().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("d0.img");
        self.disk.save(&path).unwrap();
        let judged = Judged::copy(&[&path], "tank");
        judged.assert_clean();
        judged.assert_openzfs_writes();
        let device: Arc<dyn BlockDevice> = self.disk.clone();
        self.spa = Spa::import(&[device], &ImportOptions::default()).unwrap();
    }
}

/// A bit of everything a file system can hold.
fn fill(t: &Tree) {
    let from = t.from();
    for dir in ["/d", "/d/e", "/d/e/f"] {
        t.ns.create_at(&from, dir.as_bytes(), NewNode::Directory, 0o755).unwrap();
    }
    for i in 0..3000 {
        t.write(&format!("/d/file-{i}"), format!("content {i}").repeat(i % 50).as_bytes()).unwrap();
    }
    let big: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    t.write("/big", &big).unwrap();
    t.ns.create_at(&from, b"/link", NewNode::Symlink(b"d/file-1"), 0o777).unwrap();
    t.ns.create_at(&from, b"/long", NewNode::Symlink("x/".repeat(500).as_bytes()), 0o777).unwrap();
    t.ns.create_at(&from, b"/fifo", NewNode::Fifo, 0o600).unwrap();
    let id = vfs::DeviceId { major: 8, minor: 1 };
    t.ns.create_at(&from, b"/blk", NewNode::BlockDevice(id), 0o660).unwrap();
    let a = t.find("/d/file-7").unwrap();
    t.ns.link_at(&a, &from, b"/d/e/hard").unwrap();
    a.vnode().setxattr(b"user.small", b"1", XattrMode::Any).unwrap();
    a.vnode().setxattr(b"user.large", &[3; 9000], XattrMode::Any).unwrap();
    a.vnode()
        .setattr(&SetAttr { uid: Some(1000), gid: Some(100), perm: Some(0o707), ..SetAttr::default() })
        .unwrap();
    let sparse = t.open("/sparse", OpenFlags::WRITE | OpenFlags::CREATE).unwrap();
    sparse.write_at(1 << 33, &mut SliceSource::new(&[1; 100])).unwrap();
    sparse.write_at(1 << 20, &mut SliceSource::new(&[1; 10_000])).unwrap();
}

fn empty(t: &Tree) {
    for i in (0..3000).filter(|i| i % 3 != 0) {
        t.ns.unlink_at(&t.from(), format!("/d/file-{i}").as_bytes()).unwrap();
    }
    let big = t.find("/big").unwrap();
    big.vnode().setattr(&SetAttr { size: Some(1_000_001), ..SetAttr::default() }).unwrap();
    big.vnode().fallocate(vfs::FallocateMode::PunchHole, 100_000..700_000).unwrap();
    t.ns.unlink_at(&t.from(), b"/sparse").unwrap();
    let hard = t.find("/d/e/hard").unwrap();
    hard.vnode().removexattr(b"user.large").unwrap();
    t.ns.rename_at(&t.from(), b"/d/e", &t.from(), b"/moved", vfs::RenameMode::Replace).unwrap();
}

#[test]
fn a_bit_of_everything_is_faultless() {
    for (compatibility, has_projects) in
        [(Compatibility::Full, true), (Compatibility::Grub2, false), (Compatibility::OpenZfs20Linux, true)]
    {
        println!("{compatibility:?}");
        let spec = PoolSpec { compatibility, ..PoolSpec::new("tank") };
        let mut pool = Pool::create(256 << 20, &spec, has_projects);
        let tree = pool.tree();
        fill(&tree);
        pool.judge(tree);
        let tree = pool.tree();
        assert_eq!(tree.read("/d/file-8").unwrap(), "content 8".repeat(8).as_bytes());
        empty(&tree);
        pool.judge(tree);
        let tree = pool.tree();
        assert_eq!(tree.list("/d").unwrap().len(), 1000);
        pool.judge(tree);
    }
}

#[test]
fn random_operations_leave_faultless_pools() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let rounds = proptest::collection::vec(op(), 200..400);
    let mut pool = Pool::create(256 << 20, &PoolSpec::new("tank"), true);
    let mut model = Model::default();
    for _ in 0..3 {
        let ops: Vec<Op> = rounds.new_tree(&mut runner).unwrap().current();
        let tree = pool.tree();
        model.compare(&tree).unwrap();
        run_ops(&tree, &mut model, &ops).unwrap();
        model.compare(&tree).unwrap();
        pool.judge(tree);
    }
}

#[test]
fn grub_reads_what_we_write() {
    let spec = PoolSpec { compatibility: Compatibility::Grub2, ..PoolSpec::new("tank") };
    let pool = Pool::create(128 << 20, &spec, false);
    let tree = pool.tree();
    let text = "a line of text\n".repeat(20_000);
    tree.ns.create_at(&tree.from(), b"/boot", NewNode::Directory, 0o755).unwrap();
    tree.write("/boot/text", text.as_bytes()).unwrap();
    tree.write("/boot/small", b"small").unwrap();
    tree.ns.unmount_all().unwrap();
    drop(tree);
    pool.spa.export().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d0.img");
    pool.disk.save(&path).unwrap();
    let judged = Judged::copy(&[&path], "tank");
    assert_eq!(judged.grub_cat("", "/boot/small"), b"small");
    assert_eq!(judged.grub_cat("", "/boot/text"), text.as_bytes());
}
