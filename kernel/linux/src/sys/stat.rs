//! Attributes of files and file systems.
use super::Call;
use super::args::walk_flags;
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use crate::task::Task;
use crate::task::place::AT_FDCWD;
use crate::user;
use linux_raw_sys::general as k;
use vfs::{Access, Attr, Caller, DentryRef, DeviceId, StatFs, TimeSpec, WalkFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStat {
    dev: u64,
    ino: u64,
    nlink: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    pad: u32,
    rdev: u64,
    size: u64,
    blksize: u64,
    blocks: u64,
    atime: [u64; 2],
    mtime: [u64; 2],
    ctime: [u64; 2],
    unused: [u64; 3],
}

const _: () = assert!(size_of::<RawStat>() == 144);

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawTime {
    secs: i64,
    nanos: u32,
    pad: u32,
}

/// `struct statx`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStatx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: RawTime,
    btime: RawTime,
    ctime: RawTime,
    mtime: RawTime,
    rdev: [u32; 2],
    dev: [u32; 2],
    mnt_id: u64,
    dio: [u32; 2],
    spare: [u64; 12],
}

const _: () = assert!(size_of::<RawStatx>() == 256);

/// `struct statfs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawStatFs {
    kind: u64,
    bsize: u64,
    blocks: u64,
    bfree: u64,
    bavail: u64,
    files: u64,
    ffree: u64,
    fsid: u64,
    namelen: u64,
    frsize: u64,
    flags: u64,
    spare: [u64; 4],
}

