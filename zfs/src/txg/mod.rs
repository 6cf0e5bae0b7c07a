//! Transaction groups: which one is open, who still works in the one that closes, which are on disk.
//!
//! What it is not: it writes nothing. The spa's sync thread asks for the next closed group
//! ([`Txgs::quiesce_next`]), writes it, and reports it ([`Txgs::synced`]).
//!
//! Invariants:
//! * At most three groups are in flight (open, quiescing, syncing), so per-group state lives in four slots indexed
//!   by `txg & 3`; a slot is reused only after its group is on disk.
//! * A hold keeps its group from syncing. Counters are per CPU. The race between taking a hold and closing the group
//!   is settled by the taker: it counts itself first and looks at the open group again afterwards; if that moved,
//!   the hold is given back and taken anew. A closer that saw the short-lived count waits for nothing worse than that.
//! * A transaction joins the new open group only when the last holder of the closed one is gone. Otherwise a writer
//!   still in the closed group could change a block that a writer of the open group has changed already: its change
//!   would land in the newer version only, and a crash between the two groups would keep one half of its transaction
//!   (a file's new size, say) without the other. Transactions are short and hold nothing that a joiner waits for, so
//!   the price is one short wait per group. It follows that a thread holds at most one transaction at a time.
//! * Everything here is atomics and wait queues, so that dirty bytes can be given back under any lock.
//!
//! | module | holds |
//! |---|---|
//! | [`throttle`] | the dirty-data limit and the delay before it |
mod throttle;

#[cfg(test)]
mod tests;

use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use ondisk::Txg;
use rt::wait::WaitQueue;
pub use throttle::Dirtied;

/// Slots of per-group state.
pub const TXG_SLOTS: usize = 4;

/// How groups close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxgConfig {
    /// Most dirty bytes in memory, all groups together.
    pub dirty_max: u64,
    /// A used group closes after this time; `None`: only when asked or full.
    pub timeout: Option<Duration>,
    /// Groups close only by what was written, never by time or by how far syncing got: same input, same groups.
    pub is_deterministic: bool,
}

impl Default for TxgConfig {
    fn default() -> Self {
        Self { dirty_max: 64 << 20, timeout: Some(Duration::from_secs(5)), is_deterministic: false }
    }
}

/// The pool's transaction groups.
pub struct Txgs {
    config: TxgConfig,
    open: AtomicU64,
    /// The newest group that may be joined: `open`, or the one before while that drains.
    joinable: AtomicU64,
    synced: AtomicU64,
    /// Groups up to this one are to be closed as soon as possible.
    wanted: AtomicU64,
    /// When the open group opened, nanoseconds.
    opened_at: AtomicU64,
    cpus: Box<[CpuHolds]>,
    is_used: [AtomicBool; TXG_SLOTS],
    dirty: [AtomicU64; TXG_SLOTS],
    /// How much of it are new blocks.
    dirty_new: [AtomicU64; TXG_SLOTS],
    dirty_total: AtomicU64,
    /// End of the last delay handed out, nanoseconds: delays queue behind each other.
    last_wakeup: AtomicU64,
    is_stopped: AtomicBool,
    is_suspended: AtomicBool,
    /// Waiters of a suspended pool go on waiting.
    is_patient: AtomicBool,
    /// The sync thread waits here for a reason to close the open group.
    work: WaitQueue,
    /// The sync thread waits here for the last holds of a closed group.
    quiesced: WaitQueue,
    /// Waiters for groups to open or to be on disk.
    progress: WaitQueue,
    /// Waiters for dirty bytes to go down.
    room: WaitQueue,
    workers: rt::Once<rt::Taskq>,
}

/// Holds taken on one CPU, by slot.
#[repr(align(64))]
struct CpuHolds([AtomicU64; TXG_SLOTS]);

/// A place in the open group: it will not sync before this is dropped.
#[derive(Debug)]
pub struct TxgHold {
    txgs: Arc<Txgs>,
    txg: Txg,
    cpu: usize,
}

impl TxgHold {
    /// The group.
    pub fn txg(&self) -> Txg {
        self.txg
    }
}

