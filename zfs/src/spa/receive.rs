//! Where received streams lie until they are whole, and how they take their place.
//!
//! What is received for a dataset that exists goes into a hidden clone of it, `DATASET/%recv`; what is received for a new
//! one, into that dataset itself. Both are marked inconsistent: nobody can open them. When the last record was checked,
//! one task removes the mark, exchanges clone and head if there are two, takes the snapshot and gives it the sender's
//! guid: all in one transaction group.
//!
//! A crash leaves an inconsistent dataset: the next import destroys it, unless it holds the state of a receive that can
//! be resumed (entries `com.delphix:resume_*` of the dataset's object).
use super::Spa;
use super::sync::When;
use crate::dmu::{DmuTx, Objset, ObjsetConfig};
use crate::dsl::dataset::{self, DatasetParts};
use crate::dsl::ledger::Ledger;
use crate::dsl::names::{self, Found};
use crate::dsl::{
    Dataset, DatasetKind, book, create, destroy, dir, limits, livelist, log as intent_log, props, snapshot,
    swap,
};
use crate::send::ResumeState;
use crate::vdev::Priority;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetFlags, DslDatasetPhys};
use ondisk::feature::Feature;
use ondisk::objset::{METADNODE, ObjsetKind};
use ondisk::{Bookmark, DmuType, ObjectId};

/// Name of the hidden clone.
pub(crate) const RECEIVE_CLONE: &str = "%recv";

/// What a stream wants a place for.
#[derive(Clone, Debug)]
pub(crate) struct InboxSpec<'a> {
    /// `pool/fs`.
    pub(crate) target: &'a str,
    /// The snapshot's name.
    pub(crate) snapshot: &'a str,
    /// Guid of the base; 0: a full stream.
    pub(crate) base_guid: u64,
    /// The stream makes a clone of its base, or the caller wants one of this snapshot.
    pub(crate) is_clone: bool,
    pub(crate) origin: Option<&'a str>,
    pub(crate) kind: ObjsetKind,
    pub(crate) force: bool,
    pub(crate) ignores_case: bool,
    /// Uses blocks above 128 KiB.
    pub(crate) has_large_blocks: bool,
    /// To be kept in the dataset when the receive is interrupted.
    pub(crate) resume: Option<ResumeState>,
    /// Goes on where an interrupted one stopped: the state that must be there.
    pub(crate) resuming: Option<ResumeState>,
}

/// Where the received dataset goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is new.
    New,
    /// It takes the place of the head of this directory.
    Over { dir: ObjectId },
}

/// A dataset being received.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) place: Place,
    /// The snapshot it began as; none for a full stream.
    pub(crate) base: Option<ObjectId>,
    /// It holds resume state.
    pub(crate) is_resumable: bool,
    dir: ObjectId,
    id: ObjectId,
}

/// What the snapshot is to be.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub(crate) snapshot: String,
    pub(crate) guid: u64,
    pub(crate) creation_time: u64,
    pub(crate) force: bool,
    pub(crate) command: String,
}

impl Spa {
    /// Makes (or finds, when resuming) the place for a stream.
    ///
    /// # Errors
    /// `Exists` for a full stream on an existing dataset without `force` (or with snapshots, or a clone), and for a snapshot that is
    /// there already; `NotFound`; `NoBase`; `Modified` when the target changed since the base and `force` is not set;
    /// `Busy` when the target is open (mounted), or a receive into it is under way or can be resumed; `Unsupported`; names' and writing's.
    pub(crate) fn open_inbox(self: &Arc<Self>, spec: &InboxSpec<'_>) -> Result<Inbox> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        names::check_snapshot(spec.target, spec.snapshot)?;
        if spec.resuming.is_some() {
            return self.reopen_inbox(spec);
        }
        match names::find(&self.mos, self.root_dir(), spec.target) {
            Ok(found) => self.inbox_over(spec, &found),
            Err(Error::NotFound) => self.inbox_new(spec),
            Err(e) => Err(e),
        }
    }

