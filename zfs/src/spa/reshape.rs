//! Changing the tree of vdevs of an open pool, in the sync thread.
//!
//! The configuration is changed first, then the open tree is made anew from it: leaves that stay are the same objects, with
//! what they missed. The group that changes the configuration writes it to the MOS and to the labels of the leaves the
//! new tree has; only after it is on disk the labels of leaves that left are overwritten. A crash before leaves the old
//! tree with its devices whole; a crash after, a device whose label names a pool that does not know it.
use super::new_vdev::{NewLeaf, NewTop};
use super::spec::VdevSpec;
use super::{Spa, bias, config, label, tree};
use crate::dmu::{DmuTx, NewObject};
use crate::vdev::{AllocClass, Health, IoGroup, Leaf, Vdev, layout};
use crate::zio::SyncCtx;
use crate::{Error, Result};
use abd::Abd;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;
use nvpair::{NvList, NvValue};
use ondisk::pool_directory as names;
use ondisk::{DmuType, ObjectId, SPA_VERSION_FEATURES, Txg};

/// Transaction groups whose writes may be under way.
const TXGS_IN_FLIGHT: u64 = 3;
/// Data of an object array.
const ARRAY_BLOCK: u32 = 512;

/// A device that leaves the pool.
#[derive(Debug)]
pub(super) struct Retired {
    leaf: Arc<Leaf>,
    /// The guid it has as a spare, when it goes back to being one.
    spare: Option<u64>,
}

/// Space that the group being written adds. A log block allocated there would be durable before the group is, and
/// after a power cut on a vdev, or a part of one, that the pool does not know.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewSpace {
    /// All of a vdev, which is excluded until then.
    Vdev(u32),
    /// What a vdev has grown by.
    Grown(u32),
}

/// A device that comes to the side of another.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) device: Arc<dyn BlockDevice>,
    pub(super) path: String,
    pub(super) is_file: bool,
    /// That of the spare it is, else a new one.
    pub(super) guid: u64,
    pub(super) is_spare: bool,
}

impl Spa {
    /// Makes the open tree anew from the configuration. `coming`: leaves it does not know yet; `class`: what a new
    /// top-level vdev is for.
    ///
    /// # Errors
    /// `MissingVdev` when too few devices are there, `Damaged`.
    pub(super) fn reopen_tree(&self, coming: &[Arc<Leaf>], class: Option<(usize, AllocClass)>) -> Result<()> {
        let config = self.config.lock().clone();
        let old = self.storage.vdevs();
        let mut known = self.storage.leaves();
        known.extend_from_slice(coming);
        let has_device = |leaf: &&Arc<Leaf>| !leaf.is_absent();
        let devices: Vec<_> =
            known.iter().filter(has_device).map(|leaf| (leaf.guid(), leaf.device().clone())).collect();
        let mut tops = Vec::new();
        for (id, top) in config::tops(&config)?.iter().enumerate() {
            let mut spec = config::open_top(top, &devices)?;
            let before = old.get(id).filter(|o| o.info().metaslab_array == spec.metaslab_array);
            if let Some(before) = before {
                (spec.class, spec.is_excluded) = (before.info().class, before.info().is_excluded);
            }
            if let Some((_, class)) = class.filter(|(new, _)| *new == id) {
                spec.class = class;
            }
            tops.push(Arc::new(Vdev::open(&spec, &known, &self.events)?));
        }
        self.storage.tree().set(tops);
        self.mos.mark_config_dirty();
        Ok(())
    }

    /// Whether vdevs of this pool have ZAPs.
    fn has_vdev_zaps(&self) -> Result<Option<ObjectId>> {
        Ok(self.mos.directory_entry(names::VDEV_ZAP_MAP)?.and_then(ObjectId::non_zero))
    }

    pub(super) fn create_vdev_zap(&self, tx: &DmuTx) -> Result<ObjectId> {
        let Some(map) = self.has_vdev_zaps()? else { return Ok(ObjectId(0)) };
        let zap = self.mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
        self.mos.zap_add(tx, map, &format!("{:x}", zap.0), zap.0)?;
        Ok(zap)
    }

    pub(super) fn free_vdev_zap(&self, tx: &DmuTx, zap: ObjectId) -> Result<()> {
        if let Some(map) = self.has_vdev_zaps()? {
            self.mos.zap_remove(tx, map, &format!("{:x}", zap.0))?;
        }
        self.mos.free(tx, zap)
    }

