//! Which snapshots a request means, each on top of which, and in which order.
//!
//! Of a tree of datasets (`-R`) parents come before children and origins before their clones, so that a receiver always
//! has what the next stream builds on.
use super::dump::{BlockOptions, ResumePoint};
use crate::dsl::{dir, names};
use crate::spa::Spa;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use ondisk::dsl::keys;
use ondisk::{DmuType, ObjectId, Txg};

/// What to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendSpec {
    /// The snapshot: `pool/fs@snap`.
    pub to: String,
    /// What the receiver has: a snapshot (`pool/fs@snap`; may be a clone's origin) or a bookmark (`pool/fs#mark`).
    pub from: Option<String>,
    /// All snapshots between the two as well (`-I`).
    pub intermediate: bool,
    /// The datasets below, too, with all their snapshots, clones and properties (`-R`).
    pub replicate: bool,
    /// Datasets below that have no such snapshot are left out (`-s`); else they are an error.
    pub skip_missing: bool,
    /// Properties as well (`-p`).
    pub properties: bool,
    /// Holds as well (`-h`).
    pub holds: bool,
    /// What blocks may look like.
    pub blocks: BlockOptions,
    /// Where an interrupted stream goes on; only without the options that make a compound stream.
    pub resume: Option<ResumePoint>,
}

impl SendSpec {
    /// The request becomes a stream of streams.
    pub fn is_compound(&self) -> bool {
        self.replicate || self.properties || self.holds || (self.intermediate && self.from.is_some())
    }
}

/// What a stream builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) name: String,
    pub(super) guid: u64,
    pub(super) txg: Txg,
    /// It is another dataset's.
    pub(super) is_clone: bool,
}

/// One snapshot to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) id: ObjectId,
    pub(super) base: Option<Base>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// After the `@`.
    pub(super) name: String,
    pub(super) id: ObjectId,
    pub(super) guid: u64,
    pub(super) txg: Txg,
}

/// A dataset with its snapshots up to the one that is sent, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) dir: ObjectId,
    pub(super) guid: u64,
    /// The snapshot it is a clone of.
    pub(super) origin: Option<(ObjectId, u64)>,
    pub(super) snapshots: Vec<Snapshot>,
    /// Guid of the parent's snapshot that a new dataset belongs to.
    pub(super) parent_from: u64,
}

/// All that a request means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    pub(super) trees: Vec<Tree>,
}

/// Splits `pool/fs@snap`.
pub(super) fn split(snapshot: &str) -> Result<(&str, &str)> {
    snapshot.split_once('@').filter(|(fs, snap)| !fs.is_empty() && !snap.is_empty()).ok_or(Error::Invalid)
}

/// Resolves a request.
///
/// # Errors
/// `Invalid` for names and options that do not go together, `NotFound`, `NoBase` when the base is no ancestor, reading's.
pub(super) fn plan(spa: &Spa, spec: &SendSpec) -> Result<Plan> {
    if spec.resume.is_some() && (spec.is_compound() || spec.replicate) {
        return Err(Error::Invalid);
    }
    if spec.replicate { replicated(spa, spec) } else { single(spa, spec) }
}

fn single(spa: &Spa, spec: &SendSpec) -> Result<Plan> {
    let (fs, snap) = split(&spec.to)?;
    let tree = tree(spa, fs, snap, 0)?;
    let last = tree.snapshots.last().ok_or(Error::NotFound)?.clone();
    let part = |snapshot: &Snapshot, base: Option<Base>| Part {
        name: format!("{fs}@{}", snapshot.name),
        id: snapshot.id,
        base,
    };
    let mut parts = Vec::new();
    let base = spec.from.as_deref().map(|from| base(spa, from, fs, last.id)).transpose()?;
    match base {
        Some(mut base) if spec.intermediate => {
            let from = base.txg;
            for snapshot in tree.snapshots.iter().filter(|s| s.txg > from) {
                let next = base_of(fs, snapshot);
                parts.push(part(snapshot, Some(core::mem::replace(&mut base, next))));
            }
        }
        base => parts.push(part(&last, base)),
    }
    let mut trees = Vec::new();
    if spec.properties || spec.holds {
        // Only what is sent is described.
        let is_sent = |s: &Snapshot| parts.iter().any(|p| p.id == s.id);
        let snapshots = tree.snapshots.iter().filter(|s| is_sent(s)).cloned().collect();
        trees.push(Tree { snapshots, ..tree });
    }
    Ok(Plan { parts, trees })
}

