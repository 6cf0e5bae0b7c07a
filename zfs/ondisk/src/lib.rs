//! The on-disk format of ZFS: structures and constants, no behaviour.
//!
//! Structures come in pairs: `RawX` is what lies on disk (little-endian, any alignment, size asserted at compile time)
//! and `X` is what passed validation. Decoding never panics and never indexes by what it read.
//!
//! Blocks written by big-endian hosts are turned into little-endian ones by [`byteswap`], once, when their read
//! completes; everything else here knows little-endian only.
//!
//! Not here: checksums and compression (`codec`), nvlists (`nvpair`), anything that reads, writes or allocates.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod blkptr;
pub mod bpobj;
pub mod brt;
pub mod byteswap;
pub mod checksum;
pub mod compression;
pub mod dmu_type;
pub mod dnode;
pub mod dsl;
pub mod dva;
pub mod eck;
pub mod error;
pub mod feature;
pub mod gang;
pub mod ids;
pub mod label;
pub mod objset;
pub mod pool_directory;
pub mod sa;
pub mod scan;
pub mod space_map;
pub mod stream;
pub mod uberblock;
pub mod zap;
pub mod zil;
pub mod zil_record;

pub use blkptr::{BlkPtr, EmbeddedType, RawBlkPtr};
pub use checksum::{Checksum, Digest, RawDigest};
pub use compression::Compression;
pub use dmu_type::{ByteswapClass, DmuType};
pub use dva::{Dva, RawDva};
pub use error::{OndiskError, Result};
pub use ids::{Bookmark, ObjectId, Txg};

/// Unaligned little-endian integers, the fields of every raw structure.
pub mod le {
    pub use zerocopy::little_endian::{U16, U32, U64};
}

/// The pool version that stands for "feature flags" (`SPA_VERSION_FEATURES`).
pub const SPA_VERSION_FEATURES: u64 = 5000;
/// Newest version before feature flags.
pub const SPA_VERSION_BEFORE_FEATURES: u64 = 28;

/// A version the format defines: 1 to 28, and 5000.
#[must_use]
pub const fn is_spa_version(version: u64) -> bool {
    (version >= 1 && version <= SPA_VERSION_BEFORE_FEATURES) || version == SPA_VERSION_FEATURES
}

#[cfg(test)]
mod tests;
