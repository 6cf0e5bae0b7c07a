//! Random operations on a file system and on a simple model of one, compared after each and as a whole.
use super::Tree;
use crate::node::{FallocateMode, FileSystem, NewNode, RenameMode, XattrMode};
use crate::{Error, FileType, OpenFlags, SetAttr, SliceSource};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One operation; paths are numbers of a small fixed set so that they meet.
#[derive(Clone, Debug)]
pub enum Op {
    /// open(O_CREAT) and pwrite.
    Write {
        /// Which path.
        path: u8,
        /// Where.
        offset: u32,
        /// How much.
        len: u32,
        /// What.
        byte: u8,
    },
    /// truncate(2).
    Truncate {
        /// Which path.
        path: u8,
        /// To what.
        size: u32,
    },
    /// Punch a hole.
    Punch {
        /// Which path.
        path: u8,
        /// Where.
        offset: u32,
        /// How much.
        len: u32,
    },
    /// mkdir(2).
    Mkdir(u8),
    /// symlink(2), to another path.
    Symlink(u8, u8),
    /// link(2).
    Link(u8, u8),
    /// unlink(2).
    Unlink(u8),
    /// rmdir(2).
    Rmdir(u8),
    /// renameat2(2).
    Rename(u8, u8, RenameMode),
    /// chmod(2).
    Chmod(u8, u16),
    /// setxattr(2) with this many bytes.
    Xattr(u8, u8, u16),
    /// removexattr(2).
    RemoveXattr(u8, u8),
    /// Drop the name cache.
    Forget,
}

const NAMES: [&str; 4] =
    ["a", "b", "c", "a-rather-long-name-that-does-not-fit-a-micro-zap-entry-of-fifty-bytes"];

/// The path a number stands for: one to three components.
fn path(n: u8) -> String {
    let n = usize::from(n);
    let first = NAMES[n % 4];
    match n / 4 % 3 {
        0 => format!("/{first}"),
        1 => format!("/{first}/{}", NAMES[n / 12 % 4]),
        _ => format!("/{first}/{}/{}", NAMES[n / 12 % 4], NAMES[n / 48 % 4]),
    }
}

/// Generates operations.
pub fn op() -> impl Strategy<Value = Op> {
    let p = || any::<u8>();
    let offset = prop_oneof![0u32..10_000, 0u32..600_000];
    let len = prop_oneof![0u32..300, 0u32..200_000];
    let mode = prop_oneof![
        4 => Just(RenameMode::Replace),
        1 => Just(RenameMode::NoReplace),
        2 => Just(RenameMode::Exchange)
    ];
    prop_oneof![
        8 => (p(), offset.clone(), len.clone(), any::<u8>())
            .prop_map(|(path, offset, len, byte)| Op::Write { path, offset, len, byte }),
        2 => (p(), 0u32..700_000).prop_map(|(path, size)| Op::Truncate { path, size }),
        2 => (p(), offset, len).prop_map(|(path, offset, len)| Op::Punch { path, offset, len }),
        6 => p().prop_map(Op::Mkdir),
        2 => (p(), p()).prop_map(|(a, b)| Op::Symlink(a, b)),
        3 => (p(), p()).prop_map(|(a, b)| Op::Link(a, b)),
        3 => p().prop_map(Op::Unlink),
        2 => p().prop_map(Op::Rmdir),
        6 => (p(), p(), mode).prop_map(|(a, b, m)| Op::Rename(a, b, m)),
        2 => (p(), 0u16..0o1000).prop_map(|(a, m)| Op::Chmod(a, m)),
        3 => (p(), 0u8..4, prop_oneof![0u16..100, 0u16..3000]).prop_map(|(a, k, n)| Op::Xattr(a, k, n)),
        1 => (p(), 0u8..4).prop_map(|(a, k)| Op::RemoveXattr(a, k)),
        1 => Just(Op::Forget),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<String, usize>),
    Link(String),
}

#[derive(Clone, Debug)]
struct Node {
    body: Body,
    perm: u32,
    xattrs: BTreeMap<u8, Vec<u8>>,
}

