//! Attributes, durability, and the passing of time.
use super::Worker;
use crate::content::hash;
use crate::plan::Class;
use crate::tree::Body;
use std::time::Duration;
use vfs::{FileSystem, Fsync, OpenFlags, SetAttr, SetTime, TimeSpec, XattrMode};

impl Worker {
    pub(super) fn set_attr(&mut self, class: Class) {
        let Some(at) = self.pick_node(|n| !n.is_shared && !matches!(n.body, Body::Symlink(_))) else {
            return;
        };
        let mut set = SetAttr::default();
        match class {
            Class::Chmod => set.perm = Some(self.random.below(0o1000) as u32),
            Class::Chown => {
                set.uid = Some(self.random.below(5) as u32);
                set.gid = Some(self.random.below(5) as u32);
            }
            _ => {
                let secs = self.random.below(2_000_000_000) as i64;
                set.mtime = Some(SetTime::To(TimeSpec { secs, nanos: 5 }));
            }
        }
        self.note(format!("{class:?} {}", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let stamp = self.begin();
        let done = vnode.setattr(&set);
        if self.expect("setattr", done).is_none() {
            return;
        }
        let meta = &mut self.node_mut(at).meta;
        meta.perm = set.perm.unwrap_or(meta.perm);
        meta.uid = set.uid.unwrap_or(meta.uid);
        meta.gid = set.gid.unwrap_or(meta.gid);
        self.changed(at, stamp);
    }

    pub(super) fn set_xattr(&mut self) {
        let Some(at) = self.pick_node(|n| !n.is_shared && matches!(n.body, Body::File(_) | Body::Dir(_)))
        else {
            return;
        };
        let name = format!("user.x{}", self.random.below(4)).into_bytes();
        let len = self.random.pick(&[0, 10, 100, 100, 1000, 5000]);
        let value: Vec<u8> = (0..len).map(|_| self.random.next_u64() as u8).collect();
        self.note(format!("setxattr {} {len} bytes", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let stamp = self.begin();
        let done = vnode.setxattr(&name, &value, XattrMode::Any);
        if self.expect("setxattr", done).is_some() {
            self.node_mut(at).meta.xattrs.insert(name, hash(&value));
            self.changed(at, stamp);
        }
    }

    pub(super) fn remove_xattr(&mut self) {
        let Some(at) = self.pick_node(|n| !n.is_shared && !n.meta.xattrs.is_empty()) else { return };
        let names: Vec<Vec<u8>> = self.node(at).meta.xattrs.keys().cloned().collect();
        let nr = self.random.below(names.len() as u64) as usize;
        self.note(format!("removexattr {}", self.show(at)));
        let vnode = self.find(at).vnode().clone();
        let stamp = self.begin();
        let done = vnode.removexattr(&names[nr]);
        if self.expect("removexattr", done).is_some() {
            self.node_mut(at).meta.xattrs.remove(&names[nr]);
            self.changed(at, stamp);
        }
    }

    pub(super) fn fsync(&mut self, what: Fsync) {
        let Some(at) = self.pick_file() else { return };
        let path = self.path(at);
        self.note(format!("fsync {} {what:?}", self.show(at)));
        let opened = self.with_root(|ns, from| ns.open(from, &path, OpenFlags::READ, 0));
        let Some(file) = self.expect("open", opened) else { return };
        let done = file.fsync(what);
        if self.expect("fsync", done).is_some() {
            self.acked(at);
        }
    }

    pub(super) fn fsync_dir(&mut self) {
        let Some(at) = self.pick_node(|n| matches!(n.body, Body::Dir(_)) && !n.is_shared) else { return };
        let path = self.path(at);
        self.note(format!("fsync directory {}", self.show(at)));
        let flags = OpenFlags::READ | OpenFlags::DIRECTORY;
        let opened = self.with_root(|ns, from| ns.open(from, &path, flags, 0));
        let Some(file) = self.expect("open", opened) else { return };
        let done = file.fsync(Fsync::All);
        if self.expect("fsync", done).is_some() {
            self.acked(at);
        }
    }

    pub(super) fn sync_all(&mut self) {
        let is_pool = !self.promises_fsync || self.random.chance(1, 2);
        self.note(format!("sync {}", if is_pool { "pool" } else { "file system" }));
        let start = self.shared.tick();
        if is_pool {
            if let Err(e) = self.shared.spa.sync() {
                self.finding(&format!("sync of the pool: {e}"));
            }
        } else {
            let done = self.shared.fs.sync();
            self.expect("sync", done);
        }
        let end = self.shared.tick();
        self.shared.sync_acks.lock().push((end, start));
    }

    pub(super) fn sleep(&mut self) {
        let max = self.random.pick(&[1_u64, 100, 3_000]);
        let span = Duration::from_millis(self.random.below(max) + 1);
        self.note(format!("sleep {span:?}"));
        rt::sleep(span);
    }
}
