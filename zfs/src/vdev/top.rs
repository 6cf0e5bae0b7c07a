//! Top-level vdevs: where a DVA's offset becomes I/O of leaves.
//!
//! A read names an *attempt*: one of the independent ways to get the same bytes (a side of a mirror, a set of columns of
//! a raidz). The zio layer checks the checksum, tries the next attempt when it is wrong, and asks for the repair of the
//! attempts that failed: so no vdev needs to know checksums.
use super::class::AllocClass;
use super::health::{Health, VdevState};
use super::layout;
use super::leaf::Leaf;
use super::mirror::Mirror;
use super::priority::Priority;
use super::raidz::RaidZ;
use super::sides::{Part, Place, Sides};
use super::spec::{TREE_DEPTH_MAX, VdevKind, VdevSpec};
use crate::event::EventLog;
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Completion;
use core::fmt;
use ondisk::{ObjectId, Txg};

/// Largest vdev, in allocatable bytes.
const ASIZE_MAX: u64 = 1 << 60;

/// A read of a top-level vdev. Offsets are those of DVAs; lengths are multiples of 512.
#[derive(Debug)]
pub struct ReadIo {
    /// Where.
    pub offset: u64,
    /// How much.
    pub len: usize,
    /// Which way to get it, below [`TopVdev::nr_attempts`].
    pub attempt: usize,
    /// How urgent.
    pub priority: Priority,
    /// Gets the buffer.
    pub done: Completion,
}

/// A write of a top-level vdev.
#[derive(Debug)]
pub struct WriteIo {
    /// Where.
    pub offset: u64,
    /// What.
    pub data: Abd,
    /// The transaction group it belongs to: leaves that do not get it note that.
    pub txg: Txg,
    /// How urgent.
    pub priority: Priority,
    /// Told when every leaf has done its part, as far as it can.
    pub done: Completion,
}

/// What to expect of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It should give the right bytes.
    Good,
    /// Some leaf missed the transaction group; it may give them all the same.
    Stale,
    /// Some leaf cannot be read.
    Absent,
}

/// A top-level vdev's way of placing bytes on leaves.
pub trait TopVdev: Send + Sync + fmt::Debug {
    /// The devices below, absent ones too.
    fn leaves(&self) -> &[Arc<Leaf>];

    /// The leaves of each child, where a range lies on different places of different children (raidz).
    fn children(&self) -> &[Sides] {
        &[]
    }

    /// Ways to read a range, at least 1.
    fn nr_attempts(&self) -> usize;

    /// Those below this number do not share a copy of the bytes; 1 when no two attempts are independent.
    fn nr_copies(&self) -> usize {
        1
    }

    /// The way to begin with for a block of that group.
    fn first_attempt(&self, offset: u64, txg: Txg) -> usize;

    /// What to expect of an attempt at a block of that group.
    fn standing(&self, attempt: usize, txg: Txg) -> Standing;

    /// Starts a read.
    fn read(&self, io: ReadIo);

    /// Where all leaves' parts of a block are, also of those that cannot be read: what [`Self::assemble`] is given. None
    /// where each attempt reads what no other does.
    fn all_places(&self, _offset: u64, _len: usize) -> Vec<Place> {
        Vec::new()
    }

    /// What [`Self::read`] would give in that attempt, from parts that were read before, in the order of
    /// [`Self::all_places`].
    fn assemble(&self, _offset: u64, _len: usize, _attempt: usize, _parts: &[Option<Abd>]) -> Option<AbdMut> {
        None
    }

    /// Starts a write of every copy.
    fn write(&self, io: WriteIo);

    /// Starts the rewriting, with good data, of what the attempts `bad` read wrongly; `good` is the attempt that was
    /// right, `None` when it was none of this vdev's.
    fn repair(&self, bad: &[usize], good: Option<usize>, io: WriteIo);

    /// Counts the leaves that gave wrong bytes in the attempts `bad`.
    fn note_bad(&self, bad: &[usize], good: Option<usize>);

    /// What each leaf that is wanted holds of a block.
    fn parts(&self, offset: u64, data: &Abd, is_wanted: &dyn Fn(&Leaf) -> bool) -> Vec<Part>;

    /// Where the leaves' parts of a block are; none when not all of them can be read.
    fn places(&self, offset: u64, len: usize) -> Vec<Place>;

    /// The block as its parts have it, given in the order of [`Self::places`]: once for each independent copy. `None` when
    /// parts contradict each other.
    fn wholes(&self, offset: u64, len: usize, parts: Vec<Abd>) -> Option<Vec<Abd>>;

    /// How many more devices may be lost when only those that are `is_good` are there; `None` when that is too few
    /// already.
    fn nr_spare(&self, is_good: &dyn Fn(&Leaf) -> bool) -> Option<usize>;
}

