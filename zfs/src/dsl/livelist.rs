//! Live lists: what a clone wrote and gave up since its origin, so that destroying it need not walk its tree.
//!
//! A structure like a dead list under the clone's directory (`com.delphix:livelist`). Each block of the clone's own has an
//! entry from when it was written and, once the head has given it up, a second one, marked FREE. Read backwards, a FREE
//! mark is met before the entry that it takes back; what no mark was met for is still there.
//!
//! ```text
//!   bucket T1: blocks born in (T1, T2]      A0 A1 A2 F1 A3 F0       still there: A2 A3
//!   bucket T2: blocks born after T2         ...
//! ```
//! * Both entries of a block are in one bucket, as buckets are by birth. So a new bucket begins only where nothing of the
//!   running group has an entry yet: at the first booking of a group.
//! * A block that a snapshot of the clone still holds gets its FREE mark when the head gives it up: when the clone is
//!   destroyed it has no snapshots any more, and they have freed theirs.
//! * It is an aid, never the truth: a pool without it is whole. It goes when the clone shares too little with its origin
//!   to be worth it, and when contents change sides (promotion, rolling back, receiving).
//! * Lists of destroyed clones are in `com.delphix:deleted_clones`; `freeing` works them off. A list being worked off is
//!   one of the same kind at any time: marks whose blocks were not reached are put back at its end.
use super::bpobj::{self, Mark, Sums};
use super::deadlist::{self, Deadlist};
use super::dir;
use super::ledger::Pending;
use crate::dmu::DmuTx;
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::dsl::{DdUsed, keys};
use ondisk::feature::Feature;
use ondisk::{BlkPtr, DmuType, ObjectId, Txg, pool_directory};

/// Blocks still there in a bucket from which on later groups go to a new one: what one step of freeing may read.
const BUCKET_BLOCKS_MAX: u64 = 50_000;
/// Marks in a bucket from which on it is condensed, if they are half as many as its blocks.
const CONDENSED_FROM: u64 = 4_000;
/// A clone that shares no more than this part of its contents, per cent, needs no live list.
const SHARED_MIN: u64 = 75;

/// The live list of a directory.
pub(crate) fn of(mos: &Mos, dir_id: ObjectId) -> Result<Option<ObjectId>> {
    if mos.kind(dir_id)? != DmuType::OTN_ZAP_METADATA {
        return Ok(None);
    }
    Ok(mos.zap_lookup(dir_id, keys::LIVELIST)?.and_then(|id| ObjectId(id).non_zero()))
}

/// The group after which a clone's blocks are on its live list; `None` when it has none.
pub(crate) fn since(mos: &Mos, dir_id: ObjectId) -> Result<Option<Txg>> {
    if of(mos, dir_id)?.is_none() {
        return Ok(None);
    }
    let origin = dir::read(mos, dir_id)?.origin;
    origin.non_zero().map(|origin| dir::read_dataset(mos, origin).map(|ds| ds.creation_txg)).transpose()
}

/// Gives a new clone a live list, where the pool can have them.
pub(crate) fn create(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    if !features::is_enabled(mos, Feature::Livelist)? {
        return Ok(());
    }
    dir::zapify(mos, tx, dir_id)?;
    let list = deadlist::create(mos, tx, &[])?;
    mos.zap_add(tx, dir_id, keys::LIVELIST, list.0)?;
    features::increment(mos, tx, Feature::Livelist).map(drop)
}

/// Drops a directory's live list, if it has one.
pub(crate) fn remove(mos: &Mos, tx: &DmuTx, dir_id: ObjectId) -> Result<()> {
    let Some(list) = of(mos, dir_id)? else {
        return Ok(());
    };
    mos.zap_remove(tx, dir_id, keys::LIVELIST)?;
    deadlist::free(mos, tx, list)?;
    features::decrement(mos, tx, Feature::Livelist).map(drop)
}

/// Enters what a head gained and gave up in its live list, if it has one, after it was entered in its figures.
pub(crate) fn changed(mos: &Mos, tx: &DmuTx, dataset: ObjectId, pending: &Pending) -> Result<()> {
    let ds = dir::read_dataset(mos, dataset)?;
    let Some(list) = of(mos, ds.dir)? else {
        return Ok(());
    };
    let used = dir::read(mos, ds.dir)?.used_breakdown[DdUsed::Head as usize];
    let shared = u128::from(ds.referenced_bytes.saturating_sub(used));
    if ds.referenced_bytes > 0 && shared * 100 <= u128::from(SHARED_MIN) * u128::from(ds.referenced_bytes) {
        return remove(mos, tx, ds.dir);
    }
    if pending.live_born.is_empty() && pending.live_gone.is_empty() {
        return Ok(());
    }
    let mut live = Deadlist::load(mos, list)?;
    let newest = live.buckets().and_then(|buckets| buckets.last_key_value()).map(|(key, list)| (*key, *list));
    let is_due = match newest {
        None => true,
        Some((_, bucket)) => pending.is_of_objset && nr_live(mos, bucket)? > BUCKET_BLOCKS_MAX,
    };
    if is_due {
        live.add_key(mos, tx, tx.txg().prev().0)?;
    }
    live.insert(mos, tx, &pending.live_born, Mark::Alloc)?;
    for key in live.insert(mos, tx, &pending.live_gone, Mark::Free)? {
        condense(mos, tx, &mut live, key)?;
    }
    Ok(())
}

