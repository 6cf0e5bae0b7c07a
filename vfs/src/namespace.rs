//! The name space: mounts, the root, and every change of a name.
//!
//! All changes of names go through here, because here the name cache is kept true: a change holds the change lock
//! of each name it touches from before the file system's operation until the cache says what came out of it.
//!
//! What it is not: the path walk (see [`crate::walk`]), which only looks up.
use crate::access::{Access, Caller, check_dentry, check_sticky};
use crate::attr::FileType;
use crate::dcache::{Cached, NameCache};
use crate::dentry::{Dentry, DentryRef};
use crate::device::DeviceTable;
use crate::error::{Error, Result};
use crate::mount::{Mount, MountFlags, MountInfo};
use crate::node::{FileSystem, NameCaching, NewNode, RenameMode, VnodeRef};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use rt::Mutex;

/// Longest name, bytes.
pub const NAME_MAX: usize = 255;

/// The name space.
pub struct Namespace {
    cache: NameCache,
    root: DentryRef,
    mounts: Mutex<Vec<(Arc<Mount>, DentryRef)>>,
    /// Held while a directory moves to another directory: two such moves could otherwise make a loop.
    moving: Mutex<()>,
    devices: DeviceTable,
    next_mount: AtomicU64,
}

impl Namespace {
    /// A name space whose root is the root of `fs`, with a cache of about `cache_max` names.
    ///
    /// # Errors
    /// When the root cannot be read.
    pub fn new(fs: Arc<dyn FileSystem>, flags: MountFlags, cache_max: usize) -> Result<Arc<Self>> {
        let vnode = fs.root()?;
        let mount = Arc::new(Mount { id: 1, fs, flags, covered: None });
        let root = Dentry::new(vnode, mount.clone(), None, b"");
        Ok(Arc::new(Self {
            cache: NameCache::new(cache_max),
            root: root.clone(),
            mounts: Mutex::new(alloc::vec![(mount, root)]),
            moving: Mutex::new(()),
            devices: DeviceTable::default(),
            next_mount: AtomicU64::new(2),
        }))
    }

    /// The root of everything.
    pub fn root(&self) -> &DentryRef {
        &self.root
    }

    /// Drivers of device nodes.
    pub fn devices(&self) -> &DeviceTable {
        &self.devices
    }

    /// Mounts `fs` on the directory `at`.
    ///
    /// # Errors
    /// [`Error::NotDirectory`]; [`Error::Busy`] when something is mounted there already.
    pub fn mount(&self, at: &DentryRef, fs: Arc<dyn FileSystem>, flags: MountFlags) -> Result<DentryRef> {
        if !at.is_dir() {
            return Err(Error::NotDirectory);
        }
        let vnode = fs.root()?;
        let mut mounts = self.mounts.lock();
        if at.is_mountpoint() {
            return Err(Error::Busy);
        }
        let id = self.next_mount.fetch_add(1, Ordering::Relaxed);
        let mount = Arc::new(Mount { id, fs, flags, covered: Some(at.clone()) });
        let root = Dentry::new(vnode, mount.clone(), None, b"");
        mounts.push((mount, root.clone()));
        at.set_mounted(Some(root.clone()));
        Ok(root)
    }

    /// Ends the mount whose root is `root`.
    ///
    /// # Errors
    /// [`Error::Invalid`]: not a mount's root, or the root of everything; [`Error::Busy`]: in use; what the file
    /// system reports.
    pub fn unmount(&self, root: DentryRef) -> Result<()> {
        let mut mounts = self.mounts.lock();
        let at = mounts.iter().position(|(_, r)| Arc::ptr_eq(r, &root)).ok_or(Error::Invalid)?;
        let mount = mounts[at].0.clone();
        let Some(covered) = mount.covered.clone() else { return Err(Error::Invalid) };
        covered.set_mounted(None);
        // References left: the table's and the caller's.
        if self.cache.purge(&mount) > 0 || Arc::strong_count(&root) > 2 {
            covered.set_mounted(Some(root));
            return Err(Error::Busy);
        }
        mount.fs.sync()?;
        mounts.remove(at);
        drop(mounts);
        drop(root);
        mount.fs.unmount()
    }

