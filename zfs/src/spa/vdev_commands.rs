//! What is done to the vdevs of an open pool: attach, detach, replace, offline, online, add, remove.
//!
//! A command checks under the command lock what it is about to do; the sync thread checks again and does it. In between,
//! resilvers that end and spares that come in change the tree of vdevs without that lock: a side that is to go may be gone.
use super::create::wipe_labels;
use super::new_vdev::{NewTop, check_device};
use super::reshape::Incoming;
use super::spec::{Purpose, TopSpec, VdevSpec};
use super::sync::When;
use super::tree::{self, Place};
use super::{Spa, config};
use crate::event::Event;
use crate::vdev::{AllocClass, Leaf, TREE_DEPTH_MAX, VdevState, layout};
use crate::{Error, Result};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;

/// Groups after which space freed in one of them can be used again, and one more.
const SETTLE_GROUPS: usize = 4;

/// What is asked of the blocks of a device that comes to the side of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Those it works with inside are not larger than the vdev's allocations: else it would read and write back parts of
    /// them.
    Fit,
    /// Only those it can be addressed by are not.
    MayBeLarger,
}

impl Spa {
    /// The guid of the vdev of that name: a guid, the path of a device or its last part, or the kind and number of a
    /// top-level vdev (`mirror-0`).
    pub fn find_vdev(&self, name: &str) -> Option<u64> {
        let tree = self.vdev_tree();
        let mut all: Vec<&super::VdevInfo> = tree.children.iter().chain(&tree.spares).collect();
        let mut at = 0;
        while at < all.len() {
            let children = &all[at].children;
            all.extend(children);
            at += 1;
        }
        let is_named = |vdev: &&&super::VdevInfo| match &vdev.path {
            Some(path) => path == name || path.rsplit('/').next() == Some(name),
            None => vdev.name() == name,
        };
        let guid: Option<u64> = name.parse().ok();
        all.iter().find(|v| guid == Some(v.guid)).or_else(|| all.iter().find(is_named)).map(|v| v.guid)
    }

    fn leaf(&self, guid: u64) -> Result<(Arc<Leaf>, Place)> {
        let place = tree::place_of(&self.config.lock(), guid)?;
        let leaf = self.storage.leaves().into_iter().find(|l| l.guid() == guid).ok_or(Error::NotFound)?;
        Ok((leaf, place))
    }

    /// Allocatable bytes that a device of a top-level vdev needs.
    pub(super) fn side_size(&self, top: u32) -> u64 {
        let Some(top) = self.storage.tree().top(top) else { return u64::MAX };
        let info = top.info();
        (info.nr_metaslabs() << info.metaslab_shift).div_ceil(u64::from(info.nr_columns).max(1))
    }

    /// Checks that a device may come to the side of a leaf of that top-level vdev.
    fn check_side(&self, device: &VdevSpec, top: u32, blocks: Blocks) -> Result<()> {
        let ashift = self.storage.tree().top(top).ok_or(Error::NotFound)?.info().ashift;
        let size = check_device(device, ashift)?;
        if blocks == Blocks::Fit && !layout::has_fitting_blocks(&device.device.geometry(), ashift) {
            return Err(Error::Invalid);
        }
        if size < self.side_size(top) {
            return Err(Error::NoSpace);
        }
        self.check_unused(&device.device)
    }

    /// Checks that a device is in no vdev, and was in none in the state that is on disk.
    fn check_unused(&self, device: &Arc<dyn BlockDevice>) -> Result<()> {
        if self.storage.leaves().iter().any(|leaf| Arc::ptr_eq(leaf.device(), device)) {
            return Err(Error::Busy);
        }
        // The group that lets go of it may be under way: until it is on disk the device may be the only one that has
        // what it has, and its labels must not be touched.
        drop(self.syncing.lock());
        Ok(())
    }

    fn is_spare(&self, device: &Arc<dyn BlockDevice>) -> bool {
        self.spares.lock().iter().any(|s| s.device.as_ref().is_some_and(|own| Arc::ptr_eq(own, device)))
    }

