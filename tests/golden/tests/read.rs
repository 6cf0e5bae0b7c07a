//! Golden pools, listed by the tools: every list must come out byte for byte, and what is not supported must be
//! refused by name.

use blockdev_host::MemDisk;
use golden_tests::open::{self, Opened};
use golden_tests::{Pool, difference};
use mkfs::tree::manifest::{self, List};
use mkfs::tree::walk::Covered;
use std::sync::Arc;
use vfs::VnodeRef;
use zfs::Error;

const KINDS: [(&str, List); 3] = [("sha256", List::Sha256), ("meta", List::Meta), ("xattr", List::Xattr)];

/// Reads every listed dataset of a pool, and compares all lists.
fn read(name: &str) {
    read_except(name, &[]);
}

/// As [`read`], without datasets that need what is refused; those must be refused.
fn read_except(name: &str, refused: &[&str]) {
    let pool = Pool::unpack(name).expect("unpacks");
    let opened = Opened::files(&pool.images).unwrap_or_else(|e| panic!("{name}: {e}"));
    let datasets = pool.listed().expect("lists");
    assert!(!datasets.is_empty(), "{name}: no lists");
    let mut problems = String::new();
    for dataset in &datasets {
        if refused.contains(&dataset.as_str()) {
            assert!(opened.mount(dataset).is_err(), "{dataset} was to be refused");
        } else if let Err(text) = compare(&pool, &opened, dataset, &datasets, refused) {
            problems += &text;
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

fn compare(
    pool: &Pool,
    opened: &Opened,
    dataset: &str,
    datasets: &[String],
    refused: &[&str],
) -> Result<(), String> {
    let root = root(opened, dataset).map_err(|e| format!("{dataset}: {e}\n"))?;
    let covered = covered(opened, dataset, datasets);
    let mut problems = String::new();
    for (kind, list) in KINDS {
        let Some(expected) = pool.list(dataset, kind).expect("reads the list") else { continue };
        let mut actual = Vec::new();
        manifest::write(&root, &covered, list, &mut actual)
            .map_err(|e| format!("{dataset}.{kind}: {e:#}\n"))?;
        let [expected, actual] = [expected, actual].map(|text| without(&text, dataset, refused));
        if let Some(text) = difference(&expected, &actual) {
            problems += &format!("{dataset}.{kind}:\n{text}");
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn root(opened: &Opened, dataset: &str) -> zpl::Result<VnodeRef> {
    Ok(opened.mount(dataset)?.root()?)
}

/// The children that were mounted below a dataset when its list was taken, where we can mount them.
fn covered(opened: &Opened, dataset: &str, datasets: &[String]) -> Covered {
    let below = format!("{dataset}/");
    let children =
        datasets.iter().filter_map(|d| Some((d, d.strip_prefix(&below)?))).filter(|(d, _)| !d.contains('@'));
    children.filter_map(|(d, path)| Some((path.as_bytes().to_vec(), root(opened, d).ok()?))).collect()
}

/// A list without the mount points of children that cannot be mounted: their roots were listed there.
fn without(list: &[u8], dataset: &str, refused: &[&str]) -> Vec<u8> {
    let below = format!("{dataset}/");
    let ends: Vec<String> =
        refused.iter().filter_map(|d| d.strip_prefix(&below)).map(|c| format!(" {c}\n")).collect();
    let lines = list.split_inclusive(|b| *b == b'\n');
    lines.filter(|line| !ends.iter().any(|end| line.ends_with(end.as_bytes()))).collect::<Vec<_>>().concat()
}

macro_rules! readable {
    ($($test:ident)*) => { $(#[test] fn $test() { read(stringify!($test)); })* };
}

readable! {
    plain acl compat20 grub2 nofeat v28 v15 nologsm stripe copies dnode embed holebirth quota bigdir multi full gang logsm
    twoway rz1 rz2 rz3 snap comp stripemir special l2arc degraded hotspare corrupt
}

/// Record sizes up to what is asked for. The pool's `.meta` lists are of sizes and names only, and its root file system
/// holds a file of one tebibyte that is all hole.
#[test]
fn recsize() {
    let pool = Pool::unpack("recsize").expect("unpacks");
    let opened = Opened::files(&pool.images).unwrap_or_else(|e| panic!("{e}"));
    for dataset in ["r512", "r1K", "r4K", "r16K", "r128K", "r1M", "r4M"].map(|name| format!("recsize/{name}"))
    {
        let root = opened.mount(&dataset).expect("mounts").root().expect("has a root");
        let expected = pool.list(&dataset, "sha256").expect("reads the list").expect("has one");
        let mut actual = Vec::new();
        manifest::write(&root, &Covered::new(), List::Sha256, &mut actual).expect("reads");
        assert_eq!(difference(&expected, &actual), None, "{dataset}");
    }
    let hole = opened
        .mount("recsize")
        .expect("mounts")
        .root()
        .expect("has a root")
        .lookup(b"tera")
        .expect("is there");
    assert_eq!(hole.getattr().expect("has attributes").size, 1 << 40);
    let mut bytes = [1; 4096];
    assert_eq!(hole.read(1 << 39, &mut vfs::SliceSink::new(&mut bytes)).expect("reads"), bytes.len());
    assert_eq!(bytes, [0; 4096]);
}

/// The vdev is the first partition of a whole disk.
#[test]
fn wholedisk() {
    let pool = Pool::unpack("wholedisk").expect("unpacks");
    let opened = Opened::partition(&pool.images[0]).unwrap_or_else(|e| panic!("{e}"));
    let root = opened.mount("wholedisk").expect("mounts").root().expect("has a root");
    for (kind, list) in KINDS {
        let Some(expected) = pool.list("wholedisk", kind).expect("reads the list") else { continue };
        let mut actual = Vec::new();
        manifest::write(&root, &Covered::new(), list, &mut actual).expect("reads");
        assert_eq!(difference(&expected, &actual), None);
    }
}

/// Directories whose names are matched without case or normalised need Unicode tables.
#[test]
fn names() {
    read_except("names", &["names/ci", "names/mixed", "names/norm"]);
}

/// Deduplicated blocks, by tables of either kind.
#[test]
fn deduplicated() {
    read_except("ddtold", &["ddtold/skein", "ddtold/edonr-verify"]);
    read_except("ddtfast", &["ddtfast/skein", "ddtfast/edonr-verify"]);
}

/// What is not encrypted beside what is.
#[test]
fn enc() {
    read_except("enc", &[]);
    let pool = Pool::unpack("enc").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    for name in ["enc/ccm", "enc/gcm", "enc/gcm192", "enc/gcm/child", "enc/gcm/dedup", "enc/hex"] {
        let error = opened.mount(name).err();
        assert!(matches!(error, Some(zpl::Error::Zfs(Error::Encrypted))), "{name}: {error:?}");
    }
}

/// Volumes are objects, not file systems.
#[test]
fn volumes() {
    let pool = Pool::unpack("multi").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    for name in ["multi/vol4K", "multi/vol16K", "multi/vol128K", "multi/ext4"] {
        let list = pool.list(name, "volsha256").expect("reads the list").expect("has one");
        let expected = String::from_utf8_lossy(&list);
        let actual = opened.volume_sha256(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(expected.starts_with(&actual), "{name}: {actual}, not {expected}");
    }
}

/// dRAID, removed vdevs, raidz that was expanded or is being expanded.
#[test]
fn unsupported_vdevs() {
    for name in ["drd", "indirect", "rzexp", "rzexpmid"] {
        let pool = Pool::unpack(name).expect("unpacks");
        let error = Opened::files(&pool.images).err().unwrap_or_else(|| panic!("{name} was to be refused"));
        assert!(matches!(error, Error::Unsupported | Error::UnsupportedFeature), "{name}: {error}");
    }
}

/// A dataset that needs what is not built in is refused, the rest of its pool is not.
#[test]
fn unsupported_datasets() {
    let cases =
        [("encroot", "encroot", Error::Encrypted), ("cksum", "cksum/skein", Error::UnsupportedFeature)];
    for (name, dataset, error) in cases {
        let pool = Pool::unpack(name).expect("unpacks");
        let opened = Opened::files(&pool.images).expect("imports");
        match opened.mount(dataset) {
            Err(zpl::Error::Zfs(e)) => assert_eq!(e, error, "{dataset}"),
            Err(e) => panic!("{dataset}: {e}"),
            Ok(_) => panic!("{dataset} was to be refused"),
        }
    }
}

/// Without one of its two devices a striped pool cannot be opened, and says so.
#[test]
fn missing_device() {
    let pool = Pool::unpack("stripe").expect("unpacks");
    for image in &pool.images {
        assert_eq!(Opened::files(std::slice::from_ref(image)).err(), Some(Error::MissingVdev));
    }
}

/// What was only in the intent log is replayed: the dataset is what it was when its writers were told "durable".
fn replayed(name: &str) {
    let pool = Pool::unpack(name).expect("unpacks");
    let disks: Vec<_> = pool.images.iter().map(|i| Arc::new(MemDisk::from_file(i).expect("loads"))).collect();
    let devices: Vec<_> = disks.iter().map(|d| d.clone() as Arc<dyn blockdev::BlockDevice>).collect();
    // Read-only, the tree is shown as it is without the log.
    let opened = Opened::devices(&devices).expect("imports");
    let root = opened.mount(name).expect("mounts").root().expect("has a root");
    assert!(root.lookup(b"new").is_err() && root.lookup(b"base").is_ok());
    let reason = opened.spa.open_dataset(name).expect("opens").read_only_reason().unwrap_or_default();
    assert!(reason.contains("intent log"), "{reason}");
    drop((root, opened));
    for _ in 0..2 {
        let opened = Opened::writable(&devices).expect("imports");
        assert!(!opened.spa.properties().expect("has properties").is_read_only);
        let fs = zpl::mount(&opened.spa, name, &zpl::MountOptions::default()).expect("mounts");
        compare_log(&pool, &vfs::FileSystem::root(&*fs).expect("has a root"));
        drop(fs);
        let report = opened.spa.verify(&mut |_| ()).expect("can be walked");
        assert!(report.is_clean(), "{name}: {report:?}");
        opened.spa.export().expect("exports");
    }
}

/// Content, extended attributes, and of the metadata what replay restores: all but times.
fn compare_log(pool: &Pool, root: &VnodeRef) {
    let lines = |text: Vec<u8>| {
        let mut lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for (kind, list) in KINDS {
        let expected = pool.list("zil-expect", kind).expect("reads").expect("is there");
        let mut actual = Vec::new();
        manifest::write(root, &Covered::new(), list, &mut actual).expect("reads");
        let without_times = |line: String| {
            let fields: Vec<&str> = line.splitn(8, ' ').collect();
            match (kind, &fields[..]) {
                ("meta", [a, b, c, d, e, f, _, name]) => [*a, b, c, d, e, f, name].join(" "),
                _ => line,
            }
        };
        let [expected, actual] =
            [expected, actual].map(|text| lines(text).into_iter().map(without_times).collect::<Vec<_>>());
        assert_eq!(actual, expected, "{kind}");
    }
}

#[test]
fn zilmain() {
    replayed("zilmain");
}

#[test]
fn zilslog() {
    replayed("zilslog");
}

/// Every file system of a pool is found by its name.
#[test]
fn all_listed_datasets_exist() {
    let pool = Pool::unpack("multi").expect("unpacks");
    let opened = Opened::files(&pool.images).expect("imports");
    let found = open::names(&opened.spa).expect("lists");
    for name in pool.listed().expect("lists") {
        assert!(found.contains(&name), "{name} is not in {found:?}");
    }
}
