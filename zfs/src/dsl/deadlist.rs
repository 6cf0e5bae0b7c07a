//! Dead lists: blocks that a dataset has given up but its snapshots still hold, sorted by age.
//!
//! A ZAP maps the least birth time of each bucket (hexadecimal) to a bpobj; the bonus holds the sums over all
//! buckets. A block goes to the bucket with the greatest key less than its birth. Pools before version 26 have one
//! plain bpobj instead. Buckets that never held anything share the pool's one empty bpobj (feature `empty_bpobj`,
//! whose refcount is the number of such references).
use super::bpobj::{self, Mark, Sums};
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use ondisk::dsl::{DeadlistPhys, RawDeadlist};
use ondisk::feature::Feature;
use ondisk::{BlkPtr, DmuType, ObjectId, Txg};
use zerocopy::IntoBytes;

/// A dead list's shape.
pub(crate) enum Deadlist {
    /// One list for all.
    Plain(ObjectId),
    /// Buckets by least birth time.
    Buckets { id: ObjectId, buckets: BTreeMap<u64, ObjectId> },
}

impl Deadlist {
    /// Reads its shape.
    pub(crate) fn load(mos: &Mos, id: ObjectId) -> Result<Self> {
        if mos.kind(id)? == DmuType::BPOBJ {
            return Ok(Self::Plain(id));
        }
        let mut buckets = BTreeMap::new();
        mos.for_each_u64(id, &mut |key, value| {
            let mintxg = u64::from_str_radix(key, 16).map_err(|_| Error::Damaged)?;
            buckets.insert(mintxg, ObjectId(value));
            Ok(())
        })?;
        Ok(Self::Buckets { id, buckets })
    }

    /// The lists of block pointers.
    pub(crate) fn lists(&self) -> Vec<ObjectId> {
        match self {
            Self::Plain(id) => alloc::vec![*id],
            Self::Buckets { buckets, .. } => buckets.values().copied().collect(),
        }
    }

    /// Adds blocks; the buckets they went to.
    pub(crate) fn insert(&mut self, mos: &Mos, tx: &DmuTx, bps: &[BlkPtr], mark: Mark) -> Result<Vec<u64>> {
        let Self::Buckets { id, buckets } = self else {
            bpobj::enqueue(mos, tx, self.lists()[0], bps, mark)?;
            return Ok(Vec::new());
        };
        let mut sums = Sums::default();
        let mut sorted: BTreeMap<u64, Vec<BlkPtr>> = BTreeMap::new();
        for bp in bps {
            sums.add(Sums::of(mos.storage(), bp));
            // A block older than the oldest bucket can only be damage; the oldest one takes it.
            let key = buckets.range(..bp.birth().0).next_back().or_else(|| buckets.iter().next());
            let (key, _) = key.ok_or(Error::Damaged)?;
            sorted.entry(*key).or_default().push(*bp);
        }
        let touched = sorted.keys().copied().collect();
        for (key, bps) in sorted {
            let list = buckets.get_mut(&key).ok_or(Error::Damaged)?;
            if mos.empty_bpobj() == Some(*list) {
                release_empty(mos, tx)?;
                *list = bpobj::create(mos, tx)?;
                mos.zap_update(tx, *id, &key_name(key), list.0)?;
            }
            bpobj::enqueue(mos, tx, *list, &bps, mark)?;
        }
        add_to_header(mos, tx, *id, if mark == Mark::Free { sums.negated() } else { sums })?;
        Ok(touched)
    }

    /// Forgets a bucket and its list, with all entries; what it summed up to stays in the header.
    pub(crate) fn drop_bucket(&mut self, mos: &Mos, tx: &DmuTx, key: u64) -> Result<()> {
        let Self::Buckets { id, buckets } = self else {
            return Err(Error::Unsupported);
        };
        let list = buckets.remove(&key).ok_or(Error::Damaged)?;
        mos.zap_remove(tx, *id, &key_name(key))?;
        if mos.empty_bpobj() == Some(list) { release_empty(mos, tx) } else { bpobj::free(mos, tx, list) }
    }

