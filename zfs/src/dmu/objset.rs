//! [`Objset`]: an open object set.
//!
//! What it is: the dnode file, the objects in memory, which of them changed in which group, the root block. What it is
//! not: a dataset (that is the dsl, which it reaches through [`ObjsetHooks`]).
use super::alloc::ObjectAllocator;
use super::config::{FeatureUse, NewObject, ObjsetConfig, ObjsetHooks, ObjsetProperties};
use super::dnode::Dnode;
use super::phys::{self, Phys};
use super::space::{Promised, Reservation, Worst};
use super::table::{DnodeTable, Found};
use super::tx::{DmuTx, TxSpace};
use crate::txg::{TXG_SLOTS, Txgs};
use crate::vdev::Priority;
use crate::zil::Zil;
use crate::zio::{Share, Storage};
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use ondisk::dnode::{DNODE_BLOCK_SIZE, DNODE_SHIFT, DNODES_PER_BLOCK, OBJECT_SHIFT};
use ondisk::objset::{
    GROUPUSED_DNODE, METADNODE, OBJSET_SIZE_V1, OBJSET_SIZE_V2, OBJSET_SIZE_V3, ObjsetFlags, ObjsetKind,
    ObjsetPhys, PROJECTUSED_DNODE, RawObjset, USERUSED_DNODE,
};
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};
use rt::Mutex;

/// Dnodes that stay in memory though nobody uses them: one for so many bytes of cache, within limits.
const CACHE_BYTES_PER_DNODE: u64 = 16 << 10;
const DNODES_CACHED: core::ops::RangeInclusive<u64> = 1024..=65_536;

/// The accounting objects: number and place in the root block.
pub(super) const ACCOUNTS: [(ObjectId, core::ops::Range<usize>); 3] = [
    (ObjectId::USERUSED, USERUSED_DNODE),
    (ObjectId::GROUPUSED, GROUPUSED_DNODE),
    (ObjectId::PROJECTUSED, PROJECTUSED_DNODE),
];

/// The root block, as it will be written next.
pub(super) struct Root {
    pub(super) bp: BlkPtr,
    pub(super) header: ObjsetPhys,
    /// The block; dnodes and header are put into it when it is written.
    pub(super) block: Vec<u8>,
}

/// An open object set.
pub struct Objset {
    me: Weak<Self>,
    id: u64,
    is_read_only: bool,
    storage: Arc<Storage>,
    txgs: Arc<Txgs>,
    pub(super) hooks: Arc<dyn ObjsetHooks>,
    properties: Mutex<ObjsetProperties, 790>,
    pub(super) root: Mutex<Root, 790>,
    /// The root block must be written by the next sync whatever else is dirty.
    pub(super) is_root_dirty: AtomicBool,
    pub(super) metadnode: Arc<Dnode>,
    /// Made when first needed in object sets that have none yet.
    pub(super) accounts: Mutex<[Option<Arc<Dnode>>; 3], 655>,
    pub(super) table: DnodeTable,
    pub(super) allocator: ObjectAllocator,
    /// Objects that are not in the dnode file yet.
    pub(super) unborn: Mutex<BTreeSet<u64>, 656>,
    pub(super) dirty: Mutex<[Vec<Arc<Dnode>>; TXG_SLOTS], 780>,
    pub(super) promised: Promised,
    /// The intent log of a file system that may be written.
    pub(super) zil: Option<Arc<Zil>>,
}

