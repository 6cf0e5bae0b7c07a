//! Bookmarks: marks at a snapshot's transaction group that stay when the snapshot goes.
//!
//! A ZAP of the head (`com.delphix:bookmarks`) maps names to arrays of numbers: three in the first version; twelve in the
//! second, which also says how much the snapshot referred to, and how much of that was freed before the next snapshot
//! (*FBN*), so that what was written since can be told without the snapshot.
use super::deadlist::Deadlist;
use super::dir;
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use crate::zap::ZapValue;
use crate::{Error, Result};
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::dsl::{DslDatasetPhys, keys};
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

    pub(crate) const fn txg(&self) -> Txg {
        Txg(self.words[1])
    }

    pub(crate) const fn has_fbn(&self) -> bool {
        self.words[4] & HAS_FBN != 0
    }

    pub(crate) fn add_freed(&mut self, sums: super::bpobj::Sums) {
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
