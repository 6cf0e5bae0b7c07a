//! What can go wrong with a block request.

/// A block device's errors. Detail goes to the log, not into the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The device reported an error, or a completion was lost.
    #[error("input/output error")]
    Io,
    /// The device is gone.
    #[error("device is gone")]
    Gone,
    /// The request does not fit the geometry: out of range, unaligned, too large.
    #[error("request does not fit the device's geometry")]
    Invalid,
    /// The device does not do this (discard, write-zeroes).
    #[error("operation not supported by the device")]
    Unsupported,
    /// The device or file is read-only.
    #[error("device is read-only")]
    ReadOnly,
    /// The medium is full (thin provisioning, a host file system without space).
    #[error("no space on the medium")]
    NoSpace,
    /// No answer in time.
    #[error("timed out")]
    Timeout,
}
