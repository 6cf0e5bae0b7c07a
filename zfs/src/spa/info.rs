//! What callers see of a pool.
use alloc::string::String;
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
}

/// A vdev of the pool's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VdevInfo {
    /// Index among its siblings.
    pub id: u64,
    /// Guid.
    pub guid: u64,
    /// `disk`, `file`, `mirror`, ...
    pub kind: String,
    /// Of leaves.
    pub path: Option<String>,
    /// log2 of the smallest allocation.
    pub ashift: u8,
    /// Allocatable bytes.
    pub asize: u64,
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
