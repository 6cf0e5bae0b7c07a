//! The snapshots of a file system as directories: `.zfs/snapshot/NAME`.
//!
//! Two directories that exist nowhere on disk, and below them the roots of snapshots, each a file system of its own that
//! is opened when first looked at and lives as long as something of it is in use. Everything in them is read-only.
//! The name is looked up in the root directory only; with `snapdir=visible` it is listed there too.
use crate::error::to_vfs;
use crate::fs::ZplFs;
use alloc::sync::Arc;
use core::any::Any;
use vfs::{Attr, DirEntry, Error, FileSystem, FileType, Result, SetAttr, TimeSpec, Vnode, VnodeRef};

/// Its name in the root directory.
pub(crate) const NAME: &[u8] = b".zfs";
const SNAPSHOT: &[u8] = b"snapshot";
/// Inode numbers, as OpenZFS has them: no object has them.
pub(crate) const INO_ROOT: u64 = 0xffff_ffff_ffff;
const INO_SNAPDIR: u64 = 0xffff_ffff_fffd;
/// Where listing the root directory goes on at the name, and after it: no ZAP has cursors like these.
pub(crate) const CURSOR: u64 = 1 << 61;
pub(crate) const CURSOR_END: u64 = CURSOR + 1;

/// `snapdir=disabled`.
pub(crate) const DISABLED: u64 = 2;
/// `snapdir=visible`.
pub(crate) const VISIBLE: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Root,
    Snapshots,
}

/// One of the two directories.
pub(crate) struct CtlDir {
    fs: Arc<ZplFs>,
    which: Which,
}

impl CtlDir {
    /// `.zfs`
    pub(crate) fn root(fs: Arc<ZplFs>) -> VnodeRef {
        Arc::new(Self { fs, which: Which::Root })
    }

    fn snapshots(&self) -> VnodeRef {
        Arc::new(Self { fs: self.fs.clone(), which: Which::Snapshots })
    }
}

impl Vnode for CtlDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn kind(&self) -> FileType {
        FileType::Directory
    }

    fn ino(&self) -> u64 {
        if self.which == Which::Root { INO_ROOT } else { INO_SNAPDIR }
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn getattr(&self) -> Result<Attr> {
        let nr_below = match self.which {
            Which::Root => 1,
            Which::Snapshots => self.fs.backing().snapshots().map_err(to_vfs)?.len() as u64,
        };
        let root = self.fs.root()?.getattr()?;
        let now: TimeSpec = root.mtime;
        Ok(Attr {
            ino: self.ino(),
            perm: 0o555,
            nlink: nr_below + 2,
            uid: 0,
            gid: 0,
            size: nr_below + 2,
            blocks: 0,
            mtime: now,
            ..root
        })
    }

    fn setattr(&self, _set: &SetAttr) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn lookup(&self, name: &[u8]) -> Result<VnodeRef> {
        if self.which == Which::Root {
            return if name == SNAPSHOT { Ok(self.snapshots()) } else { Err(Error::NotFound) };
        }
        let name = core::str::from_utf8(name).map_err(|_| Error::NotFound)?;
        let snapshot = self.fs.backing().open_snapshot(name).map_err(|e| match e {
            crate::Error::Zfs(zfs::Error::NotFound | zfs::Error::Invalid) => Error::NotFound,
            crate::Error::Zfs(e) => to_vfs(e),
            crate::Error::Vfs(e) => e,
            _ => Error::Io,
        })?;
        snapshot.root()
    }

    /// Snapshots come, go and are renamed by commands on the pool. A name that was kept would also keep the snapshot in
    /// use, and so from being destroyed.
    fn keeps_names(&self) -> bool {
        self.which == Which::Root
    }

    fn parent(&self) -> Result<VnodeRef> {
        match self.which {
            Which::Root => self.fs.root(),
            Which::Snapshots => Ok(Self::root(self.fs.clone())),
        }
    }

    fn create(
        &self,
        _name: &[u8],
        _node: vfs::NewNode<'_>,
        _perm: u32,
        _cred: vfs::Cred,
    ) -> Result<VnodeRef> {
        Err(Error::ReadOnly)
    }

    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn link(&self, _name: &[u8], _target: &VnodeRef) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn rename(&self, _from: &[u8], _to_dir: &VnodeRef, _to: &[u8], _mode: vfs::RenameMode) -> Result<()> {
        Err(Error::ReadOnly)
    }

    fn readdir(&self, cursor: u64, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let kind = FileType::Directory;
        if self.which == Which::Root {
            if cursor == 0 {
                each(DirEntry { name: SNAPSHOT, ino: INO_SNAPDIR, kind, next_cursor: 1 });
            }
            return Ok(());
        }
        // Sorted by number, which is also where to go on: snapshots may come and go meanwhile.
        for (id, name) in self.fs.backing().snapshots().map_err(to_vfs)? {
            if id >= cursor && !each(DirEntry { name: name.as_bytes(), ino: id, kind, next_cursor: id + 1 }) {
                break;
            }
        }
        Ok(())
    }
}
