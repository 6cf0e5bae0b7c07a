//! What a file system implements.
//!
//! Locking contract: concurrent reads and writes of one file run in parallel unless their byte ranges overlap (the
//! file system holds a byte-range lock, never one lock for the whole file, across I/O). A write is atomic against
//! reads of the same range. Directory operations are atomic.
//!
//! Names are bytes, without `/` and NUL, never empty, `.` or `..`: the path walk deals with those.
use crate::attr::{Attr, Cred, DeviceId, FileType, SetAttr, StatFs};
use crate::error::{Error, Result};
use crate::io::{ReadSink, WriteSource};
use abd::PageRef;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;

/// A shared vnode.
pub type VnodeRef = Arc<dyn Vnode>;

/// A mounted (or mountable) file system.
pub trait FileSystem: Send + Sync {
    /// Its root directory.
    ///
    /// # Errors
    /// When it cannot be read.
    fn root(&self) -> Result<VnodeRef>;

    /// Size and use.
    ///
    /// # Errors
    /// When it cannot be told.
    fn statfs(&self) -> Result<StatFs>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// When it is not.
    fn sync(&self) -> Result<()>;

    /// Ends the mount: everything durable, nothing in use any more.
    ///
    /// # Errors
    /// [`Error::Busy`] while vnodes are held open, or what sync may report.
    fn unmount(&self) -> Result<()>;

    /// A number that tells mounted file systems apart (`st_dev`).
    fn device_id(&self) -> DeviceId;

    /// Which names the name cache may keep.
    fn name_caching(&self) -> NameCaching {
        NameCaching::All
    }
}

/// Which names of a file system the name cache may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameCaching {
    /// All, also that there is none: names change only through the name space.
    All,
    /// Those that exist: new ones may appear by themselves.
    Existing,
    /// None: names come and go by themselves (procfs).
    Never,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum NewNode<'a> {
    /// An empty regular file.
    Regular,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice(DeviceId),
    /// A block device.
    BlockDevice(DeviceId),
    /// A symbolic link to this target.
    Symlink(&'a [u8]),
    /// An empty directory.
    Directory,
}

/// What a rename does about an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swaps the two (`RENAME_EXCHANGE`).
    Exchange,
}

/// What must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Data and all attributes.
    All,
    /// Data and the attributes needed to read it back.
    Data,
}

/// What cloning does about content that is not on disk yet and so cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloneMode {
    /// It waits until it is: all of the range or nothing.
    Wait,
    /// It gives up, and may clone less than the range: the caller can copy.
    Ready,
}

/// What fallocate does with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallocateMode {
    /// Reserve; the size grows unless `keep_size`.
    Allocate {
        /// Leave the size alone.
        keep_size: bool,
    },
    /// Make it a hole; the size stays.
    PunchHole,
    /// Make it read as zeroes.
    ZeroRange {
        /// Leave the size alone.
        keep_size: bool,
    },
}

/// What to seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekWhat {
    /// Data.
    Data,
    /// A hole; the end of the file is one.
    Hole,
}

/// What a mapping of a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapAccess {
    /// Reading, or a private mapping's source.
    Read,
    /// A shared, writable mapping.
    Write,
}

/// What setxattr does about an existing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Any,
    /// Must not exist.
    Create,
    /// Must exist.
    Replace,
}

/// A directory entry, as `readdir` gives it.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// Type.
    pub kind: FileType,
    /// Where `readdir` goes on *after* this entry: not 0, below `i64::MAX`, stable while the entry exists.
    pub next_cursor: u64,
}

/// A file, directory or other object of a file system.
///
/// Operations that make no sense for its type fail with the errno Linux has for it; the defaults do that.
pub trait Vnode: Send + Sync {
    /// For a file system to recognise its own vnodes (link and rename targets).
    fn as_any(&self) -> &dyn Any;

    /// Its type.
    fn kind(&self) -> FileType;

    /// Its inode number.
    fn ino(&self) -> u64;

    /// Its file system.
    fn fs(&self) -> Arc<dyn FileSystem>;

    /// All attributes.
    ///
    /// # Errors
    /// When they cannot be read.
    fn getattr(&self) -> Result<Attr>;

    /// Changes attributes, all or none.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::NoSpace`], [`Error::FileTooLarge`], [`Error::IsDirectory`].
    fn setattr(&self, set: &SetAttr) -> Result<()>;

    /// The entry `name` of a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NameTooLong`].
    fn lookup(&self, _name: &[u8]) -> Result<VnodeRef> {
        Err(Error::NotDirectory)
    }

    /// Whether what is known of a directory's names stays true until someone changes them through this interface: not
    /// where they come and go by other ways.
    fn keeps_names(&self) -> bool {
        true
    }

    /// The parent of a directory (its own root's parent is itself).
    ///
    /// # Errors
    /// [`Error::NotDirectory`].
    fn parent(&self) -> Result<VnodeRef> {
        Err(Error::NotDirectory)
    }

