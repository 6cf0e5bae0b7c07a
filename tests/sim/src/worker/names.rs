//! Operations on names.
use super::{DEPTH_MAX, Node, Orphan, Stamp, Worker};
use crate::content::Content;
use crate::tree::{Body, Meta, key};
use std::collections::BTreeMap;
use vfs::{Attr, NewNode, OpenFlags, RenameMode};

impl Worker {
    pub(super) fn create_file(&mut self) {
        let Some((dir, name)) = self.pick_place() else { return };
        let path = self.path_of(dir, &name);
        self.note(format!("create {}", String::from_utf8_lossy(&path)));
        let stamp = self.begin();
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE;
        let made = self.with_root(|ns, from| ns.open(from, &path, flags, 0o644)?.getattr());
        self.made(dir, &name, Body::File(Content::default()), made, stamp);
    }

    pub(super) fn make_dir(&mut self) {
        let Some((dir, name)) = self.pick_place() else { return };
        if self.depth(dir) >= DEPTH_MAX {
            return;
        }
        self.make(dir, &name, NewNode::Directory, Body::Dir(BTreeMap::new()), 0o755);
    }

    pub(super) fn make_symlink(&mut self) {
        let Some((dir, name)) = self.pick_place() else { return };
        let target = vec![b't'; self.random.pick(&[1, 10, 100, 300]) as usize];
        self.make(dir, &name, NewNode::Symlink(&target), Body::Symlink(target.clone()), 0o777);
    }

    pub(super) fn make_fifo(&mut self) {
        let Some((dir, name)) = self.pick_place() else { return };
        self.make(dir, &name, NewNode::Fifo, Body::Fifo, 0o600);
    }

    fn make(&mut self, dir: usize, name: &[u8], new: NewNode<'_>, body: Body, perm: u32) {
        let path = self.path_of(dir, name);
        self.note(format!("make {:?} {}", vfs::namespace::kind_of(new), String::from_utf8_lossy(&path)));
        let stamp = self.begin();
        let made = self.with_root(|ns, from| ns.create_at(from, &path, new, perm)?.vnode().getattr());
        self.made(dir, name, body, made, stamp);
    }

    fn made(&mut self, dir: usize, name: &[u8], body: Body, made: vfs::Result<Attr>, stamp: Stamp) {
        let Some(attr) = self.expect("make", made) else { return };
        let meta = Meta { perm: attr.perm, uid: attr.uid, gid: attr.gid, xattrs: BTreeMap::new() };
        let key = key(attr.ino, attr.generation);
        if self.record.nodes.contains_key(&key) {
            self.finding(&format!("object {} generation {} is used twice", attr.ino, attr.generation));
        }
        self.nodes.push(Some(Node { key, body, meta, links: Vec::new(), last_names: 0, is_shared: false }));
        let at = self.nodes.len() - 1;
        self.add_name(dir, name, at);
        self.changed(at, stamp);
        self.names_changed(&[at, dir], stamp);
    }

    pub(super) fn link(&mut self) {
        let Some((dir, name)) = self.pick_place() else { return };
        let Some(at) = self.pick_node(|n| !matches!(n.body, Body::Dir(_))) else { return };
        let path = self.path_of(dir, &name);
        self.note(format!("link {} to {}", self.show(at), String::from_utf8_lossy(&path)));
        let target = self.find(at);
        let stamp = self.begin();
        let linked = self.with_root(|ns, from| ns.link_at(&target, from, &path));
        if self.expect("link", linked).is_some() {
            self.add_name(dir, &name, at);
            self.names_changed(&[at, dir], stamp);
        }
    }

    pub(super) fn unlink(&mut self) {
        let Some(at) = self.pick_node(|n| !matches!(n.body, Body::Dir(_))) else { return };
        let links = self.node(at).links.len() as u64;
        let nr = self.random.below(links) as usize;
        let (dir, name) = self.node(at).links[nr].clone();
        self.unlink_name(at, dir, &name);
    }

