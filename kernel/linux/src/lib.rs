//! The Linux ABI: unmodified programs on our kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`boot`] | from a name space to a running program and its exit status |
//! | [`sys`] | system calls |
//! | [`task`] | processes, threads, programs |
//! | [`signal`] | signals |
//! | [`fd`] | open files |
//! | [`futex`], [`wait`], [`timers`], [`time`] | blocking and time |
//! | [`elf`], [`stack`], [`vdso`] | what a program finds when it starts |
//! | [`procfs`], [`pseudo`] | /proc and /sys |
//! | [`initrd`], [`memfd`] | file systems in memory |
//! | [`user`] | the application's memory |
//! | [`errno`] | error numbers |
//! | [`glue`] | system-call entry and faults |
//!
//! What it is not: file systems (`vfs`, `zpl`), page tables (`mm`), scheduling (`sched`).
//!
//! Programs run in ring 0 beside the kernel: the ABI's checks protect the kernel from mistakes, not from malice.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod elf;
pub mod errno;
pub mod fd;
pub mod futex;
pub mod glue;
pub mod initrd;
pub mod kernel;
pub mod memfd;
pub mod procfs;
pub mod pseudo;
pub mod signal;
pub mod stack;
pub mod sys;
pub mod task;
pub mod time;
pub mod timers;
pub mod user;
pub mod vdso;
pub mod wait;

pub use boot::{Boot, run};

#[cfg(test)]
use rt_std as _;