    /// Frees what a part of the tree that goes has in the MOS.
    fn free_vdev_objects(&self, ctx: &SyncCtx, tx: &DmuTx, vdev: &NvList) -> Result<()> {
        let (zaps, logs) = tree::objects_of(vdev);
        zaps.into_iter().try_for_each(|zap| self.free_vdev_zap(tx, zap))?;
        logs.into_iter().try_for_each(|log| self.free_dtl(ctx, log))
    }

    /// Puts a device to the side of the vdev `target`, below a vdev of type `kind`.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`; what changing the MOS gives.
    pub(super) fn attach_side(
        &self,
        ctx: &SyncCtx,
        tx: &DmuTx,
        target: u64,
        new: &Incoming,
        kind: &str,
    ) -> Result<()> {
        let zap = self.create_vdev_zap(tx)?;
        let leaf = NewLeaf { guid: new.guid, path: new.path.clone(), is_file: new.is_file, zap };
        let mut entry = leaf.config(0, ctx.txg.0);
        if zap.is_none() {
            entry.remove(config::VDEV_ZAPS[0]);
        }
        if new.is_spare {
            config::set_before(&mut entry, "is_spare", NvValue::Uint64(1), "create_txg");
        }
        let top = tree::place_of(&self.config.lock(), target)?.top() as u32;
        let parent = self.env.guid();
        tree::add_side(&mut self.config.lock(), target, entry, kind, parent)?;
        let health = Health::new(new.guid);
        // Whatever there is, and what is being written by those who still know the old tree.
        health.miss(Txg::INITIAL, Txg(ctx.txg.0 + TXGS_IN_FLIGHT - 1));
        let leaf = Leaf::with_health(health, top, new.device.clone(), self.events.clone());
        self.reopen_tree(&[leaf], None)?;
        self.storage.request_resilver();
        Ok(())
    }

    /// Takes a side out of the tree. It belongs to no pool from then on.
    ///
    /// # Errors
    /// As [`Self::attach_side`]; `Invalid` when it is no side of anything.
    pub(super) fn detach_side(&self, ctx: &SyncCtx, tx: &DmuTx, guid: u64) -> Result<()> {
        let leaf = self.storage.leaves().into_iter().find(|leaf| leaf.guid() == guid);
        let removed = self.take_side(ctx, tx, guid)?;
        if let Some(spare) = removed.unspared {
            self.forget_spare(tx, spare)?;
        }
        if let Some(leaf) = leaf {
            let spare = (removed.leaf.get_u64("is_spare") == Some(1)).then_some(guid);
            self.retired.lock().push(Retired { leaf, spare });
        }
        self.expand_by_property()
    }

    /// Takes a side out of the tree, and leaves on it what it has.
    ///
    /// # Errors
    /// As [`Self::detach_side`].
    pub(super) fn take_side(&self, ctx: &SyncCtx, tx: &DmuTx, guid: u64) -> Result<tree::Removed> {
        let leaves = self.storage.leaves();
        let removed = tree::remove_side(&mut self.config.lock(), guid)?;
        if let Some((old, new)) = removed.renamed
            && let Some(leaf) = leaves.iter().find(|leaf| leaf.guid() == old)
        {
            leaf.health().set_guid(new);
        }
        self.free_vdev_objects(ctx, tx, &removed.leaf)?;
        self.reopen_tree(&[], None)?;
        Ok(removed)
    }

    /// Adds a top-level vdev.
    ///
    /// # Errors
    /// `UnsupportedFeature` for classes the pool does not have; `Damaged`; what changing the MOS gives.
    pub(super) fn add_top(
        &self,
        ctx: &SyncCtx,
        tx: &DmuTx,
        mut new: NewTop,
        devices: &[VdevSpec],
    ) -> Result<()> {
        let id = tree::next_top(&self.config.lock())?;
        new.metaslab_array = self.mos.allocate(tx, &NewObject::new(DmuType::OBJECT_ARRAY, ARRAY_BLOCK))?;
        for place in new.zaps_mut() {
            *place = self.create_vdev_zap(tx)?;
        }
        bias::write(&self.mos, tx, new.zap(), new.class())?;
        let mut entry = new.config(id as u64, ctx.txg.0);
        if self.has_vdev_zaps()?.is_none() {
            entry = config::without_zaps(&entry, 0);
        }
        tree::add_top(&mut self.config.lock(), id, entry)?;
        let leaf = |(leaf, device): (&NewLeaf, &VdevSpec)| {
            Leaf::new(leaf.guid, id as u32, device.device.clone(), self.events.clone())
        };
        let coming: Vec<_> = new.leaves().iter().zip(devices).map(leaf).collect();
        self.reopen_tree(&coming, Some((id, new.class())))?;
        let top = self.storage.tree().top(id as u32).ok_or(Error::Damaged)?;
        self.storage.add_space(*top.info())?;
        self.storage.set_excluded(id as u32, true);
        self.new_space.lock().push(NewSpace::Vdev(id as u32));
        Ok(())
    }

