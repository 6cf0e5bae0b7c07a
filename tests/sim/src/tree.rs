//! A file system as it is found: every node, what it holds, and the hashes the model compares.
use crate::content::{Content, hash, mix};
use crate::pool::Open;
use std::collections::BTreeMap;
use vfs::{Attr, FileType, SeekWhat, SliceSink, VnodeRef};
use zfs::dmu::Objset;

/// Files beyond this are read along their data only.
const WHOLE_MAX: u64 = 1 << 20;
const STEP: usize = 64 << 10;
/// Threads are told apart by the first letter of the names they make.
pub const OWNER_FIRST: u8 = b'a';
/// Most threads.
pub const OWNERS_MAX: usize = 8;

/// What can be changed about a node, apart from its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes: name, hash of the value.
    pub xattrs: BTreeMap<Vec<u8>, u64>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Body {
    /// A regular file.
    File(Content),
    /// A directory; entries by name, node by number.
    Dir(BTreeMap<Vec<u8>, usize>),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// A node found.
#[derive(Clone, Debug)]
pub struct Node {
    /// Tells it from every other, also from later ones with its number.
    pub key: u64,
    /// Object number.
    pub ino: u64,
    /// What it is.
    pub body: Body,
    /// Its attributes.
    pub meta: Meta,
    /// Link count it claims.
    pub nlink: u64,
    /// A path to it, for reports.
    pub path: String,
}

/// A whole tree; node 0 is the root.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Sum over the names of each thread.
    pub names: [u64; OWNERS_MAX],
}

/// The key of a node.
pub fn key(ino: u64, generation: u64) -> u64 {
    mix(ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ generation)
}

/// A name's part of the sum of its owner's names.
pub fn name_sum(dir: u64, name: &[u8], node: u64) -> u64 {
    mix(mix(dir) ^ hash(name) ^ mix(node).rotate_left(17))
}

/// Whose name it is.
pub fn owner(name: &[u8]) -> Option<usize> {
    let index = usize::from(name.first()?.checked_sub(OWNER_FIRST)?);
    (index < OWNERS_MAX).then_some(index)
}

/// The hash of a node's state.
pub fn state_hash(body: &Body, meta: &Meta) -> u64 {
    let own = match body {
        Body::File(content) => content.sum(),
        Body::Dir(_) => 1,
        Body::Symlink(target) => hash(target) | 1,
        Body::Fifo => 3,
    };
    let xattrs = meta.xattrs.iter().fold(0_u64, |n, (name, value)| n.wrapping_add(mix(hash(name) ^ value)));
    let ids = u64::from(meta.perm) << 48 ^ u64::from(meta.uid) << 24 ^ u64::from(meta.gid);
    mix(mix(own ^ mix(ids)) ^ xattrs)
}

impl Tree {
    /// Reads everything.
    ///
    /// # Errors
    /// What cannot be read, or contradicts itself.
    pub fn read(open: &Open) -> Result<Self, String> {
        Self::read_below(open.ns.root().vnode())
    }

    /// Reads everything below a root directory.
    ///
    /// # Errors
    /// What cannot be read, or contradicts itself.
    pub fn read_below(root: &VnodeRef) -> Result<Self, String> {
        let mut tree = Self::default();
        let mut known = BTreeMap::new();
        tree.visit(root, "", &mut known)?;
        tree.check_links()?;
        Ok(tree)
    }

    fn visit(
        &mut self,
        vnode: &VnodeRef,
        path: &str,
        known: &mut BTreeMap<u64, usize>,
    ) -> Result<usize, String> {
        let fail = |what: &str, e: vfs::Error| format!("{path}/: {what}: {e}");
        if let Some(index) = known.get(&vnode.ino()) {
            return Ok(*index);
        }
        let attr = vnode.getattr().map_err(|e| fail("attributes", e))?;
        let index = self.nodes.len();
        known.insert(attr.ino, index);
        let key = key(attr.ino, attr.generation);
        let meta = read_meta(vnode, &attr).map_err(|e| fail("extended attributes", e))?;
        let body = Body::Fifo;
        let node = Node { key, ino: attr.ino, body, meta, nlink: attr.nlink, path: path.to_owned() };
        self.nodes.push(node);
        self.nodes[index].body = match attr.kind {
            FileType::Regular => Body::File(read_content(vnode, &attr).map_err(|e| fail("content", e))?),
            FileType::Symlink => Body::Symlink(vnode.readlink().map_err(|e| fail("link", e))?),
            FileType::Fifo => Body::Fifo,
            FileType::Directory => Body::Dir(self.visit_entries(vnode, key, path, known)?),
            other => return Err(format!("{path}: a {other:?}, which nobody makes")),
        };
        Ok(index)
    }

