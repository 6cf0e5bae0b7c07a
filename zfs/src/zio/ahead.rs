//! Blocks written ahead: on disk before the transaction group that accounts for them is written, because the intent log
//! points to them.
//!
//! The space belongs to the group in which it was allocated, in open context. That group's sync then uses the block as
//! the content's own, unless it was changed meanwhile or never was that group's: then the sync frees it.
//!
//! Invariant: what is not used is freed by *that* group's sync, not at once. Its record may be in the log already; a
//! place that was free again before the group is on disk could be written over, and a crash then would replay what is
//! not there any more.
use super::batch::SyncCtx;
use super::prepare::{Form, Prepared};
use super::storage::Storage;
use crate::metaslab::BlockTraits;
use crate::txg::TXG_SLOTS;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::{BlkPtr, Bookmark, Txg};
use rt::SpinLock;

/// Blocks written ahead that no sync uses, by the group in which they were allocated.
#[derive(Debug, Default)]
pub(crate) struct Unused([SpinLock<Vec<BlkPtr>>; TXG_SLOTS]);

impl Unused {
    pub(crate) fn take(&self, txg: Txg) -> Vec<BlkPtr> {
        core::mem::take(&mut *self.0[txg.slot()].lock())
    }
}

/// A block written ahead. Dropped, it joins the unused ones of its group; so it must be dropped, at the latest, before
/// that group's sync has freed those.
#[derive(Debug)]
pub(crate) struct AheadBlock {
    bp: Option<BlkPtr>,
    unused: Arc<Unused>,
}

impl AheadBlock {
    pub(crate) fn new(bp: BlkPtr, unused: &Arc<Unused>) -> Self {
        Self { bp: Some(bp), unused: unused.clone() }
    }

    pub(crate) fn pointer(&self) -> BlkPtr {
        self.bp.unwrap_or(BlkPtr::HOLE)
    }

    /// The block is used.
    pub(crate) fn into_pointer(mut self) -> BlkPtr {
        self.bp.take().unwrap_or(BlkPtr::HOLE)
    }
}

impl Drop for AheadBlock {
    fn drop(&mut self) {
        if let Some(bp) = self.bp.take() {
            self.unused.0[bp.phys_birth().slot()].lock().push(bp);
        }
    }
}

impl Storage {
    /// A pointer for a prepared data block, allocated in `txg`, which the caller holds open; and what is to be written
    /// there, nothing for holes (whose pointer keeps the block's length) and blocks that fit into their pointer.
    ///
    /// # Errors
    /// `NoSpace` when there is no place in one piece, `ReadOnly`.
    pub(crate) fn place_ahead(
        &self,
        block: Prepared,
        txg: Txg,
        bookmark: &Bookmark,
    ) -> Result<(BlkPtr, Option<Abd>)> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        let data = match &block.form {
            Form::Hole => {
                return Ok((BlkPtr::new_hole(block.kind, block.level, block.lsize, Txg::ZERO), None));
            }
            Form::Written(bp) => return Ok((*bp, None)),
            Form::Embedded { .. } => return block.embedded(txg).map(|bp| (bp, None)),
            Form::Block { data, .. } => data.clone(),
        };
        let psize = data.len() as u64;
        let class = self.allocator.class_of(&BlockTraits {
            kind: block.kind,
            level: block.level,
            psize,
            small_max: block.small_max.into(),
        });
        let dvas = self.allocator.allocate(class, psize, block.nr_copies(), txg, bookmark)?;
        Ok((block.pointer(&dvas, txg)?, Some(data)))
    }

    /// Frees what was written ahead in the group that is being written, and is not used.
    ///
    /// # Errors
    /// As [`Storage::free`].
    pub(crate) fn free_unused(&self, ctx: &SyncCtx, unused: &Unused) -> Result<()> {
        unused.take(ctx.txg).iter().try_for_each(|bp| self.free(ctx, bp))
    }
}
