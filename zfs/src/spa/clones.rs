//! Commands on clones, and on datasets as wholes: clone, promote, roll back, destroy, rename.
use super::Spa;
use super::sync::When;
use crate::dmu::DmuTx;
use crate::dsl::names::{self, Found};
use crate::dsl::promote::Promotion;
use crate::dsl::{Property, PropertyValue, bookmark, create, destroy, dir, limits, log, rollback, snapshot};
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::ObjectId;

impl Spa {
    /// Makes a dataset that begins as a snapshot is.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `Invalid` (no snapshot; a name), `NameTooLong`, `NoSpace` for reservations, `Quota` when a
    /// limit on datasets is reached, `ReadOnly`, `Suspended`.
    pub fn clone_snapshot(
        self: &Arc<Self>,
        snapshot: &str,
        name: &str,
        properties: &[(Property, PropertyValue)],
    ) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        names::check(name)?;
        properties.iter().try_for_each(|(property, value)| property.check(value))?;
        let root = self.root_dir();
        let origin = names::find(&self.mos, root, snapshot)?;
        if !origin.is_snapshot {
            return Err(Error::Invalid);
        }
        let (parent, leaf) = names::split(name)?;
        let parent = names::find_dir(&self.mos, root, parent)?;
        if names::find_dir(&self.mos, root, name).is_ok() {
            return Err(Error::Exists);
        }
        limits::check_new_dir(&self.mos, parent)?;
        super::commands::check_room(&self.mos, parent, self.usable_bytes(), properties)?;
        let command = format!("zfs clone {snapshot} {name}");
        let (leaf, full, text) = (leaf.to_string(), name.to_string(), format!("origin={snapshot}"));
        let properties = properties.to_vec();
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            let dir_id = create::new_dir(&spa.mos, tx, parent, &leaf, &spa.env)?;
            let id = create::new_clone(&spa.mos, tx, origin.dataset, dir_id, &spa.env)?;
            for (property, value) in &properties {
                super::commands::set_stored(spa, tx, dir_id, property, value)?;
            }
            log::clear(&spa.mos, ctx, tx, id)?;
            spa.note_event(tx, "clone", &full, id, &text)?;
            spa.note(tx, &command)
        })
    }

    /// Makes a clone the owner of the snapshots it shares with its origin.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no clone, `Exists` when both have snapshots of the same name, `Busy` when such a
    /// snapshot is open, `NoSpace`, `ReadOnly`, `Suspended`.
    pub fn promote(self: &Arc<Self>, name: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.is_snapshot {
            return Err(Error::Invalid);
        }
        // What the plan sums up must be on disk, and stay as it is until the plan is carried out.
        let plan = self.plan_promotion(&found, name)?;
        for id in plan.moving() {
            self.close(*id)?;
        }
        let (command, name) = (format!("zfs promote {name}"), name.to_string());
        let (clone, path) = (found.clone(), name.clone());
        // Planned again: it may have been written to since.
        let plan = move |spa: &Arc<Self>| spa.plan_promotion(&clone, &path);
        self.run_checked(plan, move |spa, plan, _, tx| {
            plan.apply(&spa.mos, tx, &spa.env)?;
            spa.head_changed(found.dir)?;
            spa.note_event(tx, "promote", &name, found.dataset, "")?;
            spa.note(tx, &command)
        })
    }

    fn plan_promotion(&self, found: &Found, name: &str) -> Result<Promotion> {
        let internal = create::origin_snapshot(&self.mos, self.root_dir())?;
        Promotion::plan(&self.mos, found.dir, name, internal, self.usable_bytes())
    }

    /// Rolls a dataset back to a snapshot, `pool/a@s`. With `destroy_newer`, newer snapshots and bookmarks are destroyed
    /// first, in the same transaction group.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; `Exists` when there are newer snapshots or bookmarks; `Busy` when the dataset is open, or a
    /// newer snapshot is, or has holds or clones; `NoSpace`, `ReadOnly`, `Suspended`.
    pub fn rollback(self: &Arc<Self>, name: &str, destroy_newer: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if !found.is_snapshot {
            return Err(Error::Invalid);
        }
        let path = name.split('@').next().unwrap_or_default().to_string();
        let head = dir::read(&self.mos, found.dir)?.head_dataset;
        self.txgs.sync_all()?;
        let newer = if destroy_newer { self.newer_than(&found, head, &path)? } else { Newer::default() };
        // What is destroyed first is checked below, and with it what would stand in the way.
        if newer.snapshots.is_empty() && newer.bookmarks.is_empty() {
            rollback::check(&self.mos, found.dir, found.dataset, self.usable_bytes())?;
        }
        for (_, id) in &newer.snapshots {
            snapshot::check_destroy(&self.mos, *id, false)?;
            self.close(*id)?;
        }
        self.close_head(head)?;
        let command = format!("zfs rollback {}{name}", if destroy_newer { "-r " } else { "" });
        let (usable, name) = (self.usable_bytes(), name.to_string());
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            spa.destroy_newer(tx, &found, head, &newer)?;
            rollback::check(&spa.mos, found.dir, found.dataset, usable)?;
            rollback::rollback(&spa.mos, ctx, tx, found.dir)?;
            spa.note_event(tx, "rollback", &path, head, &name)?;
            spa.note(tx, &command)
        })
    }

    fn newer_than(&self, found: &Found, head: ObjectId, path: &str) -> Result<Newer> {
        let txg = dir::read_dataset(&self.mos, found.dataset)?.creation_txg;
        let mut newer = Newer::default();
        for entry in names::snapshots(&self.mos, found.dir, head, path)? {
            if dir::read_dataset(&self.mos, entry.dataset)?.creation_txg > txg {
                newer.snapshots.push((entry.name, entry.dataset));
            }
        }
        // From the newest on, each is the last when it goes.
        newer.snapshots.reverse();
        let marks = bookmark::all(&self.mos, head)?;
        newer.bookmarks = marks.into_iter().filter(|mark| mark.txg() > txg).map(|mark| mark.name).collect();
        Ok(newer)
    }

    fn destroy_newer(
        self: &Arc<Self>,
        tx: &DmuTx,
        found: &Found,
        head: ObjectId,
        newer: &Newer,
    ) -> Result<()> {
        for (name, id) in &newer.snapshots {
            let doomed = Found { dataset: *id, ..found.clone() };
            self.destroy_snapshot_in(tx, name, &doomed, false)?;
        }
        newer.bookmarks.iter().try_for_each(|name| bookmark::destroy(&self.mos, tx, head, name))
    }

    /// Destroys a dataset that has no children, snapshots or clones and is not open. Its space comes back in the background.
    ///
    /// # Errors
    /// `NotFound`, `NotEmpty`, `Busy`, `Invalid` for a snapshot, `ReadOnly`, `Suspended`.
    pub fn destroy_dataset(self: &Arc<Self>, name: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.is_snapshot {
            return Err(Error::Invalid);
        }
        destroy::check(&self.mos, found.dir)?;
        self.close_head(found.dataset)?;
        let command = format!("zfs destroy {name}");
        let name = name.to_string();
        self.run_task(When::AfterDatasets, move |spa, ctx, tx| {
            spa.destroy_dataset_in(ctx, tx, &name, &found)?;
            spa.note(tx, &command)
        })
    }

    /// Lets go of a head that no one uses any more, and has its log's blocks freed: on disk is all there is then.
    fn close_head(&self, id: ObjectId) -> Result<()> {
        self.txgs.sync_all()?;
        self.close_is_possible(id)?;
        let zil = self.open.lock().get(&id.0).and_then(|ds| ds.objset().zil().cloned());
        if let Some(zil) = zil {
            let hold = self.txgs.hold_open();
            let txg = hold.txg();
            zil.close(txg);
            drop(hold);
            self.txgs.wait_synced(txg)?;
        }
        log::check(&self.mos, id)?;
        self.close(id)
    }

    pub(super) fn close_is_possible(&self, id: ObjectId) -> Result<()> {
        let _not_syncing = self.syncing.lock();
        match self.open.lock().get(&id.0) {
            Some(ds) if Arc::strong_count(ds) > 1 => Err(Error::Busy),
            _ => Ok(()),
        }
    }

    /// Destroys a dataset in syncing context.
    pub(crate) fn destroy_dataset_in(
        self: &Arc<Self>,
        ctx: &SyncCtx,
        tx: &DmuTx,
        name: &str,
        found: &Found,
    ) -> Result<()> {
        let origin = dir::read(&self.mos, found.dir)?.origin;
        self.note_event(tx, "destroy", name, found.dataset, "")?;
        if destroy::destroy(&self.mos, ctx, tx, found.dir)?.is_none() {
            return Ok(());
        }
        // The snapshot it was cloned from was only waiting for this.
        let full = self.origin_name(origin)?.unwrap_or_default();
        let dir_id = dir::read_dataset(&self.mos, origin)?.dir;
        let doomed = Found { dir: dir_id, dataset: origin, is_snapshot: true };
        self.destroy_snapshot_in(tx, &full, &doomed, false)
    }

    /// Renames a snapshot, `pool/a@old` to `new`; with `is_recursive` those of the same name below too.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `Invalid`, `NameTooLong`, `ReadOnly`, `Suspended`.
    pub fn rename_snapshot(&self, name: &str, to: &str, is_recursive: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let (path, old) = name.split_once('@').ok_or(Error::Invalid)?;
        let (root, mut renamed) = (self.root_dir(), Vec::new());
        let top = names::find_dir(&self.mos, root, path)?;
        let mut add = |dir_id: ObjectId, path: &str| self.plan_rename(dir_id, path, old, to, &mut renamed);
        if is_recursive {
            names::walk_dirs(&self.mos, top, path, &mut add)?;
        } else {
            add(top, path)?;
        }
        if renamed.is_empty() {
            return Err(Error::NotFound);
        }
        let flag = if is_recursive { "-r " } else { "" };
        let command = format!("zfs rename {flag}{name} {path}@{to}");
        let (from, new) = (old.to_string(), to.to_string());
        let ids: Vec<(ObjectId, String)> = renamed.iter().map(|r| (r.id, r.path.clone())).collect();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for one in &renamed {
                spa.mos.zap_remove(tx, one.names, &from)?;
                spa.mos.zap_add(tx, one.names, &new, one.id.0)?;
                let text = format!("-> @{new}");
                spa.note_event(tx, "rename", &format!("{}@{from}", one.path), one.id, &text)?;
                snapshot::changed(&spa.mos, tx, &spa.env, one.dir)?;
            }
            spa.note(tx, &command)
        })?;
        for (id, path) in ids {
            if let Some(open) = self.open.lock().get(&id.0) {
                open.set_name(&format!("{path}@{to}"));
            }
        }
        Ok(())
    }

    fn plan_rename(
        &self,
        dir_id: ObjectId,
        path: &str,
        old: &str,
        to: &str,
        renamed: &mut Vec<Renamed>,
    ) -> Result<()> {
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        let names = dir::read_dataset(&self.mos, head)?.snapnames_zap;
        let Some(id) = self.mos.zap_lookup(names, old)?.map(ObjectId) else {
            return Ok(());
        };
        names::check_snapshot(path, to)?;
        if self.mos.zap_has(names, to)? {
            return Err(Error::Exists);
        }
        renamed.push(Renamed { dir: dir_id, names, id, path: path.to_string() });
        Ok(())
    }
}

/// What is newer than a snapshot of its dataset: newest first.
#[derive(Debug, Default)]
struct Newer {
    snapshots: Vec<(String, ObjectId)>,
    bookmarks: Vec<String>,
}

/// A snapshot about to be renamed.
struct Renamed {
    dir: ObjectId,
    names: ObjectId,
    id: ObjectId,
    path: String,
}
