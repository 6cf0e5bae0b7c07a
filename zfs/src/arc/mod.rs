//! The cache of blocks.
mod cache;
mod holder;

pub use cache::{ArcBuf, ArcCache};
pub use holder::Holder;
