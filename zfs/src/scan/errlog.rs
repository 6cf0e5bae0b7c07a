//! The pool's log of blocks that are lost, kept in the MOS, so that users learn which files are damaged.
//!
//! There are two: what was met since the last scrub began is in the one of the scrub, everything else in the last one;
//! when a scrub has gone through the whole pool, its log takes the last one's place: what it did not find again is gone.
//! A scrub given up has not seen everything: then both are joined.
//!
//! Source: `spa_errlog.c`. The old form names a block by its bookmark (`objset:object:level:blkid`, hex). With the feature
//! `head_errlog` there is a ZAP for each head dataset, whose keys name block and birth (`object:level:blkid:birth`), so
//! that the snapshots that hold the block can be told.
use crate::dmu::DmuTx;
use crate::dsl::{dir, names as dsl_names};
use crate::spa::mos::Mos;
use crate::spa::{Spa, features};
use crate::zap::ZapValue;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::feature::Feature;
use ondisk::pool_directory::{ERRLOG_LAST, ERRLOG_SCRUB};
use ondisk::scan::ScanState;
use ondisk::{Bookmark, DmuType, ObjectId, Txg};

/// Most entries that are read.
const ENTRIES_MAX: usize = 1 << 16;

/// A block that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostBlock {
    /// Which. Its object set is the dataset or snapshot that holds it; 0 is the pool's own metadata.
    pub bookmark: Bookmark,
    /// The transaction group it was born in, where the log tells.
    pub birth: Option<Txg>,
}

/// Blocks by dataset and place.
type Lost = BTreeMap<Bookmark, Txg>;

/// Whether something waits to be written.
pub(crate) fn is_due(spa: &Spa) -> bool {
    spa.events().has_lost()
}

/// Writes what was met since the last time, in the sync thread.
///
/// # Errors
/// What writing gives.
pub(crate) fn sync(spa: &Spa, tx: &DmuTx) -> Result<()> {
    let lost = spa.events().take_lost();
    if lost.is_empty() {
        return Ok(());
    }
    let is_scanning = spa.scan().state.lock().phys.state == ScanState::Scanning;
    add(spa.mos(), tx, if is_scanning { ERRLOG_SCRUB } else { ERRLOG_LAST }, &lost)
}

/// Ends the scrub's log, in the sync thread.
///
/// # Errors
/// What writing gives.
pub(super) fn rotate(spa: &Spa, tx: &DmuTx, is_complete: bool) -> Result<()> {
    let mos = spa.mos();
    add(mos, tx, ERRLOG_SCRUB, &spa.events().take_lost())?;
    let last = mos.directory_entry(ERRLOG_LAST)?.and_then(ObjectId::non_zero);
    let scrub = mos.directory_entry(ERRLOG_SCRUB)?.and_then(ObjectId::non_zero);
    if last.is_none() && scrub.is_none() {
        return Ok(());
    }
    let kept: Lost = match (last, scrub, is_complete) {
        (Some(last), Some(_), false) => read_raw(mos, last)?.into_iter().collect(),
        (Some(_), None, false) => return Ok(()),
        _ => Lost::new(),
    };
    if let Some(last) = last {
        delete(mos, tx, last)?;
    }
    mos.set_directory_entry(tx, ERRLOG_LAST, scrub.unwrap_or_default())?;
    mos.set_directory_entry(tx, ERRLOG_SCRUB, ObjectId(0))?;
    add(mos, tx, ERRLOG_LAST, &kept)
}

fn by_head(mos: &Mos) -> Result<bool> {
    features::is_enabled(mos, Feature::HeadErrlog)
}

fn log_object(mos: &Mos, tx: &DmuTx, name: &str) -> Result<ObjectId> {
    if let Some(id) = mos.directory_entry(name)?.and_then(ObjectId::non_zero) {
        return Ok(id);
    }
    let id = mos.create_zap(tx, DmuType::ERROR_LOG, DmuType::NONE, 0)?;
    mos.set_directory_entry(tx, name, id)?;
    Ok(id)
}

