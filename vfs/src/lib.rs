//! The virtual file system: the traits a file system implements, and everything between them and a system call.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | [`FileSystem`] and [`Vnode`], what a file system implements |
//! | [`attr`] | attributes, times, types |
//! | [`io`] | where read data goes and written data comes from |
//! | [`error`] | what can go wrong |
//! | [`namespace`] | mounts, and every change of a name |
//! | [`walk`], [`open`], [`path`] | from paths to dentries and open files, and back |
//! | [`dentry`] | nodes of the name tree |
//! | [`access`] | permission checks |
//! | [`file`] | open files |
//! | [`mount`] | a mounted file system |
//! | [`range_lock`] | byte-range locks that make reads and writes atomic |
//! | [`advisory`] | flock, POSIX and OFD locks |
//! | [`device`], [`poll`] | character devices; readiness |
//! | [`ramfs`], [`devfs`] | file systems in memory |
//!
//! What it is not: a page cache (the file system shares its own pages through [`Vnode::map_page`]) and not the
//! Linux ABI (`kernel/linux` translates).
#![forbid(unsafe_code)]
#![cfg_attr(not(any(test, feature = "test-support")), no_std)]

extern crate alloc;

pub mod access;
pub mod advisory;
pub mod attr;
mod dcache;
pub mod dentry;
pub mod devfs;
pub mod device;
pub mod error;
pub mod file;
pub mod io;
pub mod mount;
pub mod namespace;
pub mod node;
pub mod open;
pub mod path;
pub mod poll;
pub mod ramfs;
pub mod range_lock;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
pub mod walk;

pub use access::{Access, Caller, check_access};
pub use advisory::{FileKey, LockKind, LockOwner, LockTable, RecordLock};
pub use attr::{Attr, Cred, DeviceId, FileType, SetAttr, SetTime, StatFs, TimeSpec, without_set_id};
pub use dentry::{Dentry, DentryRef, Name};
pub use device::{CharDevice, DeviceTable};
pub use error::{Error, Result};
pub use file::{File, FlagCell, OFFSET_MAX, OpenFlags, Whence};
pub use io::{ReadSink, SliceSink, SliceSource, WriteSource};
pub use mount::{Mount, MountFlags, MountInfo};
pub use namespace::{NAME_MAX, Namespace};
pub use node::{
    CloneMode, DirEntry, FallocateMode, FileSystem, Fsync, MapAccess, NameCaching, NewNode, RenameMode,
    SeekWhat, Vnode, VnodeRef, XattrMode,
};
pub use poll::{PollQueue, PollWatcher, Pollable, Readiness};
pub use range_lock::{RangeGuard, RangeLock};
pub use walk::{Last, Parent, WalkFlags, WalkFrom};
