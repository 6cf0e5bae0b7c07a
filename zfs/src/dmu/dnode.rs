//! [`Dnode`]: an object in memory.
//!
//! What it is: one structure shared by everyone who uses the object; blocks hang off it as buffers. What it is not:
//! it does not interpret content.
//!
//! Three kinds of state, each with its own rule:
//! * *open state* (bonus, block size, spill, highest block...): what the newest transaction sees, in versions by
//!   group ([`Versions`]), behind `open`;
//! * *phys*: what the disk has, behind `phys`; only the sync thread changes it;
//! * *blocks*: buffers, each with its own lock; block pointers live in indirect buffers and `phys`, which only the
//!   sync thread changes.
//!
//! The race between readers that look up a pointer and the sync thread that replaces it is closed by `epoch`: the sync
//! thread moves it on after publishing pointers and before a buffer may be evicted. A reader takes it before the
//! lookup, and looks again with the buffer locked: if it moved, the pointer may be old and the reader starts over.
//! Without this, an old indirect block could be read back into memory and later written out as if it were new.
use super::config::NewObject;
use super::dbuf::Dbuf;
use super::objset::Objset;
use super::phys::Phys;
use super::prefetch::Streams;
use super::ranges::RangeSet;
use super::tree::DbufTree;
use super::tx::DmuTx;
use super::versions::Versions;
use crate::bugs::{self, Bug};
use crate::zio::Storage;
use crate::{Error, Result};
use abd::Abd;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use once_cell::race::OnceBox;
use ondisk::dnode::{DNODE_CORE_SIZE, DNODE_SHIFT, DnodePhys, LEVELS_MAX};
use ondisk::{BlkPtr, Bookmark, Checksum, Compression, DmuType, ObjectId, Txg};
use rt::Mutex;
use smallvec::SmallVec;

use crate::txg::TXG_SLOTS;
use crate::vdev::Priority;

/// What a spill block holds.
#[derive(Clone, Debug)]
pub(super) enum Spill {
    None,
    OnDisk,
    Data(Abd),
}

/// What the newest transaction sees, blocks apart.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) kind: DmuType,
    pub(super) bonus_kind: DmuType,
    pub(super) bonus: Vec<u8>,
    pub(super) block_size: u32,
    pub(super) indirect_shift: u8,
    pub(super) nr_blkptr: u8,
    pub(super) slots: u8,
    pub(super) max_blkid: u64,
    pub(super) checksum: Checksum,
    pub(super) compress: Compression,
    pub(super) spill: Spill,
    /// The group that last changed `spill`.
    pub(super) spill_changed_in: Txg,
    pub(super) is_free: bool,
}

impl Open {
    fn of(phys: &Phys) -> Self {
        let core: &DnodePhys = &phys.core;
        Self {
            kind: core.kind,
            bonus_kind: core.bonus_kind,
            bonus: phys.bonus.clone(),
            block_size: core.block_size,
            indirect_shift: core.indirect_shift,
            nr_blkptr: core.nr_blkptr,
            slots: core.slots,
            max_blkid: core.max_blkid,
            checksum: core.checksum,
            compress: core.compress,
            spill: if phys.spill.is_hole() { Spill::None } else { Spill::OnDisk },
            spill_changed_in: Txg::ZERO,
            is_free: false,
        }
    }

    /// Room for bonus, with or without a spill block.
    fn bonus_max(&self, has_spill: bool) -> usize {
        let nr_pointers = usize::from(self.nr_blkptr) + usize::from(has_spill);
        let size = usize::from(self.slots) << DNODE_SHIFT;
        size.saturating_sub(DNODE_CORE_SIZE + nr_pointers * ondisk::blkptr::BLKPTR_SIZE)
    }

    fn has_spill(&self) -> bool {
        !matches!(self.spill, Spill::None)
    }

    /// A spill block's pointer fits beside bonus and block pointers. It may not even without bonus.
    fn has_room_for_spill(&self) -> bool {
        let nr_pointers = usize::from(self.nr_blkptr) + 1;
        let taken = DNODE_CORE_SIZE + nr_pointers * ondisk::blkptr::BLKPTR_SIZE + self.bonus.len();
        taken <= usize::from(self.slots) << DNODE_SHIFT
    }
}

type UserState = Arc<dyn Any + Send + Sync>;