    /// Sums over the buckets with keys in `from..until`. Exact where both are transaction groups of snapshots, since
    /// each snapshot's is the edge of a bucket.
    pub(crate) fn sum_range(&self, mos: &Mos, from: Txg, until: Txg) -> Result<Sums> {
        let Self::Buckets { buckets, .. } = self else {
            return Err(Error::Unsupported);
        };
        let mut sums = Sums::default();
        if from < until {
            for list in buckets.range(from.0..until.0).map(|(_, list)| *list) {
                sums.add(bpobj::sums(mos, list)?);
            }
        }
        Ok(sums)
    }

    /// Takes out the buckets with keys from `from` on: lists that are the caller's from now on, and what they sum up
    /// to. References to the shared empty list are given up.
    pub(crate) fn take_from(&mut self, mos: &Mos, tx: &DmuTx, from: Txg) -> Result<(Vec<ObjectId>, Sums)> {
        let Self::Buckets { id, buckets } = self else {
            return Err(Error::Unsupported);
        };
        let (mut taken, mut sums) = (Vec::new(), Sums::default());
        for (key, list) in buckets.split_off(&from.0) {
            mos.zap_remove(tx, *id, &key_name(key))?;
            if mos.empty_bpobj() == Some(list) {
                release_empty(mos, tx)?;
            } else {
                sums.add(bpobj::sums(mos, list)?);
                taken.push(list);
            }
        }
        add_to_header(mos, tx, *id, sums.negated())?;
        Ok((taken, sums))
    }

    /// Adds an empty bucket for what is born after `key`.
    pub(crate) fn add_key(&mut self, mos: &Mos, tx: &DmuTx, key: u64) -> Result<()> {
        let Self::Buckets { id, buckets } = self else {
            return Ok(());
        };
        if buckets.contains_key(&key) {
            return Ok(());
        }
        let list = create_empty(mos, tx)?;
        mos.zap_add(tx, *id, &key_name(key), list.0)?;
        buckets.insert(key, list);
        Ok(())
    }

    /// Joins a bucket to the one before it. A key that is not there, or has none before it, stays as it is.
    pub(crate) fn remove_key(&mut self, mos: &Mos, tx: &DmuTx, key: u64) -> Result<()> {
        let Self::Buckets { id, buckets } = self else {
            return Ok(());
        };
        let id = *id;
        let Some((before, _)) = buckets.range(..key).next_back().map(|(k, l)| (*k, *l)) else {
            return Ok(());
        };
        let Some(list) = buckets.remove(&key) else {
            return Ok(());
        };
        mos.zap_remove(tx, id, &key_name(key))?;
        self.join(mos, tx, before, list)
    }

    /// Takes over all of another dead list, whose buckets are empty of entries afterwards.
    pub(crate) fn merge(&mut self, mos: &Mos, tx: &DmuTx, other: ObjectId) -> Result<()> {
        let (Self::Buckets { id, .. }, Self::Buckets { buckets: others, .. }) =
            (&*self, Self::load(mos, other)?)
        else {
            return Err(Error::Unsupported);
        };
        let sums = sums(mos, other)?;
        add_to_header(mos, tx, *id, sums)?;
        for (key, list) in others {
            mos.zap_remove(tx, other, &key_name(key))?;
            let key = self.bucket_for(key.saturating_add(1))?;
            self.join(mos, tx, key, list)?;
        }
        add_to_header(mos, tx, other, sums.negated())
    }

    /// The bucket of blocks born at `birth`.
    fn bucket_for(&self, birth: u64) -> Result<u64> {
        let Self::Buckets { buckets, .. } = self else {
            return Err(Error::Unsupported);
        };
        let key = buckets.range(..birth).next_back().or_else(|| buckets.iter().next());
        key.map(|(key, _)| *key).ok_or(Error::Damaged)
    }

    /// Puts a list into a bucket.
    fn join(&mut self, mos: &Mos, tx: &DmuTx, key: u64, list: ObjectId) -> Result<()> {
        let Self::Buckets { id, buckets } = self else {
            return Err(Error::Unsupported);
        };
        let place = buckets.get_mut(&key).ok_or(Error::Damaged)?;
        if mos.empty_bpobj() == Some(*place) {
            // Whatever comes takes the place of the shared list, be it that list again.
            release_empty(mos, tx)?;
            *place = list;
            mos.zap_update(tx, *id, &key_name(key), list.0)
        } else if mos.empty_bpobj() == Some(list) {
            release_empty(mos, tx)
        } else {
            bpobj::absorb(mos, tx, *place, list)
        }
    }