/// A device's number as user space encodes it.
pub const fn encode_device(id: DeviceId) -> u64 {
    let (major, minor) = (id.major as u64, id.minor as u64);
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

/// The other way round.
pub const fn decode_device(raw: u64) -> DeviceId {
    DeviceId {
        major: (raw >> 8 & 0xfff | raw >> 32 & !0xfff) as u32,
        minor: (raw & 0xff | raw >> 12 & 0xffff_ff00) as u32,
    }
}

fn mode_of(attr: &Attr) -> u32 {
    attr.kind.mode_bits() | attr.perm
}

fn to_raw(attr: &Attr, device: DeviceId) -> RawStat {
    let time = |t: TimeSpec| [t.secs as u64, u64::from(t.nanos)];
    RawStat {
        dev: encode_device(device),
        ino: attr.ino,
        nlink: attr.nlink,
        mode: mode_of(attr),
        uid: attr.uid,
        gid: attr.gid,
        pad: 0,
        rdev: encode_device(attr.rdev),
        size: attr.size,
        blksize: u64::from(attr.block_size),
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        unused: [0; 3],
    }
}

/// What a stat call found.
struct Found {
    attr: Attr,
    device: DeviceId,
    mount: u64,
}

fn of_dentry(dentry: &DentryRef) -> SysResult<Found> {
    let vnode = dentry.vnode();
    Ok(Found { attr: vnode.getattr()?, device: vnode.fs().device_id(), mount: dentry.mount().id })
}

fn of_fd(task: &Task, fd: i32) -> SysResult<Found> {
    let file = task.file(fd)?;
    match file.as_file() {
        Some(file) => of_dentry(file.dentry()),
        None => Ok(Found { attr: file.getattr()?, device: DeviceId { major: 0, minor: 1 }, mount: 0 }),
    }
}

fn of_path(task: &Task, dirfd: i32, path: u64, flags: WalkFlags) -> SysResult<Found> {
    if flags.contains(WalkFlags::EMPTY_PATH) {
        let is_empty = path == 0 || user::read::<u8>(path)? == 0;
        if is_empty && dirfd != AT_FDCWD {
            return of_fd(task, dirfd);
        }
    }
    let path = user::read_path(path)?;
    if let Some(file) = crate::procfs::fd_link(task, &path)
        && flags.contains(WalkFlags::FOLLOW)
    {
        let file = file?;
        return match file.as_file() {
            Some(file) => of_dentry(file.dentry()),
            None => Ok(Found { attr: file.getattr()?, device: DeviceId { major: 0, minor: 1 }, mount: 0 }),
        };
    }
    of_dentry(&task.resolve(dirfd, &path, flags)?)
}

fn store(at: u64, found: &Found) -> SysResult {
    user::write(at, &to_raw(&found.attr, found.device))?;
    Ok(0)
}

/// stat(2).
pub fn stat(c: &mut Call<'_>) -> SysResult {
    store(c.a1(), &of_path(c.task, AT_FDCWD, c.a0(), WalkFlags::FOLLOW)?)
}

/// lstat(2).
pub fn lstat(c: &mut Call<'_>) -> SysResult {
    store(c.a1(), &of_path(c.task, AT_FDCWD, c.a0(), WalkFlags::empty())?)
}

/// fstat(2).
pub fn fstat(c: &mut Call<'_>) -> SysResult {
    store(c.a1(), &of_fd(c.task, c.fd())?)
}

const AT_STAT_KNOWN: u32 =
    k::AT_SYMLINK_NOFOLLOW | k::AT_EMPTY_PATH | k::AT_NO_AUTOMOUNT | k::AT_STATX_SYNC_TYPE;

/// newfstatat(2).
pub fn newfstatat(c: &mut Call<'_>) -> SysResult {
    let flags = walk_flags(c.a3() as u32, AT_STAT_KNOWN)?;
    store(c.a2(), &of_path(c.task, c.fd(), c.a1(), flags)?)
}

/// statx(2).
pub fn statx(c: &mut Call<'_>) -> SysResult {
    let flags = walk_flags(c.a2() as u32, AT_STAT_KNOWN)?;
    if c.a3() as u32 & k::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    let found = of_path(c.task, c.fd(), c.a1(), flags)?;
    let attr = &found.attr;
    let time = |t: TimeSpec| RawTime { secs: t.secs, nanos: t.nanos, pad: 0 };
    let raw = RawStatx {
        mask: k::STATX_BASIC_STATS | k::STATX_BTIME | k::STATX_MNT_ID,
        blksize: attr.block_size,
        nlink: u32::try_from(attr.nlink).unwrap_or(u32::MAX),
        uid: attr.uid,
        gid: attr.gid,
        mode: mode_of(attr) as u16,
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        btime: time(attr.btime),
        ctime: time(attr.ctime),
        mtime: time(attr.mtime),
        rdev: [attr.rdev.major, attr.rdev.minor],
        dev: [found.device.major, found.device.minor],
        mnt_id: found.mount,
        ..RawStatx::default()
    };
    user::write(c.a4(), &raw)?;
    Ok(0)
}

fn check(c: &Call<'_>, dirfd: i32, path: u64, mode: u32, flags: WalkFlags, is_effective: bool) -> SysResult {
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let found = of_path(c.task, dirfd, path, flags)?;
    let cred = c.task.process.cred.lock().clone();
    let mut caller: Caller<'_> = cred.as_caller();
    if !is_effective {
        (caller.cred.uid, caller.cred.gid) = (cred.uid[0], cred.gid[0]);
    }
    let want = Access::from_bits_truncate(mode);
    vfs::check_access(&found.attr, &caller, want)?;
    if want.contains(Access::WRITE) {
        check_writable(c.task, dirfd, path, flags)?;
    }
    Ok(0)
}

fn check_writable(task: &Task, dirfd: i32, path: u64, flags: WalkFlags) -> SysResult<()> {
    let path = user::read_path(path)?;
    if path.is_empty() {
        return Ok(());
    }
    let dentry = task.resolve(dirfd, &path, flags)?;
    let is_stored = matches!(dentry.kind(), vfs::FileType::Regular | vfs::FileType::Directory);
    if is_stored && dentry.mount().is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// access(2).
pub fn access(c: &mut Call<'_>) -> SysResult {
    check(c, AT_FDCWD, c.a0(), c.a1() as u32, WalkFlags::FOLLOW, false)
}

/// faccessat(2).
pub fn faccessat(c: &mut Call<'_>) -> SysResult {
    check(c, c.fd(), c.a1(), c.a2() as u32, WalkFlags::FOLLOW, false)
}

/// faccessat2(2).
pub fn faccessat2(c: &mut Call<'_>) -> SysResult {
    let raw = c.a3() as u32;
    let flags = walk_flags(raw, k::AT_SYMLINK_NOFOLLOW | k::AT_EMPTY_PATH | k::AT_EACCESS)?;
    check(c, c.fd(), c.a1(), c.a2() as u32, flags, raw & k::AT_EACCESS != 0)
}

fn store_fs(at: u64, fs: &StatFs) -> SysResult {
    const ST_RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let raw = RawStatFs {
        kind: u64::from(fs.magic),
        bsize: u64::from(fs.block_size),
        blocks: fs.blocks,
        bfree: fs.blocks_free,
        bavail: fs.blocks_avail,
        files: fs.files,
        ffree: fs.files_free,
        fsid: fs.fsid,
        namelen: u64::from(fs.name_max),
        frsize: u64::from(fs.block_size),
        flags: ST_VALID | if fs.is_read_only { ST_RDONLY } else { 0 },
        spare: [0; 4],
    };
    user::write(at, &raw)?;
    Ok(0)
}

/// statfs(2).
pub fn statfs(c: &mut Call<'_>) -> SysResult {
    let path = user::read_path(c.a0())?;
    let dentry = c.task.resolve(AT_FDCWD, &path, WalkFlags::FOLLOW)?;
    store_fs(c.a1(), &dentry.vnode().fs().statfs()?)
}

/// fstatfs(2).
pub fn fstatfs(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    match file.as_file() {
        Some(file) => store_fs(c.a1(), &file.vnode().fs().statfs()?),
        None => store_fs(
            c.a1(),
            &StatFs { magic: 0x5049_5045, block_size: 4096, name_max: 255, ..StatFs::default() },
        ),
    }
}

/// The file systems' view for /proc.
pub fn mounts() -> alloc::vec::Vec<vfs::MountInfo> {
    kernel().namespace.mounts()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_go_both_ways() {
        for (major, minor) in [(0, 0), (8, 1), (259, 70000), (0xf_ffff, 0xf_ffff)] {
            let id = DeviceId { major, minor };
            assert_eq!(decode_device(encode_device(id)), id);
        }
        assert_eq!(encode_device(DeviceId { major: 8, minor: 1 }), 0x801);
    }
}
