//! What callers see of a pool.
use crate::vdev::{AllocClass, VdevErrors, VdevState};
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::label::PoolState;

/// What the labels of one device say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSummary {
    /// Name of the pool.
    pub pool: String,
    /// Guid of the pool.
    pub pool_guid: u64,
    /// Guid of this device.
    pub guid: u64,
    /// Guid of the top-level vdev it belongs to.
    pub top_guid: u64,
    /// Top-level vdevs of the pool.
    pub nr_top_vdevs: u64,
    /// Pool version.
    pub version: u64,
    /// State.
    pub state: PoolState,
    /// Transaction group of the newest valid uberblock, 0 if there is none.
    pub txg: u64,
    /// Host that wrote it.
    pub hostid: u64,
    /// Host that wrote it.
    pub hostname: String,
    /// Devices of the top-level vdev it belongs to, itself among them.
    pub leaves: Vec<LeafSummary>,
}

/// What a label says of a device beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafSummary {
    /// Its guid.
    pub guid: u64,
    /// Where it was last.
    pub path: String,
}

/// A vdev of the pool's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VdevInfo {
    /// Index among its siblings.
    pub id: u64,
    /// Guid.
    pub guid: u64,
    /// `disk`, `file`, `mirror`, `raidz`, `replacing`, `spare`, `hole`, `root`.
    pub kind: String,
    /// Parity columns of a raidz.
    pub nparity: u8,
    /// Of leaves.
    pub path: Option<String>,
    /// log2 of the smallest allocation (top-level vdevs).
    pub ashift: u8,
    /// Allocatable bytes (top-level vdevs).
    pub asize: u64,
    /// What it is for (top-level vdevs).
    pub class: AllocClass,
    /// State.
    pub state: VdevState,
    /// Errors; of vdevs with children, theirs together.
    pub errors: VdevErrors,
    /// It has missed writes that were not brought back to it yet (leaves).
    pub is_stale: bool,
    /// A hot spare, in use or not.
    pub is_spare: bool,
    /// A hot spare stands in for a device now (spares of the root).
    pub is_in_use: bool,
    /// The vdevs below.
    pub children: Vec<Self>,
    /// Hot spares (root).
    pub spares: Vec<Self>,
}

impl Default for VdevInfo {
    fn default() -> Self {
        Self {
            id: 0,
            guid: 0,
            kind: String::new(),
            nparity: 0,
            path: None,
            ashift: 0,
            asize: 0,
            class: AllocClass::Normal,
            state: VdevState::Online,
            errors: VdevErrors::default(),
            is_stale: false,
            is_spare: false,
            is_in_use: false,
            children: Vec::new(),
            spares: Vec::new(),
        }
    }
}

/// Space of the pool, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSpace {
    /// All metaslabs.
    pub size: u64,
    /// Allocated.
    pub allocated: u64,
    /// Not allocated.
    pub free: u64,
    /// Being freed by a destroy that goes on.
    pub freeing: u64,
}

/// A pool's own facts and properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolProperties {
    /// Name.
    pub name: String,
    /// Guid.
    pub guid: u64,
    /// Version: 5000 with feature flags.
    pub version: u64,
    /// Last transaction group on disk.
    pub txg: u64,
    /// Dataset to boot from.
    pub bootfs: Option<String>,
    /// Comment.
    pub comment: Option<String>,
    /// Named feature set.
    pub compatibility: Option<String>,
    /// Opened read-only.
    pub is_read_only: bool,
    /// Why it was opened read-only although writing was asked for.
    pub read_only_reason: Option<String>,
    /// A write failed: nothing is acknowledged any more.
    pub is_suspended: bool,
}

/// One record of the pool's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRecord {
    /// Seconds since 1970.
    pub time: u64,
    /// The command, or the internal event.
    pub text: String,
    /// Transaction group, for internal events.
    pub txg: u64,
}
