//! The meta-object set as the pool and dataset layers use it: small helpers over objects and ZAPs.
//!
//! What it is not: a cache. Dnodes and blocks are cached below; only object numbers that never change are kept here.
use super::features::FeatureObjects;
use crate::dmu::{DmuTx, Dnode, NewObject, Objset};
use crate::scan::Scan;
use crate::zap::{Zap, ZapOptions, ZapValue};
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::pool_directory::{self as names, POOL_DIRECTORY};
use ondisk::zap::ZapFlags;
use ondisk::{DmuType, ObjectId};
use rt::SpinLock;

/// Longest content read into memory in one piece (configuration, lists of object numbers).
const READ_MAX: usize = 16 << 20;
/// Data block of small ZAPs and of objects that have only a bonus.
const BLOCK_SIZE: u32 = 512;

/// The MOS.
#[derive(Debug)]
pub(crate) struct Mos {
    objset: Arc<Objset>,
    features: SpinLock<FeatureObjects>,
    empty_bpobj: AtomicU64,
    is_config_dirty: AtomicBool,
    pool_name: SpinLock<String>,
    scan: Arc<Scan>,
}

impl Mos {
    /// Wraps an objset whose pool directory may still be missing (a pool being made).
    pub(crate) fn new(objset: Arc<Objset>, pool_name: &str) -> Self {
        Self {
            objset,
            features: SpinLock::new(FeatureObjects::default()),
            empty_bpobj: AtomicU64::new(0),
            is_config_dirty: AtomicBool::new(false),
            pool_name: SpinLock::new(String::from(pool_name)),
            scan: Arc::default(),
        }
    }

    /// Reads the numbers kept here.
    pub(crate) fn load(&self) -> Result<()> {
        self.reload_feature_objects()?;
        let empty = self.directory_entry(names::EMPTY_BPOBJ)?.unwrap_or_default();
        self.empty_bpobj.store(empty.0, Ordering::Release);
        Ok(())
    }

    pub(crate) fn objset(&self) -> &Arc<Objset> {
        &self.objset
    }

    /// The pool's scan: what changes datasets changes what it has still to walk.
    pub(crate) fn scan(&self) -> &Scan {
        &self.scan
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        self.objset.storage()
    }

    pub(crate) fn pool_name(&self) -> String {
        self.pool_name.lock().clone()
    }

    pub(crate) fn mark_config_dirty(&self) {
        self.is_config_dirty.store(true, Ordering::Release);
    }

