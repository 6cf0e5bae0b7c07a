//! Commands on snapshots.
//!
//! All snapshots of one command are taken by one task, in one transaction group, after all datasets of that group were
//! written: they show the same moment, and everything acknowledged before the command.
use super::Spa;
use super::sync::When;
use crate::dmu::DmuTx;
use crate::dsl::limits::{Additions, Counted};
use crate::dsl::names::{self, Found};
use crate::dsl::{Figures, Property, PropertyValue, bookmark, diff, dir, figures, snapshot};
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::ObjectId;
use ondisk::dsl::DslDatasetFlags;

/// A snapshot to be taken.
struct Wanted {
    dir: ObjectId,
    path: String,
    name: String,
}

impl Spa {
    /// Takes snapshots (`pool/a@s`), all of the same moment. With `is_recursive` also of everything below.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `Invalid` (names; properties that are not the user's own; the same one twice),
    /// `NameTooLong`, `NoSpace`, `Quota` when a limit on snapshots is reached, `Busy` for a dataset that is half received
    /// (with `is_recursive` those below are left out), `ReadOnly`, `Suspended`.
    pub fn snapshot(
        &self,
        names: &[&str],
        is_recursive: bool,
        properties: &[(Property, PropertyValue)],
    ) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        check_properties(properties)?;
        let wanted = self.wanted(names, is_recursive)?;
        let usable = self.usable_bytes();
        let mut more = Additions::default();
        for one in &wanted {
            more.add(&self.mos, one.dir, 1, Counted::Snapshots, &[])?;
        }
        more.check(&self.mos)?;
        for one in &wanted {
            snapshot::check(&self.mos, one.dir, &one.path, &one.name, usable)?;
        }
        let flag = if is_recursive { "-r " } else { "" };
        let command = format!("zfs snapshot {flag}{}", names.join(" "));
        let properties = properties.to_vec();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for one in &wanted {
                let id = snapshot::take(&spa.mos, tx, &spa.env, one.dir, &one.name, &properties)?;
                spa.head_changed(one.dir)?;
                spa.note_event(tx, "snapshot", &format!("{}@{}", one.path, one.name), id, "")?;
            }
            spa.note(tx, &command)
        })
    }

    /// The snapshots a command names.
    fn wanted(&self, names: &[&str], is_recursive: bool) -> Result<Vec<Wanted>> {
        let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
        for full in names {
            let (path, name) = full.split_once('@').ok_or(Error::Invalid)?;
            let top = names::find_dir(&self.mos, self.root_dir(), path)?;
            // What is half received is no moment of anything, and may go without a question: it has no snapshots.
            if self.is_half_received(top)? {
                return Err(Error::Busy);
            }
            let mut add = |dir: ObjectId, path: &str| -> Result<()> {
                if !seen.insert((dir, name.to_string())) {
                    return Err(Error::Invalid);
                }
                wanted.push(Wanted { dir, path: path.to_string(), name: name.to_string() });
                Ok(())
            };
            if is_recursive {
                names::walk_dirs(&self.mos, top, path, &mut |dir, path| match self.is_half_received(dir)? {
                    true => Ok(()),
                    false => add(dir, path),
                })?;
            } else {
                add(top, path)?;
            }
        }
        if wanted.is_empty() { Err(Error::Invalid) } else { Ok(wanted) }
    }

    /// A receive into this dataset is under way, or was interrupted.
    fn is_half_received(&self, dir_id: ObjectId) -> Result<bool> {
        let Some(head) = dir::read(&self.mos, dir_id)?.head_dataset.non_zero() else { return Ok(false) };
        Ok(dir::read_dataset(&self.mos, head)?.flags.contains(DslDatasetFlags::INCONSISTENT))
    }

    /// Destroys snapshots, all in one transaction group. With `defer`, those with holds or clones go when the last of
    /// these does.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no snapshot, `Busy` (open, held, or with clones), `ReadOnly`, `Suspended`,
    /// `Unsupported` in pools that were upgraded from a very old version.
    pub fn destroy_snapshots(&self, names: &[&str], defer: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let mut doomed: Vec<(String, Found)> = Vec::new();
        for name in names {
            let found = names::find(&self.mos, self.root_dir(), name)?;
            if !found.is_snapshot {
                return Err(Error::Invalid);
            }
            snapshot::check_destroy(&self.mos, found.dataset, defer)?;
            if !doomed.iter().any(|(_, other)| *other == found) {
                doomed.push((name.to_string(), found));
            }
        }
        for (_, found) in &doomed {
            self.close(found.dataset)?;
        }
        let flag = if defer { "-d " } else { "" };
        let command = format!("zfs destroy {flag}{}", names.join(" "));
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for (name, found) in &doomed {
                spa.destroy_snapshot_in(tx, name, found, defer)?;
            }
            spa.note(tx, &command)
        })
    }

    /// Destroys one snapshot, in syncing context.
    pub(super) fn destroy_snapshot_in(
        self: &Arc<Self>,
        tx: &DmuTx,
        name: &str,
        found: &Found,
        defer: bool,
    ) -> Result<()> {
        let is_gone = snapshot::destroy(&self.mos, tx, &self.env, found.dataset, defer)?;
        self.head_changed(found.dir)?;
        let what = if is_gone { "destroy" } else { "defer_destroy" };
        self.note_event(tx, what, name, found.dataset, "")
    }

    /// The snapshots of a dataset: numbers and names (without the dataset's), by number.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`.
    pub fn snapshots_of(&self, path: &str) -> Result<Vec<(u64, String)>> {
        let dir_id = names::find_dir(&self.mos, self.root_dir(), path)?;
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        let mut found = Vec::new();
        self.mos.for_each_u64(dir::read_dataset(&self.mos, head)?.snapnames_zap, &mut |name, id| {
            found.push((id, name.to_string()));
            Ok(())
        })?;
        found.sort_unstable();
        Ok(found)
    }

    /// Space figures and facts of a dataset or snapshot.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`.
    pub fn figures(&self, name: &str) -> Result<Figures> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.dataset.is_none() {
            return Err(Error::NotFound);
        }
        figures::of(&self.mos, &found, self.usable_bytes())
    }

    /// Names of the datasets cloned from a snapshot.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn clone_names(&self, figures: &Figures) -> Result<Vec<String>> {
        figures.clones.iter().map(|id| dir::name(&self.mos, *id)).collect()
    }

    /// Bytes written to a dataset or snapshot since a snapshot (`@s`) or bookmark (`#m`) of it, or, by full name, of
    /// what it descends from.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when it is that, or does not descend from it; `Unsupported` for a bookmark that does not know.
    pub fn written_since(&self, name: &str, since: &str) -> Result<u64> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        let path = name.split('@').next().unwrap_or_default();
        if found.is_snapshot && since.starts_with('@') && name.ends_with(since) {
            return Err(Error::Invalid);
        }
        if let Some(mark) = since.strip_prefix('#') {
            return figures::written_since_mark(&self.mos, &found, mark);
        }
        let full = if since.starts_with('@') { format!("{path}{since}") } else { since.to_string() };
        let old = names::find(&self.mos, self.root_dir(), &full)?;
        if !old.is_snapshot {
            return Err(Error::Invalid);
        }
        figures::written_since(&self.mos, found.dataset, old.dataset)
    }

    /// Bytes that destroying the snapshots from `first` to `last` of a dataset would free.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` when they are not of one line.
    pub fn reclaimed(&self, first: &str, last: &str) -> Result<u64> {
        let find = |name: &str| names::find(&self.mos, self.root_dir(), name);
        figures::reclaimed(&self.mos, find(first)?.dataset, find(last)?.dataset)
    }

    /// Numbers of the objects that differ between two datasets or snapshots, as they are on disk.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`; `Unsupported` when their files of dnodes are laid out differently.
    pub fn changed_objects(&self, from: &str, to: &str) -> Result<BTreeSet<ObjectId>> {
        let find = |name: &str| names::find(&self.mos, self.root_dir(), name);
        let (a, b) = (find(from)?.dataset, find(to)?.dataset);
        let root = |id: ObjectId| dir::read_dataset(&self.mos, id).map(|ds| ds.bp);
        diff::changed_objects(&self.storage, (a.0, &root(a)?), (b.0, &root(b)?))
    }

    /// Tells an open head where its last snapshot is now.
    pub(super) fn head_changed(&self, dir_id: ObjectId) -> Result<()> {
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        let Some(open) = self.open.lock().get(&head.0).cloned() else {
            return Ok(());
        };
        let prev = dir::read_dataset(&self.mos, head)?.prev_snap_txg;
        open.ledger().set_prev_snap(prev, bookmark::watched(&self.mos, head)?);
        Ok(())
    }
}

/// Snapshots have properties of their own only for users' purposes.
fn check_properties(properties: &[(Property, PropertyValue)]) -> Result<()> {
    for (property, value) in properties {
        property.check(value)?;
        if !matches!(property, Property::User(_)) {
            return Err(Error::Invalid);
        }
    }
    Ok(())
}
