//! Records that only other systems write.
use super::*;
use crate::{CreateOptions, MountOptions, create_fs, mount};
use blockdev_host::MemDisk;
use ondisk::zil_record::{AclBlock, AttrBlock, NewObjectRecord};
use rt_std as _;
use vfs::FileSystem;
use zfs::spa::{PoolSpec, Spa, VdevSpec};

/// An entry of a log's ACL: a named user (0) or the owner (0x1000), who may read, is denied nothing.
fn ace(who: u32, flags: u16) -> Vec<u8> {
    let mut bytes = who.to_le_bytes().to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(0u16.to_le_bytes());
    bytes
}

fn file_system() -> (Arc<Spa>, Arc<ZplFs>) {
    let vdev = VdevSpec { device: Arc::new(MemDisk::new(64 << 20)), path: "/dev/vda".into(), is_file: false };
    let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut |tx, objset| {
        create_fs(tx, objset, &CreateOptions::default())
    });
    let spa = spa.unwrap();
    let fs = mount(&spa, "tank", &MountOptions::default()).unwrap();
    (spa, fs)
}

fn new_object(fs: &ZplFs, object: u64, mode: u64) -> (u64, NewObjectRecord) {
    let new = NewObjectRecord {
        object,
        slots: 1,
        mode,
        uid: 1000,
        gid: 100,
        generation: 9,
        crtime: [1, 2],
        rdev: 0,
    };
    (fs.root().unwrap().ino(), new)
}

