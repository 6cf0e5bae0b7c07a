//! Promoting a clone: it takes over the snapshots it shares with its origin, and the origin's head becomes the clone.
//!
//! ```text
//! before:  a1 - a2 - a3 - A        after:   a1 - a2 - b1 - B
//!                 \                                 \
//!                  b1 - B                            a3 - A
//! ```
//! No block changes hands in the trees; what changes is who is charged, and every place that names the moved snapshots.
use super::bpobj::Sums;
use super::deadlist::{self, Deadlist};
use super::dir::{self, Change, Kinds};
use super::limits::{self, Counted};
use super::snapshot::{self, clones_in, replace_clone};
use crate::dmu::DmuTx;
use crate::spa::environment::Environment;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::{DdUsed, DslDatasetFlags, DslDatasetPhys, DslDirPhys};
use ondisk::{DmuType, ObjectId, Txg};

/// Longest chain of snapshots; more is a loop.
const CHAIN_MAX: usize = 1 << 20;

/// What a promotion changes.
pub(crate) struct Promotion {
    dir: ObjectId,
    own: DslDirPhys,
    origin: ObjectId,
    origin_dir: ObjectId,
    above: DslDirPhys,
    /// Snapshots that move, from the origin backwards.
    shared: Vec<ObjectId>,
    /// The clone's head and snapshots, newest first.
    clones: Vec<ObjectId>,
    /// The origin's head and the snapshots that stay with it, newest first.
    staying: Vec<ObjectId>,
    /// Names that move.
    names: Vec<(String, ObjectId)>,
    /// What the moved snapshots are charged.
    moved: Sums,
    /// What the origin snapshot alone will hold.
    unique: u64,
    /// What snapshots will be charged afterwards: the clone's, the origin's.
    snap_used: [u64; 2],
}

/// From `last` back to, not including, `first`; 0 for `first` means where the directory of the last one met began.
fn chain(mos: &Mos, first: ObjectId, last: ObjectId) -> Result<Vec<ObjectId>> {
    let (mut first, mut at, mut found) = (first, last, Vec::new());
    while at != first && !at.is_none() {
        if found.len() >= CHAIN_MAX {
            return Err(Error::Damaged);
        }
        let ds = dir::read_dataset(mos, at)?;
        if first.is_none() {
            first = dir::read(mos, ds.dir)?.origin;
        }
        found.push(at);
        at = ds.prev_snap;
    }
    Ok(found)
}

fn sum_above(mos: &Mos, list: &[ObjectId], txg: Txg) -> Result<u64> {
    let mut sum = 0u64;
    for id in list {
        let ds = dir::read_dataset(mos, *id)?;
        let part = Deadlist::load(mos, ds.deadlist)?.sum_range(mos, txg, Txg(u64::MAX))?;
        sum = sum.saturating_add(part.used);
    }
    Ok(sum)
}

fn txg_of(mos: &Mos, snapshot: ObjectId) -> Result<Txg> {
    match snapshot.non_zero() {
        Some(id) => Ok(dir::read_dataset(mos, id)?.creation_txg),
        None => Ok(Txg::ZERO),
    }
}