    /// Buckets by least birth time; none of the oldest form.
    pub(crate) fn buckets(&self) -> Option<&BTreeMap<u64, ObjectId>> {
        match self {
            Self::Plain(_) => None,
            Self::Buckets { buckets, .. } => Some(buckets),
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<u64> {
        match self {
            Self::Plain(_) => Vec::new(),
            Self::Buckets { buckets, .. } => buckets.keys().copied().collect(),
        }
    }
}

fn key_name(mintxg: u64) -> alloc::string::String {
    format!("{mintxg:x}")
}

/// The sums over all buckets.
pub(crate) fn sums(mos: &Mos, id: ObjectId) -> Result<Sums> {
    if mos.kind(id)? == DmuType::BPOBJ {
        let header = bpobj::header(mos, id)?;
        return Ok(Sums { used: header.bytes, compressed: header.comp, uncompressed: header.uncomp });
    }
    let header = mos.bonus_of(id, DmuType::DEADLIST_HDR, |bytes| Ok(DeadlistPhys::parse(bytes)?))?;
    Ok(Sums { used: header.used, compressed: header.compressed, uncompressed: header.uncompressed })
}

pub(crate) fn add_to_header(mos: &Mos, tx: &DmuTx, id: ObjectId, sums: Sums) -> Result<()> {
    mos.modify_bonus(tx, id, |bonus| {
        let mut header = DeadlistPhys::parse(bonus)?;
        header.used = header.used.wrapping_add(sums.used);
        header.compressed = header.compressed.wrapping_add(sums.compressed);
        header.uncompressed = header.uncompressed.wrapping_add(sums.uncompressed);
        let raw = header.to_raw();
        let len = bonus.len().min(size_of_val(&raw));
        bonus[..len].copy_from_slice(&raw.as_bytes()[..len]);
        Ok(())
    })
}

/// Makes a dead list with these buckets, all empty.
pub(crate) fn create(mos: &Mos, tx: &DmuTx, keys: &[u64]) -> Result<ObjectId> {
    let id = mos.create_zap(tx, DmuType::DEADLIST, DmuType::DEADLIST_HDR, size_of::<RawDeadlist>())?;
    for key in keys {
        let list = create_empty(mos, tx)?;
        mos.zap_update(tx, id, &key_name(*key), list.0)?;
    }
    Ok(id)
}

/// The keys below `until` of another dead list: what a dataset born then starts with.
pub(crate) fn keys_below(mos: &Mos, id: ObjectId, until: Txg) -> Result<Vec<u64>> {
    Ok(match Deadlist::load(mos, id)? {
        Deadlist::Plain(_) => Vec::new(),
        Deadlist::Buckets { buckets, .. } => buckets.range(..until.0).map(|(k, _)| *k).collect(),
    })
}

/// An empty list: the shared one where the pool has the feature.
fn create_empty(mos: &Mos, tx: &DmuTx) -> Result<ObjectId> {
    if !features::is_enabled(mos, Feature::EmptyBpobj)? {
        return bpobj::create(mos, tx);
    }
    let shared = match mos.empty_bpobj() {
        Some(shared) => shared,
        None => {
            let shared = bpobj::create(mos, tx)?;
            mos.set_empty_bpobj(tx, shared)?;
            shared
        }
    };
    features::increment(mos, tx, Feature::EmptyBpobj)?;
    Ok(shared)
}

/// Frees a dead list with its lists; their entries are forgotten.
pub(crate) fn free(mos: &Mos, tx: &DmuTx, id: ObjectId) -> Result<()> {
    match Deadlist::load(mos, id)? {
        Deadlist::Plain(list) => bpobj::free(mos, tx, list),
        Deadlist::Buckets { id, buckets } => {
            for list in buckets.into_values() {
                if mos.empty_bpobj() == Some(list) {
                    release_empty(mos, tx)?;
                } else {
                    bpobj::free(mos, tx, list)?;
                }
            }
            mos.free(tx, id)
        }
    }
}

/// Gives up one reference to the shared empty list; it goes with the last one.
fn release_empty(mos: &Mos, tx: &DmuTx) -> Result<()> {
    if features::decrement(mos, tx, Feature::EmptyBpobj)? == 0
        && let Some(shared) = mos.empty_bpobj()
    {
        mos.clear_empty_bpobj(tx)?;
        mos.free(tx, shared)?;
    }
    Ok(())
}