    fn unlink_name(&mut self, at: usize, dir: usize, name: &[u8]) -> bool {
        let path = self.path_of(dir, name);
        self.note(format!("unlink {}", String::from_utf8_lossy(&path)));
        let stamp = self.begin();
        let unlinked = self.with_root(|ns, from| ns.unlink_at(from, &path));
        if self.expect("unlink", unlinked).is_none() {
            return false;
        }
        let is_last = self.take_name(dir, name, at);
        self.names_changed(&[at, dir], stamp);
        if is_last {
            self.nodes[at] = None;
        }
        is_last
    }

    pub(super) fn rmdir(&mut self) {
        let is_empty = |n: &Node| matches!(&n.body, Body::Dir(entries) if entries.is_empty());
        let Some(at) = self.pick_node(|n| is_empty(n) && !n.is_shared) else { return };
        let (dir, name) = self.node(at).links[0].clone();
        let path = self.path_of(dir, &name);
        self.note(format!("rmdir {}", String::from_utf8_lossy(&path)));
        let stamp = self.begin();
        let removed = self.with_root(|ns, from| ns.rmdir_at(from, &path));
        if self.expect("rmdir", removed).is_some() {
            self.take_name(dir, &name, at);
            self.names_changed(&[dir], stamp);
            self.nodes[at] = None;
        }
    }

    pub(super) fn rename(&mut self) {
        let Some(at) = self.pick_node(|n| !n.is_shared && !n.links.is_empty()) else { return };
        let links = self.node(at).links.len() as u64;
        let nr = self.random.below(links) as usize;
        let (from_dir, from_name) = self.node(at).links[nr].clone();
        let Some(to_dir) = self.pick_dir() else { return };
        let to_name = match &self.node(to_dir).body {
            Body::Dir(entries) if !entries.is_empty() && self.nodes.len().is_multiple_of(2) => {
                let own: Vec<&Vec<u8>> =
                    entries.iter().filter(|(_, n)| !self.node(**n).is_shared).map(|(n, _)| n).collect();
                own.get(entries.len() % own.len().max(1)).map(|n| (*n).clone())
            }
            _ => None,
        };
        let to_name = to_name.unwrap_or_else(|| self.new_name());
        let target = match &self.node(to_dir).body {
            Body::Dir(entries) => entries.get(&to_name).copied(),
            _ => None,
        };
        let mode = match target {
            Some(_) if self.random.chance(1, 3) => RenameMode::Exchange,
            None if self.random.chance(1, 4) => RenameMode::NoReplace,
            _ => RenameMode::Replace,
        };
        if target != Some(at) && self.may_rename(at, from_dir, to_dir, target, mode) {
            self.do_rename(at, (from_dir, &from_name), (to_dir, &to_name), target, mode);
        }
    }

    fn may_rename(
        &self,
        at: usize,
        from_dir: usize,
        to_dir: usize,
        target: Option<usize>,
        mode: RenameMode,
    ) -> bool {
        let is_dir = |n: usize| matches!(self.node(n).body, Body::Dir(_));
        let is_below = |upper: usize, mut n: usize| loop {
            if n == upper {
                return true;
            }
            match self.node(n).links.first() {
                Some((dir, _)) => n = *dir,
                None => return false,
            }
        };
        if is_dir(at) && (is_below(at, to_dir) || self.depth(to_dir) >= DEPTH_MAX) {
            return false;
        }
        let Some(target) = target else { return true };
        if mode == RenameMode::Exchange {
            return !(is_dir(target) && (is_below(target, from_dir) || self.depth(from_dir) >= DEPTH_MAX));
        }
        match (is_dir(at), &self.node(target).body) {
            (true, Body::Dir(entries)) => entries.is_empty(),
            (false, Body::Dir(_)) | (true, _) => false,
            (false, _) => true,
        }
    }

