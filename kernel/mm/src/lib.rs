//! Memory: physical frames, the kernel heap, address spaces.
//!
//! | module | holds |
//! |---|---|
//! | [`frames`] | physical frames |
//! | [`heap`] | the global allocator |
//! | [`space`] | address spaces: mapping, faults, copy-on-write |
#![cfg_attr(not(test), no_std)]

extern crate alloc;
#[cfg(test)]
use rt_std as _;

pub mod frames;
pub mod heap;
pub mod space;
