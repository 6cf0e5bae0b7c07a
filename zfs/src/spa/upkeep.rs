//! What is done to free space on the devices: trim (it is discarded) and initialize (it is written over), asked for by
//! users, and the trim that a pool with `autotrim` does by itself.
//!
//! Free space is taken metaslab by metaslab, with no group being written meanwhile and nothing allocated from the
//! metaslab ([`crate::metaslab`], `quiet`). How far it is stands in the ZAP of each device, in OpenZFS's form, so that it
//! goes on after an interruption.
//!
//! Source: `vdev_trim.c`, `vdev_initialize.c`.
use super::{PoolNumber, Spa, When, config};
use crate::vdev::{Leaf, Vdev, VdevKind};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::NvList;
use ondisk::{ObjectId, Txg};

/// Free ranges below this are not worth a request (`zfs_trim_extent_bytes_min`).
const RANGE_MIN: u64 = 32 << 10;
/// Transaction groups between two automatic trims.
const AUTOTRIM_EVERY: u64 = 16;
/// Metaslabs between two notes of how far it is.
const NOTE_EVERY: u32 = 32;

/// What to do with free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Discard it.
    Trim,
    /// Write over it.
    Initialize,
}

/// How far it is on a device (`vdev_trim_state_t`, `vdev_initializing_state_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum UpkeepState {
    /// Never was done.
    #[default]
    None = 0,
    /// Under way.
    Active = 1,
    /// Given up.
    Canceled = 2,
    /// Put off.
    Suspended = 3,
    /// Done.
    Complete = 4,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepReport {
    /// Bytes of devices.
    pub bytes: u64,
    /// Devices that cannot.
    pub nr_unsupported: u64,
}

impl Upkeep {
    /// Keys of the leaf ZAP: state, last offset, time of the last action.
    const fn keys(self) -> [&'static str; 3] {
        match self {
            Self::Trim => [
                "org.zfsonlinux:vdev_trim_state",
                "org.zfsonlinux:next_offset_to_trim",
                "org.zfsonlinux:vdev_trim_action_time",
            ],
            Self::Initialize => [
                "com.delphix:vdev_initialize_state",
                "com.delphix:next_offset_to_initialize",
                "com.delphix:vdev_initialize_action_time",
            ],
        }
    }

    const fn command(self) -> &'static str {
        match self {
            Self::Trim => "zpool trim",
            Self::Initialize => "zpool initialize",
        }
    }

    fn apply(self, leaf: &Leaf, offset: u64, len: u64) -> Result<u64> {
        match self {
            Self::Trim => leaf.discard(offset, len),
            Self::Initialize => leaf.initialize(offset, len),
        }
    }
}

