//! A pure-Rust ZFS, on-disk compatible with OpenZFS: pools, transactions, datasets.
//!
//! What it is not: POSIX (that is `zfs/zpl`), and not a driver (that is `blockdev`). The same crate runs in the
//! guest, in the host tools, in fuzzers and in the simulator; it blocks, spawns and reads clocks only through `rt`.
//! How the parts meet, who may call whom and in which lock order: `docs/ZFS-INTERNALS.md`.
//!
//! | module | holds |
//! |---|---|
//! | [`error`], [`event`] | the one error, and the records that carry its detail |
//! | [`vdev`] | devices of the pool, their queues |
//! | [`zio`] | verified reads, prepared and issued writes, frees |
//! | [`metaslab`] | free space, allocation, space maps |
//! | [`brt`] | blocks that several files share |
//! | [`arc`] | the cache of blocks |
//! | [`dmu`] | objects: dnodes, buffers, transactions, object sets and their syncing |
//! | [`txg`] | transaction groups: open, quiescing, syncing; the dirty-data throttle |
//! | [`zap`], [`sa`] | name-value objects; system attributes |
//! | [`dsl`] | datasets, properties, space accounting |
//! | [`scan`] | scrub, resilver |
//! | [`send`] | snapshots as streams, and back |
//! | [`spa`] | the pool: create, import, sync, export |
//! | [`bugs`] | deliberate mistakes for the simulator to find, compiled out everywhere else |
//! | [`verify`] | the full walk of a pool |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arc;
pub mod brt;
pub mod bugs;
pub mod dmu;
pub mod dsl;
pub mod error;
pub mod event;
pub mod metaslab;
pub mod sa;
pub mod scan;
pub mod send;
pub mod spa;
pub mod txg;
pub mod vdev;
pub mod verify;
pub mod zap;
pub mod zil;
pub mod zio;

pub use error::{Error, Result};