    fn inbox_new(self: &Arc<Self>, spec: &InboxSpec<'_>) -> Result<Inbox> {
        names::check(spec.target)?;
        let (parent_name, leaf) = names::split(spec.target)?;
        let parent = names::find(&self.mos, self.root_dir(), parent_name)?;
        let origin = match spec.origin {
            Some(name) => {
                let found = names::find(&self.mos, self.root_dir(), name)?;
                let guid = dir::read_dataset(&self.mos, found.dataset)?.guid;
                if !found.is_snapshot || (spec.base_guid != 0 && guid != spec.base_guid) {
                    return Err(Error::NoBase);
                }
                Some(found.dataset)
            }
            None if spec.base_guid == 0 => None,
            None if !spec.is_clone => return Err(Error::NoBase),
            None => Some(self.snapshot_of_guid(spec.base_guid)?.ok_or(Error::NoBase)?),
        };
        limits::check_new_dir(&self.mos, parent.dir)?;
        let parent_ds = dir::read_dataset(&self.mos, parent.dataset)?;
        if self.kind_of(&parent_ds.bp, parent.dataset) == DatasetKind::Volume {
            return Err(Error::Invalid);
        }
        self.make_inbox(spec, parent.dir, leaf, origin, Place::New)
    }

    fn inbox_over(self: &Arc<Self>, spec: &InboxSpec<'_>, found: &Found) -> Result<Inbox> {
        if spec.is_clone || spec.origin.is_some() {
            return Err(Error::Exists);
        }
        let own = dir::read(&self.mos, found.dir)?;
        if self.mos.zap_has(own.child_dir_zap, RECEIVE_CLONE)? {
            return Err(Error::Busy);
        }
        let head = dir::read_dataset(&self.mos, found.dataset)?;
        if head.flags.contains(DslDatasetFlags::INCONSISTENT) {
            return Err(Error::Busy);
        }
        if self.mos.zap_has(head.snapnames_zap, spec.snapshot)? {
            return Err(Error::Exists);
        }
        // Nobody takes the ground from under those who use it; said before the whole stream was read.
        self.close_is_possible(found.dataset)?;
        // Everything written before is on disk: what has changed shows there.
        self.txgs.sync_all()?;
        let head = dir::read_dataset(&self.mos, found.dataset)?;
        let place = Place::Over { dir: found.dir };
        if spec.base_guid == 0 {
            // A clone stays one: what is received has no block of its origin.
            let is_clone = self.origin_name(own.origin)?.is_some();
            if !spec.force || is_clone || self.mos.zap(head.snapnames_zap)?.len()? > 0 {
                return Err(Error::Exists);
            }
            return self.make_inbox(spec, found.dir, RECEIVE_CLONE, None, place);
        }
        let base = self.base_in(&head, found.dir, spec.base_guid)?;
        let is_last = base == head.prev_snap;
        if !spec.force && (!is_last || self.is_modified(&head)?) {
            return Err(Error::Modified);
        }
        self.make_inbox(spec, found.dir, RECEIVE_CLONE, Some(base), place)
    }

    /// The snapshot of that guid among a head's own.
    fn base_in(&self, head: &DslDatasetPhys, dir_id: ObjectId, guid: u64) -> Result<ObjectId> {
        let mut at = head.prev_snap;
        let mut newest = u64::MAX;
        while !at.is_none() {
            let ds = dir::read_dataset(&self.mos, at)?;
            if ds.dir != dir_id || ds.creation_txg.0 >= newest {
                break;
            }
            if ds.guid == guid {
                return Ok(at);
            }
            newest = ds.creation_txg.0;
            at = ds.prev_snap;
        }
        Err(Error::NoBase)
    }

