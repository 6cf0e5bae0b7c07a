//! Devices of the pool: the tree of vdevs and each device's queue.
//!
//! What it is: [`TopVdev`] turns an offset of a top-level vdev into I/O of its leaves; [`Leaf`] orders, joins, issues,
//! retries and flushes I/O of one device; [`Health`] knows how the device does and what it missed; [`VdevTree`] is the
//! tree that may change while the pool is open. What it is not: it knows no block pointers, no checksums, no
//! allocation, and no label's content.
//!
//! Invariants:
//! 1. Allocatable space starts [`layout::DATA_START`] into a leaf, after any mapping a top-level vdev does: nothing here
//!    but label I/O can touch the labels.
//! 2. A flush covers every write completed before it on every leaf written since its last flush; the uberblock may name
//!    only what was flushed, or a power cut leaves a tree with missing blocks.
//! 3. A write succeeds when what it wrote can be read again: every leaf that did not get its part has noted the
//!    transaction group before the write is answered, else a stale copy would be taken for a good one.
//! 4. No lock is held while a device's `submit` or a completion runs: both may run the other.
mod absent;
mod class;
mod discard;
mod dtl;
mod health;
pub mod layout;
mod leaf;
mod mirror;
mod priority;
mod probe;
mod queue;
mod raidz;
mod sides;
mod spec;
mod top;
mod tree;
mod wait;

pub use class::AllocClass;
pub(crate) use dtl::TxgRanges;
pub use health::{Health, VdevErrors, VdevState};
pub use leaf::Leaf;
pub use priority::Priority;
pub(crate) use probe::Probe;
pub use sides::{Part, Place};
pub(crate) use spec::TREE_DEPTH_MAX;
pub use spec::{VdevKind, VdevSpec};
pub use top::{ReadIo, Standing, TopInfo, TopVdev, Vdev, WriteIo};
pub use tree::{Tops, VdevTree};
pub(crate) use wait::IoGroup;

#[cfg(test)]
mod tests;
