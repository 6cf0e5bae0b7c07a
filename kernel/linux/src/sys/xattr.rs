//! Extended attributes.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::task::place::AT_FDCWD;
use crate::user;
use linux_raw_sys::general as k;
use vfs::{DentryRef, WalkFlags, XattrMode};

const NAME_MAX: usize = 256;
const SIZE_MAX: u64 = 65536;

fn by_path(c: &Call<'_>, flags: WalkFlags) -> SysResult<DentryRef> {
    c.task.resolve(AT_FDCWD, &user::read_path(c.a0())?, flags)
}

fn by_fd(c: &Call<'_>) -> SysResult<DentryRef> {
    Ok(c.task.file(c.fd())?.as_file().ok_or(Errno::EOPNOTSUPP)?.dentry().clone())
}

fn name(c: &Call<'_>) -> SysResult<user::UserString> {
    let name = user::read_string(c.a1(), NAME_MAX)?.ok_or(Errno::ERANGE)?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

fn set(c: &Call<'_>, dentry: &DentryRef) -> SysResult {
    let mode = match c.a4() as u32 {
        0 => XattrMode::Any,
        k::XATTR_CREATE => XattrMode::Create,
        k::XATTR_REPLACE => XattrMode::Replace,
        _ => return Err(Errno::EINVAL),
    };
    if c.a3() > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut value = alloc::vec![0; c.a3() as usize];
    user::read_bytes(c.a2(), &mut value)?;
    if dentry.mount().is_read_only() {
        return Err(Errno::EROFS);
    }
    dentry.vnode().setxattr(&name(c)?, &value, mode)?;
    Ok(0)
}

/// Copies a value out, or tells its size.
fn give(bytes: &[u8], at: u64, room: u64) -> SysResult {
    if room == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() as u64 > room {
        return Err(Errno::ERANGE);
    }
    user::write_bytes(at, bytes)?;
    Ok(bytes.len())
}

fn get(c: &Call<'_>, dentry: &DentryRef) -> SysResult {
    give(&dentry.vnode().getxattr(&name(c)?)?, c.a2(), c.a3())
}

fn list(c: &Call<'_>, dentry: &DentryRef) -> SysResult {
    let names = dentry.vnode().listxattr()?;
    let bytes: alloc::vec::Vec<u8> = names.iter().flat_map(|n| n.iter().copied().chain([0])).collect();
    give(&bytes, c.a1(), c.a2())
}

fn remove(c: &Call<'_>, dentry: &DentryRef) -> SysResult {
    if dentry.mount().is_read_only() {
        return Err(Errno::EROFS);
    }
    dentry.vnode().removexattr(&name(c)?)?;
    Ok(0)
}

macro_rules! forms {
    ($act:ident: $follow:ident $nofollow:ident $fd:ident) => {
        #[doc = concat!(stringify!($follow), "(2).")]
        pub fn $follow(c: &mut Call<'_>) -> SysResult {
            let dentry = by_path(c, WalkFlags::FOLLOW)?;
            $act(c, &dentry)
        }
        #[doc = concat!(stringify!($nofollow), "(2).")]
        pub fn $nofollow(c: &mut Call<'_>) -> SysResult {
            let dentry = by_path(c, WalkFlags::empty())?;
            $act(c, &dentry)
        }
        #[doc = concat!(stringify!($fd), "(2).")]
        pub fn $fd(c: &mut Call<'_>) -> SysResult {
            let dentry = by_fd(c)?;
            $act(c, &dentry)
        }
    };
}

forms!(set: setxattr lsetxattr fsetxattr);
forms!(get: getxattr lgetxattr fgetxattr);
forms!(list: listxattr llistxattr flistxattr);
forms!(remove: removexattr lremovexattr fremovexattr);
