//! virtio-blk over injected registers and memory.
//!
//! | module | holds |
//! |---|---|
//! | [`disk`] | [`Disk`]: the driver, a [`blockdev::BlockDevice`] |
//! | [`config`] | feature bits and the configuration space |
//! | `durable` | writes that are durable without a flush |
//! | `queue` | the split virtqueue; with [`dma`] the only unsafe module |
//! | [`transport`] | the register seam and the three register layouts |
//! | [`dma`] | the memory seam |
//!
//! The device is not trusted: everything it returns is checked against private copies, and a device that breaks
//! the rules or asks for a reset is reset; requests in flight then fail with `Io`, later ones work again.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod disk;
#[expect(unsafe_code, reason = "states the contract of memory shared with devices")]
pub mod dma;
mod durable;
#[expect(unsafe_code, reason = "memory shared with a device")]
mod queue;
pub mod transport;

pub use disk::{Disk, InitError, Options, Patience};

#[cfg(test)]
mod durable_tests;
#[cfg(test)]
#[expect(unsafe_code, reason = "plays the device, on memory shared with the driver")]
mod model;
#[cfg(test)]
mod tests;
