//! The runtime provider of the simulator: the real code, one thread at a time, picked by a seed, in virtual time.
//!
//! What it is: every thread of the code under test is a coroutine with a stack of its own; all of them run on the
//! one host thread that called [`run`]. A switch costs tens of nanoseconds instead of the microseconds of a
//! hand-over between host threads, and nothing but the seed decides what runs next: same seed, same run.
//!
//! What it is not: a model of weak memory (there is one host thread, so every write is seen at once), nor of time
//! spent computing (the clock moves by a little at each look at it, and by as much as it takes when nobody can run).
//!
//! Link it with `use rt_sim as _;` and call [`run`]; outside of `run` there is no runtime.
//!
//! | module | holds |
//! |---|---|
//! | [`sched`] | what runs next, timers, the deadlock report |
//! | [`task`] | a thread |
//! | [`provider`] | the contract of crate `rt` |
//!
//! Where a thread can be switched away from: when it parks, yields or spins, and, with the chance of
//! [`Config::preempt`], where it leaves a spin-locked section, wakes another thread, or (in builds with debug
//! assertions) takes or leaves a ranked lock. Never inside a spin-locked section: that is the seam's contract.
mod provider;
mod sched;
mod task;

pub use sched::{Config, Failure, Stats, advance, random, run, stats, threads};

#[cfg(test)]
mod tests;
