//! The scheduler: threads, per-CPU run queues, deadlines, and the kernel's runtime provider.
//!
//! What it is: pre-emptive, one run queue per CPU, idle CPUs steal. What it is not: a place for policy by priority;
//! all threads are equal, a thread that slept runs before those that used their slice.
//!
//! | module | holds |
//! |---|---|
//! | [`thread`] | [`Thread`], [`Builder`], what travels with a switch |
//! | [`park`] | blocking and waking: the token protocol |
//! | [`switch`] | picking the next thread and going there |
//! | [`cpu`] | one CPU's queue, timers, idle loop |
//! | [`queue`], [`deadline`] | the two data structures, without locks |
//! | [`stack`] | kernel stacks with guard pages, cached |
//! | [`provider`] | [`KernelRt`], the implementation of `rt`'s contract |
//!
//! Invariants:
//! - A thread that is switched out has its context saved before another CPU may run it: `is_on_cpu` is cleared by
//!   the thread that came after it. A waker that finds it set queues the thread on the CPU it is leaving, never
//!   elsewhere: two CPUs that waited for each other's threads to leave would wait for ever.
//! - Every switch happens with interrupts off and exactly one pre-emption section open, so that the per-CPU count
//!   is right for whoever continues.
//! - The last reference to a thread is never dropped in the switch: what hangs from it may block.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod cpu;
mod deadline;
mod lock;
pub mod park;
mod provider;
mod queue;
mod reaper;
mod stack;
mod switch;
pub mod thread;

pub use cpu::{
    has_waiting, idle_ns, init_this_cpu, load_average, nr_running, run_idle, start, start_threads,
};
pub use park::{park, sleep_until, yield_now};
pub use provider::KernelRt;
pub use stack::STACK_SIZE;
pub use thread::{
    Builder, OutOfMemory, Space, Thread, current, enable_fpu, exit_thread, fs_base, set_fs_base, set_space,
    with_current, with_fpu,
};
