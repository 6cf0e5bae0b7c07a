//! Attributes of files and file systems.
use alloc::string::String;

/// Type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

impl FileType {
    /// The `S_IFMT` bits of a mode.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The type a mode's `S_IFMT` bits name.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Self::Fifo,
            0o020_000 => Self::CharDevice,
            0o040_000 => Self::Directory,
            0o060_000 => Self::BlockDevice,
            0o100_000 => Self::Regular,
            0o120_000 => Self::Symlink,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }
}

/// Time since 1970; `nanos` is 0..1_000_000_000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpec {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// The rest.
    pub nanos: u32,
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceId {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// On whose behalf. Permission checks are the path walk's and system calls' business, not the file system's; the
/// file system uses this for the ownership of what it creates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cred {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// What stat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Generation: tells reuses of an inode number apart.
    pub generation: u64,
    /// Type.
    pub kind: FileType,
    /// Permission bits with set-id and sticky bits (0o7777).
    pub perm: u32,
    /// Hard links.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte units allocated.
    pub blocks: u64,
    /// Preferred I/O size, bytes.
    pub block_size: u32,
    /// For devices.
    pub rdev: DeviceId,
    /// Last access.
    pub atime: TimeSpec,
    /// Last content change.
    pub mtime: TimeSpec,
    /// Last attribute change.
    pub ctime: TimeSpec,
    /// Creation.
    pub btime: TimeSpec,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The file system's clock.
    Now,
    /// This one.
    To(TimeSpec),
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits (0o7777).
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncate or extend to this many bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last content change.
    pub mtime: Option<SetTime>,
    /// Last attribute change, for tools that restore exact state; otherwise it becomes now.
    pub ctime: Option<TimeSpec>,
    /// Creation, for tools that restore exact state.
    pub btime: Option<TimeSpec>,
}

/// What statfs tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// `f_type`.
    pub magic: u32,
    /// Unit of the block counts, bytes.
    pub block_size: u32,
    /// Size.
    pub blocks: u64,
    /// Free.
    pub blocks_free: u64,
    /// Free for ordinary users.
    pub blocks_avail: u64,
    /// Inodes, used and free.
    pub files: u64,
    /// Inodes free.
    pub files_free: u64,
    /// File-system id.
    pub fsid: u64,
    /// Longest name, bytes.
    pub name_max: u32,
    /// No writes.
    pub is_read_only: bool,
    /// Source, as in /proc/mounts.
    pub source: String,
    /// Type, as in /proc/mounts.
    pub fs_type: &'static str,
}

/// Permissions without the bits that let a program run as its owner or group. The group's bit counts only where the group
/// may execute: elsewhere it once meant mandatory locking.
pub const fn without_set_id(perm: u32) -> u32 {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2000;
    const GROUP_EXECUTE: u32 = 0o10;
    let dropped = if perm & GROUP_EXECUTE != 0 { SET_UID | SET_GID } else { SET_UID };
    perm & !dropped
}
