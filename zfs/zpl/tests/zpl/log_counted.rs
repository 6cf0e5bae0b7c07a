//! What a request to make something durable costs the device, and what it must not cost.
use crate::log::{fsync, ready};
use crate::pools;
use blockdev_host::MemDisk;
use std::sync::Arc;
use std::time::Duration;
use vfs::test_support::Tree;
use vfs::{Fsync, OpenFlags, SetAttr, SliceSource};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::Spa;
use zpl::ZplFs;

struct Counted {
    disk: Arc<MemDisk>,
    spa: Arc<Spa>,
    fs: Arc<ZplFs>,
    tree: Tree,
}

impl Counted {
    fn new() -> Self {
        let disk = Arc::new(MemDisk::new(256 << 20));
        let (spa, fs, tree) = ready(&disk);
        spa.sync().unwrap();
        Self { disk, spa, fs, tree }
    }

    fn set_sync(&self, mode: u64) {
        self.spa.set_property("tank", &Property::Sync, &PropertyValue::Number(mode)).unwrap();
        self.fs.reload_properties().unwrap();
        // The property's own group, and the first commit after it, are not what is counted.
        self.spa.sync().unwrap();
        self.tree.write("/settled", b"x").unwrap();
        fsync(&self.tree, "/settled");
        self.spa.sync().unwrap();
    }

