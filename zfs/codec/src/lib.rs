//! Checksums and compression as ZFS frames them.
//!
//! Pure functions over bytes: no block pointers, no I/O. Every decoder is bounded by the output it was given and never
//! panics, whatever the input.
//!
//! Vector code is the only unsafe part: [`simd`] says which instructions, `fletcher::lanes` and `gf256::vector` have them.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod checksum;
pub mod compress;
pub mod embedded;
mod error;
pub mod fletcher;
pub mod gf256;
pub mod simd;

pub use checksum::{Hasher, checksum, supports_checksum};
pub use compress::{compress, compress_raw, decompress, supports_compression};
pub use error::{CodecError, Result};
