//! How the cache asks those above it to let a block go.

/// Someone who keeps an [`super::ArcBuf`] for later (a dbuf), and can give it up.
///
/// The cache calls this without any of its locks held, on its own thread or on that of a caller of
/// [`super::ArcCache::shrink`]. Implementations must not block on a lock that may be held across a read.
pub trait Holder: Send + Sync {
    /// Drops the reference to the buffer unless it is in use or dirty. True if it was dropped.
    fn try_evict(&self) -> bool;
}
