//! From a recipe to an image, and everything that can be done to an image on the host, without root and without
//! booting anything.
//!
//! | module | holds |
//! |---|---|
//! | [`recipe`] | `image.toml`: parsing, checking, presets |
//! | [`size`] | sizes as people write them |
//! | [`source`] | packages, programs, inline files |
//! | [`tree`] | trees of files, on the host and in images |
//! | [`build`] | from a recipe to an image |
//! | [`boot`] | loader and kernel on a disk |
//! | [`layout`] | where things lie in an image |
//! | [`image`] | an opened image: devices, pool, file systems |
//! | [`info`] | facts about an image, and the full walk |
//! | [`file_system`] | datasets as file systems |
//! | [`pool`] | names of the pool's features and properties |
//! | [`vdevs`] | vdev layouts as people write them |
#![forbid(unsafe_code)]

pub mod boot;
pub mod build;
pub mod damage;
pub mod file_system;
pub mod host_id;
pub mod image;
pub mod info;
pub mod layout;
pub mod pool;
pub mod recipe;
pub mod size;
pub mod source;
pub mod tree;
pub mod vdevs;

// The host's threads and clocks; linking it is all there is to do.
use rt_std as _;
