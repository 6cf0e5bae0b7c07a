//! Finding data and holes, unsynced changes included.
use super::dnode::Dnode;
use super::read::split;
use crate::Result;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Data.
    Data,
    /// A hole. Everything after the last block is one.
    Hole,
}

impl Dnode {
    /// The first offset from `offset` on that lies in data, or in a hole. For holes there is always one, at the
    /// latest after the highest block: the caller knows where its object ends.
    ///
    /// # Errors
    /// `Io`, `Checksum`, `Damaged` when indirect blocks cannot be read.
    pub fn next_offset(&self, offset: u64, what: Seek) -> Result<Option<u64>> {
        let size = u64::from(self.block_size());
        let Some((from, _)) = split(offset, size) else {
            return Ok((what == Seek::Hole).then_some(offset));
        };
        let found = match what {
            Seek::Data => self.next_data(from)?,
            Seek::Hole => Some(self.next_hole(from)?),
        };
        Ok(found.map(|blkid| blkid.saturating_mul(size).max(offset)))
    }

    fn next_data(&self, from: u64) -> Result<Option<u64>> {
        let in_memory = self.next_data_in_memory(from);
        let on_disk = self.next_data_on_disk(from, in_memory.unwrap_or(u64::MAX))?;
        Ok([in_memory, on_disk].into_iter().flatten().min())
    }

    fn next_data_in_memory(&self, from: u64) -> Option<u64> {
        let mut next = from;
        loop {
            let (blkid, dbuf) = self.level(0).next(next)?;
            if dbuf.has_data() == Some(true) {
                return Some(blkid);
            }
            next = blkid.checked_add(1)?;
        }
    }

    /// The first block from `from` on, below `end`, that has a pointer and was not freed since.
    fn next_data_on_disk(&self, from: u64, end: u64) -> Result<Option<u64>> {
        // The dnode learns of its highest block only when all levels are written.
        let end = end.min(self.max_blkid().saturating_add(1)).min(self.phys.lock().reach());
        let mut at = from;
        while at < end {
            if let Some(after) = self.after_freed(at) {
                match after {
                    u64::MAX => return Ok(None),
                    after => at = after,
                }
                continue;
            }
            let Some(after) = self.after_hole(at)? else {
                // A buffer, if there is one, knows better: it was asked before.
                let is_hole = self.level(0).get(at).is_some_and(|d| d.has_data() == Some(false));
                if !is_hole {
                    return Ok(Some(at));
                }
                at += 1;
                continue;
            };
            at = after;
        }
        Ok(None)
    }

    /// The end of the noted range that frees `at`, if any.
    fn after_freed(&self, at: u64) -> Option<u64> {
        let frees = self.frees.lock();
        let inside = frees.iter().find(|(_, ranges)| ranges.contains(at))?;
        Some(inside.1.next_outside(at).unwrap_or(u64::MAX))
    }

    /// The block after the largest hole (of any level) in which `at` lies, as the disk has it; `None` for data.
    fn after_hole(&self, at: u64) -> Result<Option<u64>> {
        if !self.pointer(0, at)?.is_hole() {
            return Ok(None);
        }
        let (levels, shift) = {
            let phys = self.phys.lock();
            (phys.core.levels, phys.entries_shift())
        };
        for level in (0..levels).rev() {
            let bits = u32::from(level) * shift;
            let index = at.checked_shr(bits).unwrap_or(0);
            if level == 0 || self.is_hole_above(level, index)? {
                let after = index
                    .checked_add(1)
                    .and_then(|n| if n.leading_zeros() < bits { None } else { n.checked_shl(bits) });
                return Ok(Some(after.unwrap_or(u64::MAX)));
            }
        }
        Ok(Some(at.saturating_add(1)))
    }

    /// Whether nothing lies below an indirect block. An object is written level by level: until that is done the
    /// pointers to a block, and those to the block above it, may still say hole when it is in memory with pointers to
    /// data whose buffers are gone.
    fn is_hole_above(&self, level: u8, blkid: u64) -> Result<bool> {
        let shift = self.phys.lock().entries_shift();
        loop {
            let epoch = self.epoch();
            if self.indirect(level, blkid)?.is_some() {
                return Ok(false);
            }
            let has_below = (1..level).any(|lower| {
                let bits = u32::from(level - lower) * shift;
                let first = blkid.checked_shl(bits).unwrap_or(u64::MAX);
                self.level(lower).next(first).is_some_and(|(at, _)| at.checked_shr(bits) == Some(blkid))
            });
            // Buffers go only after the epoch has moved.
            if has_below || self.epoch() == epoch {
                return Ok(!has_below);
            }
        }
    }

    fn next_hole(&self, from: u64) -> Result<u64> {
        let mut at = from;
        while at <= self.max_blkid() {
            let is_data = match self.level(0).get(at).and_then(|d| d.has_data()) {
                Some(has_data) => has_data,
                None => !self.is_freed(at) && !self.pointer(0, at)?.is_hole(),
            };
            if !is_data {
                return Ok(at);
            }
            at += 1;
        }
        Ok(at)
    }
}
