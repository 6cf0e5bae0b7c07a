//! Why bytes could not be verified, compressed, or decompressed.

/// Flat error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CodecError {
    /// The digest is not the expected one, or its trailer is missing.
    #[error("checksum mismatch")]
    Mismatch,
    /// The compressed data does not expand to the size it should.
    #[error("corrupt compressed data")]
    Corrupt,
    /// The algorithm is not built in.
    #[error("algorithm not supported")]
    Unsupported,
    /// The algorithm needs the pool's salt.
    #[error("checksum salt missing")]
    NoSalt,
}

/// Result of verifying or decompressing.
pub type Result<T> = core::result::Result<T, CodecError>;