/// The model: nodes by number, 0 the root. Removed nodes stay, unreachable.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: Vec<Node>,
}

impl Default for Model {
    fn default() -> Self {
        let root = Node { body: Body::Dir(BTreeMap::new()), perm: 0o755, xattrs: BTreeMap::new() };
        Self { nodes: Vec::from([root]) }
    }
}

type Outcome = Result<(), Error>;

impl Model {
    fn dir(&self, node: usize) -> Result<&BTreeMap<String, usize>, Error> {
        match &self.nodes[node].body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(Error::NotDirectory),
        }
    }

    fn dir_mut(&mut self, node: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[node].body {
            Body::Dir(entries) => entries,
            _ => unreachable!("checked to be a directory"),
        }
    }

    /// The directory and name of a path; links in the middle end the walk with an error the caller skips.
    fn parent(&self, path: &str) -> Result<(usize, String), Error> {
        let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let last = parts.pop().ok_or(Error::Invalid)?;
        let mut at = 0;
        for part in parts {
            at = *self.dir(at)?.get(part).ok_or(Error::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, String::from(last)))
    }

    fn find(&self, path: &str) -> Result<usize, Error> {
        let (dir, name) = self.parent(path)?;
        self.dir(dir)?.get(&name).copied().ok_or(Error::NotFound)
    }

    /// Whether a symbolic link is anywhere on the path: the walk through links has its own tests.
    fn meets_link(&self, path: &str) -> bool {
        let mut at = 0;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let Ok(entries) = self.dir(at) else { return false };
            let Some(next) = entries.get(part) else { return false };
            at = *next;
            if matches!(self.nodes[at].body, Body::Link(_)) {
                return true;
            }
        }
        false
    }

    fn is_within(&self, upper: usize, node: usize) -> bool {
        upper == node
            || match &self.nodes[upper].body {
                Body::Dir(entries) => entries.values().any(|n| self.is_within(*n, node)),
                _ => false,
            }
    }

    fn add(&mut self, path: &str, body: Body, perm: u32) -> Result<usize, Error> {
        let (dir, name) = self.parent(path)?;
        if self.dir(dir)?.contains_key(&name) {
            return Err(Error::Exists);
        }
        self.nodes.push(Node { body, perm, xattrs: BTreeMap::new() });
        let node = self.nodes.len() - 1;
        self.dir_mut(dir).insert(name, node);
        Ok(node)
    }

    fn file_mut(&mut self, path: &str) -> Result<&mut Vec<u8>, Error> {
        let node = self.find(path)?;
        match &mut self.nodes[node].body {
            Body::File(bytes) => Ok(bytes),
            Body::Dir(_) => Err(Error::IsDirectory),
            Body::Link(_) => Err(Error::Loop),
        }
    }

    fn rename(&mut self, from: &str, to: &str, mode: RenameMode) -> Outcome {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let source = *self.dir(from_dir)?.get(&from_name).ok_or(Error::NotFound)?;
        let target = self.dir(to_dir)?.get(&to_name).copied();
        let is_dir = |m: &Self, n: usize| m.dir(n).is_ok();
        if mode == RenameMode::NoReplace && target.is_some() {
            return Err(Error::Exists);
        }
        if is_dir(self, source) && self.is_within(source, to_dir) {
            return Err(Error::Invalid);
        }
        if mode == RenameMode::Exchange {
            let target = target.ok_or(Error::NotFound)?;
            if is_dir(self, target) && self.is_within(target, from_dir) {
                return Err(Error::Invalid);
            }
            self.dir_mut(from_dir).insert(from_name, target);
            self.dir_mut(to_dir).insert(to_name, source);
            return Ok(());
        }
        if let Some(target) = target {
            if is_dir(self, target) && self.is_within(target, from_dir) && target != source {
                return Err(Error::NotEmpty);
            }
            match (is_dir(self, source), is_dir(self, target)) {
                (true, false) => return Err(Error::NotDirectory),
                (false, true) => return Err(Error::IsDirectory),
                (true, true) if source != target && !self.dir(target)?.is_empty() => {
                    return Err(Error::NotEmpty);
                }
                _ => {}
            }
            if source == target {
                return Ok(());
            }
        }
        self.dir_mut(from_dir).remove(&from_name);
        self.dir_mut(to_dir).insert(to_name, source);
        Ok(())
    }

    /// Applies an operation; `None`: it is one the model does not speak about.
    pub fn apply(&mut self, op: &Op) -> Option<Outcome> {
        let paths: Vec<String> = match op {
            Op::Write { path: p, .. } | Op::Truncate { path: p, .. } | Op::Punch { path: p, .. } => {
                Vec::from([path(*p)])
            }
            Op::Link(a, b) | Op::Rename(a, b, _) => Vec::from([path(*a), path(*b)]),
            Op::Mkdir(p) | Op::Symlink(p, _) | Op::Unlink(p) | Op::Rmdir(p) => Vec::from([path(*p)]),
            Op::Chmod(p, _) | Op::Xattr(p, _, _) | Op::RemoveXattr(p, _) => Vec::from([path(*p)]),
            Op::Forget => return Some(Ok(())),
        };
        let dir_of = |p: &String| String::from(p.rsplit_once('/').map_or("", |(dir, _)| dir));
        let is_unlink = matches!(op, Op::Unlink(_));
        if paths.iter().any(|p| self.meets_link(&dir_of(p)) || (self.meets_link(p) && !is_unlink)) {
            return None;
        }
        Some(self.apply_plain(op, &paths))
    }

    fn apply_plain(&mut self, op: &Op, paths: &[String]) -> Outcome {
        let p = &paths[0];
        match op {
            Op::Write { offset, len, byte, .. } => {
                if self.find(p) == Err(Error::NotFound) {
                    self.add(p, Body::File(Vec::new()), 0o644)?;
                }
                let file = self.file_mut(p)?;
                let (offset, end) = (*offset as usize, (*offset + *len) as usize);
                if *len > 0 {
                    file.resize(file.len().max(end), 0);
                    file[offset..end].fill(*byte);
                }
                Ok(())
            }
            Op::Truncate { size, .. } => self.file_mut(p).map(|f| f.resize(*size as usize, 0)),
            Op::Punch { offset, len, .. } => {
                let file = self.file_mut(p)?;
                let end = ((*offset + *len) as usize).min(file.len());
                let start = (*offset as usize).min(end);
                file[start..end].fill(0);
                Ok(())
            }
            Op::Mkdir(_) => self.add(p, Body::Dir(BTreeMap::new()), 0o755).map(|_| ()),
            Op::Symlink(_, to) => self.add(p, Body::Link(path(*to)), 0o777).map(|_| ()),
            Op::Link(..) => {
                let node = self.find(p)?;
                let (dir, name) = self.parent(&paths[1])?;
                if self.dir(dir)?.contains_key(&name) {
                    return Err(Error::Exists);
                }
                if self.dir(node).is_ok() {
                    return Err(Error::NotPermitted);
                }
                self.dir_mut(dir).insert(name, node);
                Ok(())
            }
            Op::Unlink(_) => {
                let node = self.find(p)?;
                if self.dir(node).is_ok() {
                    return Err(Error::IsDirectory);
                }
                let (dir, name) = self.parent(p)?;
                self.dir_mut(dir).remove(&name);
                Ok(())
            }
            Op::Rmdir(_) => {
                let node = self.find(p)?;
                if !self.dir(node)?.is_empty() {
                    return Err(Error::NotEmpty);
                }
                let (dir, name) = self.parent(p)?;
                self.dir_mut(dir).remove(&name);
                Ok(())
            }
            Op::Rename(_, _, mode) => self.rename(p, &paths[1], *mode),
            Op::Chmod(_, perm) => {
                let node = self.find(p)?;
                self.nodes[node].perm = u32::from(*perm);
                Ok(())
            }
            Op::Xattr(_, key, len) => {
                let node = self.find(p)?;
                self.nodes[node].xattrs.insert(*key, alloc::vec![*key; usize::from(*len)]);
                Ok(())
            }
            Op::RemoveXattr(_, key) => {
                let node = self.find(p)?;
                self.nodes[node].xattrs.remove(key).map(|_| ()).ok_or(Error::NoData)
            }
            Op::Forget => Ok(()),
        }
    }

    /// Compares the whole tree.
    ///
    /// # Errors
    /// What differs.
    pub fn compare(&self, tree: &Tree) -> Result<(), String> {
        let mut links = BTreeMap::new();
        self.count_links(0, &mut links);
        let mut inos = BTreeMap::new();
        self.compare_node(tree, 0, "", &links, &mut inos)
    }

    fn count_links(&self, node: usize, links: &mut BTreeMap<usize, u64>) {
        let Ok(entries) = self.dir(node) else { return };
        for child in entries.values() {
            *links.entry(*child).or_default() += 1;
            self.count_links(*child, links);
        }
    }

    fn compare_node(
        &self,
        tree: &Tree,
        node: usize,
        at: &str,
        links: &BTreeMap<usize, u64>,
        inos: &mut BTreeMap<u64, usize>,
    ) -> Result<(), String> {
        let path = if at.is_empty() { "/" } else { at };
        let fail = |what: &str| Err(format!("{path}: {what}"));
        let dentry = tree.find(path).map_err(|e| format!("{path}: {e}"))?;
        let vnode = dentry.vnode();
        let attr = vnode.getattr().map_err(|e| format!("{path}: getattr: {e}"))?;
        let model = &self.nodes[node];
        if *inos.entry(attr.ino).or_insert(node) != node {
            return fail("shares its inode number with another file");
        }
        if node != 0 && attr.perm != model.perm {
            return fail(&format!("mode {:o}, expected {:o}", attr.perm, model.perm));
        }
        for (key, value) in &model.xattrs {
            if vnode.getxattr(&xattr_name(*key)).as_ref() != Ok(value) {
                return fail(&format!("extended attribute {key} differs"));
            }
        }
        if vnode.listxattr().map_or(usize::MAX, |l| l.len()) != model.xattrs.len() {
            return fail("number of extended attributes differs");
        }
        let want_links = match &model.body {
            Body::Dir(entries) => 2 + entries.values().filter(|n| self.dir(**n).is_ok()).count() as u64,
            _ => links.get(&node).copied().unwrap_or(0),
        };
        if attr.nlink != want_links {
            return fail(&format!("{} links, expected {want_links}", attr.nlink));
        }
        match &model.body {
            Body::File(bytes) => {
                if attr.kind != FileType::Regular || attr.size != bytes.len() as u64 {
                    return fail(&format!(
                        "{:?} of {} bytes, expected {}",
                        attr.kind,
                        attr.size,
                        bytes.len()
                    ));
                }
                let got = tree.read(path).map_err(|e| format!("{path}: read: {e}"))?;
                match got.iter().zip(bytes).position(|(a, b)| a != b) {
                    _ if got.len() != bytes.len() => fail("short read"),
                    Some(at) => fail(&format!("byte {at} is {}, expected {}", got[at], bytes[at])),
                    None => Ok(()),
                }
            }
            Body::Link(target) => match vnode.readlink() {
                Ok(got) if got == target.as_bytes() => Ok(()),
                other => fail(&format!("link to {other:?}, expected {target}")),
            },
            Body::Dir(entries) => {
                let got = tree.list(path).map_err(|e| format!("{path}: readdir: {e}"))?;
                if !got.iter().map(Vec::as_slice).eq(entries.keys().map(String::as_bytes)) {
                    return fail(&format!("entries {got:?}, expected {:?}", entries.keys()));
                }
                entries.iter().try_for_each(|(name, child)| {
                    self.compare_node(tree, *child, &format!("{at}/{name}"), links, inos)
                })
            }
        }
    }
}

