//! The runtime provider of the kernel. Linked by the kernel binary only: `rt::provider!(sched::KernelRt)`.
use crate::thread::{Builder, Thread, with_current};
use alloc::sync::Arc;
use core::ptr::NonNull;
use rt::provider::{Entry, Provider, RawThread};
use rt::rank::HeldRanks;

/// The scheduler behind `rt`.
#[derive(Debug)]
pub struct KernelRt;

pub(crate) fn now_ns() -> u64 {
    hal::clock::now_ns()
}

fn into_raw(thread: Arc<Thread>) -> RawThread {
    // SAFETY: Arc::into_raw is never null.
    unsafe { NonNull::new_unchecked(Arc::into_raw(thread).cast_mut().cast()) }
}

// SAFETY: 1. references are Arc counts; 2. unpark swaps an atomic state with release and queues under a lock that
// keeps interrupts off; 3. the ranks lie in the thread object; 4. the count is per CPU and switches need it to be 0.
unsafe impl Provider for KernelRt {
    fn spawn(name: &str, entry: Entry) -> RawThread {
        match Builder::new(name).spawn(entry) {
            Ok(thread) => into_raw(thread),
            Err(e) => panic!("cannot start thread {name}: {e:?}"),
        }
    }

    fn current() -> RawThread {
        into_raw(crate::thread::current())
    }

    unsafe fn thread_clone(thread: RawThread) -> RawThread {
        // SAFETY: the caller holds a live reference made by into_raw.
        unsafe { Arc::increment_strong_count(thread.as_ptr().cast::<Thread>()) };
        thread
    }

    unsafe fn thread_drop(thread: RawThread) {
        // SAFETY: the caller gives up a live reference made by into_raw.
        drop(unsafe { Arc::from_raw(thread.as_ptr().cast::<Thread>()) });
    }

    unsafe fn unpark(thread: RawThread) {
        // SAFETY: the caller holds a live reference made by into_raw.
        unsafe { thread.cast::<Thread>().as_ref() }.unpark();
    }

    fn park(deadline_ns: u64, reason: &'static str) {
        crate::park(deadline_ns, reason);
    }

    fn yield_now() {
        crate::yield_now();
    }

    fn has_waiting() -> bool {
        crate::has_waiting()
    }

    fn now_ns() -> u64 {
        now_ns()
    }

    fn wall_clock_ns() -> i64 {
        hal::clock::wall_ns()
    }

    fn cpu_id() -> usize {
        hal::cpu::id()
    }

    fn nr_cpus() -> usize {
        hal::cpu::nr_online()
    }

    fn fill_random(buf: &mut [u8]) {
        hal::random::fill(buf);
    }

    fn preempt_disable() {
        hal::cpu::preempt_disable();
    }

    fn preempt_enable() {
        hal::cpu::preempt_enable();
    }

    fn spin_hint() {
        core::hint::spin_loop();
    }

    fn held_ranks() -> *const HeldRanks {
        with_current(|thread| core::ptr::from_ref(&thread.held_ranks))
    }
}
