//! File systems whose content is made when it is read: the frame of procfs and sysfs.
//!
//! A tree is one function from a path to an [`Entry`]; nothing is stored. A file's content is made when it is read
//! from its start and kept by the open vnode, so that a program that reads in pieces sees one moment.
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use rt::{Mutex, Once};
use vfs::node::NameCaching;
use vfs::{
    Attr, DeviceId, DirEntry, Error, FileSystem, FileType, ReadSink, Result, SetAttr, StatFs, TimeSpec,
    Vnode, VnodeRef, WriteSource,
};

/// Makes a file's content.
pub type Make = alloc::boxed::Box<dyn Fn() -> Vec<u8> + Send + Sync>;
/// Takes what is written to a file.
pub type Take = fn(&[&str], &[u8]) -> Result<()>;

/// What a path names.
pub enum Entry {
    /// A directory with these children.
    Dir(Vec<(String, FileType)>),
    /// A file.
    File(Make),
    /// A file that can be written.
    Writable(Make, Take),
    /// A symbolic link.
    Link(Vec<u8>),
}

impl Entry {
    /// A file with constant content.
    pub fn text(content: &'static str) -> Self {
        Self::File(alloc::boxed::Box::new(move || content.as_bytes().to_vec()))
    }

    /// A file whose content `make` makes.
    pub fn made(make: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::File(alloc::boxed::Box::new(move || make().into_bytes()))
    }

    /// A directory of subdirectories and files; names that end in `/` are directories.
    pub fn dir(names: &[&str]) -> Self {
        let child = |n: &&str| match n.strip_suffix('/') {
            Some(name) => (String::from(name), FileType::Directory),
            None => match n.strip_suffix('@') {
                Some(name) => (String::from(name), FileType::Symlink),
                None => (String::from(*n), FileType::Regular),
            },
        };
        Self::Dir(names.iter().map(child).collect())
    }

    const fn kind(&self) -> FileType {
        match self {
            Self::Dir(_) => FileType::Directory,
            Self::File(_) | Self::Writable(..) => FileType::Regular,
            Self::Link(_) => FileType::Symlink,
        }
    }
}

/// The function that is the tree.
pub type Tree = fn(&[&str]) -> Option<Entry>;

/// Such a file system.
#[derive(Debug)]
pub struct PseudoFs {
    me: Weak<Self>,
    fs_type: &'static str,
    magic: u32,
    device: DeviceId,
    tree: Tree,
}

impl PseudoFs {
    /// A file system of a tree.
    pub fn new(fs_type: &'static str, magic: u32, tree: Tree) -> Arc<Self> {
        let device = vfs::ramfs::anonymous_device();
        Arc::new_cyclic(|me| Self { me: me.clone(), fs_type, magic, device, tree })
    }

    fn vnode(&self, path: String) -> Result<VnodeRef> {
        let entry = self.entry(&path).ok_or(Error::NotFound)?;
        let fs = self.me.upgrade().ok_or(Error::Stale)?;
        Ok(Arc::new(Node { fs, kind: entry.kind(), path, content: Mutex::new(None), started: Once::new() }))
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        (self.tree)(&parts)
    }
}

impl FileSystem for PseudoFs {
    fn root(&self) -> Result<VnodeRef> {
        self.vnode(String::new())
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: self.magic,
            block_size: 4096,
            name_max: 255,
            source: String::from(self.fs_type),
            fs_type: self.fs_type,
            ..StatFs::default()
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn unmount(&self) -> Result<()> {
        Ok(())
    }

    fn device_id(&self) -> DeviceId {
        self.device
    }

    fn name_caching(&self) -> NameCaching {
        NameCaching::Never
    }
}

/// A file, directory or link of it.
struct Node {
    fs: Arc<PseudoFs>,
    kind: FileType,
    path: String,
    content: Mutex<Option<Vec<u8>>>,
    /// When it was first looked at: its times.
    started: Once<TimeSpec>,
}

impl Node {
    fn entry(&self) -> Result<Entry> {
        self.fs.entry(&self.path).ok_or(Error::NotFound)
    }

    fn child_path(&self, name: &str) -> String {
        alloc::format!("{}/{name}", self.path)
    }
}

fn ino_of(path: &str) -> u64 {
    // FNV-1a: names come and go, numbers only have to differ.
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)) >> 16
        | 1
}

