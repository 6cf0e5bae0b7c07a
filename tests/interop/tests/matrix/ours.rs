//! Our side of the matrix: pools made in a state for OpenZFS, and pools taken over from it.
use super::layout::{Layout, State};
use super::subject::{Subject, assert_whole, import, resilver, verify};
use blockdev::Op;
use blockdev_host::{Crash, MemDisk};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vfs::test_support::Tree;
use vfs::{Caller, Fsync, NewNode, OpenFlags, RenameMode, SetAttr, SliceSource, XattrMode};
use zfs::dsl::{Property, PropertyValue};
use zfs::scan::ScanState;
use zfs::send::{BlockOptions, ReceiveOptions, SendSpec};
use zfs::spa::{PoolSpec, Spa};
use zpl::{CreateOptions, MountOptions};

const SIZE: u64 = 160 << 20;

/// Makes the pool and leaves it in that state, with lists of what is in it.
pub fn make(layout: &'static Layout, state: State, folder: &Path, share: &Path, first: usize) -> Subject {
    let disks: Vec<_> = (0..layout.width()).map(|_| Arc::new(MemDisk::new(SIZE))).collect();
    let spa = create(layout, &disks);
    let nr_leaves = spa.storage().leaves().len();
    let subject = Subject {
        layout,
        images: (0..layout.width()).map(|nr| folder.join(format!("{}-{nr}.img", layout.name))).collect(),
        guids: spa.storage().leaves()[..nr_leaves].iter().map(|leaf| leaf.guid()).collect(),
        first,
        lists: share.join(layout.name),
    };
    std::fs::create_dir_all(&subject.lists).unwrap();
    fill(&spa, layout.name);
    leave(&subject, spa, &disks, state);
    subject
}

/// Takes over what OpenZFS left: everything it listed is there, what disks missed is brought back to them, and nothing
/// is wrong, also without other disks. Ends with lists, exported.
pub fn take_over(subject: &Subject, state: State) {
    let layout = subject.layout;
    let mut disks = subject.disks();
    if state.is_cut() {
        assert_logged(subject, state);
    }
    if state.opens_degraded() {
        let spa = import(&disks, layout.lost, false);
        subject.compare_figures(&spa);
        subject.compare(&spa);
        change(&spa, layout.name, 31);
        verify(&spa);
        subject.take_lists(&spa);
        spa.export().unwrap();
    }
    let spa = import(&disks, &[], false);
    if !state.is_cut() {
        subject.compare_figures(&spa);
    }
    subject.compare(&spa);
    for nr in layout.lost.iter().filter(|_| state.opens_degraded()) {
        spa.online(subject.guids[*nr], false).unwrap();
    }
    resilver(&spa);
    assert_whole(&spa.vdev_tree());
    verify(&spa);
    spa.scrub().unwrap();
    spa.scan_wait(Duration::from_millis(20), &mut |_| {});
    let status = spa.scan_status();
    assert_eq!((status.state, status.errors, status.processed), (ScanState::Finished, 0, 0), "{status:?}");
    if state == State::Whole {
        receive_back(subject, &spa);
    }
    change(&spa, layout.name, 32);
    verify(&spa);
    subject.take_lists(&spa);
    spa.export().unwrap();
    let few: Vec<_> = disks.iter().map(|disk| Arc::new(disk.snapshot())).collect();
    let spa = import(&few, layout.others, true);
    subject.compare(&spa);
    verify(&spa);
    spa.export().unwrap();
    subject.save(&disks);
    disks.clear();
    subject.judged(&[]).assert_clean();
}

/// There are records that only replaying brings back.
pub fn assert_logged(subject: &Subject, state: State) {
    let absent = if state == State::LoggedDegraded { subject.layout.lost } else { &[] };
    let (is_ok, text) = subject.judged(absent).zdb(&["-ivv"]);
    let is_record = |line: &&str| line.trim().starts_with("TX_") && line.contains(" seq ");
    let nr_records = text.lines().filter(is_record).count();
    assert!(is_ok && nr_records > 10, "{}: {nr_records} records\n{text}", subject.layout.name);
}

fn create(layout: &Layout, disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    let options = CreateOptions::default();
    // Reading the lists is to change nothing.
    let root_properties = vec![(Property::Atime, PropertyValue::Number(0))];
    let spec = PoolSpec { ashift: layout.ashift, root_properties, ..PoolSpec::new(layout.name) };
    let spa = Spa::create(layout.specs(disks), &spec, &mut |tx, objset| zpl::create_fs(tx, objset, &options))
        .unwrap();
    let properties = [
        (Property::RecordSize, PropertyValue::Number(32 << 10)),
        (Property::SpecialSmallBlocks, PropertyValue::Number(8 << 10)),
    ];
    let name = format!("{}/fs", layout.name);
    spa.create_dataset(&name, &properties, &mut |tx, objset| zpl::create_fs(tx, objset, &options)).unwrap();
    spa
}

