//! Object sets.
use super::config::{NewObject, ObjsetConfig, ObjsetProperties};
use super::dnode::Dnode;
use super::tx::{DmuTx, TxSpace};
use crate::txg::Txgs;
use crate::zio::{Storage, SyncCtx};
use crate::{Error, Result};
use alloc::sync::Arc;
use ondisk::objset::{ObjsetFlags, ObjsetKind};
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, ObjectId, Txg};

/// An open object set.
#[derive(Debug)]
pub struct Objset {
    txgs: Arc<Txgs>,
    storage: Arc<Storage>,
    config: ObjsetConfig,
}

#[expect(missing_docs, clippy::missing_errors_doc, reason = "interface first")]
impl Objset {
    pub fn open(
        storage: Arc<Storage>,
        txgs: Arc<Txgs>,
        _root: Option<BlkPtr>,
        config: ObjsetConfig,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { txgs, storage, config }))
    }
    pub fn id(&self) -> u64 {
        self.config.id
    }
    pub fn kind(&self) -> ObjsetKind {
        self.config.kind
    }
    pub fn is_read_only(&self) -> bool {
        self.config.is_read_only
    }
    pub fn txgs(&self) -> &Arc<Txgs> {
        &self.txgs
    }
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }
    pub fn properties(&self) -> ObjsetProperties {
        self.config.properties
    }
    pub fn set_properties(&self, _properties: ObjsetProperties) {}
    pub fn flags(&self) -> ObjsetFlags {
        ObjsetFlags::empty()
    }
    pub fn zil_header(&self) -> ZilHeader {
        ZilHeader::default()
    }
    pub fn set_zil_header(&self, _tx: &DmuTx, _header: ZilHeader) {}
    pub fn root(&self) -> BlkPtr {
        BlkPtr::HOLE
    }
    pub fn nr_objects(&self) -> u64 {
        0
    }
    pub fn hold(self: &Arc<Self>, _id: ObjectId) -> Result<Arc<Dnode>> {
        Err(Error::Unsupported)
    }
    pub fn allocate(self: &Arc<Self>, _tx: &DmuTx, _new: &NewObject) -> Result<Arc<Dnode>> {
        Err(Error::Unsupported)
    }
    pub fn claim(self: &Arc<Self>, _tx: &DmuTx, _id: ObjectId, _new: &NewObject) -> Result<Arc<Dnode>> {
        Err(Error::Unsupported)
    }
    pub fn free(self: &Arc<Self>, _tx: &DmuTx, _id: ObjectId) -> Result<()> {
        Err(Error::Unsupported)
    }
    pub fn next_object(&self, _after: ObjectId) -> Result<Option<ObjectId>> {
        Err(Error::Unsupported)
    }
    pub fn is_dirty(&self, _txg: Txg) -> bool {
        false
    }
    pub fn sync(self: &Arc<Self>, _ctx: &SyncCtx) -> Result<Option<BlkPtr>> {
        Err(Error::Unsupported)
    }
    pub(super) fn check_space(&self, _space: &TxSpace) -> Result<()> {
        Ok(())
    }
    pub(super) fn reserve(&self, _txg: Txg, _space: &TxSpace) {}
}
