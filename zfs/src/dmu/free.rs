//! Freeing ranges: truncation, holes.
//!
//! In open context a freed range is only noted (and cut out of the buffers in memory): its block pointers are killed
//! when the group syncs. Until then readers that find no buffer ask the noted ranges before they believe a pointer.
//! Within a group the ranges are applied before its writes: a block written after it was freed has a buffer, and one
//! freed after it was written has lost its change.
use super::dbuf::{Content, Dbuf, State};
use super::dnode::Dnode;
use super::tx::DmuTx;
use crate::Result;
use crate::bugs::{self, Bug};
use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::Ordering;
use ondisk::Txg;

impl Dnode {
    /// Makes a range read as zeroes and gives its blocks back. A `len` that reaches `u64::MAX` or beyond means "to the
    /// end" and cuts the object off: its highest block is then the one before.
    ///
    /// # Errors
    /// `NotFound` when the object is freed; `Io`, `Checksum`, `Damaged` when a partly freed block cannot be read.
    pub fn free_range(&self, tx: &DmuTx, offset: u64, len: u64) -> Result<()> {
        self.mark_dirty(tx)?;
        let size = u64::from(self.block_size());
        let is_to_end = offset.checked_add(len).is_none_or(|end| end == u64::MAX);
        let end = offset.saturating_add(len);
        let first = offset.div_ceil(size);
        let after_last = if is_to_end { u64::MAX } else { end / size };
        if !offset.is_multiple_of(size) {
            self.zero(tx, offset / size, offset % size, end)?;
        }
        if !is_to_end && !end.is_multiple_of(size) && end / size >= first {
            self.zero(tx, end / size, 0, end)?;
        }
        if first < after_last {
            self.free_blocks(tx, first..after_last)?;
        }
        Ok(())
    }

    /// Zeroes block `blkid` from `within` on, up to the object's byte `end`.
    fn zero(&self, tx: &DmuTx, blkid: u64, within: u64, end: u64) -> Result<()> {
        let size = u64::from(self.block_size());
        let start = blkid.saturating_mul(size);
        let to = end.saturating_sub(start).min(size);
        if blkid > self.max_blkid() || to <= within || bugs::is(Bug::TailNotCleared) {
            return Ok(());
        }
        self.with_data(blkid, |dbuf, state| {
            if matches!(state.content, Content::Hole) {
                return Ok(());
            }
            self.change_block(tx.txg(), dbuf, state)?;
            if let Content::Data(abd) = &mut state.content {
                abd.modify(within as usize..to as usize, |_, piece| piece.fill(0));
            }
            Ok(())
        })
    }

    pub(super) fn free_blocks(&self, tx: &DmuTx, blocks: Range<u64>) -> Result<()> {
        let txg = tx.txg();
        self.change_open(tx, |open| {
            let mut frees = self.frees.lock();
            match frees.iter_mut().find(|(t, _)| *t == txg) {
                Some((_, ranges)) => ranges.insert(blocks.clone()),
                None => {
                    let mut ranges = super::ranges::RangeSet::default();
                    ranges.insert(blocks.clone());
                    frees.push((txg, ranges));
                    self.nr_frees.fetch_add(1, Ordering::AcqRel);
                }
            }
            if blocks.end > open.max_blkid {
                open.max_blkid = open.max_blkid.min(blocks.start.saturating_sub(1));
                self.store_max_blkid(open.max_blkid);
            }
            Ok(())
        })?;
        let mut next = blocks.start;
        while let Some((blkid, dbuf)) = self.level(0).next(next) {
            if blkid >= blocks.end && blocks.end != u64::MAX {
                break;
            }
            let mut state = dbuf.state.lock();
            if !state.is_gone {
                self.cut_out(txg, &dbuf, &mut state)?;
                self.discard_if_empty(&dbuf, state);
            }
            let Some(after) = blkid.checked_add(1) else { break };
            next = after;
        }
        Ok(())
    }

    /// Makes a buffer forget the content that `txg` frees. What older groups left behind stays theirs.
    pub(super) fn cut_out(&self, txg: Txg, dbuf: &Arc<Dbuf>, state: &mut State) -> Result<()> {
        if state.is_changed_in(txg)
            && state.clone_of(txg).is_none()
            && let Content::Data(abd) = &state.content
        {
            self.objset()?.txgs().sub_dirty(txg, abd.len() as u64);
        }
        // Sets aside what older groups are to write.
        let is_new = state.change_in(txg)?;
        if let Some(bp) = state.end_clone(txg) {
            self.drop_clone(txg, &bp);
        }
        state.arc = None;
        if state.has_older_changes(txg) {
            // Stays in the tree until this group is synced, which finds it on the list of changed blocks.
            state.content = Content::Hole;
            if is_new {
                self.dirty_blocks.lock()[txg.slot()].push(dbuf.clone());
            }
        } else {
            state.forget(txg);
            state.content = Content::Absent;
        }
        Ok(())
    }
}