impl Vnode for Node {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn ino(&self) -> u64 {
        ino_of(&self.path)
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn getattr(&self) -> Result<Attr> {
        let entry = self.entry()?;
        let time = *self.started.get_or_init(crate::fd::now);
        let perm = match entry {
            Entry::Dir(_) => 0o555,
            Entry::File(_) => 0o444,
            Entry::Writable(..) => 0o644,
            Entry::Link(_) => 0o777,
        };
        Ok(Attr {
            ino: self.ino(),
            generation: 0,
            kind: self.kind,
            perm,
            nlink: if self.kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            block_size: 1024,
            rdev: DeviceId::default(),
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
        })
    }

    fn setattr(&self, set: &SetAttr) -> Result<()> {
        let is_harmless = set.perm.is_none() && set.uid.is_none() && set.gid.is_none();
        if is_harmless { Ok(()) } else { Err(Error::NotPermitted) }
    }

    fn lookup(&self, name: &[u8]) -> Result<VnodeRef> {
        if self.kind != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        let name = core::str::from_utf8(name).map_err(|_| Error::NotFound)?;
        self.fs.vnode(self.child_path(name))
    }

    fn parent(&self) -> Result<VnodeRef> {
        let up = self.path.rfind('/').map_or("", |at| &self.path[..at]);
        self.fs.vnode(String::from(up))
    }

    fn readdir(&self, cursor: u64, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let Entry::Dir(children) = self.entry()? else { return Err(Error::NotDirectory) };
        for (i, (name, kind)) in
            children.iter().enumerate().skip(usize::try_from(cursor).unwrap_or(usize::MAX))
        {
            let ino = ino_of(&self.child_path(name));
            if !each(DirEntry { name: name.as_bytes(), ino, kind: *kind, next_cursor: i as u64 + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn create(&self, _: &[u8], _: vfs::NewNode<'_>, _: u32, _: vfs::Cred) -> Result<VnodeRef> {
        Err(Error::NotPermitted)
    }

    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Error::NotPermitted)
    }

    fn read(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        let mut content = self.content.lock();
        if offset == 0 || content.is_none() {
            *content = match self.entry()? {
                Entry::File(make) | Entry::Writable(make, _) => Some(make()),
                Entry::Dir(_) => return Err(Error::IsDirectory),
                Entry::Link(_) => return Err(Error::Invalid),
            };
        }
        // Copied out, because the sink may fault and wait.
        let rest =
            content.as_deref().and_then(|c| c.get(usize::try_from(offset).ok()?..)).unwrap_or_default();
        let part = rest[..rest.len().min(sink.remaining())].to_vec();
        drop(content);
        sink.put(&part)?;
        Ok(part.len())
    }

    fn write(&self, _offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        const WRITE_MAX: usize = 4096;
        let Entry::Writable(_, take) = self.entry()? else { return Err(Error::Access) };
        let mut bytes = alloc::vec![0; source.remaining().min(WRITE_MAX)];
        source.take(&mut bytes)?;
        let parts: Vec<&str> = self.path.split('/').filter(|p| !p.is_empty()).collect();
        take(&parts, &bytes)?;
        Ok(bytes.len())
    }

    fn append(&self, source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        self.write(0, source).map(|n| (0, n))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.entry()? {
            Entry::Link(target) => Ok(target),
            _ => Err(Error::Invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt_std as _;
    use vfs::SliceSink;

    fn tree(path: &[&str]) -> Option<Entry> {
        match path {
            [] => Some(Entry::dir(&["a", "d/", "l@"])),
            ["a"] => Some(Entry::text("hello\n")),
            ["d"] => Some(Entry::dir(&[])),
            ["l"] => Some(Entry::Link(b"a".to_vec())),
            _ => None,
        }
    }

    #[test]
    fn paths_become_entries() {
        let fs = PseudoFs::new("test", 1, tree);
        let root = fs.root().unwrap();
        let file = root.lookup(b"a").unwrap();
        let mut out = [0; 16];
        assert_eq!(file.read(0, &mut SliceSink::new(&mut out)), Ok(6));
        assert_eq!(&out[..6], b"hello\n");
        assert_eq!(file.read(4, &mut SliceSink::new(&mut out)), Ok(2));
        assert_eq!(file.read(99, &mut SliceSink::new(&mut out)), Ok(0));
        assert_eq!(root.lookup(b"l").unwrap().readlink(), Ok(b"a".to_vec()));
        assert!(matches!(root.lookup(b"none"), Err(Error::NotFound)));
        let mut names = Vec::new();
        root.readdir(1, &mut |e| {
            names.push((e.name.to_vec(), e.kind));
            true
        })
        .unwrap();
        assert_eq!(names, [(b"d".to_vec(), FileType::Directory), (b"l".to_vec(), FileType::Symlink)]);
        assert_eq!(file.write(0, &mut vfs::SliceSource::new(b"x")), Err(Error::Access));
    }
}
