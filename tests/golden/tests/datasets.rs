//! What OpenZFS said of its datasets, and changing them: figures, accounts, a destruction that it left half done.
use blockdev::BlockDevice;
use blockdev_host::{FileDisk, OpenOptions};
use golden_tests::Pool;
use rt_std as _;
use std::path::Path;
use std::sync::Arc;
use zfs::spa::{ImportOptions, Spa};
use zpl::quota::{self, Account};

fn import(pool: &Pool) -> Arc<Spa> {
    let devices: Vec<Arc<dyn BlockDevice>> =
        pool.images.iter().map(|i| Arc::new(FileDisk::open(i).unwrap()) as Arc<dyn BlockDevice>).collect();
    let spa = Spa::import(&devices, &ImportOptions { force: true, ..ImportOptions::default() }).unwrap();
    assert_eq!(spa.properties().unwrap().read_only_reason, None);
    spa
}

fn lines(pool: &str, list: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(pool).join(list);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn assert_clean(spa: &Arc<Spa>) {
    spa.sync().unwrap();
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// As `zfs get -p` has them; the pool's own use, to which the export added, is left out.
#[test]
fn figures_are_those_that_openzfs_printed() {
    let pool = Pool::unpack("snap").unwrap();
    let spa = import(&pool);
    let list = lines("snap", "figures.tsv");
    assert!(list.len() > 80);
    for line in list {
        let f = spa.figures(&line[0]).unwrap();
        let value = match line[1].as_str() {
            "used" => f.space.used,
            "referenced" => f.space.referenced,
            "written" => f.written,
            "usedbysnapshots" => f.space.used_by_snapshots,
            "usedbydataset" => f.space.used_by_dataset,
            "usedbychildren" => f.space.used_by_children,
            "usedbyrefreservation" => f.space.used_by_refreservation,
            "logicalused" => f.space.logical_used,
            "logicalreferenced" => f.space.logical_referenced,
            "userrefs" => f.user_refs,
            other => panic!("{other}"),
        };
        assert_eq!(value.to_string(), line[2], "{} {}", line[0], line[1]);
    }
    spa.export().unwrap();
}

/// `zfs get -p` of the pool imported read-only: what nobody writes to is the same to the byte, the pool's own included.
#[test]
fn figures_of_a_pool_that_is_only_read_are_those_that_openzfs_printed() {
    let pool = Pool::unpack("snap").unwrap();
    let open = |i| Arc::new(OpenOptions::new().read_only(true).open(i).unwrap()) as Arc<dyn BlockDevice>;
    let devices: Vec<_> = pool.images.iter().map(|i| open(i)).collect();
    let options = ImportOptions { force: true, read_only: true, ..ImportOptions::default() };
    let spa = Spa::import(&devices, &options).unwrap();
    let list = lines("snap", "read-only.tsv");
    assert!(list.len() > 100);
    for line in list {
        let (name, property) = (line[0].as_str(), line[1].as_str());
        let f = spa.figures(name).unwrap();
        let times = |n: u64| Some(format!("{}.{:02}", n / 100, n % 100));
        let value = match property {
            "used" => Some(f.space.used.to_string()),
            "available" if name.contains('@') => None,
            "available" => Some(f.space.available.to_string()),
            "compressratio" => times(f.compress_ratio),
            "refcompressratio" => times(f.ref_compress_ratio),
            since => {
                let since = since.strip_prefix("written").unwrap();
                spa.written_since(name, since).ok().map(|bytes| bytes.to_string())
            }
        };
        assert_eq!(value.unwrap_or("-".into()), line[2], "{name} {property}");
    }
    spa.export().unwrap();
}

#[test]
fn snapshots_and_clones_of_openzfs_can_be_changed() {
    let pool = Pool::unpack("snap").unwrap();
    let spa = import(&pool);
    spa.snapshot(&["snap@new"], true, &[]).unwrap();
    spa.promote("snap/clone-a").unwrap();
    assert_clean(&spa);
    spa.destroy_snapshots(&["snap/clone-a@new", "snap/fs@new"], false).unwrap();
    assert_clean(&spa);
    spa.export().unwrap();
}

#[test]
fn accounts_are_those_that_openzfs_printed() {
    let pool = Pool::unpack("quota").unwrap();
    let spa = import(&pool);
    let objset = spa.open_dataset("quota/q").unwrap().objset();
    for (list, account) in [("userspace.tsv", Account::User), ("groupspace.tsv", Account::Group)] {
        let ours: Vec<Vec<String>> = quota::usage(&objset, account)
            .unwrap()
            .into_iter()
            .map(|(id, u)| [id, u.used, u.quota, u.objects, u.object_quota].map(|n| n.to_string()).to_vec())
            .collect();
        let theirs: Vec<Vec<String>> =
            lines("quota", list).into_iter().map(|line| line[1..].to_vec()).collect();
        assert_eq!(ours, theirs, "{list}");
    }
    drop(objset);
    spa.export().unwrap();
}

#[test]
fn a_destruction_left_half_done_is_brought_to_its_end() {
    let pool = Pool::unpack("asyncdest").unwrap();
    let spa = import(&pool);
    while spa.space().unwrap().freeing > 0 {
        let hold = spa.txgs().hold_open();
        let txg = hold.txg();
        drop(hold);
        spa.txgs().wait_synced(txg).unwrap();
    }
    assert_clean(&spa);
    spa.export().unwrap();
}
