//! Root, working directory and umask, and path walks from them.
use super::Task;
use crate::errno::{Errno, SysResult};
use crate::kernel::kernel;
use rt::SpinLock;
use vfs::{DentryRef, File, WalkFlags, WalkFrom};

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = -100;

/// Where a process is (shared by `CLONE_FS`).
#[derive(Debug)]
pub struct Place(SpinLock<Where>);

#[derive(Clone, Debug)]
struct Where {
    root: DentryRef,
    cwd: DentryRef,
    umask: u32,
}

impl Place {
    /// At `root`.
    pub fn new(root: DentryRef, cwd: DentryRef) -> Self {
        Self(SpinLock::new(Where { root, cwd, umask: 0o022 }))
    }

    /// A copy, as fork makes it.
    pub fn duplicate(&self) -> Self {
        Self(SpinLock::new(self.0.lock().clone()))
    }

    /// The root directory.
    pub fn root(&self) -> DentryRef {
        self.0.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> DentryRef {
        self.0.lock().cwd.clone()
    }

    /// Changes the working directory.
    pub fn set_cwd(&self, cwd: DentryRef) {
        let before = core::mem::replace(&mut self.0.lock().cwd, cwd);
        drop(before);
    }

    /// Changes the root directory.
    pub fn set_root(&self, root: DentryRef) {
        let before = core::mem::replace(&mut self.0.lock().root, root);
        drop(before);
    }

    /// Permission bits that new files do not get.
    pub fn umask(&self) -> u32 {
        self.0.lock().umask
    }

    /// Replaces the umask; what it was.
    pub fn set_umask(&self, umask: u32) -> u32 {
        core::mem::replace(&mut self.0.lock().umask, umask & 0o777)
    }
}

impl Task {
    /// Runs `f` with a walk that starts at directory `dirfd`, or at the working directory.
    ///
    /// # Errors
    /// [`Errno::EBADF`], [`Errno::ENOTDIR`], what `f` reports.
    pub fn walk_from<R>(
        &self,
        dirfd: i32,
        path: &[u8],
        f: impl FnOnce(&WalkFrom<'_>) -> SysResult<R>,
    ) -> SysResult<R> {
        let cred = self.process.cred.lock().clone();
        let at = self.place.0.lock().clone();
        let caller = cred.as_caller();
        if dirfd == AT_FDCWD || path.first() == Some(&b'/') {
            return f(&WalkFrom { caller, root: &at.root, start: &at.cwd });
        }
        let file = self.file(dirfd)?;
        let file: &File = file.as_file().ok_or(Errno::ENOTDIR)?;
        f(&WalkFrom { caller, root: &at.root, start: file.dentry() })
    }

    /// The dentry a path names.
    ///
    /// # Errors
    /// As path_resolution(7).
    pub fn resolve(&self, dirfd: i32, path: &[u8], flags: WalkFlags) -> SysResult<DentryRef> {
        self.walk_from(dirfd, path, |from| Ok(kernel().namespace.walk(from, path, flags)?))
    }
}