    /// Makes the vdev `target` a mirror with `device`, or the mirror it is in wider. A resilver brings the device up to
    /// date.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` when the target is part of a raidz or being replaced, or stood in for too many times over; `NoSpace` for a device that is too
    /// small, `Invalid` for one with too large blocks, `Busy` for one in use; `ReadOnly`, `Suspended`.
    pub fn attach(self: &Arc<Self>, target: u64, device: &VdevSpec, blocks: Blocks) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        self.check_no_checkpoint()?;
        let leaf = self.check_target(target, "mirror")?;
        if self.is_spare(&device.device) {
            return Err(Error::Busy);
        }
        self.check_side(device, leaf.top(), blocks)?;
        self.bring(target, device, "mirror", "attach")
    }

    /// Checks that a device may come to the side of the leaf `target`, below a vdev of type `kind`: also that the tree can
    /// still be read then. Spares and replacements stand in for one another as often as somebody asks for it.
    fn check_target(&self, target: u64, kind: &str) -> Result<Arc<Leaf>> {
        let (leaf, place) = self.leaf(target)?;
        let is_fine = match kind {
            "mirror" => place.is_top() || place.parent == "mirror",
            _ => !place.is_spare,
        };
        let depth = place.depth() + usize::from(place.parent != kind);
        if is_fine && depth <= TREE_DEPTH_MAX { Ok(leaf) } else { Err(Error::Unsupported) }
    }

    /// Puts `device`, or a spare, in the place of the leaf `target`: as soon as a resilver has brought it up to date.
    ///
    /// # Errors
    /// As [`Self::attach`]; `Unsupported` for spares in use.
    pub fn replace(self: &Arc<Self>, target: u64, device: &VdevSpec, blocks: Blocks) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        self.check_no_checkpoint()?;
        let leaf = self.check_target(target, "replacing")?;
        self.check_side(device, leaf.top(), blocks)?;
        let spares = self.spares.lock().clone();
        let is_same = |d: &super::spares::Spare| {
            d.device.as_ref().is_some_and(|own| Arc::ptr_eq(own, &device.device)) || d.path == device.path
        };
        match spares.into_iter().find(|spare| is_same(spare)) {
            None => self.bring(target, device, "replacing", "replace"),
            Some(spare) if self.is_spare_in_use(spare.guid) => Err(Error::Busy),
            Some(spare) => {
                let device = spare.device.clone().ok_or(Error::MissingVdev)?;
                let super::spares::Spare { path, is_file, guid, .. } = spare;
                let new = Incoming { device, path, is_file, guid, is_spare: true };
                let check = move |spa: &Arc<Self>| match spa.is_spare_in_use(guid) {
                    true => Err(Error::Busy),
                    false => spa.check_target(target, "spare").map(drop),
                };
                self.run_checked(check, move |spa, (), ctx, tx| {
                    spa.attach_side(ctx, tx, target, &new, "spare")
                })
            }
        }
    }

    fn bring(self: &Arc<Self>, target: u64, device: &VdevSpec, kind: &'static str, verb: &str) -> Result<()> {
        wipe_labels(&device.device)?;
        let new = Incoming {
            device: device.device.clone(),
            path: device.path.clone(),
            is_file: device.is_file,
            guid: self.env.guid(),
            is_spare: false,
        };
        let command = format!("zpool {verb} {} {target} {}", self.mos.pool_name(), device.path);
        let check = move |spa: &Arc<Self>| spa.check_target(target, kind).map(drop);
        self.run_checked(check, move |spa, (), ctx, tx| {
            spa.attach_side(ctx, tx, target, &new, kind)?;
            spa.note(tx, &command)
        })
    }

    /// Takes a leaf out of its mirror, or ends its replacement or its standing in.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when it is no side of a mirror, a replacement or a spare; `Busy` when it has what the others
    /// lack; `ReadOnly`, `Suspended`.
    pub fn detach(self: &Arc<Self>, guid: u64) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        self.check_no_checkpoint()?;
        let check = move |spa: &Arc<Self>| {
            let (leaf, place) = spa.leaf(guid)?;
            if tree::is_of_sides(&place.parent) { spa.check_can_lose(&leaf) } else { Err(Error::Invalid) }
        };
        check(self)?;
        let command = format!("zpool detach {} {guid}", self.mos.pool_name());
        self.run_checked(check, move |spa, (), ctx, tx| {
            spa.detach_side(ctx, tx, guid)?;
            spa.note(tx, &command)
        })
    }

    fn check_can_lose(&self, leaf: &Leaf) -> Result<()> {
        let is_needed = leaf.is_usable()
            && !self.storage.tree().top(leaf.top()).is_some_and(|top| top.can_lose(leaf.guid()));
        if is_needed { Err(Error::Busy) } else { Ok(()) }
    }

    /// Stops using a leaf: until it is brought online again, or, when `is_temporary`, until the pool is imported again.
    ///
    /// # Errors
    /// `NotFound`; `Busy` when the others cannot do without it; `ReadOnly`, `Suspended`.
    pub fn offline(self: &Arc<Self>, guid: u64, is_temporary: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let check = move |spa: &Arc<Self>| {
            let (leaf, _) = spa.leaf(guid)?;
            spa.check_can_lose(&leaf)?;
            Ok(leaf)
        };
        check(self)?;
        let flag = if is_temporary { "-t " } else { "" };
        let command = format!("zpool offline {flag}{} {guid}", self.mos.pool_name());
        self.run_checked(check, move |spa, leaf, _, tx| {
            if !is_temporary {
                config::set_offline(&mut spa.config.lock(), guid, true)?;
            }
            spa.set_leaf_state(&leaf, VdevState::Offline);
            spa.note(tx, &command)
        })
    }

    /// Uses a leaf again that was taken offline or given up. A resilver brings it up to date. `has_grown`: its vdev is to use
    /// all that its devices have.
    ///
    /// # Errors
    /// `NotFound`; `MissingVdev` when its device is not there; `ReadOnly`, `Suspended`.
    pub fn online(self: &Arc<Self>, guid: u64, has_grown: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let (leaf, _) = self.leaf(guid)?;
        if leaf.is_absent() {
            return Err(Error::MissingVdev);
        }
        let flag = if has_grown { "-e " } else { "" };
        let command = format!("zpool online {flag}{} {guid}", self.mos.pool_name());
        let check = move |spa: &Arc<Self>| spa.leaf(guid).map(drop);
        self.run_checked(check, move |spa, (), _, tx| {
            config::set_offline(&mut spa.config.lock(), guid, false)?;
            leaf.health().clear_errors();
            spa.set_leaf_state(&leaf, VdevState::Online);
            spa.storage.request_resilver();
            if has_grown {
                spa.expand(Some(leaf.top()))?;
            }
            spa.note(tx, &command)
        })
    }

    pub(super) fn set_leaf_state(&self, leaf: &Leaf, state: VdevState) {
        leaf.health().set_state(state);
        self.events.post(Event::VdevState { guid: leaf.guid(), state });
        self.mos.mark_config_dirty();
    }

    /// Adds top-level vdevs and spares.
    ///
    /// # Errors
    /// `Invalid` for shapes that cannot be; `NoSpace`, `ReadOnly` for devices that cannot be used, `Busy` for those in use;
    /// `UnsupportedFeature` for special and dedup vdevs in a pool without allocation classes; `Suspended`.
    pub fn add(self: &Arc<Self>, tops: &[TopSpec], ashift: Option<u8>) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let ashift = ashift.unwrap_or_else(|| self.usual_ashift());
        let all = || tops.iter().flat_map(|top| &top.devices);
        if all().any(|device| self.is_spare(&device.device)) {
            return Err(Error::Busy);
        }
        all().try_for_each(|device| self.check_unused(&device.device))?;
        let mut planned = Vec::new();
        let mut spares = Vec::new();
        for top in tops {
            if top.purpose == Purpose::Spare {
                top.devices.iter().try_for_each(|d| check_device(d, ashift).map(drop))?;
                spares.extend(top.devices.iter().cloned());
            } else {
                self.check_class(top.purpose)?;
                planned.push((NewTop::plan(top, ashift, &self.env)?, top.devices.clone()));
            }
        }
        all().try_for_each(|device| wipe_labels(&device.device))?;
        let paths: Vec<&str> = all().map(|d| d.path.as_str()).collect();
        let command = format!("zpool add {} {}", self.mos.pool_name(), paths.join(" "));
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            for (top, devices) in planned {
                spa.add_top(ctx, tx, top, &devices)?;
            }
            if !spares.is_empty() {
                spa.add_spares(tx, &spares)?;
            }
            spa.note(tx, &command)
        })
    }

    fn check_class(&self, purpose: Purpose) -> Result<()> {
        let is_enabled = self.enabled.contains(&ondisk::feature::Feature::AllocationClasses);
        if purpose.class().is_counted() && !is_enabled { Err(Error::UnsupportedFeature) } else { Ok(()) }
    }

    fn usual_ashift(&self) -> u8 {
        let tops = self.storage.vdevs();
        let normal = tops.iter().filter(|top| top.nr_metaslabs() > 0);
        normal.map(|top| top.info().ashift).max().unwrap_or(12)
    }

    /// Takes a spare that is not in use, or a log vdev, out of the pool.
    ///
    /// # Errors
    /// `NotFound`; `Busy` for a spare in use, and for a log vdev that still holds something; `Unsupported` for other vdevs;
    /// `ReadOnly`, `Suspended`.
    pub fn remove(self: &Arc<Self>, guid: u64) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        self.check_no_checkpoint()?;
        let spare = self.spares.lock().iter().find(|spare| spare.guid == guid).cloned();
        let command = format!("zpool remove {} {guid}", self.mos.pool_name());
        if let Some(spare) = spare {
            let check = move |spa: &Arc<Self>| match spa.is_spare_in_use(guid) {
                true => Err(Error::Busy),
                false => Ok(()),
            };
            check(self)?;
            self.run_checked(check, move |spa, (), _, tx| {
                spa.forget_spare(tx, guid)?;
                spa.note(tx, &command)
            })?;
            return spare.device.map_or(Ok(()), |device| wipe_labels(&device));
        }
        let place = tree::place_of(&self.config.lock(), guid)?;
        let top = self.storage.tree().top(place.top() as u32).ok_or(Error::NotFound)?;
        if !place.is_top() || top.info().class != AllocClass::Log {
            return Err(Error::Unsupported);
        }
        let id = top.info().id;
        self.storage.set_excluded(id, true);
        let result = self.empty_and_remove(id, &command);
        if result.is_err() && !top.is_lost_log() {
            self.storage.set_excluded(id, false);
        }
        result
    }

    /// Waits until nothing is allocated on a vdev any more, and takes it out.
    fn empty_and_remove(self: &Arc<Self>, id: u32, command: &str) -> Result<()> {
        self.empty_logs(&[id])?;
        let command = command.to_string();
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            spa.remove_top(ctx, tx, id as usize)?;
            spa.note(tx, &command)
        })
    }

    /// Waits until nothing is allocated any more on log vdevs that are excluded from allocation.
    ///
    /// # Errors
    /// `Busy` when something stays: logs that are not replayed yet.
    pub(super) fn empty_logs(self: &Arc<Self>, ids: &[u32]) -> Result<()> {
        // A chain keeps its last block until someone commits again.
        self.end_logs()?;
        for _ in 0..SETTLE_GROUPS {
            // Space freed in one group is let go of by later ones, if they are written at all.
            self.run_task(When::AfterDatasets, |spa, _, _| {
                spa.mos.mark_config_dirty();
                Ok(())
            })?;
        }
        if ids.iter().all(|id| self.storage.is_vdev_empty(*id)) { Ok(()) } else { Err(Error::Busy) }
    }

    /// Smallest device that could take the place of a leaf, in bytes.
    pub fn size_needed(&self, guid: u64) -> Option<u64> {
        let (leaf, _) = self.leaf(guid).ok()?;
        Some(self.side_size(leaf.top()) + layout::DATA_START + 2 * layout::LABEL_SIZE)
    }
}
