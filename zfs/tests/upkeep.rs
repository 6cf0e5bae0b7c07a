//! Trim and initialize: what they touch is free, and stays out of the reach of every uberblock that could be used.
use blockdev::{BlockDevice, Op};
use blockdev_host::MemDisk;
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::spa::{
    ImportOptions, PoolNumber, PoolSpec, Purpose, Spa, TopKind, TopSpec, Upkeep, UpkeepState, VdevSpec,
};

const DISK: u64 = 128 << 20;
const RECORD: u64 = 128 << 10;

struct Pool {
    disks: Vec<Arc<MemDisk>>,
    spa: Arc<Spa>,
}

fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

impl Pool {
    fn create(kind: TopKind, width: usize) -> Self {
        let disks: Vec<_> = (0..width).map(|_| Arc::new(MemDisk::new(DISK))).collect();
        let device =
            |disk: &Arc<MemDisk>| VdevSpec { device: disk.clone(), path: "/dev/x".into(), is_file: false };
        let devices = disks.iter().map(device).collect();
        let top = TopSpec { kind, purpose: Purpose::Data, devices };
        let spa = Spa::create(vec![top], &PoolSpec::new("tank"), &mut nothing).unwrap();
        Self { disks, spa }
    }

    fn devices(&self) -> Vec<Arc<dyn BlockDevice>> {
        self.disks.iter().map(|d| d.clone() as Arc<dyn BlockDevice>).collect()
    }

    fn write(&self, seed: u64, records: u64) -> ObjectId {
        let objset = self.spa.open_dataset("tank").unwrap().objset();
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0)).unwrap();
        let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, RECORD as u32);
        let object = objset.allocate(&tx, &new).unwrap();
        drop(tx);
        for record in 0..records {
            let tx = DmuTx::begin(&objset, TxSpace::write(RECORD)).unwrap();
            object.write_slice(&tx, record * RECORD, &content(seed + record)).unwrap();
        }
        self.spa.sync().unwrap();
        object.id()
    }

    fn free(&self, object: ObjectId) {
        let objset = self.spa.open_dataset("tank").unwrap().objset();
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
        objset.free(&tx, object).unwrap();
        drop(tx);
        self.spa.sync().unwrap();
    }

    fn assert_whole(&self, object: ObjectId, seed: u64, records: u64) {
        let objset = self.spa.open_dataset("tank").unwrap().objset();
        for record in 0..records {
            let read = objset.hold(object).unwrap().read_vec(record * RECORD, RECORD as usize).unwrap();
            assert!(read == content(seed + record));
        }
        drop(objset);
        self.groups(1);
        let report = self.spa.verify(&mut |_| {}).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
    }

    /// Transaction groups in which something small changes.
    fn groups(&self, nr: u64) {
        for _ in 0..nr {
            self.spa.log_history("a group").unwrap();
        }
    }

    fn occupied(&self) -> u64 {
        self.disks.iter().map(|d| d.allocated()).sum()
    }
}

fn content(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..RECORD).map(|_| next()).collect()
}

const LAYOUTS: [(TopKind, usize); 4] = [
    (TopKind::Disk, 1),
    (TopKind::Mirror, 2),
    (TopKind::RaidZ { nparity: 1 }, 3),
    (TopKind::RaidZ { nparity: 2 }, 5),
];

#[test]
fn a_trim_gives_back_what_is_free_and_nothing_else() {
    for (kind, width) in LAYOUTS {
        let mut pool = Pool::create(kind, width);
        let kept = pool.write(1, 60);
        let gone = pool.write(1000, 200);
        pool.free(gone);
        pool.groups(4);
        let before = pool.occupied();
        let mut nr_steps = 0;
        let report = pool.spa.upkeep(Upkeep::Trim, &mut |_, _| nr_steps += 1).unwrap();
        assert!(report.bytes > 200 * RECORD && nr_steps > 0, "{kind:?}");
        assert!(pool.occupied() + 150 * RECORD < before, "{kind:?}: {} of {before}", pool.occupied());
        let leaf = pool.spa.storage().leaves()[0].guid();
        assert_eq!(pool.spa.upkeep_state(Upkeep::Trim, leaf).unwrap().0, UpkeepState::Complete);
        assert_eq!(pool.spa.upkeep_state(Upkeep::Initialize, leaf).unwrap().0, UpkeepState::None);
        pool.spa.export().unwrap();
        pool.spa = Spa::import(&pool.devices(), &ImportOptions::default()).unwrap();
        pool.assert_whole(kept, 1, 60);
        let again = pool.write(5000, 300);
        pool.assert_whole(again, 5000, 300);
        pool.spa.export().unwrap();
    }
}

#[test]
fn initializing_writes_over_free_space_only() {
    for (kind, width) in LAYOUTS {
        let pool = Pool::create(kind, width);
        let kept = pool.write(1, 60);
        let report = pool.spa.upkeep(Upkeep::Initialize, &mut |_, _| ()).unwrap();
        assert!(report.bytes > DISK / 4, "{kind:?}");
        pool.assert_whole(kept, 1, 60);
        let leaf = pool.spa.storage().leaves()[0].guid();
        pool.spa.stop_upkeep(Upkeep::Initialize, true).unwrap();
        assert_eq!(pool.spa.upkeep_state(Upkeep::Initialize, leaf).unwrap().0, UpkeepState::Canceled);
        pool.spa.export().unwrap();
    }
}

#[test]
fn autotrim_discards_only_what_the_last_groups_do_not_name() {
    for (kind, width) in LAYOUTS {
        let mut pool = Pool::create(kind, width);
        pool.spa.set_pool_number(PoolNumber::AutoTrim, 1).unwrap();
        let kept = pool.write(1, 40);
        let gone = pool.write(1000, 100);
        // Whatever was on the disks two groups ago must still be there: the newest uberblock but two is imported after
        // each group in which something was discarded.
        let nr_discards = Arc::new(AtomicU64::new(0));
        for disk in &pool.disks {
            let nr = nr_discards.clone();
            disk.set_hook(Some(Arc::new(move |op: &Op| {
                if let Op::Discard { len, .. } = op {
                    nr.fetch_add(*len, Ordering::Relaxed);
                }
                None
            })));
        }
        pool.free(gone);
        assert_eq!(
            nr_discards.load(Ordering::Relaxed),
            0,
            "{kind:?}: the group that frees is on disk just now"
        );
        for _ in 0..40 {
            pool.groups(1);
            let copies: Vec<Arc<dyn BlockDevice>> =
                pool.disks.iter().map(|d| Arc::new(d.snapshot()) as Arc<dyn BlockDevice>).collect();
            let txg = pool.spa.properties().unwrap().txg;
            let options =
                ImportOptions { read_only: true, rewind_txg: Some(txg - 1), ..ImportOptions::default() };
            let old = Spa::import(&copies, &options).unwrap();
            let report = old.verify(&mut |_| {}).unwrap();
            let is_damage = |f: &zfs::verify::Finding| {
                matches!(f, zfs::verify::Finding::Lost { .. } | zfs::verify::Finding::BadCopy { .. })
            };
            assert!(!report.findings.iter().any(is_damage), "{kind:?}: {:?}", report.findings);
            old.export().unwrap();
        }
        assert!(nr_discards.load(Ordering::Relaxed) >= 90 * RECORD, "{kind:?}: {nr_discards:?}");
        pool.spa.export().unwrap();
        pool.spa = Spa::import(&pool.devices(), &ImportOptions::default()).unwrap();
        pool.assert_whole(kept, 1, 40);
        pool.spa.export().unwrap();
    }
}
