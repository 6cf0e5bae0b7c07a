//! Trees to a file system and back, compared with what the host's own tools say.
use super::edit::{Depth, Parents, make_directory, remove};
use super::export::export;
use super::host::HostTree;
use super::import::{Importer, Mounts};
use super::item::{Event, Item, Kind, Meta, Source};
use super::manifest::{self, List};
use super::path::{Last, resolve};
use super::walk::Covered;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use vfs::ramfs::RamFs;
use vfs::{FileSystem, SetAttr, SetTime, TimeSpec, VnodeRef};

const TIME: TimeSpec = TimeSpec { secs: 1_000_000_000, nanos: 5 };

fn file_system() -> VnodeRef {
    RamFs::new(1 << 30, 0o755).root().expect("root")
}

fn mounts(list: &[(&str, &VnodeRef)]) -> Mounts {
    list.iter().map(|(path, root)| (path.as_bytes().to_vec(), (*root).clone())).collect()
}

fn import(root: &VnodeRef, sources: &mut [&mut dyn Source]) {
    let mut importer = Importer::new(mounts(&[("/", root)]), TIME).expect("importer");
    for source in sources {
        source.produce(&mut |event| importer.put(event)).expect("import");
    }
    importer.finish().expect("finish");
}

fn list(root: &VnodeRef, which: List) -> String {
    let mut out = Vec::new();
    manifest::write(root, &Covered::new(), which, &mut out).expect("manifest");
    String::from_utf8(out).expect("text")
}

fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("bash").arg("-c").arg(script).current_dir(directory).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The commands that the lists are defined by.
fn host_lists(directory: &Path) -> (String, String) {
    let meta = "find . -xdev -mindepth 1 \\( -type d -printf '%y %m %U %G - - %T@ %P\\n' \\) -o \
        \\( -type l -printf '%y %m %U %G %n %s %T@ %P -> %l\\n' \\) -o -printf '%y %m %U %G %n %s %T@ %P\\n' | LC_ALL=C sort";
    let hashes = "find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
    (shell(directory, meta), shell(directory, hashes))
}

fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).expect("mkdir");
    fs::write(root.join("a/file"), b"hello\n").expect("write");
    fs::write(root.join("a-b"), vec![7; 700_000]).expect("write");
    fs::write(root.join("empty"), b"").expect("write");
    fs::write(root.join("back\\slash"), b"x").expect("write");
    fs::write(root.join("new\nline"), b"y").expect("write");
    fs::hard_link(root.join("a/file"), root.join("z-link")).expect("link");
    fs::hard_link(root.join("a/file"), root.join("a/b/link")).expect("link");
    symlink("../file", root.join("a/b/up")).expect("symlink");
    symlink("/nowhere", root.join("dangling")).expect("symlink");
    let sparse = fs::File::create(root.join("sparse")).expect("create");
    sparse.set_len(5 << 20).expect("length");
    sparse.write_all_at(b"data", 3 << 20).expect("write");
    fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o4710)).expect("chmod");
    shell(
        root,
        "mkfifo a/pipe && touch -d '2001-02-03 04:05:06.789012345' a a/file a/b sparse && touch -d @-5.25 empty",
    );
    shell(root, "chmod 1777 a/b/c && touch -h -d '1999-01-01' dangling");
}

#[test]
fn a_tree_arrives_as_the_host_s_tools_see_it_and_comes_back() {
    let dir = tempfile::tempdir().expect("directory");
    let source = dir.path().join("source");
    fs::create_dir(&source).expect("mkdir");
    make_tree(&source);
    let root = file_system();
    import(&root, &mut [&mut HostTree::new(&source, b"/")]);
    let (meta, hashes) = host_lists(&source);
    assert_eq!(list(&root, List::Meta), meta);
    assert_eq!(list(&root, List::Sha256), hashes);

    let target = dir.path().join("target");
    let outcome = export(&root, &target).expect("export");
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    assert_eq!(host_lists(&target), (meta, hashes));
    let sparse = fs::metadata(target.join("sparse")).expect("stat");
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    let root_time = |p: &Path| fs::metadata(p).expect("stat").mtime_nsec();
    assert_eq!(root_time(&source), root_time(&target));
}

