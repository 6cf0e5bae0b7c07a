//! Free space: which bytes of the vdevs may be written next, and how that is remembered.
//!
//! What it is: metaslabs (equal pieces of each vdev) with their free ranges in memory and their space maps, MOS
//! objects that log allocations and frees. What it is not: it knows no block pointers and does no I/O of its own.
//!
//! Invariants:
//! 1. Space is allocatable only if no transaction group that could still become the pool's state refers to it: see
//!    the life of space in `metaslab`.
//! 2. At the end of a transaction group's passes the space maps say exactly what its blocks occupy, the space maps' own
//!    blocks included: see `sync` for why the passes end.
//! 3. Allocation depends only on the order of calls: same calls, same places.
mod allocator;
mod checkpoint;
mod group;
mod list;
mod load;
mod log;
mod log_write;
#[expect(clippy::module_inception, reason = "the structure has the name of its concept")]
mod metaslab;
mod mos;
mod pool;
mod quiet;
mod range_tree;
mod space_map;
mod store;
mod sync;
mod unflushed;

pub(crate) use allocator::Allocator;
pub use log::{LogIndex, UnflushedLogs, VdevLogs};
pub(crate) use pool::BlockTraits;
pub use pool::SpaceClass;
pub use range_tree::RangeTree;
pub(crate) use space_map::{Encoder, Extent, for_each_run};
pub use store::{MosStore, NewMapObject};

#[cfg(test)]
mod tests;
