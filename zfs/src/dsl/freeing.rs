//! What waits to be freed: the lists that destroyed snapshots leave (`free_bpobj`), the trees of destroyed datasets
//! (`bptree`) and the live lists of destroyed clones, worked off a step in each transaction group so that no group grows without bound.
//!
//! Until a block is freed its space is charged to `$FREE`. A block leaves its list in the very group that frees it: after
//! a crash it is either still listed or free. A tree is freed bottom up, and its entry says how far that went.
use super::bpobj::{self, Sums};
use super::deadlist;
use super::dir::{self, Change, Kinds};
use super::livelist;
use super::reap::Reaper;
use crate::dmu::{DmuTx, NewObject};
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::zio::SyncCtx;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::bpobj::{RawBookmark, RawBptree, RawBptreeEntry};
use ondisk::dsl::{DdUsed, DslDatasetPhys, FREE_DIR_NAME};
use ondisk::feature::Feature;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg, pool_directory};
use zerocopy::{FromBytes, IntoBytes};

/// Blocks freed in one transaction group at most.
const BLOCKS_PER_TXG: u64 = 50_000;
/// Data block size of a new bptree.
const BLOCK_SIZE: u32 = 128 << 10;
const ENTRY: u64 = size_of::<RawBptreeEntry>() as u64;

/// The directory that is charged for what is still to be freed.
fn free_dir(mos: &Mos) -> Result<ObjectId> {
    let root = mos.require(pool_directory::ROOT_DATASET)?;
    let children = dir::read(mos, root)?.child_dir_zap;
    mos.zap_lookup(children, FREE_DIR_NAME)?.map(ObjectId).ok_or(Error::Damaged)
}

/// Charges `$FREE`.
fn charge(mos: &Mos, tx: &DmuTx, sums: Sums) -> Result<()> {
    let change = Change::of(sums);
    let kinds = Kinds { from: DdUsed::Head, to: DdUsed::Head, bytes: change.used };
    dir::charge(mos, tx, free_dir(mos)?, change, kinds)
}

/// Adds lists of blocks that nothing refers to any more; they sum up to `sums`.
pub(crate) fn add_lists(mos: &Mos, tx: &DmuTx, lists: Vec<ObjectId>, sums: Sums) -> Result<()> {
    let to = mos.require(pool_directory::FREE_BPOBJ)?;
    lists.into_iter().try_for_each(|list| bpobj::absorb(mos, tx, to, list))?;
    charge(mos, tx, sums)
}

/// What only a head refers to: all it does, less what its last snapshot does and it has not given up.
pub(crate) fn own_sums(mos: &Mos, head: &DslDatasetPhys) -> Result<Sums> {
    let mut sums = Sums {
        used: head.referenced_bytes,
        compressed: head.compressed_bytes,
        uncompressed: head.uncompressed_bytes,
    };
    if let Some(prev) = head.prev_snap.non_zero() {
        let prev = dir::read_dataset(mos, prev)?;
        let shared = Sums {
            used: prev.referenced_bytes,
            compressed: prev.compressed_bytes,
            uncompressed: prev.uncompressed_bytes,
        };
        sums.add(shared.negated());
        sums.add(deadlist::sums(mos, head.deadlist)?);
    }
    Ok(sums)
}

/// Frees the blocks that only a head refers to (`own`, of [`own_sums`]), later where the pool can note that; the caller
/// takes them off the head's directory.
pub(crate) fn free_tree(
    mos: &Mos,
    ctx: &SyncCtx,
    tx: &DmuTx,
    head: &DslDatasetPhys,
    own: Sums,
) -> Result<()> {
    if head.bp.is_hole() {
        return Ok(());
    }
    if !features::is_enabled(mos, Feature::AsyncDestroy)? {
        let mut budget = u64::MAX;
        let mut reaper = Reaper::new(mos.storage(), ctx, head.prev_snap_txg, None, &mut budget);
        return reaper.run(&head.bp).map(drop);
    }
    let tree = match mos.directory_entry(pool_directory::BPTREE_OBJ)?.and_then(ObjectId::non_zero) {
        Some(tree) => tree,
        None => {
            features::increment(mos, tx, Feature::AsyncDestroy)?;
            let new = NewObject::new(DmuType::OTN_U64_METADATA, BLOCK_SIZE)
                .with_bonus(DmuType::OTN_U64_METADATA, size_of::<RawBptree>() as u16);
            let tree = mos.allocate(tx, &new)?;
            mos.set_directory_entry(tx, pool_directory::BPTREE_OBJ, tree)?;
            tree
        }
    };
    let entry = RawBptreeEntry {
        bp: head.bp.to_raw(),
        birth_txg: head.prev_snap_txg.0.into(),
        bookmark: RawBookmark::default(),
    };
    let mut header = tree_header(mos, tree)?;
    let at = header.end.get().checked_mul(ENTRY).ok_or(Error::Damaged)?;
    mos.write(tx, tree, at, entry.as_bytes())?;
    header.end += 1;
    add_to_tree(mos, tx, tree, header, own)?;
    charge(mos, tx, own)
}