/// An object.
pub struct Dnode {
    id: ObjectId,
    me: Weak<Self>,
    objset: Weak<Objset>,
    objset_id: u64,
    pub(super) storage: Arc<Storage>,
    /// Mirrors of the open state for paths that take no lock.
    block_size: AtomicU32,
    max_blkid: AtomicU64,
    pub(super) is_freed: AtomicBool,
    /// Used since the dnode cache last looked.
    pub(super) is_referenced: AtomicBool,
    pub(super) open: Mutex<Versions<Open>, 700>,
    /// Ranges of blocks freed by groups that are not synced.
    pub(super) frees: Mutex<SmallVec<[(Txg, RangeSet); 1]>, 760>,
    pub(super) nr_frees: AtomicUsize,
    pub(super) phys: Mutex<Phys, 770>,
    pub(super) epoch: AtomicU64,
    data: DbufTree,
    indirect: OnceBox<[OnceBox<DbufTree>; LEVELS_MAX as usize]>,
    /// The group for which the object stands on its object set's list of dirty ones, by slot.
    pub(super) listed: [AtomicU64; TXG_SLOTS],
    /// Data blocks changed, by slot.
    pub(super) dirty_blocks: Mutex<[Vec<Arc<Dbuf>>; TXG_SLOTS], 780>,
    pub(super) streams: Streams,
    user: Mutex<SmallVec<[UserState; 1]>>,
}

impl Dnode {
    pub(super) fn new(
        id: ObjectId,
        objset: &Weak<Objset>,
        facts: (u64, Arc<Storage>),
        phys: Phys,
    ) -> Arc<Self> {
        let (objset_id, storage) = facts;
        let open = Open::of(&phys);
        Arc::new_cyclic(|me| Self {
            id,
            me: me.clone(),
            objset: objset.clone(),
            objset_id,
            storage,
            block_size: AtomicU32::new(open.block_size),
            max_blkid: AtomicU64::new(open.max_blkid),
            is_freed: AtomicBool::new(false),
            is_referenced: AtomicBool::new(true),
            open: Mutex::new(Versions::new(open)),
            frees: Mutex::new(SmallVec::new()),
            nr_frees: AtomicUsize::new(0),
            phys: Mutex::new(phys),
            epoch: AtomicU64::new(0),
            data: DbufTree::new(),
            indirect: OnceBox::new(),
            listed: [const { AtomicU64::new(0) }; TXG_SLOTS],
            dirty_blocks: Mutex::new([const { Vec::new() }; TXG_SLOTS]),
            streams: Streams::new(),
            user: Mutex::new(SmallVec::new()),
        })
    }

    /// Sets what [`super::phys::new_core`] does not know of a new object.
    pub(super) fn start_bonus(&self, new: &NewObject) {
        self.open.lock().for_each(|open| open.bonus.resize(usize::from(new.bonus_len), 0));
    }

    pub(super) fn weak(&self) -> &Weak<Self> {
        &self.me
    }

    /// # Errors
    /// `Invalid` when the object set is closed.
    pub(super) fn objset(&self) -> Result<Arc<Objset>> {
        self.objset.upgrade().ok_or(Error::Invalid)
    }

    /// The buffers of a level.
    pub(super) fn level(&self, level: u8) -> &DbufTree {
        if level == 0 {
            return &self.data;
        }
        let levels = self.indirect.get_or_init(|| Box::new([const { OnceBox::new() }; LEVELS_MAX as usize]));
        levels[usize::from(level).min(levels.len() - 1)].get_or_init(|| Box::new(DbufTree::new()))
    }

    pub(super) fn bookmark(&self, level: u8, blkid: u64) -> Bookmark {
        Bookmark::new(self.objset_id, self.id, i64::from(level), blkid)
    }

    /// Its number.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Its type.
    pub fn kind(&self) -> DmuType {
        self.open.lock().current().kind
    }

    /// Size of a data block, bytes.
    #[inline]
    pub fn block_size(&self) -> u32 {
        self.block_size.load(Ordering::Acquire)
    }

    pub(super) fn store_block_size(&self, bytes: u32) {
        self.block_size.store(bytes, Ordering::Release);
    }

    /// log2 of the size of an indirect block.
    pub fn indirect_shift(&self) -> u8 {
        self.open.lock().current().indirect_shift
    }

