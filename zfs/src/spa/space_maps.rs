//! The MOS as the space maps see it: as any objset, but each new space map with a histogram counts for the feature; and
//! where the logs of space maps are.
use super::features;
use super::mos::Mos;
use crate::dmu::DmuTx;
use crate::metaslab::{LogIndex, MosStore, NewMapObject, UnflushedLogs};
use crate::zio::{Storage, SyncCtx};
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::feature::Feature;
use ondisk::pool_directory as names;
use ondisk::space_map::SPACE_MAP_SIZE_V1;
use ondisk::{DmuType, ObjectId, Txg};

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

/// The logs that are not in the space maps yet (feature `log_spacemap`).
pub(crate) fn unflushed_logs(mos: &Mos, storage: &Storage) -> Result<UnflushedLogs> {
    let Some(zap) = mos.directory_entry(names::LOG_SPACEMAP_ZAP)?.and_then(ObjectId::non_zero) else {
        return Ok(UnflushedLogs::none());
    };
    let mut logs = BTreeMap::new();
    mos.for_each_u64(zap, &mut |txg, object| {
        let txg = u64::from_str_radix(txg, 16).map_err(|_| Error::Damaged)?;
        logs.insert(Txg(txg), ObjectId(object));
        Ok(())
    })?;
    let mut vdevs = BTreeMap::new();
    for vdev in storage.vdevs().iter() {
        let info = vdev.info();
        if info.top_zap.is_none() {
            continue;
        }
        if let Some(object) = mos.zap_lookup(info.top_zap, names::VDEV_MS_UNFLUSHED_TXGS)? {
            vdevs.insert(info.id, (ObjectId(object), info.metaslab_shift));
        }
    }
    UnflushedLogs::read(mos, &LogIndex { logs, vdevs })
}
