//! Commands on holds and bookmarks.
use super::Spa;
use super::sync::When;
use crate::dsl::bookmark::{self, Bookmark};
use crate::dsl::names::{self, Found};
use crate::dsl::{dir, holds};
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A bookmark as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookmarkInfo {
    /// `pool/a#mark`.
    pub name: String,
    /// Guid of the snapshot it was made of.
    pub guid: u64,
    /// That snapshot's transaction group.
    pub created_txg: u64,
    /// When that was, seconds since 1970.
    pub created: u64,
    /// Bytes that the snapshot referred to, when the bookmark knows.
    pub referenced: Option<u64>,
    /// The same before compression.
    pub logical_referenced: Option<u64>,
}

impl Spa {
    fn snapshots_named(&self, names: &[&str], is_recursive: bool) -> Result<Vec<(String, Found)>> {
        let mut found: Vec<(String, Found)> = Vec::new();
        for name in names {
            let (path, snapshot) = name.split_once('@').ok_or(Error::Invalid)?;
            if !is_recursive {
                found.push((name.to_string(), names::find(&self.mos, self.root_dir(), name)?));
                continue;
            }
            let top = names::find_dir(&self.mos, self.root_dir(), path)?;
            let nr_before = found.len();
            names::walk_dirs(&self.mos, top, path, &mut |_, path| {
                let full = format!("{path}@{snapshot}");
                match names::find(&self.mos, self.root_dir(), &full) {
                    Ok(one) => found.push((full, one)),
                    Err(Error::NotFound) => {}
                    Err(e) => return Err(e),
                }
                Ok(())
            })?;
            if found.len() == nr_before {
                return Err(Error::NotFound);
            }
        }
        // Named twice, or below another one that is named: the second time nothing would be as it was checked.
        let mut seen = BTreeSet::new();
        found.retain(|(_, one)| seen.insert(one.dataset));
        Ok(found)
    }

