//! The virtual file system: the traits a file system implements, and everything between them and a system call.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | [`FileSystem`] and [`Vnode`], what a file system implements |
//! | [`attr`] | attributes, times, types |
//! | [`io`] | where read data goes and written data comes from |
//! | [`error`] | what can go wrong |
//!
//! What it is not: a page cache (the file system shares its own pages through [`Vnode::map_page`]) and not the
//! Linux ABI (`kernel/linux` translates).
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod attr;
pub mod error;
pub mod io;
pub mod node;

pub use attr::{Attr, Cred, DeviceId, FileType, SetAttr, SetTime, StatFs, TimeSpec};
pub use error::{Error, Result};
pub use io::{ReadSink, SliceSink, SliceSource, WriteSource};
pub use node::{
    DirEntry, FallocateMode, FileSystem, Fsync, MapAccess, NewNode, RenameMode, SeekWhat, Vnode, VnodeRef,
    XattrMode,
};
