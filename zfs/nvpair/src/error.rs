//! Why a list could not be decoded or encoded.

/// Flat error of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NvError {
    /// The bytes end before the list does.
    #[error("list is truncated")]
    Truncated,
    /// The header names another encoding than the one asked for.
    #[error("not in the expected encoding")]
    BadEncoding,
    /// A list of another version than 0.
    #[error("unknown list version")]
    BadVersion,
    /// A type number the format does not define.
    #[error("unknown pair type")]
    BadType,
    /// Sizes or counts within a pair contradict each other.
    #[error("inconsistent pair")]
    BadPair,
    /// A name or string that is empty where it must not be, or contains a NUL.
    #[error("bad name or string")]
    BadString,
    /// Nested deeper than [`crate::DEPTH_MAX`].
    #[error("nested too deeply")]
    TooDeep,
    /// A length that does not fit the format's 32 bits.
    #[error("too large")]
    TooLarge,
}

/// Result of decoding or encoding.
pub type Result<T> = core::result::Result<T, NvError>;
