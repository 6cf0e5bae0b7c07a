//! The one error of this crate. Detail (which object, which offset, which device) goes into an [`crate::event`].

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// No copy of a block could be read.
    #[error("input/output error")]
    Io,
    /// No copy of a block has the right checksum.
    #[error("checksum error")]
    Checksum,
    /// The content of a block, though its checksum is right, is not what its type demands.
    #[error("damaged on-disk structure")]
    Damaged,
    /// No such object, entry, dataset or pool.
    #[error("not found")]
    NotFound,
    /// Exists already.
    #[error("exists already")]
    Exists,
    /// No space left.
    #[error("no space left")]
    NoSpace,
    /// A quota is reached.
    #[error("quota exceeded")]
    Quota,
    /// In use.
    #[error("in use")]
    Busy,
    /// Opened read-only.
    #[error("read-only")]
    ReadOnly,
    /// An argument makes no sense.
    #[error("invalid argument")]
    Invalid,
    /// A name is too long.
    #[error("name too long")]
    NameTooLong,
    /// Past the largest size.
    #[error("too large")]
    TooLarge,
    /// Not empty.
    #[error("not empty")]
    NotEmpty,
    /// Something this build does not do.
    #[error("not supported")]
    Unsupported,
    /// No valid label: not a pool's device.
    #[error("no ZFS label")]
    NoLabel,
    /// The label belongs to something else (another pool, a spare, a cache device) or its pieces contradict each
    /// other.
    #[error("foreign or contradictory label")]
    ForeignLabel,
    /// A device that the pool needs is missing.
    #[error("a device of the pool is missing")]
    MissingVdev,
    /// A log device is missing. The pool opens without it when that is asked for; what only it holds is then given up.
    #[error("a log device of the pool is missing")]
    MissingLog,
    /// No uberblock could be used.
    #[error("no usable uberblock")]
    NoUberblock,
    /// The pool uses a feature this build cannot read; the event names it.
    #[error("unsupported feature")]
    UnsupportedFeature,
    /// The pool uses a feature this build cannot write: read-only import is possible; the event names it.
    #[error("feature supported read-only")]
    FeatureReadOnly,
    /// The pool's version is too new or too old.
    #[error("unsupported pool version")]
    UnsupportedVersion,
    /// Wrong or missing key.
    #[error("encrypted")]
    Encrypted,
    /// The pool is suspended after a write that failed: nothing is acknowledged any more.
    #[error("pool is suspended")]
    Suspended,
    /// The caller was asked to stop (shutdown, interrupt).
    #[error("interrupted")]
    Interrupted,
    /// A stream ends before its end.
    #[error("the stream is cut short")]
    StreamCut,
    /// A stream's checksum is wrong, or a record makes no sense.
    #[error("the stream is damaged")]
    StreamDamaged,
    /// An incremental stream's base is not there, or not where the stream goes.
    #[error("the base of the incremental stream is not there")]
    NoBase,
    /// What the stream would replace has changed since the snapshot that is the stream's base.
    #[error("modified since the most recent snapshot")]
    Modified,
    /// A caller's source or sink failed while data moved; what was moved before stays moved.
    #[error("fault in caller's memory")]
    Fault,
}

/// The result of an operation of this crate.
pub type Result<T> = core::result::Result<T, Error>;

impl From<blockdev::Error> for Error {
    fn from(e: blockdev::Error) -> Self {
        match e {
            blockdev::Error::ReadOnly => Self::ReadOnly,
            blockdev::Error::Unsupported => Self::Unsupported,
            blockdev::Error::NoSpace
            | blockdev::Error::Io
            | blockdev::Error::Gone
            | blockdev::Error::Invalid
            | blockdev::Error::Timeout => Self::Io,
        }
    }
}

/// What does not parse is damage, whatever it is in detail.
impl From<ondisk::OndiskError> for Error {
    fn from(_: ondisk::OndiskError) -> Self {
        Self::Damaged
    }
}
