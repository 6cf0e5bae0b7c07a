//! Giving memory back before the program sees that there is none: a thread that shrinks the pool's block cache and
//! the cache of names when free frames run low, and lets the block cache grow again when they do not.
use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, Ordering};
use mm::frames;
use rt::Instant;
use vfs::Namespace;
use zfs::spa::Spa;

const FRAME: u64 = 4096;
/// How often the thread looks although nobody called.
const PERIOD_NS: u64 = 1_000_000_000;
/// How long an allocation waits for the thread to help, per attempt.
const WAIT_NS: u64 = 2_000_000;

/// The thread, once it runs. Never freed.
static THREAD: AtomicPtr<sched::Thread> = AtomicPtr::new(core::ptr::null_mut());

fn wake() {
    let thread = THREAD.load(Ordering::Acquire);
    if !thread.is_null() {
        // SAFETY: a leaked reference.
        unsafe { (*thread).unpark() };
    }
}

/// Called with the number of free frames when it gets low, in the allocating thread.
fn on_pressure(_nr_free: usize) {
    wake();
}

/// Called by an allocation that found nothing and may block: true if it should try again.
fn on_exhaustion() -> bool {
    let thread = THREAD.load(Ordering::Acquire);
    let is_helper = sched::with_current(|current| core::ptr::eq(current, thread));
    if thread.is_null() || is_helper {
        return false;
    }
    wake();
    sched::sleep_until(rt::now().0.saturating_add(WAIT_NS));
    true
}

/// Starts the thread for a pool and a name space.
pub fn start(spa: &Arc<Spa>, namespace: &Arc<Namespace>) {
    let (spa, namespace) = (Arc::downgrade(spa), Arc::downgrade(namespace));
    let body = move || {
        while let (Some(spa), Some(namespace)) = (spa.upgrade(), namespace.upgrade()) {
            balance(&spa, &namespace);
            drop((spa, namespace));
            rt::park_until(Instant(rt::now().0.saturating_add(PERIOD_NS)), "memory pressure");
        }
    };
    match sched::Builder::new("reclaim").spawn(alloc::boxed::Box::new(body)) {
        Ok(thread) => {
            THREAD.store(Arc::into_raw(thread).cast_mut(), Ordering::Release);
            frames::set_pressure_hook(on_pressure);
            frames::set_exhaustion_hook(on_exhaustion);
        }
        Err(e) => log::error!("no memory for the reclaiming thread: {e:?}"),
    }
}

/// Frees down to the high mark; above it, moves the cache's target towards its share of what is free.
fn balance(spa: &Spa, namespace: &Namespace) {
    let arc = spa.storage().arc();
    let nr_free = frames::nr_free();
    let high = frames::low_mark() * 2;
    if nr_free >= high {
        // A third of what the cache and the free frames are together.
        let share = (arc.used() + nr_free as u64 * FRAME) / 3;
        if share > arc.target() {
            arc.set_target(share);
        }
        return;
    }
    let wanted = (high - nr_free) as u64 * FRAME;
    arc.set_target(arc.used().saturating_sub(wanted).max(1 << 20));
    if arc.shrink(wanted) < wanted {
        namespace.shrink_cache();
    }
}
