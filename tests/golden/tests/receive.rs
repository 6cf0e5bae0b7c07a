//! Streams of OpenZFS received into a pool of ours: what is then there is what OpenZFS listed of its snapshots.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use golden_tests::open::Opened;
use golden_tests::{Pool, difference, streams};
use mkfs::tree::manifest::{self, List};
use mkfs::tree::walk::Covered;
use std::sync::Arc;
use vfs::{Cred, FileSystem, NewNode};
use zfs::Error;
use zfs::dmu::{DmuTx, Objset};
use zfs::dsl::{Property, PropertyValue, Source};
use zfs::send::{Naming, ReceiveOptions, Received};
use zfs::spa::{PoolSpec, Spa, VdevSpec};

const KINDS: [(&str, List); 3] = [("sha256", List::Sha256), ("meta", List::Meta), ("xattr", List::Xattr)];

/// A pool of ours on one disk in memory.
struct Target {
    disk: Arc<MemDisk>,
    opened: Opened,
}

impl Target {
    fn new() -> Self {
        let disk = Arc::new(MemDisk::new(256 << 20));
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
        let spa = Spa::create(vec![vdev], &PoolSpec::new("tank"), &mut empty).expect("makes a pool");
        Self { disk, opened: Opened { spa } }
    }

    fn receive(&self, name: &str, target: &str, options: &ReceiveOptions) -> zfs::Result<Vec<Received>> {
        receive(&self.opened.spa, &streams::golden(name).expect("unpacks"), target, options)
    }

    fn take(&self, name: &str, target: &str) {
        self.receive(name, target, &ReceiveOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Compares a dataset with the lists of one of the pool `sends`.
    fn same(&self, here: &str, there: &str) {
        let lists = Pool::unpack("sends").expect("unpacks");
        let root = self.opened.mount(here).unwrap_or_else(|e| panic!("{here}: {e}")).root().expect("a root");
        let mut nr_lists = 0;
        for (kind, list) in KINDS {
            let Some(expected) = lists.list(there, kind).expect("reads the list") else { continue };
            let mut actual = Vec::new();
            manifest::write(&root, &Covered::new(), list, &mut actual)
                .unwrap_or_else(|e| panic!("{here}: {e:#}"));
            assert_eq!(difference(&expected, &actual), None, "{here}.{kind}");
            nr_lists += 1;
        }
        assert!(nr_lists > 1, "{there} has no lists");
    }

    /// Everything is accounted for, now and after export and import.
    fn clean(self) {
        self.opened.spa.sync().expect("syncs");
        assert_clean(&self.opened.spa);
        self.opened.spa.export().expect("exports");
        let again = Opened::writable(&[self.disk.clone() as Arc<dyn BlockDevice>]).expect("imports");
        assert_clean(&again.spa);
        again.spa.export().expect("exports");
    }
}

/// An empty file system.
fn empty(tx: &DmuTx, objset: &Arc<Objset>) -> zfs::Result<()> {
    zpl::create_fs(tx, objset, &zpl::CreateOptions::default())
}

fn assert_clean(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).expect("walks");
    assert!(report.is_clean(), "{:#?}", report.findings);
}

fn receive(
    spa: &Arc<Spa>,
    stream: &[u8],
    target: &str,
    options: &ReceiveOptions,
) -> zfs::Result<Vec<Received>> {
    let mut rest = stream;
    spa.receive(target, options, &mut |buf| {
        let n = buf.len().min(rest.len());
        let (now, later) = rest.split_at(n);
        buf[..n].copy_from_slice(now);
        rest = later;
        Ok(n)
    })
}

#[test]
fn full_streams_of_all_forms() {
    let target = Target::new();
    for name in ["full", "full-L", "full-c", "full-e", "full-Lec", "full-p"] {
        let here = format!("tank/{name}");
        target.take(name, &here);
        target.same(&format!("{here}@a"), "sends/fs@a");
        target.same(&here, "sends/fs@a");
    }
    target.clean();
}

#[test]
fn incremental_streams() {
    let target = Target::new();
    target.take("full", "tank/fs");
    target.take("inc", "tank/fs");
    target.same("tank/fs@a", "sends/fs@a");
    target.same("tank/fs@b", "sends/fs@b");
    target.same("tank/fs", "sends/fs@b");
    target.take("from-bookmark", "tank/fs");
    target.same("tank/fs@c", "sends/fs@c");
    target.take("full-Lec", "tank/large");
    target.take("inc-Lec", "tank/large");
    target.same("tank/large@b", "sends/fs@b");
    target.take("full", "tank/row");
    target.take("inc-I", "tank/row");
    target.same("tank/row@b", "sends/fs@b");
    target.same("tank/row@c", "sends/fs@c");
    target.clean();
}

#[test]
fn replication_streams() {
    let target = Target::new();
    let received = target.receive("repl", "tank/copy", &ReceiveOptions::default()).expect("receives");
    let names: Vec<&str> = received.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["tank/copy@a", "tank/copy@b", "tank/copy@c", "tank/copy/kid@c"]);
    for snapshot in ["a", "b", "c"] {
        target.same(&format!("tank/copy@{snapshot}"), &format!("sends/fs@{snapshot}"));
    }
    target.same("tank/copy/kid@c", "sends/fs/kid@c");
    let record_size = target.opened.spa.get_property("tank/copy", &Property::RecordSize);
    assert_eq!(record_size, Ok((PropertyValue::Number(1 << 20), Source::Received)));
    target.take("full", "tank/behind");
    let received = target.receive("repl-inc", "tank/behind", &ReceiveOptions::default()).expect("receives");
    assert_eq!(received.len(), 3);
    target.same("tank/behind@c", "sends/fs@c");
    target.same("tank/behind/kid@c", "sends/fs/kid@c");
    // What is there already is passed over.
    let again = target.receive("repl", "tank/copy", &ReceiveOptions::default()).expect("receives");
    assert!(again.iter().all(|r| r.is_skipped));
    target.clean();
}

