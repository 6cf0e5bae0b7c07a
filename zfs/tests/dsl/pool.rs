//! A pool on a memory disk, and noise to write to it.
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use ondisk::{DmuType, ObjectId};
use rt_std as _;
use std::sync::Arc;
use zfs::dmu::{DmuTx, NewObject, Objset, TxSpace};
use zfs::dsl::Dataset;
use zfs::spa::{Deterministic, ImportOptions, PoolSpec, Spa, VdevSpec};

pub const BLOCK: u32 = 4096;

pub struct Pool {
    pub disk: Arc<MemDisk>,
    pub spa: Arc<Spa>,
    random: u64,
}

pub fn nothing(_: &DmuTx, _: &Arc<Objset>) -> zfs::Result<()> {
    Ok(())
}

impl Pool {
    pub fn new(bytes: u64) -> Self {
        let disk = Arc::new(MemDisk::new(bytes));
        let vdev = VdevSpec { device: disk.clone(), path: "/dev/vda".into(), is_file: false };
        let spec = PoolSpec {
            deterministic: Some(Deterministic { seed: 1, time: 1_700_000_000 }),
            ..PoolSpec::new("tank")
        };
        let spa = Spa::create(vec![vdev], &spec, &mut nothing).unwrap();
        Self { disk, spa, random: 1 }
    }

    /// Exports and imports again.
    pub fn reopen(&mut self) {
        self.spa.export().unwrap();
        self.import();
    }

    pub fn import(&mut self) {
        let devices = [self.disk.clone() as Arc<dyn BlockDevice>];
        self.spa = Spa::import(&devices, &ImportOptions::default()).unwrap();
    }

    pub fn open(&self, name: &str) -> Arc<Dataset> {
        self.spa.open_dataset(name).unwrap()
    }

    pub fn create(&self, name: &str) {
        self.spa.create_dataset(name, &[], &mut nothing).unwrap();
    }

    pub fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    pub fn next(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    pub fn noise(&mut self) -> Vec<u8> {
        (0..BLOCK).map(|_| self.next() as u8).collect()
    }

    /// A new object of that many blocks of noise.
    pub fn write_object(&mut self, dataset: &Dataset, nr_blocks: u64) -> ObjectId {
        let objset = dataset.objset();
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0)).unwrap();
        let new = NewObject::new(DmuType::PLAIN_FILE_CONTENTS, BLOCK);
        let id = objset.allocate(&tx, &new).unwrap().id();
        drop(tx);
        (0..nr_blocks).for_each(|blkid| self.write_block(dataset, id, blkid));
        id
    }

    pub fn write_block(&mut self, dataset: &Dataset, id: ObjectId, blkid: u64) {
        let noise = self.noise();
        let objset = dataset.objset();
        let object = objset.hold(id).unwrap();
        let tx = DmuTx::begin(&objset, TxSpace::write(BLOCK.into())).unwrap();
        object.write_slice(&tx, blkid * u64::from(BLOCK), &noise).unwrap();
    }

    /// Many objects of one block each.
    pub fn write_many(&mut self, dataset: &Dataset, nr: u32) {
        let objset = dataset.objset();
        let noise = self.noise();
        let tx = DmuTx::begin(
            &objset,
            TxSpace { write_bytes: u64::from(nr) * 512, nr_objects: nr, ..TxSpace::default() },
        )
        .unwrap();
        for _ in 0..nr {
            let object = objset.allocate(&tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, 512)).unwrap();
            object.write_slice(&tx, 0, &noise[..512]).unwrap();
        }
    }

    pub fn free_object(&self, dataset: &Dataset, id: ObjectId) {
        let objset = dataset.objset();
        let tx = DmuTx::begin(&objset, TxSpace::names(1, 0).net_free()).unwrap();
        objset.free(&tx, id).unwrap();
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        self.spa.sync().unwrap();
        let report = self.spa.verify(&mut |_| {}).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
    }

    /// Waits until nothing waits to be freed.
    pub fn wait_freed(&self) {
        while self.spa.space().unwrap().freeing > 0 {
            let hold = self.spa.txgs().hold_open();
            let txg = hold.txg();
            drop(hold);
            self.spa.txgs().wait_synced(txg).unwrap();
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.spa.datasets().unwrap().into_iter().map(|d| d.name).collect()
    }
}

/// Objects and their data.
pub type Content = Vec<(ObjectId, Vec<u8>)>;

/// All content of a dataset.
pub fn content(dataset: &Dataset) -> Content {
    let objset = dataset.objset();
    let mut all = Vec::new();
    let mut at = ObjectId(0);
    while let Some(id) = objset.next_object(at).unwrap() {
        at = id;
        let object = objset.hold(id).unwrap();
        let len = (object.max_blkid() + 1) * u64::from(object.block_size());
        all.push((id, object.read_vec(0, len as usize).unwrap()));
    }
    all
}
