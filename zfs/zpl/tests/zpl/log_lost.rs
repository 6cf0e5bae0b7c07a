//! Log devices that go away, and states that are gone back to.
use crate::log::fsync;
use blockdev::BlockDevice;
use blockdev_host::{Crash, MemDisk};
use std::sync::Arc;
use vfs::test_support::Tree;
use zfs::Error;
use zfs::spa::{ImportOptions, PoolSpec, Purpose, Spa, TopKind, TopSpec, VdevSpec};
use zpl::{CreateOptions, MountOptions, create_fs, mount};

/// A data disk and log devices, which form a mirror if they are several.
struct Pool {
    disks: Vec<Arc<MemDisk>>,
    spa: Arc<Spa>,
    tree: Tree,
}

fn tree_of(spa: &Arc<Spa>) -> Tree {
    Tree::new(mount(spa, "tank", &MountOptions::default()).unwrap())
}

/// Opens the pool, and waits until a device that was away is up to date: no groups are written by themselves then.
fn import(disks: &[Arc<MemDisk>], without_logs: bool) -> zfs::Result<Arc<Spa>> {
    let devices: Vec<_> = disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect();
    let options = ImportOptions { force: true, without_logs, ..ImportOptions::default() };
    let spa = Spa::import(&devices, &options)?;
    spa.scan_wait(std::time::Duration::from_millis(5), &mut |_| ());
    spa.sync()?;
    Ok(spa)
}

