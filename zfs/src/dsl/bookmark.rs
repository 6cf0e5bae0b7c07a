//! Bookmarks: marks at a snapshot's transaction group that stay when the snapshot goes.
//!
//! A ZAP of the head (`com.delphix:bookmarks`) maps names to arrays of numbers: three in the first version; twelve in the
//! second, which also says how much the snapshot referred to, and how much of that was freed before the next snapshot
//! (*FBN*), so that what was written since can be told without the snapshot.
use super::bpobj::Sums;
use super::deadlist::{self, Deadlist};
use super::{dir, snapshot};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zap::ZapValue;
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetPhys, keys};
use ondisk::feature::Feature;
use ondisk::{DmuType, ObjectId, Txg};

/// The FBN figures are kept up.
pub(crate) const HAS_FBN: u64 = 1;
/// The snapshot it was made from is still there.
pub(crate) const SNAPSHOT_EXISTS: u64 = 2;
/// Numbers of a bookmark of the second version.
const WORDS_MAX: usize = 12;
/// Numbers of the first.
pub(crate) const WORDS_V1: usize = 3;

/// A bookmark as it is stored; those of the first version have zeroes from `redaction` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bookmark {
    pub(crate) name: String,
    /// How many numbers are stored.
    pub(crate) nr_words: usize,
    words: [u64; WORDS_MAX],
}

impl Bookmark {
    pub(crate) fn new(name: &str, words: &[u64]) -> Result<Self> {
        if !(WORDS_V1..=WORDS_MAX).contains(&words.len()) {
            return Err(Error::Damaged);
        }
        let mut all = [0; WORDS_MAX];
        all[..words.len()].copy_from_slice(words);
        Ok(Self { name: String::from(name), nr_words: words.len(), words: all })
    }

    pub(crate) const fn guid(&self) -> u64 {
        self.words[0]
    }

    pub(crate) const fn txg(&self) -> Txg {
        Txg(self.words[1])
    }

    pub(crate) const fn time(&self) -> u64 {
        self.words[2]
    }

    pub(crate) const fn redaction(&self) -> ObjectId {
        ObjectId(self.words[3])
    }

    pub(crate) const fn has_fbn(&self) -> bool {
        self.words[4] & HAS_FBN != 0
    }

    /// Bytes the snapshot referred to.
    pub(crate) const fn referenced(&self) -> u64 {
        self.words[5]
    }

    /// The same before compression.
    pub(crate) const fn logical_referenced(&self) -> u64 {
        self.words[7]
    }

    /// Of those, freed before the next snapshot.
    pub(crate) const fn freed(&self) -> u64 {
        self.words[8]
    }

    pub(crate) fn add_freed(&mut self, sums: Sums) {
        for (word, more) in self.words[8..11].iter_mut().zip([sums.used, sums.compressed, sums.uncompressed])
        {
            *word = word.saturating_add(more);
        }
    }

    fn set_flag(&mut self, flag: u64, on: bool) {
        self.words[4] = if on { self.words[4] | flag } else { self.words[4] & !flag };
    }

    pub(crate) fn store(&self, mos: &Mos, tx: &DmuTx, zap: ObjectId) -> Result<()> {
        let words = &self.words[..self.nr_words];
        mos.zap(zap)?.update(tx, self.name.as_bytes(), &ZapValue::words(words))
    }
}

/// The ZAP of a head's bookmarks.
pub(crate) fn zap_of(mos: &Mos, head: ObjectId) -> Result<Option<ObjectId>> {
    if mos.kind(head)? != DmuType::OTN_ZAP_METADATA {
        return Ok(None);
    }
    Ok(mos.zap_lookup(head, keys::BOOKMARKS)?.and_then(|id| ObjectId(id).non_zero()))
}

/// A head's bookmarks, oldest first.
pub(crate) fn all(mos: &Mos, head: ObjectId) -> Result<Vec<Bookmark>> {
    let Some(zap) = zap_of(mos, head)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    mos.for_each_words(zap, &mut |name, words| {
        found.push(Bookmark::new(name, words)?);
        Ok(())
    })?;
    found.sort_by(|a, b| (a.txg(), &a.name).cmp(&(b.txg(), &b.name)));
    Ok(found)
}