    pub(crate) fn take_config_dirty(&self) -> bool {
        self.is_config_dirty.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_config_dirty(&self) -> bool {
        self.is_config_dirty.load(Ordering::Acquire)
    }

    // --- objects -------------------------------------------------------------------------------------------------

    pub(crate) fn hold(&self, id: ObjectId) -> Result<Arc<Dnode>> {
        self.objset.hold(id)
    }

    pub(crate) fn kind(&self, id: ObjectId) -> Result<DmuType> {
        Ok(self.hold(id)?.kind())
    }

    pub(crate) fn allocate(&self, tx: &DmuTx, object: &NewObject) -> Result<ObjectId> {
        Ok(self.objset.allocate(tx, object)?.id())
    }

    /// An object that has only a bonus (so far).
    pub(crate) fn create_object(
        &self,
        tx: &DmuTx,
        kind: DmuType,
        bonus_kind: DmuType,
        bonus_len: usize,
    ) -> Result<ObjectId> {
        let bonus_len = u16::try_from(bonus_len).map_err(|_| Error::TooLarge)?;
        self.allocate(tx, &NewObject::new(kind, BLOCK_SIZE).with_bonus(bonus_kind, bonus_len))
    }

    pub(crate) fn free(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        self.objset.free(tx, id)
    }

    pub(crate) fn free_content(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        self.hold(id)?.free_range(tx, 0, u64::MAX)
    }

    pub(crate) fn read(&self, id: ObjectId, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len > READ_MAX {
            return Err(Error::Damaged);
        }
        self.hold(id)?.read_vec(offset, len)
    }

    pub(crate) fn write(&self, tx: &DmuTx, id: ObjectId, offset: u64, bytes: &[u8]) -> Result<()> {
        self.hold(id)?.write_slice(tx, offset, bytes)
    }

    pub(crate) fn bonus<T>(&self, id: ObjectId, f: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let mut f = Some(f);
        let mut out = Err(Error::Damaged);
        self.hold(id)?.bonus(&mut |bytes| {
            if let Some(f) = f.take() {
                out = f(bytes);
            }
        });
        out
    }

    /// As [`Self::bonus`], of an object that must have a bonus of that type.
    pub(crate) fn bonus_of<T>(
        &self,
        id: ObjectId,
        kind: DmuType,
        f: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        if self.hold(id)?.bonus_kind() != kind {
            return Err(Error::Damaged);
        }
        self.bonus(id, f)
    }

    pub(crate) fn modify_bonus(
        &self,
        tx: &DmuTx,
        id: ObjectId,
        f: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut f = Some(f);
        let mut out = Ok(());
        self.hold(id)?.set_bonus(tx, &mut |bytes| {
            if let Some(f) = f.take() {
                out = f(bytes);
            }
        })?;
        out
    }

    // --- ZAPs ----------------------------------------------------------------------------------------------------

    pub(crate) fn zap(&self, id: ObjectId) -> Result<Zap> {
        Zap::open(self.hold(id)?)
    }

    pub(crate) fn create_zap(
        &self,
        tx: &DmuTx,
        kind: DmuType,
        bonus_kind: DmuType,
        bonus_len: usize,
    ) -> Result<ObjectId> {
        let bonus_len = u16::try_from(bonus_len).map_err(|_| Error::TooLarge)?;
        let bonus_kind = (bonus_len > 0).then_some(bonus_kind);
        let options = ZapOptions { bonus_kind, bonus_len, ..ZapOptions::default() };
        Ok(Zap::create(&self.objset, tx, kind, options)?.id())
    }

    /// Makes an object that has only a bonus a ZAP as well.
    pub(crate) fn zapify(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        let dnode = self.hold(id)?;
        dnode.set_kind(tx, DmuType::OTN_ZAP_METADATA)?;
        Zap::format(dnode, tx, ZapFlags::empty(), self.objset.id()).map(drop)
    }

    /// One number by name; `None` when there is no such entry.
    pub(crate) fn zap_lookup(&self, id: ObjectId, name: &str) -> Result<Option<u64>> {
        found(self.zap(id)?.lookup_u64(name.as_bytes()))
    }

    /// There is an entry of that name.
    pub(crate) fn zap_has(&self, id: ObjectId, name: &str) -> Result<bool> {
        Ok(found(self.zap(id)?.lookup(name.as_bytes()))?.is_some())
    }

    pub(crate) fn zap_update(&self, tx: &DmuTx, id: ObjectId, name: &str, value: u64) -> Result<()> {
        self.zap(id)?.update_u64(tx, name.as_bytes(), value)
    }

    pub(crate) fn zap_add(&self, tx: &DmuTx, id: ObjectId, name: &str, value: u64) -> Result<()> {
        self.zap(id)?.insert_u64(tx, name.as_bytes(), value)
    }

    pub(crate) fn zap_remove(&self, tx: &DmuTx, id: ObjectId, name: &str) -> Result<()> {
        self.zap(id)?.remove(tx, name.as_bytes())
    }

    /// Bytes by name, as stored (strings end with a NUL).
    pub(crate) fn zap_bytes(&self, id: ObjectId, name: &str) -> Result<Option<Vec<u8>>> {
        match found(self.zap(id)?.lookup(name.as_bytes()))? {
            None => Ok(None),
            Some(value) => value.as_bytes().map(Some).ok_or(Error::Damaged),
        }
    }

    pub(crate) fn zap_set_bytes(&self, tx: &DmuTx, id: ObjectId, name: &str, bytes: &[u8]) -> Result<()> {
        self.zap(id)?.update(tx, name.as_bytes(), &ZapValue::bytes(bytes))
    }

    /// Stores a string with its final NUL.
    pub(crate) fn zap_set_str(&self, tx: &DmuTx, id: ObjectId, name: &str, text: &str) -> Result<()> {
        self.zap(id)?.update(tx, name.as_bytes(), &ZapValue::string(text))
    }

    /// Calls `f` with each entry that is one number.
    pub(crate) fn for_each_u64(
        &self,
        id: ObjectId,
        f: &mut dyn FnMut(&str, u64) -> Result<()>,
    ) -> Result<()> {
        self.for_each(id, &mut |name, value| value.as_word().map_or(Ok(()), |word| f(name, word)))
    }

    /// Calls `f` with each entry that is an array of 64-bit numbers.
    pub(crate) fn for_each_words(
        &self,
        id: ObjectId,
        f: &mut dyn FnMut(&str, &[u64]) -> Result<()>,
    ) -> Result<()> {
        self.for_each(id, &mut |name, value| match value.int_size {
            8 => f(name, &value.ints),
            _ => Ok(()),
        })
    }

    /// Calls `f` with the name of each entry, whatever its value.
    pub(crate) fn for_each_name(&self, id: ObjectId, f: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        self.for_each(id, &mut |name, _| f(name))
    }

    fn for_each(&self, id: ObjectId, f: &mut dyn FnMut(&str, &ZapValue) -> Result<()>) -> Result<()> {
        let mut result = Ok(());
        self.zap(id)?.for_each(0, &mut |entry| {
            result = match core::str::from_utf8(&entry.name) {
                Ok(name) => f(name, &entry.value),
                Err(_) => Err(Error::Damaged),
            };
            result.is_ok()
        })?;
        result
    }

    /// The name of the entry whose number is `value`.
    pub(crate) fn zap_name_of(&self, id: ObjectId, value: u64) -> Result<Option<String>> {
        let mut name_found = None;
        self.for_each_u64(id, &mut |name, v| {
            if v == value && name_found.is_none() {
                name_found = Some(String::from(name));
            }
            Ok(())
        })?;
        Ok(name_found)
    }

    // --- the pool directory --------------------------------------------------------------------------------------

    pub(crate) fn directory_entry(&self, name: &str) -> Result<Option<ObjectId>> {
        Ok(self.zap_lookup(POOL_DIRECTORY, name)?.map(ObjectId))
    }

    pub(crate) fn require(&self, name: &str) -> Result<ObjectId> {
        self.directory_entry(name)?.and_then(ObjectId::non_zero).ok_or(Error::Damaged)
    }

    pub(crate) fn set_directory_entry(&self, tx: &DmuTx, name: &str, id: ObjectId) -> Result<()> {
        self.zap_update(tx, POOL_DIRECTORY, name, id.0)
    }

    pub(crate) fn feature_objects(&self) -> FeatureObjects {
        *self.features.lock()
    }

    pub(crate) fn reload_feature_objects(&self) -> Result<()> {
        let objects = FeatureObjects::load(self)?;
        *self.features.lock() = objects;
        Ok(())
    }

    pub(crate) fn empty_bpobj(&self) -> Option<ObjectId> {
        ObjectId(self.empty_bpobj.load(Ordering::Acquire)).non_zero()
    }

    pub(crate) fn set_empty_bpobj(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        self.set_directory_entry(tx, names::EMPTY_BPOBJ, id)?;
        self.empty_bpobj.store(id.0, Ordering::Release);
        Ok(())
    }

    pub(crate) fn clear_empty_bpobj(&self, tx: &DmuTx) -> Result<()> {
        self.zap_remove(tx, POOL_DIRECTORY, names::EMPTY_BPOBJ)?;
        self.empty_bpobj.store(0, Ordering::Release);
        Ok(())
    }
}

fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}