#[test]
fn importing_twice_changes_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    make_tree(dir.path());
    let root = file_system();
    import(&root, &mut [&mut HostTree::new(dir.path(), b"/x")]);
    let before = (list(&root, List::Meta), list(&root, List::Sha256));
    import(&root, &mut [&mut HostTree::new(dir.path(), b"/x")]);
    assert_eq!((list(&root, List::Meta), list(&root, List::Sha256)), before);
}

fn item(path: &str, kind: Kind) -> Event {
    let meta = Meta::root(0o755, TimeSpec { secs: 77, nanos: 0 });
    Event::Item(Item { path: path.as_bytes().to_vec(), kind, meta })
}

fn data(bytes: &[u8]) -> Event {
    Event::Data { offset: 0, bytes: bytes.to_vec() }
}

#[test]
fn later_files_replace_earlier_ones_and_links_to_directories_stay() {
    let root = file_system();
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    for event in [
        item("/usr/lib", Kind::Directory),
        item("/lib", Kind::Symlink(b"usr/lib".to_vec())),
        item("/lib/x/one", Kind::Regular { size: 3 }),
        data(b"old"),
        item("./lib/x/one", Kind::Regular { size: 4 }),
        data(b"newer"),
        item("/lib/", Kind::Directory),
        item("/lib/x/two", Kind::HardLink(b"./lib/x/one".to_vec())),
    ] {
        importer.put(event).expect("put");
    }
    let totals = importer.finish().expect("finish");
    assert_eq!((totals.files, totals.bytes), (2, 8));
    let lines = list(&root, List::Meta);
    assert!(lines.contains("f 755 0 0 2 5 77.0000000000 usr/lib/x/one\n"), "{lines}");
    assert!(lines.contains("l 777 0 0 1 7 77.0000000000 lib -> usr/lib\n"), "{lines}");
    assert!(lines.contains("d 755 0 0 - - 1000000000.0000000050 usr/lib/x\n"), "made on the way: {lines}");
    assert!(lines.contains("d 755 0 0 - - 77.0000000000 usr/lib\n"), "{lines}");
}

#[test]
fn mounted_file_systems_get_what_is_below_their_mountpoint() {
    let (root, other) = (file_system(), file_system());
    let mut importer = Importer::new(mounts(&[("/", &root), ("/var/db", &other)]), TIME).expect("importer");
    importer.put(item("/var/db/sub/file", Kind::Regular { size: 0 })).expect("put");
    importer.put(item("/var/db/sub/link", Kind::HardLink(b"/var/db/sub/file".to_vec()))).expect("link");
    importer.put(item("/var/other", Kind::Regular { size: 0 })).expect("put");
    let error = importer.put(item("/var/across", Kind::HardLink(b"/var/db/sub/file".to_vec())));
    assert!(format!("{:#}", error.expect_err("two file systems")).contains("cross-device"));
    importer.finish().expect("finish");
    assert!(list(&root, List::Meta).contains(" var/db\n"));
    assert!(!list(&root, List::Meta).contains("sub"));
    assert!(list(&other, List::Meta).contains("f 755 0 0 2 0 77.0000000000 sub/file\n"));
}

#[test]
fn impossible_events_are_refused() {
    let root = file_system();
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    assert!(importer.put(data(b"x")).is_err(), "data without a file");
    assert!(importer.put(item("/a/../b", Kind::Directory)).is_err());
    assert!(importer.put(item("/", Kind::Fifo)).is_err());
    assert!(importer.put(item("/l", Kind::HardLink(b"/none".to_vec()))).is_err());
    importer.put(item("/f", Kind::Regular { size: 0 })).expect("file");
    assert!(importer.put(item("/f/below", Kind::Fifo)).is_err(), "below a file");
    assert!(importer.put(item("/f", Kind::Directory)).is_err(), "a directory over a file");
    assert!(Importer::new(Mounts::new(), TIME).is_err());
}

