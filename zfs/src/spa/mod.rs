//! The pool: create, import, sync, export, and the commands on it.
//!
//! What it is not: blocks (`Storage`), objects ([`crate::dmu`]), datasets' structures ([`crate::dsl`]).
//!
//! | module | holds |
//! |---|---|
//! | [`spec`], [`info`] | what callers say about a pool, and what they see of one |
//! | [`feature`], `features` | feature flags: what this build does with each; the pool's own, with their refcounts |
//! | `label`, `config` | what lies on the devices outside the tree: labels, uberblocks, the vdev tree |
//! | `new_vdev`, `dtl`, `assess` | vdevs that are being made; what leaves missed; when a device is given up |
//! | `create`, `import` | how a pool comes to be open |
//! | `checkpoint` | an earlier state that is kept |
//! | `bias` | what top-level vdevs are for |
//! | `sync`, `commit` | one transaction group to disk; what makes it the pool's state |
//! | `commands` | what is done to pools and datasets |
//! | `vdev_commands`, `vdev_info`, `spares` | what is done to vdevs, and what is seen of them |
//! | `tree`, `reshape`, `expand` | changing the tree of vdevs: its description, and the open pool; vdevs that grow |
//! | `split` | making a pool of one side of each mirror |
//! | `snapshots`, `clones`, `holds` | what is done to snapshots, clones and bookmarks |
//! | `mos`, `space_maps`, `mos_hooks` | the meta-object set |
//! | `history`, `environment` | the pool's log of commands; clock and chance |
//! | `traverse`, `zil` | walking trees of blocks; looking at intent logs |
//!
//! Invariants: everything that changes the MOS runs in the sync thread (as part of a transaction group, or as a task
//! that a command left for it), so MOS objects need no transaction of their own and no lock is shared with
//! commands that wait. After a failed write nothing is acknowledged any more.
mod assess;
pub(crate) mod bias;
mod checkpoint;
mod clones;
mod commands;
mod commit;
mod config;
mod create;
mod dtl;
pub(crate) mod environment;
mod expand;
pub mod feature;
pub(crate) mod features;
mod history;
mod holds;
mod import;
pub mod info;
mod label;
mod mmp;
pub(crate) mod mos;
mod mos_hooks;
mod new_vdev;
mod numbers;
pub(crate) mod receive;
mod reshape;
mod resilver;
mod snapshots;
pub(crate) mod space_maps;
mod spares;
pub mod spec;
mod split;
mod suspend;
mod sync;
pub(crate) mod traverse;
mod tree;
mod unreplayed;
mod upkeep;
mod vdev_commands;
mod vdev_info;

#[cfg(test)]
mod tests;

pub use checkpoint::CheckpointInfo;
pub use feature::{Compatibility, FeatureInfo, Support};
pub use holds::BookmarkInfo;
pub use info::{HistoryRecord, LabelSummary, LeafSummary, PoolProperties, PoolSpace, VdevInfo};
pub use mmp::Multihost;
pub use numbers::PoolNumber;
pub use ondisk::feature::Feature;
pub use ondisk::label::PoolState;
pub use spec::{
    Deterministic, ImportOptions, MemoryLimits, PoolName, PoolSpec, Purpose, TopKind, TopSpec, VdevSpec,
};
pub use suspend::FailMode;
pub use unreplayed::Unreplayed;
pub use upkeep::{Upkeep, UpkeepReport, UpkeepState};
pub use vdev_commands::Blocks;

use crate::dsl::Dataset;
use crate::event::EventLog;
use crate::scan::Scan;
use crate::txg::Txgs;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use environment::Environment;
use mos::Mos;
use mos_hooks::MosHooks;
use nvpair::NvList;
use ondisk::uberblock::Uberblock;
use ondisk::{ObjectId, Txg};
use rt::wait::WaitQueue;
use rt::{JoinHandle, Mutex, SpinLock};
use sync::Tasks;
pub(crate) use sync::When;