/// Blocks of a bucket that are still there.
fn nr_live(mos: &Mos, bucket: ObjectId) -> Result<u64> {
    let header = bpobj::header(mos, bucket)?;
    Ok(header.num_blkptrs.saturating_sub(header.num_freed.saturating_mul(2)))
}

/// Rewrites a bucket that is mostly marks and what they take back.
fn condense(mos: &Mos, tx: &DmuTx, live: &mut Deadlist, key: u64) -> Result<()> {
    let Some(bucket) = live.buckets().and_then(|buckets| buckets.get(&key)).copied() else {
        return Ok(());
    };
    let header = bpobj::header(mos, bucket)?;
    let nr_blocks = header.num_blkptrs.saturating_sub(header.num_freed);
    if header.num_freed < CONDENSED_FROM || header.num_freed < nr_blocks / 2 || !header.subobjs.is_none() {
        return Ok(());
    }
    let mut kept = Vec::new();
    let mut marks = Marks::default();
    for_each_backwards(mos, bucket, header.num_blkptrs, &mut |_, bp, mark| {
        if marks.is_there(bp, mark, 0) {
            kept.push(*bp);
        }
        Ok(true)
    })?;
    kept.reverse();
    bpobj::clear(mos, tx, bucket)?;
    bpobj::enqueue(mos, tx, bucket, &kept, Mark::Alloc)
}

/// FREE marks that wait for the entry they take back, by the place of the block's first copy.
#[derive(Default)]
struct Marks(BTreeMap<(u32, u64), Waiting>);

/// How often a block was given up (more than once when it is cloned or deduplicated), and where a mark says so.
struct Waiting {
    count: u64,
    index: u64,
}

impl Marks {
    /// Takes an entry, read backwards; true for a block that is still there.
    fn is_there(&mut self, bp: &BlkPtr, mark: Mark, index: u64) -> bool {
        let Some(place) = bp.dvas().next().map(|dva| (dva.vdev, dva.offset)) else {
            return false;
        };
        if mark == Mark::Free {
            let waiting = self.0.entry(place).or_insert(Waiting { count: 0, index });
            waiting.count += 1;
            return false;
        }
        let Some(waiting) = self.0.get_mut(&place) else {
            return true;
        };
        waiting.count -= 1;
        if waiting.count == 0 {
            self.0.remove(&place);
        }
        false
    }
}

/// Calls `f` with the entries before `end`, the last first, and their places, until it says false; where that was.
fn for_each_backwards(
    mos: &Mos,
    list: ObjectId,
    end: u64,
    f: &mut dyn FnMut(u64, &BlkPtr, Mark) -> Result<bool>,
) -> Result<u64> {
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(bpobj::CHUNK);
        let at = start.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
        let bytes = mos.read(list, at, (end - start) as usize * BLKPTR_SIZE)?;
        for entry in bytes.chunks_exact(BLKPTR_SIZE).rev() {
            end -= 1;
            let (bp, mark) = bpobj::parse_entry(entry)?;
            if !f(end, &bp, mark)? {
                return Ok(end);
            }
        }
    }
    Ok(0)
}