impl Promotion {
    /// Finds out what promoting the clone at `dir_id` moves. `internal`: the snapshot that is the origin of what is no
    /// clone.
    ///
    /// # Errors
    /// `Invalid` for what is no clone; `Exists`, with the names in the log, when the clone has snapshots of the same
    /// names; `NameTooLong`; `NoSpace`; `Quota` when a limit on snapshots is reached.
    pub(crate) fn plan(
        mos: &Mos,
        dir_id: ObjectId,
        path: &str,
        internal: Option<ObjectId>,
        usable: u64,
    ) -> Result<Self> {
        let own = dir::read(mos, dir_id)?;
        let origin = own.origin.non_zero().filter(|id| Some(*id) != internal).ok_or(Error::Invalid)?;
        let head = dir::read_dataset(mos, own.head_dataset)?;
        if head.flags.contains(DslDatasetFlags::NO_PROMOTE) {
            return Err(Error::Invalid);
        }
        let origin_ds = dir::read_dataset(mos, origin)?;
        let origin_dir = origin_ds.dir;
        let above = dir::read(mos, origin_dir)?;
        let mut plan = Self {
            dir: dir_id,
            own,
            origin,
            origin_dir,
            shared: chain(mos, ObjectId(0), origin)?,
            clones: chain(mos, origin, own.head_dataset)?,
            staying: chain(mos, origin, above.head_dataset)?,
            above,
            names: Vec::new(),
            moved: Sums::default(),
            unique: 0,
            snap_used: [0; 2],
        };
        plan.find_names(mos, path, &head)?;
        plan.count(mos, &origin_ds)?;
        let (from, to) = (plan.origin_dir, plan.dir);
        limits::check_snapshots_move(mos, from, to, plan.names.len() as u64)?;
        if plan.moved.used > dir::available_for_move(mos, from, to, usable)? {
            return Err(Error::NoSpace);
        }
        Ok(plan)
    }

    /// The snapshots that move: nobody may have them open.
    pub(crate) fn moving(&self) -> &[ObjectId] {
        &self.shared
    }

    fn find_names(&mut self, mos: &Mos, path: &str, head: &DslDatasetPhys) -> Result<()> {
        for id in &self.shared {
            let name = snapshot::name_of(mos, *id)?;
            super::names::check_snapshot(path, &name)?;
            if mos.zap_has(head.snapnames_zap, &name)? {
                log::error!("zfs: {path} has a snapshot {name} too");
                return Err(Error::Exists);
            }
            self.names.push((name, *id));
        }
        Ok(())
    }

    /// Each snapshot was charged what was born for it: what it refers to, less what the one before did, plus what died in
    /// between. Summed up, only the last one's and the dead remain.
    fn count(&mut self, mos: &Mos, origin: &DslDatasetPhys) -> Result<()> {
        let referenced = |ds: &DslDatasetPhys| Sums {
            used: ds.referenced_bytes,
            compressed: ds.compressed_bytes,
            uncompressed: ds.uncompressed_bytes,
        };
        self.moved = referenced(origin);
        for id in &self.shared {
            let ds = dir::read_dataset(mos, *id)?;
            if !ds.prev_snap.is_none() {
                self.moved.add(deadlist::sums(mos, ds.deadlist)?);
            }
        }
        if let Some(first) = self.above.origin.non_zero() {
            self.moved.add(referenced(&dir::read_dataset(mos, first)?).negated());
        }
        let oldest = self.clones.last().copied().ok_or(Error::Damaged)?;
        self.unique = sum_above(mos, &[oldest], origin.prev_snap_txg)?;
        let first_txg = txg_of(mos, self.above.origin)?;
        self.snap_used = [
            sum_above(mos, &self.shared, first_txg)?.saturating_add(sum_above(mos, &self.clones, first_txg)?),
            sum_above(mos, &self.staying, origin.creation_txg)?,
        ];
        Ok(())
    }

    /// Does it, in syncing context; nothing may have changed since it was planned.
    pub(crate) fn apply(&self, mos: &Mos, tx: &DmuTx, env: &Environment) -> Result<()> {
        let old_next = dir::read_dataset(mos, self.origin)?.next_snap;
        let oldest = self.clones.last().copied().ok_or(Error::Damaged)?;
        let set = dir::read_dataset(mos, self.origin)?.next_clones;
        if !set.is_none() {
            replace_clone(mos, tx, set, oldest, Some(old_next))?;
        }
        dir::modify_dataset(mos, tx, self.origin, |ds| {
            ds.next_snap = oldest;
            ds.unique_bytes = self.unique;
        })?;
        dir::modify(mos, tx, self.dir, |dir| dir.origin = self.above.origin)?;
        dir::modify(mos, tx, self.origin_dir, |dir| dir.origin = self.origin)?;
        self.move_heads(mos, tx)?;
        self.move_snapshots(mos, tx, old_next)?;
        self.move_space(mos, tx)?;
        super::livelist::remove(mos, tx, self.dir)?;
        super::livelist::remove(mos, tx, self.origin_dir)?;
        snapshot::changed(mos, tx, env, self.dir)?;
        snapshot::changed(mos, tx, env, self.origin_dir)
    }

