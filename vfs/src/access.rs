//! Permission checks, for callers that are not root.
use crate::attr::{Attr, Cred};
use crate::dentry::Dentry;
use crate::error::{Error, Result};

bitflags::bitflags! {
    /// What a caller wants to do, as in access(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Execute, or search a directory.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Effective ids.
    pub cred: Cred,
    /// Supplementary groups.
    pub groups: &'a [u32],
}

impl Caller<'_> {
    /// The super-user.
    pub const ROOT: Caller<'static> = Caller { cred: Cred { uid: 0, gid: 0 }, groups: &[] };

    /// Whether the caller is a member of `gid`.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.cred.gid == gid || self.groups.contains(&gid)
    }
}

/// Checks `want` against the permission bits. Root may everything, except execute what no one may.
///
/// # Errors
/// [`Error::Access`].
pub fn check_access(attr: &Attr, caller: &Caller<'_>, want: Access) -> Result<()> {
    if caller.cred.uid == 0 {
        let is_plain_file = attr.kind == crate::attr::FileType::Regular;
        let is_denied = want.contains(Access::EXEC) && is_plain_file && attr.perm & 0o111 == 0;
        return if is_denied { Err(Error::Access) } else { Ok(()) };
    }
    let shift = if caller.cred.uid == attr.uid {
        6
    } else if caller.is_in_group(attr.gid) {
        3
    } else {
        0
    };
    if attr.perm >> shift & want.bits() == want.bits() { Ok(()) } else { Err(Error::Access) }
}

/// As [`check_access`] for a dentry; root's checks of directories cost nothing.
///
/// # Errors
/// [`Error::Access`], or the attributes cannot be read.
pub fn check_dentry(dentry: &Dentry, caller: &Caller<'_>, want: Access) -> Result<()> {
    if caller.cred.uid == 0 && (dentry.is_dir() || !want.contains(Access::EXEC)) {
        return Ok(());
    }
    check_access(&dentry.vnode().getattr()?, caller, want)
}

/// Whether `caller` may remove `victim` from `dir` (which it may write): the sticky bit.
///
/// # Errors
/// [`Error::NotPermitted`].
pub fn check_sticky(dir: &Dentry, victim: &Dentry, caller: &Caller<'_>) -> Result<()> {
    let uid = caller.cred.uid;
    if uid == 0 {
        return Ok(());
    }
    let attr = dir.vnode().getattr()?;
    if attr.perm & 0o1000 == 0 || attr.uid == uid || victim.vnode().getattr()?.uid == uid {
        Ok(())
    } else {
        Err(Error::NotPermitted)
    }
}