/// Calls `f` with every block that a live list says is there.
///
/// # Errors
/// `Damaged`, reading's, or what `f` returns.
pub(crate) fn for_each_block(
    mos: &Mos,
    list: ObjectId,
    f: &mut dyn FnMut(&BlkPtr) -> Result<()>,
) -> Result<()> {
    for bucket in Deadlist::load(mos, list)?.lists() {
        let mut marks = Marks::default();
        let end = bpobj::header(mos, bucket)?.num_blkptrs;
        for_each_backwards(mos, bucket, end, &mut |_, bp, mark| {
            if marks.is_there(bp, mark, 0) {
                f(bp)?;
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// The live lists of destroyed clones.
pub(crate) fn deleted(mos: &Mos) -> Result<Vec<ObjectId>> {
    let mut lists = Vec::new();
    if let Some(all) = mos.directory_entry(pool_directory::DELETED_CLONES)?.and_then(ObjectId::non_zero) {
        mos.for_each_u64(all, &mut |_, list| {
            lists.push(ObjectId(list));
            Ok(())
        })?;
    }
    Ok(lists)
}

/// Whether this build can work off what destroyed clones have left: no sender of lists makes others.
pub(crate) fn can_free_deleted(mos: &Mos) -> Result<bool> {
    for list in deleted(mos)? {
        let Deadlist::Buckets { buckets, .. } = Deadlist::load(mos, list)? else {
            return Ok(false);
        };
        for bucket in buckets.into_values() {
            if !bpobj::header(mos, bucket)?.subobjs.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Hands the live list of a clone that is being destroyed to those that are worked off; what it sums up to. `None`, and
/// nothing done, without a list, or with one that does not sum up to `own`, what only the clone refers to.
pub(crate) fn hand_over(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, own: Sums) -> Result<Option<Sums>> {
    let Some(list) = of(mos, dir_id)? else {
        return Ok(None);
    };
    let sums = deadlist::sums(mos, list)?;
    if (sums.used, sums.compressed) != (own.used, own.compressed) {
        log::warn!("zfs: a live list sums up to {} bytes of {}: not used", sums.used, own.used);
        return Ok(None);
    }
    mos.zap_remove(tx, dir_id, keys::LIVELIST)?;
    let all = match mos.directory_entry(pool_directory::DELETED_CLONES)?.and_then(ObjectId::non_zero) {
        Some(all) => all,
        None => {
            let all = mos.create_zap(tx, DmuType::OTN_ZAP_METADATA, DmuType::NONE, 0)?;
            mos.set_directory_entry(tx, pool_directory::DELETED_CLONES, all)?;
            all
        }
    };
    mos.zap_add(tx, all, &alloc::format!("{:x}", list.0), list.0)?;
    Ok(Some(sums))
}

/// Frees what lists of destroyed clones say is there, as far as `budget` goes, which is counted down. `charge` is told
/// what was freed, and at a list's end what it had promised beyond that.
///
/// # Errors
/// `Damaged`, reading's and writing's.
pub(crate) fn step(
    mos: &Mos,
    ctx: &SyncCtx,
    tx: &DmuTx,
    budget: &mut u64,
    charge: &dyn Fn(Sums) -> Result<()>,
) -> Result<()> {
    for list in deleted(mos)? {
        let mut live = Deadlist::load(mos, list)?;
        let keys = live.keys();
        for key in keys {
            if *budget == 0 {
                return Ok(());
            }
            let bucket = live.buckets().and_then(|b| b.get(&key)).copied().ok_or(Error::Damaged)?;
            let (freed, is_done) = step_bucket(mos, ctx, tx, bucket, budget)?;
            deadlist::add_to_header(mos, tx, list, freed.negated())?;
            charge(freed)?;
            if is_done {
                live.drop_bucket(mos, tx, key)?;
            }
        }
        if live.keys().is_empty() {
            charge(deadlist::sums(mos, list)?)?;
            forget(mos, tx, list)?;
        }
    }
    Ok(())
}

/// Frees from the end of a bucket; what, and whether nothing is left.
fn step_bucket(
    mos: &Mos,
    ctx: &SyncCtx,
    tx: &DmuTx,
    bucket: ObjectId,
    budget: &mut u64,
) -> Result<(Sums, bool)> {
    let header = bpobj::header(mos, bucket)?;
    let (mut marks, mut freed, mut nr_marks) = (Marks::default(), Sums::default(), 0);
    let end = for_each_backwards(mos, bucket, header.num_blkptrs, &mut |index, bp, mark| {
        nr_marks += u64::from(mark == Mark::Free);
        if marks.is_there(bp, mark, index) {
            freed.add(Sums::of(mos.storage(), bp));
            mos.storage().free(ctx, bp)?;
            *budget = budget.saturating_sub(1);
        }
        Ok(*budget > 0)
    })?;
    if end == 0 {
        return Ok((freed, true));
    }
    let mut waiting = Vec::new();
    for mark in marks.0.into_values() {
        let entry = mos.read(bucket, mark.index * BLKPTR_SIZE as u64, BLKPTR_SIZE)?;
        let (bp, _) = bpobj::parse_entry(&entry)?;
        (0..mark.count).for_each(|_| waiting.push(bp));
    }
    let at = end.checked_mul(BLKPTR_SIZE as u64).ok_or(Error::Damaged)?;
    mos.hold(bucket)?.free_range(tx, at, u64::MAX - at)?;
    let mut left = header;
    left.num_blkptrs = end;
    left.num_freed = header.num_freed.saturating_sub(nr_marks);
    bpobj::add_sums(&mut left, freed.negated());
    // Putting the marks back takes their blocks off once more.
    waiting.iter().for_each(|bp| bpobj::add_sums(&mut left, Sums::of(mos.storage(), bp)));
    bpobj::set_header(mos, tx, bucket, &left)?;
    bpobj::enqueue(mos, tx, bucket, &waiting, Mark::Free)?;
    Ok((freed, false))
}

/// A list is worked off.
fn forget(mos: &Mos, tx: &DmuTx, list: ObjectId) -> Result<()> {
    let all = mos.require(pool_directory::DELETED_CLONES)?;
    mos.zap_remove(tx, all, &alloc::format!("{:x}", list.0))?;
    deadlist::free(mos, tx, list)?;
    if mos.zap(all)?.len()? == 0 {
        mos.zap_remove(tx, pool_directory::POOL_DIRECTORY, pool_directory::DELETED_CLONES)?;
        mos.free(tx, all)?;
    }
    features::decrement(mos, tx, Feature::Livelist).map(drop)
}