    /// The device's writes and flushes while `f` ran, in which no group was written.
    fn cost(&self, f: impl FnOnce()) -> (u64, u64) {
        let (before, group) = (self.disk.stats(), self.spa.txgs().open_txg());
        f();
        let after = self.disk.stats();
        assert_eq!(self.spa.txgs().open_txg(), group, "a group was written meanwhile");
        (after.writes - before.writes, after.flushes - before.flushes)
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Arc<vfs::File> {
        self.tree.open(path, flags).unwrap()
    }
}

#[test]
fn an_fsync_is_one_write_and_one_flush() {
    let c = Counted::new();
    c.tree.write("/file", b"").unwrap();
    let file = c.open("/file", OpenFlags::WRITE | OpenFlags::APPEND);
    file.fsync(Fsync::All).unwrap();
    for what in [Fsync::All, Fsync::Data] {
        assert_eq!(c.cost(|| _ = file.write(&mut SliceSource::new(&[1; 4096])).unwrap()), (0, 0));
        assert_eq!(c.cost(|| file.fsync(what).unwrap()), (1, 1));
        // Nothing new: nothing to do.
        assert_eq!(c.cost(|| file.fsync(what).unwrap()), (0, 0));
    }
    let create = || {
        c.tree.write("/new", &[2; 10 << 10]).unwrap();
        fsync(&c.tree, "/new");
    };
    assert_eq!(c.cost(create), (1, 1));
}

#[test]
fn a_file_opened_for_it_is_durable_with_each_write() {
    let c = Counted::new();
    for flags in [OpenFlags::SYNC, OpenFlags::DSYNC] {
        c.tree.write("/file", b"").unwrap();
        fsync(&c.tree, "/file");
        let file = c.open("/file", OpenFlags::WRITE | flags);
        for _ in 0..3 {
            assert_eq!(c.cost(|| _ = file.write(&mut SliceSource::new(&[3; 1000])).unwrap()), (1, 1));
        }
        // pwrite, and pwritev2 with RWF_APPEND.
        assert_eq!(c.cost(|| _ = file.write_at(500, &mut SliceSource::new(&[4; 1000])).unwrap()), (1, 1));
        assert_eq!(c.cost(|| _ = file.append(&mut SliceSource::new(&[5; 1000])).unwrap()), (1, 1));
        let size = file.vnode().getattr().unwrap().size;
        assert_eq!((size, file.offset()), (4000, 3000));
    }
}

/// What pwritev2 with RWF_DSYNC, sync_file_range with SYNC_FILE_RANGE_WAIT_AFTER and msync with MS_SYNC ask for once the
/// content is the file's.
#[test]
fn a_range_that_is_made_durable_costs_what_an_fsync_costs() {
    let c = Counted::new();
    c.tree.write("/file", &[1; 40_000]).unwrap();
    fsync(&c.tree, "/file");
    let file = c.open("/file", OpenFlags::READ | OpenFlags::WRITE);
    for (at, len) in [(0, 4096), (8192, 1), (36_864, 3136)] {
        assert_eq!(c.cost(|| _ = file.write_at(at, &mut SliceSource::new(&vec![2; len])).unwrap()), (0, 0));
        let range = at..at + len as u64;
        assert_eq!(c.cost(|| file.vnode().fsync(range.clone(), Fsync::Data).unwrap()), (1, 1));
        assert_eq!(c.cost(|| file.vnode().fsync(range.clone(), Fsync::Data).unwrap()), (0, 0));
    }
}

#[test]
fn with_sync_always_every_change_is_in_the_log_when_its_call_returns() {
    let c = Counted::new();
    c.set_sync(1);
    assert_eq!(c.cost(|| drop(c.open("/file", OpenFlags::WRITE | OpenFlags::CREATE))), (1, 1));
    let file = c.open("/file", OpenFlags::WRITE);
    assert_eq!(c.cost(|| _ = file.write(&mut SliceSource::new(b"content")).unwrap()), (1, 1));
    let perm = SetAttr { perm: Some(0o600), ..SetAttr::default() };
    assert_eq!(c.cost(|| file.vnode().setattr(&perm).unwrap()), (1, 1));
    let from = c.tree.from();
    let rename = || c.tree.ns.rename_at(&from, b"/file", &from, b"/moved", vfs::RenameMode::Replace).unwrap();
    assert_eq!(c.cost(rename), (1, 1));
    assert_eq!(c.cost(|| c.tree.ns.unlink_at(&from, b"/moved").unwrap()), (1, 1));
}

#[test]
fn with_sync_disabled_nothing_is_written() {
    let c = Counted::new();
    c.set_sync(2);
    let create = || {
        c.tree.write("/file", &[4; 100_000]).unwrap();
        fsync(&c.tree, "/file");
        let file = c.open("/file", OpenFlags::WRITE | OpenFlags::SYNC);
        file.write(&mut SliceSource::new(b"x")).unwrap();
    };
    assert_eq!(c.cost(create), (0, 0));
}

/// A commit whose log block cannot be written or flushed waits for its group: it is durable, or it says that it is not.
#[test]
fn a_failed_log_write_is_not_taken_for_done() {
    use blockdev::{Error, Op};
    use std::sync::Mutex;
    for fails_flush in [false, true] {
        let c = Counted::new();
        c.tree.write("/file", b"acknowledged").unwrap();
        // The first write that comes is the log block's: it fails however often it is tried. Or the first flush.
        let failing = Mutex::new(None);
        c.disk.set_hook(Some(Arc::new(move |op| {
            let mut failing = failing.lock().unwrap();
            match op {
                Op::Write { offset, .. } if !fails_flush => {
                    (*failing.get_or_insert(*offset) == *offset).then_some(Error::Io)
                }
                Op::Flush if fails_flush && failing.is_none() => {
                    *failing = Some(0);
                    Some(Error::Io)
                }
                _ => None,
            }
        })));
        let waits = || c.fs.objset().zil().unwrap().stats().nr_group_waits;
        let before = waits();
        let is_durable = c.open("/file", OpenFlags::READ).fsync(Fsync::All).is_ok();
        assert_eq!(waits(), before + 1);
        assert!(is_durable, "the pool goes on after that");
        let survivor = Arc::new(c.disk.after_crash(blockdev_host::Crash::DropAll));
        c.spa.abandon();
        let spa = pools::import(&survivor);
        let tree = Tree::new(pools::root(&spa));
        assert_eq!(tree.read("/file").unwrap(), b"acknowledged");
        // The device missed a write: it is brought up to date in the background, and the walk wants no group under way.
        spa.scan_wait(Duration::from_millis(5), &mut |_| ());
        for _ in 0..3 {
            let hold = spa.txgs().hold_open();
            let txg = hold.txg();
            drop(hold);
            spa.txgs().wait_synced(txg).unwrap();
        }
        let report = spa.verify(&mut |_| ()).unwrap();
        assert!(report.is_clean(), "{fails_flush}: {:#?}", report.findings);
    }
}
