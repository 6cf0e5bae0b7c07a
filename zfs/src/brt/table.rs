//! One top-level vdev's table, as the sync thread has it.
//!
//! Invariants: `counts` says for each range how many blocks in it have an entry, on disk or among `changed`; `total` is
//! their sum. A block in `changed` is not looked up again in the same group.
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use ondisk::ObjectId;
use ondisk::brt::{BRT_BLOCK_SIZE, BRT_RANGE_SIZE, BrtVdev};

/// Counts in one block of the object that holds them.
const COUNTS_PER_BLOCK: usize = BRT_BLOCK_SIZE as usize / 2;

/// A block whose references changed in the group that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    /// References beyond the first, on disk.
    pub(super) before: u64,
    /// The same now.
    pub(super) now: u64,
}

/// A vdev's table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The object with counts and sums; none until it is first written.
    pub(super) object: ObjectId,
    pub(super) entries: ObjectId,
    pub(super) range_size: u64,
    pub(super) counts: Vec<u16>,
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) saved: u64,
    pub(super) changed: BTreeMap<u64, Changed>,
    /// Blocks of counts that differ from the disk's.
    pub(super) dirty_blocks: BTreeSet<usize>,
    pub(super) is_dirty: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            object: ObjectId(0),
            entries: ObjectId(0),
            range_size: BRT_RANGE_SIZE,
            counts: Vec::new(),
            total: 0,
            used: 0,
            saved: 0,
            changed: BTreeMap::new(),
            dirty_blocks: BTreeSet::new(),
            is_dirty: false,
        }
    }
}

impl Table {
    pub(super) fn of(object: ObjectId, phys: &BrtVdev, counts: Vec<u16>) -> Self {
        Self {
            object,
            entries: phys.entries,
            range_size: phys.range_size,
            counts,
            total: phys.total,
            used: phys.used,
            saved: phys.saved,
            ..Self::default()
        }
    }

    pub(super) fn to_phys(&self) -> BrtVdev {
        BrtVdev {
            entries: self.entries,
            size: self.counts.len() as u64,
            is_big_endian: false,
            total: self.total,
            range_size: self.range_size,
            used: self.used,
            saved: self.saved,
        }
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset / self.range_size).unwrap_or(usize::MAX)
    }

    /// The object to ask for an entry of the disk's, if there can be one.
    pub(super) fn entries_for(&self, offset: u64) -> Option<ObjectId> {
        let count = self.counts.get(self.index(offset)).copied().unwrap_or(0);
        self.entries.non_zero().filter(|_| count > 0)
    }

    /// What is known of the block is newer than the disk.
    pub(super) fn is_changed(&self, offset: u64) -> bool {
        self.changed.contains_key(&offset)
    }

    /// Notes what the disk says of a block.
    pub(super) fn bring(&mut self, offset: u64, before: u64) {
        if before > 0 {
            self.changed.entry(offset).or_insert(Changed { before, now: before });
        }
    }

    /// Adds references to a block of `bytes` bytes of which the disk has `before`. `size`: bytes of the vdev.
    pub(super) fn add(
        &mut self,
        offset: u64,
        before: u64,
        (references, bytes): (u64, u64),
        size: u64,
    ) -> Result<()> {
        let index = self.index(offset);
        if index >= self.counts.len() {
            // A new table, or the vdev has grown.
            let nr = size.div_ceil(self.range_size);
            let nr = usize::try_from(nr).ok().filter(|nr| index < *nr).ok_or(Error::Damaged)?;
            self.counts.resize(nr, 0);
        }
        let changed = self.changed.entry(offset).or_insert(Changed { before, now: before });
        let was = changed.now;
        changed.now = was.checked_add(references).ok_or(Error::Damaged)?;
        let saved = bytes.checked_mul(references).ok_or(Error::Damaged)?;
        self.saved = self.saved.saturating_add(saved);
        self.is_dirty = true;
        if was == 0 && references > 0 {
            self.used = self.used.saturating_add(bytes);
            self.total += 1;
            self.counts[index] = self.counts[index].checked_add(1).ok_or(Error::Damaged)?;
            self.dirty_blocks.insert(index / COUNTS_PER_BLOCK);
        }
        Ok(())
    }

    /// Takes one reference to a block of `bytes` bytes away; false if it has only the first.
    pub(super) fn take(&mut self, offset: u64, bytes: u64) -> Result<bool> {
        let index = self.index(offset);
        let Some(changed) = self.changed.get_mut(&offset).filter(|c| c.now > 0) else { return Ok(false) };
        changed.now -= 1;
        // OpenZFS subtracts what it added: figures of a damaged pool stop at nothing.
        self.saved = self.saved.saturating_sub(bytes);
        self.is_dirty = true;
        if changed.now == 0 {
            self.used = self.used.saturating_sub(bytes);
            self.total = self.total.checked_sub(1).ok_or(Error::Damaged)?;
            let count = self.counts.get_mut(index).ok_or(Error::Damaged)?;
            *count = count.checked_sub(1).ok_or(Error::Damaged)?;
            self.dirty_blocks.insert(index / COUNTS_PER_BLOCK);
        }
        Ok(true)
    }

    /// A block of counts as it lies on disk, padded to its whole length.
    pub(super) fn block_of_counts(&self, block: usize) -> Vec<u8> {
        let from = block.saturating_mul(COUNTS_PER_BLOCK);
        let counts = self.counts.iter().skip(from).take(COUNTS_PER_BLOCK);
        let mut bytes: Vec<u8> = counts.flat_map(|count| count.to_le_bytes()).collect();
        bytes.resize(BRT_BLOCK_SIZE as usize, 0);
        bytes
    }
}