impl Objset {
    /// Opens the object set with the root block `root`, or makes a new one (`None`, or a hole): its first sync then
    /// writes it.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Encrypted`; `Damaged` when the root block makes no sense.
    pub fn open(
        storage: Arc<Storage>,
        txgs: Arc<Txgs>,
        root: Option<BlkPtr>,
        config: ObjsetConfig,
    ) -> Result<Arc<Self>> {
        let root = root.filter(|bp| !bp.is_hole());
        let (parts, is_new) = match root {
            Some(bp) => (load_root(&storage, bp, config.id)?, false),
            None => (new_root(config.kind)?, true),
        };
        let (root, dnodes) = parts;
        let first_free = dnodes[0].as_ref().map_or(0, |p| if is_new { 0 } else { p.core.max_blkid + 1 });
        let mut dnodes = dnodes.into_iter();
        let metadnode = dnodes.next().flatten().ok_or(Error::Damaged)?;
        let accounts: [Option<Phys>; 3] = core::array::from_fn(|_| dnodes.next().flatten());
        let dnodes_cached = (storage.arc().target() / CACHE_BYTES_PER_DNODE)
            .clamp(*DNODES_CACHED.start(), *DNODES_CACHED.end()) as usize;
        let has_log = !config.is_read_only
            && config.id != 0
            && matches!(root.header.kind, ObjsetKind::Zfs | ObjsetKind::Zvol);
        let zil = has_log.then(|| {
            let logs_xattrs = config.hooks.is_feature_enabled(FeatureUse::ZilSaXattr);
            Zil::new(storage.clone(), txgs.clone(), config.id, &root.header.zil, logs_xattrs)
        });
        Ok(Arc::new_cyclic(|me| {
            let facts = || (config.id, storage.clone());
            let mut index = 0;
            let accounts = accounts.map(|phys| {
                index += 1;
                phys.map(|phys| Dnode::new(ACCOUNTS[index - 1].0, me, facts(), phys))
            });
            Self {
                me: me.clone(),
                id: config.id,
                is_read_only: config.is_read_only,
                txgs,
                hooks: config.hooks,
                properties: Mutex::new(config.properties),
                root: Mutex::new(root),
                is_root_dirty: AtomicBool::new(is_new),
                metadnode: Dnode::new(ObjectId::META_DNODE, me, facts(), metadnode),
                accounts: Mutex::new(accounts),
                table: DnodeTable::new(dnodes_cached),
                allocator: ObjectAllocator::new(first_free),
                unborn: Mutex::new(BTreeSet::new()),
                dirty: Mutex::new([const { Vec::new() }; TXG_SLOTS]),
                promised: Promised::default(),
                zil,
                storage,
            }
        }))
    }

    /// The `objset` of its bookmarks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it holds.
    pub fn kind(&self) -> ObjsetKind {
        self.root.lock().header.kind
    }

    /// Transactions are refused.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The pool's transaction groups.
    pub fn txgs(&self) -> &Arc<Txgs> {
        &self.txgs
    }

    /// The pool's blocks.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// How blocks are written now.
    pub fn properties(&self) -> ObjsetProperties {
        *self.properties.lock()
    }

    /// Changes how blocks are written from now on.
    pub fn set_properties(&self, properties: ObjsetProperties) {
        *self.properties.lock() = properties;
    }

    /// Flags of the root block.
    pub fn flags(&self) -> ObjsetFlags {
        self.root.lock().header.flags
    }

    /// The intent log's header.
    pub fn zil_header(&self) -> ZilHeader {
        self.root.lock().header.zil
    }

    /// The intent log; none where nothing is written, nor in object sets that are no file systems.
    pub fn zil(&self) -> Option<&Arc<Zil>> {
        self.zil.as_ref()
    }

    /// The newest root block; a hole before the first sync.
    pub fn root(&self) -> BlkPtr {
        self.root.lock().bp
    }

    /// Objects, as of the newest sync.
    pub fn nr_objects(&self) -> u64 {
        let bp = self.root();
        if bp.is_hole() { 0 } else { bp.fill() }
    }

    pub(super) fn new_dnode(&self, id: ObjectId, phys: Phys) -> Arc<Dnode> {
        Dnode::new(id, &self.me, (self.id, self.storage.clone()), phys)
    }

