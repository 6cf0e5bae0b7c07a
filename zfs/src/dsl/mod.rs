//! Datasets: directories, datasets, snapshots, their properties and their space accounting.
//!
//! What it is not: file systems (`zfs/zpl`), objects ([`crate::dmu`]) or the pool's life ([`crate::spa`]).
//!
//! | module | holds |
//! |---|---|
//! | [`property`] | the properties: names, values, defaults |
//! | [`dataset`] | an open dataset, what callers see of closed ones |
//! | `props` | where values are kept, inheritance |
//! | `dir` | directories, space up the tree |
//! | [`figures`], `diff` | space figures and facts; what differs between two of a line |
//! | `ledger`, `book` | what a dataset gains and loses in a transaction group; entering it in the figures |
//! | `bpobj`, `deadlist`, `freeing` | lists of blocks to be freed some day, and freeing them |
//! | `snapshot`, `holds`, `bookmark` | taking and destroying snapshots; what keeps them; marks that outlive them |
//! | `promote`, `rollback`, `livelist` | clones and their origins |
//! | `limits` | how many file systems and snapshots there may be below a directory |
//! | `reap`, `log` | freeing a destroyed tree; emptying intent logs |
//! | `create`, `destroy`, `names` | making, unmaking and finding datasets |
pub(crate) mod book;
pub(crate) mod bookmark;
pub(crate) mod bpobj;
pub(crate) mod create;
pub mod dataset;
pub(crate) mod deadlist;
pub(crate) mod destroy;
pub(crate) mod diff;
pub(crate) mod dir;
pub mod figures;
pub(crate) mod freeing;
pub(crate) mod holds;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod livelist;
pub(crate) mod log;
pub mod names;
pub(crate) mod promote;
pub mod property;
pub(crate) mod props;
pub(crate) mod reap;
pub(crate) mod rollback;
pub(crate) mod snapshot;
pub(crate) mod swap;

pub use dataset::{Dataset, DatasetInfo, DatasetKind, DatasetProperties, DatasetSpace};
pub use figures::Figures;
pub use names::DATASET_NAME_MAX;
pub use property::{Property, PropertyValue, Source};
