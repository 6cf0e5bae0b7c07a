//! What disks do wrong while there is power.
//!
//! What it is: a choice of a seed, for which all promises hold as before where redundancy is left, and which must at least
//! be noticed where nothing could help. What it is not: power cuts, or disks that are not there.
use crate::layout::Layout;
use blockdev_sim::{CrashMode, FaultRates, Random, SimDisk};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a page of a disk's content.
const PAGE: u64 = 4096;

/// A kind of harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Harm {
    /// None.
    #[default]
    None,
    /// Bits of disks that can be missed change while the power is off: everything is still read, and a scrub mends it.
    Rot,
    /// Disks that can be missed fail reads and writes, give and store wrong bits, lose writes and put them elsewhere, while the
    /// pool is worked on: the same is promised.
    Faulty,
    /// Disks that can be missed vanish while the pool is worked on, and come back with what a power cut leaves of them, or
    /// as they were.
    Vanishing,
    /// An administrator takes disks offline and brings them online, attaches, detaches, replaces, adds and removes them
    /// while the pool is worked on.
    Managed,
    /// The disks' flushes do nothing in the last generation. After a power cut the pool may be refused and reads may
    /// fail; what is read must be a state that was.
    Lies,
}

impl Harm {
    /// The harm of a seed, and the disks that have it. Most have none.
    pub fn pick(layout: &Layout, random: &mut Random) -> (Self, Vec<usize>) {
        let harm = match random.below(12) {
            0 => Self::Rot,
            1 | 2 => Self::Faulty,
            3 | 4 => Self::Vanishing,
            5 => Self::Lies,
            6 | 7 => Self::Managed,
            _ => Self::None,
        };
        let disks = match harm {
            Self::None => return (harm, Vec::new()),
            Self::Lies => (0..layout.nr_disks()).collect(),
            Self::Rot | Self::Faulty | Self::Vanishing | Self::Managed => layout.pick_dispensable(random),
        };
        if disks.is_empty() && harm != Self::Managed { (Self::None, disks) } else { (harm, disks) }
    }
}

/// Rates at which a disk that works fails.
pub fn rates(random: &mut Random) -> FaultRates {
    let often = random.pick(&[50, 500, 3000]);
    let mut rate = || if random.chance(1, 2) { often } else { 0 };
    FaultRates {
        read_error: rate(),
        write_error: rate(),
        lost: rate(),
        misdirected: rate(),
        bad_read: rate(),
        bad_write: rate(),
    }
}

/// Lets disks vanish and come back until told to end; all of them are there in the end.
pub fn vanish(disks: &[Arc<SimDisk>], mut random: Random, is_over: &AtomicBool) {
    let slow = random.pick(&[200, 5_000, 100_000]);
    while !is_over.load(Ordering::Acquire) {
        rt::sleep(Duration::from_micros(random.below(slow)));
        let disk = &disks[random.below(disks.len() as u64) as usize];
        vanish_once(disk, &mut random, slow);
    }
}

/// Lets a disk vanish and come back, with or without what its cache held; `slow`: microseconds it is away at most.
pub fn vanish_once(disk: &SimDisk, random: &mut Random, slow: u64) {
    let state = disk.state();
    disk.vanish();
    rt::sleep(Duration::from_micros(random.below(slow)));
    let has_lost_power = random.chance(1, 2);
    let left = has_lost_power.then(|| state.crash(CrashMode::pick(random), random));
    disk.reappear(left);
}

/// Changes bits of some of what a disk holds, labels included.
pub fn rot(disk: &SimDisk, random: &mut Random) {
    let image = disk.current();
    let one_of = random.pick(&[2, 8, 30]);
    for (offset, _) in image.pages() {
        if random.chance(1, one_of) {
            disk.rot(offset..offset + PAGE, 1, random);
        }
    }
}