    /// The object of that number.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Damaged`, `Io`, `Checksum`.
    pub fn hold(&self, id: ObjectId) -> Result<Arc<Dnode>> {
        if id == ObjectId::META_DNODE {
            return Ok(self.metadnode.clone());
        }
        if let Some(account) = ACCOUNTS.iter().position(|(account, _)| *account == id) {
            return self.accounts.lock()[account].clone().ok_or(Error::NotFound);
        }
        if id.0 >> OBJECT_SHIFT != 0 {
            return Err(Error::NotFound);
        }
        loop {
            match self.table.find(id)? {
                Found::Dnode(dnode) if dnode.is_free() => return Err(Error::NotFound),
                Found::Dnode(dnode) => return Ok(dnode),
                Found::Missing(nr_evicted) => {
                    let phys = self.read_dnode(id)?.ok_or(Error::NotFound)?;
                    let dnode = self.new_dnode(id, phys);
                    // What another loader put in may be freed: look again.
                    if self.table.insert_loaded(dnode, nr_evicted).is_none() {
                        continue;
                    }
                }
            }
        }
    }

    /// A dnode out of the dnode file; `None` for a free or an inner slot.
    fn read_dnode(&self, id: ObjectId) -> Result<Option<Phys>> {
        let (blkid, slot) = (id.0 / DNODES_PER_BLOCK as u64, id.0 as usize % DNODES_PER_BLOCK);
        if blkid > self.metadnode.max_blkid() {
            return Ok(None);
        }
        let block = self.metadnode.block(blkid)?;
        let bytes = block.to_contiguous();
        if !starts(&bytes).any(|s| s == slot) {
            return Ok(None);
        }
        Phys::parse(bytes.get(slot << DNODE_SHIFT..).ok_or(Error::Damaged)?)
    }

    /// Makes an object at a number of its choice.
    ///
    /// # Errors
    /// `Invalid` for sizes no object has, `NoSpace` when there are no numbers left, `Io`, `Checksum`, `Damaged`.
    pub fn allocate(&self, tx: &DmuTx, new: &NewObject) -> Result<Arc<Dnode>> {
        super::alloc::allocate(self, tx, new)
    }

    /// Makes an object at a given number.
    ///
    /// # Errors
    /// `Exists` when it is taken (or was freed in a group that is not synced); as [`Objset::allocate`].
    pub fn claim(&self, tx: &DmuTx, id: ObjectId, new: &NewObject) -> Result<Arc<Dnode>> {
        super::alloc::claim(self, tx, id, new)
    }

    /// Frees an object with everything it has. Its number is not used again before that is on disk.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`.
    pub fn free(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        super::alloc::free(self, tx, id)
    }

    /// The object with the lowest number above `after`, unsynced changes included.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn next_object(&self, after: ObjectId) -> Result<Option<ObjectId>> {
        super::alloc::next_object(self, after)
    }

    /// Something of `txg` waits to be written.
    pub fn is_dirty(&self, txg: Txg) -> bool {
        self.is_root_dirty.load(Ordering::Acquire)
            || self.zil.as_ref().is_some_and(|zil| zil.is_dirty(txg))
            || !self.dirty.lock()[txg.slot()].is_empty()
            || self.metadnode.listed[txg.slot()].load(Ordering::Acquire) == txg.0
    }

    /// Puts an object on the list of a group. The dnode file itself is written with every other dirty object.
    pub(super) fn add_dirty(&self, txg: Txg, dnode: &Dnode) {
        if dnode.id() != ObjectId::META_DNODE
            && let Some(dnode) = dnode.weak().upgrade()
        {
            self.promise_dirty(txg, |worst| worst.dirty_object());
            self.dirty.lock()[txg.slot()].push(dnode);
        }
    }

    /// Evicts every dnode nobody uses.
    pub fn evict_unused(&self) {
        self.table.evict_unused();
    }

    /// Bytes promised to transactions that are not on disk.
    pub fn space_reserved(&self) -> u64 {
        self.promised.bytes()
    }

    /// Reserves what a transaction may need.
    ///
    /// # Errors
    /// `NoSpace`, `Quota`, `Suspended`.
    pub(super) fn reserve(&self, space: &TxSpace) -> Result<Reservation> {
        let pool = (&*self.storage, &*self.txgs);
        // What is replayed was acknowledged: it goes in as long as the pool has any space, the slop included.
        let is_replay = self.zil.as_ref().is_some_and(|zil| zil.is_replaying());
        let share = match (is_replay, space.is_net_free) {
            (true, _) => Share::Replay,
            (false, true) => Share::NetFree,
            (false, false) => Share::Ordinary,
        };
        let space = TxSpace { is_net_free: share != Share::Ordinary, ..*space };
        self.promised.reserve(&space, share, self.copies(), &*self.hooks, pool)
    }

    /// What a transaction has made dirty stays promised until its group is on disk. The pool's own objects have nobody
    /// to be promised anything by: they live on the reserve.
    pub(super) fn promise_dirty(&self, txg: Txg, worst: impl FnOnce(Worst<'_>) -> u64) {
        if self.kind() == ObjsetKind::Meta {
            return;
        }
        let room = self.storage.room();
        let bytes = worst(Worst { room, copies: self.copies() });
        room.add_dirty(txg, bytes);
        self.promised.add_dirty(txg, room.net_of(bytes));
    }

    /// Copies of user data.
    pub(super) fn copies(&self) -> u64 {
        u64::from(self.properties().copies.clamp(1, 3))
    }
}

