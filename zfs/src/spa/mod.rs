//! The pool: create, import, sync, export, and the commands on it.
//!
//! What it is not: blocks (`Storage`), objects ([`crate::dmu`]), datasets' structures ([`crate::dsl`]).
//!
//! | module | holds |
//! |---|---|
//! | [`spec`] | what callers say about a pool to be made or opened |
//! | [`feature`] | feature flags: what exists, what this build does with it |
pub mod feature;
pub mod spec;

pub use feature::{Compatibility, Feature, FeatureInfo, Support};
pub use spec::{Deterministic, ImportOptions, MemoryLimits, PoolName, PoolSpec, VdevSpec};

use crate::dsl::{Dataset, DatasetInfo, Property, PropertyValue, Source};
use crate::event::EventLog;
use crate::verify;
use crate::{Error, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::BlockDevice;

/// State a label records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolState {
    /// In use, or its user died.
    Active,
    /// Given up cleanly.
    Exported,
    /// Destroyed: the name may be reused.
    Destroyed,
    /// A hot spare.
    Spare,
    /// A cache device.
    Cache,
}

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

/// An open pool.
#[derive(Debug)]
pub struct Spa {
    events: EventLog,
}

impl Spa {
    /// Makes a pool on empty devices (what was there is lost) and leaves it open.
    ///
    /// # Errors
    /// `Invalid` for a name, ashift or feature that cannot be, `TooLarge`/`NoSpace` for a device below 64 MiB,
    /// the devices' errors.
    pub fn create(_devices: Vec<VdevSpec>, _spec: &PoolSpec) -> Result<Arc<Self>> {
        Err(Error::Unsupported)
    }

    /// Opens a pool. `devices` may hold others' devices too; order does not matter.
    ///
    /// # Errors
    /// `NotFound`: no such pool; `NoLabel`, `ForeignLabel`, `MissingVdev`, `NoUberblock`, `UnsupportedVersion`,
    /// `UnsupportedFeature`, `Unsupported` (vdev kinds), `Busy` (another host has it open), `Io`, `Checksum`,
    /// `Damaged`. The log facade names the detail.
    pub fn import(_devices: &[Arc<dyn BlockDevice>], _options: &ImportOptions) -> Result<Arc<Self>> {
        Err(Error::Unsupported)
    }

    /// What the labels of a device say.
    ///
    /// # Errors
    /// `NoLabel`, `Io`.
    pub fn probe(_device: &Arc<dyn BlockDevice>) -> Result<LabelSummary> {
        Err(Error::Unsupported)
    }

    /// Writes everything, marks the labels exported and closes. Datasets still open afterwards only give errors.
    ///
    /// # Errors
    /// `Suspended`, `Io`.
    pub fn export(&self) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Everything written before the call is durable after it.
    ///
    /// # Errors
    /// `Suspended`.
    pub fn sync(&self) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Facts and properties.
    pub fn properties(&self) -> Result<PoolProperties> {
        Err(Error::Unsupported)
    }

    /// Feature flags.
    pub fn features(&self) -> Result<Vec<FeatureInfo>> {
        Err(Error::Unsupported)
    }

    /// What happened lately.
    pub fn events(&self) -> EventLog {
        self.events.clone()
    }

    /// Top-level vdevs.
    pub fn vdevs(&self) -> Vec<VdevInfo> {
        Vec::new()
    }

    /// Space.
    pub fn space(&self) -> PoolSpace {
        PoolSpace::default()
    }

    /// Sets the dataset to boot from; `None` clears it.
    pub fn set_bootfs(&self, _dataset: Option<&str>) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// The pool's history, oldest first.
    pub fn history(&self) -> Result<Vec<HistoryRecord>> {
        Err(Error::Unsupported)
    }

    /// Adds a command to the history.
    pub fn log_history(&self, _command: &str) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Every dataset, parents before children, snapshots after their dataset.
    pub fn datasets(&self) -> Result<Vec<DatasetInfo>> {
        Err(Error::Unsupported)
    }

    /// Opens `pool/a` or `pool/a@snap`; the same dataset opened twice is one object.
    pub fn open_dataset(self: &Arc<Self>, _name: &str) -> Result<Arc<Dataset>> {
        Err(Error::Unsupported)
    }

    /// Destroys a dataset that has no children, snapshots or clones and is not open.
    pub fn destroy_dataset(&self, _name: &str) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Renames a dataset within the pool.
    pub fn rename_dataset(&self, _name: &str, _to: &str) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Sets a property.
    pub fn set_property(&self, _dataset: &str, _property: &Property, _value: &PropertyValue) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Removes a local property.
    pub fn inherit_property(&self, _dataset: &str, _property: &Property) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// A property's value and where it comes from.
    pub fn get_property(&self, _dataset: &str, _property: &Property) -> Result<(PropertyValue, Source)> {
        Err(Error::Unsupported)
    }

    /// The user properties in force on a dataset.
    pub fn user_properties(&self, _dataset: &str) -> Result<Vec<(Property, PropertyValue, Source)>> {
        Err(Error::Unsupported)
    }

    /// Walks everything; `progress` is called now and then.
    pub fn verify(&self, _progress: &mut dyn FnMut(verify::Progress)) -> Result<verify::Report> {
        Err(Error::Unsupported)
    }
}
