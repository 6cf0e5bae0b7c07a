//! Opening, closing, descriptors, fcntl, ioctl.
use super::args::{OPEN_KNOWN, open_flags, raw_open_flags};
use super::{Call, locks, reflink};
use crate::errno::{Errno, SysResult};
use crate::fd::vnode::VnodeFile;
use crate::fd::{FileRef, downcast, event::EventFd, pipe};
use crate::kernel::kernel;
use crate::task::place::AT_FDCWD;
use crate::task::{Task, exit};
use crate::{memfd, procfs, user};
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;
use linux_raw_sys::{general as k, ioctl};
use rt::{Mutex, Once};
use vfs::{File, FileKey, FileType, OpenFlags, WalkFlags};

/// Pipes of FIFOs that are open, by file.
static FIFOS: Once<Mutex<HashMap<FileKey, Weak<pipe::Pipe>>>> = Once::new();

fn fifo_of(file: &File) -> Arc<pipe::Pipe> {
    let mut all = FIFOS.get_or_init(Mutex::default).lock();
    all.retain(|_, pipe| pipe.strong_count() > 0);
    let key = FileKey::of(file.vnode());
    if let Some(pipe) = all.get(&key).and_then(Weak::upgrade) {
        return pipe;
    }
    let pipe = pipe::Pipe::new();
    all.insert(key, Arc::downgrade(&pipe));
    pipe
}

/// Makes what a descriptor refers to of what the file layer opened.
pub fn wrap(task: &Task, file: Arc<File>) -> SysResult<FileRef> {
    let is_path = file.flags().contains(OpenFlags::PATH);
    match file.vnode().kind() {
        FileType::Fifo if !is_path => pipe::open_fifo(task, &fifo_of(&file), file),
        FileType::Socket if !is_path => Err(Errno::ENXIO),
        _ => Ok(VnodeFile::wrap(file)),
    }
}

/// Opens a path for a task.
///
/// # Errors
/// As openat(2).
pub fn open_path(
    task: &Task,
    dirfd: i32,
    path: &[u8],
    raw: u32,
    mode: u32,
    how: WalkFlags,
) -> SysResult<FileRef> {
    let flags = open_flags(raw)?;
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if let Some(reopened) = procfs::reopen(task, path, flags)? {
        return Ok(reopened);
    }
    let perm = mode & 0o7777 & !task.place.umask();
    let object = mm::space::Object::find;
    let file = task
        .walk_from(dirfd, path, |from| Ok(kernel().namespace.open_with(from, path, flags, perm, how)?))?;
    if flags.contains(OpenFlags::TRUNCATE)
        && let Some(object) = object(file.vnode())
    {
        object.truncate(0);
    }
    wrap(task, file)
}

fn install(task: &Task, file: FileRef, closes_on_exec: bool) -> SysResult {
    Ok(task.fds.add(file, closes_on_exec, 0, task.process.nofile())? as usize)
}

fn open_at(c: &Call<'_>, dirfd: i32, path: u64, raw: u32, mode: u32) -> SysResult {
    let path = user::read_path(path)?;
    let file = open_path(c.task, dirfd, &path, raw & OPEN_KNOWN, mode, WalkFlags::empty())?;
    install(c.task, file, raw & k::O_CLOEXEC != 0)
}

/// open(2).
pub fn open(c: &mut Call<'_>) -> SysResult {
    open_at(c, AT_FDCWD, c.a0(), c.a1() as u32, c.a2() as u32)
}

/// creat(2).
pub fn creat(c: &mut Call<'_>) -> SysResult {
    open_at(c, AT_FDCWD, c.a0(), k::O_CREAT | k::O_WRONLY | k::O_TRUNC, c.a1() as u32)
}

/// openat(2).
pub fn openat(c: &mut Call<'_>) -> SysResult {
    open_at(c, c.fd(), c.a1(), c.a2() as u32, c.a3() as u32)
}

