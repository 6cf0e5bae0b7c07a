//! The contract between the runtime seam and whoever provides it, joined at link time.
//!
//! Exactly one crate in a binary implements [`Provider`] and invokes [`provider!`](crate::provider!). The
//! macro defines the `__rt_*` symbols that this crate only declares, so no generic parameter travels through
//! the code base and a missing or doubled provider is a link error.
use crate::rank::HeldRanks;
use alloc::boxed::Box;
use core::ptr::NonNull;

/// A provider's thread object, reference counted by the provider.
pub type RawThread = NonNull<()>;

/// The body of a spawned thread.
pub type Entry = Box<dyn FnOnce() + Send + 'static>;

/// What a runtime must offer.
///
/// # Safety
/// 1. `current` returns a counted reference (the caller drops it with `thread_drop`), valid until dropped.
/// 2. `unpark` on a live reference never blocks and may be called in interrupt context; the token it leaves
///    makes the next or current `park` of that thread return, and all writes before the `unpark` are visible
///    after that `park` (release/acquire).
/// 3. `held_ranks` returns a cell private to the calling thread, valid as long as that thread runs.
/// 4. Between `preempt_disable` and the matching `preempt_enable` the thread is not switched away from.
pub unsafe trait Provider {
    /// Starts a thread. `name` is for people.
    fn spawn(name: &str, entry: Entry) -> RawThread;
    /// The calling thread.
    fn current() -> RawThread;
    /// Adds a reference.
    ///
    /// # Safety
    /// `thread` is a live reference.
    unsafe fn thread_clone(thread: RawThread) -> RawThread;
    /// Drops a reference.
    ///
    /// # Safety
    /// `thread` is a live reference, not used afterwards.
    unsafe fn thread_drop(thread: RawThread);
    /// Makes the thread's current or next `park` return.
    ///
    /// # Safety
    /// `thread` is a live reference.
    unsafe fn unpark(thread: RawThread);
    /// Blocks until unparked, until `deadline_ns` of the monotonic clock (`u64::MAX`: never), or spuriously.
    /// `reason` names what is waited for, for deadlock reports.
    fn park(deadline_ns: u64, reason: &'static str);
    /// Lets another thread run.
    fn yield_now();
    /// Whether another thread wants to run on this CPU, as far as is known: a hint for those who poll.
    fn has_waiting() -> bool {
        false
    }
    /// Monotonic nanoseconds since some fixed point.
    fn now_ns() -> u64;
    /// Nanoseconds since 1970 (signed: clocks can be wrong).
    fn wall_clock_ns() -> i64;
    /// The CPU the caller runs on now; a hint unless pre-emption is off.
    fn cpu_id() -> usize;
    /// Number of CPUs, at least 1, constant.
    fn nr_cpus() -> usize;
    /// Fills `buf` with unpredictable bytes (reproducible ones in simulation).
    fn fill_random(buf: &mut [u8]);
    /// Keeps the calling thread on its CPU and running; nests.
    fn preempt_disable();
    /// Ends one `preempt_disable`.
    fn preempt_enable();
    /// One pass of a spin loop: `pause`, or a switch where only one thread runs at a time.
    fn spin_hint();
    /// The calling thread's list of held lock ranks.
    fn held_ranks() -> *const HeldRanks;
}

unsafe extern "Rust" {
    pub(crate) safe fn __rt_spawn(name: &str, entry: Entry) -> RawThread;
    pub(crate) safe fn __rt_current() -> RawThread;
    pub(crate) fn __rt_thread_clone(thread: RawThread) -> RawThread;
    pub(crate) fn __rt_thread_drop(thread: RawThread);
    pub(crate) fn __rt_unpark(thread: RawThread);
    pub(crate) safe fn __rt_park(deadline_ns: u64, reason: &'static str);
    pub(crate) safe fn __rt_yield_now();
    pub(crate) safe fn __rt_has_waiting() -> bool;
    pub(crate) safe fn __rt_now_ns() -> u64;
    pub(crate) safe fn __rt_wall_clock_ns() -> i64;
    pub(crate) safe fn __rt_cpu_id() -> usize;
    pub(crate) safe fn __rt_nr_cpus() -> usize;
    pub(crate) safe fn __rt_fill_random(buf: &mut [u8]);
    pub(crate) safe fn __rt_preempt_disable();
    pub(crate) safe fn __rt_preempt_enable();
    pub(crate) safe fn __rt_spin_hint();
    pub(crate) safe fn __rt_held_ranks() -> *const HeldRanks;
}

/// Links `$provider`, a type that implements [`Provider`], as this binary's runtime.
#[macro_export]
macro_rules! provider {
    ($provider:ty) => {
        mod __rt_symbols {
            use super::*;
            use $crate::provider::{Entry, Provider, RawThread};
            #[unsafe(no_mangle)]
            fn __rt_spawn(name: &str, entry: Entry) -> RawThread {
                <$provider as Provider>::spawn(name, entry)
            }
            #[unsafe(no_mangle)]
            fn __rt_current() -> RawThread {
                <$provider as Provider>::current()
            }
            // SAFETY (this and the next two): the caller's promise is passed on unchanged.
            #[unsafe(no_mangle)]
            unsafe fn __rt_thread_clone(thread: RawThread) -> RawThread {
                // SAFETY: as above.
                unsafe { <$provider as Provider>::thread_clone(thread) }
            }
            #[unsafe(no_mangle)]
            unsafe fn __rt_thread_drop(thread: RawThread) {
                // SAFETY: as above.
                unsafe { <$provider as Provider>::thread_drop(thread) }
            }
            #[unsafe(no_mangle)]
            unsafe fn __rt_unpark(thread: RawThread) {
                // SAFETY: as above.
                unsafe { <$provider as Provider>::unpark(thread) }
            }
            #[unsafe(no_mangle)]
            fn __rt_park(deadline_ns: u64, reason: &'static str) {
                <$provider as Provider>::park(deadline_ns, reason)
            }
            #[unsafe(no_mangle)]
            fn __rt_yield_now() {
                <$provider as Provider>::yield_now()
            }
            #[unsafe(no_mangle)]
            fn __rt_has_waiting() -> bool {
                <$provider as Provider>::has_waiting()
            }
            #[unsafe(no_mangle)]
            fn __rt_now_ns() -> u64 {
                <$provider as Provider>::now_ns()
            }
            #[unsafe(no_mangle)]
            fn __rt_wall_clock_ns() -> i64 {
                <$provider as Provider>::wall_clock_ns()
            }
            #[unsafe(no_mangle)]
            fn __rt_cpu_id() -> usize {
                <$provider as Provider>::cpu_id()
            }
            #[unsafe(no_mangle)]
            fn __rt_nr_cpus() -> usize {
                <$provider as Provider>::nr_cpus()
            }
            #[unsafe(no_mangle)]
            fn __rt_fill_random(buf: &mut [u8]) {
                <$provider as Provider>::fill_random(buf)
            }
            #[unsafe(no_mangle)]
            fn __rt_preempt_disable() {
                <$provider as Provider>::preempt_disable()
            }
            #[unsafe(no_mangle)]
            fn __rt_preempt_enable() {
                <$provider as Provider>::preempt_enable()
            }
            #[unsafe(no_mangle)]
            fn __rt_spin_hint() {
                <$provider as Provider>::spin_hint()
            }
            #[unsafe(no_mangle)]
            fn __rt_held_ranks() -> *const $crate::rank::HeldRanks {
                <$provider as Provider>::held_ranks()
            }
        }
    };
}
