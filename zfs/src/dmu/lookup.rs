//! From a block's number to its pointer and its content.
//!
//! Hostile pools: a pointer's level must be the one its place demands, so a walk down always ends; sizes must be the
//! object's, so no buffer is shorter than its users think.
use super::dbuf::{Content, Dbuf, State};
use super::dnode::Dnode;
use crate::arc::Holder;
use crate::vdev::Priority;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use ondisk::BlkPtr;
use ondisk::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE};
use rt::MutexGuard;

/// Blocks out of block pointers that stay in memory with their object: up to this size.
const EMBEDDED_KEEP_MAX: usize = 2048;

impl Dnode {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The pointer of a block as of the newest synced (or just syncing) state: unsynced changes are not in it.
    pub(super) fn pointer(&self, level: u8, blkid: u64) -> Result<BlkPtr> {
        let (levels, shift, root) = {
            let phys = self.phys.lock();
            (phys.core.levels, phys.entries_shift(), Self::root_pointer(&phys, blkid))
        };
        if level + 1 == levels {
            return Ok(root);
        }
        if level >= levels {
            return Ok(BlkPtr::HOLE);
        }
        match self.indirect(level + 1, blkid >> shift)? {
            Some(block) => entry(&block, blkid & ((1 << shift) - 1)),
            None => Ok(BlkPtr::HOLE),
        }
    }

    /// An indirect block; `None` for a hole.
    pub(super) fn indirect(&self, level: u8, blkid: u64) -> Result<Option<Abd>> {
        loop {
            if let Some(dbuf) = self.level(level).get(blkid)
                && let Content::Data(abd) = dbuf.peek()
            {
                return Ok(Some(abd));
            }
            let epoch = self.epoch();
            let bp = self.pointer(level, blkid)?;
            if bp.is_hole() {
                if self.epoch() == epoch && self.level(level).get(blkid).is_none() {
                    return Ok(None);
                }
                continue;
            }
            let (dbuf, size) = (self.dbuf(level, blkid), 1 << (self.phys.lock().core.indirect_shift));
            let mut state = dbuf.state.lock();
            if state.is_gone || self.epoch() != epoch {
                continue;
            }
            let loaded = match state.content {
                Content::Absent => self.load(&dbuf, &mut state, &bp, (level, size)),
                Content::Hole | Content::Data(_) => Ok(()),
            };
            let content = state.content.clone();
            self.discard_if_empty(&dbuf, state);
            loaded?;
            match content {
                Content::Data(abd) => return Ok(Some(abd)),
                Content::Hole => return Ok(None),
                Content::Absent => {}
            }
        }
    }

    /// The pointer if finding it takes no I/O.
    pub(super) fn pointer_in_memory(&self, level: u8, blkid: u64) -> Option<BlkPtr> {
        let (levels, shift, root) = {
            let phys = self.phys.lock();
            (phys.core.levels, phys.entries_shift(), Self::root_pointer(&phys, blkid))
        };
        if level + 1 >= levels {
            return Some(root);
        }
        match self.level(level + 1).get(blkid >> shift)?.peek() {
            Content::Data(abd) => entry(&abd, blkid & ((1 << shift) - 1)).ok(),
            Content::Hole | Content::Absent => None,
        }
    }

    /// The buffer of a block, made if there is none.
    pub(super) fn dbuf(&self, level: u8, blkid: u64) -> Arc<Dbuf> {
        self.level(level).get_or_insert(blkid, || Arc::new(Dbuf::new(self.weak().clone(), level, blkid)))
    }

