//! The administrator: a thread that takes, clones, promotes, renames, rolls back, sends, receives and destroys datasets,
//! scrubs and keeps checkpoints while the others work; and the model of what that must leave.
//!
//! Each name of a dataset or snapshot has a history of its own: the digest of what it holds, or that it is not there.
//! A command is one transaction and durable when it returns. What is written to a side dataset may come out of its
//! intent log; whether a dataset is there, and what a snapshot holds, is for the groups alone to say.
use crate::check::check_tree;
use crate::content::{Content, mix};
use crate::history::{Cut, History, Version};
use crate::pool::{self, Open, POOL};
use crate::tree::{Body, Meta, Tree, key, name_sum, state_hash};
use crate::worker::{Record, Shared};
use blockdev_sim::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vfs::{Caller, FileSystem, OpenFlags, SliceSource, WalkFrom};
use zfs::Error;
use zfs::spa::Spa;

mod replicas;
mod streams;

/// Datasets beside the root's, and snapshots, that are let grow.
const DATASETS_MAX: usize = 4;
const SNAPSHOTS_MAX: usize = 6;
/// Longest file in a side dataset: one record of the intent log.
const SIDE_FILE_MAX: u64 = 20_000;

/// A dataset or snapshot as the model has it.
#[derive(Clone, Debug)]
struct Item {
    digest: u64,
    /// Stays when it is renamed.
    id: u64,
    /// Files that were written here, and their part of the digest.
    files: Vec<(Vec<u8>, u64)>,
}

/// A snapshot of the dataset that the workers change.
struct Taken {
    name: String,
    txg: u64,
    /// When the command began.
    start: u64,
    tree: Tree,
}

/// A checkpoint of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The group whose state it keeps.
    pub txg: u64,
    /// When the command began.
    pub start: u64,
}

/// What the administrator leaves behind.
#[derive(Default)]
pub struct AdminRecord {
    slots: BTreeMap<String, History>,
    taken: Vec<Taken>,
    /// Checkpoints of this generation.
    pub kept: Vec<Kept>,
    log: Vec<String>,
}

/// The thread.
pub struct Admin {
    shared: Arc<Shared>,
    spa: Arc<Spa>,
    random: Random,
    now: BTreeMap<String, Item>,
    record: AdminRecord,
}

#[derive(Clone, Copy)]
struct Stamp {
    start: u64,
    txg: u64,
}

/// What a snapshot or a dataset that is not mounted holds.
///
/// # Errors
/// What cannot be read.
fn digest_of(spa: &Arc<Spa>, name: &str) -> Result<u64, String> {
    let fs = pool::mount_one(spa, name)?;
    let root = fs.root().map_err(|e| format!("{name}: root directory: {e}"))?;
    let tree = Tree::read_below(&root);
    drop(root);
    fs.unmount().map_err(|e| format!("{name}: unmount: {e}"))?;
    Ok(tree.map_err(|e| format!("{name}: {e}"))?.digest())
}

/// Every dataset and snapshot but the root dataset and those that are half received: name, number, whether it is a
/// snapshot.
fn listed(spa: &Arc<Spa>) -> Result<Vec<(String, u64, bool)>, String> {
    let mut found = Vec::new();
    for dataset in spa.datasets().map_err(|e| format!("listing datasets: {e}"))? {
        let is_half = || {
            let figures = spa.figures(&dataset.name).map_err(|e| format!("{}: {e}", dataset.name))?;
            Ok::<_, String>(figures.is_inconsistent)
        };
        if dataset.name != POOL && (dataset.is_snapshot || !is_half()?) {
            found.push((dataset.name, dataset.id, dataset.is_snapshot));
        }
    }
    Ok(found)
}

