//! Objects: dnodes, buffers, transactions, object sets and their syncing.
//!
//! What it is not: it knows neither names ([`crate::zap`]) nor attributes ([`crate::sa`]) nor datasets
//! ([`crate::dsl`]). How it meets them: `docs/ZFS-INTERNALS.md`, section 4.
//!
//! | module | holds |
//! |---|---|
//! | `config` | how an object set is opened, what it asks of its dataset |
//! | `tx`, `space` | transactions; whether they have the space they may need |
//! | `objset`, `table`, `alloc` | the object set; dnodes in memory; numbers for new objects |
//! | `dnode`, `phys`, `versions` | the object; what the disk has of it; what each group in flight sees |
//! | `dbuf`, `tree` | buffers, and finding them |
//! | `lookup`, `read`, `prefetch`, `seek` | from block number to content; reading; reading ahead; data and holes |
//! | `write`, `free`, `ranges` | changing and freeing blocks |
//! | `clone` | sharing blocks with another object |
//! | `sync` | writing what a group changed |
//!
//! Lock ranks, in the order they are taken: 640 a CPU's numbers, 645 their sources, 650 dnode table, 655 accounting
//! objects, 656 unborn objects, 700 a dnode's open state, 750 a buffer, 760 its noted frees, 770 its phys, 780 lists
//! of dirty things, 790 root block and properties. No lock covers two buffers or two dnodes.
mod alloc;
mod clone;
mod config;
mod dbuf;
mod dnode;
mod free;
mod lookup;
mod objset;
mod phys;
mod prefetch;
mod ranges;
mod read;
mod seek;
mod space;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod tx;
mod versions;
mod write;

pub use config::{FeatureUse, NewObject, ObjsetConfig, ObjsetHooks, ObjsetProperties, Owner};
pub use dnode::Dnode;
pub use objset::Objset;
pub use read::Piece;
pub use seek::Seek;
pub use sync::{BlockCopy, Logged};
pub use tx::{DmuTx, TxSpace};