fn tree_header(mos: &Mos, tree: ObjectId) -> Result<RawBptree> {
    mos.bonus(tree, |bytes| {
        RawBptree::read_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| Error::Damaged)
    })
}

fn add_to_tree(mos: &Mos, tx: &DmuTx, tree: ObjectId, mut header: RawBptree, sums: Sums) -> Result<()> {
    header.bytes.set(header.bytes.get().wrapping_add(sums.used));
    header.comp.set(header.comp.get().wrapping_add(sums.compressed));
    header.uncomp.set(header.uncomp.get().wrapping_add(sums.uncompressed));
    mos.modify_bonus(tx, tree, |bonus| {
        let room = bonus.get_mut(..size_of::<RawBptree>()).ok_or(Error::Damaged)?;
        room.copy_from_slice(header.as_bytes());
        Ok(())
    })
}

/// Frees the blocks that only a clone refers to by its live list, if it has one that says the same as `own`; false when
/// that has to be done by its tree.
pub(crate) fn free_live(mos: &Mos, tx: &DmuTx, dir_id: ObjectId, own: Sums) -> Result<bool> {
    let Some(sums) = livelist::hand_over(mos, tx, dir_id, own)? else {
        return Ok(false);
    };
    charge(mos, tx, sums)?;
    Ok(true)
}

/// There is something to be freed.
pub(crate) fn is_pending(mos: &Mos) -> Result<bool> {
    if !livelist::deleted(mos)?.is_empty() {
        return Ok(true);
    }
    if mos.directory_entry(pool_directory::BPTREE_OBJ)?.is_some_and(|tree| !tree.is_none()) {
        return Ok(true);
    }
    match mos.directory_entry(pool_directory::FREE_BPOBJ)?.and_then(ObjectId::non_zero) {
        Some(list) => Ok(!bpobj::is_empty(mos, list)?),
        None => Ok(false),
    }
}

/// Frees some; true if more is left.
pub(crate) fn step(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx) -> Result<bool> {
    if !is_pending(mos)? {
        return Ok(false);
    }
    let mut budget = BLOCKS_PER_TXG;
    step_lists(mos, ctx, tx, &mut budget)?;
    step_trees(mos, ctx, tx, &mut budget)?;
    livelist::step(mos, ctx, tx, &mut budget, &|freed| charge(mos, tx, freed.negated()))?;
    is_pending(mos)
}

fn step_lists(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx, budget: &mut u64) -> Result<()> {
    let list = mos.require(pool_directory::FREE_BPOBJ)?;
    let mut freed = Sums::default();
    let storage = mos.storage();
    bpobj::consume(mos, tx, list, budget, &mut |bp: &BlkPtr| {
        freed.add(Sums::of(storage, bp));
        if bp.is_hole() || bp.is_embedded() { Ok(()) } else { storage.free(ctx, bp) }
    })?;
    if freed.is_zero() { Ok(()) } else { charge(mos, tx, freed.negated()) }
}

fn step_trees(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx, budget: &mut u64) -> Result<()> {
    let Some(tree) = mos.directory_entry(pool_directory::BPTREE_OBJ)?.and_then(ObjectId::non_zero) else {
        return Ok(());
    };
    loop {
        let mut header = tree_header(mos, tree)?;
        let index = header.begin.get();
        if index >= header.end.get() {
            return forget_tree(mos, tx, tree, header);
        }
        if *budget == 0 {
            return Ok(());
        }
        let at = index.checked_mul(ENTRY).ok_or(Error::Damaged)?;
        let bytes = mos.read(tree, at, ENTRY as usize)?;
        let mut entry = RawBptreeEntry::read_from_bytes(&bytes).map_err(|_| Error::Damaged)?;
        let resume = Some(Bookmark::from(entry.bookmark)).filter(|mark| *mark != Bookmark::default());
        let after = Txg(entry.birth_txg.get());
        let mut reaper = Reaper::new(mos.storage(), ctx, after, resume, budget);
        let paused = reaper.run(&entry.bp.parse()?)?;
        let freed = reaper.freed();
        charge(mos, tx, freed.negated())?;
        match paused {
            Some(mark) => {
                entry.bookmark = mark.into();
                mos.write(tx, tree, at, entry.as_bytes())?;
            }
            None => {
                header.begin += 1;
                mos.hold(tree)?.free_range(tx, at, ENTRY)?;
            }
        }
        add_to_tree(mos, tx, tree, header, freed.negated())?;
    }
}

/// All trees are freed. Blocks that could not be read keep what is below them: that space is lost, as it is to OpenZFS, and
/// charged to no one any more.
fn forget_tree(mos: &Mos, tx: &DmuTx, tree: ObjectId, header: RawBptree) -> Result<()> {
    let left =
        Sums { used: header.bytes.get(), compressed: header.comp.get(), uncompressed: header.uncomp.get() };
    if !left.is_zero() {
        log::warn!("zfs: {} bytes of destroyed datasets could not be found to be freed", left.used);
        charge(mos, tx, left.negated())?;
    }
    mos.zap_remove(tx, pool_directory::POOL_DIRECTORY, pool_directory::BPTREE_OBJ)?;
    mos.free(tx, tree)?;
    features::decrement(mos, tx, Feature::AsyncDestroy).map(drop)
}