impl Drop for TxgHold {
    fn drop(&mut self) {
        self.txgs.release(self.cpu, self.txg);
    }
}

impl Txgs {
    /// With `first_open` open and everything before it on disk.
    pub fn new(first_open: Txg, config: TxgConfig) -> Arc<Self> {
        let holds = |_| CpuHolds([const { AtomicU64::new(0) }; TXG_SLOTS]);
        Arc::new(Self {
            config,
            open: AtomicU64::new(first_open.0),
            joinable: AtomicU64::new(first_open.0),
            synced: AtomicU64::new(first_open.0.saturating_sub(1)),
            wanted: AtomicU64::new(0),
            opened_at: AtomicU64::new(rt::now().0),
            cpus: (0..rt::nr_cpus()).map(holds).collect(),
            is_used: [const { AtomicBool::new(false) }; TXG_SLOTS],
            dirty: [const { AtomicU64::new(0) }; TXG_SLOTS],
            dirty_new: [const { AtomicU64::new(0) }; TXG_SLOTS],
            dirty_total: AtomicU64::new(0),
            last_wakeup: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            is_suspended: AtomicBool::new(false),
            is_patient: AtomicBool::new(false),
            work: WaitQueue::new(),
            quiesced: WaitQueue::new(),
            progress: WaitQueue::new(),
            room: WaitQueue::new(),
            workers: rt::Once::new(),
        })
    }

    /// The group that takes new transactions.
    pub fn open_txg(&self) -> Txg {
        Txg(self.open.load(Ordering::SeqCst))
    }

    /// The newest group on disk.
    pub fn synced_txg(&self) -> Txg {
        Txg(self.synced.load(Ordering::SeqCst))
    }

    /// The pool's workers for what syncing does on all CPUs; `None` where there is only one.
    pub fn workers(&self) -> Option<&rt::Taskq> {
        let nr = rt::nr_cpus();
        (nr > 1).then(|| self.workers.get_or_init(|| rt::Taskq::new("zfs prepare", nr, 4 * nr)))
    }

    /// The configuration.
    pub fn config(&self) -> &TxgConfig {
        &self.config
    }

    /// Joins the open group, after the last holder of the closed one is gone. The caller holds no transaction.
    pub fn hold_open(self: &Arc<Self>) -> TxgHold {
        let cpu = rt::cpu_id() % self.cpus.len();
        loop {
            let txg = self.open_txg();
            if self.joinable.load(Ordering::SeqCst) < txg.0 {
                let is_joinable = || self.joinable.load(Ordering::SeqCst) >= txg.0;
                self.progress.wait("txg join", || is_joinable().then_some(()));
            }
            self.cpus[cpu].0[txg.slot()].fetch_add(1, Ordering::SeqCst);
            if self.open_txg() == txg {
                let is_used = &self.is_used[txg.slot()];
                if !is_used.load(Ordering::Relaxed) {
                    is_used.store(true, Ordering::Relaxed);
                }
                return TxgHold { txgs: self.clone(), txg, cpu };
            }
            self.release(cpu, txg);
        }
    }

    fn release(&self, cpu: usize, txg: Txg) {
        self.cpus[cpu].0[txg.slot()].fetch_sub(1, Ordering::SeqCst);
        if self.open_txg() != txg {
            self.quiesced.wake_all();
        }
    }

    fn nr_holds(&self, txg: Txg) -> u64 {
        // Wrapping: a hold may be taken on one CPU's counter only, but the sum must not care.
        self.cpus.iter().map(|c| c.0[txg.slot()].load(Ordering::SeqCst)).fold(0, u64::wrapping_add)
    }

    /// Asks for `txg` to be closed (and synced) soon.
    pub fn kick(&self, txg: Txg) {
        let most = self.open.load(Ordering::SeqCst).saturating_add(2);
        let before = self.wanted.fetch_max(txg.0.min(most), Ordering::SeqCst);
        if before < txg.0 {
            self.work.wake_all();
        }
    }