    /// Holds snapshots under a tag; with `is_recursive` those of the same names below too.
    ///
    /// # Errors
    /// `NotFound`, `Exists` when a snapshot is held under that tag, `TooLarge` or `Invalid` for the tag, `ReadOnly`,
    /// `Suspended`.
    pub fn hold(&self, tag: &str, names: &[&str], is_recursive: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = self.snapshots_named(names, is_recursive)?;
        for (_, one) in &found {
            holds::check_hold(&self.mos, one.dataset, tag)?;
        }
        let flag = if is_recursive { "-r " } else { "" };
        let command = format!("zfs hold {flag}{tag} {}", names.join(" "));
        let tag = tag.to_string();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for (name, one) in &found {
                let refs = holds::hold(&spa.mos, tx, &spa.env, one.dataset, &tag)?;
                let text = format!("tag = {tag} temp = 0 refs = {refs}");
                spa.note_event(tx, "hold", name, one.dataset, &text)?;
            }
            spa.note(tx, &command)
        })
    }

    /// Releases holds. A snapshot whose destruction was put off goes with its last one.
    ///
    /// # Errors
    /// `NotFound` for a snapshot or a tag, `Busy` when a snapshot that goes is open, `ReadOnly`, `Suspended`.
    pub fn release(self: &Arc<Self>, tag: &str, names: &[&str], is_recursive: bool) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let found = self.snapshots_named(names, is_recursive)?;
        let mut all = Vec::new();
        for (name, one) in found {
            let is_going = holds::check_release(&self.mos, one.dataset, tag)?;
            if is_going {
                self.close(one.dataset)?;
            }
            all.push((name, one, is_going));
        }
        let flag = if is_recursive { "-r " } else { "" };
        let command = format!("zfs release {flag}{tag} {}", names.join(" "));
        let tag = tag.to_string();
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for (name, one, is_going) in &all {
                let refs = holds::release(&spa.mos, tx, one.dataset, &tag)?;
                let text = format!("tag = {tag} refs now {refs}");
                spa.note_event(tx, "release", name, one.dataset, &text)?;
                if *is_going {
                    spa.destroy_snapshot_in(tx, name, one, false)?;
                }
            }
            spa.note(tx, &command)
        })
    }

    /// Releases the holds of programs that a crash has ended.
    pub(super) fn release_temporary(self: &Arc<Self>) -> Result<()> {
        let left = holds::temporary(&self.mos)?;
        if left.is_empty() {
            return Ok(());
        }
        log::info!("zfs: {} temporary holds are released", left.len());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            for (id, tag) in &left {
                match holds::check_release(&spa.mos, *id, tag) {
                    Ok(is_going) => {
                        let refs = holds::release(&spa.mos, tx, *id, tag)?;
                        let dir_id = dir::read_dataset(&spa.mos, *id)?.dir;
                        let name = spa.origin_name(*id)?.unwrap_or_default();
                        spa.note_event(tx, "release", &name, *id, &format!("tag = {tag} refs now {refs}"))?;
                        let doomed = Found { dir: dir_id, dataset: *id, is_snapshot: true };
                        if is_going {
                            spa.destroy_snapshot_in(tx, &name, &doomed, false)?;
                        }
                    }
                    // Released, or gone with its snapshot, whatever its number is used for now.
                    Err(_) => holds::forget_temporary(&spa.mos, tx, *id, tag)?,
                }
            }
            Ok(())
        })
    }

    /// The holds of a snapshot: tags, and when they were set (seconds since 1970).
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what is no snapshot; `Io`, `Checksum`, `Damaged`.
    pub fn holds(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let found = names::find(&self.mos, self.root_dir(), name)?;
        if found.is_snapshot { holds::all(&self.mos, found.dataset) } else { Err(Error::Invalid) }
    }

    /// Makes a bookmark `pool/a#mark` of a snapshot or bookmark of the same dataset.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `Invalid`, `NameTooLong`, `Unsupported` without the pool's feature, `ReadOnly`, `Suspended`.
    pub fn bookmark(&self, source: &str, name: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let (path, mark) = name.split_once('#').ok_or(Error::Invalid)?;
        names::check_snapshot(path, mark)?;
        if !super::features::is_enabled(&self.mos, super::Feature::Bookmarks)? {
            return Err(Error::Unsupported);
        }
        let dir_id = names::find_dir(&self.mos, self.root_dir(), path)?;
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        let marks = bookmark::all(&self.mos, head)?;
        if marks.iter().any(|m| m.name == mark) {
            return Err(Error::Exists);
        }
        let from = match source.split_once('#') {
            Some((from, old)) if from == path => {
                From::Mark(marks.into_iter().find(|m| m.name == old).ok_or(Error::NotFound)?)
            }
            Some(_) => return Err(Error::Invalid),
            None => From::Snapshot(names::find(&self.mos, self.root_dir(), source)?),
        };
        if matches!(&from, From::Snapshot(found) if !found.is_snapshot || found.dir != dir_id) {
            return Err(Error::Invalid);
        }
        let command = format!("zfs bookmark {source} {name}");
        let (mark, name, source) = (mark.to_string(), name.to_string(), source.to_string());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            match &from {
                From::Mark(old) => bookmark::copy(&spa.mos, tx, head, old, &mark)?,
                From::Snapshot(found) => bookmark::create(&spa.mos, tx, found.dataset, &mark)?,
            }
            spa.head_changed(dir_id)?;
            spa.note_event(tx, "bookmark", &name, head, &format!("source={source}"))?;
            spa.note(tx, &command)
        })
    }

    /// Removes a bookmark.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `ReadOnly`, `Suspended`.
    pub fn destroy_bookmark(&self, name: &str) -> Result<()> {
        let _admin = self.admin.lock();
        self.check_writable()?;
        let (path, mark) = name.split_once('#').ok_or(Error::Invalid)?;
        let dir_id = names::find_dir(&self.mos, self.root_dir(), path)?;
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        if !bookmark::all(&self.mos, head)?.iter().any(|m| m.name == mark) {
            return Err(Error::NotFound);
        }
        let command = format!("zfs destroy {name}");
        let (mark, name) = (mark.to_string(), name.to_string());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            bookmark::destroy(&spa.mos, tx, head, &mark)?;
            spa.head_changed(dir_id)?;
            spa.note_event(tx, "remove bookmark", &name, head, "")?;
            spa.note(tx, &command)
        })
    }

    /// The bookmarks of a dataset, oldest first.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`.
    pub fn bookmarks(&self, path: &str) -> Result<Vec<BookmarkInfo>> {
        let dir_id = names::find_dir(&self.mos, self.root_dir(), path)?;
        let head = dir::read(&self.mos, dir_id)?.head_dataset;
        let info = |mark: Bookmark| BookmarkInfo {
            name: format!("{path}#{}", mark.name),
            guid: mark.guid(),
            created_txg: mark.txg().0,
            created: mark.time(),
            referenced: mark.has_fbn().then(|| mark.referenced()),
            logical_referenced: mark.has_fbn().then(|| mark.logical_referenced()),
        };
        Ok(bookmark::all(&self.mos, head)?.into_iter().map(info).collect())
    }
}

/// What a bookmark is made of.
enum From {
    Snapshot(Found),
    Mark(Bookmark),
}
