//! A lock over byte ranges: disjoint ranges and readers run in parallel, everyone else in order of arrival.
//!
//! Uncontended it is one short spin lock and no allocation. Fair: a request waits for every earlier *waiting*
//! request it conflicts with, so a stream of readers cannot keep a writer out.
//!
//! What it is not: advisory (that is [`crate::advisory`]); it is what makes reads and writes of one file atomic
//! against each other.
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use rt::{SpinLock, Thread};
use smallvec::SmallVec;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

#[derive(Clone, Copy)]
struct Request {
    id: u64,
    start: u64,
    end: u64,
    mode: Mode,
}

impl Request {
    fn conflicts(&self, other: &Self) -> bool {
        let overlaps = self.start.max(other.start) < self.end.min(other.end);
        overlaps && (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
    }
}

struct Waiter {
    request: Request,
    is_granted: AtomicBool,
    thread: Thread,
}

#[derive(Default)]
struct State {
    held: SmallVec<[Request; 4]>,
    waiting: VecDeque<Arc<Waiter>>,
    next_id: u64,
}

/// The lock of one file.
#[derive(Default)]
pub struct RangeLock {
    state: SpinLock<State>,
}

impl RangeLock {
    /// Nothing locked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Locks `range` against writers. An empty range locks nothing.
    pub fn read(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.lock(range, Mode::Shared)
    }

    /// Locks `range` against everyone.
    pub fn write(&self, range: Range<u64>) -> RangeGuard<'_> {
        self.lock(range, Mode::Exclusive)
    }

    /// As [`RangeLock::write`] if that needs no waiting.
    pub fn try_write(&self, range: Range<u64>) -> Option<RangeGuard<'_>> {
        let mut state = self.state.lock();
        let request = state.request(range, Mode::Exclusive);
        state.try_grant(request).then(|| RangeGuard { lock: self, id: request.id })
    }

    fn lock(&self, range: Range<u64>, mode: Mode) -> RangeGuard<'_> {
        let mut state = self.state.lock();
        let request = state.request(range, mode);
        if state.try_grant(request) {
            drop(state);
        } else {
            drop(state);
            self.wait(request);
        }
        RangeGuard { lock: self, id: request.id }
    }

    #[cold]
    fn wait(&self, request: Request) {
        let waiter = Arc::new(Waiter { request, is_granted: AtomicBool::new(false), thread: rt::current() });
        {
            let mut state = self.state.lock();
            // Between the refusal and now the way may have become free.
            if state.try_grant(request) {
                return;
            }
            state.waiting.push_back(waiter.clone());
        }
        while !waiter.is_granted.load(Ordering::Acquire) {
            rt::park("range lock");
        }
    }

    fn unlock(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(at) = state.held.iter().position(|r| r.id == id) {
            state.held.swap_remove(at);
        }
        if !state.waiting.is_empty() {
            state.grant_waiters();
        }
    }
}

impl State {
    fn request(&mut self, range: Range<u64>, mode: Mode) -> Request {
        self.next_id += 1;
        Request { id: self.next_id, start: range.start, end: range.end, mode }
    }

    fn try_grant(&mut self, request: Request) -> bool {
        let is_free = !self.held.iter().any(|r| r.conflicts(&request))
            && !self.waiting.iter().any(|w| w.request.conflicts(&request));
        if is_free {
            self.held.push(request);
        }
        is_free
    }

    #[cold]
    fn grant_waiters(&mut self) {
        let mut at = 0;
        while let Some(waiter) = self.waiting.get(at).cloned() {
            let request = waiter.request;
            let is_blocked = self.held.iter().any(|r| r.conflicts(&request))
                || self.waiting.iter().take(at).any(|w| w.request.conflicts(&request));
            if is_blocked {
                at += 1;
                continue;
            }
            self.held.push(request);
            self.waiting.remove(at);
            waiter.is_granted.store(true, Ordering::Release);
            waiter.thread.unpark();
        }
    }
}

impl fmt::Debug for RangeLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        write!(f, "RangeLock({} held, {} waiting)", state.held.len(), state.waiting.len())
    }
}

/// A locked range; unlocks when dropped.
#[must_use = "the range is unlocked when this is dropped"]
pub struct RangeGuard<'a> {
    lock: &'a RangeLock,
    id: u64,
}

impl RangeGuard<'_> {
    /// Gives up all of the range but `range`, which must lie inside it.
    pub fn shrink(&mut self, range: Range<u64>) {
        let mut state = self.lock.state.lock();
        if let Some(held) = state.held.iter_mut().find(|r| r.id == self.id) {
            held.start = held.start.max(range.start);
            held.end = held.end.min(range.end);
        }
        if !state.waiting.is_empty() {
            state.grant_waiters();
        }
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        self.lock.unlock(self.id);
    }
}

impl fmt::Debug for RangeGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeGuard({})", self.id)
    }
}

#[cfg(test)]
mod tests;
