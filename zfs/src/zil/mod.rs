//! The intent log: what makes fsync true before the transaction group is on disk.
//!
//! What it is: for each dataset a list of recent changes in memory ([`itx`]), and on disk a chain of log blocks with
//! those of them that someone asked to be durable. What it is not: a journal of the pool. The pool is always consistent
//! without it; the log only adds what the last transaction group does not have yet, and is replayed through the file
//! system's own operations.
//!
//! # The chain
//!
//! ```text
//! object set header -> block n (records) -> block n+1 (records) -> block n+2 (allocated, not written)
//! ```
//!
//! Each block holds the pointer to the next, so the next is allocated before a block is written; the last one is the
//! place of the next commit. A block's checksum covers the chain's random guid and the block's number, so old content of
//! the place cannot be taken for it.
//!
//! # Invariants, and the crash behind each
//!
//! 1. *The header in group T's tree points to the first block that has a record newer than T.* Only `sync` changes it,
//!    while T's object set is written. A header that moved on earlier would lose acknowledged changes; one that moved on
//!    later would keep blocks that are free.
//! 2. *A commit counts in the group T in which it allocated; T's sync waits for it.* Else T's space maps could say that
//!    block n+1 is allocated while block n, which alone points to it, never reached the disk: a leak for ever. It
//!    waits for the device only: everything that may block for other reasons (fetching data, waiting for the group)
//!    happens before the commit counts.
//! 3. *A log block is freed by the sync of a group, like any other block:* its place is used again two groups later at
//!    the earliest, when no uberblock whose header leads to it can become the pool's state again.
//! 4. *Claiming comes before any other allocation of an import.* Blocks allocated in groups that never were on disk are
//!    free in the space maps; an allocation before the claim could overwrite acknowledged changes.
//! 5. *A commit that cannot be logged waits for its group*, and the ones behind it wait too: a later record may depend
//!    on the change that has none (a write to a file whose creation is not in the log could not be replayed).
//! 6. *After a failed write the chain ends for good.* What follows the failed block could not be found. The group that
//!    counts the commit drops the whole chain: every record in it is as old as that group.
//! 7. *A commit of several blocks is all or nothing:* its first block is written last. Half of it could hold data of a
//!    write whose record is in the other half, and leave a file that never was.
//! 8. *Claiming takes a reference to every block that the log would clone, and the log's end gives it back.* Between import
//!    and replay the file that a block was cloned from may be deleted, its dataset even destroyed: the block would be
//!    somebody else's when the clone is replayed. The rule is OpenZFS's to the letter (all records of the claimed
//!    chain, however old), because either may end a log that the other has claimed.
//! 9. *Nothing is acknowledged once the pool is suspended.*
//!
//! # Who does the work
//!
//! The thread that wants its changes durable packs and writes them itself. Those that arrive meanwhile gather; the first of
//! them does it for all of them: group commit without a thread of its own, and without a hand-off for the lone caller. It
//! holds no lock while it waits for the device, and the next is packed meanwhile ([`queue`]).
//!
//! | module | holds |
//! |---|---|
//! | [`itx`] | changes in memory |
//! | [`pack`] | changes into blocks |
//! | [`large`] | writes whose data is not copied into the log |
//! | [`queue`] | leaders and followers, the order of commits |
//! | [`commit`] | what a leader does, allocating and writing |
//! | [`sync`] | the header, group by group; freeing |
//! | [`chain`] | reading chains |
//! | [`claim`] | at import |
//! | [`replay`] | at mount |
pub(crate) mod chain;
pub(crate) mod claim;
mod commit;
#[cfg(test)]
mod foreign_tests;
mod itx;
mod large;
mod pack;
mod queue;
mod replay;
mod sync;

pub use replay::{LoggedBlock, ReplayReport};

