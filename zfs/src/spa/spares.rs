//! Hot spares: devices that wait to stand in for one that fails.
//!
//! The pool's directory lists them (`spares`); a spare in use is listed all the same and is, in the tree, the second side
//! of a vdev of type `spare` whose first is the device it stands in for. It goes back to waiting when that one is whole
//! again, or becomes a device like others when that one is detached. Spares that several pools share are not supported.
use super::reshape::{Incoming, spare_label, write_whole_labels};
use super::spec::VdevSpec;
use super::{Spa, config, features, tree};
use crate::dmu::{DmuTx, NewObject};
use crate::event::Event;
use crate::vdev::{Leaf, VdevState, layout};
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use blockdev::BlockDevice;
use nvpair::NvList;
use ondisk::feature::Feature;
use ondisk::pool_directory::{self as names, CONFIG_BLOCK_SIZE, POOL_DIRECTORY};
use ondisk::{DmuType, ObjectId};

/// Most spares that are believed.
const SPARES_MAX: usize = 256;
/// Longest packed list of them.
const LIST_MAX: u64 = 1 << 20;

/// A hot spare.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) guid: u64,
    pub(super) path: String,
    pub(super) is_file: bool,
    /// Its device, if it was found.
    pub(super) device: Option<Arc<dyn BlockDevice>>,
}

impl Spare {
    fn from_config(entry: &NvList, devices: &config::Devices) -> Result<Self> {
        let guid = entry.get_u64("guid").ok_or(Error::Damaged)?;
        Ok(Self {
            guid,
            path: entry.get_str("path").unwrap_or_default().to_string(),
            is_file: entry.get_str("type") == Some("file"),
            device: devices.iter().find(|(g, _)| *g == guid).map(|(_, d)| d.clone()),
        })
    }

    fn config(&self, id: u64) -> NvList {
        NvList::new()
            .add_str("type", if self.is_file { "file" } else { "disk" })
            .add_u64("id", id)
            .add_u64("guid", self.guid)
            .add_str("path", &self.path)
            .add_u64("whole_disk", 0)
            .add_u64("is_spare", 1)
    }
}

