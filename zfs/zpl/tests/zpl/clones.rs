//! Files that share blocks: contents, references, and what a power cut leaves of both.
use crate::pools;
use blockdev_host::{Crash, MemDisk};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{CloneMode, Error, FallocateMode, Fsync, OpenFlags, SetAttr};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{Compatibility, Spa};
use zpl::{CreateOptions, MountOptions, mount};

const RECORD: u64 = 4096;

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below.max(1)
    }

    /// Bytes that do not compress, or (of odd lengths) bytes that fit into a block pointer.
    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let is_plain = self.next(4) == 0;
        (0..len).map(|_| if is_plain { 7 } else { self.next(256) as u8 }).collect()
    }
}

/// A pool whose files have small records.
fn create(disk: &Arc<MemDisk>) -> Arc<Spa> {
    pools::create(disk, |spec| {
        spec.root_properties = vec![(Property::RecordSize, PropertyValue::Number(RECORD))];
    })
}

fn tree(spa: &Arc<Spa>, dataset: &str) -> Tree {
    Tree::new(mount(spa, dataset, &MountOptions::default()).unwrap())
}

fn add_dataset(spa: &Arc<Spa>, name: &str) {
    let init = CreateOptions::default();
    spa.create_dataset(name, &[], &mut |tx, objset| zpl::create_fs(tx, objset, &init)).unwrap();
}

fn clone_file(from: (&Tree, &str), to: (&Tree, &str)) -> vfs::Result<u64> {
    let source = from.0.open(from.1, OpenFlags::READ)?;
    let target = to.0.open(to.1, OpenFlags::WRITE | OpenFlags::CREATE)?;
    target.clone_range(0, &source, 0..u64::MAX, CloneMode::Wait)
}

fn assert_clean(spa: &Spa, what: &str) {
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{what}: {:#?}", report.findings);
}

fn shared(spa: &Spa) -> u64 {
    spa.storage().brt().figures().used
}

fn unlink(tree: &Tree, path: &str) {
    tree.ns.unlink_at(&tree.from(), path.as_bytes()).unwrap();
    // Who read it keeps it until its time of access is written; then it is freed by the next change.
    let fs = tree.find("/").unwrap().vnode().fs();
    fs.sync().unwrap();
    fs.sync().unwrap();
}

#[test]
fn a_clone_is_the_file_and_takes_no_space() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = create(&disk);
    add_dataset(&spa, "tank/b");
    let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
    let content = Random(1).bytes(1_000_000);
    a.write("/file", &content).unwrap();
    spa.sync().unwrap();
    let before = spa.space().unwrap().allocated;
    assert_eq!(clone_file((&a, "/file"), (&a, "/copy")), Ok(content.len() as u64));
    // Of a clone that has no pointer yet; in another dataset.
    assert_eq!(clone_file((&a, "/copy"), (&b, "/copy")), Ok(content.len() as u64));
    for copy in [a.read("/copy"), b.read("/copy")] {
        assert!(copy.unwrap() == content, "before the group is written");
    }
    assert_clean(&spa, "cloned");
    assert!(spa.space().unwrap().allocated - before < content.len() as u64 / 4);
    let figures = spa.storage().brt().figures();
    assert!(figures.used > 900_000 && figures.saved == 2 * figures.used, "{figures:?}");
    let features = spa.features().unwrap();
    let active = features.iter().find(|f| f.guid == "com.fudosecurity:block_cloning").unwrap();
    assert_eq!(active.refcount, 1);
    drop((a, b));
    spa.export().unwrap();
    let spa = pools::import(&disk);
    assert_eq!(spa.storage().brt().figures(), figures);
    let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
    unlink(&a, "/file");
    spa.sync().unwrap();
    assert!(b.read("/copy").unwrap() == content && a.read("/copy").unwrap() == content);
    assert_clean(&spa, "one gone");
    unlink(&a, "/copy");
    assert_clean(&spa, "two gone");
    assert_eq!(shared(&spa), 0);
    assert!(b.read("/copy").unwrap() == content);
    unlink(&b, "/copy");
    assert_clean(&spa, "all gone");
    spa.sync().unwrap();
    assert!(spa.space().unwrap().allocated < before - content.len() as u64 / 2);
    assert_eq!(spa.features().unwrap().iter().find(|f| f.guid == active.guid).map(|f| f.refcount), Some(0));
}