impl Admin {
    /// Takes in what there is.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn adopt(shared: &Arc<Shared>, open: &Open, random: Random) -> Result<Self, String> {
        let mut admin = Self {
            shared: shared.clone(),
            spa: open.spa.clone(),
            random,
            now: BTreeMap::new(),
            record: AdminRecord::default(),
        };
        for (name, id, _) in listed(&open.spa)? {
            let digest = digest_of(&open.spa, &name)?;
            admin.record.slots.insert(name.clone(), History::durable(digest));
            admin.now.insert(name, Item { digest, id, files: Vec::new() });
        }
        Ok(admin)
    }

    /// Does everything of a generation.
    pub fn run(mut self) -> AdminRecord {
        for _ in 0..self.shared.plan.nr_commands {
            self.step();
        }
        self.record
    }

    fn step(&mut self) {
        let nr_snapshots = self.now.keys().filter(|name| name.contains('@')).count();
        let nr_datasets = self.now.len() - nr_snapshots;
        match self.random.below(32) {
            0..=4 if nr_snapshots < SNAPSHOTS_MAX => self.snapshot(),
            5..=7 if nr_datasets < DATASETS_MAX => self.clone(),
            8..=9 if nr_datasets < DATASETS_MAX => self.receive(),
            10..=16 => self.write_file(),
            17 | 18 => self.roll_back(),
            19 => self.promote(),
            20 => self.rename(),
            21 => self.scrub(),
            22 => self.checkpoint(),
            23 if nr_datasets < DATASETS_MAX => self.replicate(),
            23 | 24 => self.receive_on_top(),
            25 if self.random.chance(1, 2) => self.give_up_receive(),
            25 => rt::sleep(Duration::from_micros(self.random.below(20_000))),
            26 | 27 => self.destroy(false),
            _ => self.destroy(true),
        }
    }

    // --- time and the model --------------------------------------------------------------------------------------

    fn open_txg(&self) -> u64 {
        self.spa.txgs().hold_open().txg().0
    }

    fn begin(&mut self, what: String) -> Stamp {
        let txg = self.open_txg();
        let start = self.shared.tick();
        log::trace!("administrator: [{start}] {what}");
        self.record.log.push(format!("[{start}] {what}"));
        Stamp { start, txg }
    }

    /// The states of these names have changed.
    fn changed(&mut self, names: impl IntoIterator<Item = String>, stamp: Stamp, is_durable: bool) {
        let (end, txg_hi, op) = (self.shared.tick(), self.open_txg(), self.record.log.len() - 1);
        for name in names {
            let hash = self.now.get(&name).map_or(0, |item| item.digest);
            let history = self.record.slots.entry(name).or_insert_with(|| History::durable(0));
            history.versions.push(Version { start: stamp.start, end, txg_lo: stamp.txg, txg_hi, hash, op });
            if is_durable {
                history.ack(end);
            }
        }
    }

    /// Whether a command has been carried out. Some may be refused, and have changed nothing then.
    fn is_done(&mut self, result: zfs::Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(
                e @ (Error::NoSpace
                | Error::Quota
                | Error::Busy
                | Error::NotEmpty
                | Error::Exists
                | Error::Invalid
                | Error::Modified
                | Error::NoBase
                | Error::NotFound),
            ) => {
                self.record.log.push(format!("  refused: {e}"));
                log::trace!("administrator: refused: {e}");
                false
            }
            Err(e) => self.finding(&format!("{e}")),
        }
    }

    fn finding(&self, what: &str) -> ! {
        let tail: Vec<&String> = self.record.log.iter().rev().take(12).rev().collect();
        panic!("administrator: {what}\nits last commands: {tail:#?}");
    }

    fn pick(&mut self, is_wanted: impl Fn(&str) -> bool) -> Option<String> {
        let names: Vec<&String> = self.now.keys().filter(|name| is_wanted(name)).collect();
        (!names.is_empty()).then(|| names[self.random.below(names.len() as u64) as usize].clone())
    }

    fn new_name(&mut self, parent: &str, sign: char) -> String {
        format!("{parent}{sign}{:08x}", self.random.next_u64() as u32)
    }

    /// Names have moved: which has which number is asked, and must be what there was.
    fn names_moved(&mut self, stamp: Stamp) {
        let found = match listed(&self.spa) {
            Ok(found) => found,
            Err(e) => self.finding(&e),
        };
        let old = core::mem::take(&mut self.now);
        let mut changed: Vec<String> = Vec::new();
        for (name, id, _) in &found {
            let Some((was, item)) = old.iter().find(|(_, item)| item.id == *id) else {
                self.finding(&format!("{name}: a dataset that nobody made"))
            };
            if was != name {
                changed.extend([was.clone(), name.clone()]);
            }
            self.now.insert(name.clone(), item.clone());
        }
        if self.now.len() != old.len() {
            self.finding("datasets are gone");
        }
        changed.sort();
        changed.dedup();
        self.changed(changed, stamp, true);
    }

    // --- commands ------------------------------------------------------------------------------------------------

    fn snapshot(&mut self) {
        let of = match self.random.below(3) {
            0 => self.pick(|name| !name.contains('@')),
            _ => None,
        };
        let of = of.unwrap_or_else(|| POOL.to_owned());
        let name = self.new_name(&of, '@');
        let stamp = self.begin(format!("snapshot {name}"));
        let taken = self.spa.snapshot(&[&name], false, &[]);
        if !self.is_done(taken) {
            return;
        }
        let info = self.spa.datasets().map(|all| all.into_iter().find(|d| d.name == name));
        let Ok(Some(info)) = info else { self.finding("a snapshot that was taken is not there") };
        let item = match self.now.get(&of) {
            Some(item) => Item { id: info.id, ..item.clone() },
            None => {
                let tree = match self.read(&name) {
                    Ok(tree) => tree,
                    Err(e) => self.finding(&e),
                };
                let item = Item { digest: tree.digest(), id: info.id, files: Vec::new() };
                let (start, txg) = (stamp.start, info.created_txg);
                self.record.taken.push(Taken { name: name.clone(), txg, start, tree });
                item
            }
        };
        self.now.insert(name.clone(), item);
        self.changed([name], stamp, true);
    }

    fn read(&self, name: &str) -> Result<Tree, String> {
        let fs = pool::mount_one(&self.spa, name)?;
        let root = fs.root().map_err(|e| format!("{name}: root directory: {e}"))?;
        Tree::read_below(&root).map_err(|e| format!("{name}: {e}"))
    }

    fn clone(&mut self) {
        let Some(of) = self.pick(|name| name.contains('@')) else { return };
        let name = self.new_name(POOL, '/');
        let stamp = self.begin(format!("clone {of} {name}"));
        let cloned = self.spa.clone_snapshot(&of, &name, &[]);
        if self.is_done(cloned) {
            self.add_copy(&of, &name);
            self.changed([name], stamp, true);
        }
    }

    /// A dataset that begins with what another holds.
    fn add_copy(&mut self, of: &str, name: &str) {
        let found = listed(&self.spa).unwrap_or_default();
        let Some((_, id, _)) = found.into_iter().find(|(found, ..)| found == name) else {
            self.finding(&format!("{name} was made and is not there"))
        };
        let item = Item { id, ..self.now[of].clone() };
        self.now.insert(name.to_owned(), item);
    }

    /// What is not there any more, all of which must begin so. What was received anew by its old name went in between.
    fn take_gone(&mut self, prefix: &str) -> Vec<String> {
        let left = listed(&self.spa).unwrap_or_default();
        let is_left =
            |name: &str, id: u64| left.iter().any(|(found, found_id, _)| found == name && *found_id == id);
        let gone = self.now.iter().filter(|(name, item)| !is_left(name, item.id));
        let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
        if gone.iter().any(|name| !name.starts_with(prefix)) {
            self.finding(&format!("{gone:?} went with those of {prefix}"));
        }
        gone.iter().for_each(|name| drop(self.now.remove(name)));
        gone
    }

    fn write_file(&mut self) {
        let Some(name) = self.pick(|name| !name.contains('@')) else { return };
        let fs = match pool::mount_one(&self.spa, &name) {
            Ok(fs) => fs,
            Err(e) => self.finding(&e),
        };
        let ns = match pool::namespace(&fs) {
            Ok(ns) => ns,
            Err(e) => self.finding(&e),
        };
        let root = ns.root().clone();
        let from = WalkFrom { caller: Caller::ROOT, root: &root, start: &root };
        let file = format!("side{:06x}", self.random.below(1 << 24));
        let is_always_sync = self.shared.plan.properties.contains(&("sync", "always".to_owned()));
        let stamp = self.begin(format!("create {name}:{file}"));
        let flags = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::WRITE;
        let opened = match ns.open(&from, format!("/{file}").as_bytes(), flags, 0o600) {
            Ok(opened) => opened,
            Err(vfs::Error::NoSpace | vfs::Error::Exists) => return,
            Err(e) => self.finding(&format!("create: {e}")),
        };
        let (Ok(attr), Ok(above)) = (opened.getattr(), root.vnode().getattr()) else {
            self.finding("attributes of a new file")
        };
        let (own, dir) = (key(attr.ino, attr.generation), key(above.ino, above.generation));
        let meta = Meta { perm: attr.perm, uid: attr.uid, gid: attr.gid, xattrs: BTreeMap::new() };
        let part = |content: &Content| {
            let state = state_hash(&Body::File(content.clone()), &meta);
            Tree::part(own, state).wrapping_add(name_sum(dir, file.as_bytes(), own))
        };
        let mut content = Content::default();
        self.replace_file(&name, &file, part(&content));
        self.changed([name.clone()], stamp, is_always_sync);
        let len = self.random.within(1, SIDE_FILE_MAX) as usize;
        let mut random = self.random.fork();
        let bytes: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        let stamp = self.begin(format!("write {name}:{file}, {len} bytes"));
        match opened.write_at(0, &mut SliceSource::new(&bytes)) {
            Ok(n) => {
                content.write(0, &bytes[..n]);
                self.replace_file(&name, &file, part(&content));
                self.changed([name.clone()], stamp, is_always_sync);
            }
            Err(vfs::Error::NoSpace) => return,
            Err(e) => self.finding(&format!("write: {e}")),
        }
        if self.random.chance(1, 2) {
            self.sync_file_system(&*fs, &name);
        }
    }

    fn sync_file_system(&mut self, fs: &dyn FileSystem, name: &str) {
        self.begin(format!("syncfs {name}"));
        if let Err(e) = fs.sync() {
            self.finding(&format!("syncfs: {e}"));
        }
        let now = self.shared.tick();
        let is_promised = !self.shared.plan.properties.contains(&("sync", "disabled".to_owned()));
        if let (true, Some(history)) = (is_promised, self.record.slots.get_mut(name)) {
            history.ack(now);
        }
    }

    /// A file of a side dataset has come, or changed.
    fn replace_file(&mut self, name: &str, file: &str, part: u64) {
        let Some(item) = self.now.get_mut(name) else { return };
        item.files.retain(|(other, old)| {
            let is_other = other != file.as_bytes();
            if !is_other {
                item.digest = item.digest.wrapping_sub(*old);
            }
            is_other
        });
        item.digest = item.digest.wrapping_add(part);
        item.files.push((file.as_bytes().to_vec(), part));
    }

    fn roll_back(&mut self) {
        let Some(to) = self.pick(|name| name.contains('@') && !name.starts_with("tank@")) else { return };
        let head = to.split('@').next().unwrap_or_default().to_owned();
        let is_forced = self.random.chance(1, 2);
        let stamp = self.begin(format!("roll back to {to}, newer ones go: {is_forced}"));
        let rolled = self.spa.rollback(&to, is_forced);
        if !self.is_done(rolled) {
            return;
        }
        let gone = self.take_gone(&format!("{head}@"));
        let id = self.now[&head].id;
        let item = Item { id, ..self.now[&to].clone() };
        self.now.insert(head.clone(), item);
        self.changed(gone.into_iter().chain([head]), stamp, true);
    }

    fn promote(&mut self) {
        let Some(name) = self.pick(|name| !name.contains('@')) else { return };
        let stamp = self.begin(format!("promote {name}"));
        let promoted = self.spa.promote(&name);
        if self.is_done(promoted) {
            self.names_moved(stamp);
        }
    }

    fn rename(&mut self) {
        let Some(name) = self.pick(|_| true) else { return };
        let (to, renamed, stamp);
        if let Some((path, old)) = name.split_once('@') {
            to = self.new_name(path, '@');
            stamp = self.begin(format!("rename {path}@{old} {to}"));
            let new = to.split('@').nth(1).unwrap_or_default();
            renamed = self.spa.rename_snapshot(&name, new, false);
        } else {
            to = self.new_name(POOL, '/');
            stamp = self.begin(format!("rename {name} {to}"));
            renamed = self.spa.rename_dataset(&name, &to);
        }
        if self.is_done(renamed) {
            self.names_moved(stamp);
            if !self.now.contains_key(&to) || self.now.contains_key(&name) {
                self.finding("what was renamed has its old name");
            }
        }
    }

    fn destroy(&mut self, is_snapshot: bool) {
        let Some(name) = self.pick(|name| name.contains('@') == is_snapshot) else { return };
        let stamp = self.begin(format!("destroy {name}"));
        let destroyed = match is_snapshot {
            true => self.spa.destroy_snapshots(&[&name], false),
            false => self.spa.destroy_dataset(&name),
        };
        if self.is_done(destroyed) {
            self.now.remove(&name);
            self.changed([name], stamp, true);
        }
    }

    fn scrub(&mut self) {
        let which = self.random.below(4);
        self.begin(format!("scrub {which}"));
        let done = match which {
            0 => self.spa.scrub_pause(),
            1 => self.spa.scrub_stop(),
            _ => self.spa.scrub(),
        };
        self.is_done(done);
    }

    fn checkpoint(&mut self) {
        let stamp = self.begin("checkpoint".to_owned());
        let info = match self.spa.checkpoint_info() {
            Ok(info) => info,
            Err(e) => self.finding(&format!("checkpoint: {e}")),
        };
        if info.is_some() {
            let discarded = self.spa.discard_checkpoint();
            self.is_done(discarded);
            return;
        }
        let kept = self.spa.checkpoint();
        if self.is_done(kept)
            && let Ok(Some(info)) = self.spa.checkpoint_info()
        {
            self.record.kept.push(Kept { txg: info.txg, start: stamp.start });
        }
    }
}