    /// Blocks until `txg` is on disk.
    ///
    /// # Errors
    /// `Suspended`, if it never will be.
    pub fn wait_synced(&self, txg: Txg) -> Result<()> {
        loop {
            self.kick(txg);
            let from = self.synced_txg();
            if from >= txg {
                return Ok(());
            }
            self.progress.wait("txg synced", || {
                let is_over = self.synced_txg() != from || self.gives_up() || self.is_stopped();
                is_over.then_some(())
            });
            if self.synced_txg() < txg && (self.gives_up() || self.is_stopped()) {
                return Err(Error::Suspended);
            }
        }
    }

    /// Makes everything written before the call durable.
    ///
    /// # Errors
    /// `Suspended`, if it never will be.
    pub fn sync_all(&self) -> Result<()> {
        let open = self.open_txg();
        if !self.is_used[open.slot()].load(Ordering::SeqCst) {
            // Nothing joined the open group, so what is closed already is all there is.
            return self.wait_synced(open.prev());
        }
        self.wait_synced(open)
    }

    /// Blocks until there is a reason to close the open group, closes it, waits for its holders, and gives it. `None`
    /// after [`Txgs::stop`]. For the one sync thread, which calls [`Txgs::synced`] before it asks again.
    pub fn quiesce_next(&self) -> Option<Txg> {
        let open = self.open_txg();
        self.wait_for_reason(open)?;
        self.opened_at.store(rt::now().0, Ordering::Relaxed);
        self.open.store(open.0 + 1, Ordering::SeqCst);
        self.quiesced.wait("txg quiesce", || (self.nr_holds(open) == 0).then_some(()));
        self.joinable.store(open.0 + 1, Ordering::SeqCst);
        self.progress.wake_all();
        Some(open)
    }

    fn wait_for_reason(&self, open: Txg) -> Option<()> {
        let is_due = || self.is_stopped() || self.wanted.load(Ordering::SeqCst) >= open.0;
        loop {
            let deadline = match self.config.timeout {
                Some(span) if !self.config.is_deterministic => {
                    rt::Instant(self.opened_at.load(Ordering::Relaxed)).after(span)
                }
                _ => rt::Instant::NEVER,
            };
            let is_woken = self.work.wait_until(deadline, "txg work", || is_due().then_some(())).is_some();
            if self.is_stopped() {
                return None;
            }
            if is_woken || self.is_used[open.slot()].load(Ordering::SeqCst) {
                return Some(());
            }
            self.opened_at.store(rt::now().0, Ordering::Relaxed);
        }
    }

    /// `txg` is on disk: its slot is free, its waiters go on.
    pub fn synced(&self, txg: Txg) {
        let left = self.dirty[txg.slot()].swap(0, Ordering::SeqCst);
        self.dirty_new[txg.slot()].store(0, Ordering::SeqCst);
        self.dirty_total.fetch_sub(left, Ordering::SeqCst);
        self.is_used[txg.slot()].store(false, Ordering::SeqCst);
        self.synced.store(txg.0, Ordering::SeqCst);
        self.progress.wake_all();
        self.room.wake_all();
    }

    /// A write failed: nothing is acknowledged any more. All waiters get `Suspended`, unless they are to be `patient`: then
    /// they wait for [`Txgs::resume`].
    pub fn suspend(&self, is_patient: bool) {
        self.is_patient.store(is_patient, Ordering::SeqCst);
        self.is_suspended.store(true, Ordering::SeqCst);
        self.progress.wake_all();
        self.room.wake_all();
    }

    /// What failed is going to be tried again.
    pub fn resume(&self) {
        self.is_suspended.store(false, Ordering::SeqCst);
        self.progress.wake_all();
        self.room.wake_all();
        self.work.wake_all();
    }

    /// Whether waiters are to be told that the pool is suspended.
    fn gives_up(&self) -> bool {
        self.is_suspended() && !self.is_patient.load(Ordering::SeqCst)
    }

    /// Whether [`Txgs::suspend`] was called, and not [`Txgs::resume`] since.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended.load(Ordering::SeqCst)
    }

    /// Ends the sync thread's loop: [`Txgs::quiesce_next`] gives `None` from now on.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.work.wake_all();
        self.progress.wake_all();
        self.room.wake_all();
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Txgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txgs")
            .field("open", &self.open_txg())
            .field("synced", &self.synced_txg())
            .field("dirty", &self.dirty_total.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
