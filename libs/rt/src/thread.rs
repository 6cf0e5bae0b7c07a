//! Threads: spawning, parking, identity.
use crate::event::Event;
use crate::provider::*;
use crate::time::{Instant, now};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

/// A counted reference to a thread.
pub struct Thread(RawThread);

// SAFETY: the provider's thread object is reference counted and `unpark` is callable from any thread
// (Provider, conditions 1 and 2).
unsafe impl Send for Thread {}
// SAFETY: as above; no method needs exclusive access.
unsafe impl Sync for Thread {}

impl Thread {
    /// Makes the thread's current or next [`park`] return. Never blocks; callable in interrupt context.
    pub fn unpark(&self) {
        // SAFETY: self holds a live reference.
        unsafe { __rt_unpark(self.0) }
    }

    /// A number that differs between live threads.
    pub fn id(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Gives the reference away, for example into an atomic pointer.
    pub fn into_raw(self) -> RawThread {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    /// Takes a reference back.
    ///
    /// # Safety
    /// `raw` came from [`Thread::into_raw`] and is used once.
    pub unsafe fn from_raw(raw: RawThread) -> Self {
        Self(raw)
    }
}

impl Clone for Thread {
    fn clone(&self) -> Self {
        // SAFETY: self holds a live reference.
        Self(unsafe { __rt_thread_clone(self.0) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: self holds a live reference and is gone after this.
        unsafe { __rt_thread_drop(self.0) }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({:#x})", self.id())
    }
}

/// Waits for a spawned thread's end. Dropping it lets the thread run on.
#[derive(Debug)]
pub struct JoinHandle {
    done: Arc<Event>,
    thread: Thread,
}

impl JoinHandle {
    /// Blocks until the thread has ended.
    pub fn join(self) {
        self.done.wait();
    }

    /// The spawned thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

/// Starts a thread. `name` is for people.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle {
    let done = Arc::new(Event::new());
    let signal = SetOnDrop(done.clone());
    let entry = Box::new(move || {
        let _signal = signal;
        body();
    });
    JoinHandle { done, thread: Thread(__rt_spawn(name, entry)) }
}

/// Sets the event also when the body unwinds (host tests), so that a joiner never hangs on a failed thread.
struct SetOnDrop(Arc<Event>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The calling thread.
pub fn current() -> Thread {
    Thread(__rt_current())
}

/// Blocks until unparked or spuriously; `reason` names what is waited for.
pub fn park(reason: &'static str) {
    __rt_park(u64::MAX, reason);
}

/// As [`park`], at the latest until `deadline`.
pub fn park_until(deadline: Instant, reason: &'static str) {
    __rt_park(deadline.0, reason);
}

/// Sleeps at least `span`.
pub fn sleep(span: Duration) {
    let deadline = now().after(span);
    while now() < deadline {
        park_until(deadline, "sleep");
    }
}

/// Lets another thread run.
pub fn yield_now() {
    __rt_yield_now();
}

/// Whether another thread wants to run on this CPU, as far as is known: who polls should make room for it then.
pub fn has_waiting() -> bool {
    __rt_has_waiting()
}

/// The CPU the caller runs on now: a hint, good for choosing a shard.
pub fn cpu_id() -> usize {
    __rt_cpu_id()
}

/// Number of CPUs, at least 1, constant.
pub fn nr_cpus() -> usize {
    __rt_nr_cpus()
}

/// Fills `buf` with unpredictable bytes.
pub fn fill_random(buf: &mut [u8]) {
    __rt_fill_random(buf);
}
