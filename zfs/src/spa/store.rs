//! The MOS as the space maps see it.
use super::features;
use super::mos::Mos;
use crate::Result;
use crate::dmu::{DmuTx, NewObject};
use crate::metaslab::{MosStore, NewMapObject};
use crate::zio::SyncCtx;
use alloc::vec::Vec;
use ondisk::feature::Feature;
use ondisk::space_map::SPACE_MAP_SIZE_V1;
use ondisk::{DmuType, ObjectId};

/// Space maps have small indirect blocks: they are long and sparsely changed.
const INDIRECT_SHIFT: u8 = 14;

impl MosStore for Mos {
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
        let tx = DmuTx::syncing(ctx);
        let mut new =
            NewObject::new(object.kind, object.block_size).with_bonus(object.bonus_kind, object.bonus_len);
        if object.kind == DmuType::SPACE_MAP {
            new.indirect_shift = INDIRECT_SHIFT;
            if usize::from(object.bonus_len) >= SPACE_MAP_SIZE_V1 {
                features::increment(self, &tx, Feature::SpacemapHistogram)?;
            }
        }
        self.allocate(&tx, &new)
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