use crate::dmu::{DmuTx, Logged};
use crate::txg::{TXG_SLOTS, Txgs};
use crate::zio::{Storage, SyncCtx, Unused};
use crate::{Error, Result};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use itx::{Change, Itxs, WriteChange};
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::zil::{CHAIN_SIZE, ZIL_BLOCK_MAX, ZilHeader, ZilHeaderFlags};
use ondisk::zil_record::{CLONE_SIZE, Record};
use ondisk::{BlkPtr, Txg};
use queue::Queue;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// Largest log block.
const MAX_BLOCK: usize = ZIL_BLOCK_MAX as usize;
/// Most blocks in the record of one clone: it has to fit into a log block.
pub const CLONE_BLOCKS_MAX: usize = (MAX_BLOCK - CHAIN_SIZE - CLONE_SIZE) / BLKPTR_SIZE;
/// Recent commits that the size of the next block is guessed from.
const SIZES: usize = 16;

/// When changes become durable (the property `sync`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SyncMode {
    /// When asked for.
    #[default]
    Standard = 0,
    /// With every change.
    Always = 1,
    /// With their group only, whatever is asked for: nothing is promised.
    Disabled = 2,
}

impl SyncMode {
    /// The mode of that property value.
    #[must_use]
    pub const fn from_id(id: u64) -> Self {
        match id {
            1 => Self::Always,
            2 => Self::Disabled,
            _ => Self::Standard,
        }
    }
}

/// Gives the data of writes when they are logged.
pub trait LogSource: Send + Sync {
    /// Appends to `out` what an object has from `offset` on, as it is now; how many bytes that were, fewer than `len` at the
    /// file's end. Called without locks and outside transactions.
    ///
    /// # Errors
    /// `NotFound` when the object of that generation is gone; what reading gives. `out` may have gained something.
    fn read(&self, object: u64, generation: u64, offset: u64, len: usize, out: &mut Vec<u8>)
    -> Result<usize>;

    /// The block of an object that holds the byte `offset`: which bytes those are, and its content if no group on disk
    /// has it. Called as [`Self::read`].
    ///
    /// # Errors
    /// `NotFound` when the object of that generation is gone.
    fn block(&self, object: u64, generation: u64, offset: u64) -> Result<(Range<u64>, Logged)>;
}

/// What a log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZilStats {
    /// Requests to make something durable.
    pub nr_commits: u64,
    /// Blocks written.
    pub nr_blocks: u64,
    /// Blocks of files written for it, whose data it does not hold itself.
    pub nr_large: u64,
    /// Bytes written, heads and padding included.
    pub bytes: u64,
    /// Requests that had to wait for a transaction group.
    pub nr_group_waits: u64,
}

