//! A flag that threads can wait for.
use crate::time::Instant;
use crate::wait::WaitQueue;
use core::sync::atomic::{AtomicBool, Ordering};

/// A level-triggered event.
#[derive(Debug, Default)]
pub struct Event {
    is_set: AtomicBool,
    queue: WaitQueue,
}

impl Event {
    /// Not set.
    pub const fn new() -> Self {
        Self { is_set: AtomicBool::new(false), queue: WaitQueue::new() }
    }

    /// Sets it and wakes every waiter.
    pub fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        self.queue.wake_all();
    }

    /// Clears it; true if it was set.
    pub fn clear(&self) -> bool {
        self.is_set.swap(false, Ordering::SeqCst)
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Blocks until it is set.
    pub fn wait(&self) {
        if !self.is_set() {
            self.queue.wait("event", || self.is_set().then_some(()));
        }
    }

    /// Blocks until it is set (true) or `deadline` passed (false).
    pub fn wait_until(&self, deadline: Instant) -> bool {
        self.is_set() || self.queue.wait_until(deadline, "event", || self.is_set().then_some(())).is_some()
    }
}
