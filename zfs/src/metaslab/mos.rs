//! The real MOS under the space maps.
use super::store::{MosStore, NewMapObject};
use crate::Result;
use crate::dmu::{DmuTx, NewObject, Objset};
use crate::zio::SyncCtx;
use alloc::vec::Vec;
use ondisk::ObjectId;

impl MosStore for Objset {
    fn read(&self, object: ObjectId, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.hold(object)?.read_vec(offset, len)
    }

    fn bonus(&self, object: ObjectId) -> Result<Vec<u8>> {
        Ok(self.hold(object)?.bonus_vec())
    }

    fn block_size(&self, object: ObjectId) -> Result<u32> {
        Ok(self.hold(object)?.block_size())
    }

    fn create(&self, ctx: &SyncCtx, object: &NewMapObject) -> Result<ObjectId> {
        let new = NewObject {
            indirect_shift: object.indirect_shift,
            bonus_kind: object.bonus_kind,
            bonus_len: object.bonus_len,
            ..NewObject::new(object.kind, object.block_size)
        };
        Ok(self.allocate(&DmuTx::syncing(ctx), &new)?.id())
    }

    fn write(&self, ctx: &SyncCtx, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<()> {
        self.hold(object)?.write_slice(&DmuTx::syncing(ctx), offset, bytes)
    }

    fn set_bonus(&self, ctx: &SyncCtx, object: ObjectId, bytes: &[u8]) -> Result<()> {
        self.hold(object)?.set_bonus(&DmuTx::syncing(ctx), &mut |bonus| {
            bonus.clear();
            bonus.extend_from_slice(bytes);
        })
    }

    fn truncate(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        self.hold(object)?.free_range(&DmuTx::syncing(ctx), 0, u64::MAX)
    }
}
