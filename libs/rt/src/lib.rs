//! The runtime seam: threads, blocking, clocks and randomness, declared here and provided at link time.
//!
//! What it is: the only way any of our crates blocks, spawns, reads a clock or draws randomness. The same
//! code therefore runs on host threads (`rt-std`), on the kernel's scheduler (`sched`) and, one runnable
//! thread at a time in virtual time, in the crash simulator (`rt-sim`).
//!
//! What it is not: an async executor, and not usable from interrupt handlers. Interrupt handlers only
//! [`Thread::unpark`] (which a provider must make interrupt-safe); everything else here may block.
//!
//! | module | holds |
//! |---|---|
//! | [`provider`] | the contract a provider implements, and `provider!` that links it |
//! | [`thread`] | `spawn`, `park`, `unpark`, `sleep` |
//! | [`time`] | `Instant`, wall clock |
//! | [`spin`] | the short-section lock under everything else |
//! | [`wait`] | the queue of parked threads that every blocking primitive is made of |
//! | [`mutex`], [`rwlock`], [`condvar`], [`event`], [`semaphore`] | blocking primitives |
//! | [`once`] | one-time initialisation |
//! | [`taskq`] | named, bounded worker pools |
//! | [`rank`] | lock ranks, checked per thread in debug builds |
//!
//! Invariants: every blocking primitive tolerates spurious wake-ups; a wake-up sent before the matching
//! park is not lost (park consumes a token), otherwise a completion that beats its waiter would hang it.
#![no_std]

extern crate alloc;

pub mod condvar;
pub mod event;
pub mod mutex;
pub mod once;
pub mod provider;
pub mod rank;
pub mod rwlock;
pub mod semaphore;
pub mod spin;
pub mod taskq;
pub mod thread;
pub mod time;
pub mod wait;

pub use condvar::Condvar;
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
pub use provider::{Provider, RawThread};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::Semaphore;
pub use spin::{SpinLock, SpinLockGuard};
pub use taskq::Taskq;
pub use thread::{
    JoinHandle, Thread, cpu_id, current, fill_random, has_waiting, nr_cpus, park, park_until, sleep, spawn,
    yield_now,
};
pub use time::{Instant, WallTime, now, wall_clock};
