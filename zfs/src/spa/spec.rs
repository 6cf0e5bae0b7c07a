//! What the callers of [`super::Spa`] say: how a pool is to be made or opened.
use super::feature::Compatibility;
use crate::dsl::{Property, PropertyValue};
use crate::event::EventLog;
use crate::vdev::AllocClass;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;

/// Upper bounds of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Target of the block cache.
    pub arc_bytes: usize,
    /// Dirty data that has not been written yet; writers are slowed down from 60 % of it and stopped at all of it.
    pub dirty_bytes: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { arc_bytes: 256 << 20, dirty_bytes: 64 << 20 }
    }
}

/// Makes two runs with the same input write the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deterministic {
    /// Guids, salts and whatever else would be random come from this.
    pub seed: u64,
    /// The clock stands still at this time, seconds since 1970.
    pub time: u64,
}

/// A device for a new vdev. Its data starts at its byte 0 (a partition is a device).
#[derive(Clone, Debug)]
pub struct VdevSpec {
    /// The device.
    pub device: Arc<dyn BlockDevice>,
    /// What the label says about where the device is; OpenZFS corrects it at import.
    pub path: String,
    /// The label says `file` rather than `disk`.
    pub is_file: bool,
}

/// How a new top-level vdev places bytes on its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopKind {
    /// On its one device.
    Disk,
    /// On each of them.
    Mirror,
    /// Dealt to all of them, with parity.
    RaidZ {
        /// 1 to 3.
        nparity: u8,
    },
}

/// What a new top-level vdev is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything.
    Data,
    /// Intent logs.
    Log,
    /// Metadata and small blocks.
    Special,
    /// Tables of deduplication.
    Dedup,
    /// Its devices wait to replace others: no vdev yet.
    Spare,
}

impl Purpose {
    /// The class of a vdev with this purpose.
    pub fn class(self) -> AllocClass {
        match self {
            Self::Data | Self::Spare => AllocClass::Normal,
            Self::Log => AllocClass::Log,
            Self::Special => AllocClass::Special,
            Self::Dedup => AllocClass::Dedup,
        }
    }
}

/// A new top-level vdev.
#[derive(Clone, Debug)]
pub struct TopSpec {
    /// How it places bytes.
    pub kind: TopKind,
    /// What it is for.
    pub purpose: Purpose,
    /// Its devices: one for [`TopKind::Disk`], at least two for mirrors, more than `nparity` for raidz.
    pub devices: Vec<VdevSpec>,
}

impl From<VdevSpec> for TopSpec {
    fn from(device: VdevSpec) -> Self {
        Self { kind: TopKind::Disk, purpose: Purpose::Data, devices: alloc::vec![device] }
    }
}

/// A pool to be made.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Name: begins with a letter; letters, digits, `-_.: `; not a word that names a vdev type.
    pub name: String,
    /// log2 of the smallest allocation, 9 to 16.
    pub ashift: u8,
    /// Its features.
    pub compatibility: Compatibility,
    /// Text of the pool property `comment`.
    pub comment: Option<String>,
    /// Properties of the root dataset.
    pub root_properties: Vec<(Property, PropertyValue)>,
    /// Written to the labels; 0 is left out.
    pub hostid: u64,
    /// Written to the labels.
    pub hostname: String,
    /// First record of the pool's history: the command as the user gave it.
    pub history: String,
    /// Memory.
    pub memory: MemoryLimits,
    /// Same input, same bytes.
    pub deterministic: Option<Deterministic>,
}

impl PoolSpec {
    /// A pool with defaults: `ashift` 12, all features this build writes.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ashift: 12,
            compatibility: Compatibility::Full,
            comment: None,
            root_properties: Vec::new(),
            hostid: 0,
            hostname: String::from("zeolite"),
            history: alloc::format!("zpool create {name}"),
            memory: MemoryLimits::default(),
            deterministic: None,
        }
    }
}

/// Which pool to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PoolName {
    /// The only pool on the devices.
    #[default]
    Any,
    /// By name.
    Name(String),
    /// By guid.
    Guid(u64),
}

/// How to open a pool.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Which.
    pub pool: PoolName,
    /// Write nothing at all.
    pub read_only: bool,
    /// Use the best uberblock not newer than this: rewinds the pool. Implies that newer data is given up when
    /// the pool is opened for writing.
    pub rewind_txg: Option<u64>,
    /// Open the state that the pool's checkpoint keeps. What is newer is given up when the pool is opened for writing.
    pub rewind_to_checkpoint: bool,
    /// Open without log devices that are lost. What only they hold, changes acknowledged by an fsync and not yet in a
    /// transaction group on disk, is given up when the pool is opened for writing. They stay part of the pool until
    /// they are removed.
    pub without_logs: bool,
    /// Open although the labels say that another host has it open.
    pub force: bool,
    /// Host id to compare with the labels' and to write.
    pub hostid: u64,
    /// Host name to write.
    pub hostname: String,
    /// How a pool with multihost protection shows that it is open.
    pub multihost: super::Multihost,
    /// Memory.
    pub memory: MemoryLimits,
    /// Same input, same bytes.
    pub deterministic: Option<Deterministic>,
    /// Where events go: the caller's copy tells what stood in the way when importing fails.
    pub events: EventLog,
}