/// Before a snapshot is taken out of its chain: bookmarks between it and the one before get a new next snapshot, those at
/// it lose theirs. True if a bookmark with figures stands at its transaction group, whose bucket in dead lists must then
/// stay.
pub(crate) fn snapshot_destroyed(mos: &Mos, tx: &DmuTx, ds: &DslDatasetPhys) -> Result<bool> {
    let head = dir::read(mos, ds.dir)?.head_dataset;
    let Some(zap) = zap_of(mos, head)? else {
        return Ok(false);
    };
    let next = dir::read_dataset(mos, ds.next_snap)?;
    let mut is_marked = false;
    for mut mark in all(mos, head)? {
        if mark.has_fbn() && (ds.prev_snap_txg..ds.creation_txg).contains(&mark.txg()) {
            let list = Deadlist::load(mos, next.deadlist)?;
            mark.add_freed(list.sum_range(mos, Txg::ZERO, mark.txg())?);
            mark.store(mos, tx, zap)?;
        } else if mark.txg() == ds.creation_txg && mark.nr_words > WORDS_V1 {
            is_marked |= mark.has_fbn();
            mark.set_flag(SNAPSHOT_EXISTS, false);
            mark.store(mos, tx, zap)?;
        }
    }
    Ok(is_marked)
}

/// Makes a bookmark of a snapshot, in its head's list.
pub(crate) fn create(mos: &Mos, tx: &DmuTx, snapshot: ObjectId, name: &str) -> Result<()> {
    let ds = dir::read_dataset(mos, snapshot)?;
    let head = dir::read(mos, ds.dir)?.head_dataset;
    let mut words = alloc::vec![ds.guid, ds.creation_txg.0, ds.creation_time];
    let is_counted = features::is_enabled(mos, Feature::BookmarkWritten)?
        && features::is_enabled(mos, Feature::BookmarkV2)?;
    if is_counted {
        let next = dir::read_dataset(mos, ds.next_snap)?;
        let dead = deadlist::sums(mos, next.deadlist)?;
        words.extend([0, HAS_FBN | SNAPSHOT_EXISTS]);
        words.extend([ds.referenced_bytes, ds.compressed_bytes, ds.uncompressed_bytes]);
        words.extend([dead.used, dead.compressed, dead.uncompressed, 0]);
    }
    add(mos, tx, head, &Bookmark::new(name, &words)?)
}

/// Makes a bookmark of a bookmark: the same under another name.
pub(crate) fn copy(mos: &Mos, tx: &DmuTx, head: ObjectId, from: &Bookmark, name: &str) -> Result<()> {
    let mut words = from.words;
    words[3] = 0;
    add(mos, tx, head, &Bookmark::new(name, &words[..from.nr_words])?)
}

fn add(mos: &Mos, tx: &DmuTx, head: ObjectId, mark: &Bookmark) -> Result<()> {
    let zap = match zap_of(mos, head)? {
        Some(zap) => zap,
        None => {
            let zap = mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
            if mos.kind(head)? != DmuType::OTN_ZAP_METADATA {
                mos.zapify(tx, head)?;
                features::increment(mos, tx, Feature::ExtensibleDataset)?;
            }
            mos.zap_add(tx, head, keys::BOOKMARKS, zap.0)?;
            features::increment(mos, tx, Feature::Bookmarks)?;
            zap
        }
    };
    mark.count(mos, tx, 1)?;
    mark.store(mos, tx, zap)
}

impl Bookmark {
    /// Counts the features that it needs, or no longer does.
    fn count(&self, mos: &Mos, tx: &DmuTx, change: i64) -> Result<()> {
        let needs = [
            (Feature::BookmarkV2, self.nr_words > WORDS_V1),
            (Feature::BookmarkWritten, self.has_fbn()),
            (Feature::RedactionBookmarks, !self.redaction().is_none()),
        ];
        for (feature, _) in needs.into_iter().filter(|(_, needs)| *needs) {
            features::add(mos, tx, feature, change)?;
        }
        Ok(())
    }

    /// Takes it out of the features' counts and frees what it names.
    fn release(&self, mos: &Mos, tx: &DmuTx) -> Result<()> {
        self.count(mos, tx, -1)?;
        self.redaction().non_zero().map_or(Ok(()), |object| mos.free(tx, object))
    }

    /// It was made from a snapshot that is still there.
    const fn has_snapshot(&self) -> bool {
        self.words[4] & SNAPSHOT_EXISTS != 0
    }
}

