//! One flat error; `kernel/linux` has the one table that turns it into errno.

/// File-system errors, named for the errno they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// EPERM
    #[error("operation not permitted")]
    NotPermitted,
    /// ENOENT
    #[error("no such file or directory")]
    NotFound,
    /// EIO
    #[error("input/output error")]
    Io,
    /// ENXIO
    #[error("no such device or address, or no data at or after the offset")]
    NoSuchAddress,
    /// EBADF
    #[error("bad file descriptor")]
    BadFile,
    /// EAGAIN
    #[error("would block")]
    WouldBlock,
    /// ENOMEM
    #[error("out of memory")]
    NoMemory,
    /// EACCES
    #[error("permission denied")]
    Access,
    /// EFAULT
    #[error("bad address")]
    Fault,
    /// EBUSY
    #[error("device or resource busy")]
    Busy,
    /// EEXIST
    #[error("file exists")]
    Exists,
    /// EXDEV
    #[error("cross-device link")]
    CrossDevice,
    /// ENODEV
    #[error("no such device")]
    NoDevice,
    /// ENOTDIR
    #[error("not a directory")]
    NotDirectory,
    /// EISDIR
    #[error("is a directory")]
    IsDirectory,
    /// EINVAL
    #[error("invalid argument")]
    Invalid,
    /// ENFILE
    #[error("file table overflow")]
    TableFull,
    /// ENOTTY
    #[error("inappropriate ioctl for device")]
    NotTty,
    /// ETXTBSY
    #[error("text file busy")]
    TextBusy,
    /// EFBIG
    #[error("file too large")]
    FileTooLarge,
    /// ENOSPC
    #[error("no space left on device")]
    NoSpace,
    /// ESPIPE
    #[error("illegal seek")]
    NotSeekable,
    /// EROFS
    #[error("read-only file system")]
    ReadOnly,
    /// EMLINK
    #[error("too many links")]
    TooManyLinks,
    /// EPIPE
    #[error("broken pipe")]
    BrokenPipe,
    /// ERANGE
    #[error("result too large")]
    Range,
    /// EDEADLK
    #[error("resource deadlock avoided")]
    Deadlock,
    /// ENAMETOOLONG
    #[error("file name too long")]
    NameTooLong,
    /// ENOTEMPTY
    #[error("directory not empty")]
    NotEmpty,
    /// ELOOP
    #[error("too many levels of symbolic links")]
    Loop,
    /// ENODATA
    #[error("no such attribute")]
    NoData,
    /// EOVERFLOW
    #[error("value too large")]
    Overflow,
    /// ESTALE
    #[error("stale file handle")]
    Stale,
    /// EDQUOT
    #[error("quota exceeded")]
    Quota,
    /// EOPNOTSUPP
    #[error("operation not supported")]
    Unsupported,
    /// ENOSYS
    #[error("function not implemented")]
    NotImplemented,
    /// EINTR
    #[error("interrupted")]
    Interrupted,
}

/// The result of a file-system operation.
pub type Result<T> = core::result::Result<T, Error>;
