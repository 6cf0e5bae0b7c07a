//! Splitting a pool of mirrors: one side of each becomes a pool of its own.
//!
//! ```text
//! group T of the pool: the sides leave its tree
//! on the sides lies the state of group T - 1, whole: they are opened by a configuration that names them alone
//! first group of the new pool: its own configuration and labels; objects of vdevs it does not have are freed
//! ```
//!
//! The pool has given the sides up before the new pool is first written: at no time do both write to a device. A crash
//! between the two leaves sides that no pool knows, and the pool whole without them; they can be attached again.
//!
//! Source: `spa_vdev_split_mirror` (spa.c).
use super::import::assemble;
use super::{ImportOptions, Spa, config, features, tree};
use crate::dmu::DmuTx;
use crate::dsl::names;
use crate::scan::ScanState;
use crate::vdev::{AllocClass, Leaf, VdevState};
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use nvpair::NvList;
use ondisk::ObjectId;
use ondisk::feature::Feature;
use ondisk::pool_directory::{self, POOL_DIRECTORY, VDEV_MS_UNFLUSHED_TXGS};
use ondisk::space_map::SPACE_MAP_SIZE_V1;

/// How often a side is looked at that still works on something.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Spa {
    /// The guids of the sides that would make the new pool: those of `wanted`, and of mirrors none of them belongs to the
    /// last side.
    ///
    /// # Errors
    /// `Invalid` when the pool has other vdevs than mirrors (logs stay with the pool), or two are wanted of one mirror;
    /// `NotFound` for one that is no side of a mirror; `Busy` while a resilver is under way, and for sides that miss
    /// something or that the others cannot do without.
    pub fn split_sides(&self, wanted: &[u64]) -> Result<Vec<u64>> {
        let scan = self.scan_status();
        if scan.func == crate::scan::ScanFunc::Resilver && scan.state == ScanState::Scanning {
            return Err(Error::Busy);
        }
        let mut chosen = Vec::new();
        for top in config::tops(&self.config.lock())? {
            if tree::stays_when_split(top) {
                continue;
            }
            let sides = top.get_nvlist_array(config::CHILDREN).unwrap_or_default();
            let guids = sides.iter().map(|side| side.get_u64("guid").unwrap_or(0));
            let named: Vec<u64> = guids.filter(|guid| wanted.contains(guid)).collect();
            let last = || sides.last().and_then(|side| side.get_u64("guid"));
            let own = match named.as_slice() {
                [] => last().ok_or(Error::Invalid)?,
                [one] => *one,
                _ => return Err(Error::Invalid),
            };
            chosen.push(own);
        }
        if wanted.iter().any(|guid| !chosen.contains(guid)) {
            return Err(Error::NotFound);
        }
        tree::split(&self.config.lock(), &chosen, "", 0)?;
        self.sides_to_split(&chosen)?;
        Ok(chosen)
    }

    fn sides_to_split(&self, chosen: &[u64]) -> Result<Vec<Arc<Leaf>>> {
        let leaves = self.storage.leaves();
        let find = |guid: &u64| leaves.iter().find(|l| l.guid() == *guid).cloned().ok_or(Error::NotFound);
        let sides: Vec<Arc<Leaf>> = chosen.iter().map(find).collect::<Result<_>>()?;
        let is_whole =
            |leaf: &Arc<Leaf>| leaf.health().state() == VdevState::Online && !leaf.health().is_stale();
        let can_go = |leaf: &Arc<Leaf>| {
            self.storage.tree().top(leaf.top()).is_some_and(|top| top.can_lose(leaf.guid()))
        };
        if sides.iter().all(|leaf| is_whole(leaf) && can_go(leaf)) { Ok(sides) } else { Err(Error::Busy) }
    }

    /// Makes a pool called `name` of the sides that [`Self::split_sides`] gives for `wanted`. It is open when this
    /// returns, and holds what the pool held. Until then nobody else is to use the sides' devices.
    ///
    /// # Errors
    /// As [`Self::split_sides`]; `Busy` also while a log vdev holds what is not replayed yet; `Invalid` for a name no pool
    /// can have or that is this one's; `Exists` when the pool has a checkpoint; `ReadOnly`, `Suspended`. When the new pool
    /// cannot be opened: what importing gives; the sides have left the pool all the same.
    pub fn split(self: &Arc<Self>, name: &str, wanted: &[u64]) -> Result<Arc<Self>> {
        let admin = self.admin.lock();
        self.check_writable()?;
        self.check_no_checkpoint()?;
        names::check(name).map_err(|_| Error::Invalid)?;
        if name.contains(['/', '@', '#']) || name == self.mos.pool_name() {
            return Err(Error::Invalid);
        }
        let chosen = self.split_sides(wanted)?;
        let sides = self.sides_to_split(&chosen)?;
        let tops = self.storage.vdevs();
        let logs: Vec<_> = tops.iter().filter(|top| top.info().class == AllocClass::Log).collect();
        let ids: Vec<u32> = logs.iter().map(|top| top.info().id).collect();
        ids.iter().for_each(|id| self.storage.set_excluded(*id, true));
        let result = self.take_sides(&chosen, &sides, (name, &ids));
        let usable = logs.iter().filter(|top| !top.is_lost_log());
        usable.for_each(|top| self.storage.set_excluded(top.info().id, false));
        let (new, before) = result?;
        // The sides are none of this pool's any more, and the new one has a lock of its own.
        drop(admin);
        self.open_split(&sides, new, before)
    }

    /// Makes the sides a copy that misses nothing, and takes them out of the pool: the new pool's configuration, and what
    /// the pool's was. `logs`: its log vdevs, excluded from allocation.
    fn take_sides(
        self: &Arc<Self>,
        chosen: &[u64],
        sides: &[Arc<Leaf>],
        (name, logs): (&str, &[u32]),
    ) -> Result<(NvList, NvList)> {
        if !logs.is_empty() {
            // The new pool has none of them. From now on intent logs lie on the mirrors.
            self.empty_logs(logs)?;
        }
        self.txgs.sync_all()?;
        let before = self.config.lock().clone();
        let new = tree::split(&before, chosen, name, self.env.guid())?;
        let (checked, chosen) = (chosen.to_vec(), chosen.to_vec());
        let command = format!("zpool split {} {name}", self.mos.pool_name());
        // A side may have missed a write since it was chosen.
        let check = move |spa: &Arc<Self>| spa.sides_to_split(&checked).map(drop);
        self.run_checked(check, move |spa, (), ctx, tx| {
            for guid in &chosen {
                spa.split_side(ctx, tx, *guid)?;
            }
            spa.note(tx, &command)
        })?;
        for side in sides {
            while !side.is_idle() {
                side.poll();
                rt::sleep(LOOK_EVERY);
            }
        }
        Ok((new, before))
    }

    /// Takes a side out of its mirror, and leaves on it what it has.
    fn split_side(&self, ctx: &SyncCtx, tx: &DmuTx, guid: u64) -> Result<()> {
        let leaf = self.storage.leaves().into_iter().find(|l| l.guid() == guid).ok_or(Error::NotFound)?;
        self.take_side(ctx, tx, guid)?;
        leaf.health().set_state(VdevState::Offline);
        Ok(())
    }

    fn open_split(self: &Arc<Self>, sides: &[Arc<Leaf>], new: NvList, before: NvList) -> Result<Arc<Self>> {
        let devices: Vec<_> = sides.iter().map(|side| side.device().clone()).collect();
        let options = ImportOptions {
            pool: super::PoolName::Guid(self.guid),
            hostid: self.hostid,
            hostname: self.hostname.clone(),
            ..ImportOptions::default()
        };
        let old_name = self.mos.pool_name();
        let spa = assemble(&devices, new, &options, move |spa, ctx, tx| {
            spa.forget_others(ctx, tx, &before)?;
            spa.note_internal(tx, "split", &format!("from pool {old_name}"))
        })?;
        Ok(spa)
    }

    /// Frees what the MOS, which was that of the pool that was split, holds for vdevs that are not in this pool.
    fn forget_others(&self, ctx: &SyncCtx, tx: &DmuTx, before: &NvList) -> Result<()> {
        let own = tree::objects_of(self.config.lock().get_nvlist(config::VDEV_TREE).ok_or(Error::Damaged)?);
        for top in config::tops(before)?.iter().filter(|top| tree::stays_when_split(top)) {
            self.free_space_maps(tx, top)?;
        }
        let (zaps, logs) = tree::objects_of(before.get_nvlist(config::VDEV_TREE).ok_or(Error::Damaged)?);
        for zap in zaps.into_iter().filter(|zap| !own.0.contains(zap)) {
            self.free_vdev_zap(tx, zap)?;
        }
        for log in logs.into_iter().filter(|log| !own.1.contains(log)) {
            self.free_dtl(ctx, log)?;
        }
        for list in [pool_directory::SPARES, pool_directory::L2CACHE] {
            if let Some(object) = self.mos.directory_entry(list)? {
                self.mos.zap_remove(tx, POOL_DIRECTORY, list)?;
                if !object.is_none() {
                    self.mos.free(tx, object)?;
                }
            }
        }
        Ok(())
    }

    /// Frees the space maps of a top-level vdev that is described and not open.
    fn free_space_maps(&self, tx: &DmuTx, top: &NvList) -> Result<()> {
        let object = |key: &str| top.get_u64(key).map(ObjectId).and_then(ObjectId::non_zero);
        if let Some(zap) = object(config::VDEV_ZAPS[1])
            && let Some(array) = self.mos.zap_lookup(zap, VDEV_MS_UNFLUSHED_TXGS)?
        {
            self.mos.free(tx, ObjectId(array))?;
        }
        let Some(array) = object("metaslab_array") else { return Ok(()) };
        let shift = top.get_u64("metaslab_shift").unwrap_or(63).min(63);
        for id in 0..top.get_u64("asize").unwrap_or(0) >> shift {
            let entry = self.mos.read(array, id * 8, 8)?;
            let map = ObjectId(u64::from_le_bytes(entry.try_into().map_err(|_| Error::Damaged)?));
            if map.is_none() {
                continue;
            }
            if usize::from(self.mos.hold(map)?.bonus_len()) >= SPACE_MAP_SIZE_V1 {
                features::decrement(&self.mos, tx, Feature::SpacemapHistogram)?;
            }
            self.mos.free(tx, map)?;
        }
        self.mos.free(tx, array)
    }

    /// What `zeo pool split -n` shows: the sides by mirror.
    pub fn split_plan(&self, wanted: &[u64]) -> Result<Vec<(String, String)>> {
        let chosen = self.split_sides(wanted)?;
        let tops = self.vdevs();
        let name_of = |guid: &u64| {
            let top = tops.iter().find(|top| top.children.iter().any(|side| side.guid == *guid))?;
            let side = top.children.iter().find(|side| side.guid == *guid)?;
            Some((top.name(), side.path.clone().unwrap_or_else(|| guid.to_string())))
        };
        Ok(chosen.iter().filter_map(name_of).collect())
    }
}