/// Files of all kinds, a snapshot, and a clone that went its own way.
fn fill(spa: &Arc<Spa>, pool: &str) {
    {
        let tree = mount(spa, pool, "fs");
        let make = |path: &str, node| tree.ns.create_at(&tree.from(), path.as_bytes(), node, 0o755).unwrap();
        make("/dir", NewNode::Directory);
        make("/link", NewNode::Symlink(b"dir/text"));
        tree.write("/dir/text", "words and more words\n".repeat(15_000).as_bytes()).unwrap();
        tree.write("/noise", &noise(5_000_000, 1)).unwrap();
        for nr in 0..20 {
            tree.write(&format!("/dir/s{nr}"), &noise(nr * 397, 2)).unwrap();
        }
        tree.ns.link_at(&tree.find("/noise").unwrap(), &tree.from(), b"/dir/noise").unwrap();
        write_at(&tree, "/sparse", 3_000_000, b"end");
        unmount(tree);
    }
    spa.sync().unwrap();
    spa.snapshot(&[&format!("{pool}/fs@before")], false, &[]).unwrap();
    spa.clone_snapshot(&format!("{pool}/fs@before"), &format!("{pool}/clone"), &[]).unwrap();
    for (dataset, seed) in [("fs", 3), ("clone", 4)] {
        let tree = mount(spa, pool, dataset);
        write_at(&tree, "/noise", 1_000_000, &noise(2_000_000, seed));
        tree.ns.unlink_at(&tree.from(), format!("/dir/s{seed}").as_bytes()).unwrap();
        tree.write("/after", &noise(700_000, seed + 10)).unwrap();
        unmount(tree);
    }
    spa.sync().unwrap();
}

/// Something to be missed by those who are away.
fn change(spa: &Arc<Spa>, pool: &str, seed: u64) {
    for (dataset, len) in [("fs", 5_000_000), ("clone", 1_000_000)] {
        let tree = mount(spa, pool, dataset);
        tree.write(&format!("/round-{seed}"), &noise(len, seed)).unwrap();
        write_at(&tree, "/noise", seed * 10_000, &noise(300_000, seed + 1));
        tree.write(&format!("/dir/t{seed}"), &noise(900, seed)).unwrap();
        unmount(tree);
        spa.sync().unwrap();
    }
}

fn leave(subject: &Subject, mut spa: Arc<Spa>, disks: &[Arc<MemDisk>], state: State) {
    let layout = subject.layout;
    let is_degraded = matches!(state, State::Degraded | State::HalfResilvered | State::LoggedDegraded);
    if is_degraded {
        spa.export().unwrap();
        spa = import(disks, layout.lost, false);
        if layout.has_spare() {
            resilver(&spa);
        }
        change(&spa, layout.name, 21);
    }
    if state == State::HalfResilvered {
        change(&spa, layout.name, 22);
        spa.export().unwrap();
        spa = resilver_half(disks);
    }
    if state == State::Whole {
        send(subject, &spa);
    }
    if state.is_cut() {
        let tree = change_in_log(&spa, layout.name);
        let left: Vec<_> = disks.iter().map(|disk| Arc::new(disk.after_crash(Crash::DropAll))).collect();
        // This writes a group, which those disks do not get.
        unmount(tree);
        subject.take_lists(&spa);
        spa.abandon();
        subject.save(&left);
        return assert_logged(subject, state);
    }
    subject.take_lists(&spa);
    spa.export().unwrap();
    subject.save(disks);
    let absent = if state.opens_degraded() { layout.lost } else { &[] };
    subject.judged(absent).assert_clean();
}

