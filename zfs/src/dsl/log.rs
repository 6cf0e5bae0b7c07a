//! The intent log of datasets that nobody has open: a clone or a head rolled back must not have that of the snapshot it
//! begins as, and a destroyed one must not leave its block behind.
//!
//! What it is not: the intent log (module `zil`). A snapshot's root block is its head's and may name a log; that log is
//! the head's, and means nothing here.
use super::book;
use super::bpobj::Sums;
use super::dir;
use super::ledger::Pending;
use crate::dmu::DmuTx;
use crate::spa::mos::Mos;
use crate::vdev::Priority;
use crate::zio::{SyncCtx, WritePolicy};
use crate::{Error, Result};
use abd::Abd;
use core::ops::Range;
use ondisk::objset::RawObjset;
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, ObjectId, Txg};

/// The log header in an object set's root block.
const ZIL_HEADER: Range<usize> = 512..704;

/// Frees the log's one block that a dataset's root names. What hangs behind it is gone when the dataset is closed.
///
/// # Errors
/// Reading's.
pub(crate) fn free(mos: &Mos, ctx: &SyncCtx, root: &BlkPtr, id: ObjectId) -> Result<()> {
    let header = header(mos, root, id)?;
    if header.log.is_hole() { Ok(()) } else { mos.storage().free(ctx, &header.log) }
}

fn header(mos: &Mos, root: &BlkPtr, id: ObjectId) -> Result<ZilHeader> {
    if root.is_hole() {
        return Ok(ZilHeader::default());
    }
    let block = mos.storage().read_uncached(root, Bookmark::root(id.0), Priority::SyncRead)?.to_vec();
    Ok(RawObjset::of(&block).and_then(RawObjset::parse)?.zil)
}

/// Refuses a head whose log has been claimed and not replayed: its blocks are the replay's to free.
///
/// # Errors
/// `Busy`: it must be mounted once; reading's.
pub(crate) fn check(mos: &Mos, head: ObjectId) -> Result<()> {
    let ds = dir::read_dataset(mos, head)?;
    if header(mos, &ds.bp, head)?.claim_txg == Txg::ZERO { Ok(()) } else { Err(Error::Busy) }
}

/// Writes a head's root block again with an empty log header, if it has another.
///
/// # Errors
/// Reading's and writing's.
pub(crate) fn clear(mos: &Mos, ctx: &SyncCtx, tx: &DmuTx, head: ObjectId) -> Result<()> {
    let ds = dir::read_dataset(mos, head)?;
    if ds.bp.is_hole() {
        return Ok(());
    }
    let (storage, bookmark) = (mos.storage(), Bookmark::root(head.0));
    let mut block = storage.read_uncached(&ds.bp, bookmark, Priority::SyncRead)?.to_vec();
    let Some(header) = block.get_mut(ZIL_HEADER).filter(|bytes| bytes.iter().any(|b| *b != 0)) else {
        return Ok(());
    };
    header.fill(0);
    let copies = ds.bp.nr_dvas().clamp(1, 3) as u8;
    let policy = WritePolicy::metadata(ds.bp.dmu_type(), 0, copies, ds.bp.fill(), ctx.pass);
    let prepared = storage.prepare(Abd::copy_from(&block), &policy)?;
    let bp = storage.issue(ctx, prepared, &BlkPtr::HOLE, bookmark)?;
    let (born, old) = (Sums::of(storage, &bp), Sums::of(storage, &ds.bp));
    let mut pending = Pending { born, live_born: alloc::vec![bp], ..Pending::default() };
    let origin = dir::read(mos, ds.dir)?.origin.non_zero();
    let origin_txg = origin.map_or(Ok(Txg::ZERO), |id| dir::read_dataset(mos, id).map(|o| o.creation_txg))?;
    if ds.bp.birth() > origin_txg {
        pending.live_gone.push(ds.bp);
    }
    if ds.bp.birth() > ds.prev_snap_txg {
        storage.free(ctx, &ds.bp)?;
        pending.freed = old;
    } else {
        pending.dead = old;
        pending.dead_blocks.push(ds.bp);
    };
    book::enter(mos, tx, head, &pending, Some(bp))
}
