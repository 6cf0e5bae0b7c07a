//! Znodes as vnodes.
use crate::ctldir::{self, CtlDir};
use crate::znode::Znode;
use abd::PageRef;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use ondisk::ObjectId;
use vfs::{
    Attr, CloneMode, Cred, DirEntry, Error, FallocateMode, FileSystem, FileType, Fsync, MapAccess, NewNode,
    ReadSink, RenameMode, Result, SeekWhat, SetAttr, Vnode, VnodeRef, WriteSource, XattrMode,
};

/// A vnode of the same file system as a znode.
fn own(this: &Znode, vnode: &VnodeRef) -> Result<Arc<Znode>> {
    let other = vnode.as_any().downcast_ref::<Znode>().ok_or(Error::CrossDevice)?;
    if Arc::ptr_eq(&other.fs, &this.fs) { other.arc() } else { Err(Error::CrossDevice) }
}

impl Znode {
    /// `.zfs` of the root directory.
    fn control_directory(&self) -> Result<VnodeRef> {
        if self.object() != self.fs.root_object() || self.fs.snap_dir() == ctldir::DISABLED {
            return Err(Error::NotFound);
        }
        Ok(CtlDir::root(self.fs.clone()))
    }
}

impl Vnode for Znode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn ino(&self) -> u64 {
        self.id()
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn getattr(&self) -> Result<Attr> {
        Ok(self.stat())
    }

    fn setattr(&self, set: &SetAttr) -> Result<()> {
        self.ended(self.set_attributes(set))
    }

    fn lookup(&self, name: &[u8]) -> Result<VnodeRef> {
        let found = match self.lookup_znode(name) {
            Err(Error::NotFound) if name == ctldir::NAME => return self.control_directory(),
            found => found?,
        };
        Ok(found)
    }

    fn parent(&self) -> Result<VnodeRef> {
        if !self.is_dir() {
            return Err(Error::NotDirectory);
        }
        let parent = self.attrs.lock().parent;
        let parent = self.fs.hold(ObjectId(parent))?;
        Ok(parent)
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, perm: u32, cred: Cred) -> Result<VnodeRef> {
        let made = self.ended(self.create_entry(name, node, perm, cred))?;
        Ok(made)
    }

    fn create_unnamed(&self, perm: u32, cred: Cred) -> Result<VnodeRef> {
        let made = self.create_unnamed_file(perm, cred)?;
        Ok(made)
    }

    fn link(&self, name: &[u8], target: &VnodeRef) -> Result<()> {
        self.ended(self.link_entry(name, &own(self, target)?))
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.ended(self.unlink_entry(name))
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.ended(self.rmdir_entry(name))
    }

    fn rename(&self, from: &[u8], to_dir: &VnodeRef, to: &[u8], mode: RenameMode) -> Result<()> {
        self.ended(self.rename_entry(from, &own(self, to_dir)?, to, mode))
    }

    fn readdir(&self, cursor: u64, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        if self.object() != self.fs.root_object() || self.fs.snap_dir() != ctldir::VISIBLE {
            return self.read_entries(cursor, each);
        }
        let mut is_stopped = cursor >= ctldir::CURSOR_END;
        if cursor < ctldir::CURSOR {
            self.read_entries(cursor, &mut |entry| {
                is_stopped = !each(entry);
                !is_stopped
            })?;
        }
        if !is_stopped {
            let (kind, next_cursor) = (FileType::Directory, ctldir::CURSOR_END);
            each(DirEntry { name: ctldir::NAME, ino: ctldir::INO_ROOT, kind, next_cursor });
        }
        Ok(())
    }

    fn read(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        self.read_at(offset, sink)
    }

    fn write(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        self.ended(self.write_at(offset, source))
    }

    fn append(&self, source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        self.ended(self.append_all(source))
    }

    fn fsync(&self, _range: Range<u64>, _what: Fsync) -> Result<()> {
        self.sync()
    }

    fn fallocate(&self, mode: FallocateMode, range: Range<u64>) -> Result<()> {
        self.ended(self.allocate(mode, range))
    }

    fn clone_range(&self, to: u64, source: &VnodeRef, from: Range<u64>, mode: CloneMode) -> Result<u64> {
        let source = source.as_any().downcast_ref::<Self>().ok_or(Error::CrossDevice)?;
        self.ended(self.clone_from(to, source, from, mode))
    }

    fn seek(&self, what: SeekWhat, offset: u64) -> Result<u64> {
        self.seek_to(what, offset)
    }

    fn map_page(&self, offset: u64, _access: MapAccess) -> Result<PageRef> {
        self.page_at(offset)
    }

    fn write_page(&self, offset: u64, page: &[u8]) -> Result<()> {
        self.ended(self.write_mapped(offset, page))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.target()
    }

    fn getxattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattr(name)
    }

    fn setxattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.ended(self.set_xattr(name, value, mode))
    }

    fn removexattr(&self, name: &[u8]) -> Result<()> {
        self.ended(self.remove_xattr(name))
    }

    fn listxattr(&self) -> Result<Vec<Vec<u8>>> {
        self.xattr_names()
    }
}