/// A block of the chain.
#[derive(Clone, Copy, Debug)]
struct Lwb {
    bp: BlkPtr,
    state: LwbState,
    /// The group in which it was allocated.
    alloc_txg: Txg,
    /// The newest group of its records.
    max_txg: Txg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LwbState {
    /// The chain's end: allocated, to be written next.
    Open,
    /// On its way.
    InFlight,
    /// Durable.
    Done,
}

/// The chain as it is in memory.
#[derive(Debug, Default)]
struct Chain {
    /// Oldest first; the last is open.
    lwbs: VecDeque<Lwb>,
    /// The group whose header is the first to name the chain. Until it is on disk a crash finds none of it.
    started: Txg,
    /// A write failed: nothing can be added.
    is_broken: bool,
    /// How often commits failed: whoever was packed before the last time may not be found.
    epoch: u64,
    /// Someone asked for a chain when there was none.
    is_wanted: bool,
    /// It is to be freed with the next group.
    is_closing: bool,
    /// Number of the newest record.
    seq: u64,
    /// Bytes of recent commits.
    sizes: VecDeque<usize>,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    blocks: AtomicU64,
    large: AtomicU64,
    bytes: AtomicU64,
    group_waits: AtomicU64,
}

/// What replay leaves for the sync thread.
#[derive(Debug, Default)]
struct Claimed {
    /// The header to be written with this group.
    header: Option<(Txg, ZilHeader)>,
    /// Blocks to be freed with this group, and the header to be emptied.
    destroy: Option<(Txg, Vec<BlkPtr>)>,
}

/// A dataset's intent log.
pub struct Zil {
    /// Object number of the dataset: part of the chain's checksums.
    objset: u64,
    storage: Arc<Storage>,
    txgs: Arc<Txgs>,
    /// The pool's features allow records of extended attributes.
    logs_xattrs: bool,
    mode: AtomicU8,
    itxs: Itxs,
    queue: Queue,
    chain: SpinLock<Chain>,
    /// Commits that count in each group.
    in_flight: [AtomicU64; TXG_SLOTS],
    landed: WaitQueue,
    /// The header changes with this group, whatever else the dataset has dirty.
    is_dirty: [AtomicBool; TXG_SLOTS],
    claimed: SpinLock<Claimed>,
    /// The record that is being replayed, 0: none.
    replaying: AtomicU64,
    /// The newest record replayed, by group.
    replayed: [AtomicU64; TXG_SLOTS],
    source: SpinLock<Option<Weak<dyn LogSource>>>,
    spare: SpinLock<commit::Spare>,
    /// The property `logbias` says `throughput`.
    is_for_throughput: AtomicBool,
    /// Blocks of large writes that no sync uses.
    unused: Arc<Unused>,
    counters: Counters,
}

impl Zil {
    /// The log of an object set whose header says `header`.
    pub(crate) fn new(
        storage: Arc<Storage>,
        txgs: Arc<Txgs>,
        objset: u64,
        header: &ZilHeader,
        logs_xattrs: bool,
    ) -> Arc<Self> {
        let mut claimed = Claimed::default();
        if header.claim_txg == Txg::ZERO && !header.log.is_hole() {
            // Left open by an earlier user of the dataset since import: its records are on disk.
            claimed.destroy = Some((Txg::ZERO, alloc::vec![header.log]));
        }
        Arc::new(Self {
            objset,
            storage,
            txgs,
            logs_xattrs,
            mode: AtomicU8::new(SyncMode::Standard as u8),
            itxs: Itxs::default(),
            queue: Queue::default(),
            chain: SpinLock::default(),
            in_flight: [const { AtomicU64::new(0) }; TXG_SLOTS],
            landed: WaitQueue::new(),
            is_dirty: [const { AtomicBool::new(false) }; TXG_SLOTS],
            claimed: SpinLock::new(claimed),
            replaying: AtomicU64::new(0),
            replayed: [const { AtomicU64::new(0) }; TXG_SLOTS],
            source: SpinLock::new(None),
            spare: SpinLock::default(),
            is_for_throughput: AtomicBool::new(false),
            unused: Arc::default(),
            counters: Counters::default(),
        })
    }

    /// Says who has the data of writes.
    pub fn set_source(&self, source: Weak<dyn LogSource>) {
        *self.source.lock() = Some(source);
    }

    /// Whether changes of extended attributes have a record: an implementation that does not know the pool feature
    /// (`zilsaxattr`) would stop replaying at it.
    pub fn logs_xattrs(&self) -> bool {
        self.logs_xattrs
    }

    /// When changes become durable.
    pub fn mode(&self) -> SyncMode {
        SyncMode::from_id(u64::from(self.mode.load(Ordering::Relaxed)))
    }

    /// Changes when changes become durable.
    pub fn set_mode(&self, mode: SyncMode) {
        let before = self.mode.swap(mode as u8, Ordering::Relaxed);
        if before == SyncMode::Disabled as u8 && mode != SyncMode::Disabled {
            // What was changed meanwhile has no records; later ones may depend on it.
            let hold = self.txgs.hold_open();
            self.itxs.add(hold.txg(), Change::Wait);
        }
    }