impl Spa {
    /// Trims or initializes the free space of every device, going on where an earlier run was interrupted. `progress`
    /// is told how many metaslabs of how many are done.
    ///
    /// # Errors
    /// `ReadOnly`, `Suspended`; a device's.
    pub fn upkeep(
        self: &Arc<Self>,
        what: Upkeep,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<UpkeepReport> {
        self.check_writable()?;
        let mut report = UpkeepReport::default();
        let tops = self.storage.vdevs();
        let total: u64 = tops.iter().map(|top| top.nr_metaslabs()).sum();
        let mut done = 0;
        self.note_upkeep(what, UpkeepState::Active, None)?;
        for top in tops.iter() {
            let first = self.upkeep_from(what, top);
            for id in 0..top.nr_metaslabs() as u32 {
                if id >= first {
                    self.upkeep_metaslab(what, top, id, &mut report)?;
                }
                done += 1;
                progress(done, total);
                if id % NOTE_EVERY == NOTE_EVERY - 1 {
                    self.note_upkeep(what, UpkeepState::Active, Some((top.info().id, id)))?;
                }
            }
        }
        let cannot = |leaf: &&Arc<Leaf>| what == Upkeep::Trim && leaf.geometry().discard.is_none();
        report.nr_unsupported = self.storage.leaves().iter().filter(cannot).count() as u64;
        self.note_upkeep(what, UpkeepState::Complete, None)?;
        let command = alloc::format!("{} {}", what.command(), self.mos.pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| spa.note(tx, &command))?;
        Ok(report)
    }

    /// Gives it up, or puts it off.
    ///
    /// # Errors
    /// `ReadOnly`, `Suspended`.
    pub fn stop_upkeep(self: &Arc<Self>, what: Upkeep, is_canceled: bool) -> Result<()> {
        self.check_writable()?;
        let state = if is_canceled { UpkeepState::Canceled } else { UpkeepState::Suspended };
        self.note_upkeep(what, state, None)
    }

    /// How far it is on a device, and when that was last changed (seconds since 1970).
    ///
    /// # Errors
    /// What reading gives.
    pub fn upkeep_state(&self, what: Upkeep, leaf: u64) -> Result<(UpkeepState, u64)> {
        let Some(zap) = self.leaf_zap(leaf) else { return Ok(Default::default()) };
        let [state, _, time] = what.keys();
        let state = match self.mos.zap_lookup(zap, state)?.unwrap_or(0) {
            1 => UpkeepState::Active,
            2 => UpkeepState::Canceled,
            3 => UpkeepState::Suspended,
            4 => UpkeepState::Complete,
            _ => UpkeepState::None,
        };
        Ok((state, self.mos.zap_lookup(zap, time)?.unwrap_or(0)))
    }

    fn upkeep_metaslab(&self, what: Upkeep, top: &Vdev, id: u32, report: &mut UpkeepReport) -> Result<()> {
        let (_, _not_syncing) = self.settled();
        let Some(quiet) = self.storage.allocator().quiet(top.info().id, id, RANGE_MIN) else { return Ok(()) };
        for (offset, len) in &quiet.ranges {
            report.bytes += apply(what, top, *offset, *len)?;
        }
        Ok(())
    }

    /// The first metaslab of a vdev that was not done yet by the run before.
    fn upkeep_from(&self, what: Upkeep, top: &Vdev) -> u32 {
        let [_, offset, _] = what.keys();
        let Some(leaf) = top.io().leaves().first() else { return 0 };
        let noted =
            self.leaf_zap(leaf.guid()).and_then(|zap| self.mos.zap_lookup(zap, offset).ok().flatten());
        let share = leaf_share(top);
        let done = noted.unwrap_or(0).saturating_mul(share) >> top.info().metaslab_shift;
        if done >= top.nr_metaslabs() { 0 } else { u32::try_from(done).unwrap_or(0) }
    }

    /// Notes the state on every device; `place` is the metaslab of a vdev that was done last. Without one the
    /// beginning of a run keeps what is noted, and its end clears it.
    fn note_upkeep(
        self: &Arc<Self>,
        what: Upkeep,
        state: UpkeepState,
        place: Option<(u32, u32)>,
    ) -> Result<()> {
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            let now = spa.env.time();
            let [state_key, offset_key, time_key] = what.keys();
            for top in spa.storage.vdevs().iter() {
                let done = place.filter(|(vdev, _)| *vdev == top.info().id);
                let end = done.map(|(_, id)| (u64::from(id) + 1) << top.info().metaslab_shift);
                for leaf in top.io().leaves() {
                    let Some(zap) = spa.leaf_zap(leaf.guid()) else { continue };
                    spa.mos.zap_update(tx, zap, state_key, state as u64)?;
                    spa.mos.zap_update(tx, zap, time_key, now)?;
                    if let Some(end) = end {
                        spa.mos.zap_update(tx, zap, offset_key, end / leaf_share(top))?;
                    } else if matches!(state, UpkeepState::Complete | UpkeepState::Canceled) {
                        spa.mos.zap_update(tx, zap, offset_key, 0)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The ZAP of a device.
    fn leaf_zap(&self, leaf: u64) -> Option<ObjectId> {
        let config = self.config.lock().clone();
        let tops = config::tops(&config).ok()?;
        tops.iter().find_map(|top| zap_below(top, leaf, 0))
    }

    /// Discards what was freed lately, in the sync thread, after a group is durable.
    pub(super) fn autotrim(&self, txg: Txg) {
        let is_on = self.pool_number(PoolNumber::AutoTrim) == Some(1);
        self.storage.allocator().note_freed(is_on);
        if !is_on || !txg.0.is_multiple_of(AUTOTRIM_EVERY) {
            return;
        }
        for top in self.storage.vdevs().iter() {
            for id in 0..top.nr_metaslabs() as u32 {
                let Some(quiet) = self.storage.allocator().quiet_freed(top.info().id, id, RANGE_MIN) else {
                    continue;
                };
                for (offset, len) in &quiet.ranges {
                    if let Err(e) = apply(Upkeep::Trim, top, *offset, *len) {
                        return log::warn!("zfs: autotrim: {e}");
                    }
                }
            }
        }
    }
}

fn zap_below(vdev: &NvList, leaf: u64, depth: usize) -> Option<ObjectId> {
    if vdev.get_u64("guid") == Some(leaf) {
        return vdev.get_u64(config::VDEV_ZAPS[0]).map(ObjectId).and_then(ObjectId::non_zero);
    }
    let children = vdev.get_nvlist_array(config::CHILDREN).filter(|_| depth < 8)?;
    children.iter().find_map(|child| zap_below(child, leaf, depth + 1))
}

/// Bytes of a vdev for each byte of one of its devices.
fn leaf_share(top: &Vdev) -> u64 {
    match top.kind() {
        VdevKind::RaidZ { .. } => u64::from(top.info().nr_columns.max(1)),
        _ => 1,
    }
}

/// Does it to a range of a vdev on every device that can; the bytes.
fn apply(what: Upkeep, top: &Vdev, offset: u64, len: u64) -> Result<u64> {
    let mut bytes = 0;
    for (leaf, start, end) in places(top, offset, len) {
        if !leaf.is_usable() || end <= start {
            continue;
        }
        match what.apply(&leaf, start, end - start) {
            Ok(done) => bytes += done,
            Err(Error::Unsupported) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// Where a range of a vdev lies on its devices: (device, start, end). Of a raidz each child has every n-th unit
/// (`vdev_raidz_xlate`).
fn places(top: &Vdev, offset: u64, len: u64) -> Vec<(Arc<Leaf>, u64, u64)> {
    let VdevKind::RaidZ { .. } = top.kind() else {
        return top.io().leaves().iter().map(|leaf| (leaf.clone(), offset, offset + len)).collect();
    };
    let ashift = top.info().ashift;
    let width = u64::from(top.info().nr_columns.max(1));
    let (first, last) = (offset >> ashift, (offset + len) >> ashift);
    let row = |unit: u64, child: u64| unit.saturating_sub(child).div_ceil(width);
    top.io()
        .children()
        .iter()
        .zip(0..)
        .flat_map(|(sides, child)| {
            let (start, end) = (row(first, child) << ashift, row(last, child) << ashift);
            sides.iter().map(move |leaf| (leaf.clone(), start, end))
        })
        .collect()
}