fn add(mos: &Mos, tx: &DmuTx, name: &str, lost: &Lost) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let log = log_object(mos, tx, name)?;
    let is_by_head = by_head(mos)?;
    for (bookmark, birth) in lost {
        let (level, blkid) = (bookmark.level.cast_unsigned(), bookmark.blkid);
        let (zap, key) = if is_by_head {
            let zap = head_log(mos, tx, log, head_of(mos, bookmark.objset))?;
            (zap, format!("{:x}:{level:x}:{blkid:x}:{:x}", bookmark.object.0, birth.0))
        } else {
            (log, format!("{:x}:{:x}:{level:x}:{blkid:x}", bookmark.objset, bookmark.object.0))
        };
        mos.zap(zap)?.update(tx, key.as_bytes(), &ZapValue::string(""))?;
    }
    Ok(())
}

/// The ZAP of a head's blocks in a log.
fn head_log(mos: &Mos, tx: &DmuTx, log: ObjectId, head: u64) -> Result<ObjectId> {
    let key = format!("{head:x}");
    if let Some(zap) = mos.zap_lookup(log, &key)? {
        return Ok(ObjectId(zap));
    }
    let zap = mos.create_zap(tx, DmuType::ERROR_LOG, DmuType::NONE, 0)?;
    mos.zap_add(tx, log, &key, zap.0)?;
    Ok(zap)
}

/// The head of the file system a snapshot belongs to; a dataset that cannot be looked up stands for itself.
fn head_of(mos: &Mos, objset: u64) -> u64 {
    let head = || dir::read(mos, dir::read_dataset(mos, ObjectId(objset))?.dir).map(|dir| dir.head_dataset.0);
    match objset {
        0 => 0,
        _ => head().unwrap_or(objset),
    }
}

fn delete(mos: &Mos, tx: &DmuTx, log: ObjectId) -> Result<()> {
    if by_head(mos)? {
        let mut inner = Vec::new();
        mos.for_each_u64(log, &mut |_, zap| {
            inner.push(ObjectId(zap));
            Ok(())
        })?;
        inner.into_iter().try_for_each(|zap| mos.free(tx, zap))?;
    }
    mos.free(tx, log)
}

/// The entries of a log: under heads, bookmarks name the head.
fn read_raw(mos: &Mos, log: ObjectId) -> Result<Vec<(Bookmark, Txg)>> {
    let mut all = Vec::new();
    if !by_head(mos)? {
        mos.for_each_name(log, &mut |key| {
            if let Some([objset, object, level, blkid]) = words(key)
                && all.len() < ENTRIES_MAX
            {
                all.push((Bookmark::new(objset, ObjectId(object), level.cast_signed(), blkid), Txg::ZERO));
            }
            Ok(())
        })?;
        return Ok(all);
    }
    let mut heads = Vec::new();
    mos.for_each_u64(log, &mut |head, zap| {
        heads.push((u64::from_str_radix(head, 16).map_err(|_| Error::Damaged)?, ObjectId(zap)));
        Ok(())
    })?;
    for (head, zap) in heads {
        mos.for_each_name(zap, &mut |key| {
            if let Some([object, level, blkid, birth]) = words(key)
                && all.len() < ENTRIES_MAX
            {
                let bookmark = Bookmark::new(head, ObjectId(object), level.cast_signed(), blkid);
                all.push((bookmark, Txg(birth)));
            }
            Ok(())
        })?;
    }
    Ok(all)
}

