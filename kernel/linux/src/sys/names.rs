//! Making, renaming and removing names; directories; changing attributes.
use super::Call;
use super::args::{not_negative, walk_flags};
use super::stat::decode_device;
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use crate::task::Task;
use crate::task::place::AT_FDCWD;
use crate::time::{TimeSpec, TimeVal};
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as k;
use mm::space::Object;
use vfs::{
    Access, DentryRef, FallocateMode, FileType, NewNode, OpenFlags, RenameMode, SetAttr, SetTime, VnodeRef,
    WalkFlags, without_set_id,
};

fn make(c: &Call<'_>, dirfd: i32, path: u64, node: NewNode<'_>, mode: u32) -> SysResult {
    let path = user::read_path(path)?;
    let perm = mode & 0o7777 & !c.task.place.umask();
    c.task.walk_from(dirfd, &path, |from| Ok(kernel().namespace.create_at(from, &path, node, perm)?))?;
    Ok(0)
}

/// mkdir(2).
pub fn mkdir(c: &mut Call<'_>) -> SysResult {
    make(c, AT_FDCWD, c.a0(), NewNode::Directory, c.a1() as u32)
}

/// mkdirat(2).
pub fn mkdirat(c: &mut Call<'_>) -> SysResult {
    make(c, c.fd(), c.a1(), NewNode::Directory, c.a2() as u32)
}