/// Entries as words: no released OpenZFS that could judge them knows this form.
#[test]
fn tables_of_the_newer_form_are_kept_up() {
    const GUIDS: [&str; 2] = ["com.fudosecurity:block_cloning", "com.truenas:block_cloning_endian"];
    let disk = Arc::new(MemDisk::new(128 << 20));
    let guids = Compatibility::Full.features().unwrap().into_iter().map(|f| f.guid().to_owned());
    let guids = guids.chain([GUIDS[1].to_owned()]).collect();
    let spa = pools::create(&disk, |spec| spec.compatibility = Compatibility::List(guids));
    let counts = |spa: &Arc<Spa>| {
        let features = spa.features().unwrap();
        GUIDS.map(|guid| features.iter().find(|f| f.guid == guid).map(|f| f.refcount))
    };
    let content = Random(8).bytes(300_000);
    let a = tree(&spa, "tank");
    a.write("/file", &content).unwrap();
    clone_file((&a, "/file"), (&a, "/one")).unwrap();
    assert_clean(&spa, "cloned");
    assert_eq!(counts(&spa), [Some(1), Some(1)]);
    drop(a);
    spa.export().unwrap();
    let spa = pools::import(&disk);
    let a = tree(&spa, "tank");
    clone_file((&a, "/file"), (&a, "/two")).unwrap();
    for path in ["/file", "/one"] {
        unlink(&a, path);
    }
    assert_clean(&spa, "back to one");
    assert_eq!(counts(&spa), [Some(0), Some(0)]);
    assert!(a.read("/two").unwrap() == content);
}

#[test]
fn clones_of_one_group_are_changed_in_it() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let a = tree(&spa, "tank");
    let content = Random(2).bytes(16 * RECORD);
    a.write("/file", &content).unwrap();
    spa.sync().unwrap();
    for name in ["/over", "/part", "/cut", "/gone", "/twice"] {
        clone_file((&a, "/file"), (&a, name)).unwrap();
    }
    clone_file((&a, "/file"), (&a, "/twice")).unwrap();
    let open = |name: &str| a.open(name, OpenFlags::READ | OpenFlags::WRITE).unwrap();
    open("/over").write_at(0, &mut vfs::SliceSource::new(&vec![1; 16 * RECORD as usize])).unwrap();
    open("/part").write_at(RECORD + 5, &mut vfs::SliceSource::new(b"here")).unwrap();
    open("/cut").vnode().setattr(&SetAttr { size: Some(RECORD + 100), ..SetAttr::default() }).unwrap();
    // The last reference but the clones' goes in the same group, too.
    for path in ["/gone", "/file"] {
        a.ns.unlink_at(&a.from(), path.as_bytes()).unwrap();
    }
    a.write("/nudge", b"").unwrap();
    let check = || {
        let mut part = content.clone();
        part[RECORD as usize + 5..][..4].copy_from_slice(b"here");
        assert!(a.read("/over").unwrap() == vec![1; content.len()]);
        assert!(a.read("/part").unwrap() == part);
        assert!(a.read("/cut").unwrap() == content[..RECORD as usize + 100]);
        assert!(a.read("/twice").unwrap() == content);
    };
    check();
    assert_clean(&spa, "changed");
    check();
    clone_file((&a, "/twice"), (&a, "/twice2")).unwrap();
    clone_file((&a, "/twice"), (&a, "/twice2")).unwrap();
    assert_clean(&spa, "the same again");
    check();
}