fn xattr_name(key: u8) -> Vec<u8> {
    format!("user.key{key}").into_bytes()
}

/// Does an operation on the real file system.
///
/// # Errors
/// What it reports.
pub fn apply_real(tree: &Tree, op: &Op) -> Outcome {
    let from = tree.from();
    let find = |p: u8| tree.find(&path(p));
    match op {
        Op::Write { path: p, offset, len, byte } => {
            let file = tree.open(&path(*p), OpenFlags::WRITE | OpenFlags::CREATE)?;
            let bytes = alloc::vec![*byte; *len as usize];
            let n = file.write_at(u64::from(*offset), &mut SliceSource::new(&bytes))?;
            if n == bytes.len() { Ok(()) } else { Err(Error::Io) }
        }
        Op::Truncate { path: p, size } => {
            find(*p)?.vnode().setattr(&SetAttr { size: Some(u64::from(*size)), ..SetAttr::default() })
        }
        Op::Punch { path: p, offset, len } => {
            let range = u64::from(*offset)..u64::from(*offset) + u64::from(*len);
            find(*p)?.vnode().fallocate(FallocateMode::PunchHole, range)
        }
        Op::Mkdir(p) => tree.ns.create_at(&from, path(*p).as_bytes(), NewNode::Directory, 0o755).map(|_| ()),
        Op::Symlink(p, to) => {
            let target = path(*to);
            let node = NewNode::Symlink(target.as_bytes());
            tree.ns.create_at(&from, path(*p).as_bytes(), node, 0o777).map(|_| ())
        }
        Op::Link(a, b) => tree.ns.link_at(&find(*a)?, &from, path(*b).as_bytes()),
        Op::Unlink(p) => tree.ns.unlink_at(&from, path(*p).as_bytes()),
        Op::Rmdir(p) => tree.ns.rmdir_at(&from, path(*p).as_bytes()),
        Op::Rename(a, b, mode) => {
            tree.ns.rename_at(&from, path(*a).as_bytes(), &from, path(*b).as_bytes(), *mode)
        }
        Op::Chmod(p, perm) => {
            find(*p)?.vnode().setattr(&SetAttr { perm: Some(u32::from(*perm)), ..SetAttr::default() })
        }
        Op::Xattr(p, key, len) => {
            let value = alloc::vec![*key; usize::from(*len)];
            find(*p)?.vnode().setxattr(&xattr_name(*key), &value, XattrMode::Any)
        }
        Op::RemoveXattr(p, key) => find(*p)?.vnode().removexattr(&xattr_name(*key)),
        Op::Forget => {
            tree.ns.shrink_cache();
            Ok(())
        }
    }
}

