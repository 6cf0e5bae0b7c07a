//! The vnode of a file in memory.
use super::data::Data;
use super::dir::Entries;
use super::{PAGE, RamFs};
use crate::attr::{Attr, Cred, DeviceId, FileType, SetAttr, SetTime, TimeSpec};
use crate::error::{Error, Result};
use crate::file::OFFSET_MAX;
use crate::io::{ReadSink, SliceSource, WriteSource};
use crate::namespace::{NAME_MAX, kind_of};
use crate::node::*;
use crate::range_lock::RangeLock;
use abd::PageRef;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::ops::Range;
use rt::{Mutex, RwLock};

/// Longest value of an extended attribute, bytes.
const XATTR_SIZE_MAX: usize = 65_536;
const LINKS_MAX: u64 = u32::MAX as u64;

struct Meta {
    perm: u32,
    nlink: u64,
    uid: u32,
    gid: u32,
    atime: TimeSpec,
    mtime: TimeSpec,
    ctime: TimeSpec,
    btime: TimeSpec,
}

enum Body {
    Regular { data: Data, ranges: RangeLock },
    Directory(RwLock<Entries>),
    Symlink(Vec<u8>),
    Other,
}

/// A file, directory or other object.
pub struct Inode {
    /// Itself, for those it becomes the parent of.
    me: Weak<Self>,
    fs: Arc<RamFs>,
    ino: u64,
    kind: FileType,
    rdev: DeviceId,
    meta: Mutex<Meta>,
    xattrs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    body: Body,
}

fn now() -> TimeSpec {
    let t = rt::wall_clock();
    TimeSpec { secs: t.secs, nanos: t.nanos }
}

impl Inode {
    pub(super) fn new_root(fs: &Arc<RamFs>, perm: u32) -> Arc<Self> {
        Self::new(fs, NewNode::Directory, perm, Cred::default(), Weak::new())
    }

