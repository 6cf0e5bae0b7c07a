//! What an administrator does to the disks while the pool is worked on: offline, online, attach, detach, replace, spares,
//! logs and further vdevs, larger disks, disks that are away for a while, so that spares come in; and a pool of mirrors is split.
//!
//! What it is: commands by chance, on disks among which those that can be missed never become those that cannot. What it
//! is not: it has no model of the tree of vdevs; that nothing is lost is what is checked, by what the files hold.
use crate::harm::vanish_once;
use crate::layout::Top;
use crate::plan::Plan;
use crate::split::{self, Split};
use crate::worker::Shared;
use blockdev::BlockDevice;
use blockdev_sim::{Random, SimDisk};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zfs::Error;
use zfs::spa::{Blocks, Purpose, Spa, TopKind, TopSpec, VdevSpec};

/// What a command may be refused with: the disk is in use, not there, the last of its mirror, no side of anything; or
/// there is a checkpoint.
const REFUSALS: [Error; 6] = [
    Error::NotFound,
    Error::Busy,
    Error::Invalid,
    Error::Exists,
    Error::Unsupported,
    // A device of a spare's list that was not there when the pool was opened.
    Error::MissingVdev,
];

/// Commands in a generation, at most: each may be a group or more with new labels on all disks, and an operation that
/// sleeps would have thousands of them beside it.
const COMMANDS_MAX: usize = 40;

/// Bytes by which disks grow, or a few times as many.
const GROWTH: u64 = 24 << 20;

/// The path by which the pool knows a disk.
pub fn path(disk: usize) -> String {
    format!("/dev/sim{disk}")
}

/// Disks beyond those of the layout, by the numbers that follow its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Disks that take the place of others.
    pub nr_movable: usize,
    /// A disk that becomes a vdev of its own.
    pub vdev: Option<Purpose>,
    /// Disks become larger.
    pub has_growth: bool,
    /// Disks are away for a while.
    pub has_vanishing: bool,
    /// A pool of mirrors is split.
    pub has_split: bool,
}

impl Extra {
    /// Those of a seed whose disks are managed.
    pub fn pick(random: &mut Random) -> Self {
        let vdev = random.pick(&[None, None, Some(Purpose::Log), Some(Purpose::Log), Some(Purpose::Data)]);
        Self {
            nr_movable: random.below(3) as usize,
            vdev,
            has_growth: random.chance(1, 4),
            has_vanishing: random.chance(1, 3),
            has_split: random.chance(1, 2),
        }
    }

    /// How many they are.
    pub fn nr_disks(&self) -> usize {
        self.nr_movable + usize::from(self.vdev.is_some())
    }
}

/// The disks whose places may change: those that can be missed and those that may come for one of them, or, where
/// none can be missed, all.
pub fn movable(plan: &Plan) -> Vec<usize> {
    let own = plan.layout.nr_disks();
    let coming = own..own + plan.extra.nr_movable;
    match plan.harmed.is_empty() {
        true => (0..coming.end).collect(),
        false => plan.harmed.iter().copied().chain(coming).collect(),
    }
}

/// Some of the disks that can be missed.
pub fn pick_dispensable(plan: &Plan, random: &mut Random) -> Vec<usize> {
    let all = if plan.harmed.is_empty() { Vec::new() } else { movable(plan) };
    all.into_iter().filter(|_| random.chance(1, 2)).collect()
}

/// Whoever does it.
pub struct Manager {
    /// The pool.
    pub spa: Arc<Spa>,
    /// What the seed stands for.
    pub plan: Plan,
    /// All disks.
    pub disks: Vec<Arc<SimDisk>>,
    /// What decides.
    pub random: Random,
    /// The clock, and what has become of the pool.
    pub shared: Arc<Shared>,
}

impl Manager {
    /// Goes on until it has done its share, or is told to end.
    ///
    /// # Panics
    /// With a refusal that there is no reason for.
    pub fn run(mut self, is_over: &AtomicBool) {
        let slow = self.random.pick(&[200, 5_000, 100_000]);
        let movable = movable(&self.plan);
        for _ in 0..COMMANDS_MAX {
            rt::sleep(Duration::from_micros(self.random.below(slow)));
            if is_over.load(Ordering::Acquire) {
                return;
            }
            if self.plan.extra.has_split && self.random.chance(1, 8) && self.split() {
                // What the other pool has is left alone, to be looked at.
                return;
            }
            if self.plan.extra.has_growth && self.random.chance(1, 8) {
                self.grow();
            } else if self.plan.extra.has_vanishing
                && !self.plan.harmed.is_empty()
                && self.random.chance(1, 6)
            {
                let disk = self.random.pick(&movable);
                vanish_once(&self.disks[disk], &mut self.random, slow);
            } else if self.plan.extra.vdev.is_some() && self.random.chance(1, 8) {
                self.add_or_remove_vdev();
            } else if !movable.is_empty() {
                let disk = self.random.pick(&movable);
                self.step(disk, &movable);
            }
        }
    }

    fn device(&self, disk: usize) -> VdevSpec {
        VdevSpec { device: self.disks[disk].clone(), path: path(disk), is_file: false }
    }