#[test]
fn names_and_properties_of_the_receiver() {
    let target = Target::new();
    let spa = &target.opened.spa;
    spa.create_dataset("tank/in", &[], &mut empty).expect("creates");
    let options = |naming| ReceiveOptions { naming, ..ReceiveOptions::default() };
    let received = target.receive("full", "tank/in", &options(Naming::LastPart)).expect("receives");
    assert_eq!(received[0].name, "tank/in/fs@a");
    assert_eq!(received[0].from, "sends/fs@a");
    let received = target.receive("vol", "tank/in", &options(Naming::WithoutPool)).expect("receives");
    assert_eq!(received[0].name, "tank/in/vol@a");
    let expected =
        Pool::unpack("sends").and_then(|p| p.list("sends/vol", "volsha256")).expect("a list").expect("one");
    let hash = target.opened.volume_sha256("tank/in/vol@a").expect("reads");
    assert!(String::from_utf8(expected).expect("text").starts_with(&hash));
    let own = ReceiveOptions {
        set: vec![(Property::RecordSize, PropertyValue::Number(4096))],
        exclude: vec![Property::AclType],
        ..ReceiveOptions::default()
    };
    let received = target.receive("full-p", "tank/own@renamed", &own).expect("receives");
    assert_eq!(received[0].name, "tank/own@renamed");
    let value = |property| spa.get_property("tank/own", &property).expect("a value");
    assert_eq!(value(Property::RecordSize), (PropertyValue::Number(4096), Source::Local));
    assert_eq!(value(Property::AclType).1, Source::Default);
    assert_eq!(value(Property::DnodeSize), (PropertyValue::Number(1), Source::Received));
    target.clean();
}

#[test]
fn what_does_not_fit_the_target_is_refused() {
    let target = Target::new();
    let plain = ReceiveOptions::default();
    let force = ReceiveOptions { force: true, ..ReceiveOptions::default() };
    assert_eq!(target.receive("inc", "tank/fs", &plain), Err(Error::NoBase));
    assert_eq!(target.receive("full", "tank/no/fs", &plain), Err(Error::NotFound));
    assert_eq!(target.receive("full", "other/fs", &plain), Err(Error::NotFound));
    target.take("full", "tank/fs");
    assert_eq!(target.receive("full", "tank/fs", &plain), Err(Error::Exists));
    assert_eq!(target.receive("full", "tank/fs", &force), Err(Error::Exists));
    assert_eq!(target.receive("enc-raw-inc", "tank/fs", &plain), Err(Error::Encrypted));
    assert_eq!(target.receive("redacted", "tank/red", &plain), Err(Error::Unsupported));
    assert_eq!(target.receive("from-bookmark", "tank/fs", &plain), Err(Error::NoBase));
    // Changed since the base.
    {
        let fs = zpl::mount(&target.opened.spa, "tank/fs", &zpl::MountOptions::default()).expect("mounts");
        let root = fs.root().expect("a root");
        root.create(b"new", NewNode::Directory, 0o755, Cred::default()).expect("makes");
        fs.sync().expect("syncs");
        drop(root);
        fs.unmount().expect("unmounts");
    }
    assert_eq!(target.receive("inc", "tank/fs", &plain), Err(Error::Modified));
    target.receive("inc", "tank/fs", &force).expect("receives");
    target.same("tank/fs", "sends/fs@b");
    // Newer snapshots go.
    target.opened.spa.snapshot(&["tank/fs@mine"], false, &[]).expect("snapshots");
    assert_eq!(target.receive("from-bookmark", "tank/fs", &plain), Err(Error::Modified));
    target.receive("from-bookmark", "tank/fs", &force).expect("receives");
    target.same("tank/fs@c", "sends/fs@c");
    assert!(target.opened.spa.open_dataset("tank/fs@mine").is_err());
    target.clean();
}

/// Streams of big-endian hosts: made by turning those of OpenZFS.
#[test]
fn streams_of_the_other_byte_order() {
    let target = Target::new();
    let spa = &target.opened.spa;
    let options = ReceiveOptions::default();
    for (name, from, to) in [("full", "fs", "a"), ("inc", "fs", "b"), ("vol", "vol", "a")] {
        let stream = streams::golden(name).expect("unpacks");
        receive(spa, &stream, &format!("tank/{from}"), &options).expect("receives");
        let objset = spa.open_dataset(&format!("tank/{from}@{to}")).expect("opens").objset();
        let foreign = streams::foreign(&stream, &objset).expect("turns");
        assert_ne!(foreign[8..16], stream[8..16]);
        let here = format!("tank/foreign-{from}");
        receive(spa, &foreign, &here, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        if from == "fs" {
            target.same(&format!("{here}@{to}"), &format!("sends/fs@{to}"));
        }
    }
    let [one, other] =
        ["tank/vol@a", "tank/foreign-vol@a"].map(|v| target.opened.volume_sha256(v).expect("reads"));
    assert_eq!(one, other);
    target.clean();
}