    /// Whether the log's own devices are left to others, and data is written once, in its place (`logbias=throughput`).
    pub fn is_for_throughput(&self) -> bool {
        self.is_for_throughput.load(Ordering::Relaxed)
    }

    /// Says so, from the next commit on.
    pub fn set_for_throughput(&self, is_it: bool) {
        self.is_for_throughput.store(is_it, Ordering::Relaxed);
    }

    /// Frees, in the group that is being written, what was written for the log in it and is nobody's. After the objects
    /// were written.
    ///
    /// # Errors
    /// As [`Storage::free`].
    pub(crate) fn free_unused(&self, ctx: &SyncCtx) -> Result<()> {
        self.storage.free_unused(ctx, &self.unused)
    }

    /// What it has done so far.
    pub fn stats(&self) -> ZilStats {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let c = &self.counters;
        ZilStats {
            nr_commits: get(&c.commits),
            nr_blocks: get(&c.blocks),
            nr_large: get(&c.large),
            bytes: get(&c.bytes),
            nr_group_waits: get(&c.group_waits),
        }
    }

    /// Whether a change in `tx` is to be listed. While a log is replayed it is not: instead the record counts as replayed
    /// once the transaction is on disk.
    fn is_logging(&self, tx: &DmuTx) -> bool {
        let replaying = self.replaying.load(Ordering::Relaxed);
        if replaying != 0 {
            self.replayed[tx.txg().slot()].fetch_max(replaying, Ordering::Relaxed);
            self.is_dirty[tx.txg().slot()].store(true, Ordering::Release);
            return false;
        }
        self.mode() != SyncMode::Disabled
    }

    /// Lists a change made in `tx`. Called inside the transaction, under the locks that keep dependent changes apart, so
    /// the list has the order in which they happened.
    pub fn log(&self, tx: &DmuTx, record: &Record<'_>) {
        if !self.is_logging(tx) {
            return;
        }
        let change = record.encode().map_or(Change::Wait, Change::Record);
        match record.unordered_object() {
            Some(object) => self.itxs.add_of_object(tx.txg(), object.0, change),
            None => self.itxs.add(tx.txg(), change),
        }
    }

    /// Lists a write made in `tx`, of a file with blocks of `block_size` bytes. The data is fetched when it is logged.
    pub fn log_write(
        &self,
        tx: &DmuTx,
        (object, generation): (u64, u64),
        offset: u64,
        length: u64,
        block_size: u32,
    ) {
        if length > 0 && self.is_logging(tx) {
            let write = WriteChange { object, generation, offset, length, block_size };
            self.itxs.add_of_object(tx.txg(), object, Change::Write(write));
        }
    }

    /// Lists a change of one object that has no record: committing the object waits for its group.
    pub fn log_unsaid(&self, tx: &DmuTx, object: u64) {
        if self.is_logging(tx) {
            self.itxs.add_of_object(tx.txg(), object, Change::Wait);
        }
    }

    /// Lists a change that has no record and that later ones may depend on: the next commit waits for its group.
    pub fn note_unlogged(&self, tx: &DmuTx) {
        if self.is_logging(tx) {
            self.itxs.add(tx.txg(), Change::Wait);
        }
    }

    /// Puts what is listed for an object in front of what comes: before its name moves, so that a file that replaces
    /// another has its content when it has the name.
    pub fn order(&self, object: u64) {
        self.itxs.order(self.unsynced(), object);
    }

    /// An object is gone: what is listed for it need not be logged.
    pub fn forget(&self, object: u64) {
        self.itxs.forget(self.unsynced(), object);
    }

    /// The groups that may have something listed.
    fn unsynced(&self) -> impl Iterator<Item = Txg> + use<> {
        let (synced, open) = (self.txgs.synced_txg().0, self.txgs.open_txg().0);
        (synced + 1..=open).map(Txg)
    }
}

impl fmt::Debug for Zil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zil")
            .field("objset", &self.objset)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
