//! Free space: which bytes of the vdevs may be written next.
mod range_tree;
mod store;

pub use range_tree::RangeTree;
pub use store::{MosStore, NewMapObject};