impl Spa {
    /// Reads the list of spares, at import.
    ///
    /// # Errors
    /// `Damaged`; what reading the MOS gives.
    pub(super) fn load_spares(&self, devices: &config::Devices) -> Result<()> {
        let Some(object) = self.mos.directory_entry(names::SPARES)?.and_then(ObjectId::non_zero) else {
            return Ok(());
        };
        let len = self.mos.bonus(object, |bonus| {
            let bytes = bonus.get(..8).ok_or(Error::Damaged)?;
            Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?))
        })?;
        if len > LIST_MAX {
            return Err(Error::Damaged);
        }
        let packed = self.mos.read(object, 0, len as usize)?;
        let list = NvList::decode(&packed).map_err(|_| Error::Damaged)?;
        let entries = list.get_nvlist_array(names::SPARES).unwrap_or_default();
        if entries.len() > SPARES_MAX {
            return Err(Error::Damaged);
        }
        let spares = entries.iter().map(|entry| Spare::from_config(entry, devices)).collect::<Result<_>>()?;
        *self.spares.lock() = spares;
        Ok(())
    }

    /// Writes the list of spares.
    fn store_spares(&self, tx: &DmuTx) -> Result<()> {
        let spares = self.spares.lock().clone();
        let object = self.mos.directory_entry(names::SPARES)?.and_then(ObjectId::non_zero);
        if spares.is_empty() {
            if let Some(object) = object {
                self.mos.zap_remove(tx, POOL_DIRECTORY, names::SPARES)?;
                self.mos.free(tx, object)?;
            }
            return Ok(());
        }
        let object = match object {
            Some(object) => object,
            None => {
                let new = NewObject::new(DmuType::PACKED_NVLIST, CONFIG_BLOCK_SIZE)
                    .with_bonus(DmuType::PACKED_NVLIST_SIZE, 8);
                let object = self.mos.allocate(tx, &new)?;
                self.mos.set_directory_entry(tx, names::SPARES, object)?;
                object
            }
        };
        let entries = spares.iter().enumerate().map(|(id, spare)| spare.config(id as u64)).collect();
        let list = NvList::new().add_nvlist_array(names::SPARES, entries);
        let packed = list.encode().map_err(|_| Error::TooLarge)?;
        self.mos.write(tx, object, 0, &packed)?;
        self.mos.modify_bonus(tx, object, |bonus| {
            bonus.get_mut(..8).ok_or(Error::Damaged)?.copy_from_slice(&(packed.len() as u64).to_le_bytes());
            Ok(())
        })
    }

    /// Adds spares, in the sync thread. Their labels say at once what they are: until the list names them nobody looks.
    ///
    /// # Errors
    /// The devices'; what changing the MOS gives.
    pub(super) fn add_spares(&self, tx: &DmuTx, devices: &[VdevSpec]) -> Result<()> {
        for device in devices {
            let guid = self.env.guid();
            let leaf = Leaf::new(guid, 0, device.device.clone(), self.events.clone());
            write_whole_labels(&leaf, Some(&spare_label(guid)))?;
            self.spares.lock().push(Spare {
                guid,
                path: device.path.clone(),
                is_file: device.is_file,
                device: Some(device.device.clone()),
            });
        }
        self.store_spares(tx)
    }

    /// A spare is none any more, in the sync thread.
    ///
    /// # Errors
    /// What changing the MOS gives.
    pub(super) fn forget_spare(&self, tx: &DmuTx, guid: u64) -> Result<()> {
        self.spares.lock().retain(|spare| spare.guid != guid);
        self.store_spares(tx)
    }

    /// Whether a spare stands in for a device now.
    pub(super) fn is_spare_in_use(&self, guid: u64) -> bool {
        config::find(&self.config.lock(), guid).is_some()
    }

    /// Puts spares to the side of devices that are lost, in the sync thread.
    ///
    /// # Errors
    /// What changing the MOS gives.
    pub(super) fn activate_spares(&self, ctx: &SyncCtx, tx: &DmuTx) -> Result<()> {
        for leaf in self.storage.leaves() {
            let is_lost =
                matches!(leaf.health().state(), VdevState::Faulted | VdevState::Removed | VdevState::Unavail);
            let Some(spare) = is_lost.then(|| self.spare_for(&leaf)).flatten() else { continue };
            self.attach_side(ctx, tx, leaf.guid(), &spare, "spare")?;
            self.events.post(Event::SpareActivated { guid: spare.guid, original: leaf.guid() });
        }
        Ok(())
    }

    /// A spare that may stand in for a leaf, unless one does already: the smallest that is large enough, of those whose
    /// blocks fit if there are any.
    fn spare_for(&self, leaf: &Leaf) -> Option<Incoming> {
        let place = tree::place_of(&self.config.lock(), leaf.guid()).ok()?;
        if place.is_spare || matches!(place.parent.as_str(), "spare" | "replacing") {
            return None;
        }
        let needed = self.side_size(leaf.top());
        let ashift = self.storage.tree().top(leaf.top())?.info().ashift;
        let spares = self.spares.lock().clone();
        let candidates = spares.into_iter().filter_map(|spare| {
            let device = spare.device.clone()?;
            let geometry = device.geometry();
            let is_usable = layout::leaf_asize(geometry.capacity) >= needed
                && u64::from(geometry.logical_block_size) <= 1 << ashift
                && !geometry.is_read_only
                && !self.is_spare_in_use(spare.guid);
            let rank = (!layout::has_fitting_blocks(&geometry, ashift), geometry.capacity);
            is_usable.then_some((rank, spare, device))
        });
        let (_, spare, device) = candidates.min_by_key(|(rank, ..)| *rank)?;
        let Spare { path, is_file, guid, .. } = spare;
        Some(Incoming { device, path, is_file, guid, is_spare: true })
    }

    /// Takes a spare out of those that have done their work: the device it stood in for is whole again. In the sync thread.
    /// Not while there is a checkpoint: what only it keeps is brought to no device, so the old one may be all that has it.
    ///
    /// # Errors
    /// What changing the MOS gives.
    pub(super) fn finish_sides(&self, ctx: &SyncCtx, tx: &DmuTx) -> Result<()> {
        if features::is_active(&self.mos, Feature::ZpoolCheckpoint)? {
            return Ok(());
        }
        for leaf in self.storage.leaves() {
            let Ok(place) = tree::place_of(&self.config.lock(), leaf.guid()) else { continue };
            let whole = |guid: u64| {
                let leaves = self.storage.leaves();
                leaves.iter().any(|l| l.guid() == guid && l.is_usable() && !l.health().is_stale())
            };
            let gone = match place.parent.as_str() {
                // The last side is the newest.
                "replacing" => place.siblings.last().is_some_and(|new| *new != leaf.guid() && whole(*new)),
                "spare" => place.index() > 0 && place.siblings.first().is_some_and(|old| whole(*old)),
                _ => false,
            };
            let can_go = || {
                let top = self.storage.tree().top(leaf.top());
                top.is_some_and(|top| {
                    !leaf.is_usable() || leaf.health().is_stale() || top.can_lose(leaf.guid())
                })
            };
            if gone && can_go() {
                self.detach_side(ctx, tx, leaf.guid())?;
            }
        }
        Ok(())
    }
}