impl fmt::Debug for Objset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objset({}, {:?})", self.id, self.table)
    }
}

type Parts = (Root, Vec<Option<Phys>>);

fn load_root(storage: &Storage, bp: BlkPtr, id: u64) -> Result<Parts> {
    if bp.dmu_type() != DmuType::OBJSET || bp.level() != 0 {
        return Err(Error::Damaged);
    }
    let block = storage.read(&bp, Bookmark::root(id), Priority::SyncRead)?.abd().to_vec();
    if ![OBJSET_SIZE_V1, OBJSET_SIZE_V2, OBJSET_SIZE_V3].contains(&block.len()) {
        return Err(Error::Damaged);
    }
    let header = RawObjset::of(&block).and_then(RawObjset::parse).map_err(|_| Error::Damaged)?;
    let at = |range: &core::ops::Range<usize>| block.get(range.clone()).map(Phys::parse).transpose();
    let metadnode = at(&METADNODE)?.flatten().ok_or(Error::Damaged)?;
    let is_dnode_file = metadnode.core.kind == DmuType::DNODE
        && metadnode.core.block_size as usize == DNODE_BLOCK_SIZE
        && metadnode.core.max_blkid < (1 << OBJECT_SHIFT) / DNODES_PER_BLOCK as u64;
    if !is_dnode_file {
        return Err(Error::Damaged);
    }
    let mut dnodes = vec![Some(metadnode)];
    for (_, range) in &ACCOUNTS {
        dnodes.push(at(range)?.flatten());
    }
    Ok((Root { bp, header, block }, dnodes))
}

fn new_root(kind: ObjsetKind) -> Result<Parts> {
    let mut core = phys::new_core(&NewObject::new(DmuType::DNODE, DNODE_BLOCK_SIZE as u32))?;
    if kind != ObjsetKind::Meta {
        // All levels at once: growing would happen while open transactions look objects up. The pool's own object set,
        // which is written several times a group, grows instead.
        let objects = |levels: u8| {
            let shift = 5 + u32::from(levels - 1) * core.entries_shift();
            u64::from(core.nr_blkptr) << shift.min(60)
        };
        core.levels = (1..=10).find(|l| objects(*l) >= 1 << OBJECT_SHIFT).unwrap_or(6);
    }
    let header = ObjsetPhys { kind, flags: ObjsetFlags::empty(), zil: ZilHeader::default() };
    let root = Root { bp: BlkPtr::HOLE, header, block: vec![0; OBJSET_SIZE_V3] };
    Ok((root, vec![Some(Phys::unborn(core)), None, None, None]))
}

/// The slots of a block of the dnode file at which a dnode (or a free slot) starts.
pub(super) fn starts(block: &[u8]) -> impl Iterator<Item = usize> {
    let mut next = 0;
    core::iter::from_fn(move || {
        let slot = next;
        let core = ondisk::dnode::core(block.get(slot << DNODE_SHIFT..)?).ok()?;
        next += if core.is_free() { 1 } else { core.slots() };
        Some(slot)
    })
}