#[test]
fn what_cannot_be_shared_is_said() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let a = tree(&spa, "tank");
    let content = Random(3).bytes(10 * RECORD + 100);
    a.write("/file", &content).unwrap();
    let open = |name: &str| a.open(name, OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE).unwrap();
    let (from, to) = (open("/file"), open("/to"));
    let clone = |at: u64, range: Range<u64>| to.clone_range(at, &from, range, CloneMode::Wait);
    assert_eq!(to.clone_range(0, &from, 0..RECORD, CloneMode::Ready), Err(Error::WouldBlock));
    assert_eq!(clone(0, 0..RECORD), Ok(RECORD));
    assert_eq!(clone(RECORD + 1, 0..RECORD), Err(Error::Invalid));
    assert_eq!(clone(RECORD, 1..RECORD), Err(Error::Invalid));
    assert_eq!(clone(RECORD, 0..RECORD + 1), Err(Error::Invalid));
    assert_eq!(clone(0, 100 * RECORD..200 * RECORD), Ok(0));
    // A tail goes to the end of a file, and only there.
    assert_eq!(clone(RECORD, 10 * RECORD..u64::MAX), Ok(100));
    assert_eq!(clone(0, 10 * RECORD..u64::MAX), Err(Error::Invalid));
    assert_eq!(to.clone_range(0, &from, 0..RECORD + 5, CloneMode::Ready), Ok(RECORD));
    assert_eq!(from.clone_range(RECORD, &from, 0..2 * RECORD, CloneMode::Wait), Err(Error::Invalid));
    assert_eq!(from.clone_range(20 * RECORD, &from, 0..2 * RECORD, CloneMode::Wait), Ok(2 * RECORD));
    // Another pool's file; a pool without the feature.
    let other = Arc::new(MemDisk::new(64 << 20));
    let old = pools::create(&other, |spec| spec.compatibility = Compatibility::OpenZfs20Linux);
    let b = tree(&old, "tank");
    b.write("/x", &content).unwrap();
    assert_eq!(clone_file((&a, "/file"), (&b, "/y")), Err(Error::CrossDevice));
    assert_eq!(clone_file((&b, "/x"), (&b, "/y")), Err(Error::Unsupported));
    assert_eq!(a.read("/file").unwrap()[20 * RECORD as usize..], content[..2 * RECORD as usize]);
    assert_clean(&spa, "refused");
}

#[test]
fn quotas_count_references() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = create(&disk);
    add_dataset(&spa, "tank/q");
    spa.set_property("tank/q", &Property::RefQuota, &PropertyValue::Number(6 << 20)).unwrap();
    let (a, q) = (tree(&spa, "tank"), tree(&spa, "tank/q"));
    a.write("/file", &Random(4).bytes(4 << 20)).unwrap();
    assert_eq!(clone_file((&a, "/file"), (&q, "/one")), Ok(4 << 20));
    let second = clone_file((&a, "/file"), (&q, "/two"));
    assert!(second == Err(Error::Quota) || second.is_ok_and(|n| n < 4 << 20), "{second:?}");
    assert_clean(&spa, "full");
}

/// Files of two datasets, and what they should hold.
struct World {
    trees: [Tree; 2],
    files: BTreeMap<(usize, String), Vec<u8>>,
}

impl World {
    fn open(spa: &Arc<Spa>, files: BTreeMap<(usize, String), Vec<u8>>) -> Self {
        Self { trees: [tree(spa, "tank"), tree(spa, "tank/b")], files }
    }

    fn check(&self, what: &str) {
        for ((set, path), content) in &self.files {
            let found = self.trees[*set].read(path).unwrap_or_else(|e| panic!("{what}: {path}: {e}"));
            let first = found.iter().zip(content).position(|(a, b)| a != b);
            assert_eq!((found.len(), first), (content.len(), None), "{what}: {set}{path}");
        }
    }

    fn pick(&self, random: &mut Random) -> (usize, String) {
        (random.next(2) as usize, format!("/f{}", random.next(4)))
    }

