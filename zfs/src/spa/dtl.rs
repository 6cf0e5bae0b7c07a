//! Dirty time logs on disk: what each leaf missed, as a space map of transaction groups that the leaf's configuration
//! names (`DTL`).
//!
//! A group is not committed before the logs say which leaves missed it: else a leaf that comes back would be believed.
use super::mos::Mos;
use super::{Spa, config};
use crate::metaslab::{Encoder, Extent, MosStore, NewMapObject, for_each_run};
use crate::vdev::{Health, Leaf, TxgRanges};
use crate::zio::{Format, Storage, SyncCtx};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::NvList;
use ondisk::space_map::{MapType, SPACE_MAP_SIZE_V0, SPACE_MAP_SIZE_V1, SpaceMapPhys};
use ondisk::{DmuType, ObjectId};

/// Block size of these maps (`zfs_vdev_dtl_sm_blksz`).
const BLOCK_SIZE: u32 = 4096;
/// Longest map believed.
const LENGTH_MAX: u64 = 16 << 20;
/// Every transaction group there may be.
const EXTENT: Extent = Extent { start: 0, size: u64::MAX, shift: 0 };

/// Reads what each leaf of the configuration missed.
///
/// # Errors
/// `Damaged` when a map cannot be; what reading it gives.
pub(super) fn load(mos: &Mos, config: &NvList, leaves: &[Arc<Leaf>]) -> Result<()> {
    for leaf in leaves {
        let object = config::find(config, leaf.guid()).and_then(|v| v.get_u64(config::DTL)).unwrap_or(0);
        if object != 0 {
            leaf.health().set_missing(ObjectId(object), read(mos, ObjectId(object))?);
            // What was found wrong before this was known was no error of the device.
            leaf.health().clear_errors();
        }
    }
    Ok(())
}

fn read(mos: &Mos, object: ObjectId) -> Result<TxgRanges> {
    let phys = SpaceMapPhys::parse(&MosStore::bonus(mos, object)?).map_err(|_| Error::Damaged)?;
    if phys.length > LENGTH_MAX {
        return Err(Error::Damaged);
    }
    let bytes = MosStore::read(mos, object, 0, phys.length as usize)?;
    let mut ranges = TxgRanges::new();
    for_each_run(&bytes, |run| {
        let (first, len) = EXTENT.bytes_of(&run)?;
        let last = first.checked_add(len).and_then(|end| end.checked_sub(1)).ok_or(Error::Damaged)?;
        match run.kind {
            MapType::Alloc => ranges.add(first, last),
            MapType::Free => ranges.remove(first, last),
        }
        Ok(())
    })?;
    Ok(ranges)
}

impl Spa {
    /// Whether some leaf has missed something that is not written down yet.
    pub(super) fn has_dirty_dtl(&self) -> bool {
        self.storage.leaves().iter().any(|leaf| leaf.health().is_dirty())
    }

    /// Writes the logs that have changed.
    pub(super) fn write_dtls(&self, ctx: &SyncCtx) -> Result<()> {
        for leaf in self.storage.leaves() {
            let health = leaf.health();
            if health.take_dirty() {
                self.write_dtl(ctx, health)?;
            }
        }
        Ok(())
    }

    fn write_dtl(&self, ctx: &SyncCtx, health: &Health) -> Result<()> {
        let has_histogram = self.storage.format().contains(Format::SPACEMAP_HISTOGRAM);
        let bonus_len = if has_histogram { SPACE_MAP_SIZE_V1 } else { SPACE_MAP_SIZE_V0 };
        if health.object().is_none() {
            let object = NewMapObject {
                kind: DmuType::SPACE_MAP,
                block_size: BLOCK_SIZE,
                indirect_shift: 0,
                bonus_kind: DmuType::SPACE_MAP_HEADER,
                bonus_len: bonus_len as u16,
            };
            let object = MosStore::create(&self.mos, ctx, &object)?;
            health.set_object(object);
            config::set_dtl(&mut self.config.lock(), health.guid(), object)?;
            self.mos.mark_config_dirty();
        }
        let object = health.object();
        let bonus_len = MosStore::bonus(&self.mos, object)?.len();
        let (bytes, alloc) = encode(&health.missing(), ctx, self.storage.format())?;
        MosStore::truncate(&self.mos, ctx, object)?;
        MosStore::write(&self.mos, ctx, object, 0, &bytes)?;
        let phys = SpaceMapPhys { length: bytes.len() as u64, alloc, ..SpaceMapPhys::default() };
        let raw = phys.to_raw();
        let raw = zerocopy::IntoBytes::as_bytes(&raw);
        MosStore::set_bonus(&self.mos, ctx, object, &raw[..bonus_len.min(raw.len())])
    }

    /// Frees the log of a leaf that leaves the pool.
    pub(super) fn free_dtl(&self, ctx: &SyncCtx, object: ObjectId) -> Result<()> {
        let tx = crate::dmu::DmuTx::syncing(ctx);
        let has_histogram = MosStore::bonus(&self.mos, object)?.len() >= SPACE_MAP_SIZE_V1;
        if has_histogram {
            super::features::decrement(&self.mos, &tx, ondisk::feature::Feature::SpacemapHistogram)?;
        }
        self.mos.free(&tx, object)
    }
}

/// The map, and how many groups it holds.
fn encode(ranges: &TxgRanges, ctx: &SyncCtx, format: Format) -> Result<(Vec<u8>, i64)> {
    let mut tree = crate::metaslab::RangeTree::new();
    let mut sum = 0u64;
    for (first, last) in ranges.iter() {
        let len = (last - first).saturating_add(1);
        tree.add(first, len)?;
        sum = sum.saturating_add(len);
    }
    let mut encoder = Encoder::new(EXTENT, 0, BLOCK_SIZE, format.contains(Format::SPACEMAP_V2));
    encoder.add(MapType::Alloc, &tree, ctx.txg, ctx.pass)?;
    Ok((encoder.into_bytes(), i64::try_from(sum).map_err(|_| Error::Invalid)?))
}

/// Leaves whose labels are older than the pool's, and that no log says anything of, were away when the pool was last
/// written by someone who could not write that down. `labels`: (guid, group of the label's configuration, best
/// uberblock's group); `config_txg`, `synced`: the pool's.
pub(super) fn note_stale(storage: &Storage, labels: &[(u64, u64, u64)], config_txg: u64, synced: u64) {
    for leaf in storage.leaves() {
        let Some(&(_, label, uberblock)) = labels.iter().find(|(guid, ..)| *guid == leaf.guid()) else {
            continue;
        };
        if label < config_txg && uberblock < synced && !leaf.health().is_stale() && leaf.is_usable() {
            let first = label.max(uberblock) + 1;
            log::warn!("zfs: leaf {} has missed transaction groups {first} to {synced}", leaf.guid());
            leaf.health().miss(ondisk::Txg(first), ondisk::Txg(synced));
        }
    }
}
