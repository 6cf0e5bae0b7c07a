//! Tests of the object layer over real storage on disks in memory.
mod ahead;
mod basic;
mod hostile;
mod model;
mod stress;

use super::*;
use crate::event::EventLog;
use crate::txg::{TxgConfig, Txgs};
use crate::vdev::{AllocClass, VdevKind, VdevSpec, layout};
use crate::zio::{Format, Storage, StorageConfig, SyncCtx};
use crate::{Error, Result};
use blockdev::BlockDevice;
use blockdev_host::MemDisk;
use ondisk::objset::ObjsetKind;
use ondisk::{BlkPtr, DmuType, ObjectId, Txg};
use rt_std as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A dataset that only keeps the books.
pub(super) struct Books {
    storage: Arc<Storage>,
    /// Bytes born less bytes killed.
    pub(super) allocated: AtomicI64,
    pub(super) available: AtomicU64,
    pub(super) features: Mutex<Vec<FeatureUse>>,
    /// Called with every birth: a look at the object while it is being written.
    pub(super) at_birth: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl ObjsetHooks for Books {
    fn block_born(&self, _ctx: &SyncCtx, bp: &BlkPtr) {
        self.allocated.fetch_add(bp.asize() as i64, Ordering::SeqCst);
        if let Some(look) = &*self.at_birth.lock().unwrap() {
            look();
        }
    }

    fn block_killed(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()> {
        self.allocated.fetch_sub(bp.asize() as i64, Ordering::SeqCst);
        self.storage.free(ctx, bp)
    }

    fn owner_of(&self, bonus_kind: DmuType, bonus: &[u8]) -> Option<Owner> {
        let word = |at: usize| Some(u64::from_le_bytes(*bonus.get(at..at + 8)?.first_chunk()?));
        (bonus_kind == DmuType::SA)
            .then(|| Some(Owner { uid: word(0)?, gid: word(8)?, project: word(16)? }))
            .flatten()
    }

    fn space_available(&self) -> u64 {
        self.available.load(Ordering::SeqCst)
    }

    fn feature_used(&self, _ctx: &SyncCtx, feature: FeatureUse) {
        let mut features = self.features.lock().unwrap();
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
}

/// A pool of one disk with one object set.
pub(super) struct Pool {
    pub(super) disk: Arc<MemDisk>,
    pub(super) storage: Arc<Storage>,
    pub(super) txgs: Arc<Txgs>,
    pub(super) books: Arc<Books>,
    pub(super) objset: Arc<Objset>,
}

pub(super) const DISK: u64 = 256 << 20;

pub(super) fn open_storage(disk: &Arc<MemDisk>, is_read_only: bool) -> Arc<Storage> {
    let asize = layout::leaf_asize(disk.geometry().capacity);
    let device: Arc<dyn BlockDevice> = disk.clone();
    let spec = VdevSpec {
        kind: VdevKind::Leaf,
        id: 0,
        guid: 1,
        device: Some(device),
        state: crate::vdev::VdevState::Online,
        ashift: 9,
        asize,
        metaslab_shift: layout::metaslab_shift_for(asize),
        metaslab_array: ObjectId(0),
        class: AllocClass::Normal,
        is_excluded: false,
        top_zap: ObjectId(0),
        children: Vec::new(),
    };
    let config =
        StorageConfig { is_read_only, arc_target: 16 << 20, nr_allocators: 1, events: EventLog::new() };
    let storage = Storage::open(&[spec], &config).unwrap();
    storage.set_format(Format::all());
    storage
}

impl Pool {
    pub(super) fn new(kind: ObjsetKind) -> Self {
        Self::with(kind, ObjsetProperties::default())
    }

    pub(super) fn with(kind: ObjsetKind, properties: ObjsetProperties) -> Self {
        let disk = Arc::new(MemDisk::new(DISK));
        let storage = open_storage(&disk, false);
        storage.init_metaslabs().unwrap();
        let config = TxgConfig { dirty_max: 32 << 20, timeout: None, is_deterministic: false };
        let txgs = Txgs::new(Txg(4), config);
        let books = Arc::new(Books {
            storage: storage.clone(),
            allocated: AtomicI64::new(0),
            available: AtomicU64::new(u64::MAX),
            features: Mutex::default(),
            at_birth: Mutex::default(),
        });
        let config = ObjsetConfig { id: 21, kind, hooks: books.clone(), properties, is_read_only: false };
        let objset = Objset::open(storage.clone(), txgs.clone(), None, config).unwrap();
        Self { disk, storage, txgs, books, objset }
    }

    pub(super) fn tx(&self) -> DmuTx {
        DmuTx::begin(&self.objset, TxSpace::write(1 << 20)).unwrap()
    }

    /// Closes the open group.
    pub(super) fn close(&self) -> Txg {
        self.txgs.kick(self.txgs.open_txg());
        self.txgs.quiesce_next().unwrap()
    }

    /// Writes a closed group.
    pub(super) fn write_out(&self, txg: Txg) -> BlkPtr {
        let root = self.write_out_while_open(txg);
        self.check_books();
        root
    }

    /// The same, while the open group may have allocated something.
    pub(super) fn write_out_while_open(&self, txg: Txg) -> BlkPtr {
        let ctx = self.storage.begin_sync(txg);
        self.objset.sync(&ctx).unwrap();
        ctx.batch.wait().unwrap();
        assert!(!self.objset.is_dirty(txg));
        self.storage.sync_done(txg).unwrap();
        self.txgs.synced(txg);
        self.objset.root()
    }

    pub(super) fn sync(&self) -> BlkPtr {
        let txg = self.close();
        self.write_out(txg)
    }

    /// What the pool says is in use is what the object set says it uses.
    fn check_books(&self) {
        assert_eq!(self.books.allocated.load(Ordering::SeqCst), self.storage.space().allocated as i64);
    }

    /// The object set as the disk has it, read without any of this pool's memory.
    pub(super) fn reopen(&self, root: BlkPtr) -> Arc<Objset> {
        let storage = open_storage(&self.disk, true);
        let config = ObjsetConfig {
            id: 21,
            kind: ObjsetKind::None,
            hooks: self.books.clone(),
            properties: ObjsetProperties::default(),
            is_read_only: true,
        };
        Objset::open(storage, self.txgs.clone(), Some(root), config).unwrap()
    }

    pub(super) fn file(&self, tx: &DmuTx, block_size: u32) -> Arc<Dnode> {
        self.objset.allocate(tx, &NewObject::new(DmuType::PLAIN_FILE_CONTENTS, block_size)).unwrap()
    }
}

pub(super) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}