    fn step(&mut self, random: &mut Random) {
        let key = self.pick(random);
        let tree = &self.trees[key.0];
        let content = self.files.entry(key.clone()).or_default();
        let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
        let file = tree.open(&key.1, flags).unwrap();
        let at = random.next(40 * RECORD);
        match random.next(8) {
            0 | 1 => {
                let len = 1 + random.next(6 * RECORD);
                let bytes = random.bytes(len);
                file.write_at(at, &mut vfs::SliceSource::new(&bytes)).unwrap();
                put(content, at, &bytes);
            }
            2 => {
                file.vnode().setattr(&SetAttr { size: Some(at), ..SetAttr::default() }).unwrap();
                content.resize(at as usize, 0);
            }
            3 => {
                let end = at + 1 + random.next(8 * RECORD);
                file.vnode().fallocate(FallocateMode::PunchHole, at..end).unwrap();
                let end = (end as usize).min(content.len());
                let from = (at as usize).min(end);
                content[from..end].fill(0);
            }
            4 if random.next(3) == 0 => {
                drop(file);
                tree.ns.unlink_at(&tree.from(), key.1.as_bytes()).unwrap();
                self.files.remove(&key);
            }
            _ => {
                let source = self.pick(random);
                let Some(old) = self.files.get(&source).cloned() else { return };
                let from = self.trees[source.0].open(&source.1, OpenFlags::READ).unwrap();
                let (start, to) = (at - at % RECORD, random.next(40) * RECORD);
                let range = start..start + (1 + random.next(12)) * RECORD;
                // What does not fit is refused, and then changes nothing.
                let Ok(n @ 1..) = file.clone_range(to, &from, range, CloneMode::Wait) else { return };
                let bytes = old[start as usize..][..n as usize].to_vec();
                put(self.files.get_mut(&key).unwrap(), to, &bytes);
            }
        }
    }
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let end = at as usize + bytes.len();
    if !bytes.is_empty() {
        content.resize(content.len().max(end), 0);
        content[at as usize..end].copy_from_slice(bytes);
    }
}

#[test]
fn any_mix_of_clones_and_changes_is_what_was_asked_for() {
    for seed in 0..6 {
        let disk = Arc::new(MemDisk::new(128 << 20));
        let mut spa = create(&disk);
        add_dataset(&spa, "tank/b");
        let mut random = Random(seed);
        let mut world = World::open(&spa, BTreeMap::new());
        let mut snapshots = Vec::new();
        for step in 0..160 {
            world.step(&mut random);
            match random.next(24) {
                0 | 1 => spa.sync().unwrap(),
                2 if snapshots.len() < 3 => {
                    let name = format!("tank@s{step}");
                    spa.snapshot(&[&name], true, &[]).unwrap();
                    snapshots.push(format!("s{step}"));
                }
                3 if !snapshots.is_empty() => {
                    let name = snapshots.remove(random.next(snapshots.len() as u64) as usize);
                    let names = [format!("tank@{name}"), format!("tank/b@{name}")];
                    spa.destroy_snapshots(&[&names[0], &names[1]], false).unwrap();
                }
                4 => {
                    let World { trees, files } = world;
                    drop(trees);
                    spa.export().unwrap();
                    spa = pools::import(&disk);
                    world = World::open(&spa, files);
                }
                _ => {}
            }
            if step % 40 == 39 {
                world.check(&format!("seed {seed}, step {step}"));
                assert_clean(&spa, &format!("seed {seed}, step {step}"));
            }
        }
        let World { trees, files } = world;
        for (set, path) in files.keys() {
            unlink(&trees[*set], path);
        }
        drop(trees);
        let names: Vec<_> =
            snapshots.iter().flat_map(|s| [format!("tank@{s}"), format!("tank/b@{s}")]).collect();
        spa.destroy_snapshots(&names.iter().map(String::as_str).collect::<Vec<_>>(), false).unwrap();
        while spa.space().unwrap().freeing > 0 {
            spa.sync().unwrap();
        }
        assert_clean(&spa, &format!("seed {seed}, empty"));
        assert_eq!(shared(&spa), 0, "seed {seed}");
    }
}

