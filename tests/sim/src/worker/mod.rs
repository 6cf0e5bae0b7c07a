//! A thread of the workload: does random operations and keeps the model of what it did.
//!
//! Threads share directories but not names: each changes only what bears its letter, so that the order of its own
//! operations is the order of the states its files and names went through, whatever the others do at the same time.
//!
//! | module | holds |
//! |---|---|
//! | [`adopt`] | the model of what a recovered pool holds |
//! | [`names`] | operations on names |
//! | [`data`] | operations on content |
//! | [`meta`] | attributes, durability, the rest |
use crate::history::{History, Version};
use crate::plan::{Class, Plan};
use crate::pool::{Open, POOL};
use crate::split::Split;
use crate::tree::{Body, Meta, name_sum, state_hash};
use blockdev_sim::Random;
use rt::SpinLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::{Caller, DentryRef, Error, File, Namespace, WalkFlags, WalkFrom};
use zfs::spa::Spa;
use zpl::ZplFs;

pub mod adopt;
mod data;
mod meta;
mod names;

/// Deepest directory.
const DEPTH_MAX: usize = 4;

/// What all threads of a generation share.
pub struct Shared {
    /// What the seed says.
    pub plan: Plan,
    /// Beginnings and ends of operations.
    pub clock: AtomicU64,
    /// At the first moment everything that ended before the second was acknowledged as durable.
    pub sync_acks: SpinLock<Vec<(u64, u64)>>,
    /// A pool that is, or was, being split off.
    pub split: SpinLock<Option<Split>>,
    spa: Arc<Spa>,
    fs: Arc<ZplFs>,
    ns: Arc<Namespace>,
}

impl Shared {
    /// For a pool that is open.
    pub fn new(plan: &Plan, open: &Open) -> Arc<Self> {
        Arc::new(Self {
            plan: plan.clone(),
            clock: AtomicU64::new(1),
            sync_acks: SpinLock::default(),
            split: SpinLock::default(),
            spa: open.spa.clone(),
            fs: open.fs.clone(),
            ns: open.ns.clone(),
        })
    }

    /// Something begins or ends: the moment.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The newest group that the pool takes for durable.
    pub fn synced_txg(&self) -> u64 {
        self.spa.txgs().synced_txg().0
    }

    /// The moment now.
    pub fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }
}

/// A file or directory as the model has it.
#[derive(Debug)]
struct Node {
    key: u64,
    body: Body,
    meta: Meta,
    /// Directories and names it is found under.
    links: Vec<(usize, Vec<u8>)>,
    /// State of the names after the last operation that named it.
    last_names: usize,
    /// Everybody's: only names are made in it.
    is_shared: bool,
}

/// A file without names that is still open.
struct Orphan {
    file: Arc<File>,
    content: crate::content::Content,
}

/// When an operation began.
#[derive(Clone, Copy)]
struct Stamp {
    start: u64,
    txg: u64,
}

/// What a thread leaves behind.
#[derive(Default)]
pub struct Record {
    /// States of its names.
    pub names: History,
    /// States of its nodes, by key.
    pub nodes: BTreeMap<u64, History>,
    /// What it did, one line each.
    pub log: Vec<String>,
    /// Operations that failed for lack of space.
    pub nr_full: u64,
}

/// The thread.
pub struct Worker {
    id: usize,
    shared: Arc<Shared>,
    random: Random,
    /// 0 is the root.
    nodes: Vec<Option<Node>>,
    names_sum: u64,
    orphans: Vec<Orphan>,
    record: Record,
    promises_fsync: bool,
    /// Every operation is durable when it returns.
    is_always_sync: bool,
}

impl Worker {
    /// Does all operations of a generation.
    pub fn run(mut self) -> Record {
        let weights = self.shared.plan.weights.clone();
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        for _ in 0..self.shared.plan.nr_ops {
            let mut at = self.random.below(total);
            let class = weights.iter().find(|(_, weight)| {
                let is_it = at < *weight;
                at = at.wrapping_sub(*weight);
                is_it
            });
            self.step(class.map_or(Class::Create, |(class, _)| *class));
        }
        self.record
    }