    /// Whether a head has changed since its last snapshot. An intent log that was started anew is no change.
    fn is_modified(&self, head: &DslDatasetPhys) -> Result<bool> {
        let Some(snapshot) = head.prev_snap.non_zero() else {
            return Ok(true);
        };
        let snapshot = dir::read_dataset(&self.mos, snapshot)?;
        if head.bp.birth() <= snapshot.creation_txg {
            return Ok(false);
        }
        let dnodes = |ds: &DslDatasetPhys| -> Result<Vec<u8>> {
            let block = self.storage.read_uncached(&ds.bp, Bookmark::root(0), Priority::SyncRead)?;
            Ok(block.to_contiguous().get(METADNODE).ok_or(Error::Damaged)?.to_vec())
        };
        Ok(dnodes(head)? != dnodes(&snapshot)?)
    }

    /// A snapshot of that guid, wherever it is.
    pub(crate) fn snapshot_of_guid(&self, guid: u64) -> Result<Option<ObjectId>> {
        let mut found = None;
        let pool = self.mos.pool_name();
        names::walk(&self.mos, self.root_dir(), &pool, false, &mut |entry| {
            let is_it = entry.is_snapshot
                && found.is_none()
                && dir::read_dataset(&self.mos, entry.dataset)?.guid == guid;
            if is_it {
                found = Some(entry.dataset);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn make_inbox(
        self: &Arc<Self>,
        spec: &InboxSpec<'_>,
        parent: ObjectId,
        leaf: &str,
        base: Option<ObjectId>,
        place: Place,
    ) -> Result<Inbox> {
        let (leaf, state, root) = (leaf.to_string(), spec.resume.clone(), self.root_dir());
        let (ignores_case, has_large_blocks) = (spec.ignores_case, spec.has_large_blocks);
        let name = leaf.clone();
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            let dir_id = create::new_dir(&spa.mos, tx, parent, &leaf, &spa.env)?;
            let id = match base {
                Some(base) => create::new_clone(&spa.mos, tx, base, dir_id, &spa.env)?,
                None => create::new_dataset(&spa.mos, tx, root, dir_id, &spa.env)?,
            };
            dir::modify_dataset(&spa.mos, tx, id, |ds| {
                ds.flags |= DslDatasetFlags::INCONSISTENT;
                ds.flags.set(DslDatasetFlags::CASE_INSENSITIVE, ignores_case);
            })?;
            if base.is_some() {
                intent_log::clear(&spa.mos, ctx, tx, id)?;
            }
            if has_large_blocks {
                book::activate(&spa.mos, tx, id, Feature::LargeBlocks)?;
            }
            match &state {
                Some(state) => state.store(&spa.mos, tx, id),
                None => Ok(()),
            }
        })?;
        let zap = dir::read(&self.mos, parent)?.child_dir_zap;
        let dir_id = ObjectId(self.mos.zap_lookup(zap, &name)?.ok_or(Error::Damaged)?);
        let full_name = dir::name(&self.mos, dir_id)?;
        self.inbox_at(dir_id, &full_name, spec, base, place)
    }

    /// The place of an interrupted receive.
    fn reopen_inbox(self: &Arc<Self>, spec: &InboxSpec<'_>) -> Result<Inbox> {
        let target = names::find(&self.mos, self.root_dir(), spec.target)?;
        let own = dir::read(&self.mos, target.dir)?;
        let (dir_id, place) = match self.mos.zap_lookup(own.child_dir_zap, RECEIVE_CLONE)? {
            Some(id) => (ObjectId(id), Place::Over { dir: target.dir }),
            None => (target.dir, Place::New),
        };
        let id = dir::read(&self.mos, dir_id)?.head_dataset;
        let ds = dir::read_dataset(&self.mos, id)?;
        let stored =
            ResumeState::load(&self.mos, id)?.filter(|_| ds.flags.contains(DslDatasetFlags::INCONSISTENT));
        let (Some(stored), Some(wanted)) = (stored, &spec.resuming) else {
            return Err(Error::NotFound);
        };
        if !stored.continues(wanted) {
            return Err(Error::NoBase);
        }
        if let Place::Over { dir } = place {
            let head = dir::read(&self.mos, dir)?.head_dataset;
            let head = dir::read_dataset(&self.mos, head)?;
            if self.mos.zap_has(head.snapnames_zap, spec.snapshot)? {
                return Err(Error::Exists);
            }
        }
        let base = (spec.base_guid != 0).then_some(ds.prev_snap);
        let full_name = dir::name(&self.mos, dir_id)?;
        self.inbox_at(dir_id, &full_name, spec, base, place)
    }

    fn inbox_at(
        self: &Arc<Self>,
        dir_id: ObjectId,
        name: &str,
        spec: &InboxSpec<'_>,
        base: Option<ObjectId>,
        place: Place,
    ) -> Result<Inbox> {
        let id = dir::read(&self.mos, dir_id)?.head_dataset;
        if self.open.lock().contains_key(&id.0) {
            return Err(Error::Busy);
        }
        let ds = dir::read_dataset(&self.mos, id)?;
        let properties = props::resolve(&self.mos, dir_id, &self.enabled, false)?;
        let ledger = Arc::new(Ledger::new(self.storage.clone(), ds.prev_snap_txg, self.enabled.clone()));
        ledger.set_live(livelist::since(&self.mos, dir_id)?);
        let objset = Objset::open(
            self.storage.clone(),
            self.txgs.clone(),
            Some(ds.bp),
            ObjsetConfig {
                id: id.0,
                kind: spec.kind,
                hooks: ledger.clone(),
                properties: dataset::objset_properties(&properties),
                is_read_only: false,
            },
        )?;
        if objset.kind() != spec.kind {
            return Err(Error::Invalid);
        }
        let dataset = Dataset::new(DatasetParts {
            name: name.to_string(),
            id,
            dir: dir_id,
            is_snapshot: false,
            kind: DatasetKind::Other,
            objset,
            ledger,
            spa: Arc::downgrade(self),
            read_only_reason: None,
        });
        self.open.lock().insert(id.0, dataset.clone());
        self.refresh_available()?;
        let is_resumable = spec.resume.is_some() || spec.resuming.is_some();
        Ok(Inbox { dataset, place, base, is_resumable, dir: dir_id, id })
    }

    /// Runs `store` in syncing context when `tx`'s group is written.
    pub(crate) fn at_sync(
        &self,
        tx: &DmuTx,
        store: impl FnOnce(&Arc<Self>, &DmuTx) -> Result<()> + Send + 'static,
    ) {
        self.push_task(tx.txg(), move |spa, _, tx| store(spa, tx));
    }

    /// Makes what was received a snapshot of its target.
    ///
    /// # Errors
    /// `Busy` when the target is in use, `Modified` when it was changed meanwhile, `NoBase` when it no longer descends from the
    /// base, `Quota` when its refquota is less than what
    /// was received, `NoSpace` when its refreservation no longer fits, writing's. The inbox is then as it was.
    pub(crate) fn finish_inbox(self: &Arc<Self>, inbox: &Inbox, finish: &Finish) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        self.txgs.sync_all()?;
        let (dir_id, id, base, finish) = (inbox.dir, inbox.id, inbox.base, finish.clone());
        match inbox.place {
            Place::New => self.run_task(When::AfterDatasets, move |spa, _, tx| {
                spa.make_consistent(tx, id)?;
                spa.name_snapshot(tx, dir_id, &finish)?;
                spa.note(tx, &finish.command)
            }),
            Place::Over { dir: target } => {
                let newer = self.newer_snapshots(target, base, finish.force)?;
                let head_id = dir::read(&self.mos, target)?.head_dataset;
                self.check_limits(target, head_id, id)?;
                self.close(head_id)?;
                for snapshot in &newer {
                    snapshot::check_destroy(&self.mos, *snapshot, false)?;
                    self.close(*snapshot)?;
                }
                // From here on nothing of the inbox is written: its tree changes sides.
                self.let_go(inbox)?;
                self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
                    for snapshot in &newer {
                        snapshot::destroy(&spa.mos, tx, &spa.env, *snapshot, false)?;
                    }
                    spa.make_consistent(tx, id)?;
                    swap::heads(&spa.mos, tx, id, head_id)?;
                    spa.destroy_inbox_in(ctx, tx, dir_id)?;
                    spa.name_snapshot(tx, target, &finish)?;
                    spa.note(tx, &finish.command)
                })
            }
        }
    }

    /// Checks that what was received may take the place of a head.
    fn check_limits(&self, target: ObjectId, head: ObjectId, received: ObjectId) -> Result<()> {
        let (quota, reserved) = dataset::ref_limits(&self.mos, target)?;
        let head = dir::read_dataset(&self.mos, head)?;
        let received = dir::read_dataset(&self.mos, received)?;
        if quota != 0 && received.referenced_bytes > quota {
            return Err(Error::Quota);
        }
        // What the head holds of its own counts against the refreservation; what it no longer does is set aside again.
        let more = head.unique_bytes.min(reserved).saturating_sub(received.unique_bytes.min(reserved));
        if more > dir::available(&self.mos, target, self.usable_bytes())? {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// The target's snapshots after the base, newest first: they go when the stream takes their place.
    fn newer_snapshots(
        &self,
        target: ObjectId,
        base: Option<ObjectId>,
        force: bool,
    ) -> Result<Vec<ObjectId>> {
        let head_id = dir::read(&self.mos, target)?.head_dataset;
        let head = dir::read_dataset(&self.mos, head_id)?;
        let mut newer = Vec::new();
        let mut at = head.prev_snap;
        while Some(at) != base && !at.is_none() {
            let ds = dir::read_dataset(&self.mos, at)?;
            if ds.dir != target || newer.contains(&at) {
                break;
            }
            newer.push(at);
            at = ds.prev_snap;
        }
        // A promotion since the receive began may have moved what the head descends from.
        let is_clone = self.origin_name(dir::read(&self.mos, target)?.origin)?.is_some();
        if base.map_or(is_clone, |base| base != at) {
            return Err(Error::NoBase);
        }
        let is_as_it_was = newer.is_empty() && (base.is_none() || !self.is_modified(&head)?);
        if force || is_as_it_was { Ok(newer) } else { Err(Error::Modified) }
    }

    fn make_consistent(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        ResumeState::forget(&self.mos, tx, id)?;
        dir::modify_dataset(&self.mos, tx, id, |ds| ds.flags.remove(DslDatasetFlags::INCONSISTENT))
    }

    fn name_snapshot(self: &Arc<Self>, tx: &DmuTx, dir_id: ObjectId, finish: &Finish) -> Result<()> {
        let id = snapshot::take(&self.mos, tx, &self.env, dir_id, &finish.snapshot, &[])?;
        self.head_changed(dir_id)?;
        dir::modify_dataset(&self.mos, tx, id, |ds| {
            ds.guid = finish.guid;
            ds.creation_time = finish.creation_time;
        })
    }

    /// Takes the inbox out of the datasets that are written.
    fn let_go(&self, inbox: &Inbox) -> Result<()> {
        let _not_syncing = self.syncing.lock();
        let open = self.open.lock().remove(&inbox.id.0);
        drop(open);
        Ok(())
    }

    /// Forgets what was received so far. What can be resumed stays.
    ///
    /// # Errors
    /// Writing's.
    pub(crate) fn discard_inbox(self: &Arc<Self>, inbox: &Inbox, keep: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.txgs.sync_all()?;
        self.let_go(inbox)?;
        if keep && inbox.is_resumable {
            return Ok(());
        }
        destroy::check(&self.mos, inbox.dir)?;
        self.destroy_inbox(inbox.dir)
    }

    fn destroy_inbox(self: &Arc<Self>, dir_id: ObjectId) -> Result<()> {
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| spa.destroy_inbox_in(ctx, tx, dir_id))
    }

    fn destroy_inbox_in(self: &Arc<Self>, ctx: &SyncCtx, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
        let dataset = dir::read(&self.mos, dir_id)?.head_dataset;
        let name = dir::name(&self.mos, dir_id)?;
        self.destroy_dataset_in(ctx, tx, &name, &Found { dir: dir_id, dataset, is_snapshot: false })
    }

    /// Lets go of a new dataset that was received: the next one to open it gets it from disk.
    pub(crate) fn close_inbox(&self, inbox: Inbox) {
        let id = inbox.id;
        drop(inbox);
        // Busy: somebody has opened it already.
        let _ = self.close(id);
    }

    /// Gives up a receive that could be resumed (`zfs receive -A`).
    ///
    /// # Errors
    /// `NotFound` when there is none, `NotEmpty` when datasets were made below it, writing's.
    pub fn abort_receive(self: &Arc<Self>, name: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let dir_id = self.interrupted(name)?;
        destroy::check(&self.mos, dir_id)?;
        let id = dir::read(&self.mos, dir_id)?.head_dataset;
        self.close(id)?;
        self.destroy_inbox(dir_id)
    }

    /// The directory of a dataset's interrupted receive.
    fn interrupted(&self, name: &str) -> Result<ObjectId> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        let own = dir::read(&self.mos, found.dir)?;
        if let Some(id) = self.mos.zap_lookup(own.child_dir_zap, RECEIVE_CLONE)? {
            return Ok(ObjectId(id));
        }
        let ds = dir::read_dataset(&self.mos, found.dataset)?;
        if ds.flags.contains(DslDatasetFlags::INCONSISTENT) { Ok(found.dir) } else { Err(Error::NotFound) }
    }

    /// The token of an interrupted receive into a dataset, for its sender (`receive_resume_token`).
    ///
    /// # Errors
    /// `NotFound` for the dataset, reading's.
    pub fn resume_token(&self, name: &str) -> Result<Option<String>> {
        let dir_id = match self.interrupted(name) {
            Ok(dir_id) => dir_id,
            Err(Error::NotFound) => {
                return names::find(&self.mos, self.root_dir(), name).map(|_| None);
            }
            Err(e) => return Err(e),
        };
        let id = dir::read(&self.mos, dir_id)?.head_dataset;
        ResumeState::load(&self.mos, id)?.map(|state| state.token().format()).transpose()
    }

    /// Destroys what a crash left of receives that cannot be resumed.
    pub(super) fn destroy_interrupted(self: &Arc<Self>) -> Result<()> {
        let mut doomed = Vec::new();
        let pool = self.mos.pool_name();
        names::walk(&self.mos, self.root_dir(), &pool, true, &mut |entry| {
            if entry.is_snapshot || entry.dataset.is_none() {
                return Ok(());
            }
            let ds = dir::read_dataset(&self.mos, entry.dataset)?;
            let is_left = ds.flags.contains(DslDatasetFlags::INCONSISTENT)
                && ResumeState::load(&self.mos, entry.dataset)?.is_none();
            if is_left && destroy::check(&self.mos, entry.dir).is_ok() {
                doomed.push((entry.dir, entry.name.clone()));
            }
            Ok(())
        })?;
        for (dir_id, name) in doomed {
            log::info!("zfs: {name} was half received and is destroyed");
            self.destroy_inbox(dir_id)?;
        }
        Ok(())
    }

    /// Stores properties that came with a stream.
    ///
    /// # Errors
    /// `NotFound`, `ReadOnly`, `Suspended`, writing's.
    pub(crate) fn set_received(&self, name: &str, values: &[(String, props::Stored)]) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        let values = values.to_vec();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            props::set_received(&spa.mos, tx, found.dir, &values)
        })?;
        self.properties_changed()
    }

    /// Whether the pool has what a dataset of the stream needs.
    pub(crate) fn has_feature(&self, feature: Feature) -> bool {
        self.enabled.contains(&feature)
    }
}

/// A dataset's object in which features and resume state can be noted.
pub(crate) fn is_extensible(spa: &Spa, id: ObjectId) -> Result<bool> {
    Ok(spa.mos().kind(id)? == DmuType::OTN_ZAP_METADATA)
}

/// The command as the history shows it.
pub(crate) fn history_line(target: &str, snapshot: &str) -> String {
    format!("zfs receive {target}@{snapshot}")
}