    /// Highest block that was ever written (and not cut off since).
    #[inline]
    pub fn max_blkid(&self) -> u64 {
        self.max_blkid.load(Ordering::Acquire)
    }

    pub(super) fn store_max_blkid(&self, blkid: u64) {
        self.max_blkid.store(blkid, Ordering::Release);
    }

    /// Block pointers in the dnode itself.
    pub fn nr_blkptr(&self) -> u8 {
        self.open.lock().current().nr_blkptr
    }

    /// Slots of 512 bytes the dnode takes.
    pub fn slots(&self) -> u8 {
        self.open.lock().current().slots
    }

    /// Type of the bonus.
    pub fn bonus_kind(&self) -> DmuType {
        self.open.lock().current().bonus_kind
    }

    /// Length of the bonus.
    pub fn bonus_len(&self) -> u16 {
        self.open.lock().current().bonus.len() as u16
    }

    /// Room for bonus as things stand; a spill block takes 128 bytes of it.
    pub fn bonus_max(&self) -> usize {
        let open = self.open.lock();
        open.current().bonus_max(open.current().has_spill())
    }

    /// There is a spill block.
    pub fn has_spill(&self) -> bool {
        self.open.lock().current().has_spill()
    }

    /// Bytes on disk, as of the newest synced group.
    pub fn used_bytes(&self) -> u64 {
        self.phys.lock().core.used
    }

    /// It has been freed (in a transaction that may not be synced).
    #[inline]
    pub fn is_free(&self) -> bool {
        self.is_freed.load(Ordering::Acquire)
    }

    /// Compression of its blocks; `Inherit`: the object set's.
    pub fn compress(&self) -> Compression {
        self.open.lock().current().compress
    }

    /// Shows the bonus.
    pub fn bonus(&self, look: &mut dyn FnMut(&[u8])) {
        look(&self.open.lock().current().bonus);
    }

    /// A copy of the bonus.
    pub fn bonus_vec(&self) -> Vec<u8> {
        self.open.lock().current().bonus.clone()
    }

    /// Changes the bonus; its length may change with it.
    ///
    /// # Errors
    /// `TooLarge` when it does not fit (it is then unchanged), `NotFound` when the object is freed.
    pub fn set_bonus(&self, tx: &DmuTx, change: &mut dyn FnMut(&mut Vec<u8>)) -> Result<()> {
        self.change_open(tx, |open| {
            let mut bonus = open.bonus.clone();
            change(&mut bonus);
            if bonus.len() > open.bonus_max(open.has_spill()) {
                return Err(Error::TooLarge);
            }
            open.bonus = bonus;
            Ok(())
        })
    }

    /// Changes the type of the object itself: a dataset's object becomes a ZAP when it first has something to note.
    ///
    /// # Errors
    /// What joining the transaction gives.
    pub fn set_kind(&self, tx: &DmuTx, kind: DmuType) -> Result<()> {
        self.change_open(tx, |open| {
            open.kind = kind;
            Ok(())
        })
    }

    /// Changes the type of the bonus.
    ///
    /// # Errors
    /// `NotFound` when the object is freed.
    pub fn set_bonus_kind(&self, tx: &DmuTx, kind: DmuType) -> Result<()> {
        self.change_open(tx, |open| {
            open.bonus_kind = kind;
            Ok(())
        })
    }

    /// Sets the compression of blocks written from now on; `Inherit`: the object set's.
    ///
    /// # Errors
    /// `NotFound` when the object is freed.
    pub fn set_compress(&self, tx: &DmuTx, compress: Compression) -> Result<()> {
        self.change_open(tx, |open| {
            open.compress = compress;
            Ok(())
        })
    }

    /// Sets the checksum of blocks written from now on; `Inherit`: the object set's.
    ///
    /// # Errors
    /// `NotFound` when the object is freed.
    pub fn set_checksum(&self, tx: &DmuTx, checksum: Checksum) -> Result<()> {
        self.change_open(tx, |open| {
            open.checksum = checksum;
            Ok(())
        })
    }

