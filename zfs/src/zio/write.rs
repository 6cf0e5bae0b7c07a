//! Issuing prepared blocks, and freeing.
use super::batch::SyncCtx;
use super::gang::PlanFor;
use super::physical::pad;
use super::policy::PASS_REWRITE;
use super::prepare::{Form, Prepared};
use super::storage::{Format, Storage};
use crate::bugs::{self, Bug};
use crate::event::Event;
use crate::metaslab::BlockTraits;
use crate::vdev::{Priority, WriteIo};
use crate::{Error, Result};
use abd::Abd;
use alloc::format;
use ondisk::blkptr::DVAS_PER_BP;
use ondisk::{BlkPtr, Bookmark, Dva, Txg};
use smallvec::SmallVec;

impl Storage {
    /// Allocates and starts writing. The pointer returned is final; the I/O ends at the latest with the batch.
    ///
    /// `old` is the pointer the block had (a hole if none). When it was born in this very transaction group with the
    /// same size, and the pass is [`PASS_REWRITE`] or later, the block is rewritten in place: the pointer returned has
    /// the same addresses. Otherwise freeing `old` is the caller's business.
    ///
    /// # Errors
    /// `NoSpace`, `ReadOnly`.
    pub fn issue(&self, ctx: &SyncCtx, block: Prepared, old: &BlkPtr, bookmark: Bookmark) -> Result<BlkPtr> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        let Prepared { kind, level, lsize, small_max, checksum, .. } = block;
        let data = match &block.form {
            Form::Hole => return Ok(self.hole(ctx, old, kind, level, lsize)),
            Form::Written(bp) => return Ok(*bp),
            Form::Embedded { .. } => return block.embedded(ctx.txg),
            Form::Block { data, .. } => data.clone(),
        };
        let copies = block.nr_copies();
        let dvas = if self.may_rewrite(ctx, old, data.len(), copies) {
            let dvas: SmallVec<[Dva; DVAS_PER_BP]> = old.dvas().collect();
            dvas.iter().for_each(|dva| self.start_write(ctx, dva, &data));
            self.arc.forget(old);
            dvas
        } else {
            let psize = data.len() as u64;
            let class =
                self.allocator.class_of(&BlockTraits { kind, level, psize, small_max: small_max.into() });
            let plan = self.plan(&PlanFor { class, copies, txg: ctx.txg, bookmark }, data.len())?;
            self.write_plan(ctx, plan, &data, checksum)?
        };
        block.pointer(&dvas, if bugs::is(Bug::WrongBirth) { Txg(ctx.txg.0 - 1) } else { ctx.txg })
    }

    /// Frees a block in this transaction group, a gang block's pieces with it, unless others share it: then it loses a
    /// reference. At once: whether to put it off is the caller's decision.
    ///
    /// # Errors
    /// `Damaged` when the addresses are impossible or the space is free already, `Unsupported` for deduplicated
    /// blocks; what reading a nested gang header gives.
    pub fn free(&self, ctx: &SyncCtx, bp: &BlkPtr) -> Result<()> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        if bp.is_dedup() && !bp.is_hole() && !bp.is_embedded() {
            return Err(Error::Unsupported);
        }
        if self.brt.release(self, bp)? {
            return Ok(());
        }
        self.arc.forget(bp);
        let is_kept = self.is_checkpointed(bp, ctx.txg);
        let mut free = |vdev, offset, asize| match is_kept {
            true => self.allocator.retain(vdev, offset, asize, ctx.txg),
            false => self.allocator.free(vdev, offset, asize, ctx.txg),
        };
        if bp.is_gang() && self.gang_children(bp, Bookmark::default(), Priority::SyncRead, 0).is_err() {
            // Better to leak the pieces than never to be able to free anything again.
            self.events.post(Event::Damaged { what: format!("header of a freed gang block: {bp:?}") });
            return self.own_places(bp, &mut free);
        }
        self.places(bp, 0, &mut free)
    }

    /// Marks a block as allocated: intent log blocks found at import.
    ///
    /// # Errors
    /// `Damaged` when the space is not free; what reading a gang header gives.
    pub fn claim(&self, bp: &BlkPtr, txg: Txg) -> Result<()> {
        self.for_each_place(bp, &mut |vdev, offset, asize| self.allocator.claim(vdev, offset, asize, txg))
    }

    /// Calls `f` with (vdev, offset, allocated bytes) of everything a block occupies: its copies, or a gang block's
    /// headers and pieces.
    ///
    /// # Errors
    /// `f`'s; what reading a gang header gives.
    pub fn for_each_place(&self, bp: &BlkPtr, f: &mut dyn FnMut(u32, u64, u64) -> Result<()>) -> Result<()> {
        self.places(bp, 0, f)
    }

    fn places(
        &self,
        bp: &BlkPtr,
        depth: usize,
        f: &mut dyn FnMut(u32, u64, u64) -> Result<()>,
    ) -> Result<()> {
        if bp.is_gang() {
            for child in self.gang_children(bp, Bookmark::default(), Priority::SyncRead, depth)? {
                self.places(&child, depth + 1, f)?;
            }
        }
        self.own_places(bp, f)
    }

    /// Calls `f` with the places of a block's copies, of a gang block those of its header.
    fn own_places(&self, bp: &BlkPtr, f: &mut dyn FnMut(u32, u64, u64) -> Result<()>) -> Result<()> {
        for dva in bp.dvas() {
            let asize = if dva.gang { self.gang_header_asize(dva.vdev)? } else { dva.asize };
            f(dva.vdev, dva.offset, asize)?;
        }
        Ok(())
    }

    /// Starts writing one copy.
    pub(super) fn start_write(&self, ctx: &SyncCtx, dva: &Dva, data: &Abd) {
        let done = ctx.batch.completion(dva.vdev, dva.offset, data);
        match self.extent_of(dva, data.len() as u32) {
            Some((vdev, len)) => {
                let data = pad(data, len);
                let (offset, priority) = (dva.offset, Priority::AsyncWrite);
                vdev.io().write(WriteIo { offset, data, txg: ctx.txg, priority, done });
            }
            None => done.complete(Err(blockdev::Error::Invalid), None),
        }
    }

    /// Sends the writes that failed once more.
    pub(crate) fn retry_writes(&self, ctx: &SyncCtx) {
        for (vdev, offset, data) in ctx.batch.take_failed() {
            self.start_write(ctx, &Dva::new(vdev, offset, 0), &data);
        }
    }

    fn may_rewrite(&self, ctx: &SyncCtx, old: &BlkPtr, psize: usize, copies: usize) -> bool {
        ctx.pass >= PASS_REWRITE
            && !old.is_hole()
            && !old.is_embedded()
            && !old.is_gang()
            && (old.birth() == ctx.txg || bugs::nth(Bug::OverwriteInPlace, 2))
            && (old.phys_birth() == ctx.txg || bugs::is(Bug::OverwriteInPlace))
            && old.psize() as usize == psize
            && old.nr_dvas() == copies
    }

    /// A hole remembers when it came into being, if there was anything (or another hole that remembers) before it.
    fn hole(&self, ctx: &SyncCtx, old: &BlkPtr, kind: ondisk::DmuType, level: u8, lsize: u32) -> BlkPtr {
        if old.birth() == Txg::ZERO || !self.format().contains(Format::HOLE_BIRTH) {
            return BlkPtr::HOLE;
        }
        BlkPtr::new_hole(kind, level, lsize, ctx.txg)
    }
}
