//! What is left of ended threads.
//!
//! The stack is reused at once. The thread object waits for a kernel thread, because what hangs from it may block
//! when dropped, and until nobody else refers to it, because the last reference might otherwise be dropped under
//! someone's spin lock.
use crate::cpu::Cpu;
use crate::lock::IrqLock;
use crate::queue::Link;
use crate::stack;
use crate::thread::{Builder, OutOfMemory, Thread, ThreadPtr};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Ended threads that wake the reaper on a busy machine; an idle one does not wait.
const DEAD_MAX: usize = 16;

static DEAD: IrqLock<Option<ThreadPtr>> = IrqLock::new(None);
static NR_DEAD: AtomicUsize = AtomicUsize::new(0);
static REAPER: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());

/// Starts the reaper.
///
/// # Errors
/// No memory.
pub(crate) fn start() -> Result<(), OutOfMemory> {
    let reaper = Builder::new("reaper").spawn(Box::new(run))?;
    REAPER.store(Arc::into_raw(reaper).cast_mut(), Ordering::Release);
    Ok(())
}

/// Takes what is left of a thread that was switched out for the last time. Interrupts off.
pub(crate) fn bury(_cpu: &Cpu, dead: ThreadPtr) {
    // SAFETY: the thread never runs again; nobody else touches its private part.
    let stack = unsafe { (*dead.get().private.get()).stack.take() };
    if let Some(stack) = stack {
        stack.recycle();
    }
    dead.get().is_on_cpu.store(false, Ordering::Release);
    let mut list = DEAD.lock();
    dead.set_next(*list);
    *list = Some(dead);
    NR_DEAD.fetch_add(1, Ordering::Relaxed);
}

/// Wakes the reaper if there is enough to do. Called by a thread about to end.
pub(crate) fn announce() {
    if NR_DEAD.load(Ordering::Relaxed) >= DEAD_MAX {
        wake();
    }
}

/// Wakes the reaper if there is anything to do. Called by idle CPUs.
pub(crate) fn wake_if_needed() {
    if NR_DEAD.load(Ordering::Relaxed) != 0 {
        wake();
    }
}

fn wake() {
    let reaper = REAPER.load(Ordering::Acquire);
    if !reaper.is_null() {
        // SAFETY: a leaked reference.
        unsafe { (*reaper).unpark() };
    }
}

fn run() {
    // Ended, but still referred to.
    let mut waiting: Vec<Arc<Thread>> = Vec::new();
    loop {
        while let Some(dead) = take() {
            // SAFETY: the reference the thread had of itself.
            waiting.push(unsafe { Arc::from_raw(dead.0) });
        }
        // A clone is only made from another reference, so 1 stays 1.
        waiting.retain(|thread| Arc::strong_count(thread) > 1);
        stack::trim_cache();
        crate::park(u64::MAX, "reaper");
    }
}

fn take() -> Option<ThreadPtr> {
    let mut list = DEAD.lock();
    let first = (*list)?;
    *list = first.next();
    NR_DEAD.fetch_sub(1, Ordering::Relaxed);
    Some(first)
}