    fn new(fs: &Arc<RamFs>, node: NewNode<'_>, perm: u32, cred: Cred, parent: Weak<Self>) -> Arc<Self> {
        let t = now();
        let (nlink, rdev, body) = match node {
            NewNode::Regular => {
                let body = Body::Regular { data: Data::new(fs.clone()), ranges: RangeLock::new() };
                (1, DeviceId::default(), body)
            }
            NewNode::Directory => {
                (2, DeviceId::default(), Body::Directory(RwLock::new(Entries::new(parent))))
            }
            NewNode::Symlink(target) => (1, DeviceId::default(), Body::Symlink(target.to_vec())),
            NewNode::CharDevice(rdev) | NewNode::BlockDevice(rdev) => (1, rdev, Body::Other),
            NewNode::Fifo | NewNode::Socket => (1, DeviceId::default(), Body::Other),
        };
        let (uid, gid) = (cred.uid, cred.gid);
        let meta = Meta { perm, nlink, uid, gid, atime: t, mtime: t, ctime: t, btime: t };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            fs: fs.clone(),
            ino: fs.next_ino(),
            kind: kind_of(node),
            rdev,
            meta: Mutex::new(meta),
            xattrs: Mutex::default(),
            body,
        })
    }

    /// Takes a whole tree apart, without recursion.
    pub(super) fn dismantle(self: Arc<Self>) {
        let mut rest = alloc::vec![self];
        while let Some(inode) = rest.pop() {
            if let Body::Directory(entries) = &inode.body {
                let all = entries.write().clear();
                rest.extend(all.into_values().map(|(_, child)| child));
            }
        }
    }

    fn entries(&self) -> Result<&RwLock<Entries>> {
        match &self.body {
            Body::Directory(entries) => Ok(entries),
            _ => Err(Error::NotDirectory),
        }
    }

    fn data(&self) -> Result<(&Data, &RangeLock)> {
        match &self.body {
            Body::Regular { data, ranges } => Ok((data, ranges)),
            Body::Directory(_) => Err(Error::IsDirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// Content changed.
    fn touch(&self) {
        let t = now();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (t, t);
    }

    fn add_links(&self, by: i64) {
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(by);
        meta.ctime = now();
    }

    /// One name is gone; a directory's `.` goes with it.
    fn lose_name(&self) {
        self.add_links(if self.kind == FileType::Directory { -2 } else { -1 });
    }

    /// The inode behind a vnode of the same file system.
    fn own<'a>(&self, vnode: &'a VnodeRef) -> Result<&'a Self> {
        let inode = vnode.as_any().downcast_ref::<Self>().filter(|inode| Arc::ptr_eq(&inode.fs, &self.fs));
        inode.ok_or(Error::CrossDevice)
    }

    /// Moves an entry that is there; `moving` is held. The kinds were checked.
    fn move_entry(&self, from: &[u8], to_dir: &Self, to: &[u8], source: Arc<Self>) -> Result<()> {
        let target = to_dir.entries()?.read().get(to).cloned();
        match &target {
            Some(target) => {
                if let Body::Directory(victim) = &target.body {
                    let mut victim = victim.write();
                    if !victim.is_empty() {
                        return Err(Error::NotEmpty);
                    }
                    victim.is_removed = true;
                }
                to_dir.entries()?.write().replace(to, source.clone());
                target.lose_name();
                if target.kind == FileType::Directory {
                    to_dir.add_links(-1);
                }
            }
            None => to_dir.entries()?.write().insert(to, source.clone())?,
        }
        self.entries()?.write().remove(from);
        source.set_parent(self, to_dir);
        Ok(())
    }

    /// A directory's `..` moves from one directory to another.
    fn set_parent(&self, from: &Self, to: &Self) {
        if let Body::Directory(entries) = &self.body
            && from.ino != to.ino
        {
            entries.write().parent = to.me.clone();
            from.add_links(-1);
            to.add_links(1);
        }
        self.meta.lock().ctime = now();
    }

    fn check_kinds(source: &Self, target: Option<&Arc<Self>>, mode: RenameMode) -> Result<()> {
        match (target, mode) {
            (Some(_), RenameMode::NoReplace) => Err(Error::Exists),
            (None, RenameMode::Exchange) => Err(Error::NotFound),
            (_, RenameMode::Exchange) | (None, _) => Ok(()),
            (Some(t), _) => match (source.kind == FileType::Directory, t.kind == FileType::Directory) {
                (true, false) => Err(Error::NotDirectory),
                (false, true) => Err(Error::IsDirectory),
                _ => Ok(()),
            },
        }
    }

    fn exchange(
        &self,
        from: &[u8],
        to_dir: &Self,
        to: &[u8],
        source: &Arc<Self>,
        target: &Arc<Self>,
    ) -> Result<()> {
        self.entries()?.write().replace(from, target.clone());
        to_dir.entries()?.write().replace(to, source.clone());
        source.set_parent(self, to_dir);
        target.set_parent(to_dir, self);
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX { Err(Error::NameTooLong) } else { Ok(()) }
}

fn resolve(time: Option<SetTime>, old: TimeSpec) -> TimeSpec {
    match time {
        None => old,
        Some(SetTime::Now) => now(),
        Some(SetTime::To(t)) => t,
    }
}

impl Vnode for Inode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn ino(&self) -> u64 {
        self.ino
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn getattr(&self) -> Result<Attr> {
        let (size, pages) = match &self.body {
            Body::Regular { data, .. } => (data.size(), data.nr_pages()),
            Body::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        };
        let meta = self.meta.lock();
        Ok(Attr {
            ino: self.ino,
            generation: 0,
            kind: self.kind,
            perm: meta.perm,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            size,
            blocks: pages * (PAGE / 512),
            block_size: PAGE as u32,
            rdev: self.rdev,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.btime,
        })
    }

    fn setattr(&self, set: &SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            let (data, ranges) = self.data()?;
            if size > OFFSET_MAX {
                return Err(Error::FileTooLarge);
            }
            let _all = ranges.write(0..u64::MAX);
            data.set_size(size);
        }
        let t = now();
        let mut meta = self.meta.lock();
        if set.size.is_some() {
            meta.mtime = t;
        }
        meta.perm = set.perm.map_or(meta.perm, |perm| perm & 0o7777);
        meta.uid = set.uid.unwrap_or(meta.uid);
        meta.gid = set.gid.unwrap_or(meta.gid);
        meta.atime = resolve(set.atime, meta.atime);
        meta.mtime = resolve(set.mtime, meta.mtime);
        meta.ctime = set.ctime.unwrap_or(t);
        meta.btime = set.btime.unwrap_or(meta.btime);
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<VnodeRef> {
        check_name(name)?;
        let found = self.entries()?.read().get(name).cloned();
        Ok(found.ok_or(Error::NotFound)?)
    }

    fn parent(&self) -> Result<VnodeRef> {
        let parent = self.entries()?.read().parent.upgrade();
        let parent = parent.or_else(|| self.me.upgrade()).ok_or(Error::Stale)?;
        Ok(parent)
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, perm: u32, cred: Cred) -> Result<VnodeRef> {
        check_name(name)?;
        let mut entries = self.entries()?.write();
        if entries.get(name).is_some() {
            return Err(Error::Exists);
        }
        let inode = Self::new(&self.fs, node, perm & 0o7777, cred, self.me.clone());
        entries.insert(name, inode.clone())?;
        drop(entries);
        if inode.kind == FileType::Directory {
            self.add_links(1);
        }
        self.touch();
        Ok(inode)
    }

    fn create_unnamed(&self, perm: u32, cred: Cred) -> Result<VnodeRef> {
        self.entries()?;
        let inode = Self::new(&self.fs, NewNode::Regular, perm & 0o7777, cred, Weak::new());
        inode.meta.lock().nlink = 0;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &VnodeRef) -> Result<()> {
        check_name(name)?;
        let own = self.own(target)?;
        let target = own.me.upgrade().ok_or(Error::Stale)?;
        if target.kind == FileType::Directory {
            return Err(Error::NotPermitted);
        }
        if target.meta.lock().nlink >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        self.entries()?.write().insert(name, target.clone())?;
        target.add_links(1);
        self.touch();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let mut entries = self.entries()?.write();
        let victim = entries.get(name).ok_or(Error::NotFound)?;
        if victim.kind == FileType::Directory {
            return Err(Error::IsDirectory);
        }
        let victim = entries.remove(name);
        drop(entries);
        if let Some(victim) = victim {
            victim.lose_name();
        }
        self.touch();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let _moving = self.fs.moving.lock();
        let victim = self.entries()?.read().get(name).cloned().ok_or(Error::NotFound)?;
        {
            let mut inner = victim.entries()?.write();
            if !inner.is_empty() {
                return Err(Error::NotEmpty);
            }
            inner.is_removed = true;
        }
        self.entries()?.write().remove(name);
        victim.lose_name();
        self.add_links(-1);
        self.touch();
        Ok(())
    }

    fn rename(&self, from: &[u8], to_dir: &VnodeRef, to: &[u8], mode: RenameMode) -> Result<()> {
        check_name(to)?;
        let to_dir = self.own(to_dir)?;
        let _moving = self.fs.moving.lock();
        let source = self.entries()?.read().get(from).cloned().ok_or(Error::NotFound)?;
        let target = to_dir.entries()?.read().get(to).cloned();
        if let Some(target) = &target
            && target.ino == source.ino
            && mode != RenameMode::NoReplace
        {
            return Ok(());
        }
        Self::check_kinds(&source, target.as_ref(), mode)?;
        match target {
            Some(target) if mode == RenameMode::Exchange => {
                self.exchange(from, to_dir, to, &source, &target)?;
            }
            _ => self.move_entry(from, to_dir, to, source)?,
        }
        self.touch();
        to_dir.touch();
        Ok(())
    }

    fn readdir(&self, cursor: u64, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let entries = self.entries()?;
        let mut cursor = cursor;
        loop {
            // One entry at a time: `each` may fault, and must not do so under the lock.
            let Some((next_cursor, name, inode)) = entries.read().after(cursor) else { return Ok(()) };
            if !each(DirEntry { name: &name, ino: inode.ino, kind: inode.kind, next_cursor }) {
                return Ok(());
            }
            cursor = next_cursor;
        }
    }

    fn read(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        let (data, ranges) = self.data()?;
        let _range = ranges.read(offset..offset.saturating_add(sink.remaining() as u64));
        data.read(offset, sink)
    }

    fn write(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        let (data, ranges) = self.data()?;
        let end = offset.checked_add(source.remaining() as u64).filter(|end| *end <= OFFSET_MAX);
        let end = end.ok_or(Error::FileTooLarge)?;
        let _range = ranges.write(offset..end);
        let n = data.write(offset, source)?;
        self.touch();
        Ok(n)
    }

    fn append(&self, source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        let (data, ranges) = self.data()?;
        let _range = ranges.write(0..u64::MAX);
        let offset = data.size();
        if offset.saturating_add(source.remaining() as u64) > OFFSET_MAX {
            return Err(Error::FileTooLarge);
        }
        let n = data.write(offset, source)?;
        self.touch();
        Ok((offset, n))
    }

    fn fallocate(&self, mode: FallocateMode, range: Range<u64>) -> Result<()> {
        let (data, ranges) = self.data()?;
        if range.end > OFFSET_MAX {
            return Err(Error::FileTooLarge);
        }
        let _all = ranges.write(0..u64::MAX);
        match mode {
            FallocateMode::Allocate { keep_size } => data.allocate(range, keep_size)?,
            FallocateMode::PunchHole => data.punch(range),
            FallocateMode::ZeroRange { keep_size } => {
                data.punch(range.clone());
                if !keep_size && range.end > data.size() {
                    data.set_size(range.end);
                }
            }
        }
        self.touch();
        Ok(())
    }

    fn seek(&self, what: SeekWhat, offset: u64) -> Result<u64> {
        self.data()?.0.seek(what, offset)
    }

    fn map_page(&self, offset: u64, _access: MapAccess) -> Result<PageRef> {
        self.data()?.0.map_page(offset)
    }

    fn write_page(&self, offset: u64, page: &[u8]) -> Result<()> {
        let (data, ranges) = self.data()?;
        let _range = ranges.write(offset..offset.saturating_add(page.len() as u64));
        let left = usize::try_from(data.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        data.write(offset, &mut SliceSource::new(&page[..page.len().min(left)]))?;
        self.touch();
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::Invalid),
        }
    }

    fn getxattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattrs.lock().get(name).cloned().ok_or(Error::NoData)
    }

    fn setxattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Error::Range);
        }
        if value.len() > XATTR_SIZE_MAX {
            return Err(Error::NoSpace);
        }
        let mut xattrs = self.xattrs.lock();
        match (mode, xattrs.contains_key(name)) {
            (XattrMode::Create, true) => return Err(Error::Exists),
            (XattrMode::Replace, false) => return Err(Error::NoData),
            _ => {}
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        self.meta.lock().ctime = now();
        Ok(())
    }

    fn removexattr(&self, name: &[u8]) -> Result<()> {
        self.xattrs.lock().remove(name).ok_or(Error::NoData)?;
        self.meta.lock().ctime = now();
        Ok(())
    }

    fn listxattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.xattrs.lock().keys().cloned().collect())
    }
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inode({}, {:?})", self.ino, self.kind)
    }
}
