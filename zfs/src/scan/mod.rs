//! Scans of a pool: scrub (every copy of every block) and resilver (what devices have missed), beside the sync loop.
//!
//! A scan walks the object sets in the order in which their blocks were born: the MOS, the origin of all datasets, and
//! from each dataset the snapshot (or head) after it and its clones, so each block is met where it was born. It works in
//! steps. A step takes the root on disk, walks on from where the last one ended and gathers blocks; these are sorted by
//! their place on the devices, read and verified by several threads; then the place the walk has come to becomes the
//! scan's. Every few seconds that place is stored in the pool, in the form OpenZFS stores it.
//!
//! | module | holds |
//! |---|---|
//! | `hold` | what keeps the blocks of a step from being overwritten while it goes on |
//! | `place`, `walk` | the order of blocks; a walk that stops anywhere and goes on there |
//! | `step` | one step: gather, sort, check |
//! | `datasets` | which object set comes next; what snapshots and destroys do to that |
//! | `sync` | the state in the pool: set up, store, end |
//! | `resilver` | when devices are brought up to date |
//! | `errlog`, `lookup` | the log of lost blocks, and which datasets hold one |
//! | `errors` | looking again at the blocks in the log |
//! | `command` | what users ask for, and what they see |
//!
//! Invariants:
//! 1. The place in memory (and so the one stored) covers only blocks that have been checked. A crash repeats work, and
//!    never skips any.
//! 2. Only blocks born before the scan was set up are checked, so none is being written; and a step's hold keeps them
//!    from being freed and written anew: without it a block of someone else would be called damaged and overwritten.
//! 3. Whoever changes the datasets in the sync thread changes the scan's place with them ([`datasets`]); the step under
//!    way then finds the generation changed, and its place is dropped, not its work.
mod command;
pub(crate) mod datasets;
pub(crate) mod errlog;
mod errors;
mod heal;
pub(crate) mod hold;
mod lookup;
mod place;
pub(crate) mod resilver;
mod step;
mod sync;
mod walk;

#[cfg(test)]
mod tests;

pub use command::ScanStatus;
pub use errlog::LostBlock;
pub use errors::ErrorScrub;
pub use ondisk::scan::{ScanFunc, ScanState};

use crate::spa::Spa;
use crate::txg::Txgs;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;
use hold::ReadHolds;
use ondisk::scan::ScanPhys;
use rt::wait::WaitQueue;
use rt::{Instant, JoinHandle, SpinLock};

/// How long a step that could not even begin waits before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Tells that the thread has ended, also when it does by a panic.
struct TellEnd<'a>(&'a Scan);

impl Drop for TellEnd<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_over = true;
        self.0.wake();
    }
}

/// The pool's scan.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    state: SpinLock<State>,
    /// The thread waits here for work, users for its end.
    changed: WaitQueue,
    thread: SpinLock<Option<JoinHandle>>,
    pub(crate) holds: ReadHolds,
}

/// What a scan consists of besides what it has under way.
#[derive(Clone, Debug, Default)]
struct State {
    phys: ScanPhys,
    /// Object sets still to be walked, by object number: the group after which their blocks count (0: their own
    /// previous snapshot's).
    queue: BTreeMap<u64, u64>,
    /// The queue as the pool has it.
    stored_queue: BTreeMap<u64, u64>,
    /// Grows with every change that does not come from the scan's thread.
    generation: u64,
    /// The place has moved since it was stored.
    is_dirty: bool,
    is_stopping: bool,
    /// The thread has ended.
    is_over: bool,
    pass: Pass,
    /// Blocks below which nothing could be walked: what devices miss there is unknown.
    nr_unseen: u64,
    resilver: resilver::Plan,
}

/// What has happened since the scan was started or taken up again: not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pass {
    /// Seconds since 1970.
    start: u64,
    /// Bytes walked.
    examined: u64,
    /// Bytes read.
    issued: u64,
    /// Since when it is paused, seconds since 1970; 0 when it is not.
    paused: u64,
}

/// Reads the state a pool was left in, before anything is done with the pool.
///
/// # Errors
/// What reading the MOS gives.
pub(crate) fn load(spa: &Spa) -> crate::Result<()> {
    sync::load(spa.scan(), spa.mos(), spa.time())
}

impl Scan {
    /// Tells the thread and whoever waits that something has changed.
    pub(crate) fn wake(&self) {
        self.changed.wake_all();
    }

    /// Starts the thread, if there is something to scan and it does not run yet.
    pub(crate) fn start(spa: &Arc<Spa>) {
        let scan = spa.scan();
        let mut thread = scan.thread.lock();
        let state = scan.state.lock();
        if thread.is_some() || state.is_stopping || !state.phys.is_running() {
            drop(state);
            drop(thread);
            return scan.wake();
        }
        drop(state);
        let spa = spa.clone();
        *thread = Some(rt::spawn("scan", move || spa.scan().run(&spa)));
    }

    /// Ends the thread after the step under way. What it has done is stored if the pool still takes it.
    ///
    /// To be called where nothing waits for the pool to go on: a step waits for the group that is being written, and a
    /// suspended pool writes it when it goes on, or not at all once it is closed.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wake();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join();
        }
    }

    /// As [`Self::stop`] while the pool is still open: comes back without the thread's end when the pool is suspended
    /// meanwhile. An export would otherwise wait for a step, the step for the sync thread, and that for the user.
    pub(crate) fn stop_unless_suspended(&self, txgs: &Txgs) {
        self.state.lock().is_stopping = true;
        self.wake();
        let has_thread = self.thread.lock().is_some();
        self.changed.wait("scan end", || {
            (!has_thread || self.state.lock().is_over || txgs.is_suspended()).then_some(())
        });
    }

    fn run(&self, spa: &Arc<Spa>) {
        let _over = TellEnd(self);
        let mut stepper = step::Stepper::new(spa);
        while self.wait_for_work(spa) {
            let result = stepper.step(spa);
            if let Err(error) = result {
                log::warn!("zfs: scan: {error}");
                self.changed.wait_until(rt::now().after(RETRY), "scan retry", || {
                    self.state.lock().is_stopping.then_some(())
                });
            }
        }
        // An error here means that the pool takes nothing any more: the stored place is older, which is safe.
        let _ = sync::store_now(spa);
    }

    /// Blocks until there is something to scan; false when the thread is to end.
    fn wait_for_work(&self, spa: &Spa) -> bool {
        self.changed.wait_until(Instant::NEVER, "scan", || {
            let state = self.state.lock();
            if state.is_stopping {
                return Some(false);
            }
            (state.phys.is_running() && !spa.txgs().is_suspended()).then_some(true)
        }) == Some(true)
    }
}
