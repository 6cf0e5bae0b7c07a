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
