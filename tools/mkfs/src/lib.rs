//! From a recipe to an image, and everything that can be done to an image on the host, without root and without
//! booting anything.
//!
//! | module | holds |
//! |---|---|
//! | [`recipe`] | `image.toml`: parsing, checking, presets |
//! | [`size`] | sizes as people write them |
//! | [`source`] | packages, programs, inline files |
//! | [`tree`] | trees of files, on the host and in images |
//! | [`pool`] | names of the pool's features and properties |
#![forbid(unsafe_code)]

pub mod pool;
pub mod recipe;
pub mod size;
pub mod source;
pub mod tree;

// The host's threads and clocks; linking it is all there is to do.
use rt_std as _;
