//! Pool checkpoints: kept, gone back to, discarded.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use ondisk::DmuType;
use rt_std as _;
use std::sync::Arc;
use zfs::Error;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::{Blocks, Compatibility, ImportOptions, PoolSpec, Spa, VdevSpec};

const SIZE: u64 = 128 << 20;

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

fn create(disk: &Arc<MemDisk>, spec: &PoolSpec) -> Arc<Spa> {
    let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
    Spa::create(vec![vdev], spec, &mut nothing).unwrap()
}

fn import(disk: &Arc<MemDisk>, options: &ImportOptions) -> Arc<Spa> {
    Spa::import(&[disk.clone() as Arc<dyn BlockDevice>], options).unwrap()
}

fn rewind() -> ImportOptions {
    ImportOptions { rewind_to_checkpoint: true, ..ImportOptions::default() }
}

fn assert_clean(spa: &Arc<Spa>) {
    let report = spa.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
}

/// Fills a dataset with objects of `byte`.
fn fill(spa: &Arc<Spa>, name: &str, byte: u8) {
    let objset = spa.open_dataset(name).unwrap().objset();
    for n in 0..40u64 {
        let tx = DmuTx::begin(&objset, TxSpace::write(256 << 10)).unwrap();
        let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 16 << 10)).unwrap();
        let data: Vec<u8> = (0..100_000u64).map(|i| (i * (n + 7)) as u8 ^ byte).collect();
        object.write_slice(&tx, 0, &data).unwrap();
    }
    drop(objset);
    spa.sync().unwrap();
}

fn names(spa: &Arc<Spa>) -> Vec<String> {
    spa.datasets().unwrap().into_iter().map(|d| d.name).collect()
}

#[test]
fn what_was_destroyed_since_is_there_again() {
    let disk = Arc::new(MemDisk::new(SIZE));
    let spa = create(&disk, &PoolSpec::new("tank"));
    spa.create_dataset("tank/old", &[], &mut nothing).unwrap();
    fill(&spa, "tank/old", 1);
    assert_eq!(spa.discard_checkpoint(), Err(Error::NotFound));
    let used = spa.space().unwrap().allocated;
    spa.checkpoint().unwrap();
    assert_eq!(spa.checkpoint(), Err(Error::Exists));
    let second = VdevSpec { device: Arc::new(MemDisk::new(SIZE)), path: "/dev/vdb".into(), is_file: false };
    let first = spa.vdevs()[0].guid;
    assert_eq!(
        spa.attach(first, &second, Blocks::Fit),
        Err(Error::Exists),
        "the checkpoint would not know it"
    );
    spa.destroy_dataset("tank/old").unwrap();
    spa.create_dataset("tank/new", &[], &mut nothing).unwrap();
    fill(&spa, "tank/new", 2);
    let info = spa.checkpoint_info().unwrap().expect("a checkpoint");
    assert!(info.bytes > 1 << 20 && !info.is_discarding, "{info:?}");
    assert!(spa.space().unwrap().allocated > used + (1 << 20), "nothing that it keeps is reused");
    assert_clean(&spa);
    spa.export().unwrap();
    // Looked at, without writing.
    let old = import(&disk, &ImportOptions { read_only: true, ..rewind() });
    assert_eq!(names(&old), ["tank", "tank/old"]);
    assert_clean(&old);
    drop(old);
    let spa = import(&disk, &ImportOptions::default());
    assert_eq!(names(&spa), ["tank", "tank/new"]);
    assert_clean(&spa);
    spa.abandon();
    // Gone back to.
    let spa = import(&disk, &rewind());
    assert_eq!(names(&spa), ["tank", "tank/old"]);
    assert_eq!(spa.checkpoint_info().unwrap(), None);
    assert_clean(&spa);
    fill(&spa, "tank/old", 3);
    assert_clean(&spa);
    spa.export().unwrap();
    let spa = import(&disk, &ImportOptions::default());
    assert_eq!(names(&spa), ["tank", "tank/old"]);
    assert_clean(&spa);
}

#[test]
fn discarding_gives_the_space_back_even_after_a_power_cut() {
    let disk = Arc::new(MemDisk::new(SIZE));
    let spa = create(&disk, &PoolSpec::new("tank"));
    for round in 0..3 {
        spa.create_dataset("tank/a", &[], &mut nothing).unwrap();
        fill(&spa, "tank/a", round);
        spa.checkpoint().unwrap();
        spa.destroy_dataset("tank/a").unwrap();
        fill(&spa, "tank", round);
        let before = spa.space().unwrap().allocated;
        let kept = spa.checkpoint_info().unwrap().expect("a checkpoint").bytes;
        // Cut off at some moment of discarding: whatever was reached, the next import ends it.
        let discarding = spa.clone();
        let thread = std::thread::spawn(move || discarding.discard_checkpoint().unwrap());
        let mut cuts = Vec::new();
        while !thread.is_finished() {
            cuts.push(Arc::new(disk.snapshot()));
        }
        thread.join().unwrap();
        assert_eq!(spa.checkpoint_info().unwrap(), None);
        let after = spa.space().unwrap().allocated;
        assert!(after + kept < before + (2 << 20), "{before} before, {after} after, {kept} were kept");
        assert_clean(&spa);
        for cut in cuts.iter().step_by(cuts.len() / 8 + 1) {
            let other = import(cut, &ImportOptions::default());
            let left = other.checkpoint_info().unwrap();
            assert!(left.is_none_or(|c| !c.is_discarding), "the import ends what was begun");
            assert_clean(&other);
            other.abandon();
        }
    }
    spa.export().unwrap();
    assert_eq!(
        Spa::import(&[disk.clone() as Arc<dyn BlockDevice>], &rewind()).map(drop),
        Err(Error::NotFound),
        "nothing to go back to"
    );
}

#[test]
fn checkpoints_need_their_feature() {
    let disk = Arc::new(MemDisk::new(SIZE));
    let spec = PoolSpec { compatibility: Compatibility::Grub2, ..PoolSpec::new("tank") };
    assert_eq!(create(&disk, &spec).checkpoint(), Err(Error::UnsupportedFeature));
}