#[test]
fn a_destroyed_dataset_gives_its_references_back() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    add_dataset(&spa, "tank/b");
    let content = Random(5).bytes(100 * RECORD);
    {
        let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
        a.write("/file", &content).unwrap();
        clone_file((&a, "/file"), (&b, "/copy")).unwrap();
        assert_clean(&spa, "cloned");
    }
    spa.destroy_dataset("tank/b").unwrap();
    while spa.space().unwrap().freeing > 0 {
        spa.sync().unwrap();
    }
    assert_clean(&spa, "destroyed");
    assert_eq!(shared(&spa), 0);
    assert!(tree(&spa, "tank").read("/file").unwrap() == content);
}

/// Syncs to the log's first block: the very first commit waits for a group.
fn warm(tree: &Tree) {
    tree.write("/warm", b"up").unwrap();
    fsync(tree, "/warm").unwrap();
}

fn fsync(tree: &Tree, path: &str) -> vfs::Result<()> {
    tree.open(path, OpenFlags::READ)?.fsync(Fsync::All)
}

#[test]
fn a_logged_clone_is_replayed_though_its_source_is_gone() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    add_dataset(&spa, "tank/b");
    let (a, b) = (tree(&spa, "tank"), tree(&spa, "tank/b"));
    let content = Random(6).bytes(50 * RECORD + 77);
    a.write("/file", &content).unwrap();
    spa.sync().unwrap();
    warm(&b);
    let group = spa.txgs().open_txg();
    clone_file((&a, "/file"), (&b, "/copy")).unwrap();
    clone_file((&a, "/file"), (&b, "/changed")).unwrap();
    let changed = b.open("/changed", OpenFlags::WRITE).unwrap();
    changed.write_at(RECORD, &mut vfs::SliceSource::new(b"changed")).unwrap();
    fsync(&b, "/copy").unwrap();
    fsync(&b, "/changed").unwrap();
    assert_eq!(spa.txgs().open_txg(), group, "the log was not used");
    let survivor = Arc::new(disk.after_crash(Crash::DropAll));
    spa.abandon();
    let spa = pools::import(&survivor);
    // Claimed, not replayed: what the log clones outlives its file.
    assert_clean(&spa, "claimed");
    unlink(&tree(&spa, "tank"), "/file");
    spa.sync().unwrap();
    assert_clean(&spa, "source gone");
    spa.export().unwrap();
    let spa = pools::import(&survivor);
    let b = tree(&spa, "tank/b");
    let mut expected = content.clone();
    expected[RECORD as usize..][..7].copy_from_slice(b"changed");
    assert!(b.read("/copy").unwrap() == content);
    assert!(b.read("/changed").unwrap() == expected);
    assert_clean(&spa, "replayed");
}

#[test]
fn a_clone_is_replayed_into_a_file_whose_block_grew_after_it() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = pools::create(&disk, |_| ());
    spa.set_property("tank", &Property::LogBias, &PropertyValue::Number(1)).unwrap();
    let tree = tree(&spa, "tank");
    let mut random = Random(9);
    tree.write("/source", &random.bytes(17_197)).unwrap();
    spa.sync().unwrap();
    warm(&tree);
    let group = spa.txgs().open_txg();
    // The record of the first write points to the file's block as it is when it is logged: after the last write.
    tree.write("/copy", &random.bytes(17_130)).unwrap();
    clone_file((&tree, "/source"), (&tree, "/copy")).unwrap();
    let last = random.bytes(19_331);
    let copy = tree.open("/copy", OpenFlags::WRITE).unwrap();
    copy.write_at(0, &mut vfs::SliceSource::new(&last)).unwrap();
    fsync(&tree, "/copy").unwrap();
    assert_eq!(spa.txgs().open_txg(), group, "the log was not used");
    let survivor = Arc::new(disk.after_crash(Crash::DropAll));
    spa.abandon();
    let spa = pools::import(&survivor);
    let tree = self::tree(&spa, "tank");
    assert!(tree.read("/copy").unwrap() == last);
    assert_clean(&spa, "replayed");
}

