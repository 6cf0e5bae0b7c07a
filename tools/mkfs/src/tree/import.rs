//! Writes a stream of events into an image's file systems.
//!
//! Times of directories: making a name in a directory changes its times, so every directory that is open here has
//! the times it must have in the end, and gets them when the stream has left it. The open directories are the path
//! from the root to where the stream is, no more.
//!
//! Overlays behave as in a package manager: a later file replaces an earlier one, a later directory gives an earlier
//! one its attributes, and a directory that is a symbolic link already stays one.
use super::item::{Event, Item, Kind, Meta};
use super::path::{self, Last};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use vfs::{
    Cred, Error, FileType, NewNode, SetAttr, SetTime, SliceSource, TimeSpec, Vnode, VnodeRef, XattrMode,
};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Names of any type.
    pub names: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes of data, without holes.
    pub bytes: u64,
}

/// Where file systems are mounted: absolute path (no trailing slash; `/` is the root) and root directory.
pub type Mounts = BTreeMap<Vec<u8>, VnodeRef>;

/// A directory on the way to where the stream is.
struct Open {
    name: Vec<u8>,
    node: VnodeRef,
    /// What it must look like once the stream has left it.
    times: (TimeSpec, TimeSpec),
    is_changed: bool,
}

/// The file whose data comes.
struct Current {
    node: VnodeRef,
    size: u64,
    written_to: u64,
    meta: Meta,
}

/// Writes events.
pub struct Importer {
    mounts: Mounts,
    open: Vec<Open>,
    current: Option<Current>,
    default_time: TimeSpec,
    totals: Totals,
}

impl Importer {
    /// Writes to the file systems mounted as `mounts` says; directories that no source describes get `default_time`.
    ///
    /// # Errors
    /// When there is no root file system.
    pub fn new(mounts: Mounts, default_time: TimeSpec) -> Result<Self> {
        let root = mounts.get(&b"/"[..]).ok_or_else(|| anyhow!("no file system is mounted at /"))?.clone();
        let open = vec![open_directory(Vec::new(), root)?];
        Ok(Self { mounts, open, current: None, default_time, totals: Totals::default() })
    }

