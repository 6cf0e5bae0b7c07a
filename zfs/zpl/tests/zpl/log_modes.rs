//! What is logged how: attributes, and the properties that say when changes become durable.
use crate::log::{after_power_cut, fsync, ready};
use crate::pools;
use blockdev_host::{Crash, MemDisk};
use std::sync::Arc;
use vfs::test_support::Tree;
use vfs::{Error, VnodeRef, XattrMode};
use zfs::dsl::{Property, PropertyValue};
use zfs::spa::{Compatibility, Spa};
use zfs::zil::ZilStats;
use zpl::ZplFs;

fn disk() -> Arc<MemDisk> {
    Arc::new(MemDisk::new(256 << 20))
}

fn stats(fs: &ZplFs) -> ZilStats {
    fs.objset().zil().unwrap().stats()
}

fn set_sync(spa: &Spa, mode: u64) {
    spa.set_property("tank", &Property::Sync, &PropertyValue::Number(mode)).unwrap();
}

fn vnode(tree: &Tree, path: &str) -> VnodeRef {
    tree.find(path).unwrap().vnode().clone()
}

#[test]
fn extended_attributes_are_durable_without_their_group() {
    let disk = disk();
    let (spa, fs, tree) = ready(&disk);
    tree.write("/file", b"content").unwrap();
    let file = vnode(&tree, "/file");
    let long = vec![7; 20_000];
    for (name, value) in
        [(&b"user.a"[..], &b"first"[..]), (b"user.gone", b"x"), (b"user.long", &long), (b"user.a", b"second")]
    {
        file.setxattr(name, value, XattrMode::Any).unwrap();
    }
    file.removexattr(b"user.gone").unwrap();
    fsync(&tree, "/file");
    assert_eq!(stats(&fs).nr_group_waits, 1, "{:?}", stats(&fs));
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    let file = vnode(&tree, "/file");
    assert_eq!(file.getxattr(b"user.a").unwrap(), b"second");
    assert_eq!(file.getxattr(b"user.long").unwrap(), long);
    assert_eq!(file.getxattr(b"user.gone"), Err(Error::NoData));
}

/// An empty value looks like a removal in a record, so its group is waited for.
#[test]
fn an_empty_attribute_is_not_taken_for_a_removed_one() {
    let disk = disk();
    let (spa, fs, tree) = ready(&disk);
    tree.write("/file", b"content").unwrap();
    vnode(&tree, "/file").setxattr(b"user.empty", b"", XattrMode::Any).unwrap();
    fsync(&tree, "/file");
    assert_eq!(stats(&fs).nr_group_waits, 2);
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert_eq!(vnode(&tree, "/file").getxattr(b"user.empty").unwrap(), b"");
}

/// Without the pool feature nothing else would know what the record says.
#[test]
fn attributes_wait_for_their_group_where_the_feature_is_not_enabled() {
    let disk = disk();
    let spa = pools::create(&disk, |spec| spec.compatibility = Compatibility::Grub2);
    let fs = pools::root(&spa);
    let tree = Tree::new(fs.clone());
    tree.write("/file", b"content").unwrap();
    fsync(&tree, "/file");
    let before = stats(&fs).nr_group_waits;
    vnode(&tree, "/file").setxattr(b"user.a", b"1", XattrMode::Any).unwrap();
    fsync(&tree, "/file");
    assert_eq!(stats(&fs).nr_group_waits, before + 1);
}

#[test]
fn with_sync_always_every_change_is_durable_at_once() {
    let disk = disk();
    let (spa, fs, _) = ready(&disk);
    drop(fs);
    set_sync(&spa, 1);
    let fs = pools::root(&spa);
    let tree = Tree::new(fs);
    tree.write("/written", b"never asked for").unwrap();
    let file = vnode(&tree, "/written");
    file.setxattr(b"user.a", b"1", XattrMode::Any).unwrap();
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert_eq!(tree.read("/written").unwrap(), b"never asked for");
    assert_eq!(vnode(&tree, "/written").getxattr(b"user.a").unwrap(), b"1");
}

/// Nothing is promised, and nothing torn: what is there after a power cut is a whole group.
#[test]
fn with_sync_disabled_fsync_does_nothing() {
    let disk = disk();
    let (spa, fs, tree) = ready(&disk);
    set_sync(&spa, 2);
    fs.reload_properties().unwrap();
    let before = stats(&fs);
    tree.write("/lost", b"content").unwrap();
    fsync(&tree, "/lost");
    assert_eq!(stats(&fs), before);
    // What was not listed meanwhile cannot be logged when the property changes back: the next commit waits.
    set_sync(&spa, 0);
    fs.reload_properties().unwrap();
    tree.write("/lost", b"CONTENT").unwrap();
    fsync(&tree, "/lost");
    let (_spa, tree) = after_power_cut(&disk, &spa, Crash::DropAll);
    assert_eq!(tree.read("/lost").unwrap(), b"CONTENT");
}