/// What the allocator and the label code know of a top-level vdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopInfo {
    /// Number in DVAs.
    pub id: u32,
    /// Its guid.
    pub guid: u64,
    /// log2 of the smallest allocation.
    pub ashift: u8,
    /// Allocatable bytes.
    pub asize: u64,
    /// log2 of the metaslab size.
    pub metaslab_shift: u8,
    /// MOS object with the space maps' numbers, 0 when there is none yet.
    pub metaslab_array: ObjectId,
    /// Vdev ZAP, 0 without.
    pub top_zap: ObjectId,
    /// What its space is for.
    pub class: AllocClass,
    /// Children of a raidz, else 1.
    pub nr_columns: u8,
    /// Parity columns of a raidz, else 0.
    pub nr_parity: u8,
    /// It has no space at all: a hole, or a vdev whose devices were not found.
    pub is_absent: bool,
    /// Nothing new is allocated here.
    pub is_excluded: bool,
}

/// A top-level vdev of an open pool.
#[derive(Debug)]
pub struct Vdev {
    info: TopInfo,
    kind: VdevKind,
    io: Box<dyn TopVdev>,
}

impl Vdev {
    /// Opens a top-level vdev. Leaves of `known` are used again when guid and device are the same; of one whose device
    /// changed, its history.
    ///
    /// # Errors
    /// `Unsupported` for kinds not implemented; `Invalid` when the description contradicts itself; `MissingVdev` when
    /// too many devices are missing, or too small.
    pub(crate) fn open(spec: &VdevSpec, known: &[Arc<Leaf>], events: &EventLog) -> Result<Self> {
        let is_absent = matches!(spec.kind, VdevKind::Hole | VdevKind::Missing);
        let (nr_columns, nr_parity) = match spec.kind {
            VdevKind::RaidZ { nparity } => {
                (u8::try_from(spec.children.len()).map_err(|_| Error::Invalid)?, nparity)
            }
            _ => (1, 0),
        };
        let info = TopInfo {
            id: spec.id,
            guid: spec.guid,
            ashift: spec.ashift,
            asize: spec.asize,
            metaslab_shift: spec.metaslab_shift,
            metaslab_array: spec.metaslab_array,
            top_zap: spec.top_zap,
            class: spec.class,
            nr_columns,
            nr_parity,
            is_absent,
            is_excluded: spec.is_excluded,
        };
        if !is_absent {
            let is_sane = (layout::ASHIFT_MIN..=layout::ASHIFT_MAX).contains(&info.ashift)
                && info.metaslab_shift >= info.ashift
                && info.metaslab_shift < 60
                && info.asize <= ASIZE_MAX;
            if !is_sane {
                return Err(Error::Invalid);
            }
        }
        let opener = Opener { top: spec, known, events };
        let io: Box<dyn TopVdev> = match spec.kind {
            VdevKind::Leaf | VdevKind::Mirror if spec.is_excused() => {
                Box::new(Mirror::of_any(opener.sides(spec)?))
            }
            VdevKind::Leaf | VdevKind::Mirror => Box::new(Mirror::new(opener.sides(spec)?)?),
            VdevKind::Hole | VdevKind::Missing => Box::new(Absent),
            VdevKind::RaidZ { nparity } => {
                let children = spec.children.iter().map(|c| opener.sides(c)).collect::<Result<_>>()?;
                Box::new(RaidZ::new(children, nparity, spec.ashift)?)
            }
        };
        Ok(Self { info, kind: spec.kind, io })
    }

    /// Its numbers.
    pub fn info(&self) -> &TopInfo {
        &self.info
    }

    /// What it is.
    pub fn kind(&self) -> VdevKind {
        self.kind
    }

    /// How it places bytes.
    pub fn io(&self) -> &dyn TopVdev {
        &*self.io
    }

    /// Bytes to allocate for a block of `psize` bytes.
    pub fn asize_of(&self, psize: u64) -> u64 {
        self.info.asize_of(psize)
    }

    /// Whether a device is not there, or is not what it should be.
    pub fn is_degraded(&self) -> bool {
        self.io.leaves().iter().any(|leaf| leaf.health().state() != VdevState::Online)
    }

    /// Its state, by those of its leaves.
    pub fn state(&self) -> VdevState {
        match self.kind {
            VdevKind::Hole => VdevState::Online,
            VdevKind::Missing => VdevState::Unavail,
            VdevKind::Leaf => self.io.leaves().first().map_or(VdevState::Unavail, |l| l.health().state()),
            _ if self.io.nr_spare(&Leaf::is_usable).is_none() => VdevState::Unavail,
            _ if self.is_degraded() => VdevState::Degraded,
            _ => VdevState::Online,
        }
    }

    /// A log that the pool does without.
    pub(crate) fn is_lost_log(&self) -> bool {
        let has_device = self.io.leaves().iter().any(|leaf| leaf.is_usable());
        self.info.class == AllocClass::Log && self.info.is_excluded && !has_device
    }