/// One life: files are cloned, changed and deleted, groups close in between. What fsync has acknowledged is noted.
fn life(disk: &Arc<MemDisk>, acked: &mut Vec<String>) -> vfs::Result<()> {
    let device: Arc<dyn blockdev::BlockDevice> = disk.clone();
    let options = zfs::spa::ImportOptions { force: true, ..Default::default() };
    let spa = Spa::import(&[device], &options).map_err(|_| Error::Io)?;
    let mut work = || -> vfs::Result<()> {
        let tree = Tree::new(mount(&spa, "tank", &MountOptions::default()).map_err(|_| Error::Io)?);
        for round in 0..4 {
            let name = format!("/copy{round}");
            clone_file((&tree, "/file"), (&tree, &name))?;
            if round > 0 {
                fsync(&tree, &name)?;
                acked.push(name);
            }
            if round == 1 {
                spa.sync().map_err(|_| Error::Io)?;
                tree.ns.unlink_at(&tree.from(), b"/copy0")?;
            }
        }
        tree.ns.unlink_at(&tree.from(), b"/file")?;
        spa.sync().map_err(|_| Error::Io)
    };
    let result = work();
    spa.abandon();
    result
}

#[test]
fn a_power_cut_at_any_write_keeps_references_and_clones() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let disk = Arc::new(MemDisk::new(64 << 20));
    let content = Random(7).bytes(12 * RECORD);
    {
        let spa = create(&disk);
        tree(&spa, "tank").write("/file", &content).unwrap();
        spa.export().unwrap();
    }
    for cut in 0.. {
        assert!(cut < 2000, "a life without a power cut ends");
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
        assert_clean(&spa, &format!("cut {cut}, before replay"));
        let tree = tree(&spa, "tank");
        for path in &acked {
            assert!(tree.read(path).unwrap() == content, "cut {cut}: {path}");
        }
        assert_clean(&spa, &format!("cut {cut}"));
        spa.abandon();
        if is_done {
            assert!(cut > 40, "{cut}");
            break;
        }
    }
}

#[test]
fn clones_in_a_dataset_that_is_a_clone_are_on_its_live_list() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let mut random = Random(9);
    let content = random.bytes(200 * RECORD);
    tree(&spa, "tank").write("/base", &content).unwrap();
    tree(&spa, "tank").write("/other", &random.bytes(40 * RECORD)).unwrap();
    spa.snapshot(&["tank@s"], false, &[]).unwrap();
    spa.clone_snapshot("tank@s", "tank/c", &[]).unwrap();
    {
        let (a, c) = (tree(&spa, "tank"), tree(&spa, "tank/c"));
        for (n, path) in ["/one", "/two", "/three", "/two"].iter().enumerate() {
            clone_file((&a, "/other"), (&c, path)).unwrap();
            let target = c.open("/base", OpenFlags::READ | OpenFlags::WRITE).unwrap();
            let own = c.open("/one", OpenFlags::READ).unwrap();
            let at = n as u64 * 8 * RECORD;
            assert_eq!(target.clone_range(at, &own, 0..12 * RECORD, CloneMode::Wait), Ok(12 * RECORD));
            assert_clean(&spa, path);
        }
        unlink(&c, "/three");
        assert_clean(&spa, "one gone");
    }
    spa.destroy_dataset("tank/c").unwrap();
    while spa.space().unwrap().freeing > 0 {
        spa.sync().unwrap();
    }
    assert_clean(&spa, "destroyed");
    assert_eq!(shared(&spa), 0);
    assert!(tree(&spa, "tank").read("/base").unwrap() == content);
}

#[test]
fn a_checkpoint_keeps_blocks_that_only_clones_hold() {
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let content = Random(10).bytes(50 * RECORD);
    let a = tree(&spa, "tank");
    a.write("/file", &content).unwrap();
    spa.sync().unwrap();
    spa.checkpoint().unwrap();
    clone_file((&a, "/file"), (&a, "/copy")).unwrap();
    spa.sync().unwrap();
    // The last to let go of the blocks is younger than the checkpoint; they are not.
    unlink(&a, "/file");
    unlink(&a, "/copy");
    assert_clean(&spa, "freed");
    for n in 0..40 {
        a.write(&format!("/new{n}"), &Random(n).bytes(20 * RECORD)).unwrap();
        spa.sync().unwrap();
    }
    drop(a);
    spa.export().unwrap();
    let device: Arc<dyn blockdev::BlockDevice> = disk.clone();
    let options = zfs::spa::ImportOptions { rewind_to_checkpoint: true, ..Default::default() };
    let spa = Spa::import(&[device], &options).unwrap();
    assert!(tree(&spa, "tank").read("/file").unwrap() == content);
    assert_clean(&spa, "gone back");
}

