//! flock and record locks.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use crate::task::Task;
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general as k;
use vfs::advisory::Wait;
use vfs::{File, FileKey, LockKind, LockOwner, OpenFlags, RecordLock};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct flock`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawLock {
    kind: i16,
    whence: i16,
    pad: u32,
    start: i64,
    len: i64,
    pid: i32,
    pad2: u32,
}

/// flock(2).
pub fn flock(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let file = file.as_file().ok_or(Errno::EBADF)?;
    let op = c.a1() as u32;
    let kind = match op & !k::LOCK_NB {
        k::LOCK_SH => Some(LockKind::Shared),
        k::LOCK_EX => Some(LockKind::Exclusive),
        k::LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let is_pending = || c.task.has_signal();
    let wait = if op & k::LOCK_NB != 0 { Wait::No } else { Wait::Until(&is_pending) };
    kernel().locks.flock(file, kind, wait)?;
    Ok(0)
}

/// First and last byte.
fn span(file: &File, raw: &RawLock) -> SysResult<(u64, u64)> {
    let base = match raw.whence as u32 {
        k::SEEK_SET => 0,
        k::SEEK_CUR => file.offset() as i64,
        k::SEEK_END => i64::try_from(file.getattr()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return Err(Errno::EINVAL),
    };
    let at = base.checked_add(raw.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match raw.len {
        0 => (at, None),
        n if n > 0 => (at, Some(at.checked_add(n - 1).ok_or(Errno::EOVERFLOW)?)),
        n => (at.checked_add(n).ok_or(Errno::EINVAL)?, Some(at - 1)),
    };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    Ok((first, last.map_or(u64::MAX, |l| l as u64)))
}

/// The record-lock commands of fcntl(2).
///
/// # Errors
/// As fcntl(2).
pub fn record(task: &Task, file: &Arc<File>, cmd: u32, at: u64) -> SysResult {
    let mut raw: RawLock = user::read(at)?;
    let (start, last) = span(file, &raw)?;
    let is_ofd = matches!(cmd, k::F_OFD_GETLK | k::F_OFD_SETLK | k::F_OFD_SETLKW);
    if is_ofd && raw.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if is_ofd { LockOwner::File(file.id()) } else { LockOwner::Process(task.process.pid as u64) };
    let key = FileKey::of(file.vnode());
    let locks = &kernel().locks;
    let kind = match raw.kind as u32 {
        k::F_RDLCK => LockKind::Shared,
        k::F_WRLCK => LockKind::Exclusive,
        k::F_UNLCK if !matches!(cmd, k::F_GETLK | k::F_OFD_GETLK) => {
            locks.unlock_records(key, owner, start, last);
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    let lock = RecordLock { start, last, owner, kind };
    if matches!(cmd, k::F_GETLK | k::F_OFD_GETLK) {
        describe_conflict(locks.test_record(key, &lock), &mut raw);
        user::write(at, &raw)?;
        return Ok(0);
    }
    let needed = if kind == LockKind::Shared { OpenFlags::READ } else { OpenFlags::WRITE };
    file.check_open_for(needed)?;
    let is_pending = || task.has_signal();
    let waits = matches!(cmd, k::F_SETLKW | k::F_OFD_SETLKW);
    let wait = if waits { Wait::Until(&is_pending) } else { Wait::No };
    if is_ofd {
        locks.set_file_record(file, lock, wait)?;
    } else {
        locks.set_record(key, lock, wait)?;
    }
    Ok(0)
}

fn describe_conflict(other: Option<RecordLock>, raw: &mut RawLock) {
    let Some(other) = other else {
        raw.kind = k::F_UNLCK as i16;
        return;
    };
    raw.kind = if other.kind == LockKind::Shared { k::F_RDLCK } else { k::F_WRLCK } as i16;
    raw.whence = k::SEEK_SET as i16;
    raw.start = other.start as i64;
    raw.len = if other.last == u64::MAX { 0 } else { (other.last - other.start + 1) as i64 };
    raw.pid = match other.owner {
        LockOwner::Process(pid) => pid as i32,
        LockOwner::File(_) => -1,
    };
}