/// Applies operations to both; the first difference.
///
/// # Errors
/// What differs.
pub fn run_ops(tree: &Tree, model: &mut Model, ops: &[Op]) -> Result<(), String> {
    for (at, op) in ops.iter().enumerate() {
        let Some(want) = model.apply(op) else { continue };
        let got = apply_real(tree, op);
        if got.is_ok() != want.is_ok() || (got != want && !is_same_kind(got, want)) {
            return Err(format!("operation {at}, {op:?}: {got:?}, expected {want:?}"));
        }
    }
    Ok(())
}

/// Errors of which several may hold at once, where the order of checks is not promised.
fn is_same_kind(got: Outcome, want: Outcome) -> bool {
    let loose = [
        Error::Exists,
        Error::NotFound,
        Error::NotDirectory,
        Error::IsDirectory,
        Error::Invalid,
        Error::NotEmpty,
        Error::NotPermitted,
    ];
    matches!((got, want), (Err(a), Err(b)) if loose.contains(&a) && loose.contains(&b))
}

/// `nr_cases` random sequences of up to `len_max` operations, each on a new file system; the same every time.
///
/// # Panics
/// With the shortest sequence found that makes a difference.
pub fn check_random(make: &impl Fn() -> Arc<dyn FileSystem>, nr_cases: u32, len_max: usize) {
    let config =
        Config { cases: nr_cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&prop::collection::vec(op(), 1..len_max), |ops| {
        let tree = Tree::new(make());
        let mut model = Model::default();
        run_ops(&tree, &mut model, &ops).map_err(TestCaseError::fail)?;
        tree.ns.shrink_cache();
        model.compare(&tree).map_err(TestCaseError::fail)
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}