fn base_of(fs: &str, snapshot: &Snapshot) -> Base {
    Base { name: format!("{fs}@{}", snapshot.name), guid: snapshot.guid, txg: snapshot.txg, is_clone: false }
}

/// A dataset and its snapshots up to `last`.
fn tree(spa: &Spa, fs: &str, last: &str, parent_from: u64) -> Result<Tree> {
    let mos = spa.mos();
    let dir_id = names::find_dir(mos, spa.root_dir(), fs)?;
    let own = dir::read(mos, dir_id)?;
    let head_id = own.head_dataset.non_zero().ok_or(Error::NotFound)?;
    let head = dir::read_dataset(mos, head_id)?;
    let mut snapshots = Vec::new();
    if !head.snapnames_zap.is_none() {
        let mut found = Vec::new();
        mos.for_each_u64(head.snapnames_zap, &mut |name, id| {
            found.push((name.to_string(), ObjectId(id)));
            Ok(())
        })?;
        for (name, id) in found {
            let ds = dir::read_dataset(mos, id)?;
            snapshots.push(Snapshot { name, id, guid: ds.guid, txg: ds.creation_txg });
        }
    }
    snapshots.sort_by_key(|s| s.txg);
    let end = snapshots.iter().position(|s| s.name == last).map_or(0, |i| i + 1);
    snapshots.truncate(end);
    Ok(Tree {
        name: fs.to_string(),
        dir: dir_id,
        guid: head.guid,
        origin: origin(mos, own.origin)?,
        snapshots,
        parent_from,
    })
}

/// The origin of a clone; what descends from the pool's empty origin is none.
fn origin(mos: &Mos, id: ObjectId) -> Result<Option<(ObjectId, u64)>> {
    if id.is_none() {
        return Ok(None);
    }
    let ds = dir::read_dataset(mos, id)?;
    let is_internal = dir::name(mos, ds.dir)?.contains('$');
    Ok((!is_internal).then_some((id, ds.guid)))
}

/// The base of an incremental stream to the snapshot `to` of `fs`.
fn base(spa: &Spa, from: &str, fs: &str, to: ObjectId) -> Result<Base> {
    let mos = spa.mos();
    let to_txg = dir::read_dataset(mos, to)?.creation_txg;
    if let Some((path, mark)) = from.split_once('#') {
        let base = bookmark(spa, path, mark)?;
        return if base.txg < to_txg {
            Ok(Base { is_clone: path != fs, ..base })
        } else {
            Err(Error::NoBase)
        };
    }
    let (path, _) = split(from)?;
    let found = names::find(mos, spa.root_dir(), from)?;
    let mut at = dir::read_dataset(mos, to)?.prev_snap;
    // The chain of earlier snapshots goes on through a clone's origin. It is as long as txgs differ.
    let mut newest = to_txg;
    while !at.is_none() {
        let ds = dir::read_dataset(mos, at)?;
        if ds.creation_txg >= newest {
            return Err(Error::Damaged);
        }
        if at == found.dataset {
            let is_clone = path != fs;
            return Ok(Base { name: from.to_string(), guid: ds.guid, txg: ds.creation_txg, is_clone });
        }
        newest = ds.creation_txg;
        at = ds.prev_snap;
    }
    Err(Error::NoBase)
}