    fn do_rename(
        &mut self,
        at: usize,
        (from_dir, from_name): (usize, &[u8]),
        (to_dir, to_name): (usize, &[u8]),
        target: Option<usize>,
        mode: RenameMode,
    ) {
        let (old, new) = (self.path_of(from_dir, from_name), self.path_of(to_dir, to_name));
        self.note(format!(
            "rename {} to {} ({mode:?})",
            String::from_utf8_lossy(&old),
            String::from_utf8_lossy(&new)
        ));
        let stamp = self.begin();
        let renamed = self.with_root(|ns, from| ns.rename_at(from, &old, from, &new, mode));
        if self.expect("rename", renamed).is_none() {
            return;
        }
        self.take_name(from_dir, from_name, at);
        let mut is_gone = false;
        if let Some(target) = target {
            is_gone = self.take_name(to_dir, to_name, target);
            if mode == RenameMode::Exchange {
                self.add_name(from_dir, from_name, target);
                is_gone = false;
            }
        }
        self.add_name(to_dir, to_name, at);
        self.names_changed(&[at, from_dir, to_dir], stamp);
        match target {
            Some(target) if is_gone => self.nodes[target] = None,
            Some(target) if mode == RenameMode::Exchange => {
                let index = self.node(at).last_names;
                self.node_mut(target).last_names = index;
            }
            _ => {}
        }
    }

    /// A file loses its last name while it is open; it is written and read on, and goes with a later one.
    pub(super) fn open_unlinked(&mut self) {
        if self.orphans.len() > 1 {
            let gone = self.orphans.remove(0);
            self.note("close an unlinked file".to_owned());
            drop(gone);
            return;
        }
        let Some(at) = self.pick_node(|n| matches!(n.body, Body::File(_)) && n.links.len() == 1) else {
            return;
        };
        let path = self.path(at);
        let flags = OpenFlags::READ | OpenFlags::WRITE;
        let opened = self.with_root(|ns, from| ns.open(from, &path, flags, 0));
        let Some(file) = self.expect("open", opened) else { return };
        let Body::File(content) = self.node(at).body.clone() else { return };
        let (dir, name) = self.node(at).links[0].clone();
        if self.unlink_name(at, dir, &name) {
            self.orphans.push(Orphan { file, content });
            self.use_orphan();
        }
    }

    /// A file that never had a name.
    pub(super) fn unnamed(&mut self) {
        let Some(dir) = self.pick_dir() else { return };
        let path = self.path(dir);
        self.note(format!("unnamed file in {}", String::from_utf8_lossy(&path)));
        let flags = OpenFlags::UNNAMED | OpenFlags::READ | OpenFlags::WRITE;
        let opened = self.with_root(|ns, from| ns.open(from, &path, flags, 0o600));
        let Some(file) = self.expect("open unnamed", opened) else { return };
        self.orphans.push(Orphan { file, content: Content::default() });
        self.use_orphan();
        if self.orphans.len() > 3 {
            self.orphans.remove(0);
        }
    }

    fn use_orphan(&mut self) {
        let offset = self.random.below(100_000);
        let bytes = self.bytes(5000);
        let Some(mut orphan) = self.orphans.pop() else { return };
        let written = orphan.file.write_at(offset, &mut vfs::SliceSource::new(&bytes));
        if let Some(n) = self.expect("write to a file without names", written) {
            orphan.content.write(offset, &bytes[..n]);
        }
        let mut got = vec![0; orphan.content.size() as usize];
        let read = orphan.file.read_at(0, &mut vfs::SliceSink::new(&mut got));
        self.expect("read of a file without names", read);
        if got != orphan.content.read(0, got.len()) {
            self.finding("a file without names reads wrong");
        }
        self.orphans.push(orphan);
    }

    /// Listing a directory gives this thread's names and, of its own directories, nothing else.
    pub(super) fn list(&mut self) {
        let Some(at) = self.pick_dir() else { return };
        let vnode = self.find(at).vnode().clone();
        let mut found = Vec::new();
        let read = vnode.readdir(0, &mut |e| {
            found.push(e.name.to_vec());
            true
        });
        if self.expect("list", read).is_none() {
            return;
        }
        let node = self.node(at);
        let Body::Dir(entries) = &node.body else { return };
        let id = self.id;
        found.retain(|name| !node.is_shared || crate::tree::owner(name).is_none_or(|of| of == id));
        found.sort();
        if !found.iter().eq(entries.keys()) {
            self.finding(&format!("{}: lists {found:?}, expected {:?}", self.show(at), entries.keys()));
        }
    }
}