/// Four numbers in hex with colons between.
fn words(key: &str) -> Option<[u64; 4]> {
    let mut parts = key.split(':').map(|part| u64::from_str_radix(part, 16).ok());
    let words = [parts.next()??, parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(words)
}

/// The entries of both logs, each with the blocks it stands for: under heads, one in every dataset of the head's line that
/// holds it.
///
/// # Errors
/// What reading gives.
pub(super) fn entries(spa: &Spa) -> Result<BTreeMap<LostBlock, BTreeSet<LostBlock>>> {
    let mos = spa.mos();
    let mut all = BTreeMap::new();
    let is_by_head = by_head(mos)?;
    for name in [ERRLOG_LAST, ERRLOG_SCRUB] {
        let Some(log) = mos.directory_entry(name)?.and_then(ObjectId::non_zero) else { continue };
        for (bookmark, birth) in read_raw(mos, log)? {
            let entry = LostBlock { bookmark, birth: (birth != Txg::ZERO).then_some(birth) };
            let mut blocks = BTreeSet::new();
            if is_by_head && bookmark.objset != 0 {
                spa.holders(bookmark, birth, &mut blocks);
            } else {
                blocks.insert(entry);
            }
            all.insert(entry, blocks);
        }
    }
    Ok(all)
}

/// Takes entries off both logs, in the sync thread.
///
/// # Errors
/// What writing gives.
pub(super) fn forget(spa: &Spa, tx: &DmuTx, mended: &BTreeSet<LostBlock>) -> Result<()> {
    let mos = spa.mos();
    for name in [ERRLOG_LAST, ERRLOG_SCRUB] {
        let Some(log) = mos.directory_entry(name)?.and_then(ObjectId::non_zero) else { continue };
        let all = read_raw(mos, log)?;
        let is_kept = |(bookmark, birth): &&(Bookmark, Txg)| {
            let birth = (*birth != Txg::ZERO).then_some(*birth);
            !mended.contains(&LostBlock { bookmark: *bookmark, birth })
        };
        let kept: Lost = all.iter().filter(is_kept).copied().collect();
        if kept.len() < all.len() {
            delete(mos, tx, log)?;
            mos.set_directory_entry(tx, name, ObjectId(0))?;
            add(mos, tx, name, &kept)?;
        }
    }
    Ok(())
}

impl Spa {
    /// The blocks known to be lost, each in every dataset and snapshot that holds it.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged`.
    pub fn lost_blocks(&self) -> Result<Vec<LostBlock>> {
        let mos = self.mos();
        let mut all = BTreeSet::new();
        let is_by_head = by_head(mos)?;
        for name in [ERRLOG_LAST, ERRLOG_SCRUB] {
            let Some(log) = mos.directory_entry(name)?.and_then(ObjectId::non_zero) else { continue };
            for (bookmark, birth) in read_raw(mos, log)? {
                if is_by_head && bookmark.objset != 0 {
                    self.holders(bookmark, birth, &mut all);
                } else {
                    let birth = (birth != Txg::ZERO).then_some(birth);
                    all.insert(LostBlock { bookmark, birth });
                }
            }
        }
        for (bookmark, birth) in self.events().lost() {
            all.insert(LostBlock { bookmark, birth: is_by_head.then_some(birth) });
        }
        Ok(all.into_iter().collect())
    }

    /// Enters a block under each dataset of its head's line that still holds it.
    fn holders(&self, bookmark: Bookmark, birth: Txg, all: &mut BTreeSet<LostBlock>) {
        let mos = self.mos();
        let mut at = ObjectId(bookmark.objset);
        let mut is_found = false;
        while let Some(id) = at.non_zero() {
            let Ok(ds) = dir::read_dataset(mos, id) else { break };
            let here = Bookmark { objset: id.0, ..bookmark };
            if super::lookup::birth_of(self.storage(), &ds.bp, &here).is_none_or(|found| found == Some(birth))
            {
                is_found = true;
                all.insert(LostBlock { bookmark: here, birth: Some(birth) });
            }
            // What is older than the snapshot before it may be in that one too.
            if ds.prev_snap_txg < birth {
                break;
            }
            at = ds.prev_snap;
        }
        if !is_found && dir::read_dataset(mos, ObjectId(bookmark.objset)).is_err() {
            all.insert(LostBlock { bookmark, birth: Some(birth) });
        }
    }

    /// The name of a dataset or snapshot by its object.
    ///
    /// # Errors
    /// `NotFound`; `Io`, `Checksum`, `Damaged`.
    pub fn dataset_name(&self, id: u64) -> Result<String> {
        let mut found = None;
        dsl_names::walk(self.mos(), self.root_dir(), &self.mos().pool_name(), false, &mut |entry| {
            if entry.dataset.0 == id && found.is_none() {
                found = Some(entry.name.clone());
            }
            Ok(())
        })?;
        found.ok_or(Error::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_four_numbers() {
        assert_eq!(words("1f:2:ffffffffffffffff:0"), Some([31, 2, u64::MAX, 0]));
        for bad in ["", "1:2:3", "1:2:3:4:5", "1:2:3:x", ":::"] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }
}