fn make_node(c: &Call<'_>, dirfd: i32, path: u64, mode: u32, device: u64) -> SysResult {
    let device = decode_device(device);
    let node = match if mode & 0o170_000 == 0 { Some(FileType::Regular) } else { FileType::from_mode(mode) } {
        Some(FileType::Regular) => NewNode::Regular,
        Some(FileType::Fifo) => NewNode::Fifo,
        Some(FileType::Socket) => NewNode::Socket,
        Some(FileType::CharDevice) => NewNode::CharDevice(device),
        Some(FileType::BlockDevice) => NewNode::BlockDevice(device),
        Some(FileType::Directory) => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    make(c, dirfd, path, node, mode)
}

/// mknod(2).
pub fn mknod(c: &mut Call<'_>) -> SysResult {
    make_node(c, AT_FDCWD, c.a0(), c.a1() as u32, c.a2())
}

/// mknodat(2).
pub fn mknodat(c: &mut Call<'_>) -> SysResult {
    make_node(c, c.fd(), c.a1(), c.a2() as u32, c.a3())
}

fn make_symlink(c: &Call<'_>, target: u64, dirfd: i32, path: u64) -> SysResult {
    let target = user::read_path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = user::read_path(path)?;
    let node = NewNode::Symlink(&target);
    c.task.walk_from(dirfd, &path, |from| Ok(kernel().namespace.create_at(from, &path, node, 0o777)?))?;
    Ok(0)
}

/// symlink(2).
pub fn symlink(c: &mut Call<'_>) -> SysResult {
    make_symlink(c, c.a0(), AT_FDCWD, c.a1())
}

/// symlinkat(2).
pub fn symlinkat(c: &mut Call<'_>) -> SysResult {
    make_symlink(c, c.a0(), c.a1() as i32, c.a2())
}

fn make_link(
    c: &Call<'_>,
    (fd, path): (i32, u64),
    (to_fd, to_path): (i32, u64),
    flags: WalkFlags,
) -> SysResult {
    let (path, to_path) = (user::read_path(path)?, user::read_path(to_path)?);
    let target = match crate::procfs::fd_link(c.task, &path) {
        Some(file) if flags.contains(WalkFlags::FOLLOW) => {
            file?.as_file().ok_or(Errno::EXDEV)?.dentry().clone()
        }
        _ => resolve_at(c.task, fd, &path, flags)?,
    };
    c.task.walk_from(to_fd, &to_path, |from| Ok(kernel().namespace.link_at(&target, from, &to_path)?))?;
    Ok(0)
}

/// The dentry a path names, or the descriptor's own with an empty path and `AT_EMPTY_PATH`.
fn resolve_at(task: &Task, fd: i32, path: &[u8], flags: WalkFlags) -> SysResult<DentryRef> {
    if path.is_empty() && flags.contains(WalkFlags::EMPTY_PATH) && fd != AT_FDCWD {
        return Ok(task.file(fd)?.as_file().ok_or(Errno::EBADF)?.dentry().clone());
    }
    task.resolve(fd, path, flags)
}

/// link(2).
pub fn link(c: &mut Call<'_>) -> SysResult {
    make_link(c, (AT_FDCWD, c.a0()), (AT_FDCWD, c.a1()), WalkFlags::empty())
}

/// linkat(2).
pub fn linkat(c: &mut Call<'_>) -> SysResult {
    let raw = c.a4() as u32;
    if raw & !(k::AT_SYMLINK_FOLLOW | k::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = WalkFlags::empty();
    flags.set(WalkFlags::FOLLOW, raw & k::AT_SYMLINK_FOLLOW != 0);
    flags.set(WalkFlags::EMPTY_PATH, raw & k::AT_EMPTY_PATH != 0);
    make_link(c, (c.fd(), c.a1()), (c.a2() as i32, c.a3()), flags)
}

fn remove(c: &Call<'_>, dirfd: i32, path: u64, is_dir: bool) -> SysResult {
    let path = user::read_path(path)?;
    let ns = &kernel().namespace;
    c.task.walk_from(dirfd, &path, |from| {
        let result = if is_dir { ns.rmdir_at(from, &path) } else { ns.unlink_at(from, &path) };
        Ok(result?)
    })?;
    Ok(0)
}

/// unlink(2).
pub fn unlink(c: &mut Call<'_>) -> SysResult {
    remove(c, AT_FDCWD, c.a0(), false)
}

/// rmdir(2).
pub fn rmdir(c: &mut Call<'_>) -> SysResult {
    remove(c, AT_FDCWD, c.a0(), true)
}

/// unlinkat(2).
pub fn unlinkat(c: &mut Call<'_>) -> SysResult {
    let flags = c.a2() as u32;
    if flags & !k::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    remove(c, c.fd(), c.a1(), flags != 0)
}

fn move_name(
    c: &Call<'_>,
    (fd, path): (i32, u64),
    (to_fd, to_path): (i32, u64),
    mode: RenameMode,
) -> SysResult {
    let (path, to_path) = (user::read_path(path)?, user::read_path(to_path)?);
    c.task.walk_from(fd, &path, |from| {
        c.task.walk_from(to_fd, &to_path, |to| {
            Ok(kernel().namespace.rename_at(from, &path, to, &to_path, mode)?)
        })
    })?;
    Ok(0)
}

/// rename(2).
pub fn rename(c: &mut Call<'_>) -> SysResult {
    move_name(c, (AT_FDCWD, c.a0()), (AT_FDCWD, c.a1()), RenameMode::Replace)
}

/// renameat(2).
pub fn renameat(c: &mut Call<'_>) -> SysResult {
    move_name(c, (c.fd(), c.a1()), (c.a2() as i32, c.a3()), RenameMode::Replace)
}

/// renameat2(2).
pub fn renameat2(c: &mut Call<'_>) -> SysResult {
    let mode = match c.a4() as u32 {
        0 => RenameMode::Replace,
        k::RENAME_NOREPLACE => RenameMode::NoReplace,
        k::RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return Err(Errno::EINVAL),
    };
    move_name(c, (c.fd(), c.a1()), (c.a2() as i32, c.a3()), mode)
}

fn read_link(c: &Call<'_>, dirfd: i32, path: u64, out: u64, len: u64) -> SysResult {
    if len as i64 <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = user::read_path(path)?;
    let dentry = resolve_at(c.task, dirfd, &path, WalkFlags::EMPTY_PATH)?;
    let target = dentry.vnode().readlink()?;
    let n = target.len().min(len as usize);
    user::write_bytes(out, &target[..n])?;
    Ok(n)
}

/// readlink(2).
pub fn readlink(c: &mut Call<'_>) -> SysResult {
    read_link(c, AT_FDCWD, c.a0(), c.a1(), c.a2())
}

/// readlinkat(2).
pub fn readlinkat(c: &mut Call<'_>) -> SysResult {
    read_link(c, c.fd(), c.a1(), c.a2(), c.a3())
}

/// getdents64(2).
pub fn getdents64(c: &mut Call<'_>) -> SysResult {
    const HEAD: usize = 19;
    let file = c.task.file(c.fd())?;
    let file = file.as_file().ok_or(Errno::ENOTDIR)?;
    let room = (c.a2() as usize).min(1 << 20);
    let mut out = Vec::with_capacity(room.min(32 << 10));
    let mut is_too_small = false;
    file.readdir(&mut |entry| {
        let len = (HEAD + entry.name.len() + 1).next_multiple_of(8);
        if out.len() + len > room {
            is_too_small = out.is_empty();
            return false;
        }
        let start = out.len();
        out.extend_from_slice(&entry.ino.to_le_bytes());
        out.extend_from_slice(&entry.next_cursor.to_le_bytes());
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.push((entry.kind.mode_bits() >> 12) as u8);
        out.extend_from_slice(entry.name);
        out.resize(start + len, 0);
        true
    })?;
    if is_too_small {
        return Err(Errno::EINVAL);
    }
    user::write_bytes(c.a1(), &out)?;
    Ok(out.len())
}

/// getcwd(2).
pub fn getcwd(c: &mut Call<'_>) -> SysResult {
    let ns = &kernel().namespace;
    let (cwd, root) = (c.task.place.cwd(), c.task.place.root());
    if cwd.is_removed() {
        return Err(Errno::ENOENT);
    }
    let mut path = ns.path_of(&cwd, &root);
    path.push(0);
    if path.len() > c.a1() as usize {
        return Err(Errno::ERANGE);
    }
    user::write_bytes(c.a0(), &path)?;
    Ok(path.len())
}

fn enter(task: &Task, dentry: DentryRef) -> SysResult {
    if !dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let attr = dentry.vnode().getattr()?;
    task.with_caller(|caller| vfs::check_access(&attr, &caller, Access::EXEC))?;
    task.place.set_cwd(dentry);
    Ok(0)
}

/// chdir(2).
pub fn chdir(c: &mut Call<'_>) -> SysResult {
    let path = user::read_path(c.a0())?;
    enter(c.task, c.task.resolve(AT_FDCWD, &path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?)
}

/// fchdir(2).
pub fn fchdir(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    enter(c.task, file.as_file().ok_or(Errno::ENOTDIR)?.dentry().clone())
}

/// chroot(2).
pub fn chroot(c: &mut Call<'_>) -> SysResult {
    if !c.task.process.cred.lock().is_root() {
        return Err(Errno::EPERM);
    }
    let path = user::read_path(c.a0())?;
    let dentry = c.task.resolve(AT_FDCWD, &path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    c.task.place.set_root(dentry);
    Ok(0)
}

/// umask(2).
pub fn umask(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.place.set_umask(c.a0() as u32) as usize)
}

/// Changes attributes of a place in the tree on behalf of a task that must own it.
fn set_owned(task: &Task, dentry: &DentryRef, set: &SetAttr) -> SysResult {
    if dentry.mount().is_read_only() {
        return Err(Errno::EROFS);
    }
    let cred = task.process.cred.lock().clone();
    if !cred.is_root() && dentry.vnode().getattr()?.uid != cred.uid[1] {
        return Err(Errno::EPERM);
    }
    dentry.vnode().setattr(set)?;
    Ok(0)
}

fn dentry_of(c: &Call<'_>, fd: i32) -> SysResult<DentryRef> {
    let file = c.task.file(fd)?;
    let file = file.as_file().ok_or(Errno::EPERM)?;
    if file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    Ok(file.dentry().clone())
}

fn change_mode(c: &Call<'_>, dirfd: i32, path: u64, mode: u32, flags: WalkFlags) -> SysResult {
    let path = user::read_path(path)?;
    let dentry = resolve_at(c.task, dirfd, &path, flags)?;
    if dentry.kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    set_owned(c.task, &dentry, &SetAttr { perm: Some(mode & 0o7777), ..SetAttr::default() })
}

/// chmod(2).
pub fn chmod(c: &mut Call<'_>) -> SysResult {
    change_mode(c, AT_FDCWD, c.a0(), c.a1() as u32, WalkFlags::FOLLOW)
}

/// fchmod(2).
pub fn fchmod(c: &mut Call<'_>) -> SysResult {
    let set = SetAttr { perm: Some(c.a1() as u32 & 0o7777), ..SetAttr::default() };
    set_owned(c.task, &dentry_of(c, c.fd())?, &set)
}

/// fchmodat(2).
pub fn fchmodat(c: &mut Call<'_>) -> SysResult {
    change_mode(c, c.fd(), c.a1(), c.a2() as u32, WalkFlags::FOLLOW)
}

/// fchmodat2(2).
pub fn fchmodat2(c: &mut Call<'_>) -> SysResult {
    let flags = walk_flags(c.a3() as u32, k::AT_SYMLINK_NOFOLLOW | k::AT_EMPTY_PATH)?;
    change_mode(c, c.fd(), c.a1(), c.a2() as u32, flags)
}

/// New owner and group; set-id bits of programs go when they change.
fn change_owner(task: &Task, dentry: &DentryRef, uid: u32, gid: u32) -> SysResult {
    let pick = |id: u32| (id != u32::MAX).then_some(id);
    let (uid, gid) = (pick(uid), pick(gid));
    let attr = dentry.vnode().getattr()?;
    let cred = task.process.cred.lock().clone();
    if !cred.is_root() {
        let is_own_group = gid.is_none_or(|g| g == attr.gid || cred.as_caller().is_in_group(g));
        if attr.uid != cred.uid[1] || uid.is_some_and(|u| u != attr.uid) || !is_own_group {
            return Err(Errno::EPERM);
        }
    }
    let drops_bits = attr.kind == FileType::Regular && (uid.is_some() || gid.is_some());
    let perm = drops_bits.then_some(without_set_id(attr.perm)).filter(|perm| *perm != attr.perm);
    set_owned(task, dentry, &SetAttr { uid, gid, perm, ..SetAttr::default() })
}

fn change_owner_at(c: &Call<'_>, dirfd: i32, path: u64, ids: (u64, u64), flags: WalkFlags) -> SysResult {
    let path = user::read_path(path)?;
    let dentry = resolve_at(c.task, dirfd, &path, flags)?;
    change_owner(c.task, &dentry, ids.0 as u32, ids.1 as u32)
}

/// chown(2).
pub fn chown(c: &mut Call<'_>) -> SysResult {
    change_owner_at(c, AT_FDCWD, c.a0(), (c.a1(), c.a2()), WalkFlags::FOLLOW)
}

/// lchown(2).
pub fn lchown(c: &mut Call<'_>) -> SysResult {
    change_owner_at(c, AT_FDCWD, c.a0(), (c.a1(), c.a2()), WalkFlags::empty())
}

/// fchown(2).
pub fn fchown(c: &mut Call<'_>) -> SysResult {
    change_owner(c.task, &dentry_of(c, c.fd())?, c.a1() as u32, c.a2() as u32)
}

/// fchownat(2).
pub fn fchownat(c: &mut Call<'_>) -> SysResult {
    let flags = walk_flags(c.a4() as u32, k::AT_SYMLINK_NOFOLLOW | k::AT_EMPTY_PATH)?;
    change_owner_at(c, c.fd(), c.a1(), (c.a2(), c.a3()), flags)
}

fn set_time(time: TimeSpec) -> SysResult<Option<SetTime>> {
    match time.nanos as u32 {
        k::UTIME_NOW => Ok(Some(SetTime::Now)),
        k::UTIME_OMIT => Ok(None),
        nanos if u64::from(nanos) < crate::time::NANOS && time.nanos >= 0 => {
            Ok(Some(SetTime::To(vfs::TimeSpec { secs: time.secs, nanos })))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn change_times(task: &Task, dentry: &DentryRef, times: [Option<SetTime>; 2]) -> SysResult {
    let [atime, mtime] = times;
    if atime.is_none() && mtime.is_none() {
        return Ok(0);
    }
    let is_now = times.iter().all(|t| *t == Some(SetTime::Now));
    let set = SetAttr { atime, mtime, ..SetAttr::default() };
    match set_owned(task, dentry, &set) {
        Err(Errno::EPERM) if is_now => {
            // Whoever may write may touch.
            let attr = dentry.vnode().getattr()?;
            task.with_caller(|caller| vfs::check_access(&attr, &caller, Access::WRITE))?;
            dentry.vnode().setattr(&set)?;
            Ok(0)
        }
        result => result,
    }
}

/// utimensat(2).
pub fn utimensat(c: &mut Call<'_>) -> SysResult {
    let times = if c.a2() == 0 {
        [Some(SetTime::Now); 2]
    } else {
        let [atime, mtime]: [TimeSpec; 2] = user::read(c.a2())?;
        [set_time(atime)?, set_time(mtime)?]
    };
    let flags = walk_flags(c.a3() as u32, k::AT_SYMLINK_NOFOLLOW | k::AT_EMPTY_PATH)?;
    let dentry = if c.a1() == 0 {
        dentry_of(c, c.fd())?
    } else {
        resolve_at(c.task, c.fd(), &user::read_path(c.a1())?, flags)?
    };
    change_times(c.task, &dentry, times)
}

fn change_times_micros(c: &Call<'_>, dirfd: i32, path: u64, times: u64) -> SysResult {
    let times = if times == 0 {
        [Some(SetTime::Now); 2]
    } else {
        let raw: [TimeVal; 2] = user::read(times)?;
        let mut out = [None; 2];
        for (slot, time) in out.iter_mut().zip(raw) {
            *slot = set_time(TimeSpec { secs: time.secs, nanos: time.micros.saturating_mul(1000) })?;
        }
        out
    };
    let dentry = c.task.resolve(dirfd, &user::read_path(path)?, WalkFlags::FOLLOW)?;
    change_times(c.task, &dentry, times)
}

/// utimes(2).
pub fn utimes(c: &mut Call<'_>) -> SysResult {
    change_times_micros(c, AT_FDCWD, c.a0(), c.a1())
}

/// futimesat(2).
pub fn futimesat(c: &mut Call<'_>) -> SysResult {
    change_times_micros(c, c.fd(), c.a1(), c.a2())
}

fn resize(vnode: &VnodeRef, size: u64) -> SysResult {
    match vnode.kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    let mapped = Object::find(vnode);
    if let Some(object) = &mapped {
        object.write_back(0..u64::MAX)?;
    }
    vnode.setattr(&SetAttr { size: Some(size), ..SetAttr::default() })?;
    if let Some(object) = mapped {
        object.truncate(size);
    }
    Ok(0)
}

/// truncate(2).
pub fn truncate(c: &mut Call<'_>) -> SysResult {
    let size = not_negative(c.a1())?;
    let dentry = c.task.resolve(AT_FDCWD, &user::read_path(c.a0())?, WalkFlags::FOLLOW)?;
    let attr = dentry.vnode().getattr()?;
    c.task.with_caller(|caller| vfs::check_access(&attr, &caller, Access::WRITE))?;
    if dentry.mount().is_read_only() {
        return Err(Errno::EROFS);
    }
    let kept = without_set_id(attr.perm);
    if kept != attr.perm && !c.task.process.cred.lock().is_root() {
        dentry.vnode().setattr(&SetAttr { perm: Some(kept), ..SetAttr::default() })?;
    }
    resize(dentry.vnode(), size)
}

/// ftruncate(2).
pub fn ftruncate(c: &mut Call<'_>) -> SysResult {
    let size = not_negative(c.a1())?;
    let file = c.task.file(c.fd())?;
    let file = file.as_file().ok_or(Errno::EINVAL)?;
    file.check_open_for(OpenFlags::WRITE).map_err(|_| Errno::EINVAL)?;
    file.shed_set_id()?;
    resize(file.vnode(), size)
}

/// fallocate(2).
pub fn fallocate(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let file = file.as_file().ok_or(Errno::ESPIPE)?;
    let (mode, at, len) = (c.a1() as u32, not_negative(c.a2())?, not_negative(c.a3())?);
    file.check_open_for(OpenFlags::WRITE)?;
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    let end = at.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    let keep_size = mode & k::FALLOC_FL_KEEP_SIZE != 0;
    let mode = match mode & !k::FALLOC_FL_KEEP_SIZE {
        0 => FallocateMode::Allocate { keep_size },
        k::FALLOC_FL_PUNCH_HOLE if keep_size => FallocateMode::PunchHole,
        k::FALLOC_FL_ZERO_RANGE => FallocateMode::ZeroRange { keep_size },
        _ => return Err(Errno::EOPNOTSUPP),
    };
    match file.vnode().kind() {
        FileType::Regular => {}
        FileType::Fifo => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    }
    let mapped = Object::find(file.vnode());
    if let Some(object) = &mapped {
        object.write_back(at..end)?;
    }
    file.vnode().fallocate(mode, at..end)?;
    if let Some(object) = mapped {
        object.refresh(at..end);
    }
    Ok(0)
}