/// Opens the pool with disks so slow that the resilver is not done when it is told to stop.
fn resilver_half(disks: &[Arc<MemDisk>]) -> Arc<Spa> {
    for disk in disks {
        let nr_reads = AtomicU64::new(0);
        disk.set_hook(Some(Arc::new(move |op: &Op| {
            if matches!(op, Op::Read { .. }) && nr_reads.fetch_add(1, Ordering::Relaxed) > 200 {
                std::thread::sleep(Duration::from_millis(20));
            }
            None
        })));
    }
    let spa = import(disks, &[], false);
    spa.log_history("one more group").unwrap();
    while spa.scan_status().processed < 1 << 20 {
        assert_ne!(
            spa.storage().resilver_range(),
            None,
            "the resilver was too fast: {:?}",
            spa.scan_status()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    // Its place is stored when the pool is closed.
    spa.export().unwrap();
    disks.iter().for_each(|disk| disk.set_hook(None));
    let half = import(disks, &[], true);
    assert_eq!(half.scan_status().state, ScanState::Scanning);
    half
}

/// Records of every kind, all of them acknowledged.
fn change_in_log(spa: &Arc<Spa>, pool: &str) -> Tree {
    let fs = zpl::mount(spa, &format!("{pool}/fs"), &MountOptions::default()).unwrap();
    let tree = Tree::new(fs.clone());
    tree.write("/warm", b"up").unwrap();
    tree.open("/warm", OpenFlags::READ).unwrap().fsync(Fsync::All).unwrap();
    spa.sync().unwrap();
    spa.sync().unwrap();
    let make = |path: &str, node| tree.ns.create_at(&tree.from(), path.as_bytes(), node, 0o750).unwrap();
    make("/logged", NewNode::Directory);
    make("/logged/symlink", NewNode::Symlink(b"small"));
    make("/logged/fifo", NewNode::Fifo);
    tree.write("/logged/small", &noise(3000, 41)).unwrap();
    tree.write("/logged/large", &noise(900_000, 42)).unwrap();
    write_at(&tree, "/logged/large", 150_000, &noise(100_000, 43));
    write_at(&tree, "/noise", 4_000_000, &noise(40_000, 44));
    let large = tree.find("/logged/large").unwrap();
    large.vnode().setattr(&SetAttr { size: Some(700_000), ..SetAttr::default() }).unwrap();
    tree.ns.link_at(&large, &tree.from(), b"/logged/hard").unwrap();
    tree.ns.rename_at(&tree.from(), b"/after", &tree.from(), b"/logged/after", RenameMode::Replace).unwrap();
    tree.ns.unlink_at(&tree.from(), b"/dir/s5").unwrap();
    let owned = tree.find("/dir/s6").unwrap();
    let set = SetAttr { perm: Some(0o604), uid: Some(5), gid: Some(6), ..SetAttr::default() };
    owned.vnode().setattr(&set).unwrap();
    owned.vnode().setxattr(b"user.logged", b"value", XattrMode::Any).unwrap();
    tree.ns.create(&tree.find("/logged").unwrap(), b"late", NewNode::Regular, 0o600, &Caller::ROOT).unwrap();
    fs.objset().zil().unwrap().commit(0).unwrap();
    tree
}

fn send(subject: &Subject, spa: &Arc<Spa>) {
    let spec = SendSpec {
        to: format!("{}/fs@before", subject.layout.name),
        from: None,
        intermediate: false,
        replicate: true,
        skip_missing: false,
        properties: false,
        holds: false,
        blocks: BlockOptions { large: true, compressed: true, embedded: true },
        resume: None,
    };
    let mut stream = Vec::new();
    let mut sink = |bytes: &[u8]| {
        stream.extend_from_slice(bytes);
        Ok(())
    };
    spa.send(&spec, &mut sink).unwrap();
    std::fs::write(subject.lists.join("ours.zfs"), stream).unwrap();
}

/// The replication stream that OpenZFS made of its `fs`, snapshots and all.
fn receive_back(subject: &Subject, spa: &Arc<Spa>) {
    let stream = std::fs::read(subject.lists.join("theirs.zfs")).unwrap();
    let mut rest = &stream[..];
    let mut feed = |room: &mut [u8]| {
        let n = room.len().min(rest.len());
        let (now, later) = rest.split_at(n);
        room[..n].copy_from_slice(now);
        rest = later;
        Ok(n)
    };
    let target = format!("{}/back", subject.layout.name);
    spa.receive(&target, &ReceiveOptions::default(), &mut feed).unwrap();
    subject.compare_dataset(spa, &format!("{target}@theirs"), "fs");
    subject.compare_dataset(spa, &format!("{target}@before"), "fs@before");
}

fn mount(spa: &Arc<Spa>, pool: &str, dataset: &str) -> Tree {
    Tree::new(zpl::mount(spa, &format!("{pool}/{dataset}"), &MountOptions::default()).unwrap())
}

/// A file system that is mounted holds the pool.
fn unmount(tree: Tree) {
    tree.ns.unmount_all().unwrap();
}

fn write_at(tree: &Tree, path: &str, at: u64, bytes: &[u8]) {
    let file = tree.open(path, OpenFlags::WRITE | OpenFlags::CREATE).unwrap();
    assert_eq!(file.write_at(at, &mut SliceSource::new(bytes)).unwrap(), bytes.len());
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