    /// Whether everything can still be read when that leaf is lost.
    pub(crate) fn can_lose(&self, guid: u64) -> bool {
        let is_good = |leaf: &Leaf| leaf.guid() != guid && leaf.is_usable() && !leaf.health().is_stale();
        self.io.nr_spare(&is_good).is_some()
    }

    /// Allocatable bytes if all that its devices have is used, before it is cut to whole metaslabs; `None` when a device is
    /// not there.
    pub(crate) fn possible_asize(&self) -> Option<u64> {
        let leaves = self.io.leaves();
        if leaves.iter().any(|leaf| leaf.is_absent()) {
            return None;
        }
        let smallest = leaves.iter().map(|leaf| layout::leaf_asize(leaf.geometry().capacity)).min()?;
        smallest.checked_mul(u64::from(self.info.nr_columns).max(1)).filter(|asize| *asize <= ASIZE_MAX)
    }

    /// Metaslabs that fit.
    pub fn nr_metaslabs(&self) -> u64 {
        self.info.nr_metaslabs()
    }

    /// Bytes that all metaslabs have together.
    pub(crate) fn allocatable(&self) -> u64 {
        self.nr_metaslabs() << self.info.metaslab_shift.min(63)
    }
}

/// Opens the leaves of a top-level vdev.
struct Opener<'a> {
    top: &'a VdevSpec,
    known: &'a [Arc<Leaf>],
    events: &'a EventLog,
}

impl Opener<'_> {
    /// The leaves of a child: a device, or a device with its replacements and spares.
    fn sides(&self, spec: &VdevSpec) -> Result<Sides> {
        let mut sides = Sides::new();
        self.collect(spec, 0, &mut sides)?;
        Ok(sides)
    }

    fn collect(&self, spec: &VdevSpec, depth: usize, sides: &mut Sides) -> Result<()> {
        match spec.kind {
            VdevKind::Leaf | VdevKind::Missing => sides.push(self.leaf(spec)),
            VdevKind::Mirror if depth < TREE_DEPTH_MAX => {
                spec.children.iter().try_for_each(|child| self.collect(child, depth + 1, sides))?;
            }
            _ => return Err(Error::Unsupported),
        }
        Ok(())
    }

    fn leaf(&self, spec: &VdevSpec) -> Arc<Leaf> {
        // The space that metaslabs use is what counts, not the rest after the last of them; a raidz's is that of all its
        // children together.
        let shift = self.top.metaslab_shift.min(63);
        let used = self.top.asize >> shift << shift;
        let share = match self.top.kind {
            VdevKind::RaidZ { .. } => used.div_ceil((self.top.children.len() as u64).max(1)),
            _ => used,
        };
        let known = self.known.iter().find(|leaf| leaf.guid() == spec.guid);
        let fits = |d: &Arc<dyn blockdev::BlockDevice>| layout::leaf_asize(d.geometry().capacity) >= share;
        let device = spec.device.as_ref().filter(|device| fits(device));
        if let Some(known) = known
            && device.is_some_and(|device| Arc::ptr_eq(device, known.device()))
        {
            return known.clone();
        }
        let health = known.map_or_else(|| Health::new(spec.guid), |leaf| leaf.health().clone());
        match device {
            Some(device) => {
                health.set_state(spec.state);
                Leaf::with_health(health, self.top.id, device.clone(), self.events.clone())
            }
            None => {
                let is_told = matches!(spec.state, VdevState::Offline | VdevState::Removed);
                health.set_state(if is_told { spec.state } else { VdevState::Unavail });
                Leaf::absent(health, self.top.id, self.events.clone())
            }
        }
    }
}

/// A vdev without devices: every I/O fails.
#[derive(Debug)]
struct Absent;

impl TopVdev for Absent {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &[]
    }

    fn nr_attempts(&self) -> usize {
        1
    }

    fn first_attempt(&self, _offset: u64, _txg: Txg) -> usize {
        0
    }

    fn standing(&self, _attempt: usize, _txg: Txg) -> Standing {
        Standing::Absent
    }

    fn read(&self, io: ReadIo) {
        io.done.complete(Err(blockdev::Error::Gone), None);
    }

    fn write(&self, io: WriteIo) {
        io.done.complete(Err(blockdev::Error::Gone), None);
    }

    fn repair(&self, _bad: &[usize], _good: Option<usize>, io: WriteIo) {
        self.write(io);
    }

    fn note_bad(&self, _bad: &[usize], _good: Option<usize>) {}

    fn parts(&self, _offset: u64, _data: &Abd, _is_wanted: &dyn Fn(&Leaf) -> bool) -> Vec<Part> {
        Vec::new()
    }

    fn places(&self, _offset: u64, _len: usize) -> Vec<Place> {
        Vec::new()
    }

    fn wholes(&self, _offset: u64, _len: usize, _parts: Vec<Abd>) -> Option<Vec<Abd>> {
        None
    }

    fn nr_spare(&self, _is_good: &dyn Fn(&Leaf) -> bool) -> Option<usize> {
        None
    }
}
