//! Top-level vdevs: where a DVA's offset becomes I/O of leaves.
//!
//! A read names an *attempt*: the `n`th independent way to get the same bytes (the `n`th side of a mirror, the `n`th
//! set of columns of a raidz). The zio layer checks the checksum, tries the next attempt when it is wrong, and asks
//! for the repair of the attempts that failed: so no vdev needs to know checksums.
use super::class::AllocClass;
use super::layout::DATA_START;
use super::leaf::Leaf;
use super::mirror::Mirror;
use super::priority::Priority;
use super::queue::Payload;
use super::raidz::RaidZ;
use super::spec::{VdevKind, VdevSpec};
use crate::event::EventLog;
use crate::{Error, Result};
use abd::Abd;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Completion;
use core::fmt;
use ondisk::ObjectId;

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
    /// How urgent.
    pub priority: Priority,
    /// Told when every leaf has done its part.
    pub done: Completion,
}

/// A top-level vdev's way of placing bytes on leaves.
pub trait TopVdev: Send + Sync + fmt::Debug {
    /// The devices below.
    fn leaves(&self) -> &[Arc<Leaf>];

    /// Ways to read a range, at least 1.
    fn nr_attempts(&self) -> usize;

    /// How many of them, from the first on, give the right bytes when nothing is wrong.
    fn nr_copies(&self) -> usize {
        self.nr_attempts()
    }

    /// Starts a read.
    fn read(&self, io: ReadIo);

    /// Starts a write of every copy.
    fn write(&self, io: WriteIo);

    /// Starts the rewriting, with good data, of what the attempts `bad` read wrongly; `good` is the attempt that was
    /// right, `None` when it was none of this vdev's.
    fn repair(&self, bad: &[usize], good: Option<usize>, io: WriteIo);
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
    /// Devices it should have.
    nr_devices: usize,
}

impl Vdev {
    /// Opens a top-level vdev.
    ///
    /// # Errors
    /// `Unsupported` for kinds not implemented; `Invalid` when the description contradicts itself; `MissingVdev` when
    /// the device is smaller than the vdev.
    pub(crate) fn open(spec: &VdevSpec, events: &EventLog) -> Result<Self> {
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
            let is_sane = (super::layout::ASHIFT_MIN..=super::layout::ASHIFT_MAX).contains(&info.ashift)
                && info.metaslab_shift >= info.ashift
                && info.metaslab_shift < 60
                && info.asize <= 1 << 60;
            if !is_sane {
                return Err(Error::Invalid);
            }
        }
        let io: Box<dyn TopVdev> = match spec.kind {
            VdevKind::Leaf => Box::new(Single([open_leaf(spec, spec, events)?])),
            VdevKind::Mirror => {
                let leaves: Vec<_> = open_children(spec, events)?.into_iter().flatten().collect();
                Box::new(Mirror::new(leaves)?)
            }
            VdevKind::Hole | VdevKind::Missing => Box::new(Absent),
            VdevKind::RaidZ { nparity } => {
                Box::new(RaidZ::new(open_children(spec, events)?, nparity, spec.ashift)?)
            }
        };
        let nr_devices = match spec.kind {
            VdevKind::Mirror | VdevKind::RaidZ { .. } => spec.children.len(),
            VdevKind::Leaf | VdevKind::Missing => 1,
            VdevKind::Hole => 0,
        };
        Ok(Self { info, kind: spec.kind, io, nr_devices })
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

    /// Whether devices are absent that belong to it. Such a vdev may be read, as far as its redundancy goes; it must
    /// not be written: nothing would record what the absent ones missed.
    pub fn is_degraded(&self) -> bool {
        self.nr_devices > self.io.leaves().len()
    }

    /// Metaslabs that fit.
    pub fn nr_metaslabs(&self) -> u64 {
        self.info.nr_metaslabs()
    }
}

/// The children of a mirror or raidz, `None` for those without a device.
fn open_children(spec: &VdevSpec, events: &EventLog) -> Result<Vec<Option<Arc<Leaf>>>> {
    let open = |child: &VdevSpec| match child.kind {
        VdevKind::Leaf if child.device.is_some() => open_leaf(child, spec, events).map(Some),
        VdevKind::Leaf | VdevKind::Missing => Ok(None),
        _ => Err(Error::Unsupported),
    };
    spec.children.iter().map(open).collect()
}

fn open_leaf(leaf: &VdevSpec, top: &VdevSpec, events: &EventLog) -> Result<Arc<Leaf>> {
    let device = leaf.device.clone().ok_or(Error::MissingVdev)?;
    // A raidz's space is that of all its children together.
    let share = match top.kind {
        VdevKind::RaidZ { .. } => top.asize / (top.children.len() as u64).max(1),
        _ => top.asize,
    };
    if device.geometry().capacity < share.saturating_add(DATA_START) {
        return Err(Error::MissingVdev);
    }
    Ok(Leaf::new(leaf.guid, top.id, device, events.clone()))
}

/// One device.
#[derive(Debug)]
struct Single([Arc<Leaf>; 1]);

impl TopVdev for Single {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &self.0
    }

    fn nr_attempts(&self) -> usize {
        1
    }

    fn read(&self, io: ReadIo) {
        self.0[0].start(io.offset, Payload::Read(io.len), io.priority, io.done);
    }

    fn write(&self, io: WriteIo) {
        self.0[0].start(io.offset, Payload::Write(io.data), io.priority, io.done);
    }

    fn repair(&self, _bad: &[usize], _good: Option<usize>, io: WriteIo) {
        self.write(io);
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

    fn read(&self, io: ReadIo) {
        io.done.complete(Err(blockdev::Error::Gone), None);
    }

    fn write(&self, io: WriteIo) {
        io.done.complete(Err(blockdev::Error::Gone), None);
    }

    fn repair(&self, _bad: &[usize], _good: Option<usize>, io: WriteIo) {
        self.write(io);
    }
}
