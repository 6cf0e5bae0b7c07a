//! Name-value lists in their XDR form: what labels, the pool's configuration and extended attributes are written in; and
//! in their native form ([`NvList::encode_native`]), which send streams have in places.
//!
//! Decoding keeps the order of pairs and everything that encoding needs, so that a list that was read and is written
//! again unchanged has the same bytes. Decoding is bounded by its input: depth is limited, and memory is proportional to
//! the bytes given. Names and strings are bytes, as the format does not promise UTF-8.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod decode;
mod encode;
mod error;
mod list;
mod native;
mod value;

pub use error::{NvError, Result};
pub use list::{NvList, NvPair};
pub use value::{NvType, NvValue};

/// Deepest nesting that is decoded or encoded; the outermost list is at depth 1.
pub const DEPTH_MAX: usize = 20;

#[cfg(test)]
mod tests;
