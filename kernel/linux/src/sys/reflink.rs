//! Sharing blocks between files: `ioctl(FICLONE)`, `ioctl(FICLONERANGE)`, and what copy_file_range(2) makes of it.
//!
//! The ioctls share all of the range or fail, and wait for content that is not on disk yet. copy_file_range shares what
//! it can right now and copies the rest. Shared mappings are kept coherent as for reads and writes: what is dirty in one
//! is written back first, and those of the target see what it shows from then on.
use crate::errno::{Errno, SysResult};
use crate::fd::FileRef;
use crate::fd::vnode::settle_mappings;
use crate::task::Task;
use crate::user;
use alloc::sync::Arc;
use vfs::{CloneMode, Error, File, FileKey};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct file_clone_range`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CloneRange {
    source_fd: i64,
    source_offset: u64,
    source_length: u64,
    dest_offset: u64,
}

/// `ioctl(FICLONE)`: a whole file, given by its descriptor.
///
/// # Errors
/// As [`range`].
pub fn whole(task: &Task, to: &FileRef, source_fd: u64) -> SysResult {
    let whole =
        CloneRange { source_fd: source_fd as i32 as i64, source_offset: 0, source_length: 0, dest_offset: 0 };
    clone_all(task, to, &whole)
}

/// `ioctl(FICLONERANGE)`.
///
/// # Errors
/// `EBADF`, `EISDIR`, `EINVAL` (no regular files, or ranges that do not begin and end with blocks), `EXDEV` (another
/// file system), `EOPNOTSUPP`; those of a write.
pub fn range(task: &Task, to: &FileRef, arg: u64) -> SysResult {
    clone_all(task, to, &user::read(arg)?)
}

fn clone_all(task: &Task, to: &FileRef, what: &CloneRange) -> SysResult {
    let source_fd = i32::try_from(what.source_fd).map_err(|_| Errno::EBADF)?;
    let from = task.file(source_fd)?;
    let (from, to) = (from.as_file().ok_or(Errno::EINVAL)?, to.as_file().ok_or(Errno::EINVAL)?);
    if !Arc::ptr_eq(&from.vnode().fs(), &to.vnode().fs()) {
        return Err(Errno::EXDEV);
    }
    let len = match what.source_length {
        // To the end of the file.
        0 => from.getattr()?.size.saturating_sub(what.source_offset),
        len => len,
    };
    let places = (what.source_offset, what.dest_offset);
    if clone(from, to, places, len, CloneMode::Wait)? == len { Ok(0) } else { Err(Errno::EINVAL) }
}

/// Shares what can be shared at once of a range to be copied; `None`: it must be copied.
///
/// # Errors
/// `EINVAL` for overlapping ranges of one file; those of a write.
pub fn share(from: &File, to: &File, places: (u64, u64), len: u64) -> SysResult<Option<u64>> {
    let (source, dest) = places;
    let len = len.min(from.getattr()?.size.saturating_sub(source));
    let is_overlapping = source < dest.saturating_add(len) && dest < source.saturating_add(len);
    if is_overlapping && FileKey::of(from.vnode()) == FileKey::of(to.vnode()) {
        return Err(Errno::EINVAL);
    }
    match clone(from, to, places, len, CloneMode::Ready) {
        Ok(0) => Ok(None),
        Ok(n) => Ok(Some(n)),
        Err(Error::Unsupported | Error::CrossDevice | Error::Invalid | Error::WouldBlock) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn clone(
    from: &File,
    to: &File,
    (source, dest): (u64, u64),
    len: u64,
    mode: CloneMode,
) -> Result<u64, Error> {
    let range = source..source.checked_add(len).ok_or(Error::Invalid)?;
    let settled = |file, range| settle_mappings(file, range).map_err(|_| Error::Io);
    settled(from, range.clone())?;
    let mapped = settled(to, dest..dest.saturating_add(len))?;
    let n = to.clone_range(dest, from, range, mode)?;
    if let Some(object) = mapped {
        object.refresh(dest..dest.saturating_add(n));
    }
    Ok(n)
}
