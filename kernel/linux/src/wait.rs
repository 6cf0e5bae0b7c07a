//! Blocking that a signal can end.
//!
//! What it is: lists of waiting threads, and the loop around them. It differs from `rt`'s queues in one point: the
//! wait also ends when the thread has a signal to take.
//!
//! Protocol: a waiter joins the list, looks at the condition, then parks; a waker changes the condition, then looks
//! at the list. Signals follow the same order with the thread's pending set in the list's place.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use rt::SpinLock;
use rt::thread::Thread;
use rt::time::{Instant, now};

/// Why a wait ended without its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal is there.
    Signal,
    /// The deadline passed.
    Timeout,
}

/// A thread that may wait; one per thread, used again for each wait.
#[derive(Debug)]
pub struct Waiter {
    thread: Thread,
    is_woken: AtomicBool,
    /// It is in a futex queue. Cleared by whoever takes it out, so that a wake-up by something else is not taken for
    /// the futex'.
    is_armed: AtomicBool,
}

impl Waiter {
    /// Of the calling thread.
    pub fn of_current() -> Arc<Self> {
        Arc::new(Self {
            thread: rt::thread::current(),
            is_woken: AtomicBool::new(false),
            is_armed: AtomicBool::new(false),
        })
    }

    /// Ends the thread's wait, or the next one.
    pub fn wake(&self) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Makes the thread look at its signals.
    pub fn nudge(&self) {
        self.thread.unpark();
    }

    /// It is about to join a futex queue.
    pub fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
    }

    /// It was taken out of its futex queue.
    pub fn disarm(&self) {
        self.is_armed.store(false, Ordering::Release);
    }

    /// Whether it is in a futex queue still.
    pub fn is_armed(&self) -> bool {
        self.is_armed.load(Ordering::Acquire)
    }

    /// Forgets a wake-up of an earlier wait.
    pub fn reset(&self) {
        self.is_woken.store(false, Ordering::Relaxed);
    }

    /// Parks until woken.
    ///
    /// # Errors
    /// `Signal` when `is_interrupted` says so, `Timeout`.
    pub fn park(
        &self,
        deadline: Instant,
        reason: &'static str,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), Ended> {
        while !self.is_woken.load(Ordering::Acquire) {
            if is_interrupted() {
                return Err(Ended::Signal);
            }
            if deadline != Instant::NEVER && now() >= deadline {
                return Err(Ended::Timeout);
            }
            rt::thread::park_until(deadline, reason);
        }
        Ok(())
    }
}

/// Threads waiting for one thing.
#[derive(Debug, Default)]
pub struct WaitList {
    waiters: SpinLock<Vec<Arc<Waiter>>>,
    nr_waiters: AtomicUsize,
}

impl WaitList {
    /// Empty.
    pub const fn new() -> Self {
        Self { waiters: SpinLock::new(Vec::new()), nr_waiters: AtomicUsize::new(0) }
    }

    fn join(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        waiters.push(waiter.clone());
        self.nr_waiters.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
        fence(Ordering::SeqCst);
    }

    fn leave(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        waiters.retain(|w| !Arc::ptr_eq(w, waiter));
        self.nr_waiters.store(waiters.len(), Ordering::SeqCst);
    }

    /// Wakes the thread that has waited longest.
    pub fn wake_one(&self) {
        fence(Ordering::SeqCst);
        if self.nr_waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiter = {
            let mut waiters = self.waiters.lock();
            let waiter = if waiters.is_empty() { None } else { Some(waiters.remove(0)) };
            self.nr_waiters.store(waiters.len(), Ordering::SeqCst);
            waiter
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.nr_waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        let all = {
            let mut waiters = self.waiters.lock();
            self.nr_waiters.store(0, Ordering::SeqCst);
            core::mem::take(&mut *waiters)
        };
        all.iter().for_each(|w| w.wake());
    }

    /// Blocks until `ready` gives a value; it is asked after joining the list, before every sleep.
    ///
    /// # Errors
    /// As [`Waiter::park`].
    pub fn wait<R>(
        &self,
        waiter: &Arc<Waiter>,
        deadline: Instant,
        reason: &'static str,
        is_interrupted: &dyn Fn() -> bool,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, Ended> {
        loop {
            waiter.reset();
            self.join(waiter);
            if let Some(r) = ready() {
                self.leave(waiter);
                return Ok(r);
            }
            let ended = waiter.park(deadline, reason, is_interrupted);
            self.leave(waiter);
            if let Err(ended) = ended {
                // A wake-up may have been meant for this thread alone: pass it on.
                if waiter.is_woken.load(Ordering::Acquire) {
                    self.wake_one();
                }
                return ready().ok_or(ended);
            }
        }
    }
}

impl vfs::PollWatcher for Waiter {
    fn notify(&self, _what: vfs::Readiness) {
        self.wake();
    }
}
