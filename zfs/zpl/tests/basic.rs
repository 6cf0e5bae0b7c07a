//! What is written is there, now and after the pool was closed and opened again.
mod common;

use blockdev_host::MemDisk;
use std::sync::Arc;
use vfs::test_support::Tree;

#[test]
fn files_survive_an_export() {
    let disk = Arc::new(MemDisk::new(256 << 20));
    let spa = common::create(&disk, |_| ());
    let tree = Tree::new(common::root(&spa));
    tree.write("/hello", b"hello, world").unwrap();
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    tree.ns.sync().unwrap();
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    tree.ns.unmount_all().unwrap();
    drop(tree);
    spa.export().unwrap();
    drop(spa);
    let spa = common::import(&disk);
    let tree = Tree::new(common::root(&spa));
    assert_eq!(tree.read("/hello").unwrap(), b"hello, world");
    assert_eq!(tree.list("/").unwrap(), [b"hello"]);
}
