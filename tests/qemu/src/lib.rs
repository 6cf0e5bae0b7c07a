//! Booting our kernel under QEMU from tests: one machine per call, hard time limit, everything it said collected.
//!
//! | module | holds |
//! |---|---|
//! | [`archive`] | root file systems and test programs for the guest |
//! | [`kernel`] | building and preparing the kernel once per test process |
//! | [`vm`] | [`Vm`]: describing a machine, running it, what came of it |
#![forbid(unsafe_code)]

pub mod archive;
pub mod kernel;
pub mod vm;

pub use vm::{End, Outcome, Vm};