    /// Unmounts everything, the innermost first, and the root file system last; for shutdown. Nothing may use the
    /// name space afterwards.
    ///
    /// # Errors
    /// The first that occurred; the rest is still unmounted.
    pub fn unmount_all(&self) -> Result<()> {
        let mut result = Ok(());
        let mounts: Vec<_> = core::mem::take(&mut *self.mounts.lock());
        self.cache.shrink();
        for (mount, root) in mounts.into_iter().rev() {
            self.cache.purge(&mount);
            if let Some(covered) = &mount.covered {
                covered.set_mounted(None);
            }
            drop(root);
            result = result.and(mount.fs.sync());
            // The name space holds its own root, and whoever is left may hold more: everything is durable already.
            match mount.fs.unmount() {
                Ok(()) | Err(Error::Busy) => {}
                Err(e) => result = result.and(Err(e)),
            }
        }
        result
    }

    /// Everything mounted, in mounting order.
    pub fn mounts(&self) -> Vec<MountInfo> {
        let mounts: Vec<_> = self.mounts.lock().clone();
        let info = |(mount, root): &(Arc<Mount>, DentryRef)| {
            let stat = mount.fs.statfs().unwrap_or_default();
            MountInfo {
                id: mount.id,
                parent_id: mount.covered.as_ref().map_or(mount.id, |d| d.mount().id),
                device: mount.fs.device_id(),
                path: self.path_of(root, &self.root),
                source: stat.source,
                fs_type: stat.fs_type,
                flags: mount.flags,
            }
        };
        mounts.iter().map(info).collect()
    }

    /// Makes everything in every file system durable.
    ///
    /// # Errors
    /// The first that occurred; the rest is still synced.
    pub fn sync(&self) -> Result<()> {
        let mounts: Vec<_> = self.mounts.lock().clone();
        let mut result = Ok(());
        for (mount, _) in &mounts {
            result = result.and(mount.fs.sync());
        }
        result
    }

    /// Drops every cached name that is not in use.
    pub fn shrink_cache(&self) {
        self.cache.shrink();
    }

    /// Names cached, negative ones included.
    pub fn cached_names(&self) -> usize {
        self.cache.len()
    }

    /// The entry `name` of `dir`, without crossing a mount.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NameTooLong`], what the file system reports.
    pub fn lookup(&self, dir: &DentryRef, name: &[u8]) -> Result<DentryRef> {
        let hash = self.cache.hash(dir.id(), name);
        match self.cache.find(hash, dir.id(), name) {
            Cached::Hit(dentry) => Ok(dentry),
            Cached::Negative => Err(Error::NotFound),
            Cached::Miss => self.lookup_miss(dir, name, hash),
        }
    }

    #[cold]
    fn lookup_miss(&self, dir: &DentryRef, name: &[u8], hash: u64) -> Result<DentryRef> {
        if !dir.is_dir() {
            return Err(Error::NotDirectory);
        }
        let _changing = self.cache.lock_change(hash);
        self.lookup_locked(dir, name, hash)
    }

    /// The caller holds the change lock.
    fn lookup_locked(&self, dir: &DentryRef, name: &[u8], hash: u64) -> Result<DentryRef> {
        match self.cache.find(hash, dir.id(), name) {
            Cached::Hit(dentry) => return Ok(dentry),
            Cached::Negative => return Err(Error::NotFound),
            Cached::Miss => {}
        }
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        let caching = caching_in(dir);
        match dir.vnode().lookup(name) {
            Ok(vnode) => {
                let dentry = Dentry::new(vnode, dir.mount().clone(), Some(dir.clone()), name);
                if caching != NameCaching::Never {
                    self.cache.put(hash, dir.id(), name, Some(dentry.clone()));
                }
                Ok(dentry)
            }
            Err(Error::NotFound) => {
                if caching == NameCaching::All {
                    self.cache.put(hash, dir.id(), name, None);
                }
                Err(Error::NotFound)
            }
            Err(e) => Err(e),
        }
    }