    /// What was written so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes an event.
    ///
    /// # Errors
    /// The file system's, with the path.
    pub fn put(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Item(item) => {
                self.finish_file()?;
                self.put_item(&item).with_context(|| path::show(&item.path))
            }
            Event::Data { offset, bytes } => self.put_data(offset, &bytes),
        }
    }

    /// Ends the stream: everything has its times.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(mut self) -> Result<Totals> {
        self.finish_file()?;
        self.leave_to(0)?;
        Ok(self.totals)
    }

    fn put_data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.current.as_mut().ok_or_else(|| anyhow!("data without a file"))?;
        let n = file.node.write(offset, &mut SliceSource::new(bytes)).context("write")?;
        if n != bytes.len() {
            bail!(Error::NoSpace);
        }
        file.written_to = offset + bytes.len() as u64;
        self.totals.bytes += bytes.len() as u64;
        Ok(())
    }

    fn finish_file(&mut self) -> Result<()> {
        let Some(file) = self.current.take() else { return Ok(()) };
        let size = (file.written_to < file.size).then_some(file.size);
        set_attributes(&*file.node, &file.meta, size)
    }

    fn put_item(&mut self, item: &Item) -> Result<()> {
        self.totals.names += 1;
        let parts: Vec<&[u8]> = path::components(&item.path).collect();
        if parts.contains(&&b".."[..]) {
            bail!("a path with '..'");
        }
        let Some((name, parents)) = parts.split_last() else { return self.put_root(item) };
        self.enter(parents)?;
        if item.kind == Kind::Directory {
            return self.put_directory(name, &item.meta);
        }
        let link_target = match &item.kind {
            Kind::HardLink(target) => Some(self.find(target)?),
            _ => None,
        };
        let parent = self.top();
        parent.is_changed = true;
        let directory = parent.node.clone();
        if let Some(target) = link_target {
            return link(&directory, name, &target);
        }
        let node = create(&directory, name, &item.kind, &item.meta)?;
        match item.kind {
            Kind::Regular { size } => {
                self.totals.files += 1;
                self.current = Some(Current { node, size, written_to: 0, meta: item.meta.clone() });
                Ok(())
            }
            _ => set_attributes(&*node, &item.meta, None),
        }
    }

    fn put_root(&mut self, item: &Item) -> Result<()> {
        if item.kind != Kind::Directory {
            bail!("the root is a directory");
        }
        self.leave_to(0)?;
        let root = self.top();
        set_attributes(&*root.node, &item.meta, None)?;
        root.times = (item.meta.mtime, item.meta.mtime);
        Ok(())
    }

    fn put_directory(&mut self, name: &[u8], meta: &Meta) -> Result<()> {
        self.descend(name, Some(meta))?;
        let top = self.top();
        set_attributes(&*top.node, meta, None)?;
        top.times = (meta.mtime, meta.mtime);
        Ok(())
    }

    fn top(&mut self) -> &mut Open {
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    /// Makes `parents` the open directories.
    fn enter(&mut self, parents: &[&[u8]]) -> Result<()> {
        let nr_same = self.open[1..].iter().zip(parents).take_while(|(o, p)| o.name == **p).count();
        self.leave_to(nr_same)?;
        parents[nr_same..].iter().try_for_each(|name| self.descend(name, None))
    }

    /// Closes open directories until `depth` below the root are left.
    fn leave_to(&mut self, depth: usize) -> Result<()> {
        while self.open.len() > depth + 1 {
            if let Some(left) = self.open.pop() {
                left.settle()?;
            }
        }
        if depth == 0 {
            self.top().settle()?;
            self.top().is_changed = false;
        }
        Ok(())
    }

    /// Opens directory `name` of the innermost one, making it if it is missing.
    fn descend(&mut self, name: &[u8], meta: Option<&Meta>) -> Result<()> {
        let default = Meta::root(0o755, self.default_time);
        let meta = meta.unwrap_or(&default);
        let parent = self.top().node.clone();
        let node = match parent.lookup(name) {
            Ok(node) => node,
            Err(Error::NotFound) => {
                self.top().is_changed = true;
                let cred = Cred { uid: meta.uid, gid: meta.gid };
                let node = parent.create(name, NewNode::Directory, meta.perm, cred)?;
                set_attributes(&*node, meta, None)?;
                node
            }
            Err(e) => return Err(e.into()),
        };
        let node = if node.kind() == FileType::Symlink { self.follow(name)? } else { node };
        if node.kind() != FileType::Directory {
            bail!("{} is not a directory", String::from_utf8_lossy(name));
        }
        let node = self.mounted(name).unwrap_or(node);
        self.open.push(open_directory(name.to_vec(), node)?);
        Ok(())
    }

    /// The file system mounted on `name` of the innermost directory.
    fn mounted(&self, name: &[u8]) -> Option<VnodeRef> {
        self.mounts.get(&self.path_of(name)).cloned()
    }

    /// The directory that link `name` of the innermost one leads to; made if it is missing, as packages for a merged
    /// /usr expect.
    fn follow(&self, name: &[u8]) -> Result<VnodeRef> {
        let root = self.open[0].node.clone();
        path::resolve(&root, &self.path_of(name), Last::Follow)
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for part in self.open[1..].iter().map(|o| &o.name[..]).chain([name]) {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        path
    }

    /// An object by path, through mounts.
    fn find(&self, target: &[u8]) -> Result<VnodeRef> {
        let parts: Vec<&[u8]> = path::components(target).collect();
        for cut in (0..=parts.len()).rev() {
            let mut prefix = parts[..cut].join(&b'/');
            prefix.insert(0, b'/');
            if let Some(root) = self.mounts.get(&prefix) {
                return path::resolve(root, &parts[cut..].join(&b'/'), Last::Keep);
            }
        }
        bail!(Error::NotFound)
    }
}

impl Open {
    /// Gives the directory the times it must have.
    fn settle(&self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        set_times(&*self.node, self.times.0, self.times.1)
    }
}

fn open_directory(name: Vec<u8>, node: VnodeRef) -> Result<Open> {
    let attr = node.getattr()?;
    Ok(Open { name, node, times: (attr.mtime, attr.ctime), is_changed: false })
}

fn create(directory: &VnodeRef, name: &[u8], kind: &Kind, meta: &Meta) -> Result<VnodeRef> {
    let node = match kind {
        Kind::Directory => NewNode::Directory,
        Kind::Regular { .. } => NewNode::Regular,
        Kind::Symlink(target) => NewNode::Symlink(target),
        Kind::Fifo => NewNode::Fifo,
        Kind::Socket => NewNode::Socket,
        Kind::CharDevice(id) => NewNode::CharDevice(*id),
        Kind::BlockDevice(id) => NewNode::BlockDevice(*id),
        Kind::HardLink(_) => bail!("a link is not made anew"),
    };
    let cred = Cred { uid: meta.uid, gid: meta.gid };
    let perm = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { meta.perm };
    match directory.create(name, node, perm, cred) {
        Err(Error::Exists) => {
            directory.unlink(name).context("replace")?;
            Ok(directory.create(name, node, perm, cred)?)
        }
        other => Ok(other?),
    }
}

/// Links, and leaves the target's times as they were.
fn link(directory: &VnodeRef, name: &[u8], target: &VnodeRef) -> Result<()> {
    if directory.fs().device_id() != target.fs().device_id() {
        bail!(Error::CrossDevice);
    }
    let attr = target.getattr()?;
    match directory.link(name, target) {
        Err(Error::Exists) => {
            directory.unlink(name).context("replace")?;
            directory.link(name, target)?;
        }
        other => other?,
    }
    set_times(&**target, attr.mtime, attr.ctime)
}

/// Sets everything but data; the access and creation times follow the modification time, because the host's own
/// access times change by being read.
fn set_attributes(node: &dyn Vnode, meta: &Meta, size: Option<u64>) -> Result<()> {
    for (name, value) in &meta.xattrs {
        node.setxattr(name, value, XattrMode::Any)
            .with_context(|| format!("extended attribute {}", String::from_utf8_lossy(name)))?;
    }
    let is_link = node.kind() == FileType::Symlink;
    node.setattr(&SetAttr {
        perm: (!is_link).then_some(meta.perm),
        uid: Some(meta.uid),
        gid: Some(meta.gid),
        size,
        atime: Some(SetTime::To(meta.mtime)),
        mtime: Some(SetTime::To(meta.mtime)),
        ctime: Some(meta.mtime),
        btime: Some(meta.mtime),
    })?;
    Ok(())
}

fn set_times(node: &dyn Vnode, mtime: TimeSpec, ctime: TimeSpec) -> Result<()> {
    node.setattr(&SetAttr { mtime: Some(SetTime::To(mtime)), ctime: Some(ctime), ..SetAttr::default() })?;
    Ok(())
}
