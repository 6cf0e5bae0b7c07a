//! Pools that OpenZFS made, imported read-only: every block, every checksum, the space maps (unflushed logs and
//! checkpoints included), the features' refcounts and the datasets' figures must be what our own walk counts.
use blockdev::BlockDevice;
use golden_tests::Pool;
use rt_std as _;
use std::sync::Arc;
use zfs::Error;
use zfs::event::{Event, EventLog};
use zfs::spa::{ImportOptions, PoolName, Spa};
use zfs::verify::Finding;

fn devices(pool: &Pool) -> Vec<Arc<dyn BlockDevice>> {
    let open = |path| blockdev_host::OpenOptions::new().read_only(true).open(path).unwrap();
    pool.images.iter().map(|path| Arc::new(open(path)) as Arc<dyn BlockDevice>).collect()
}

fn import(name: &str) -> (Pool, zfs::Result<Arc<Spa>>) {
    let pool = Pool::unpack(name).unwrap();
    let options = ImportOptions { read_only: true, ..ImportOptions::default() };
    let spa = Spa::import(&devices(&pool), &options);
    (pool, spa)
}

fn pool_names() -> Vec<String> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
    let mut names: Vec<String> =
        std::fs::read_dir(data).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Pools that are refused, with the feature that stands in the way.
const REFUSED: &[(&str, &str)] = &[
    ("drd", "org.openzfs:draid"),
    ("indirect", "com.delphix:device_removal"),
    ("rzexp", "org.openzfs:raidz_expansion"),
    ("rzexpmid", "org.openzfs:raidz_expansion"),
];
/// Damaged on purpose: copies on one side of a mirror are bad, the other side is good.
const HALF_BAD: &[&str] = &["corrupt"];
/// Holds its pool in a partition.
const PARTITIONED: &str = "wholedisk";

#[test]
fn every_pool_that_can_be_read_is_clean() {
    for name in pool_names() {
        let pool = Pool::unpack(&name).unwrap();
        let events = EventLog::new();
        let options = ImportOptions { read_only: true, events: events.clone(), ..ImportOptions::default() };
        let spa = Spa::import(&devices(&pool), &options);
        if let Some((_, feature)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            assert_eq!(spa.map(drop), Err(Error::UnsupportedFeature), "{name}");
            let event = Event::Feature { guid: (*feature).to_owned(), is_readable: false };
            assert_eq!(events.snapshot(), [event], "{name}");
            continue;
        }
        if name == PARTITIONED {
            assert_eq!(spa.map(drop), Err(Error::NoLabel));
            continue;
        }
        let spa = spa.unwrap_or_else(|e| panic!("{name}: {e}"));
        let report = spa.verify(&mut |_| {}).unwrap();
        let is_expected =
            |f: &Finding| HALF_BAD.contains(&name.as_str()) && matches!(f, Finding::BadCopy { .. });
        let bad: Vec<_> = report.findings.iter().filter(|f| !is_expected(f)).collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
        assert_eq!(HALF_BAD.contains(&name.as_str()), !report.is_clean(), "{name}");
        assert!(report.nr_datasets >= 3, "{name}");
    }
}

#[test]
fn figures_are_those_of_openzfs() {
    // zdb -bcc: blocks; zfs list after the export: referenced.
    let (_pool, spa) = import("plain");
    let spa = spa.unwrap();
    assert_eq!(spa.verify(&mut |_| {}).unwrap().nr_blocks, 478);
    let root = &spa.datasets().unwrap()[0];
    assert_eq!((root.name.as_str(), root.id, root.guid), ("plain", 54, 9_977_669_944_751_433_817));
    assert_eq!((root.space.referenced, root.space.logical_referenced), (828_928, 2_124_288));
    let history = spa.history().unwrap();
    assert!(history.iter().any(|r| r.text == "zpool create -f -R /a plain /dev/oracle/d0"));
    assert_eq!(history.last().unwrap().text, "zpool export plain");
}

#[test]
fn properties_come_with_their_sources() {
    use zfs::dsl::{Property, PropertyValue, Source};
    let (_pool, spa) = import("multi");
    let spa = spa.unwrap();
    let get = |ds: &str, name: &str| {
        let property = Property::parse(name).unwrap();
        let (value, source) = spa.get_property(ds, &property).unwrap();
        (property.format_value(&value), source)
    };
    let inherited = |from: &str| Source::Inherited(from.to_owned());
    assert_eq!(get("multi", "atime"), ("off".to_owned(), Source::Local));
    assert_eq!(get("multi/a/b/c/d/e", "atime"), ("off".to_owned(), inherited("multi")));
    assert_eq!(get("multi/home/u1", "mountpoint"), ("/elsewhere/x".to_owned(), Source::Local));
    assert_eq!(get("multi/a/b", "mountpoint"), ("/multi/a/b".to_owned(), Source::Default));
    assert_eq!(get("multi/leg", "mountpoint"), ("legacy".to_owned(), Source::Local));
    assert_eq!(get("multi/home/u2", "canmount"), ("noauto".to_owned(), Source::Local));
    assert_eq!(get("multi/home/u2", "recordsize"), ("131072".to_owned(), Source::Default));
    assert_eq!(get("multi/home/u1", "org.golden:user"), ("prop".to_owned(), inherited("multi")));
    let user = spa.user_properties("multi/home").unwrap();
    let text = |t: &str| PropertyValue::Text(t.to_owned());
    let named = |n: &str| Property::User(n.to_owned());
    assert_eq!(
        user,
        [
            (named("org.golden:long"), text("some value with spaces"), Source::Local),
            (named("org.golden:user"), text("prop"), inherited("multi")),
        ]
    );
}

#[test]
fn a_rewind_opens_an_older_state() {
    let (pool, spa) = import("plain");
    let newest = spa.unwrap().properties().unwrap().txg;
    let options = ImportOptions { read_only: true, rewind_txg: Some(newest - 1), ..ImportOptions::default() };
    let older = Spa::import(&devices(&pool), &options).unwrap();
    assert!(older.properties().unwrap().txg < newest);
    assert!(older.verify(&mut |_| {}).unwrap().findings.iter().all(|f| !matches!(f, Finding::Lost { .. })));
    let options = ImportOptions { read_only: true, rewind_txg: Some(1), ..ImportOptions::default() };
    assert_eq!(Spa::import(&devices(&pool), &options).map(drop), Err(Error::NoUberblock));
}

#[test]
fn what_is_missing_or_foreign_is_said() {
    let (pool, _) = import("stripe");
    let all = devices(&pool);
    let options = ImportOptions { read_only: true, ..ImportOptions::default() };
    assert_eq!(Spa::import(&all[..1], &options).map(drop), Err(Error::MissingVdev));
    assert_eq!(Spa::import(&[], &options).map(drop), Err(Error::NoLabel));
    let by_name = |name: &str| ImportOptions { pool: PoolName::Name(name.to_owned()), ..options.clone() };
    assert_eq!(Spa::import(&all, &by_name("plain")).map(drop), Err(Error::NotFound));
    assert!(Spa::import(&all, &by_name("stripe")).is_ok());
    let (other, _) = import("plain");
    let mut mixed = devices(&other);
    mixed.extend(all);
    assert_eq!(Spa::import(&mixed, &options).map(drop), Err(Error::Invalid));
    assert!(Spa::import(&mixed, &by_name("stripe")).is_ok());
}
