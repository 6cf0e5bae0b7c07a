//! The queue of parked threads that every blocking primitive here is made of.
//!
//! Protocol, and the race it closes: a waiter *registers*, then re-checks its condition, then parks. A waker
//! changes the condition, then takes a waiter off the queue and unparks it. Whichever comes second sees the
//! other, so no wake-up is lost. First come, first woken.
use crate::provider::__rt_spin_hint;
use crate::spin::SpinLock;
use crate::thread::{Thread, current, park_until};
use crate::time::{Instant, now};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Threads waiting for one condition.
#[derive(Debug)]
pub struct WaitQueue {
    waiters: SpinLock<VecDeque<Arc<Waiter>>>,
    /// Length of `waiters`, so that a waker without waiters costs one load.
    nr_waiters: AtomicUsize,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    woken: AtomicBool,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { waiters: SpinLock::new(VecDeque::new()), nr_waiters: AtomicUsize::new(0) }
    }

    /// Blocks until `ready` gives a value. `ready` is called before each sleep, after registering.
    pub fn wait<R>(&self, reason: &'static str, ready: impl FnMut() -> Option<R>) -> R {
        match self.wait_until(Instant::NEVER, reason, ready) {
            Some(r) => r,
            None => unreachable!("a wait without deadline timed out"),
        }
    }

    /// As [`WaitQueue::wait`]; `None` when `deadline` passed first.
    pub fn wait_until<R>(
        &self,
        deadline: Instant,
        reason: &'static str,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        loop {
            let ticket = self.register();
            if let Some(r) = ready() {
                ticket.cancel();
                return Some(r);
            }
            if !ticket.park(deadline, reason) {
                return ready();
            }
            if let Some(r) = ready() {
                return Some(r);
            }
            __rt_spin_hint();
        }
    }

    /// Joins the queue. The caller re-checks its condition and then parks or cancels.
    pub fn register(&self) -> Ticket<'_> {
        let waiter = Arc::new(Waiter { thread: current(), woken: AtomicBool::new(false) });
        let mut waiters = self.waiters.lock();
        waiters.push_back(waiter.clone());
        // SeqCst pairs with the load in wake: either the waker sees this waiter or the waiter sees the change.
        self.nr_waiters.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
        core::sync::atomic::fence(Ordering::SeqCst);
        Ticket { queue: self, waiter, is_settled: false }
    }

    /// Wakes the longest waiting thread; false when none waits.
    pub fn wake_one(&self) -> bool {
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.nr_waiters.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let waiter = {
            let mut waiters = self.waiters.lock();
            let waiter = waiters.pop_front();
            self.nr_waiters.store(waiters.len(), Ordering::SeqCst);
            waiter
        };
        waiter.is_some_and(|w| {
            w.woken.store(true, Ordering::Release);
            w.thread.unpark();
            true
        })
    }

    /// Wakes every waiting thread.
    pub fn wake_all(&self) {
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.nr_waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let all = {
            let mut waiters = self.waiters.lock();
            self.nr_waiters.store(0, Ordering::SeqCst);
            core::mem::take(&mut *waiters)
        };
        for w in all {
            w.woken.store(true, Ordering::Release);
            w.thread.unpark();
        }
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// A place in a [`WaitQueue`].
#[derive(Debug)]
#[must_use = "a registered waiter parks or cancels"]
pub struct Ticket<'a> {
    queue: &'a WaitQueue,
    waiter: Arc<Waiter>,
    is_settled: bool,
}

impl Ticket<'_> {
    /// Blocks until woken (true) or until `deadline` (false).
    pub fn park(mut self, deadline: Instant, reason: &'static str) -> bool {
        while !self.waiter.woken.load(Ordering::Acquire) {
            if deadline != Instant::NEVER && now() >= deadline {
                return !self.leave();
            }
            park_until(deadline, reason);
        }
        self.is_settled = true;
        true
    }

    /// Leaves the queue; a wake-up that was already on its way is handed to the next waiter.
    pub fn cancel(mut self) {
        if !self.leave() {
            self.queue.wake_one();
        }
    }

    /// True if it was still queued, false if a waker had already taken it off.
    fn leave(&mut self) -> bool {
        self.is_settled = true;
        let mut waiters = self.queue.waiters.lock();
        let before = waiters.len();
        waiters.retain(|w| !Arc::ptr_eq(w, &self.waiter));
        self.queue.nr_waiters.store(waiters.len(), Ordering::SeqCst);
        waiters.len() != before
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.is_settled && !self.leave() {
            self.queue.wake_one();
        }
    }
}
