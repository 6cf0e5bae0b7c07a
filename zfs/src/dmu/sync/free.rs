//! Killing the blocks of freed ranges.
//!
//! Indirect blocks that lie wholly inside a range are read (many at once) to find what is below them, and go with
//! it; data blocks are never read. What is read on the way gets no buffer; the cache may keep it for a while.
use super::object::ObjectSync;
use crate::dmu::dbuf::Content;
use crate::dmu::dnode::Dnode;
use crate::dmu::lookup::entry;
use crate::event::Event;
use crate::vdev::Priority;
use crate::{Error, Result};
use abd::Abd;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use ondisk::BlkPtr;
use ondisk::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE};

/// Indirect blocks read at once.
const BUNCH: usize = 32;

impl ObjectSync<'_> {
    /// Applies the ranges that the group has freed.
    pub(super) fn apply_frees(&mut self) -> Result<()> {
        if self.dnode.nr_frees.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let txg = self.ctx.txg;
        let ranges = self.dnode.frees.lock().iter().find(|(t, _)| *t == txg).map(|(_, r)| r.clone());
        let Some(ranges) = ranges else { return Ok(()) };
        for range in ranges.iter() {
            self.free_range(&range)?;
        }
        self.publish();
        // Only now: whoever does not find the range any more finds the new epoch.
        let mut frees = self.dnode.frees.lock();
        frees.retain(|(t, _)| *t != txg);
        self.dnode.nr_frees.store(frees.len(), Ordering::Release);
        Ok(())
    }

    fn free_range(&mut self, range: &Range<u64>) -> Result<()> {
        let (top, nr) = {
            let phys = self.dnode.phys.lock();
            (phys.core.levels - 1, u64::from(phys.core.nr_blkptr))
        };
        (0..nr).try_for_each(|index| self.free_below(top, index, range))
    }

    /// Data blocks below a block: first, and first of the next one.
    fn span(&self, level: u8, blkid: u64) -> Range<u64> {
        let bits = u32::from(level) * self.entries_shift();
        let edge = |n: u64| if n.leading_zeros() < bits { u64::MAX } else { n << bits.min(63) };
        edge(blkid)..edge(blkid.saturating_add(1))
    }

    /// Frees the part of `range` that lies below one block.
    fn free_below(&mut self, level: u8, blkid: u64, range: &Range<u64>) -> Result<()> {
        let span = self.span(level, blkid);
        if span.end <= range.start || span.start >= range.end {
            return Ok(());
        }
        let bp = self.dnode.pointer(level, blkid)?;
        if bp.is_hole() {
            return Ok(());
        }
        if range.start <= span.start && span.end <= range.end {
            return self.free_whole(level, blkid, &bp);
        }
        let shift = self.entries_shift();
        let below = u32::from(level - 1) * shift;
        let first = blkid << shift;
        let from = (range.start >> below.min(63)).max(first);
        let to = (range.end.saturating_sub(1) >> below.min(63)).min(first | ((1 << shift) - 1));
        (from..=to).try_for_each(|child| self.free_below(level - 1, child, range))
    }

    /// Frees a block and everything below it.
    fn free_whole(&mut self, level: u8, blkid: u64, bp: &BlkPtr) -> Result<()> {
        if level > 0 {
            let in_memory = match self.dnode.level(level).get(blkid).map(|d| d.peek()) {
                Some(Content::Data(block)) => Some(block),
                _ => None,
            };
            self.kill_children(level, blkid, bp, in_memory)?;
        }
        let hole = self.new_hole(level);
        self.account(bp, &hole)?;
        self.set_pointer(level, blkid, &hole)?;
        if level > 0 {
            // Published before the buffers go: a reader could otherwise bring the old block back by its old pointer.
            self.publish();
            self.forget_indirect(level, blkid);
        }
        Ok(())
    }

    /// Kills what is below an indirect block. A block that cannot be read leaks what is below it, with an event: a
    /// damaged pool must stay deletable.
    fn kill_children(&mut self, level: u8, blkid: u64, bp: &BlkPtr, in_memory: Option<Abd>) -> Result<()> {
        let block = match in_memory {
            Some(block) => block,
            None => match self.read_indirect(level, blkid, bp) {
                Ok(block) => block,
                Err(Error::Checksum | Error::Damaged) => {
                    let what = format!("blocks below {} leak", self.dnode.bookmark(level, blkid));
                    self.dnode.storage.events().post(Event::Damaged { what });
                    return Ok(());
                }
                Err(e) => return Err(e),
            },
        };
        let shift = self.entries_shift();
        let children: Vec<(u64, BlkPtr)> = (0..(block.len() / BLKPTR_SIZE) as u64)
            .filter_map(|index| Some(((blkid << shift) | index, entry(&block, index).ok()?)))
            .filter(|(_, child)| !child.is_hole())
            .collect();
        drop(block);
        for bunch in children.chunks(BUNCH) {
            self.kill_bunch(level - 1, bunch)?;
        }
        Ok(())
    }

    fn kill_bunch(&mut self, level: u8, bunch: &[(u64, BlkPtr)]) -> Result<()> {
        if level > 0 {
            for (blkid, bp) in bunch {
                if self.dnode.level(level).get(*blkid).is_none() && !bp.is_embedded() {
                    self.dnode.storage.prefetch(bp, self.dnode.bookmark(level, *blkid));
                }
            }
        }
        for (blkid, bp) in bunch {
            if level > 0 {
                let in_memory = match self.dnode.level(level).get(*blkid).map(|d| d.peek()) {
                    Some(Content::Data(block)) => Some(block),
                    _ => None,
                };
                self.kill_children(level, *blkid, bp, in_memory)?;
            }
            self.account(bp, &BlkPtr::HOLE)?;
        }
        Ok(())
    }

    fn read_indirect(&self, level: u8, blkid: u64, bp: &BlkPtr) -> Result<Abd> {
        let size = 1usize << (self.entries_shift() + BLKPTR_SHIFT);
        if bp.level() != level || bp.lsize() as usize != size {
            return Err(Error::Damaged);
        }
        let bookmark = self.dnode.bookmark(level, blkid);
        let block = self.dnode.storage.read(bp, bookmark, Priority::SyncRead)?.abd().clone();
        if block.len() == size { Ok(block) } else { Err(Error::Damaged) }
    }

    /// Takes the buffers of a freed indirect block and of those below it out of memory.
    fn forget_indirect(&mut self, top: u8, top_blkid: u64) {
        let shift = self.entries_shift();
        for level in (1..=top).rev() {
            let bits = u32::from(top - level) * shift;
            let first = top_blkid.checked_shl(bits).unwrap_or(0);
            let last = first | (1u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1));
            let mut next = first;
            while let Some((blkid, dbuf)) = self.dnode.level(level).next(next) {
                if blkid > last {
                    break;
                }
                let mut state = dbuf.state.lock();
                state.is_sync_dirty = false;
                state.arc = None;
                state.content = Content::Absent;
                self.dnode.discard_if_empty(&dbuf, state);
                self.dirty_at(level).remove(&blkid);
                let Some(after) = blkid.checked_add(1) else { break };
                next = after;
            }
        }
    }
}

impl Dnode {
    /// Asks for the indirect blocks that writing data block `blkid` will change.
    pub(super) fn prefetch_for_sync(&self, blkid: u64) {
        let (levels, shift) = {
            let phys = self.phys.lock();
            (phys.core.levels, phys.entries_shift())
        };
        let above = blkid >> shift;
        if levels > 1
            && self.level(1).get(above).is_none()
            && let Some(bp) = self.pointer_in_memory(1, above)
            && !bp.is_hole()
            && !bp.is_embedded()
            && bp.level() == 1
        {
            self.storage.prefetch(&bp, self.bookmark(1, above));
        }
    }
}
