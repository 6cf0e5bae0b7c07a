//! The cache of blocks, by where they lie on disk (vdev, offset, birth): adaptive between blocks used once and blocks
//! used again, and between data and metadata.
//!
//! What it is: decompressed, verified, immutable blocks; reads of a block that is already on its way wait for it;
//! memory accounting and eviction. What it is not: dirty data (that is the dbufs', which put blocks here once their
//! pointers are final), and not an index by file.
//!
//! How it works: each of the shards has its own hash table and lists. A new block enters MRU; one that is found used in
//! a later epoch when eviction reaches it moves to MFU; an evicted one leaves its key in a ghost list. A miss that
//! finds its key in a ghost list shows which list was too short, and moves the shares.
//!
//! Invariants:
//! 1. A hit takes its shard's lock for a hash lookup and nothing else: no allocation, no list operation. Lists are set
//!    right when eviction looks at an entry.
//! 2. `used` counts every byte a buffer of the cache keeps alive, evicted or not: dropping the last reference gives it
//!    back, so memory cannot be lost from sight.
//! 3. An address is reused only with another birth, and a block rewritten in place is `insert`ed anew, which replaces
//!    the entry: a key never finds an older content.
mod adapt;
mod buf;
mod cache;
mod evict;
mod holder;
mod pending;
mod shard;

pub use buf::ArcBuf;
pub use cache::{ArcCache, ArcStats};
pub use holder::Holder;

pub(crate) use buf::Key;
pub(crate) use cache::{Fill, Lookup};
pub(crate) use pending::Arrival;

#[cfg(test)]
mod tests;
