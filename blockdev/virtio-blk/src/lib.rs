//! virtio-blk over injected registers and memory.
//!
//! | module | holds |
//! |---|---|
//! | [`transport`] | the register seam and the three register layouts |
//! | [`dma`] | the memory seam |
#![no_std]
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "states the contract of memory shared with devices")]
pub mod dma;
pub mod transport;