    fn check_change(&self, dir: &DentryRef, name: &[u8], caller: &Caller<'_>) -> Result<()> {
        if !dir.is_dir() {
            return Err(Error::NotDirectory);
        }
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        check_dentry(dir, caller, Access::WRITE | Access::EXEC)?;
        if dir.mount().is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    fn forget(&self, hash: u64, dir: &DentryRef, name: &[u8]) {
        let target = None;
        if dir.mount().fs.name_caching() == NameCaching::All {
            self.cache.put(hash, dir.id(), name, target);
        } else {
            drop(self.cache.take(hash, dir.id(), name));
        }
    }

    fn remember(&self, hash: u64, dir: &DentryRef, name: &[u8], dentry: &DentryRef) {
        if dir.mount().fs.name_caching() != NameCaching::Never {
            self.cache.put(hash, dir.id(), name, Some(dentry.clone()));
        }
    }

    /// Makes `name` in `dir`. `perm` already has the umask applied.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Access`], what the file system reports.
    pub fn create(
        &self,
        dir: &DentryRef,
        name: &[u8],
        node: NewNode<'_>,
        perm: u32,
        caller: &Caller<'_>,
    ) -> Result<DentryRef> {
        self.create_or_get(dir, name, node, perm, caller, true).map(|(dentry, _)| dentry)
    }

    /// As [`Namespace::create`]; unless `must_create`, what is there already is given. The flag tells whether it
    /// was made.
    ///
    /// # Errors
    /// As [`Namespace::create`].
    pub fn create_or_get(
        &self,
        dir: &DentryRef,
        name: &[u8],
        node: NewNode<'_>,
        perm: u32,
        caller: &Caller<'_>,
        must_create: bool,
    ) -> Result<(DentryRef, bool)> {
        if !dir.is_dir() {
            return Err(Error::NotDirectory);
        }
        let hash = self.cache.hash(dir.id(), name);
        let _changing = self.cache.lock_change(hash);
        let is_known_absent = match self.cache.find(hash, dir.id(), name) {
            Cached::Hit(_) if must_create => return Err(Error::Exists),
            Cached::Hit(dentry) => return Ok((dentry, false)),
            Cached::Negative => true,
            Cached::Miss => false,
        };
        // Existence is reported before a lack of permission, as Linux does; the file system reports it itself
        // when the permission is there.
        if let Err(e) = self.check_change(dir, name, caller) {
            if !is_known_absent && let Ok(dentry) = self.lookup_locked(dir, name, hash) {
                return if must_create { Err(Error::Exists) } else { Ok((dentry, false)) };
            }
            return Err(e);
        }
        let (perm, cred) = inherit_group(dir, node, perm, caller)?;
        let vnode = match dir.vnode().create(name, node, perm, cred) {
            Ok(vnode) => vnode,
            Err(Error::Exists) if !must_create => {
                return self.lookup_locked(dir, name, hash).map(|dentry| (dentry, false));
            }
            Err(e) => return Err(e),
        };
        let dentry = Dentry::new(vnode, dir.mount().clone(), Some(dir.clone()), name);
        self.remember(hash, dir, name, &dentry);
        Ok((dentry, true))
    }

    /// Makes an unnamed file in `dir`'s file system (`O_TMPFILE`).
    ///
    /// # Errors
    /// As [`Namespace::create`]; [`Error::Unsupported`].
    pub fn create_unnamed(&self, dir: &DentryRef, perm: u32, caller: &Caller<'_>) -> Result<DentryRef> {
        self.check_change(dir, b"", caller)?;
        let (perm, cred) = inherit_group(dir, NewNode::Regular, perm, caller)?;
        let vnode = dir.vnode().create_unnamed(perm, cred)?;
        let name = alloc::format!("#{}", vnode.ino());
        let dentry = Dentry::new(vnode, dir.mount().clone(), Some(dir.clone()), name.as_bytes());
        dentry.set_removed();
        Ok(dentry)
    }

    /// Makes `name` in `dir` another name of `target`.
    ///
    /// # Errors
    /// [`Error::CrossDevice`], [`Error::NotPermitted`] (a directory), [`Error::Exists`], what the file system
    /// reports.
    pub fn link(&self, dir: &DentryRef, name: &[u8], target: &DentryRef, caller: &Caller<'_>) -> Result<()> {
        let hash = self.cache.hash(dir.id(), name);
        let _changing = self.cache.lock_change(hash);
        if let Cached::Hit(_) = self.cache.find(hash, dir.id(), name) {
            return Err(Error::Exists);
        }
        if dir.mount().id != target.mount().id {
            return Err(Error::CrossDevice);
        }
        self.check_change(dir, name, caller)?;
        if target.is_dir() {
            return Err(Error::NotPermitted);
        }
        dir.vnode().link(name, target.vnode())?;
        let dentry = Dentry::new(target.vnode().clone(), dir.mount().clone(), Some(dir.clone()), name);
        self.remember(hash, dir, name, &dentry);
        Ok(())
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`], [`Error::NotPermitted`], what the file system reports.
    pub fn unlink(&self, dir: &DentryRef, name: &[u8], caller: &Caller<'_>) -> Result<()> {
        let hash = self.cache.hash(dir.id(), name);
        let _changing = self.cache.lock_change(hash);
        let victim = self.lookup_locked(dir, name, hash)?;
        self.check_change(dir, name, caller)?;
        check_sticky(dir, &victim, caller)?;
        if victim.is_dir() {
            return Err(Error::IsDirectory);
        }
        let victim = self.detach(victim, hash, dir, name);
        let removed = dir.vnode().unlink(name);
        self.settle_removal(removed, victim, hash, dir, name)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotDirectory`], [`Error::NotEmpty`], [`Error::Busy`] (a mount point), what
    /// the file system reports.
    pub fn rmdir(&self, dir: &DentryRef, name: &[u8], caller: &Caller<'_>) -> Result<()> {
        let hash = self.cache.hash(dir.id(), name);
        let _changing = self.cache.lock_change(hash);
        let victim = self.lookup_locked(dir, name, hash)?;
        self.check_change(dir, name, caller)?;
        check_sticky(dir, &victim, caller)?;
        if !victim.is_dir() {
            return Err(Error::NotDirectory);
        }
        if victim.is_mountpoint() {
            return Err(Error::Busy);
        }
        dir.vnode().rmdir(name)?;
        victim.set_removed();
        self.forget(hash, dir, name);
        Ok(())
    }

    /// Takes a file's dentry out of the cache, and drops it if no one else has it: then the file system sees that
    /// the last name of a file that is not open goes away, and can free it at once.
    fn detach(&self, victim: DentryRef, hash: u64, dir: &DentryRef, name: &[u8]) -> Option<DentryRef> {
        drop(self.cache.take(hash, dir.id(), name));
        (Arc::strong_count(&victim) > 1).then_some(victim)
    }

    fn settle_removal(
        &self,
        removed: Result<()>,
        victim: Option<DentryRef>,
        hash: u64,
        dir: &DentryRef,
        name: &[u8],
    ) -> Result<()> {
        match removed {
            Ok(()) => {
                if let Some(victim) = victim {
                    victim.set_removed();
                }
                self.forget(hash, dir, name);
            }
            Err(_) => {
                if let Some(victim) = victim {
                    self.remember(hash, dir, name, &victim);
                }
            }
        }
        removed
    }

    /// Moves `from` of `from_dir` to `to` of `to_dir`.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(
        &self,
        from_dir: &DentryRef,
        from: &[u8],
        to_dir: &DentryRef,
        to: &[u8],
        mode: RenameMode,
        caller: &Caller<'_>,
    ) -> Result<()> {
        if from_dir.mount().id != to_dir.mount().id {
            return Err(Error::CrossDevice);
        }
        let _moving = (!Arc::ptr_eq(from_dir, to_dir)).then(|| self.moving.lock());
        let from_hash = self.cache.hash(from_dir.id(), from);
        let to_hash = self.cache.hash(to_dir.id(), to);
        let _changing = self.cache.lock_change_two(from_hash, to_hash);
        let source = self.lookup_locked(from_dir, from, from_hash)?;
        let target = match self.lookup_locked(to_dir, to, to_hash) {
            Ok(target) => Some(target),
            Err(Error::NotFound) => None,
            Err(e) => return Err(e),
        };
        self.check_change(from_dir, from, caller)?;
        self.check_change(to_dir, to, caller)?;
        check_sticky(from_dir, &source, caller)?;
        check_rename(&source, target.as_ref(), to_dir, from_dir, mode)?;
        if let Some(target) = &target {
            check_sticky(to_dir, target, caller)?;
            let is_same_file = source.vnode().ino() == target.vnode().ino();
            if is_same_file && mode != RenameMode::NoReplace {
                return Ok(());
            }
        }
        if mode == RenameMode::Exchange {
            let target = target.ok_or(Error::NotFound)?;
            from_dir.vnode().rename(from, to_dir.vnode(), to, mode)?;
            target.set_place(from_dir.clone(), from);
            self.remember(from_hash, from_dir, from, &target);
        } else {
            let target = match target {
                Some(target) if !target.is_dir() => self.detach(target, to_hash, to_dir, to),
                other => other,
            };
            if let Err(e) = from_dir.vnode().rename(from, to_dir.vnode(), to, mode) {
                if let Some(target) = target {
                    self.remember(to_hash, to_dir, to, &target);
                }
                return Err(e);
            }
            if let Some(target) = target {
                target.set_removed();
            }
            self.forget(from_hash, from_dir, from);
        }
        source.set_place(to_dir.clone(), to);
        self.remember(to_hash, to_dir, to, &source);
        Ok(())
    }
}

