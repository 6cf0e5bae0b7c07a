//! A simulated disk, for tests that cut its power at any request and let it misbehave in every way disks do.
//!
//! What it is: a sparse disk in memory with a volatile write cache, latency from a seed (so requests in flight
//! together complete in any order), and faults. A write is durable after a flush that was submitted after its
//! completion, or at its completion if it asked for that; until then a power cut may leave any of its 512-byte
//! sectors on the medium or not. What it is not: a model of how fast disks are.
//!
//! | module | holds |
//! |---|---|
//! | [`disk`] | the device |
//! | [`image`] | content, shared between copies: a copy costs microseconds |
//! | [`crash`] | what a power cut may leave |
//! | [`fault`] | what may go wrong while there is power |
//!
//! Invariants: requests in flight are answered exactly once, also when the disk vanishes; nothing depends on
//! anything but the seed and the order of calls. Under `rt-sim` a simulation is therefore repeatable, disks included.
#![forbid(unsafe_code)]

pub mod crash;
pub mod disk;
pub mod fault;
pub mod image;
mod random;

pub use crash::{CrashMode, DiskState};
pub use disk::{DiskConfig, Moment, SimDisk};
pub use fault::{Fault, FaultRates};
pub use image::Image;
pub use random::Random;

#[cfg(test)]
mod tests;
