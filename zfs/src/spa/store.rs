//! The MOS as the space maps see it: as any objset, but each new space map with a histogram counts for the feature.
use super::features;
use super::mos::Mos;
use crate::Result;
use crate::dmu::DmuTx;
use crate::metaslab::{MosStore, NewMapObject};
use crate::zio::SyncCtx;
use alloc::vec::Vec;
use ondisk::feature::Feature;
use ondisk::space_map::SPACE_MAP_SIZE_V1;
use ondisk::{DmuType, ObjectId};

impl MosStore for Mos {
    fn read(&self, object: ObjectId, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.store().read(object, offset, len)
    }

    fn bonus(&self, object: ObjectId) -> Result<Vec<u8>> {
        self.store().bonus(object)
    }

    fn block_size(&self, object: ObjectId) -> Result<u32> {
        self.store().block_size(object)
    }

    fn create(&self, ctx: &SyncCtx, object: &NewMapObject) -> Result<ObjectId> {
        let has_histogram = usize::from(object.bonus_len) >= SPACE_MAP_SIZE_V1;
        if object.kind == DmuType::SPACE_MAP && has_histogram {
            features::increment(self, &DmuTx::syncing(ctx), Feature::SpacemapHistogram)?;
        }
        self.store().create(ctx, object)
    }

    fn write(&self, ctx: &SyncCtx, object: ObjectId, offset: u64, bytes: &[u8]) -> Result<()> {
        self.store().write(ctx, object, offset, bytes)
    }

    fn set_bonus(&self, ctx: &SyncCtx, object: ObjectId, bytes: &[u8]) -> Result<()> {
        self.store().set_bonus(ctx, object, bytes)
    }

    fn truncate(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        self.store().truncate(ctx, object)
    }
}

impl Mos {
    fn store(&self) -> &dyn MosStore {
        &**self.objset()
    }
}
