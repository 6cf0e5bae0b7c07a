//! A counted permit.
use crate::wait::WaitQueue;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A counting semaphore.
#[derive(Debug)]
pub struct Semaphore {
    permits: AtomicUsize,
    queue: WaitQueue,
}

impl Semaphore {
    /// With `permits` free.
    pub const fn new(permits: usize) -> Self {
        Self { permits: AtomicUsize::new(permits), queue: WaitQueue::new() }
    }

    /// Takes a permit if one is free.
    pub fn try_acquire(&self) -> bool {
        self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    /// Blocks until a permit is free and takes it.
    pub fn acquire(&self) {
        if !self.try_acquire() {
            self.queue.wait("semaphore", || self.try_acquire().then_some(()));
        }
    }

    /// Gives a permit back (or adds one).
    pub fn release(&self) {
        self.permits.fetch_add(1, Ordering::SeqCst);
        self.queue.wake_one();
    }
}