    fn clones_of(&self, mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<ObjectId> {
        if let Some(zap) = dir::read(mos, dir_id)?.clones.non_zero() {
            return Ok(zap);
        }
        let zap = mos.create_zap(tx, DmuType::DSL_CLONES, DmuType::NONE, 0)?;
        dir::modify(mos, tx, dir_id, |dir| dir.clones = zap)?;
        Ok(zap)
    }

    /// Who is whose clone: the promoted head of what the origin's was, the origin's head of the promoted.
    fn move_heads(&self, mos: &Mos, tx: &DmuTx) -> Result<()> {
        let (head, other) = (self.own.head_dataset, self.above.head_dataset);
        let add = |zap: ObjectId, id: ObjectId| mos.zap_add(tx, zap, &format!("{:x}", id.0), id.0);
        replace_clone(mos, tx, self.clones_of(mos, tx, self.origin_dir)?, head, None)?;
        if let Some(first) = self.above.origin.non_zero() {
            let zap = self.clones_of(mos, tx, dir::read_dataset(mos, first)?.dir)?;
            replace_clone(mos, tx, zap, other, Some(head))?;
        }
        add(self.clones_of(mos, tx, self.dir)?, other)
    }

    fn move_snapshots(&self, mos: &Mos, tx: &DmuTx, old_next: ObjectId) -> Result<()> {
        let from = dir::read_dataset(mos, self.above.head_dataset)?.snapnames_zap;
        let to = dir::read_dataset(mos, self.own.head_dataset)?.snapnames_zap;
        let nr = (self.names.len() as u64).cast_signed();
        limits::adjust(mos, tx, self.origin_dir, -nr, Counted::Snapshots)?;
        limits::adjust(mos, tx, self.dir, nr, Counted::Snapshots)?;
        for (name, id) in &self.names {
            mos.zap_remove(tx, from, name)?;
            mos.zap_add(tx, to, name, id.0)?;
            dir::modify_dataset(mos, tx, *id, |ds| ds.dir = self.dir)?;
            let Some(set) = dir::read_dataset(mos, *id)?.next_clones.non_zero() else {
                continue;
            };
            for clone in clones_in(mos, set)?.into_iter().filter(|clone| *clone != old_next) {
                let head = dir::read(mos, dir::read_dataset(mos, clone)?.dir)?.head_dataset;
                replace_clone(mos, tx, self.clones_of(mos, tx, self.origin_dir)?, head, None)?;
                let zap = self.clones_of(mos, tx, self.dir)?;
                mos.zap_add(tx, zap, &format!("{:x}", head.0), head.0)?;
            }
        }
        Ok(())
    }

    fn move_space(&self, mos: &Mos, tx: &DmuTx) -> Result<()> {
        let moved = Change::of(self.moved);
        let snap = |dir: &DslDirPhys| dir.used_breakdown[DdUsed::Snap as usize];
        let more = self.snap_used[0].wrapping_sub(snap(&self.own)).cast_signed();
        charge(mos, tx, self.dir, DdUsed::Snap, Change { used: more, ..Change::default() })?;
        charge(mos, tx, self.dir, DdUsed::Head, Change { used: moved.used - more, ..moved })?;
        let less = self.snap_used[1].wrapping_sub(snap(&self.above)).cast_signed();
        charge(mos, tx, self.origin_dir, DdUsed::Snap, Change { used: less, ..Change::default() })?;
        let back = Change::of(self.moved.negated());
        charge(mos, tx, self.origin_dir, DdUsed::Head, Change { used: back.used - less, ..back })
    }
}

fn charge(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, kind: DdUsed, change: Change) -> Result<()> {
    dir::charge(mos, tx, dir_id, change, Kinds { from: kind, to: kind, bytes: change.used })
}