    fn step(&mut self, class: Class) {
        match class {
            Class::Create => self.create_file(),
            Class::Mkdir => self.make_dir(),
            Class::Symlink => self.make_symlink(),
            Class::Mknod => self.make_fifo(),
            Class::Link => self.link(),
            Class::Unlink => self.unlink(),
            Class::Rmdir => self.rmdir(),
            Class::Rename => self.rename(),
            Class::Write => self.write(false),
            Class::SyncWrite => self.write(true),
            Class::Append => self.append(),
            Class::Truncate => self.truncate(),
            Class::Punch | Class::ZeroRange | Class::Allocate => self.fallocate(class),
            Class::Clone => self.clone_range(),
            Class::MapWrite => self.map_write(),
            Class::Read => self.read_back(),
            Class::Seek => self.seek(),
            Class::Chmod | Class::Chown | Class::Utimes => self.set_attr(class),
            Class::SetXattr => self.set_xattr(),
            Class::RemoveXattr => self.remove_xattr(),
            Class::Fsync => self.fsync(vfs::Fsync::All),
            Class::Fdatasync => self.fsync(vfs::Fsync::Data),
            Class::FsyncDir => self.fsync_dir(),
            Class::SyncAll => self.sync_all(),
            Class::Readdir => self.list(),
            Class::Unnamed => self.unnamed(),
            Class::OpenUnlinked => self.open_unlinked(),
            Class::Sleep => self.sleep(),
            Class::Forget => self.shared.ns.shrink_cache(),
            Class::SetProperty => self.set_property(),
        }
    }

    // --- time ----------------------------------------------------------------------------------------------------

    fn open_txg(&self) -> u64 {
        self.shared.spa.txgs().hold_open().txg().0
    }

    fn begin(&self) -> Stamp {
        let txg = self.open_txg();
        Stamp { start: self.shared.tick(), txg }
    }

    fn end(&mut self, stamp: Stamp, hash: u64) -> Version {
        let end = self.shared.tick();
        let op = self.record.log.len().saturating_sub(1);
        Version { start: stamp.start, end, txg_lo: stamp.txg, txg_hi: self.open_txg(), hash, op }
    }

    // --- the model -----------------------------------------------------------------------------------------------

    fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().unwrap_or_else(|| unreachable!("node {at} was picked among those alive"))
    }

    fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().unwrap_or_else(|| unreachable!("node {at} was picked among those alive"))
    }

    /// A node's state changed by an operation that began at `stamp`.
    fn changed(&mut self, at: usize, stamp: Stamp) {
        let node = self.node(at);
        let (key, hash) = (node.key, state_hash(&node.body, &node.meta));
        let version = self.end(stamp, hash);
        match self.record.nodes.get_mut(&key) {
            Some(history) => history.versions.push(version),
            None => drop(self.record.nodes.insert(key, History::begun(version))),
        }
        if let (Body::File(content), Some(history)) =
            (self.node(at).body.clone(), self.record.nodes.get_mut(&key))
        {
            history.contents.insert(history.versions.len() - 1, content);
        }
        if let (true, Some(history)) = (self.is_always_sync, self.record.nodes.get_mut(&key)) {
            history.ack(version.end);
        }
    }

    /// Names changed by an operation that began at `stamp` and named these nodes.
    fn names_changed(&mut self, named: &[usize], stamp: Stamp) {
        let version = self.end(stamp, self.names_sum);
        self.record.names.versions.push(version);
        let index = self.record.names.versions.len() - 1;
        for at in named {
            if let Some(node) = &mut self.nodes[*at] {
                node.last_names = index;
            }
        }
        if self.is_always_sync {
            self.record.names.ack(version.end);
        }
    }

    fn add_name(&mut self, dir: usize, name: &[u8], at: usize) {
        let part = name_sum(self.node(dir).key, name, self.node(at).key);
        self.names_sum = self.names_sum.wrapping_add(part);
        if let Body::Dir(entries) = &mut self.node_mut(dir).body {
            entries.insert(name.to_vec(), at);
        }
        self.node_mut(at).links.push((dir, name.to_vec()));
    }

    /// Takes a name away; true if it was the node's last.
    fn take_name(&mut self, dir: usize, name: &[u8], at: usize) -> bool {
        let part = name_sum(self.node(dir).key, name, self.node(at).key);
        self.names_sum = self.names_sum.wrapping_sub(part);
        if let Body::Dir(entries) = &mut self.node_mut(dir).body {
            entries.remove(name);
        }
        let node = self.node_mut(at);
        node.links.retain(|(d, n)| (*d, &n[..]) != (dir, name));
        node.links.is_empty()
    }

    /// A durable acknowledgement of a node's state and of the names it was last named by.
    fn acked(&mut self, at: usize) {
        if !self.promises_fsync {
            return;
        }
        let now = self.shared.tick();
        let node = self.node(at);
        let (key, names) = (node.key, node.last_names);
        if let Some(history) = self.record.nodes.get_mut(&key) {
            history.ack(now);
        }
        self.record.names.acks.push((now, names));
    }

    fn held_bytes(&self) -> u64 {
        let of = |node: &Node| match &node.body {
            Body::File(content) => content.held(),
            _ => 0,
        };
        self.nodes.iter().flatten().map(of).sum()
    }

    // --- choosing ------------------------------------------------------------------------------------------------

    fn pick_node(&mut self, wanted: impl Fn(&Node) -> bool) -> Option<usize> {
        let is_wanted = |node: &Option<Node>| node.as_ref().is_some_and(&wanted);
        let found: Vec<usize> = (0..self.nodes.len()).filter(|at| is_wanted(&self.nodes[*at])).collect();
        (!found.is_empty()).then(|| self.random.pick(&found))
    }

    fn pick_file(&mut self) -> Option<usize> {
        self.pick_node(|n| matches!(n.body, Body::File(_)))
    }

    fn pick_dir(&mut self) -> Option<usize> {
        self.pick_node(|n| matches!(n.body, Body::Dir(_)))
    }

    fn new_name(&mut self) -> Vec<u8> {
        let letter = char::from(crate::tree::OWNER_FIRST + self.id as u8);
        let number = self.random.below(30);
        let name = match self.random.below(8) {
            0 => format!("{letter}{number}-{}", "a-name-too-long-for-a-micro-zap-entry-".repeat(2)),
            _ => format!("{letter}{number}"),
        };
        name.into_bytes()
    }

    /// A directory and a name that is free in it.
    fn pick_place(&mut self) -> Option<(usize, Vec<u8>)> {
        let dir = self.pick_dir()?;
        let name = self.new_name();
        let Body::Dir(entries) = &self.node(dir).body else { return None };
        (!entries.contains_key(&name)).then_some((dir, name))
    }

    fn depth(&self, mut at: usize) -> usize {
        let mut depth = 0;
        while let Some((dir, _)) = self.node(at).links.first() {
            (at, depth) = (*dir, depth + 1);
        }
        depth
    }

    fn path(&self, at: usize) -> Vec<u8> {
        match self.node(at).links.first() {
            None => b"/".to_vec(),
            Some((dir, name)) => self.path_of(*dir, name),
        }
    }

    fn path_of(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        let mut path = self.path(dir);
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    // --- the real thing ------------------------------------------------------------------------------------------

    fn with_root<R>(&self, f: impl FnOnce(&Namespace, &WalkFrom<'_>) -> R) -> R {
        let root = self.shared.ns.root().clone();
        f(&self.shared.ns, &WalkFrom { caller: Caller::ROOT, root: &root, start: &root })
    }

    fn find(&self, at: usize) -> DentryRef {
        let path = self.path(at);
        match self.with_root(|ns, from| ns.walk(from, &path, WalkFlags::empty())) {
            Ok(dentry) => dentry,
            Err(e) => self.finding(&format!("{} is not found: {e}", String::from_utf8_lossy(&path))),
        }
    }

    fn note(&mut self, what: String) {
        let line = format!("[{}] {}", self.shared.now(), what);
        log::trace!("thread {}: {line}", self.id);
        self.record.log.push(line);
    }

    /// An operation's outcome; `None`: the pool is full, and nothing has changed.
    fn expect<T>(&mut self, what: &str, result: vfs::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::NoSpace | Error::Quota) => {
                self.record.nr_full += 1;
                self.note(format!("  {what}: no space"));
                None
            }
            Err(e) => self.finding(&format!("{what}: {e}")),
        }
    }

    /// Something that must not be.
    fn finding(&self, what: &str) -> ! {
        let tail = self.record.log.iter().rev().take(12).rev();
        let log: Vec<String> = tail.map(|line| format!("  {line}")).collect();
        panic!("thread {}: {what}\nits last operations:\n{}", self.id, log.join("\n"));
    }

    fn show(&self, at: usize) -> String {
        format!("{} ({:x})", String::from_utf8_lossy(&self.path(at)), self.node(at).key & 0xffff)
    }

    fn set_property(&mut self) {
        use zfs::dsl::{Property, PropertyValue};
        let sizes = [4096_u64, 16 << 10, 128 << 10];
        // 2: off, 3: lzjb, 14: zle, 15: lz4.
        let (property, value) = match self.random.below(3) {
            0 => (Property::RecordSize, self.random.pick(&sizes)),
            1 => (Property::Compression, self.random.pick(&[2, 3, 14, 15])),
            _ => (Property::Atime, self.random.below(2)),
        };
        self.note(format!("set {property:?}={value}"));
        match self.shared.spa.set_property(POOL, &property, &PropertyValue::Number(value)) {
            Ok(()) | Err(zfs::Error::NoSpace) => {}
            Err(e) => self.finding(&format!("set property: {e}")),
        }
        if let Err(e) = self.shared.fs.reload_properties() {
            self.finding(&format!("reload properties: {e}"));
        }
    }
}