impl AdminRecord {
    /// The snapshots of the workers' dataset hold what the workers had done by then.
    ///
    /// # Errors
    /// What they do not.
    pub fn check_taken(&self, records: &[Record], sync_acks: &[(u64, u64)]) -> Result<(), String> {
        for taken in &self.taken {
            let acked = sync_acks.iter().filter(|(when, _)| *when <= taken.start);
            let all_before = acked.map(|(_, before)| *before).max().unwrap_or(0);
            let cut = Cut { at: u64::MAX, acked_by: taken.start, txg: taken.txg, has_log: false, all_before };
            check_tree(&taken.tree, records, &cut).map_err(|e| format!("{}: {e}", taken.name))?;
        }
        Ok(())
    }

    /// Whether the datasets and snapshots are what a power cut may leave. All are looked for; `nr_read` are read.
    ///
    /// # Errors
    /// What may not be.
    pub fn check(&self, open: &Open, cut: &Cut, nr_read: usize, random: &mut Random) -> Result<(), String> {
        let mut found = listed(&open.spa)?;
        let by_groups = Cut { has_log: false, ..*cut };
        for (name, history) in &self.slots {
            let is_there = found.iter().any(|(found, ..)| found == name);
            // What a log acknowledged may be newer than the group.
            let floor = history.floor(&by_groups);
            let ceiling = history.ceiling(&by_groups).unwrap_or(0).max(floor);
            let mut allowed = (floor..=ceiling).map(|at| history.versions[at].hash != 0);
            if !allowed.any(|may| may == is_there) {
                let explained = history.explain(&by_groups, 0);
                return Err(format!("{name}: there: {is_there}; {explained}\n{:#?}", self.log));
            }
        }
        if let Some((name, ..)) = found.iter().find(|(name, ..)| !self.slots.contains_key(name)) {
            return Err(format!("{name}: a dataset that nobody made"));
        }
        for _ in 0..nr_read.min(found.len()) {
            let at = random.below(found.len() as u64) as usize;
            let (name, _, is_snapshot) = found.swap_remove(at);
            let digest = digest_of(&open.spa, &name)?;
            let history = &self.slots[&name];
            let cut = if is_snapshot { &by_groups } else { cut };
            if history.find(cut, digest).is_none() {
                let explained = history.explain(cut, digest);
                return Err(format!(
                    "{name} does not hold what it did at any allowed moment: {explained}\n{:#?}",
                    self.log
                ));
            }
        }
        Ok(())
    }
}

impl Tree {
    /// A node's part of the digest, beside those of its names.
    pub fn part(key: u64, state: u64) -> u64 {
        mix(key ^ state.rotate_left(31))
    }

    /// A number for all that is there: nodes, their states, and their names.
    pub fn digest(&self) -> u64 {
        let mut sum = 0_u64;
        for node in &self.nodes {
            sum = sum.wrapping_add(Self::part(node.key, state_hash(&node.body, &node.meta)));
            if let Body::Dir(entries) = &node.body {
                for (name, child) in entries {
                    sum = sum.wrapping_add(name_sum(node.key, name, self.nodes[*child].key));
                }
            }
        }
        sum
    }
}
