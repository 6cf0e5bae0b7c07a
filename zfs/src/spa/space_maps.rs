//! The MOS as the space maps see it: as any objset, but each new space map with a histogram counts for the feature; and
//! where the logs of space maps are.
use super::features;
use super::mos::Mos;
use crate::dmu::DmuTx;
use crate::metaslab::{LogIndex, MosStore, NewMapObject, UnflushedLogs, VdevLogs};
use crate::zio::{Storage, SyncCtx};
use crate::{Error, Result};
use alloc::format;
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

    fn add_log(&self, ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        let tx = DmuTx::syncing(ctx);
        let zap = match self.directory_entry(names::LOG_SPACEMAP_ZAP)?.and_then(ObjectId::non_zero) {
            Some(zap) => zap,
            None => {
                let zap = self.create_zap(&tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
                self.set_directory_entry(&tx, names::LOG_SPACEMAP_ZAP, zap)?;
                features::increment(self, &tx, Feature::LogSpacemap)?;
                zap
            }
        };
        self.zap_add(&tx, zap, &format!("{:x}", txg.0), object.0)
    }

    fn remove_log(&self, ctx: &SyncCtx, txg: Txg, object: ObjectId) -> Result<()> {
        let tx = DmuTx::syncing(ctx);
        let zap = self.require(names::LOG_SPACEMAP_ZAP)?;
        self.zap_remove(&tx, zap, &format!("{:x}", txg.0))?;
        self.free_map(ctx, object)
    }

    fn add_vdev_object(&self, ctx: &SyncCtx, top_zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        self.zap_add(&DmuTx::syncing(ctx), top_zap, key, object.0)
    }

    fn remove_vdev_map(&self, ctx: &SyncCtx, top_zap: ObjectId, key: &str, object: ObjectId) -> Result<()> {
        self.zap_remove(&DmuTx::syncing(ctx), top_zap, key)?;
        self.free_map(ctx, object)
    }

    fn truncate(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        self.store().truncate(ctx, object)
    }
}

impl Mos {
    /// Frees a space map.
    fn free_map(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        let tx = DmuTx::syncing(ctx);
        if usize::from(self.hold(object)?.bonus_len()) >= SPACE_MAP_SIZE_V1 {
            features::decrement(self, &tx, Feature::SpacemapHistogram)?;
        }
        self.objset().free(&tx, object)
    }

    fn store(&self) -> &dyn MosStore {
        &**self.objset()
    }
}

/// Where the logs of space maps are (feature `log_spacemap`).
pub(crate) fn log_index(mos: &Mos, storage: &Storage) -> Result<LogIndex> {
    let mut index = LogIndex::default();
    if let Some(zap) = mos.directory_entry(names::LOG_SPACEMAP_ZAP)?.and_then(ObjectId::non_zero) {
        mos.for_each_u64(zap, &mut |txg, object| {
            let txg = u64::from_str_radix(txg, 16).map_err(|_| Error::Damaged)?;
            index.logs.insert(Txg(txg), ObjectId(object));
            Ok(())
        })?;
    }
    for vdev in storage.vdevs().iter() {
        let info = vdev.info();
        let zap = storage.top_zap(info.id);
        let array = if zap.is_none() { None } else { mos.zap_lookup(zap, names::VDEV_MS_UNFLUSHED_TXGS)? };
        let array = ObjectId(array.unwrap_or(0));
        let (metaslab_shift, nr_metaslabs) = (info.metaslab_shift, info.nr_metaslabs());
        if nr_metaslabs > 0 {
            index.vdevs.insert(info.id, VdevLogs { array, metaslab_shift, nr_metaslabs });
        }
    }
    Ok(index)
}

/// Whether there are logs, and a vdev without a ZAP: from which log on its metaslabs are behind is written nowhere.
///
/// # Errors
/// What reading the MOS gives.
pub(super) fn is_log_place_lost(mos: &Mos, storage: &Storage) -> Result<bool> {
    let index = log_index(mos, storage)?;
    Ok(!index.logs.is_empty() && index.vdevs.keys().any(|id| storage.top_zap(*id).is_none()))
}

/// What the logs say that the space maps do not yet.
pub(crate) fn unflushed_logs(mos: &Mos, storage: &Storage) -> Result<UnflushedLogs> {
    UnflushedLogs::read(mos, &log_index(mos, storage)?)
}