    /// What happens to a disk next.
    fn step(&mut self, disk: usize, movable: &[usize]) {
        let choice = self.random.below(8);
        let Some(guid) = self.spa.find_vdev(&path(disk)) else {
            return if choice < 3 { self.add_spare(disk) } else { self.attach(disk, movable) };
        };
        let spa = self.spa.clone();
        match choice {
            0 => self.done("detach", disk, spa.detach(guid)),
            1 => self.done("remove", disk, spa.remove(guid)),
            2 | 3 => self.done("online", disk, spa.online(guid, false)),
            4 | 5 => {
                let is_temporary = self.random.chance(1, 2);
                self.done("offline", disk, spa.offline(guid, is_temporary));
            }
            _ => {
                let new = self.random.pick(movable);
                let result = spa.replace(guid, &self.device(new), Blocks::Fit);
                self.done(&format!("replace by {}", path(new)), disk, result);
            }
        }
    }

    /// To the side of a disk that stays.
    fn attach(&mut self, disk: usize, movable: &[usize]) {
        let stays = |other: &usize| self.plan.harmed.is_empty() || !movable.contains(other);
        let partners: Vec<usize> =
            (0..self.plan.layout.nr_disks()).filter(|other| *other != disk).filter(stays).collect();
        let Some(partner) = (!partners.is_empty()).then(|| self.random.pick(&partners)) else { return };
        let Some(guid) = self.spa.find_vdev(&path(partner)) else { return };
        let result = self.spa.attach(guid, &self.device(disk), Blocks::Fit);
        self.done(&format!("attach to {}", path(partner)), disk, result);
    }

    fn add_spare(&self, disk: usize) {
        let devices = vec![self.device(disk)];
        let result = self.spa.add(&[TopSpec { kind: TopKind::Disk, purpose: Purpose::Spare, devices }], None);
        self.done("add as spare", disk, result);
    }

    /// The disks of a vdev, or one of them, become larger, and the pool is told of it.
    fn grow(&mut self) {
        let nr = self.random.below(self.plan.layout.tops.len() as u64) as usize;
        let Some((_, disks)) = self.plan.layout.disks().nth(nr) else { return };
        let is_all = self.random.chance(2, 3);
        let one = self.random.within(disks.start as u64, disks.end as u64) as usize;
        let added = self.random.within(1, 4) * GROWTH;
        for disk in disks.filter(|disk| is_all || *disk == one) {
            self.disks[disk].grow(self.disks[disk].geometry().capacity + added);
        }
        if let Some(guid) = self.spa.find_vdev(&path(one)) {
            self.done("online -e", one, self.spa.online(guid, true));
        }
    }

    /// The disk that is a vdev of its own comes, or goes if it can.
    fn add_or_remove_vdev(&self) {
        let Some(purpose) = self.plan.extra.vdev else { return };
        let disk = self.plan.layout.nr_disks() + self.plan.extra.nr_movable;
        match self.spa.find_vdev(&path(disk)) {
            Some(guid) => self.done("remove", disk, self.spa.remove(guid)),
            None => {
                let devices = vec![self.device(disk)];
                let ashift = Some(self.plan.ashift);
                let result = self.spa.add(&[TopSpec { kind: TopKind::Disk, purpose, devices }], ashift);
                self.done("add", disk, result);
            }
        }
    }

    /// Of each mirror the disk that can be missed becomes part of another pool; false when that cannot be.
    fn split(&mut self) -> bool {
        let tops = self.plan.layout.disks().filter(|(top, _)| top.purpose != Purpose::Log);
        let goes = |(top, mut disks): (Top, Range<usize>)| {
            disks.find(|disk| top.kind == TopKind::Mirror && self.plan.harmed.contains(disk))
        };
        let Some(disks) = tops.map(goes).collect::<Option<Vec<usize>>>() else { return false };
        let guids: Option<Vec<u64>> = disks.iter().map(|disk| self.spa.find_vdev(&path(*disk))).collect();
        let Some(guids) = guids else { return false };
        // A mirror that has come since would give one that cannot be missed.
        let Ok(sides) = self.spa.split_plan(&guids) else { return false };
        if sides.iter().any(|(_, side)| !disks.iter().any(|disk| path(*disk) == *side)) {
            return false;
        }
        let first = *disks.first().unwrap_or(&0);
        let begun = Split::begin(&self.shared, &self.spa, disks);
        let result = self.spa.split(split::NAME, &guids);
        let is_done = result.is_ok();
        let result = result.and_then(|other| other.export());
        if is_done {
            begun.end(&self.shared, &self.spa);
        }
        self.done("split", first, result);
        is_done
    }

    fn done(&self, what: &str, disk: usize, result: zfs::Result<()>) {
        log::trace!("{what} {}: {result:?}", path(disk));
        // A disk that has not grown is too small for a vdev that has.
        let is_small = self.plan.extra.has_growth && result == Err(Error::NoSpace);
        let is_fine = is_small || result.map_or_else(|e| REFUSALS.contains(&e), |()| true);
        assert!(is_fine, "{what} {}: {result:?}", path(disk));
    }
}
