//! Waiting for a condition guarded by a mutex.
use crate::mutex::MutexGuard;
use crate::time::Instant;
use crate::wait::WaitQueue;

/// A condition variable. Wake-ups may be spurious: wait in a loop.
#[derive(Debug, Default)]
pub struct Condvar {
    queue: WaitQueue,
}

impl Condvar {
    /// Without waiters.
    pub const fn new() -> Self {
        Self { queue: WaitQueue::new() }
    }

    /// Unlocks, waits for a notification, locks again.
    pub fn wait<'a, T: ?Sized, const RANK: u16>(
        &self,
        guard: MutexGuard<'a, T, RANK>,
    ) -> MutexGuard<'a, T, RANK> {
        self.wait_until(guard, Instant::NEVER).0
    }

    /// As [`Condvar::wait`]; the flag tells that `deadline` passed without a notification.
    pub fn wait_until<'a, T: ?Sized, const RANK: u16>(
        &self,
        guard: MutexGuard<'a, T, RANK>,
        deadline: Instant,
    ) -> (MutexGuard<'a, T, RANK>, bool) {
        let mutex = guard.mutex;
        // Registered before the unlock: a notification after the unlock finds this waiter.
        let ticket = self.queue.register();
        drop(guard);
        let is_woken = ticket.park(deadline, "condvar");
        (mutex.lock(), !is_woken)
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.queue.wake_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.queue.wake_all();
    }
}
