//! Why a dataset cannot be mounted, and how ZFS's errors become the file system's.

/// Why a dataset is no file system for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// ZFS's error.
    #[error("{0}")]
    Zfs(#[from] zfs::Error),
    /// The file system's error (making a mount point, mounting).
    #[error("{0}")]
    Vfs(#[from] vfs::Error),
    /// A volume, or something else that is not a file system.
    #[error("not a file system")]
    NotFilesystem,
    /// Its version is not 3, 4 or 5.
    #[error("unsupported file system version {0}")]
    Version(u64),
    /// Names are compared without regard to case.
    #[error("case-insensitive names are not supported")]
    CaseInsensitive,
    /// Names are normalised before they are compared.
    #[error("normalised names are not supported")]
    Normalized,
}

/// The result of a mount.
pub type Result<T> = core::result::Result<T, Error>;

/// What an error of ZFS is to a system call.
pub(crate) fn to_vfs(e: zfs::Error) -> vfs::Error {
    match e {
        zfs::Error::NotFound => vfs::Error::NotFound,
        zfs::Error::Exists => vfs::Error::Exists,
        zfs::Error::NoSpace => vfs::Error::NoSpace,
        zfs::Error::Quota => vfs::Error::Quota,
        zfs::Error::Busy => vfs::Error::Busy,
        zfs::Error::ReadOnly | zfs::Error::FeatureReadOnly => vfs::Error::ReadOnly,
        zfs::Error::Invalid => vfs::Error::Invalid,
        zfs::Error::NameTooLong => vfs::Error::NameTooLong,
        zfs::Error::TooLarge => vfs::Error::FileTooLarge,
        zfs::Error::NotEmpty => vfs::Error::NotEmpty,
        zfs::Error::Unsupported | zfs::Error::UnsupportedFeature | zfs::Error::UnsupportedVersion => {
            vfs::Error::Unsupported
        }
        zfs::Error::Interrupted => vfs::Error::Interrupted,
        zfs::Error::Fault => vfs::Error::Fault,
        zfs::Error::Encrypted => vfs::Error::Access,
        zfs::Error::Io
        | zfs::Error::Checksum
        | zfs::Error::Damaged
        | zfs::Error::Suspended
        | zfs::Error::StreamCut
        | zfs::Error::StreamDamaged
        | zfs::Error::NoBase
        | zfs::Error::Modified
        | zfs::Error::NoLabel
        | zfs::Error::ForeignLabel
        | zfs::Error::MissingVdev
        | zfs::Error::MissingLog
        | zfs::Error::NoUberblock => vfs::Error::Io,
    }
}

/// Turns a result of ZFS into one of a system call.
pub(crate) trait IntoVfs<T> {
    fn vfs(self) -> vfs::Result<T>;
}

impl<T> IntoVfs<T> for zfs::Result<T> {
    #[inline]
    fn vfs(self) -> vfs::Result<T> {
        self.map_err(to_vfs)
    }
}
