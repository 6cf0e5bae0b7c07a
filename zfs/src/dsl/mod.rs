//! Datasets: directories, datasets, snapshots, their properties and their space accounting.
//!
//! What it is not: file systems (`zfs/zpl`), objects ([`crate::dmu`]) or the pool's life ([`crate::spa`]).
//!
//! | module | holds |
//! |---|---|
//! | [`property`] | the properties: names, values, defaults |
//! | [`dataset`] | an open dataset, what callers see of closed ones |
pub mod dataset;
pub mod property;

pub use dataset::{Dataset, DatasetInfo, DatasetKind, DatasetProperties, DatasetSpace};
pub use property::{Property, PropertyValue, Source};