#[test]
fn a_stream_holds_what_clones_show() {
    use zfs::send::{ReceiveOptions, SendSpec};
    let disk = Arc::new(MemDisk::new(128 << 20));
    let spa = create(&disk);
    let content = Random(11).bytes(60 * RECORD);
    let a = tree(&spa, "tank");
    a.write("/file", &content).unwrap();
    spa.snapshot(&["tank@1"], false, &[]).unwrap();
    clone_file((&a, "/file"), (&a, "/copy")).unwrap();
    spa.snapshot(&["tank@2"], false, &[]).unwrap();
    for (to, from) in [("tank@1", None), ("tank@2", Some("tank@1".to_owned()))] {
        let mut stream = Vec::new();
        let spec = SendSpec { to: to.to_owned(), from, ..SendSpec::default() };
        spa.send(&spec, &mut |bytes| {
            stream.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        let mut rest = &stream[..];
        spa.receive("tank/r", &ReceiveOptions::default(), &mut |out| {
            let n = out.len().min(rest.len());
            out[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            Ok(n)
        })
        .unwrap();
    }
    let r = tree(&spa, "tank/r");
    assert!(r.read("/file").unwrap() == content && r.read("/copy").unwrap() == content);
    assert_clean(&spa, "received");
}

/// Whoever clones, writes and deletes at the same time, each block is one that was there, and every reference is counted.
#[test]
fn many_threads_share_and_change_the_same_files() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = create(&disk);
    let tree = Arc::new(tree(&spa, "tank"));
    let fill = |file: u64, version: u8| vec![(file as u8) << 5 | version; 64 * RECORD as usize];
    for file in 0..4 {
        tree.write(&format!("/f{file}"), &fill(file, 0)).unwrap();
    }
    let threads: Vec<_> = (0..6u64)
        .map(|thread| {
            let (tree, spa) = (tree.clone(), spa.clone());
            std::thread::spawn(move || {
                let mut random = Random(thread);
                for step in 0..60u64 {
                    let (from, to) = (format!("/f{}", random.next(4)), format!("/f{}", random.next(4)));
                    let open = |path: &str| tree.open(path, OpenFlags::READ | OpenFlags::WRITE).unwrap();
                    let (at, len) = (random.next(48) * RECORD, (1 + random.next(16)) * RECORD);
                    match thread {
                        0 if step % 4 == 0 => spa.sync().unwrap(),
                        0 | 1 => {
                            let bytes: Vec<u8> = (0..len).map(|_| random.next(256) as u8).collect();
                            open(&to).write_at(at, &mut vfs::SliceSource::new(&bytes)).unwrap();
                        }
                        2 => open(&to).vnode().fallocate(FallocateMode::PunchHole, at..at + len).unwrap(),
                        _ => {
                            let mode = if step % 2 == 0 { CloneMode::Wait } else { CloneMode::Ready };
                            let done = open(&to).clone_range(
                                random.next(48) * RECORD,
                                &open(&from),
                                at..at + len,
                                mode,
                            );
                            let is_fine = matches!(done, Ok(_) | Err(Error::Invalid | Error::WouldBlock));
                            assert!(is_fine, "{done:?}");
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_clean(&spa, "quiet");
    let before: Vec<_> = (0..4).map(|file| tree.read(&format!("/f{file}")).unwrap()).collect();
    drop(tree);
    spa.export().unwrap();
    let spa = pools::import(&disk);
    let tree = self::tree(&spa, "tank");
    for (file, content) in before.iter().enumerate() {
        assert!(tree.read(&format!("/f{file}")).unwrap() == *content, "{file}");
    }
    assert_clean(&spa, "opened again");
}