    /// The spill block's content; its length is a multiple of 512.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn spill(&self) -> Result<Option<Abd>> {
        loop {
            match &self.open.lock().current().spill {
                Spill::None => return Ok(None),
                Spill::Data(abd) => return Ok(Some(abd.clone())),
                Spill::OnDisk => {}
            }
            let bp = self.phys.lock().spill;
            if bp.is_hole() {
                return Err(Error::Damaged);
            }
            let bookmark = self.bookmark(0, Bookmark::SPILL_BLKID);
            let data = self.storage.read(&bp, bookmark, Priority::SyncRead)?.abd().clone();
            let mut open = self.open.lock();
            // Kept only if nothing changed meanwhile: the pointer may have been replaced otherwise.
            if matches!(open.current().spill, Spill::OnDisk) && self.phys.lock().spill == bp {
                open.for_each(|o| {
                    if matches!(o.spill, Spill::OnDisk) {
                        o.spill = Spill::Data(data.clone());
                    }
                });
                return Ok(Some(data));
            }
        }
    }

    /// Replaces the spill block (its length is rounded up to a multiple of 512) or removes it.
    ///
    /// # Errors
    /// `TooLarge` when the bonus leaves no room for the pointer or the block is above 128 KiB, `NotFound` when the
    /// object is freed.
    pub fn set_spill(&self, tx: &DmuTx, bytes: Option<&[u8]>) -> Result<()> {
        if bytes.is_some_and(|b| b.len() > ondisk::blkptr::OLD_MAX_BLOCK_SIZE as usize) {
            return Err(Error::TooLarge);
        }
        self.change_open(tx, |open| {
            if bytes.is_some() && !open.has_room_for_spill() {
                return Err(Error::TooLarge);
            }
            open.spill = bytes.map_or(Spill::None, |bytes| {
                let mut abd = abd::AbdMut::zeroed(bytes.len().max(1).next_multiple_of(512));
                abd.write_at(0, bytes);
                Spill::Data(abd.freeze())
            });
            open.spill_changed_in = tx.txg();
            Ok(())
        })
    }

    /// State that lives as long as the object stays in memory; made at first use. One value for each type.
    pub fn user<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let find = |states: &SmallVec<[UserState; 1]>| {
            states.iter().find_map(|s| Arc::downcast::<T>(s.clone()).ok())
        };
        if let Some(found) = find(&self.user.lock()) {
            return found;
        }
        // Made without the lock: making it may read the object.
        let made = Arc::new(make());
        let mut states = self.user.lock();
        find(&states).unwrap_or_else(|| {
            states.push(made.clone());
            made
        })
    }

    /// Changes the open state in a transaction.
    pub(super) fn change_open<R>(
        &self,
        tx: &DmuTx,
        change: impl FnOnce(&mut Open) -> Result<R>,
    ) -> Result<R> {
        self.mark_dirty(tx)?;
        let mut open = self.open.lock();
        change(open.change_in(tx.txg())?)
    }

    /// Puts the object on the list of those that change in the transaction's group, and sets the previous group's
    /// state aside.
    ///
    /// # Errors
    /// `Invalid` when a newer group has changed it already or the object set is closed, `NotFound` when it is freed.
    #[inline]
    pub(super) fn mark_dirty(&self, tx: &DmuTx) -> Result<()> {
        let txg = tx.txg();
        if self.is_free() {
            return Err(Error::NotFound);
        }
        if self.listed[txg.slot()].load(Ordering::Acquire) == txg.0 {
            return Ok(());
        }
        if bugs::is(Bug::LostLaterChange) && self.is_dirty() {
            return Ok(());
        }
        self.list(txg)
    }

    #[cold]
    fn list(&self, txg: Txg) -> Result<()> {
        let objset = self.objset()?;
        let mut open = self.open.lock();
        if self.listed[txg.slot()].load(Ordering::Acquire) != txg.0 {
            open.change_in(txg)?;
            objset.add_dirty(txg, self);
            self.listed[txg.slot()].store(txg.0, Ordering::Release);
        }
        Ok(())
    }

    /// Something unsynced is known of it.
    pub(super) fn is_dirty(&self) -> bool {
        self.listed.iter().any(|l| l.load(Ordering::Acquire) != 0)
    }

    /// The pointer of the block at the top of `level`, out of the dnode itself; a hole beyond the last pointer.
    pub(super) fn root_pointer(phys: &Phys, index: u64) -> BlkPtr {
        let nr = usize::from(phys.core.nr_blkptr);
        usize::try_from(index).ok().filter(|i| *i < nr).map_or(BlkPtr::HOLE, |i| phys.blkptrs[i])
    }
}

impl fmt::Debug for Dnode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dnode({}:{})", self.objset_id, self.id)
    }
}