/// openat2(2).
pub fn openat2(c: &mut Call<'_>) -> SysResult {
    if c.a3() < 24 {
        return Err(Errno::EINVAL);
    }
    let [raw, mode, resolve]: [u64; 3] = user::read(c.a2())?;
    let raw = u32::try_from(raw).map_err(|_| Errno::EINVAL)?;
    if raw & !OPEN_KNOWN != 0 || mode & !0o7777 != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = WalkFlags::empty();
    let pairs = [
        (k::RESOLVE_NO_XDEV, WalkFlags::NO_XDEV),
        (k::RESOLVE_NO_MAGICLINKS, WalkFlags::empty()),
        (k::RESOLVE_NO_SYMLINKS, WalkFlags::NO_SYMLINKS),
        (k::RESOLVE_BENEATH, WalkFlags::BENEATH),
        (k::RESOLVE_IN_ROOT, WalkFlags::IN_ROOT),
    ];
    for (bit, flag) in pairs {
        how.set(flag, resolve & u64::from(bit) != 0);
    }
    if resolve & !0x1f != 0 {
        return Err(if resolve & u64::from(k::RESOLVE_CACHED) != 0 { Errno::EAGAIN } else { Errno::EINVAL });
    }
    let path = user::read_path(c.a1())?;
    let file = open_path(c.task, c.fd(), &path, raw, mode as u32, how)?;
    install(c.task, file, raw & k::O_CLOEXEC != 0)
}

