//! Block devices on the host: files, host block devices, and memory.
//!
//! | module | holds |
//! |---|---|
//! | [`file`] | [`FileDisk`]: a host file or block device, or a window of one |
//! | [`memory`] | [`MemDisk`]: sparse memory with a volatile write cache that can be lost |
//!
//! What it is not: part of the guest. It uses `std` and may block.
#![forbid(unsafe_code)]

pub mod file;
pub mod memory;

pub use file::{FileDisk, OpenOptions};
pub use memory::{Crash, MemDisk, Stats};

#[cfg(test)]
use rt_std as _;
