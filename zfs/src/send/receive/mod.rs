//! `zfs receive`: streams into datasets.
//!
//! | module | holds |
//! |---|---|
//! | `apply`, `object` | records applied to the objects of a hidden dataset |
//! | `one` | one snapshot's stream, from BEGIN to END |
//! | `foreign` | attributes that came in the other byte order |
//! | `follow` | what was renamed, promoted or destroyed where a replication stream comes from |
//! | `many` | compound streams: names, properties, clones |
mod apply;
mod follow;
mod foreign;
mod many;
mod object;
mod one;

pub use many::Received;

use crate::dsl::{Property, PropertyValue};
use alloc::string::String;
use alloc::vec::Vec;

/// How names of the sender become names of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// The target names the dataset (or, with `@`, the snapshot).
    #[default]
    Exact,
    /// All of the sender's name but its pool goes below the target (`-d`).
    WithoutPool,
    /// Only the last part of the sender's name goes below the target (`-e`).
    LastPart,
}

/// Options of a receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// Changes and newer snapshots of the target go (`-F`); with a replication stream that builds on a snapshot also what the
    /// sender has no longer.
    pub force: bool,
    /// An interrupted receive keeps what it has (`-s`).
    pub resumable: bool,
    /// Names.
    pub naming: Naming,
    /// The snapshot that the received dataset becomes a clone of (`-o origin=`).
    pub origin: Option<String>,
    /// Set here, whatever the stream says (`-o`).
    pub set: Vec<(Property, PropertyValue)>,
    /// Not taken from the stream (`-x`).
    pub exclude: Vec<Property>,
    /// Nothing is written (`-n`): only what would be received is told.
    pub dry_run: bool,
}