#[test]
fn extended_attributes_are_listed_as_getfattr_does() {
    let root = file_system();
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    let mut meta = Meta::root(0o644, TIME);
    meta.xattrs = vec![(b"user.b=c".to_vec(), b"\x00\xff".to_vec()), (b"user.a".to_vec(), Vec::new())];
    let kind = Kind::Regular { size: 0 };
    importer.put(Event::Item(Item { path: b"/d/f\\".to_vec(), kind, meta })).expect("put");
    importer.finish().expect("finish");
    assert_eq!(list(&root, List::Xattr), "# file: d/f\\134\nuser.a=0x\nuser.b\\075c=0x00ff\n\n");
}

#[test]
fn paths_resolve_through_links() {
    let root = file_system();
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    for event in [
        item("/a/b/file", Kind::Regular { size: 0 }),
        item("/link", Kind::Symlink(b"a/./b".to_vec())),
        item("/a/abs", Kind::Symlink(b"/link/file".to_vec())),
        item("/loop", Kind::Symlink(b"loop".to_vec())),
    ] {
        importer.put(event).expect("put");
    }
    importer.finish().expect("finish");
    let ino = |path: &str, last| resolve(&root, path.as_bytes(), last).map(|n| n.ino());
    let file = ino("/a/b/file", Last::Keep).expect("there");
    assert_eq!(ino("link/../b/file", Last::Keep).expect("there"), file);
    assert_eq!(ino("/a/abs", Last::Follow).expect("there"), file);
    assert_ne!(ino("/a/abs", Last::Keep).expect("there"), file);
    assert!(ino("/loop", Last::Follow).is_err());
    assert!(ino("/a/none", Last::Keep).is_err());
}

#[test]
fn negative_and_odd_times_print_as_find_does() {
    let root = file_system();
    let node = root.create(b"f", vfs::NewNode::Regular, 0o600, vfs::Cred::default()).expect("create");
    let mtime = Some(SetTime::To(TimeSpec { secs: -6, nanos: 750_000_000 }));
    node.setattr(&SetAttr { mtime, ..SetAttr::default() }).expect("setattr");
    assert_eq!(list(&root, List::Meta), "f 600 0 0 1 0 -6.7500000000 f\n");
}

#[test]
fn directories_are_made_and_trees_removed() {
    let root = file_system();
    make_directory(&root, b"/a/b/c", Parents::Need).expect_err("no parent");
    make_directory(&root, b"/a/b/c", Parents::Make).expect("made");
    make_directory(&root, b"/a/b", Parents::Make).expect("is there");
    make_directory(&root, b"/a/b", Parents::Need).expect_err("is there");
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    importer.put(item("/a/b/file", Kind::Regular { size: 9 })).expect("put");
    importer.put(item("/a/link", Kind::Symlink(b"b".to_vec()))).expect("put");
    importer.finish().expect("finish");
    make_directory(&root, b"/a/b/file", Parents::Make).expect_err("a file");
    remove(&root, b"/a", Depth::One).expect_err("a directory");
    remove(&root, b"/", Depth::All).expect_err("the root");
    remove(&root, b"/none", Depth::All).expect_err("not there");
    assert_eq!(remove(&root, b"/a/link", Depth::All).expect("the link, not its target"), 1);
    assert_eq!(remove(&root, b"a/", Depth::All).expect("a tree"), 4);
    assert_eq!(list(&root, List::Meta), "");
}

#[test]
fn a_covered_directory_is_listed_as_what_covers_it() {
    let (root, other) = (file_system(), file_system());
    let mut importer = Importer::new(mounts(&[("/", &root)]), TIME).expect("importer");
    importer.put(item("/d/below", Kind::Regular { size: 0 })).expect("put");
    importer.finish().expect("finish");
    other.setattr(&SetAttr { uid: Some(9), ..SetAttr::default() }).expect("setattr");
    let mut out = Vec::new();
    let covered = Covered::from([(b"d".to_vec(), other)]);
    manifest::write(&root, &covered, List::Meta, &mut out).expect("manifest");
    let text = String::from_utf8(out).expect("text");
    assert!(
        text.starts_with("d 755 9 0 - - ") && text.ends_with(" d\n") && text.lines().count() == 1,
        "{text}"
    );
}
