//! Files, directories and devices of the file systems.
//!
//! What it adds to [`vfs::File`]: the terminal's ioctls, and coherence with shared mappings: what is dirty in a
//! mapping is written back before the range is read or written by a call, and mappings see what a call wrote.
use super::console::Console;
use super::{FileObject, FileRef};
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use crate::task::Task;
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use mm::space::Object;
use vfs::{Attr, File, FileType, FlagCell, OpenFlags, PollQueue, Pollable, ReadSink, Readiness, WriteSource};

/// An open file of a file system.
pub struct VnodeFile(Arc<File>);

impl VnodeFile {
    /// Wraps an open file.
    pub fn wrap(file: Arc<File>) -> FileRef {
        Arc::new(Self(file))
    }

    /// The terminal, if it is one.
    pub fn console(&self) -> Option<&Console> {
        self.0.device()?.as_any().downcast_ref()
    }
}

/// Writes dirty mapped pages of a range back before a call looks at or changes it.
pub fn settle_mappings(file: &File, range: Range<u64>) -> SysResult<Option<Arc<Object>>> {
    if file.device().is_some() {
        return Ok(None);
    }
    let Some(object) = Object::find(file.vnode()) else { return Ok(None) };
    object.write_back(range)?;
    Ok(Some(object))
}

/// Reads at `offset`.
///
/// # Errors
/// As pread(2).
pub fn read_at(file: &File, offset: u64, sink: &mut dyn ReadSink) -> SysResult {
    if file.vnode().kind() == FileType::Directory {
        return Err(Errno::EISDIR);
    }
    settle_mappings(file, offset..offset.saturating_add(sink.remaining() as u64))?;
    Ok(file.read_at(offset, sink)?)
}

/// Writes at `offset`.
///
/// # Errors
/// As pwrite(2).
pub fn write_at(file: &File, offset: u64, source: &mut dyn WriteSource) -> SysResult {
    let range = offset..offset.saturating_add(source.remaining() as u64);
    let mapped = settle_mappings(file, range.clone())?;
    let n = file.write_at(offset, source)?;
    if let Some(object) = mapped {
        object.refresh(range.start..range.start + n as u64);
    }
    Ok(n)
}

impl FileObject for VnodeFile {
    fn as_file(&self) -> Option<&Arc<File>> {
        Some(&self.0)
    }

    fn flag_cell(&self) -> &FlagCell {
        self.0.flag_cell()
    }

    fn read(&self, _task: &Task, sink: &mut dyn ReadSink) -> SysResult {
        if self.0.vnode().kind() == FileType::Directory {
            return Err(Errno::EISDIR);
        }
        if self.0.device().is_none() && Object::find(self.0.vnode()).is_some() {
            let at = self.0.offset();
            settle_mappings(&self.0, at..at.saturating_add(sink.remaining() as u64))?;
        }
        Ok(self.0.read(sink)?)
    }

    fn write(&self, _task: &Task, source: &mut dyn WriteSource) -> SysResult {
        if let Some(device) = self.0.device() {
            // Nothing depends on the offset of /dev/null, so its writers need not take turns.
            if device.as_any().is::<vfs::devfs::Null>() {
                self.0.check_open_for(OpenFlags::WRITE)?;
                return Ok(source.remaining());
            }
            return Ok(self.0.write(source)?);
        }
        let Some(object) = Object::find(self.0.vnode()) else { return Ok(self.0.write(source)?) };
        // The offset may move before the write does; the whole file is settled, which is rare and always right.
        object.write_back(0..u64::MAX)?;
        let n = self.0.write(source)?;
        let end = self.0.offset();
        object.refresh(end.saturating_sub(n as u64)..end);
        Ok(n)
    }

    fn ioctl(&self, task: &Task, request: u32, arg: u64) -> SysResult {
        if let Some(console) = self.console() {
            return console.ioctl(task, request, arg);
        }
        if request == linux_raw_sys::ioctl::FIONREAD && self.0.vnode().kind() == FileType::Regular {
            let left = self.0.getattr()?.size.saturating_sub(self.0.offset());
            user::write(arg, &i32::try_from(left).unwrap_or(i32::MAX))?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }

    fn getattr(&self) -> SysResult<Attr> {
        Ok(self.0.getattr()?)
    }

    fn describe(&self) -> Vec<u8> {
        let ns = &kernel().namespace;
        let mut path = ns.path_of(self.0.dentry(), ns.root());
        if self.0.dentry().is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}

impl Pollable for VnodeFile {
    fn readiness(&self) -> Readiness {
        self.0.readiness()
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Pollable::poll_queue(&*self.0)
    }
}
