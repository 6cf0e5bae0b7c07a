//! Pools that OpenZFS made, changed by us, judged by OpenZFS.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use interop_tests::{Judged, unpack};
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{Caller, DentryRef, FileType, NewNode, SetAttr, XattrMode};
use zfs::spa::{ImportOptions, Spa};
use zpl::MountOptions;

/// Pools without features that this build only reads. `comp` has data sets of every compression, zstd among them.
const POOLS: [&str; 3] = ["nologsm", "nofeat", "comp"];

/// Removes everything below a directory.
fn empty(t: &Tree, dir: &DentryRef) {
    let mut names = Vec::new();
    dir.vnode()
        .readdir(0, &mut |e| {
            names.push((e.name.to_vec(), e.kind));
            true
        })
        .unwrap();
    for (name, kind) in names {
        if kind == FileType::Directory {
            empty(t, &t.ns.lookup(dir, &name).unwrap());
            t.ns.rmdir(dir, &name, &Caller::ROOT).unwrap();
        } else {
            t.ns.unlink(dir, &name, &Caller::ROOT).unwrap();
        }
    }
}

/// Changes files OpenZFS made, and makes new ones beside them.
fn change(t: &Tree) {
    for name in t.list("/").unwrap() {
        let path = format!("/{}", String::from_utf8_lossy(&name));
        let found = t.find(&path).unwrap();
        let set = SetAttr { perm: Some(0o711), uid: Some(77), ..SetAttr::default() };
        found.vnode().setattr(&set).unwrap();
        if found.kind() != FileType::Symlink {
            found.vnode().setxattr(b"user.ours", &[1; 3000], XattrMode::Any).unwrap();
        }
    }
    t.ns.create_at(&t.from(), b"/ours", NewNode::Directory, 0o755).unwrap();
    for i in 0..500 {
        t.write(&format!("/ours/file-{i}"), &vec![i as u8; i * 37]).unwrap();
    }
}

#[test]
fn pools_of_openzfs_stay_faultless_when_we_write_them() {
    for name in POOLS {
        println!("{name}");
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("d0.img");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/data");
        unpack(&data.join(name).join("d0.img.zst"), &image);
        let disk = Arc::new(MemDisk::from_file(&image).unwrap());
        let steps: [fn(&Tree); 2] = [change, |t| empty(t, t.ns.root())];
        for step in steps {
            let device: Arc<dyn BlockDevice> = disk.clone();
            let spa =
                Spa::import(&[device], &ImportOptions { force: true, ..ImportOptions::default() }).unwrap();
            let fs = zpl::mount(&spa, name, &MountOptions::default()).unwrap();
            assert!(!fs.is_read_only(), "{name}: {:?}", spa.properties().unwrap().read_only_reason);
            let tree = Tree::new(fs);
            step(&tree);
            tree.ns.unmount_all().unwrap();
            drop(tree);
            assert!(spa.verify(&mut |_| ()).unwrap().is_clean(), "{name}");
            spa.export().unwrap();
            disk.save(&image).unwrap();
            let judged = Judged::copy(&[&image], name);
            judged.assert_clean();
            judged.assert_openzfs_writes();
        }
    }
}
