//! The contract of crate `rt`.
use crate::sched::{try_with, with};
use crate::task::Task;
use rt::provider::{Entry, Provider, RawThread};
use rt::rank::HeldRanks;
use std::ptr::NonNull;
use std::sync::Arc;

/// The provider; nothing to construct.
#[derive(Debug)]
pub struct Simulated;

fn into_raw(task: Arc<Task>) -> RawThread {
    // SAFETY: Arc::into_raw is never null.
    unsafe { NonNull::new_unchecked(Arc::into_raw(task).cast_mut().cast()) }
}

// SAFETY: 1. references are Arc counts; 2. unpark only touches cells of the one host thread, which orders memory
// trivially, and there is no interrupt context; 3. the cell lies in the task, which its slot keeps while it runs;
// 4. `maybe_preempt` does nothing while the count of `preempt_disable` is not zero, and `park` refuses then.
unsafe impl Provider for Simulated {
    fn spawn(name: &str, entry: Entry) -> RawThread {
        into_raw(with(|sim| sim.start(name, entry)))
    }

    fn current() -> RawThread {
        into_raw(with(|sim| sim.current_arc()))
    }

    unsafe fn thread_clone(thread: RawThread) -> RawThread {
        // SAFETY: the caller holds a live reference made by into_raw.
        unsafe { Arc::increment_strong_count(thread.as_ptr().cast::<Task>()) };
        thread
    }

    unsafe fn thread_drop(thread: RawThread) {
        // SAFETY: the caller gives up a live reference made by into_raw.
        drop(unsafe { Arc::from_raw(thread.as_ptr().cast::<Task>()) });
    }

    unsafe fn unpark(thread: RawThread) {
        let task = thread.as_ptr().cast::<Task>();
        // SAFETY: the caller holds a live reference made by into_raw.
        let task = unsafe {
            Arc::increment_strong_count(task);
            Arc::from_raw(task)
        };
        with(|sim| {
            sim.unpark(&task);
            drop(task);
            sim.maybe_preempt();
        });
    }

    fn park(deadline_ns: u64, reason: &'static str) {
        with(|sim| sim.park(deadline_ns, reason));
    }

    fn yield_now() {
        with(|sim| sim.yield_now());
    }

    fn now_ns() -> u64 {
        with(|sim| sim.look_at_clock())
    }

    fn wall_clock_ns() -> i64 {
        with(|sim| sim.wall_clock()) as i64
    }

    fn cpu_id() -> usize {
        with(|sim| sim.current().cpu.get())
    }

    fn nr_cpus() -> usize {
        with(|sim| sim.nr_cpus_shown())
    }

    fn fill_random(buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let bytes = with(|sim| sim.next_random()).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    fn preempt_disable() {
        try_with(|sim| {
            let off = &sim.current().preempt_off;
            off.set(off.get() + 1);
        });
    }

    fn preempt_enable() {
        try_with(|sim| {
            let off = &sim.current().preempt_off;
            off.set(off.get() - 1);
            sim.maybe_preempt();
        });
    }

    fn spin_hint() {
        with(|sim| sim.yield_now());
    }

    fn held_ranks() -> *const HeldRanks {
        with(|sim| {
            sim.maybe_preempt();
            std::ptr::from_ref(&sim.current().held)
        })
    }
}

rt::provider!(Simulated);