    /// The group that added space is on disk: it is there to be allocated.
    ///
    /// # Errors
    /// `Busy` for a vdev that has grown too often since the pool was opened.
    pub(super) fn open_new_space(&self) -> Result<()> {
        let new = core::mem::take(&mut *self.new_space.lock());
        new.into_iter().try_for_each(|space| match space {
            NewSpace::Vdev(id) => {
                self.storage.set_excluded(id, false);
                Ok(())
            }
            NewSpace::Grown(id) => match self.storage.tree().top(id) {
                Some(top) => self.storage.grow_space(top.info()),
                None => Ok(()),
            },
        })
    }

    /// Takes out a top-level vdev on which nothing is allocated.
    ///
    /// # Errors
    /// `Busy` when something is; what changing the MOS gives.
    pub(super) fn remove_top(&self, ctx: &SyncCtx, tx: &DmuTx, id: usize) -> Result<()> {
        let top = self.storage.tree().top(id as u32).ok_or(Error::NotFound)?;
        let maps = self.storage.space_map_objects(id as u32)?;
        let unflushed = self.storage.unflushed_array(id as u32);
        self.storage.remove_space(id as u32)?;
        for map in maps {
            self.free_dtl(ctx, map)?;
        }
        if let Some(object) = unflushed {
            self.mos.free(tx, object)?;
        }
        let removed = tree::remove_top(&mut self.config.lock(), id)?;
        if let Some(array) = removed.get_u64("metaslab_array").and_then(|a| ObjectId(a).non_zero()) {
            self.mos.free(tx, array)?;
        }
        self.free_vdev_objects(ctx, tx, &removed)?;
        self.reopen_tree(&[], None)?;
        let leaves = top.io().leaves().iter();
        self.retired.lock().extend(leaves.map(|leaf| Retired { leaf: leaf.clone(), spare: None }));
        Ok(())
    }

    /// Overwrites the labels of devices that have left the pool; what fails is left: such a label names a pool that does
    /// not know the device.
    pub(super) fn retire_devices(&self) {
        let retired = core::mem::take(&mut *self.retired.lock());
        for device in retired.iter().filter(|device| !device.leaf.is_absent()) {
            let config = device.spare.map(spare_label);
            if write_whole_labels(&device.leaf, config.as_ref()).is_err() {
                log::warn!("zfs: the labels of {}, which has left the pool, stay", device.leaf.guid());
            }
        }
    }
}

/// The label of a spare that is not in use.
pub(super) fn spare_label(guid: u64) -> NvList {
    NvList::new()
        .add_u64("version", SPA_VERSION_FEATURES)
        .add_u64("state", ondisk::label::PoolState::Spare as u64)
        .add_u64("guid", guid)
}

/// Writes all labels of a device, with nothing but a configuration in them, if that.
///
/// # Errors
/// The device's.
pub(super) fn write_whole_labels(leaf: &Leaf, config: Option<&NvList>) -> Result<()> {
    let group = IoGroup::new();
    for offset in layout::label_offsets(leaf.geometry().capacity) {
        leaf.start_write_raw(offset, label::blank(offset), group.completion(0));
    }
    group.wait(core::iter::once(leaf)).into_iter().try_for_each(|d| d.result.map_err(Error::from))?;
    if let Some(config) = config {
        for offset in layout::label_offsets(leaf.geometry().capacity) {
            let (at, data): (u64, Abd) = label::config_part(config, offset)?;
            leaf.write_raw(offset + at, data)?;
        }
    }
    leaf.flush()
}
