//! Blocking and waking.
//!
//! A thread's park state is EMPTY, NOTIFIED (a wake-up came) or PARKED. `park` turns EMPTY into PARKED and leaves the
//! CPU; `unpark` turns anything into NOTIFIED and queues the thread if it was PARKED: exactly one waker sees that.
//! A wake-up before the park is kept as NOTIFIED and makes the park return at once.
use crate::cpu;
use crate::switch::{self, Why};
use crate::thread::{Thread, ThreadPtr, with_current};
use core::sync::atomic::Ordering;
use hal::io::IrqGuard;

pub(crate) const EMPTY: u8 = 0;
const NOTIFIED: u8 = 1;
const PARKED: u8 = 2;

/// Blocks until unparked, until `deadline_ns` of [`hal::clock::now_ns`] (`u64::MAX`: never), or spuriously.
/// `reason` is for people.
pub fn park(deadline_ns: u64, reason: &'static str) {
    with_current(|thread| {
        if thread.park_state.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        assert!(hal::cpu::preempt_count() == 0, "blocking on {reason} with pre-emption off");
        if deadline_ns == u64::MAX {
            block(thread, reason);
        } else if hal::clock::now_ns() < deadline_ns {
            let irq = IrqGuard::new();
            cpu::add_deadline(thread, hal::clock::tsc_at(deadline_ns));
            block(thread, reason);
            drop(irq);
            cpu::remove_deadline(thread);
        }
    });
}

fn block(thread: &Thread, reason: &'static str) {
    let _irq = IrqGuard::new();
    thread.set_reason(Some(reason));
    if thread.park_state.compare_exchange(EMPTY, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        switch::schedule(Why::Park);
    }
    thread.set_reason(None);
    // Acquire: what the waker did before is visible from here on.
    thread.park_state.swap(EMPTY, Ordering::Acquire);
}

/// Makes the thread's current or next park return. Callable in interrupt context.
pub(crate) fn unpark(thread: &Thread) {
    if thread.park_state.swap(NOTIFIED, Ordering::AcqRel) == PARKED {
        cpu::enqueue_woken(ThreadPtr(thread));
    }
}

/// Blocks until `deadline_ns`.
pub fn sleep_until(deadline_ns: u64) {
    while hal::clock::now_ns() < deadline_ns {
        park(deadline_ns, "sleep");
    }
}

/// Lets other runnable threads of this CPU run first.
pub fn yield_now() {
    let _irq = IrqGuard::new();
    if cpu::has_waiting() {
        switch::schedule(Why::Yield);
    }
}