fn assert_clean(spa: &Spa) {
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

impl Pool {
    fn new(nr_logs: usize) -> Self {
        let disks: Vec<_> = (0..=nr_logs).map(|_| Arc::new(MemDisk::new(128 << 20))).collect();
        let vdev =
            |n: usize| VdevSpec { device: disks[n].clone(), path: format!("/dev/disk{n}"), is_file: false };
        let kind = if nr_logs > 1 { TopKind::Mirror } else { TopKind::Disk };
        let log = TopSpec { kind, purpose: Purpose::Log, devices: (1..=nr_logs).map(vdev).collect() };
        let tops = vec![TopSpec::from(vdev(0)), log];
        let spa = Spa::create(tops, &PoolSpec::new("tank"), &mut |tx, objset| {
            create_fs(tx, objset, &CreateOptions::default())
        })
        .unwrap();
        let tree = tree_of(&spa);
        tree.write("/warm", b"up").unwrap();
        fsync(&tree, "/warm");
        tree.write("/logged", b"acknowledged").unwrap();
        fsync(&tree, "/logged");
        Self { disks, spa, tree }
    }

    /// The disks after a power cut.
    fn cut(self) -> Vec<Arc<MemDisk>> {
        let disks = self.disks.iter().map(|d| Arc::new(d.after_crash(Crash::DropAll))).collect();
        drop(self.tree);
        self.spa.abandon();
        disks
    }
}

#[test]
fn a_pool_opens_without_its_lost_log_only_when_told_to() {
    let disks = Pool::new(1).cut();
    assert_eq!(import(&disks[..1], false).map(drop), Err(Error::MissingLog));
    let spa = import(&disks[..1], true).unwrap();
    let tree = tree_of(&spa);
    assert_eq!(tree.read("/warm").unwrap(), b"up");
    assert!(tree.find("/logged").is_err(), "the log had it, and nothing else");
    // It goes on without: logs lie on the data disk now.
    for name in ["/a", "/b"] {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    assert_clean(&spa);
    drop(tree);
    spa.export().unwrap();
    assert_eq!(import(&disks[..1], false).map(drop), Err(Error::MissingLog), "it still belongs to the pool");
    let spa = import(&disks[..1], true).unwrap();
    let log = spa.vdevs()[1].guid;
    spa.remove(log).unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
    let spa = import(&disks[..1], false).unwrap();
    assert_eq!(tree_of(&spa).read("/b").unwrap(), b"/b");
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn a_log_that_comes_back_is_part_of_the_pool_again() {
    let disks = Pool::new(1).cut();
    let spa = import(&disks[..1], true).unwrap();
    let tree = tree_of(&spa);
    tree.write("/new", b"new").unwrap();
    spa.sync().unwrap();
    drop(tree);
    spa.export().unwrap();
    let spa = import(&disks, false).unwrap();
    let tree = tree_of(&spa);
    // What was given up stays so.
    assert!(tree.find("/logged").is_err());
    for name in ["/a", "/b"] {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    assert_clean(&spa);
    let disks: Vec<_> = disks.iter().map(|d| Arc::new(d.after_crash(Crash::DropAll))).collect();
    drop(tree);
    spa.abandon();
    let spa = import(&disks, false).unwrap();
    let tree = tree_of(&spa);
    assert_eq!((tree.read("/b").unwrap(), tree.read("/new").unwrap()), (b"/b".to_vec(), b"new".to_vec()));
    assert_clean(&spa);
}

#[test]
fn a_mirrored_log_bears_the_loss_of_a_side() {
    for lost in [1, 2] {
        let mut disks = Pool::new(2).cut();
        disks.remove(lost);
        let spa = import(&disks, false).unwrap();
        let tree = tree_of(&spa);
        assert_eq!(tree.read("/logged").unwrap(), b"acknowledged");
        tree.write("/more", b"more").unwrap();
        fsync(&tree, "/more");
        assert_clean(&spa);
        drop(tree);
        spa.export().unwrap();
    }
}

#[test]
fn a_log_is_removed_only_when_nothing_is_left_to_replay() {
    let disks = Pool::new(1).cut();
    let spa = import(&disks, false).unwrap();
    let log = spa.vdevs()[1].guid;
    assert_eq!(spa.remove(log), Err(Error::Busy), "what it holds is not replayed yet");
    let tree = tree_of(&spa);
    assert_eq!(tree.read("/logged").unwrap(), b"acknowledged");
    // In use: its chains end, and begin again elsewhere.
    for name in ["/a", "/b"] {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    spa.remove(log).unwrap();
    for name in ["/c", "/d"] {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    assert_clean(&spa);
    let disk = Arc::new(disks[0].after_crash(Crash::DropAll));
    drop(tree);
    spa.abandon();
    let spa = import(&[disk], false).unwrap();
    let tree = tree_of(&spa);
    for name in ["/a", "/b", "/c", "/d"] {
        assert_eq!(tree.read(name).unwrap(), name.as_bytes());
    }
    assert_clean(&spa);
}

/// The new pool gets no log vdev, and misses nothing that was in one.
#[test]
fn a_pool_is_split_while_its_log_is_in_use() {
    let disks: Vec<_> = (0..3).map(|_| Arc::new(MemDisk::new(128 << 20))).collect();
    let vdev =
        |n: usize| VdevSpec { device: disks[n].clone(), path: format!("/dev/disk{n}"), is_file: false };
    let tops = vec![
        TopSpec { kind: TopKind::Mirror, purpose: Purpose::Data, devices: vec![vdev(0), vdev(1)] },
        TopSpec { kind: TopKind::Disk, purpose: Purpose::Log, devices: vec![vdev(2)] },
    ];
    let spa = Spa::create(tops, &PoolSpec::new("tank"), &mut |tx, objset| {
        create_fs(tx, objset, &CreateOptions::default())
    })
    .unwrap();
    let tree = tree_of(&spa);
    let names = ["/a", "/b", "/c"];
    for name in names {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    let other = spa.split("other", &[]).unwrap();
    tree.write("/later", b"here").unwrap();
    fsync(&tree, "/later");
    let copy = Tree::new(mount(&other, "other", &MountOptions::default()).unwrap());
    for name in names {
        assert_eq!(copy.read(name).unwrap(), name.as_bytes());
    }
    assert!(copy.read("/later").is_err());
    assert_clean(&other);
    assert_clean(&spa);
    drop((tree, copy));
    spa.abandon();
    other.abandon();
}

/// What was logged after the checkpoint belongs to groups that are given up.
#[test]
fn going_back_to_a_checkpoint_empties_logs() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = crate::pools::create(&disk, |_| ());
    let tree = tree_of(&spa);
    for name in ["/a", "/b"] {
        tree.write(name, name.as_bytes()).unwrap();
        fsync(&tree, name);
    }
    spa.checkpoint().unwrap();
    tree.write("/later", &[7; 200_000]).unwrap();
    fsync(&tree, "/later");
    let disk = Arc::new(disk.after_crash(Crash::DropAll));
    drop(tree);
    spa.abandon();
    let device: Arc<dyn BlockDevice> = disk.clone();
    let options = ImportOptions { force: true, rewind_to_checkpoint: true, ..ImportOptions::default() };
    let spa = Spa::import(&[device], &options).unwrap();
    let tree = tree_of(&spa);
    assert_eq!(tree.read("/b").unwrap(), b"/b");
    assert!(tree.find("/later").is_err());
    assert_clean(&spa);
    spa.sync().unwrap();
    assert_clean(&spa);
}