/// What rename(2) forbids, before the file system is asked.
fn check_rename(
    source: &DentryRef,
    target: Option<&DentryRef>,
    to_dir: &DentryRef,
    from_dir: &DentryRef,
    mode: RenameMode,
) -> Result<()> {
    if mode == RenameMode::NoReplace && target.is_some() {
        return Err(Error::Exists);
    }
    if source.is_dir() && is_ancestor(source, to_dir) {
        return Err(Error::Invalid);
    }
    if source.is_mountpoint() {
        return Err(Error::Busy);
    }
    let Some(target) = target else {
        return if mode == RenameMode::Exchange { Err(Error::NotFound) } else { Ok(()) };
    };
    if target.is_dir() && is_ancestor(target, from_dir) {
        return Err(if mode == RenameMode::Exchange { Error::Invalid } else { Error::NotEmpty });
    }
    if target.is_mountpoint() {
        return Err(Error::Busy);
    }
    if mode == RenameMode::Exchange {
        return Ok(());
    }
    match (source.is_dir(), target.is_dir()) {
        (true, false) => Err(Error::NotDirectory),
        (false, true) => Err(Error::IsDirectory),
        _ => Ok(()),
    }
}

/// Whether `dir` is `upper` or lies below it in the same file system.
fn is_ancestor(upper: &DentryRef, dir: &DentryRef) -> bool {
    let mut at = dir.clone();
    loop {
        if Arc::ptr_eq(&at, upper) {
            return true;
        }
        match at.parent() {
            Some(parent) => at = parent,
            None => return false,
        }
    }
}

