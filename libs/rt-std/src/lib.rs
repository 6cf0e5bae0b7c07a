//! The runtime provider for hosts with std: threads, parking and clocks of the standard library.
//!
//! Link it with `use rt_std as _;`. Not for the kernel and not deterministic (that is `rt-sim`).
use rt::provider::{Entry, Provider, RawThread};
use rt::rank::HeldRanks;
use std::io::Read;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The provider; nothing to construct.
#[derive(Debug)]
pub struct Std;

/// A thread as the seam sees it: its park token.
#[derive(Debug, Default)]
struct Parker {
    has_token: Mutex<bool>,
    changed: Condvar,
}

thread_local! {
    static CURRENT: Arc<Parker> = Arc::default();
    static HELD: HeldRanks = const { HeldRanks::new() };
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn into_raw(parker: Arc<Parker>) -> RawThread {
    // SAFETY: Arc::into_raw is never null.
    unsafe { NonNull::new_unchecked(Arc::into_raw(parker).cast_mut().cast()) }
}

// SAFETY: 1. references are Arc counts; 2. the token is guarded by a mutex, which orders memory, and std has no
// interrupt context; 3. HELD is thread-local; 4. host threads cannot be kept from being switched, which costs
// spinners time but no correctness: pre-emption off means only "do not block here", and no caller relies on more.
unsafe impl Provider for Std {
    fn spawn(name: &str, entry: Entry) -> RawThread {
        let parker = Arc::<Parker>::default();
        let own = parker.clone();
        let body = move || {
            // The parker must be in place before the body runs: unpark may already have left a token in it.
            INHERITED.with(|slot| slot.set(Some(own)));
            entry();
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(4 << 20).spawn(body);
        if let Err(e) = spawned {
            panic!("cannot start thread {name}: {e}");
        }
        into_raw(parker)
    }

    fn current() -> RawThread {
        into_raw(current_parker())
    }

    unsafe fn thread_clone(thread: RawThread) -> RawThread {
        // SAFETY: the caller holds a live reference made by into_raw.
        unsafe { Arc::increment_strong_count(thread.as_ptr().cast::<Parker>()) };
        thread
    }

    unsafe fn thread_drop(thread: RawThread) {
        // SAFETY: the caller gives up a live reference made by into_raw.
        drop(unsafe { Arc::from_raw(thread.as_ptr().cast::<Parker>()) });
    }

    unsafe fn unpark(thread: RawThread) {
        // SAFETY: the caller holds a live reference made by into_raw.
        let parker = unsafe { &*thread.as_ptr().cast::<Parker>() };
        *parker.has_token.lock().unwrap_or_else(|e| e.into_inner()) = true;
        parker.changed.notify_one();
    }

    fn park(deadline_ns: u64, _reason: &'static str) {
        let parker = current_parker();
        let mut has_token = parker.has_token.lock().unwrap_or_else(|e| e.into_inner());
        while !*has_token {
            if deadline_ns == u64::MAX {
                has_token = parker.changed.wait(has_token).unwrap_or_else(|e| e.into_inner());
                continue;
            }
            let left = deadline_ns.saturating_sub(Self::now_ns());
            if left == 0 {
                return;
            }
            let waited = parker.changed.wait_timeout(has_token, Duration::from_nanos(left));
            has_token = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
        *has_token = false;
    }

    fn yield_now() {
        std::thread::yield_now();
    }

    fn now_ns() -> u64 {
        epoch().elapsed().as_nanos() as u64
    }

    fn wall_clock_ns() -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        }
    }

    fn cpu_id() -> usize {
        thread_local!(static SHARD: usize = {
            static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        });
        SHARD.with(|shard| shard % Self::nr_cpus())
    }

    fn nr_cpus() -> usize {
        static NR: OnceLock<usize> = OnceLock::new();
        *NR.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    fn fill_random(buf: &mut [u8]) {
        let filled = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(buf));
        if let Err(e) = filled {
            panic!("cannot read /dev/urandom: {e}");
        }
    }

    fn preempt_disable() {}

    fn preempt_enable() {}

    fn spin_hint() {
        // A spinner may have been scheduled instead of the holder: give the CPU away.
        std::thread::yield_now();
    }

    fn held_ranks() -> *const HeldRanks {
        HELD.with(std::ptr::from_ref)
    }
}

thread_local!(static INHERITED: std::cell::Cell<Option<Arc<Parker>>> = const { std::cell::Cell::new(None) });

/// The calling thread's parker: the one its spawner knows, or a new one for threads we did not spawn.
fn current_parker() -> Arc<Parker> {
    INHERITED.with(|slot| match slot.take() {
        Some(parker) => {
            slot.set(Some(parker.clone()));
            parker
        }
        None => CURRENT.with(Arc::clone),
    })
}

rt::provider!(Std);

#[cfg(test)]
mod tests;