/// Removes a bookmark.
///
/// # Errors
/// `NotFound`; `Unsupported` for one that lists redacted blocks in more than one object.
pub(crate) fn destroy(mos: &Mos, tx: &DmuTx, head: ObjectId, name: &str) -> Result<()> {
    let zap = zap_of(mos, head)?.ok_or(Error::NotFound)?;
    let marks = all(mos, head)?;
    let mark = marks.iter().find(|mark| mark.name == name).ok_or(Error::NotFound)?;
    let others = |other: &&Bookmark| other.name != name && other.txg() == mark.txg() && other.has_fbn();
    if mark.has_fbn() && !mark.has_snapshot() && !marks.iter().any(|m| others(&m)) {
        let ds = dir::read_dataset(mos, head)?;
        Deadlist::load(mos, ds.deadlist)?.remove_key(mos, tx, mark.txg().0)?;
        snapshot::remove_key_from_clones(mos, tx, ds.dir, mark.txg(), 0)?;
    }
    mark.release(mos, tx)?;
    mos.zap_remove(tx, zap, name)?;
    if marks.len() == 1 {
        mos.free(tx, zap)?;
        mos.zap_remove(tx, head, keys::BOOKMARKS)?;
        features::decrement(mos, tx, Feature::Bookmarks)?;
    }
    Ok(())
}

/// A head goes with all its bookmarks.
pub(crate) fn head_destroyed(mos: &Mos, tx: &DmuTx, head: ObjectId) -> Result<()> {
    let Some(zap) = zap_of(mos, head)? else {
        return Ok(());
    };
    all(mos, head)?.iter().try_for_each(|mark| mark.release(mos, tx))?;
    mos.free(tx, zap)?;
    features::decrement(mos, tx, Feature::Bookmarks).map(drop)
}

/// After the head's dead list was changed as a whole: bookmarks since its last snapshot are told what of theirs is dead
/// now.
pub(crate) fn head_reset(mos: &Mos, tx: &DmuTx, head: ObjectId) -> Result<()> {
    let Some(zap) = zap_of(mos, head)? else {
        return Ok(());
    };
    let ds = dir::read_dataset(mos, head)?;
    let list = Deadlist::load(mos, ds.deadlist)?;
    for mut mark in all(mos, head)? {
        if mark.has_fbn() && mark.txg() >= ds.prev_snap_txg {
            mark.words[8..11].fill(0);
            mark.add_freed(list.sum_range(mos, Txg::ZERO, mark.txg())?);
            mark.store(mos, tx, zap)?;
        }
    }
    Ok(())
}

/// A snapshot was taken: bookmarks since the one before whose own snapshots are gone keep an edge in dead lists.
pub(crate) fn snapshotted(mos: &Mos, tx: &DmuTx, head: ObjectId, since: Txg) -> Result<()> {
    let marks = all(mos, head)?;
    let mut edges: Vec<Txg> =
        marks.iter().filter(|m| m.has_fbn() && m.txg() > since).map(Bookmark::txg).collect();
    edges.dedup();
    if edges.is_empty() {
        return Ok(());
    }
    let mut list = Deadlist::load(mos, dir::read_dataset(mos, head)?.deadlist)?;
    edges.into_iter().try_for_each(|txg| list.add_key(mos, tx, txg.0))
}

/// Transaction groups of bookmarks that want to know what of theirs the head gives up: those since its last snapshot.
pub(crate) fn watched(mos: &Mos, head: ObjectId) -> Result<Vec<Txg>> {
    let since = dir::read_dataset(mos, head)?.prev_snap_txg;
    let marks = all(mos, head)?;
    let mut txgs: Vec<Txg> =
        marks.iter().filter(|m| m.has_fbn() && m.txg() >= since).map(Bookmark::txg).collect();
    txgs.dedup();
    Ok(txgs)
}

/// Enters what a head gave up of what its bookmarks saw, by their transaction groups.
pub(crate) fn killed(mos: &Mos, tx: &DmuTx, head: ObjectId, by_txg: &[(Txg, Sums)]) -> Result<()> {
    let Some(zap) = zap_of(mos, head)?.filter(|_| !by_txg.is_empty()) else {
        return Ok(());
    };
    for mut mark in all(mos, head)? {
        let sums = by_txg.iter().find(|(txg, _)| *txg == mark.txg());
        if let Some((_, sums)) = sums.filter(|(_, sums)| mark.has_fbn() && !sums.is_zero()) {
            mark.add_freed(*sums);
            mark.store(mos, tx, zap)?;
        }
    }
    Ok(())
}
