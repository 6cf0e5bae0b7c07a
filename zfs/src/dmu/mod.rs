//! Objects: dnodes, buffers, transactions, object sets and their syncing.
mod config;
mod dnode;
mod objset;
mod tx;

pub use config::{FeatureUse, NewObject, ObjsetConfig, ObjsetHooks, ObjsetProperties, Owner};
pub use dnode::{Dnode, Piece, Seek};
pub use objset::Objset;
pub use tx::{DmuTx, TxSpace};
