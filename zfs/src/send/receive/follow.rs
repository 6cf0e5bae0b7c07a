//! What a replication stream says without records: datasets and snapshots that were renamed, promoted or destroyed where it
//! comes from.
//!
//! The stream's description names every dataset with all its snapshots by guid, so what is here can be told apart: a
//! dataset is the sender's that shares a snapshot with it. What has another name there is renamed, a clone whose origin
//! is younger than there is promoted; what is not there at all is destroyed, if the caller wants that (`-F`).
//!
//! It is done before the streams and once more after them, when parents that are new are there. Nothing of it is worth
//! failing for: what is in use, held, or has no parent yet stays as it is. A change makes everything look different, so
//! each is followed by a new look; a change that failed is not tried again.
use crate::dsl::{dir, names};
use crate::spa::Spa;
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use nvpair::{NvList, NvValue};
use ondisk::ObjectId;

/// Looks at the receiver's datasets, for each of the sender's and the receiver's.
const LOOKS_FOR_EACH: usize = 4;

/// A dataset, here or there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tree {
    name: String,
    /// Guid of the snapshot it is a clone of; 0: none.
    origin: u64,
    /// Guid of the snapshot of its parent that the stream begins with.
    parent_from: u64,
    /// Names and guids.
    snapshots: Vec<(String, u64)>,
}

impl Tree {
    fn has(&self, guid: u64) -> bool {
        self.snapshots.iter().any(|(_, g)| *g == guid)
    }

    fn leaf(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// A change to be made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Promote(String),
    DestroySnapshot(String),
    RenameSnapshot(String, String),
    DestroyDataset(String),
    RenameDataset(String, String),
}

/// What the stream says, and where it goes.
pub(super) struct Follower {
    spa: Arc<Spa>,
    /// The dataset that takes the place of the topmost one sent.
    root: String,
    /// The snapshot that the stream begins with.
    from: String,
    there: Vec<Tree>,
    may_destroy: bool,
    failed: BTreeSet<Change>,
}

impl Follower {
    /// `None` for streams that say nothing of the kind: those that begin with no snapshot, or of one dataset only.
    ///
    /// # Errors
    /// `StreamDamaged`.
    pub(super) fn new(
        spa: Arc<Spa>,
        description: &NvList,
        root: &str,
        may_destroy: bool,
    ) -> Result<Option<Self>> {
        let text = |name: &str| match description.get(name) {
            Some(NvValue::String(text)) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        };
        let (Some(from), None, Some(trees)) =
            (text("fromsnap"), description.get("not_recursive"), description.get_nvlist("fss"))
        else {
            return Ok(None);
        };
        let there = trees.pairs().iter().map(|pair| match &pair.value {
            NvValue::NvList(tree) => parse(tree),
            _ => Err(Error::StreamDamaged),
        });
        let there = there.collect::<Result<Vec<_>>>()?;
        let root = root.to_string();
        Ok(Some(Self { spa, root, from, there, may_destroy, failed: BTreeSet::new() }))
    }

    /// Changes what is to be changed.
    ///
    /// # Errors
    /// Reading's, and what keeps a pool from being written at all.
    pub(super) fn follow(&mut self) -> Result<()> {
        self.failed.clear();
        let mut nr_looks = 0;
        loop {
            let here = self.look()?;
            nr_looks += 1;
            if nr_looks > LOOKS_FOR_EACH * (here.len() + self.there.len() + nr_snapshots(&here)) {
                return Ok(());
            }
            let Some(change) = self.next(&here) else {
                return Ok(());
            };
            match self.apply(&change) {
                Ok(()) => log::info!("zfs: as in the stream: {change:?}"),
                Err(e @ (Error::Suspended | Error::ReadOnly | Error::Io | Error::Damaged)) => return Err(e),
                Err(e) => {
                    log::warn!("zfs: the stream says {change:?}, which cannot be done: {e}");
                    self.failed.insert(change);
                }
            }
        }
    }

