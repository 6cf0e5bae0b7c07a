//! What is written is there, now and after the pool was closed and opened again.
use crate::pools;
use blockdev_host::MemDisk;
use std::sync::Arc;
use vfs::test_support::Tree;

#[test]
fn files_survive_an_export() {
    pools::log_to_stderr();
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = pools::create(&disk, |_| ());
    let tree = Tree::new(pools::root(&spa));
    tree.write("/hello", b"hello, world").unwrap();
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    tree.ns.sync().unwrap();
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    tree.ns.unmount_all().unwrap();
    drop(tree);
    spa.export().unwrap();
    drop(spa);
    let spa = pools::import(&disk);
    let tree = Tree::new(pools::root(&spa));
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    assert_eq!(tree.list("/").unwrap(), [b"hello"]);
}