/// An open pool.
#[derive(Debug)]
pub struct Spa {
    events: EventLog,
    storage: Arc<Storage>,
    txgs: Arc<Txgs>,
    mos: Mos,
    mos_hooks: Arc<MosHooks>,
    env: Environment,
    /// Root DSL directory.
    root: AtomicU64,
    /// The MOS configuration as it is to be written next. Never held across waiting.
    config: SpinLock<NvList>,
    /// Top-level facts of the configuration that never change.
    guid: u64,
    version: u64,
    opened_at: Txg,
    multihost: Multihost,
    beat: mmp::Beat,
    /// Features that are enabled; this build enables none on a pool that exists.
    enabled: Vec<Feature>,
    hostid: u64,
    hostname: String,
    /// What is on disk.
    uberblock: SpinLock<Uberblock>,
    /// Leaves whose labels 1 and 3 may be torn: what 0 and 2 say must stay until they are whole.
    torn_labels: SpinLock<Vec<u64>>,
    /// Datasets that are or were open, by object number; those with dirty data must stay.
    open: SpinLock<BTreeMap<u64, Arc<Dataset>>>,
    tasks: Tasks,
    /// Hot spares.
    spares: SpinLock<Vec<spares::Spare>>,
    /// Devices that leave the pool with the group that is being written.
    retired: SpinLock<Vec<reshape::Retired>>,
    /// What the group being written adds.
    new_space: SpinLock<Vec<reshape::NewSpace>>,
    /// One command at a time changes the tree of datasets: what it checked stays true until its task has run.
    admin: Mutex<(), 100>,
    /// Held while a transaction group is written. The sync thread then has references to open datasets of its own,
    /// which must not make one look like it is in use.
    syncing: Mutex<()>,
    /// The sync thread of a suspended pool waits here.
    suspension: WaitQueue,
    numbers: SpinLock<numbers::Numbers>,
    state: SpinLock<State>,
    thread: SpinLock<Option<JoinHandle>>,
}

/// What changes over a pool's open life.
#[derive(Debug, Default)]
struct State {
    /// Why nothing is written.
    read_only_reason: Option<String>,
    /// The reason is not the caller's own wish.
    is_forced: bool,
    is_closed: bool,
    /// The sync thread has ended.
    is_over: bool,
    /// What stopped the pool is mended.
    may_go_on: bool,
    /// The next transaction group writes labels with this state.
    pool_state: u64,
    deferred: DeferredFrees,
    /// Destroyed snapshots and datasets have left blocks that are still to be freed.
    is_freeing: bool,
}

/// The list of deferred frees, and whether it may hold any.
#[derive(Clone, Copy, Debug, Default)]
struct DeferredFrees {
    list: ObjectId,
    may_hold: bool,
}

impl Spa {
    pub(crate) fn mos(&self) -> &Mos {
        &self.mos
    }

    /// What happened lately.
    pub fn events(&self) -> EventLog {
        self.events.clone()
    }

    /// The blocks.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The transaction group whose state was opened; 0: the pool was made.
    pub const fn opened_at(&self) -> Txg {
        self.opened_at
    }

    /// The transaction groups.
    pub fn txgs(&self) -> &Arc<Txgs> {
        &self.txgs
    }

    pub(crate) fn root_dir(&self) -> ObjectId {
        ObjectId(self.root.load(core::sync::atomic::Ordering::Acquire))
    }

    pub(crate) fn enabled_features(&self) -> &[Feature] {
        &self.enabled
    }

    /// Bytes that all datasets together may use.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.storage.space().usable_by_fs
    }

    fn open_datasets(&self) -> Vec<Arc<Dataset>> {
        self.open.lock().values().cloned().collect()
    }

    pub(crate) fn scan(&self) -> &Scan {
        self.mos.scan()
    }

    /// Seconds since 1970, as this pool has it.
    pub(crate) fn time(&self) -> u64 {
        self.env.time()
    }

    /// The uberblock on disk, with no group being written as long as the guard lives: what the MOS says meanwhile is
    /// what is on disk.
    pub(crate) fn settled(&self) -> (Uberblock, rt::MutexGuard<'_, ()>) {
        let guard = self.syncing.lock();
        let uberblock = *self.uberblock.lock();
        (uberblock, guard)
    }

    /// Why nothing can be written, if so.
    ///
    /// # Errors
    /// `ReadOnly`, `Suspended`.
    pub(crate) fn check_writable(&self) -> Result<()> {
        let state = self.state.lock();
        if state.is_closed || self.txgs.is_suspended() {
            return Err(Error::Suspended);
        }
        if state.read_only_reason.is_some() { Err(Error::ReadOnly) } else { Ok(()) }
    }
}