/// close(2).
pub fn close(c: &mut Call<'_>) -> SysResult {
    let file = c.task.fds.remove(c.fd())?;
    exit::release_locks(&c.task.process, &file);
    Ok(0)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// close_range(2).
pub fn close_range(c: &mut Call<'_>) -> SysResult {
    let (first, last, flags) = (c.a0() as u32 as usize, c.a1() as u32 as usize, c.a2() as u32);
    if first > last || flags & !(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE) != 0 {
        return Err(Errno::EINVAL);
    }
    for fd in c.task.fds.numbers(first, usize::MAX).into_iter().take_while(|fd| *fd <= last) {
        if flags & CLOSE_RANGE_CLOEXEC != 0 {
            let _ = c.task.fds.set_closes_on_exec(fd as i32, true);
        } else if let Ok(file) = c.task.fds.remove(fd as i32) {
            exit::release_locks(&c.task.process, &file);
        }
    }
    Ok(0)
}

/// dup(2).
pub fn dup(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    install(c.task, file, false)
}

fn dup_to(c: &Call<'_>, to: i32, closes_on_exec: bool) -> SysResult {
    let file = c.task.file(c.fd())?;
    let to_index = usize::try_from(to).map_err(|_| Errno::EBADF)?;
    let replaced = c.task.fds.replace(to_index, file, closes_on_exec, c.task.process.nofile())?;
    if let Some(replaced) = replaced {
        exit::release_locks(&c.task.process, &replaced);
    }
    Ok(to_index)
}

/// dup2(2).
pub fn dup2(c: &mut Call<'_>) -> SysResult {
    let to = c.a1() as i32;
    if to == c.fd() {
        c.task.file(to)?;
        return Ok(to as usize);
    }
    dup_to(c, to, false)
}

/// dup3(2).
pub fn dup3(c: &mut Call<'_>) -> SysResult {
    let (to, flags) = (c.a1() as i32, c.a2() as u32);
    if to == c.fd() || flags & !k::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    dup_to(c, to, flags & k::O_CLOEXEC != 0)
}

fn make_pipe(c: &Call<'_>, raw: u32) -> SysResult {
    if raw & !(k::O_CLOEXEC | k::O_NONBLOCK | k::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::NON_BLOCKING, raw & k::O_NONBLOCK != 0);
    let (read, write) = pipe::pair(flags);
    let closes = raw & k::O_CLOEXEC != 0;
    let limit = c.task.process.nofile();
    let first = c.task.fds.add(read, closes, 0, limit)?;
    let second = match c.task.fds.add(write, closes, 0, limit) {
        Ok(fd) => fd,
        Err(e) => {
            drop(c.task.fds.remove(first));
            return Err(e);
        }
    };
    if let Err(e) = user::write(c.a0(), &[first, second]) {
        drop(c.task.fds.remove(first));
        drop(c.task.fds.remove(second));
        return Err(e);
    }
    Ok(0)
}

/// pipe(2).
pub fn pipe(c: &mut Call<'_>) -> SysResult {
    make_pipe(c, 0)
}

/// pipe2(2).
pub fn pipe2(c: &mut Call<'_>) -> SysResult {
    make_pipe(c, c.a1() as u32)
}

fn make_event(c: &Call<'_>, raw: u32) -> SysResult {
    if raw & !(k::O_CLOEXEC | k::O_NONBLOCK | 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::NON_BLOCKING, raw & k::O_NONBLOCK != 0);
    let file = EventFd::create(u64::from(c.a0() as u32), raw & 1 != 0, flags);
    install(c.task, file, raw & k::O_CLOEXEC != 0)
}

/// eventfd(2), the old form.
pub fn eventfd(c: &mut Call<'_>) -> SysResult {
    make_event(c, 0)
}

/// eventfd2(2).
pub fn eventfd2(c: &mut Call<'_>) -> SysResult {
    make_event(c, c.a1() as u32)
}

/// memfd_create(2).
pub fn memfd_create(c: &mut Call<'_>) -> SysResult {
    let name = user::read_string(c.a0(), 250)?.ok_or(Errno::EINVAL)?;
    let flags = c.a1() as u32;
    if flags & !(k::MFD_CLOEXEC | k::MFD_ALLOW_SEALING) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = memfd::create(&name)?;
    install(c.task, VnodeFile::wrap(file), flags & k::MFD_CLOEXEC != 0)
}

/// fcntl(2).
pub fn fcntl(c: &mut Call<'_>) -> SysResult {
    let (fd, cmd, arg) = (c.fd(), c.a1() as u32, c.a2());
    let file = c.task.file(fd)?;
    match cmd {
        k::F_DUPFD | k::F_DUPFD_CLOEXEC => {
            let from = usize::try_from(arg as i32).map_err(|_| Errno::EINVAL)?;
            let limit = c.task.process.nofile();
            if from >= limit {
                return Err(Errno::EINVAL);
            }
            Ok(c.task.fds.add(file, cmd == k::F_DUPFD_CLOEXEC, from, limit)? as usize)
        }
        k::F_GETFD => Ok(usize::from(c.task.fds.closes_on_exec(fd)?)),
        k::F_SETFD => c.task.fds.set_closes_on_exec(fd, arg & 1 != 0).map(|()| 0),
        k::F_GETFL => Ok(raw_open_flags(file.flags()) as usize),
        k::F_SETFL => {
            file.flag_cell().set(open_flags(arg as u32 & !(k::O_TMPFILE | k::O_CREAT | k::O_PATH))?);
            Ok(0)
        }
        k::F_GETLK | k::F_SETLK | k::F_SETLKW | k::F_OFD_GETLK | k::F_OFD_SETLK | k::F_OFD_SETLKW => {
            let file = file.as_file().ok_or(Errno::EBADF)?;
            locks::record(c.task, file, cmd, arg)
        }
        k::F_SETOWN | k::F_SETSIG => Ok(0),
        k::F_GETOWN | k::F_GETSIG => Ok(0),
        k::F_GETPIPE_SZ => Ok(as_pipe(&file)?.capacity()),
        k::F_SETPIPE_SZ => as_pipe(&file)?.set_capacity(arg as u32 as usize),
        k::F_GET_SEALS if file.as_file().is_some() => Ok(k::F_SEAL_SEAL as usize),
        _ => Err(Errno::EINVAL),
    }
}

fn as_pipe(file: &FileRef) -> SysResult<&pipe::PipeEnd> {
    downcast(file).ok_or(Errno::EBADF)
}

/// ioctl(2).
pub fn ioctl(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let (request, arg) = (c.a1() as u32, c.a2());
    match request {
        ioctl::FIONBIO => {
            let on: i32 = user::read(arg)?;
            let mut flags = file.flags();
            flags.set(OpenFlags::NON_BLOCKING, on != 0);
            file.flag_cell().set(flags);
            Ok(0)
        }
        ioctl::FIOCLEX => c.task.fds.set_closes_on_exec(c.fd(), true).map(|()| 0),
        ioctl::FIONCLEX => c.task.fds.set_closes_on_exec(c.fd(), false).map(|()| 0),
        ioctl::FIOASYNC => Ok(0),
        ioctl::FICLONE => reflink::whole(c.task, &file, arg),
        ioctl::FICLONERANGE => reflink::range(c.task, &file, arg),
        _ => file.ioctl(c.task, request, arg),
    }
}
