//! Why bytes were refused. One flat `Copy` enum: detail about which block it was belongs to the caller's event record.

/// A structure read from disk that cannot be what its place says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OndiskError {
    /// The buffer is shorter than the structure, or a position inside it points past its end.
    #[error("structure is truncated")]
    Truncated,
    /// A magic number is neither the expected one nor its byte-swapped form.
    #[error("bad magic number")]
    BadMagic,
    /// The magic number is byte-swapped: the block must go through [`crate::byteswap`] first.
    #[error("structure is in foreign byte order")]
    ForeignEndian,
    /// A DMU object type that no version of the format defines.
    #[error("unknown object type")]
    BadType,
    /// A checksum id that no version of the format defines.
    #[error("unknown checksum algorithm")]
    BadChecksumId,
    /// A compression id that no version of the format defines.
    #[error("unknown compression algorithm")]
    BadCompressionId,
    /// A size field outside the limits of the format.
    #[error("size out of range")]
    BadSize,
    /// An offset that cannot be expressed in bytes.
    #[error("offset out of range")]
    BadOffset,
    /// An indirection level outside the limits of the format.
    #[error("indirection level out of range")]
    BadLevel,
    /// An embedded block pointer of unknown payload type.
    #[error("unknown embedded payload type")]
    BadEmbedded,
    /// A count (block pointers, entries, slots) outside the limits of the format.
    #[error("count out of range")]
    BadCount,
    /// Parts of one structure contradict each other.
    #[error("inconsistent structure")]
    Inconsistent,
    /// The value does not fit the field it was to be encoded into.
    #[error("value does not fit the on-disk field")]
    DoesNotFit,
}

/// Result of decoding or encoding an on-disk structure.
pub type Result<T> = core::result::Result<T, OndiskError>;
