//! The writes of one transaction group, waited for together.
//!
//! Invariants: bytes in flight stay below a bound (the issuer waits), so that a transaction group larger than memory's
//! share for I/O cannot exhaust it; the first failure is kept: the group is then never committed.
use super::in_flight::InFlight;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{Complete, Completion, Done};
use core::sync::atomic::{AtomicBool, Ordering};
use ondisk::Txg;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// The sync pass that writes belong to.
#[derive(Clone, Debug)]
pub struct SyncCtx {
    /// The transaction group that is written.
    pub txg: Txg,
    /// Pass, from 1.
    pub pass: u32,
    /// Its writes.
    pub batch: WriteBatch,
}

impl SyncCtx {
    /// The next pass of the same transaction group.
    #[must_use]
    pub fn next_pass(&self) -> Self {
        Self { txg: self.txg, pass: self.pass + 1, batch: self.batch.clone() }
    }
}

/// Writes that are waited for together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WriteBatch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: SpinLock<u64>,
    bytes_max: u64,
    has_failed: AtomicBool,
    /// The places of those that failed.
    failed: SpinLock<Vec<(u32, u64)>>,
    changed: WaitQueue,
    in_flight: Arc<InFlight>,
}

impl WriteBatch {
    /// At most `bytes_max` bytes are in flight, or one block that is larger.
    pub(crate) fn new(in_flight: Arc<InFlight>, bytes_max: u64) -> Self {
        Self(Arc::new(Inner {
            bytes: SpinLock::new(0),
            bytes_max,
            has_failed: AtomicBool::new(false),
            failed: SpinLock::default(),
            changed: WaitQueue::new(),
            in_flight,
        }))
    }

    /// Blocks until every write given to it is done.
    ///
    /// # Errors
    /// `Io` when any of them failed, now or earlier.
    pub fn wait(&self) -> Result<()> {
        self.0.wait_below(0);
        if self.0.has_failed.load(Ordering::Acquire) { Err(Error::Io) } else { Ok(()) }
    }

    /// Whether a write failed already.
    pub fn has_failed(&self) -> bool {
        self.0.has_failed.load(Ordering::Acquire)
    }

    /// Takes the writes that failed, to be tried again: their places, and what is to be there.
    pub(crate) fn take_failed(&self) -> Vec<(u32, u64, Abd)> {
        self.0.has_failed.store(false, Ordering::Release);
        let places = core::mem::take(&mut *self.0.failed.lock());
        let data = |(vdev, offset)| Some((vdev, offset, self.0.in_flight.get(vdev, offset)?));
        places.into_iter().filter_map(data).collect()
    }

    /// A completion for a write at that place; blocks while too much is in flight, or another write to the place is.
    pub(crate) fn completion(&self, vdev: u32, offset: u64, data: &Abd) -> Completion {
        let len = data.len() as u64;
        self.0.wait_below(self.0.bytes_max.saturating_sub(len));
        self.0.in_flight.insert(vdev, offset, data.clone());
        *self.0.bytes.lock() += len;
        Completion::new(Arc::new(OneWrite { batch: self.0.clone(), vdev, offset, len }), 0)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No one tries them again: what lies there is not theirs any more.
        self.failed.lock().drain(..).for_each(|(vdev, offset)| self.in_flight.remove(vdev, offset));
    }
}

impl Inner {
    /// Blocks until at most `max` bytes are in flight. Devices that only complete when polled are polled by their
    /// other users and by the periodic look.
    fn wait_below(&self, max: u64) {
        let is_below = || (*self.bytes.lock() <= max).then_some(());
        if is_below().is_some() {
            return;
        }
        self.in_flight.wait(&self.changed, is_below);
    }
}

/// One write of a batch.
struct OneWrite {
    batch: Arc<Inner>,
    vdev: u32,
    offset: u64,
    len: u64,
}

impl Complete for OneWrite {
    fn complete(&self, done: Done) {
        if done.result.is_err() {
            self.batch.failed.lock().push((self.vdev, self.offset));
            self.batch.has_failed.store(true, Ordering::Release);
            self.batch.in_flight.fail(self.vdev, self.offset);
        } else {
            self.batch.in_flight.remove(self.vdev, self.offset);
        }
        *self.batch.bytes.lock() -= self.len;
        self.batch.changed.wake_all();
    }
}
