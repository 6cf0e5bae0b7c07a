//! Readiness: what poll, select and epoll are made of.
//!
//! A watcher registers with the [`PollQueue`] of what it watches and *then* looks at the readiness; a change of
//! readiness comes before its `notify`. Whichever is second sees the other, so no edge is lost.
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use rt::SpinLock;

bitflags::bitflags! {
    /// What an open file is ready for; the bits are poll(2)'s.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Readiness: u32 {
        /// Reading does not block.
        const IN = 0x001;
        /// Exceptional data.
        const PRI = 0x002;
        /// Writing does not block.
        const OUT = 0x004;
        /// An error is pending.
        const ERR = 0x008;
        /// The other side hung up.
        const HUP = 0x010;
        /// The other side shut down writing.
        const RDHUP = 0x2000;
    }
}

/// Something with readiness.
pub trait Pollable: Send + Sync {
    /// What it is ready for now.
    fn readiness(&self) -> Readiness;

    /// Where changes are announced; `None` when readiness never changes.
    fn poll_queue(&self) -> Option<&PollQueue>;
}

/// Someone to tell.
pub trait PollWatcher: Send + Sync {
    /// Readiness changed to include `what`. Must not block; called without locks of the watched object.
    fn notify(&self, what: Readiness);
}

/// The watchers of one object.
#[derive(Default)]
pub struct PollQueue {
    watchers: SpinLock<Vec<Weak<dyn PollWatcher>>>,
    nr_watchers: AtomicUsize,
}

impl PollQueue {
    /// Without watchers.
    pub const fn new() -> Self {
        Self { watchers: SpinLock::new(Vec::new()), nr_watchers: AtomicUsize::new(0) }
    }

    /// Adds a watcher; it is forgotten when it is dropped or [`PollQueue::remove`]d.
    pub fn add(&self, watcher: &Arc<dyn PollWatcher>) {
        let mut watchers = self.watchers.lock();
        watchers.retain(|w| w.strong_count() > 0);
        watchers.push(Arc::downgrade(watcher));
        self.nr_watchers.store(watchers.len(), Ordering::SeqCst);
        drop(watchers);
        fence(Ordering::SeqCst);
    }

    /// Removes a watcher.
    pub fn remove(&self, watcher: &Arc<dyn PollWatcher>) {
        let is_it = |w: &Weak<dyn PollWatcher>| core::ptr::addr_eq(w.as_ptr(), Arc::as_ptr(watcher));
        let mut watchers = self.watchers.lock();
        watchers.retain(|w| w.strong_count() > 0 && !is_it(w));
        self.nr_watchers.store(watchers.len(), Ordering::SeqCst);
    }

    /// Tells every watcher. Without watchers it costs one load.
    pub fn notify(&self, what: Readiness) {
        fence(Ordering::SeqCst);
        if self.nr_watchers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let watchers = self.watchers.lock().clone();
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.notify(what);
        }
    }
}

impl fmt::Debug for PollQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PollQueue({} watchers)", self.nr_watchers.load(Ordering::Relaxed))
    }
}
