//! Flags and small structures that calls share.
use crate::errno::{Errno, SysResult};
use linux_raw_sys::general as k;
use vfs::{OpenFlags, WalkFlags};

/// Open flags the kernel knows; others are ignored by open and refused by openat2.
pub const OPEN_KNOWN: u32 = k::O_ACCMODE
    | k::O_CREAT
    | k::O_EXCL
    | k::O_NOCTTY
    | k::O_TRUNC
    | k::O_APPEND
    | k::O_NONBLOCK
    | k::O_DSYNC
    | k::O_SYNC
    | k::FASYNC
    | k::O_DIRECT
    | k::O_LARGEFILE
    | k::O_DIRECTORY
    | k::O_NOFOLLOW
    | k::O_NOATIME
    | k::O_CLOEXEC
    | k::O_PATH
    | k::O_TMPFILE;

const PAIRS: [(u32, OpenFlags); 11] = [
    (k::O_CREAT, OpenFlags::CREATE),
    (k::O_EXCL, OpenFlags::EXCLUSIVE),
    (k::O_TRUNC, OpenFlags::TRUNCATE),
    (k::O_APPEND, OpenFlags::APPEND),
    (k::O_DIRECTORY, OpenFlags::DIRECTORY),
    (k::O_NOFOLLOW, OpenFlags::NO_FOLLOW),
    (k::O_PATH, OpenFlags::PATH),
    (k::O_DSYNC, OpenFlags::DSYNC),
    (k::O_NONBLOCK, OpenFlags::NON_BLOCKING),
    (k::O_DIRECT, OpenFlags::DIRECT),
    (k::O_NOATIME, OpenFlags::NO_ATIME),
];

/// `O_*` as the file layer has it.
///
/// # Errors
/// [`Errno::EINVAL`] for combinations that make no sense.
pub fn open_flags(raw: u32) -> SysResult<OpenFlags> {
    let mut flags = match raw & k::O_ACCMODE {
        k::O_RDONLY => OpenFlags::READ,
        k::O_WRONLY => OpenFlags::WRITE,
        k::O_RDWR => OpenFlags::READ | OpenFlags::WRITE,
        _ => OpenFlags::empty(),
    };
    for (bit, flag) in PAIRS {
        flags.set(flag, raw & bit != 0);
    }
    if raw & k::O_SYNC == k::O_SYNC {
        flags |= OpenFlags::SYNC;
    }
    if raw & k::O_TMPFILE == k::O_TMPFILE {
        if !flags.contains(OpenFlags::WRITE) || flags.contains(OpenFlags::CREATE) {
            return Err(Errno::EINVAL);
        }
        flags |= OpenFlags::UNNAMED;
    }
    if flags.contains(OpenFlags::PATH) {
        let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW;
        flags &= kept;
    }
    Ok(flags)
}

/// What `F_GETFL` tells.
pub fn raw_open_flags(flags: OpenFlags) -> u32 {
    let mut raw = match (flags.contains(OpenFlags::READ), flags.contains(OpenFlags::WRITE)) {
        (true, true) => k::O_RDWR,
        (false, true) => k::O_WRONLY,
        _ => k::O_RDONLY,
    };
    let shown =
        [k::O_APPEND, k::O_DIRECTORY, k::O_NOFOLLOW, k::O_PATH, k::O_DSYNC, k::O_NONBLOCK, k::O_DIRECT];
    for (bit, flag) in PAIRS {
        if shown.contains(&bit) && flags.contains(flag) {
            raw |= bit;
        }
    }
    if flags.contains(OpenFlags::SYNC) {
        raw |= k::O_SYNC;
    }
    raw | k::O_LARGEFILE
}

/// Following of the last link for `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH`.
///
/// # Errors
/// [`Errno::EINVAL`] for flags not in `known`.
pub fn walk_flags(at: u32, known: u32) -> SysResult<WalkFlags> {
    if at & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = WalkFlags::empty();
    flags.set(WalkFlags::FOLLOW, at & k::AT_SYMLINK_NOFOLLOW == 0);
    flags.set(WalkFlags::EMPTY_PATH, at & k::AT_EMPTY_PATH != 0);
    Ok(flags)
}

/// A length or offset that must not be negative.
///
/// # Errors
/// [`Errno::EINVAL`].
pub fn not_negative(value: u64) -> SysResult<u64> {
    if value > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_go_both_ways() {
        let raw = k::O_RDWR | k::O_APPEND | k::O_NONBLOCK | k::O_DSYNC;
        assert_eq!(raw_open_flags(open_flags(raw).unwrap()), raw | k::O_LARGEFILE);
        let sync = open_flags(k::O_WRONLY | k::O_SYNC).unwrap();
        assert!(sync.contains(OpenFlags::SYNC | OpenFlags::DSYNC));
        assert_eq!(raw_open_flags(sync) & k::O_SYNC, k::O_SYNC);
        let path = open_flags(k::O_PATH | k::O_RDWR | k::O_CREAT).unwrap();
        assert_eq!(path, OpenFlags::PATH);
        assert_eq!(open_flags(k::O_TMPFILE), Err(Errno::EINVAL));
        assert!(open_flags(k::O_TMPFILE | k::O_RDWR).unwrap().contains(OpenFlags::UNNAMED));
    }
}