    /// What is here, parents before children; nothing when the topmost is not.
    fn look(&self) -> Result<Vec<Tree>> {
        let mos = self.spa.mos();
        let top = match names::find_dir(mos, self.spa.root_dir(), &self.root) {
            Ok(top) => top,
            Err(Error::NotFound) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut here: Vec<Tree> = Vec::new();
        names::walk(mos, top, &self.root, false, &mut |entry| {
            if entry.is_snapshot {
                let guid = dir::read_dataset(mos, entry.dataset)?.guid;
                let name = entry.name.rsplit('@').next().unwrap_or_default().to_string();
                if let Some(last) = here.last_mut() {
                    last.snapshots.push((name, guid));
                }
                return Ok(());
            }
            let parent = entry.name.rsplit_once('/').map(|(parent, _)| parent);
            let above = here.iter().find(|tree| Some(tree.name.as_str()) == parent);
            let from = above.and_then(|t| t.snapshots.iter().find(|(name, _)| *name == self.from));
            let parent_from = from.map_or(0, |(_, guid)| *guid);
            let origin = self.origin_guid(dir::read(mos, entry.dir)?.origin)?;
            here.push(Tree { name: entry.name.clone(), origin, parent_from, snapshots: Vec::new() });
            Ok(())
        })?;
        Ok(here)
    }

    /// The guid of a clone's origin; what descends from the pool's empty origin has none.
    fn origin_guid(&self, origin: ObjectId) -> Result<u64> {
        match self.spa.origin_name(origin)? {
            Some(_) => Ok(dir::read_dataset(self.spa.mos(), origin)?.guid),
            None => Ok(0),
        }
    }

    /// The first change that is due and has not failed before.
    fn next(&self, here: &[Tree]) -> Option<Change> {
        // Children first: a dataset is destroyed when it has none.
        here.iter().rev().find_map(|tree| {
            let change = self.changes_of(tree, here).into_iter().find(|c| !self.failed.contains(c));
            change.filter(|_| !tree.name.contains('$'))
        })
    }

    fn changes_of(&self, tree: &Tree, here: &[Tree]) -> Vec<Change> {
        let mut changes = Vec::new();
        let theirs = self.there.iter().find(|t| tree.snapshots.iter().any(|(_, guid)| t.has(*guid)));
        if let Some(theirs) = theirs.filter(|t| t.origin != tree.origin)
            && self.is_older(theirs.origin, tree.origin, here)
        {
            return alloc::vec![Change::Promote(tree.name.clone())];
        }
        for (name, guid) in &tree.snapshots {
            let full = format!("{}@{name}", tree.name);
            let found = self.there.iter().find_map(|t| t.snapshots.iter().find(|(_, g)| g == guid));
            match found {
                None if self.may_destroy => changes.push(Change::DestroySnapshot(full)),
                Some((there, _)) if there != name => {
                    changes.push(Change::RenameSnapshot(full, there.clone()));
                }
                _ => {}
            }
        }
        let is_root = tree.name == self.root;
        match theirs {
            None if self.may_destroy && !is_root => changes.push(Change::DestroyDataset(tree.name.clone())),
            Some(theirs) if !is_root => changes.extend(self.rename_of(tree, theirs, here)),
            _ => {}
        }
        changes
    }

    /// Whether a snapshot is older than another one that is here; no snapshot at all is older than any.
    fn is_older(&self, guid: u64, than: u64, here: &[Tree]) -> bool {
        let place = |guid: u64| {
            let name = here.iter().find_map(|tree| {
                let snapshot = tree.snapshots.iter().find(|(_, g)| *g == guid)?;
                Some(format!("{}@{}", tree.name, snapshot.0))
            })?;
            let found = names::find(self.spa.mos(), self.spa.root_dir(), &name).ok()?;
            dir::read_dataset(self.spa.mos(), found.dataset).ok().map(|ds| ds.creation_txg)
        };
        than != 0 && (guid == 0 || place(guid).zip(place(than)).is_some_and(|(a, b)| a < b))
    }

    /// The new name of a dataset that is called otherwise, or lies elsewhere, where it comes from.
    fn rename_of(&self, tree: &Tree, theirs: &Tree, here: &[Tree]) -> Option<Change> {
        let is_elsewhere =
            theirs.parent_from != 0 && tree.parent_from != 0 && theirs.parent_from != tree.parent_from;
        if !is_elsewhere && tree.leaf() == theirs.leaf() {
            return None;
        }
        let parent = match is_elsewhere {
            true => here.iter().find(|t| t.has(theirs.parent_from))?.name.as_str(),
            false => tree.name.rsplit_once('/')?.0,
        };
        let to = format!("{parent}/{}", theirs.leaf());
        let is_taken = here.iter().any(|t| t.name == to);
        // Whoever has the name may be waiting for this one's.
        let to = if is_taken { format!("{parent}/recv-{:x}", tree.snapshots.first()?.1) } else { to };
        (to != tree.name).then(|| Change::RenameDataset(tree.name.clone(), to))
    }

    fn apply(&self, change: &Change) -> Result<()> {
        match change {
            Change::Promote(name) => self.spa.promote(name),
            Change::DestroySnapshot(name) => self.spa.destroy_snapshots(&[name], false),
            Change::RenameSnapshot(name, to) => self.spa.rename_snapshot(name, to, false),
            Change::DestroyDataset(name) => self.spa.destroy_dataset(name),
            Change::RenameDataset(name, to) => self.spa.rename_dataset(name, to),
        }
    }
}

fn nr_snapshots(trees: &[Tree]) -> usize {
    trees.iter().map(|tree| tree.snapshots.len()).sum()
}

fn parse(tree: &NvList) -> Result<Tree> {
    let name = match tree.get("name") {
        Some(NvValue::String(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => return Err(Error::StreamDamaged),
    };
    let snaps = tree.get_nvlist("snaps").map(NvList::pairs).unwrap_or_default();
    let snapshots = snaps.iter().filter_map(|pair| match pair.value {
        NvValue::Uint64(guid) => Some((String::from_utf8_lossy(&pair.name).into_owned(), guid)),
        _ => None,
    });
    let number = |name: &str| tree.get_u64(name).unwrap_or(0);
    Ok(Tree {
        name,
        origin: number("origin"),
        parent_from: number("parentfromsnap"),
        snapshots: snapshots.collect(),
    })
}