/// A bookmark: guid, transaction group.
fn bookmark(spa: &Spa, path: &str, mark: &str) -> Result<Base> {
    let mos = spa.mos();
    let head = names::find(mos, spa.root_dir(), path)?.dataset;
    if mos.kind(head)? != DmuType::OTN_ZAP_METADATA {
        return Err(Error::NotFound);
    }
    let marks = mos.zap_lookup(head, keys::BOOKMARKS)?.ok_or(Error::NotFound)?;
    let value = mos.zap(ObjectId(marks))?.lookup(mark.as_bytes())?;
    match value.ints[..] {
        [guid, txg, ..] => Ok(Base { name: format!("{path}#{mark}"), guid, txg: Txg(txg), is_clone: false }),
        _ => Err(Error::Damaged),
    }
}

fn replicated(spa: &Spa, spec: &SendSpec) -> Result<Plan> {
    let mos = spa.mos();
    let (root, last) = split(&spec.to)?;
    let first = match spec.from.as_deref() {
        Some(from) => Some(split(from).ok().filter(|(fs, _)| *fs == root).ok_or(Error::Invalid)?.1),
        None => None,
    };
    let root_dir = names::find_dir(mos, spa.root_dir(), root)?;
    let mut all = Vec::new();
    names::walk(mos, root_dir, root, false, &mut |entry| {
        if !entry.is_snapshot && !entry.dataset.is_none() {
            all.push(entry.name.clone());
        }
        Ok(())
    })?;
    let mut plan = Plan::default();
    for name in all {
        let parent_from = parent_from(&plan.trees, &name, first, last);
        let tree = tree(spa, &name, last, parent_from)?;
        if !tree.snapshots.is_empty() {
            plan.trees.push(tree);
        } else if !spec.skip_missing {
            return Err(Error::NotFound);
        }
    }
    let mut waiting: Vec<&Tree> = plan.trees.iter().collect();
    let mut parts = Vec::new();
    while !waiting.is_empty() {
        let is_ready = |tree: &&Tree| match tree.origin {
            Some((id, _)) => !waiting.iter().any(|t| t.snapshots.iter().any(|s| s.id == id)),
            None => true,
        };
        let (now, later): (Vec<&Tree>, Vec<&Tree>) = waiting.iter().partition(|t| is_ready(t));
        if now.is_empty() {
            return Err(Error::Damaged);
        }
        for tree in now {
            tree_parts(mos, spec, tree, first, &mut parts)?;
        }
        waiting = later;
    }
    plan.parts = parts;
    Ok(plan)
}

/// The guid of the snapshot of a dataset's parent that the stream starts from (or, in a full one, ends with).
fn parent_from(trees: &[Tree], name: &str, first: Option<&str>, last: &str) -> u64 {
    let parent = name.rsplit_once('/').and_then(|(p, _)| trees.iter().find(|t| t.name == p));
    let find = |tree: &Tree, wanted: &str| tree.snapshots.iter().find(|s| s.name == wanted).map(|s| s.guid);
    parent.and_then(|p| find(p, first.unwrap_or(last)).or_else(|| find(p, last))).unwrap_or(0)
}

fn tree_parts(
    mos: &Mos,
    spec: &SendSpec,
    tree: &Tree,
    first: Option<&str>,
    parts: &mut Vec<Part>,
) -> Result<()> {
    let from = first.and_then(|first| tree.snapshots.iter().position(|s| s.name == first));
    let mut base = match (from, tree.origin) {
        (Some(index), _) => Some(base_of(&tree.name, &tree.snapshots[index])),
        (None, Some((id, guid))) => {
            let txg = dir::read_dataset(mos, id)?.creation_txg;
            Some(Base { name: String::new(), guid, txg, is_clone: true })
        }
        (None, None) => None,
    };
    let rest = &tree.snapshots[from.map_or(0, |i| i + 1)..];
    // Between the two, everything is sent with -I; a dataset that is new to the receiver gets all it has.
    let takes_all = spec.intermediate || from.is_none();
    for snapshot in rest {
        if takes_all || Some(snapshot) == rest.last() {
            let next = base_of(&tree.name, snapshot);
            let base = base.replace(next);
            parts.push(Part { name: format!("{}@{}", tree.name, snapshot.name), id: snapshot.id, base });
        }
    }
    Ok(())
}