    /// Reads a block into its (locked, absent) buffer.
    pub(super) fn load(
        &self,
        dbuf: &Arc<Dbuf>,
        state: &mut State,
        bp: &BlkPtr,
        (level, size): (u8, u32),
    ) -> Result<()> {
        if bp.level() != level || bp.lsize() != size {
            return Err(Error::Damaged);
        }
        let bookmark = self.bookmark(level, dbuf.blkid());
        let buf = self.storage.read(bp, bookmark, Priority::SyncRead)?;
        if buf.abd().len() != size as usize {
            return Err(Error::Damaged);
        }
        state.content = Content::Data(buf.abd().clone());
        let holder: Weak<dyn Holder> = Arc::<Dbuf>::downgrade(dbuf);
        buf.set_holder(holder);
        state.arc = (!bp.is_embedded()).then_some(buf);
        Ok(())
    }

    /// Unlocks; a buffer that says nothing the disk does not say leaves the tree.
    pub(super) fn discard_if_empty(&self, dbuf: &Dbuf, mut state: MutexGuard<'_, State, 750>) {
        let is_empty = match &state.content {
            Content::Hole | Content::Absent => true,
            // Out of a block pointer: no cache would ever ask for the memory back.
            Content::Data(abd) => state.arc.is_none() && abd.len() > EMBEDDED_KEEP_MAX,
        };
        if is_empty && state.is_clean() && !state.is_gone {
            state.is_gone = true;
            let content = core::mem::replace(&mut state.content, Content::Absent);
            drop(state);
            drop(content);
            self.level(dbuf.level()).remove(dbuf.blkid(), dbuf);
        }
    }

    /// Calls `work` with a data block's buffer, locked, its content known (read first if need be).
    pub(super) fn with_data<R>(
        &self,
        blkid: u64,
        work: impl FnOnce(&Arc<Dbuf>, &mut State) -> Result<R>,
    ) -> Result<R> {
        loop {
            let dbuf = self.dbuf(0, blkid);
            let epoch = self.epoch();
            let mut state = dbuf.state.lock();
            if state.is_gone {
                continue;
            }
            if matches!(state.content, Content::Absent) {
                let clone = state.newest_clone();
                drop(state);
                let pointer = clone.map_or_else(|| self.pointer(0, blkid), Ok);
                state = dbuf.state.lock();
                let is_absent = matches!(state.content, Content::Absent);
                // Freed ranges before the epoch: a range is dropped only after the epoch has moved. A clone is newer than
                // what was freed, or it would not be there.
                let is_freed = is_absent && clone.is_none() && self.is_freed(blkid);
                let is_stale = self.epoch() != epoch || state.newest_clone() != clone;
                if state.is_gone || (is_absent && is_stale) {
                    continue;
                }
                if is_absent
                    && let Err(e) = pointer.and_then(|bp| self.fill(&dbuf, &mut state, &bp, is_freed))
                {
                    self.discard_if_empty(&dbuf, state);
                    return Err(e);
                }
            }
            let result = work(&dbuf, &mut state);
            self.discard_if_empty(&dbuf, state);
            return result;
        }
    }

    /// Finds out the content of a data block whose pointer is `bp`.
    fn fill(&self, dbuf: &Arc<Dbuf>, state: &mut State, bp: &BlkPtr, is_freed: bool) -> Result<()> {
        if bp.is_hole() || is_freed {
            state.content = Content::Hole;
            return Ok(());
        }
        self.load(dbuf, state, bp, (0, self.block_size()))
    }

    /// A group that is not synced has freed the block (and no newer one has written it, or there would be a buffer).
    pub(super) fn is_freed(&self, blkid: u64) -> bool {
        self.nr_frees.load(Ordering::Acquire) != 0
            && self.frees.lock().iter().any(|(_, ranges)| ranges.contains(blkid))
    }
}

/// A pointer out of an indirect block.
pub(super) fn entry(block: &Abd, index: u64) -> Result<BlkPtr> {
    let at = (index as usize) << BLKPTR_SHIFT;
    if at + BLKPTR_SIZE > block.len() {
        return Err(Error::Damaged);
    }
    let mut bytes = [0; BLKPTR_SIZE];
    block.read_at(at, &mut bytes);
    BlkPtr::from_bytes(&bytes).map_err(|_| Error::Damaged)
}
