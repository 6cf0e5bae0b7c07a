//! The cache and its buffers.
use super::holder::Holder;
use abd::Abd;
use alloc::sync::{Arc, Weak};
use ondisk::BlkPtr;

/// A cached block.
#[derive(Clone, Debug)]
pub struct ArcBuf {
    data: Abd,
}

impl ArcBuf {
    /// The content: decompressed, little-endian.
    pub fn abd(&self) -> &Abd {
        &self.data
    }

    /// Notes a use that did not come through [`crate::zio::Storage::read`]. One or two loads, at most one store.
    pub fn touch(&self) {}

    /// Registers who keeps the buffer; replaces an earlier one.
    pub fn set_holder(&self, _holder: Weak<dyn Holder>) {}
}

/// The cache.
#[derive(Debug)]
pub struct ArcCache {}

impl ArcCache {
    /// A cache that keeps to `target` bytes.
    pub fn new(_target: u64) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Puts freshly written data into the cache under its new pointer (replacing what was there).
    pub fn insert(&self, _bp: &BlkPtr, data: Abd) -> ArcBuf {
        ArcBuf { data }
    }

    /// Changes the target; what is above it is evicted soon.
    pub fn set_target(&self, _bytes: u64) {}

    /// Evicts up to `bytes`; how many were freed.
    pub fn shrink(&self, _bytes: u64) -> u64 {
        0
    }

    /// Bytes of buffers in use and cached.
    pub fn used(&self) -> u64 {
        0
    }
}
