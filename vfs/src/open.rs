//! open(2) and the calls that change names, by path.
use crate::access::{Access, check_access, check_dentry};
use crate::attr::{FileType, SetAttr, without_set_id};
use crate::dentry::DentryRef;
use crate::error::{Error, Result};
use crate::file::{File, OpenFlags};
use crate::mount::MountFlags;
use crate::namespace::Namespace;
use crate::node::{NewNode, RenameMode};
use crate::walk::{Last, WalkFlags, WalkFrom};
use alloc::sync::Arc;

impl Namespace {
    /// Opens `path`. `perm` (umask applied) is for what it may create. FIFOs and sockets open as plain places:
    /// what reading and writing them means is the ABI layer's business.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, from: &WalkFrom<'_>, path: &[u8], flags: OpenFlags, perm: u32) -> Result<Arc<File>> {
        self.open_with(from, path, flags, perm, WalkFlags::empty())
    }

    /// As [`Namespace::open`] with restrictions on the walk (openat2).
    ///
    /// # Errors
    /// As openat2(2).
    pub fn open_with(
        &self,
        from: &WalkFrom<'_>,
        path: &[u8],
        flags: OpenFlags,
        perm: u32,
        resolve: WalkFlags,
    ) -> Result<Arc<File>> {
        let follow =
            if flags.contains(OpenFlags::NO_FOLLOW) { WalkFlags::empty() } else { WalkFlags::FOLLOW };
        if flags.contains(OpenFlags::UNNAMED) {
            let dir = self.walk(from, path, resolve | follow | WalkFlags::DIRECTORY)?;
            let dentry = self.create_unnamed(&dir, perm, &from.caller)?;
            return Ok(File::new(dentry, None, flags));
        }
        if flags.contains(OpenFlags::CREATE) && !flags.contains(OpenFlags::PATH) {
            let (dentry, is_new) = self.open_create(from, path, flags, perm, resolve)?;
            return if is_new {
                Ok(File::new(dentry, None, flags))
            } else {
                self.open_dentry(dentry, from, flags)
            };
        }
        let dentry = self.walk(from, path, resolve | follow)?;
        self.open_dentry(dentry, from, flags)
    }

    fn open_create(
        &self,
        from: &WalkFrom<'_>,
        path: &[u8],
        flags: OpenFlags,
        perm: u32,
        resolve: WalkFlags,
    ) -> Result<(DentryRef, bool)> {
        let is_exclusive = flags.contains(OpenFlags::EXCLUSIVE);
        let follow = if is_exclusive || flags.contains(OpenFlags::NO_FOLLOW) {
            WalkFlags::empty()
        } else {
            WalkFlags::FOLLOW
        };
        let parent = self.walk_parent(from, path, resolve | follow)?;
        let Last::Name(name) = &parent.last else { return Err(Error::IsDirectory) };
        if parent.has_slash {
            return Err(Error::IsDirectory);
        }
        check_dentry(&parent.dir, &from.caller, Access::EXEC)?;
        let known = if is_exclusive { Err(Error::NotFound) } else { self.lookup(&parent.dir, name) };
        let (dentry, is_new) = match known {
            Ok(dentry) => (dentry, false),
            Err(Error::NotFound) => {
                self.create_or_get(&parent.dir, name, NewNode::Regular, perm, &from.caller, is_exclusive)?
            }
            Err(e) => return Err(e),
        };
        if !is_new && dentry.is_dir() {
            return Err(Error::IsDirectory);
        }
        Ok((dentry, is_new))
    }

    /// Opens a dentry the walk found (also for /proc/self/fd links).
    ///
    /// # Errors
    /// As open(2).
    pub fn open_dentry(&self, dentry: DentryRef, from: &WalkFrom<'_>, flags: OpenFlags) -> Result<Arc<File>> {
        let kind = dentry.kind();
        if flags.contains(OpenFlags::DIRECTORY) && kind != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        if flags.contains(OpenFlags::PATH) {
            return Ok(File::new(dentry, None, flags));
        }
        if kind == FileType::Symlink {
            return Err(Error::Loop);
        }
        let is_change = flags.intersects(OpenFlags::WRITE | OpenFlags::TRUNCATE);
        if kind == FileType::Directory && is_change {
            return Err(Error::IsDirectory);
        }
        let mut want = Access::empty();
        want.set(Access::READ, flags.contains(OpenFlags::READ));
        want.set(Access::WRITE, is_change);
        let mut sheds_set_id = false;
        if from.caller.cred.uid != 0 {
            let attr = dentry.vnode().getattr()?;
            check_access(&attr, &from.caller, want)?;
            sheds_set_id = is_change && kind == FileType::Regular && without_set_id(attr.perm) != attr.perm;
        }
        let is_stored = matches!(kind, FileType::Regular | FileType::Directory);
        if is_change && is_stored && dentry.mount().is_read_only() {
            return Err(Error::ReadOnly);
        }
        let device = match kind {
            FileType::CharDevice => Some(self.open_device(&dentry)?),
            FileType::BlockDevice => return Err(Error::NoSuchAddress),
            _ => None,
        };
        if flags.contains(OpenFlags::TRUNCATE) && kind == FileType::Regular {
            dentry.vnode().setattr(&SetAttr { size: Some(0), ..SetAttr::default() })?;
        }
        let file = File::new_shedding(dentry, device, flags, sheds_set_id);
        if flags.contains(OpenFlags::TRUNCATE) {
            file.shed_set_id()?;
        }
        Ok(file)
    }

    fn open_device(&self, dentry: &DentryRef) -> Result<Arc<dyn crate::device::CharDevice>> {
        if dentry.mount().flags.contains(MountFlags::NO_DEV) {
            return Err(Error::Access);
        }
        let device = self.devices().get(dentry.vnode().getattr()?.rdev)?;
        Ok(device.open()?.unwrap_or(device))
    }

    /// mknod(2), mkdir(2), symlink(2).
    ///
    /// # Errors
    /// As those.
    pub fn create_at(
        &self,
        from: &WalkFrom<'_>,
        path: &[u8],
        node: NewNode<'_>,
        perm: u32,
    ) -> Result<DentryRef> {
        let parent = self.walk_parent(from, path, WalkFlags::empty())?;
        let name = parent.name(Error::Exists)?;
        if parent.has_slash && !matches!(node, NewNode::Directory) {
            return Err(match self.lookup(&parent.dir, name) {
                Ok(_) => Error::Exists,
                Err(e) => e,
            });
        }
        check_dentry(&parent.dir, &from.caller, Access::EXEC)?;
        self.create(&parent.dir, name, node, perm, &from.caller)
    }

    /// unlink(2).
    ///
    /// # Errors
    /// As that.
    pub fn unlink_at(&self, from: &WalkFrom<'_>, path: &[u8]) -> Result<()> {
        let parent = self.walk_parent(from, path, WalkFlags::empty())?;
        let name = parent.name(Error::IsDirectory)?;
        check_dentry(&parent.dir, &from.caller, Access::EXEC)?;
        if parent.has_slash {
            let found = self.lookup(&parent.dir, name)?;
            return Err(if found.is_dir() { Error::IsDirectory } else { Error::NotDirectory });
        }
        self.unlink(&parent.dir, name, &from.caller)
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// As that.
    pub fn rmdir_at(&self, from: &WalkFrom<'_>, path: &[u8]) -> Result<()> {
        let parent = self.walk_parent(from, path, WalkFlags::empty())?;
        let name = match &parent.last {
            Last::Name(name) => name,
            Last::Dot => return Err(Error::Invalid),
            Last::DotDot => return Err(Error::NotEmpty),
            Last::Root => return Err(Error::Busy),
        };
        check_dentry(&parent.dir, &from.caller, Access::EXEC)?;
        self.rmdir(&parent.dir, name, &from.caller)
    }

    /// link(2): `target` is what the old path was resolved to.
    ///
    /// # Errors
    /// As that.
    pub fn link_at(&self, target: &DentryRef, to: &WalkFrom<'_>, path: &[u8]) -> Result<()> {
        let parent = self.walk_parent(to, path, WalkFlags::empty())?;
        let name = parent.name(Error::Exists)?;
        if parent.has_slash {
            return Err(Error::NotFound);
        }
        check_dentry(&parent.dir, &to.caller, Access::EXEC)?;
        self.link(&parent.dir, name, target, &to.caller)
    }

    /// rename(2).
    ///
    /// # Errors
    /// As that.
    pub fn rename_at(
        &self,
        from: &WalkFrom<'_>,
        from_path: &[u8],
        to: &WalkFrom<'_>,
        to_path: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let source = self.walk_parent(from, from_path, WalkFlags::empty())?;
        let target = self.walk_parent(to, to_path, WalkFlags::empty())?;
        let from_name = source.name(Error::Busy)?;
        let otherwise = if mode == RenameMode::NoReplace { Error::Exists } else { Error::Busy };
        let to_name = target.name(otherwise)?;
        check_dentry(&source.dir, &from.caller, Access::EXEC)?;
        check_dentry(&target.dir, &to.caller, Access::EXEC)?;
        if source.has_slash || target.has_slash {
            let found = self.lookup(&source.dir, from_name)?;
            if !found.is_dir() {
                return Err(Error::NotDirectory);
            }
        }
        self.rename(&source.dir, from_name, &target.dir, to_name, mode, &from.caller)
    }
}
