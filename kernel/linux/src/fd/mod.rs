//! Open files as system calls see them.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | descriptors |
//! | [`vnode`] | files, directories and devices of the file systems |
//! | [`pipe`] | pipes and FIFOs |
//! | [`event`] | eventfd |
//! | [`timer`] | timerfd |
//! | [`epoll`] | epoll instances |
//! | [`console`] | the terminal: line discipline, signals from keys |
pub mod console;
pub mod epoll;
pub mod event;
pub mod pipe;
pub mod table;
pub mod timer;
pub mod vnode;

pub use table::FdTable;

use crate::errno::{Errno, SysResult};
use crate::task::Task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use vfs::{Attr, DeviceId, File, FileType, FlagCell, OpenFlags, Pollable, ReadSink, TimeSpec, WriteSource};

/// A shared open file description.
pub type FileRef = Arc<dyn FileObject>;

/// What a descriptor refers to.
pub trait FileObject: Pollable + Any {
    /// The file of a file system, if it is one.
    fn as_file(&self) -> Option<&Arc<File>> {
        None
    }

    /// Its open flags.
    fn flag_cell(&self) -> &FlagCell;

    /// How it is open.
    fn flags(&self) -> OpenFlags {
        self.flag_cell().get()
    }

    /// Reads at the offset, if it has one.
    ///
    /// # Errors
    /// As read(2). EINVAL where there is nothing to read.
    fn read(&self, _task: &Task, _sink: &mut dyn ReadSink) -> SysResult {
        Err(Errno::EINVAL)
    }

    /// Writes at the offset, if it has one.
    ///
    /// # Errors
    /// As write(2). EINVAL where nothing can be written.
    fn write(&self, _task: &Task, _source: &mut dyn WriteSource) -> SysResult {
        Err(Errno::EINVAL)
    }

    /// ioctl(2) beyond what every descriptor has.
    ///
    /// # Errors
    /// [`Errno::ENOTTY`].
    fn ioctl(&self, _task: &Task, _request: u32, _arg: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }

    /// Attributes.
    ///
    /// # Errors
    /// When they cannot be read.
    fn getattr(&self) -> SysResult<Attr>;

    /// What /proc/self/fd shows.
    fn describe(&self) -> Vec<u8>;
}

static NEXT_INO: AtomicU64 = AtomicU64::new(1);

/// A fresh inode number for objects without a file system.
pub fn anonymous_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// An open file as the kind of object that some calls need.
pub fn downcast<T: FileObject>(file: &FileRef) -> Option<&T> {
    let any: &dyn Any = &**file;
    any.downcast_ref()
}

/// Attributes of an object without a file system.
pub fn anonymous_attr(ino: u64, kind: FileType, perm: u32) -> Attr {
    let now = now();
    Attr {
        ino,
        generation: 0,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        block_size: 4096,
        rdev: DeviceId::default(),
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
    }
}

/// The wall clock.
pub fn now() -> TimeSpec {
    let now = rt::time::wall_clock();
    TimeSpec { secs: now.secs, nanos: now.nanos }
}