#[test]
fn a_file_is_made_with_its_acl_and_its_optional_attributes() {
    let (spa, fs) = file_system();
    let (root, new) = new_object(&fs, 200, 0o100_640);
    let attrs = AttrBlock { requested: 1 | 0x8 | 0x10, values: 0x8, crtime: [77, 5] };
    let entries = [ace(0, 0x1000), ace(4711, 0)].concat();
    let acl = AclBlock { count: 2, is_old: false, flags: 0, entries: &entries };
    let kind = RecordKind::Create;
    let create = Record::Create {
        kind,
        dir: root,
        new,
        attrs: Some(attrs),
        acl: Some(acl),
        name: b"file",
        target: b"",
    };
    let begun = fs.objset.txgs().open_txg();
    fs.apply(&create, None).unwrap();
    assert_eq!(fs.objset.txgs().open_txg(), begun);
    let made = fs.of(200).unwrap();
    let a = made.attrs.lock().clone();
    assert_eq!(a.crtime, TimeSpec { secs: 77, nanos: 5 });
    assert_eq!((a.flags & 1 << 32, a.flags & 1 << 33, a.flags & flags::ACL_TRIVIAL), (1 << 32, 0, 0));
    // Owner, group and everyone take 8 bytes, named users 16.
    let stored = fs.sa.get(&made.dnode, Attr::DaclAces).unwrap().unwrap();
    assert_eq!((stored.len(), &stored[16..20]), (8 + 16, &4711u32.to_le_bytes()[..]));
    // Tried again, as after a crash: it is there.
    fs.apply(&create, None).unwrap();
    fs.apply(
        &Record::SetAttr {
            object: 200,
            mask: mask::MODE,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            atime: [0, 0],
            mtime: [0, 0],
            attrs: Some(AttrBlock { requested: 0x10, values: 0x10, crtime: [0, 0] }),
        },
        None,
    )
    .unwrap();
    let a = made.attrs.lock().clone();
    assert_eq!((a.mode & 0o777, a.flags & 1 << 33), (0o600, 1 << 33));
    drop((made, fs));
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_whiteout_takes_the_old_name_with_the_rename() {
    let (spa, fs) = file_system();
    let (root, new) = new_object(&fs, 300, 0o020_000);
    let dir = fs.of(root).unwrap();
    let cred = Cred::default();
    let moved = dir.create_entry(b"from", NewNode::Regular, 0o644, cred).unwrap();
    let other = dir.create_entry(b"dir", NewNode::Directory, 0o755, cred).unwrap();
    other.create_entry(b"to", NewNode::Regular, 0o644, cred).unwrap();
    let whiteout = Record::Rename {
        kind: RenameKind::Whiteout(new),
        from_dir: root,
        to_dir: other.id(),
        from: b"from",
        to: b"to",
    };
    let sizes = |dir: &Znode| dir.attrs.lock().size;
    let before = (sizes(&dir), sizes(&other));
    fs.apply(&whiteout, None).unwrap();
    assert_eq!((sizes(&dir), sizes(&other)), before);
    assert_eq!(object_of(other.entry(b"to").unwrap()), moved.id());
    assert_eq!(object_of(dir.entry(b"from").unwrap()), 300);
    let left = fs.of(300).unwrap();
    let a = left.attrs.lock().clone();
    assert_eq!((left.kind, a.links, a.parent), (FileType::CharDevice, 1, root));
    drop((left, moved, other, dir, fs));
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_clone_of_smaller_blocks_than_the_file_has_is_copied() {
    let (spa, fs) = file_system();
    let tree = vfs::test_support::Tree::new(fs.clone());
    let noise =
        |seed: u64, len: u64| (0..len).map(|at| (at * at + seed * at + seed) as u8).collect::<Vec<u8>>();
    // One whole block of its own size, one that fits into its pointer, and a hole.
    for (nr, source) in [noise(3, 17_197), vec![b'x'; 700], vec![0; 5000]].into_iter().enumerate() {
        let (from, to) = (format!("/source{nr}"), format!("/copy{nr}"));
        tree.write(&from, &source).unwrap();
        let written = noise(5, 40_000);
        tree.write(&to, &written).unwrap();
        spa.sync().unwrap();
        let hold = |path: &str| {
            let ino = tree.open(path, vfs::OpenFlags::READ).unwrap().getattr().unwrap().ino;
            fs.hold(ObjectId(ino)).unwrap()
        };
        let (source_file, copy) = (hold(&from), hold(&to));
        let pointers = source_file.dnode.read_pointers(0, 1).unwrap().unwrap();
        let block_size = u64::from(source_file.dnode.block_size());
        assert!(block_size < u64::from(copy.dnode.block_size()));
        let pointers: Vec<u8> = pointers.iter().flat_map(|bp| bp.to_bytes()).collect();
        let length = source.len() as u64;
        let clone =
            Record::CloneRange { object: copy.id(), offset: 0, length, block_size, pointers: &pointers };
        fs.apply(&clone, None).unwrap();
        let mut expected = written;
        expected[..source.len()].copy_from_slice(&source);
        assert!(tree.read(&to).unwrap() == expected, "{nr}");
        let untrue = Record::CloneRange {
            object: copy.id(),
            offset: 0,
            length,
            block_size: block_size - 512,
            pointers: &pointers,
        };
        assert!(nr == 2 || fs.apply(&untrue, None).is_err(), "not as long as it says");
    }
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[test]
fn a_clone_into_a_file_that_has_smaller_blocks_by_now_is_copied() {
    let (spa, fs) = file_system();
    let tree = vfs::test_support::Tree::new(fs.clone());
    let noise =
        |seed: u64, len: u64| (0..len).map(|at| (at * at + seed * at + seed) as u8).collect::<Vec<u8>>();
    let source = noise(3, 2 * (128 << 10));
    tree.write("/source", &source).unwrap();
    let small = zfs::dsl::PropertyValue::Number(16 << 10);
    spa.set_property("tank", &zfs::dsl::Property::RecordSize, &small).unwrap();
    fs.reload_properties().unwrap();
    // As a replayed write makes it that was done with the larger ones.
    let written = noise(5, 300_000);
    tree.write("/copy", &written).unwrap();
    spa.sync().unwrap();
    let hold = |path: &str| {
        let ino = tree.open(path, vfs::OpenFlags::READ).unwrap().getattr().unwrap().ino;
        fs.hold(ObjectId(ino)).unwrap()
    };
    let (source_file, copy) = (hold("/source"), hold("/copy"));
    assert_eq!((source_file.dnode.block_size(), copy.dnode.block_size()), (128 << 10, 16 << 10));
    let pointers = source_file.dnode.read_pointers(0, 2).unwrap().unwrap();
    let pointers: Vec<u8> = pointers.iter().flat_map(|bp| bp.to_bytes()).collect();
    let (object, length) = (copy.id(), source.len() as u64);
    let clone = Record::CloneRange { object, offset: 0, length, block_size: 128 << 10, pointers: &pointers };
    fs.apply(&clone, None).unwrap();
    let mut expected = written;
    expected[..source.len()].copy_from_slice(&source);
    assert!(tree.read("/copy").unwrap() == expected);
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| ()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}
