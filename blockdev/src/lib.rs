//! Block devices as everything above the drivers sees them.
//!
//! What it is: the [`BlockDevice`] trait, its requests and completions, geometry, partition tables and
//! middleware. What it is not: drivers (`blockdev/*`), and not a cache.
//!
//! The contract, and the damage behind each line:
//! 1. A completion is fulfilled exactly once; one that is dropped unfulfilled reports `Io` (and panics in debug
//!    builds): a lost completion would hang a transaction group for ever.
//! 2. Completions run in thread context only, on whoever calls [`BlockDevice::poll`] or on the driver's own
//!    completion thread, so they may take short locks. They never block.
//! 3. Requests in flight together have no order. Whoever needs order waits for the first, or flushes.
//! 4. `Flush` makes durable every write *completed* before it was submitted. A device that cannot promise that
//!    says [`WriteCache::Unknown`]; nothing ever answers "done" for work not done.
//! 5. The device owns a request's buffer until its completion.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | the trait, geometry |
//! | [`request`] | requests, completions |
//! | [`wait`] | [`IoWait`]: submit many, wait once |
//! | [`error`] | what can go wrong |
//! | [`partition`] | a window of a device as a device |
//! | [`gpt`] | GUID partition tables |
//! | [`middleware`] | devices that wrap another: tracing, faults |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod device;
pub mod error;
pub mod gpt;
pub mod middleware;
pub mod partition;
pub mod request;
pub mod wait;

pub use device::{BlockDevice, DiscardLimits, Geometry, QueueFull, WriteCache};
pub use error::Error;
pub use partition::Partition;
pub use request::{Complete, Completion, Done, Op, Request};
pub use wait::IoWait;

#[cfg(test)]
mod tests;