    fn visit_entries(
        &mut self,
        dir: &VnodeRef,
        dir_key: u64,
        path: &str,
        known: &mut BTreeMap<u64, usize>,
    ) -> Result<BTreeMap<Vec<u8>, usize>, String> {
        let mut listed = Vec::new();
        let read = dir.readdir(0, &mut |e| {
            listed.push((e.name.to_vec(), e.ino, e.kind));
            true
        });
        read.map_err(|e| format!("{path}/: listing: {e}"))?;
        let mut entries = BTreeMap::new();
        for (name, ino, kind) in listed {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let child = dir.lookup(&name).map_err(|e| format!("{path}: listed, but: {e}"))?;
            if child.ino() != ino || child.kind() != kind {
                return Err(format!(
                    "{path}: listed as {kind:?} {ino}, but is {:?} {}",
                    child.kind(),
                    child.ino()
                ));
            }
            let index = self.visit(&child, &path, known)?;
            if let Some(owner) = owner(&name) {
                let part = name_sum(dir_key, &name, self.nodes[index].key);
                self.names[owner] = self.names[owner].wrapping_add(part);
            }
            if entries.insert(name, index).is_some() {
                return Err(format!("{path}: listed twice"));
            }
        }
        Ok(entries)
    }

    fn check_links(&self) -> Result<(), String> {
        let mut links = vec![0_u64; self.nodes.len()];
        for node in &self.nodes {
            if let Body::Dir(entries) = &node.body {
                entries.values().for_each(|child| links[*child] += 1);
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let expected = match &node.body {
                Body::Dir(entries) => {
                    let is_dir = |n: &&usize| matches!(self.nodes[**n].body, Body::Dir(_));
                    2 + entries.values().filter(is_dir).count() as u64
                }
                _ => links[index],
            };
            if node.nlink != expected {
                return Err(format!("{}: says {} links, has {expected}", node.path, node.nlink));
            }
            if matches!(node.body, Body::Dir(_)) && index != 0 && links[index] != 1 {
                return Err(format!("{}: a directory with {} names", node.path, links[index]));
            }
        }
        Ok(())
    }

    /// Files and directories of the object set that no name leads to.
    ///
    /// # Errors
    /// The first of them.
    pub fn check_orphans(&self, objset: &Objset) -> Result<(), String> {
        use ondisk::{DmuType, ObjectId};
        // Extended attributes kept as hidden directories have no names either.
        if self.nodes.iter().any(|n| !n.meta.xattrs.is_empty()) {
            return Ok(());
        }
        let known: std::collections::BTreeSet<u64> = self.nodes.iter().map(|n| n.ino).collect();
        let mut at = ObjectId(0);
        while let Some(next) = objset.next_object(at).map_err(|e| format!("object after {at:?}: {e}"))? {
            at = next;
            let dnode = objset.hold(at).map_err(|e| format!("object {at:?}: {e}"))?;
            let is_node = matches!(dnode.kind(), DmuType::PLAIN_FILE_CONTENTS | DmuType::DIRECTORY_CONTENTS);
            if is_node && !known.contains(&at.0) {
                return Err(format!("object {} is a file or directory without a name", at.0));
            }
        }
        Ok(())
    }
}

fn read_meta(vnode: &VnodeRef, attr: &Attr) -> vfs::Result<Meta> {
    let mut xattrs = BTreeMap::new();
    for name in vnode.listxattr()? {
        let value = vnode.getxattr(&name)?;
        xattrs.insert(name, hash(&value));
    }
    Ok(Meta { perm: attr.perm, uid: attr.uid, gid: attr.gid, xattrs })
}

fn read_content(vnode: &VnodeRef, attr: &Attr) -> vfs::Result<Content> {
    let mut content = Content::default();
    let mut room = vec![0; STEP];
    let mut at = 0;
    while at < attr.size {
        let mut end = attr.size;
        if attr.size > WHOLE_MAX {
            at = match vnode.seek(SeekWhat::Data, at) {
                Ok(at) => at,
                Err(vfs::Error::NoSuchAddress) => break,
                Err(e) => return Err(e),
            };
            end = vnode.seek(SeekWhat::Hole, at)?;
        }
        while at < end {
            let n = (end - at).min(STEP as u64) as usize;
            let n = vnode.read(at, &mut SliceSink::new(&mut room[..n]))?;
            if n == 0 {
                return Err(vfs::Error::Io);
            }
            content.write(at, &room[..n]);
            at += n as u64;
        }
    }
    content.resize(attr.size);
    Ok(content)
}