    /// Makes an entry. `perm` already has the umask applied.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoSpace`], [`Error::ReadOnly`], [`Error::NotFound`] (the directory is removed).
    fn create(&self, _name: &[u8], _node: NewNode<'_>, _perm: u32, _cred: Cred) -> Result<VnodeRef> {
        Err(Error::NotDirectory)
    }

    /// Makes an unnamed regular file in this directory's file system (`O_TMPFILE`).
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no such thing.
    fn create_unnamed(&self, _perm: u32, _cred: Cred) -> Result<VnodeRef> {
        Err(Error::Unsupported)
    }

    /// Makes `name` another name of `target`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::CrossDevice`], [`Error::NotPermitted`] (a directory), [`Error::TooManyLinks`].
    fn link(&self, _name: &[u8], _target: &VnodeRef) -> Result<()> {
        Err(Error::NotDirectory)
    }

    /// Removes a name that is not a directory's. The object lives on while it is open.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`].
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Error::NotDirectory)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NotEmpty`].
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Error::NotDirectory)
    }

    /// Moves entry `from` of this directory to `to` of `to_dir`.
    ///
    /// # Errors
    /// As rename(2): [`Error::Exists`], [`Error::NotEmpty`], [`Error::CrossDevice`], [`Error::Invalid`] (into itself).
    fn rename(&self, _from: &[u8], _to_dir: &VnodeRef, _to: &[u8], _mode: RenameMode) -> Result<()> {
        Err(Error::NotDirectory)
    }

    /// Calls `each` for the entries from `cursor` on (0: the first), until it returns false or none is left; false
    /// means the entry was *not* taken. Without `.` and `..`.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::Io`].
    fn readdir(&self, _cursor: u64, _each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        Err(Error::NotDirectory)
    }

    /// Reads from `offset` until the sink is full or the file ends; how much.
    ///
    /// # Errors
    /// [`Error::Io`] (a block that no copy of is good), [`Error::IsDirectory`], [`Error::Fault`].
    fn read(&self, _offset: u64, _sink: &mut dyn ReadSink) -> Result<usize> {
        Err(Error::Invalid)
    }

    /// Writes all of the source at `offset`; how much was written (less only if an error followed, or the source
    /// faulted, after some).
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Quota`], [`Error::FileTooLarge`], [`Error::Fault`].
    fn write(&self, _offset: u64, _source: &mut dyn WriteSource) -> Result<usize> {
        Err(Error::Invalid)
    }

    /// Writes all of the source at the end of the file, wherever that is; the offset it went to and how much.
    ///
    /// # Errors
    /// As `write`.
    fn append(&self, _source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        Err(Error::Invalid)
    }

    /// Makes what was written so far to `range` durable.
    ///
    /// # Errors
    /// When it is not durable.
    fn fsync(&self, _range: Range<u64>, _what: Fsync) -> Result<()> {
        Ok(())
    }

    /// Reserves, zeroes or punches `range`.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::NoSpace`].
    fn fallocate(&self, _mode: FallocateMode, _range: Range<u64>) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// The next data or hole at or after `offset`.
    ///
    /// # Errors
    /// [`Error::NoSuchAddress`] when there is none.
    fn seek(&self, _what: SeekWhat, _offset: u64) -> Result<u64> {
        Err(Error::Invalid)
    }

    /// Makes a range of this file share the blocks of another file's; how much, up to the other's end.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::CrossDevice`] for files that never share, [`Error::Invalid`] when the range or
    /// the files' blocks do not fit, [`Error::WouldBlock`] for what is not on disk in [`CloneMode::Ready`]: the caller
    /// copies by reading and writing.
    fn clone_range(&self, _to: u64, _source: &VnodeRef, _from: Range<u64>, _mode: CloneMode) -> Result<u64> {
        Err(Error::Unsupported)
    }

    /// The page of the file at `offset` (a multiple of the page size), for mapping. Bytes past the end of the file
    /// are zero. For [`MapAccess::Write`] the caller later reports what was changed with [`Vnode::write_page`].
    ///
    /// # Errors
    /// [`Error::NoSuchAddress`] past the end of the file, [`Error::Io`].
    fn map_page(&self, _offset: u64, _access: MapAccess) -> Result<PageRef> {
        Err(Error::NoDevice)
    }

    /// Takes over the content of a page that was changed through a mapping. Bytes past the end of the file are
    /// dropped.
    ///
    /// # Errors
    /// As `write`.
    fn write_page(&self, _offset: u64, _page: &[u8]) -> Result<()> {
        Err(Error::NoDevice)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Error::Invalid)
    }

    /// The value of an extended attribute; names with their prefix (`user.`...).
    ///
    /// # Errors
    /// [`Error::NoData`].
    fn getxattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Error::Unsupported)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoData`], [`Error::NoSpace`], [`Error::Range`].
    fn setxattr(&self, _name: &[u8], _value: &[u8], _mode: XattrMode) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// [`Error::NoData`].
    fn removexattr(&self, _name: &[u8]) -> Result<()> {
        Err(Error::Unsupported)
    }

    /// The names of all extended attributes.
    ///
    /// # Errors
    /// When they cannot be read.
    fn listxattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}