/// In a set-group-id directory new entries take its group, and directories the bit too.
fn inherit_group(
    dir: &DentryRef,
    node: NewNode<'_>,
    perm: u32,
    caller: &Caller<'_>,
) -> Result<(u32, crate::attr::Cred)> {
    const SET_GID: u32 = 0o2000;
    let attr = dir.vnode().getattr()?;
    let mut cred = caller.cred;
    if attr.perm & SET_GID == 0 {
        return Ok((perm, cred));
    }
    cred.gid = attr.gid;
    let is_dir = matches!(node, NewNode::Directory);
    Ok((if is_dir { perm | SET_GID } else { perm }, cred))
}

/// What may be kept of the names in a directory. Nothing of those in another file system that shows through this one (a
/// snapshot below `.zfs`): kept names would keep it in use.
fn caching_in(dir: &DentryRef) -> NameCaching {
    let fs = &dir.mount().fs;
    let is_kept = dir.vnode().keeps_names() && dir.vnode().fs().device_id() == fs.device_id();
    if is_kept { fs.name_caching() } else { NameCaching::Never }
}

/// Whether two vnodes are the same file.
pub fn is_same_vnode(a: &VnodeRef, b: &VnodeRef) -> bool {
    a.ino() == b.ino() && a.fs().device_id() == b.fs().device_id()
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({} names cached)", self.cache.len())
    }
}

/// The type an entry made from `node` has.
pub fn kind_of(node: NewNode<'_>) -> FileType {
    match node {
        NewNode::Regular => FileType::Regular,
        NewNode::Fifo => FileType::Fifo,
        NewNode::Socket => FileType::Socket,
        NewNode::CharDevice(_) => FileType::CharDevice,
        NewNode::BlockDevice(_) => FileType::BlockDevice,
        NewNode::Symlink(_) => FileType::Symlink,
        NewNode::Directory => FileType::Directory,
    }
}

#[cfg(test)]
mod tests;
