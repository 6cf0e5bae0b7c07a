use super::*;
use rt_std as _;

#[test]
fn keeps_the_promises_of_a_file_system() {
    crate::test_support::check_filesystem(|| RamFs::new(1 << 28, 0o755));
}

#[test]
fn is_bounded() {
    let fs = RamFs::new(16 * 4096, 0o755);
    let tree = crate::test_support::Tree::new(fs.clone());
    assert_eq!(tree.write("/a", &[1; 15 * 4096]), Ok(()));
    // One page fits: the write is short, and the next finds no room.
    assert_eq!(tree.write("/b", &[1; 2 * 4096]), Err(Error::Io));
    assert_eq!(tree.write("/c", &[1]), Err(Error::NoSpace));
    tree.ns.unlink_at(&tree.from(), b"/a").unwrap();
    assert_eq!(tree.write("/c", &[1]), Ok(()));
    assert_eq!(fs.statfs().unwrap().blocks_free, 14);
}

/// A name in one instance never leads to a file of another: its memory would be counted twice and freed once.
#[test]
fn instances_do_not_share_files() {
    let trees = [(), ()].map(|()| crate::test_support::Tree::new(RamFs::new(1 << 20, 0o755)));
    trees[0].write("/a", b"a").unwrap();
    let [file, other] = [trees[0].find("/a").unwrap(), trees[1].find("/").unwrap()];
    assert_eq!(other.vnode().link(b"b", file.vnode()), Err(Error::CrossDevice));
    let root = trees[0].find("/").unwrap();
    let moved = root.vnode().rename(b"a", other.vnode(), b"b", crate::RenameMode::Replace);
    assert_eq!(moved, Err(Error::CrossDevice));
}
