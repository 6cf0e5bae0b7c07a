//! Error numbers, and the one table that turns other crates' errors into them.
use linux_raw_sys::errno as e;
use mm::space::MemError;

/// An error number as system calls return it, negated, or one of the restart codes no application ever sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

/// The result of a system call.
pub type SysResult<T = usize> = Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = stringify!($name)] pub const $name: Self = Self(e::$name as u16);)*
            /// Its name, for traces.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::RESTARTSYS | Self::RESTARTNOHAND => "ERESTART",
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE EDEADLK
    ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP ENODATA EOVERFLOW ENOTSOCK EOPNOTSUPP EAFNOSUPPORT ETIMEDOUT ESTALE EDQUOT
}

impl Errno {
    /// Interrupted: repeated after a handler with `SA_RESTART` or without any handler, EINTR otherwise.
    pub const RESTARTSYS: Self = Self(512);
    /// Interrupted: repeated only if no handler ran.
    pub const RESTARTNOHAND: Self = Self(514);

    /// As a system call's return value.
    pub const fn to_return(self) -> i64 {
        -(self.0 as i64)
    }
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl From<vfs::Error> for Errno {
    fn from(error: vfs::Error) -> Self {
        use vfs::Error as V;
        match error {
            V::NotPermitted => Self::EPERM,
            V::NotFound => Self::ENOENT,
            V::Io => Self::EIO,
            V::NoSuchAddress => Self::ENXIO,
            V::BadFile => Self::EBADF,
            V::WouldBlock => Self::EAGAIN,
            V::NoMemory => Self::ENOMEM,
            V::Access => Self::EACCES,
            V::Fault => Self::EFAULT,
            V::Busy => Self::EBUSY,
            V::Exists => Self::EEXIST,
            V::CrossDevice => Self::EXDEV,
            V::NoDevice => Self::ENODEV,
            V::NotDirectory => Self::ENOTDIR,
            V::IsDirectory => Self::EISDIR,
            V::Invalid => Self::EINVAL,
            V::TableFull => Self::ENFILE,
            V::NotTty => Self::ENOTTY,
            V::TextBusy => Self::ETXTBSY,
            V::FileTooLarge => Self::EFBIG,
            V::NoSpace => Self::ENOSPC,
            V::NotSeekable => Self::ESPIPE,
            V::ReadOnly => Self::EROFS,
            V::TooManyLinks => Self::EMLINK,
            V::BrokenPipe => Self::EPIPE,
            V::Range => Self::ERANGE,
            V::Deadlock => Self::EDEADLK,
            V::NameTooLong => Self::ENAMETOOLONG,
            V::NotEmpty => Self::ENOTEMPTY,
            V::Loop => Self::ELOOP,
            V::NoData => Self::ENODATA,
            V::Overflow => Self::EOVERFLOW,
            V::Unsupported => Self::EOPNOTSUPP,
            V::Stale => Self::ESTALE,
            V::Quota => Self::EDQUOT,
            V::NotImplemented => Self::ENOSYS,
            V::Interrupted => Self::RESTARTSYS,
        }
    }
}

impl From<MemError> for Errno {
    fn from(error: MemError) -> Self {
        match error {
            MemError::NoMemory => Self::ENOMEM,
            MemError::Invalid => Self::EINVAL,
            MemError::Access => Self::EACCES,
            MemError::Exists => Self::EEXIST,
            MemError::Fault => Self::EFAULT,
            MemError::File(e) => e.into(),
        }
    }
}

impl From<hal::uaccess::BadAddress> for Errno {
    fn from(_: hal::uaccess::BadAddress) -> Self {
        Self::EFAULT
    }
}
