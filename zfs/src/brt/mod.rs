//! The block reference table (BRT): blocks that several files share by cloning, and how often.
//!
//! What it is: for each top-level vdev the number of references beyond the first of each shared block, by the address of
//! its first copy. What it is not: a list of blocks. A block that nobody cloned is not in it, and nothing in a block's
//! pointer says whether it is, so every free of a data block has to ask; a count for each 16 MiB of the vdev, always in
//! memory, answers nearly all of them.
//!
//! # The life of a reference
//!
//! 1. [`Brt::add`], in open context, inside the transaction that makes the clone: noted under its group.
//! 2. [`Brt::apply`], when the sync thread begins with the group: what was noted enters the counts.
//! 3. [`Brt::release`], whenever a data block is freed: a block with references left loses one and stays allocated.
//! 4. [`Brt::sync`], after everything that frees data in the group: what changed goes to disk.
//!
//! # Invariants, and the crash or race behind each
//!
//! 1. *References of a group count before anything of the group is freed.* A file may be cloned and deleted in the same
//!    group; were the free to come first, it would give away the block that the clone is about to point to.
//! 2. *Only blocks that are on disk in the last durable group are cloned* (the caller's: `Dnode::read_pointers`). The
//!    intent log names the blocks of a clone; a block that the crash takes back could be anybody's when it is replayed.
//! 3. *A clone that is overwritten or freed before its group closes takes its reference back* ([`Brt::cancel`]): it
//!    never gets a pointer on disk that a later free could find.
//! 4. *Counts and entries change in the group that changes the pointers.* After a crash each block has as many
//!    references as there are pointers to it; `verify` recounts them.
//!
//! | module | holds |
//! |---|---|
//! | `table` | one vdev's table: counts, sums, entries that changed |
//! | `disk` | reading and writing tables |
mod disk;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use disk::{counts, entries, has_foreign, nr_tables};

use crate::dmu::Objset;
use crate::txg::TXG_SLOTS;
use crate::zap::{Zap, ZapValue};
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::{BlkPtr, ObjectId, Txg};
use rt::{Mutex, SpinLock};
use table::Table;

/// Where a shared block lies: top-level vdev and offset of its first copy.
type Place = (u32, u64);

/// References noted in open context.
#[derive(Clone, Copy, Debug)]
struct Noted {
    references: u64,
    /// Bytes of the block, as space accounting counts them.
    bytes: u64,
}

/// What sharing blocks takes and saves, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFigures {
    /// Occupied by blocks with more than one reference.
    pub used: u64,
    /// What they would occupy beyond that if each reference had a block of its own.
    pub saved: u64,
}

impl CloneFigures {
    /// The property `bcloneratio`, in hundredths.
    #[must_use]
    pub fn ratio(&self) -> u64 {
        let all = u128::from(self.used) + u128::from(self.saved);
        all.saturating_mul(100)
            .checked_div(u128::from(self.used))
            .map_or(100, |ratio| u64::try_from(ratio).unwrap_or(u64::MAX))
    }
}

/// The pool's block reference table.
#[derive(Debug, Default)]
pub struct Brt {
    /// The pool lets blocks be cloned.
    is_enabled: AtomicBool,
    mos: SpinLock<Weak<Objset>>,
    noted: [Mutex<BTreeMap<Place, Noted>, 792>; TXG_SLOTS],
    /// Changed by the sync thread only. Never locked while the MOS is asked.
    tables: Mutex<BTreeMap<u32, Table>, 794>,
    used: AtomicU64,
    saved: AtomicU64,
}

impl Brt {
    /// Whether the pool lets blocks be cloned.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::Relaxed)
    }

    /// Says where entries are to be found, and whether blocks may be cloned.
    pub(crate) fn start(&self, mos: Weak<Objset>, is_enabled: bool) {
        *self.mos.lock() = mos;
        self.is_enabled.store(is_enabled, Ordering::Relaxed);
    }

    /// What sharing takes and saves, as of the group that was last written.
    pub fn figures(&self) -> CloneFigures {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        CloneFigures { used: get(&self.used), saved: get(&self.saved) }
    }

    /// Whether a block can be shared: only content of files and volumes is.
    pub(crate) fn is_sharable(bp: &BlkPtr) -> bool {
        !bp.is_hole() && !bp.is_embedded() && bp.level() == 0 && !bp.dmu_type().is_metadata()
    }

    /// Whether a block can be shared and lies where blocks of this pool lie: pointers out of a log may be anything.
    pub(crate) fn can_share(&self, storage: &Storage, bp: &BlkPtr) -> bool {
        let dva = bp.dva(0);
        let is_place = |end| storage.tree().top(dva.vdev).is_some_and(|top| end <= top.allocatable());
        Self::is_sharable(bp) && !bp.is_dedup() && !bp.uses_crypt() && is_place(dva.offset.saturating_add(1))
    }

    /// Notes one more reference to a block, in a transaction of `txg`.
    pub(crate) fn add(&self, storage: &Storage, txg: Txg, bp: &BlkPtr) {
        let mut noted = self.noted[txg.slot()].lock();
        let bytes = storage.deflated(bp);
        noted.entry(place_of(bp)).or_insert(Noted { references: 0, bytes }).references += 1;
    }

    /// Takes a reference back that was noted in the same group.
    pub(crate) fn cancel(&self, txg: Txg, bp: &BlkPtr) {
        let mut noted = self.noted[txg.slot()].lock();
        let place = place_of(bp);
        let Some(entry) = noted.get_mut(&place) else { return };
        entry.references -= 1;
        if entry.references == 0 {
            noted.remove(&place);
        }
    }

    /// Something was noted in `txg`.
    pub(crate) fn is_dirty(&self, txg: Txg) -> bool {
        !self.noted[txg.slot()].lock().is_empty()
    }

    /// Counts what was noted in `txg`. For the sync thread, before anything of the group is freed.
    ///
    /// # Errors
    /// `Damaged`, what reading the MOS gives.
    pub(crate) fn apply(&self, storage: &Storage, txg: Txg) -> Result<()> {
        let noted = core::mem::take(&mut *self.noted[txg.slot()].lock());
        let mut found = Vec::with_capacity(noted.len());
        for ((vdev, offset), noted) in noted {
            let entries = self.tables.lock().get(&vdev).and_then(|table| table.entries_for(offset));
            let before = entries.map_or(Ok(0), |entries| self.lookup(entries, offset))?;
            found.push(((vdev, offset), noted, before));
        }
        // Apart from the lookups: the counts must not call for more of them.
        let mut tables = self.tables.lock();
        for ((vdev, offset), noted, before) in found {
            let size = storage.tree().top(vdev).ok_or(Error::Damaged)?.allocatable();
            let table = tables.entry(vdev).or_default();
            table.add(offset, before, (noted.references, noted.bytes), size)?;
        }
        self.publish(&tables);
        Ok(())
    }

    /// A block loses a reference. True if it has others: then it must not be freed. For the sync thread.
    ///
    /// # Errors
    /// `Damaged`, what reading the MOS gives.
    pub(crate) fn release(&self, storage: &Storage, bp: &BlkPtr) -> Result<bool> {
        if !Self::is_sharable(bp) {
            return Ok(false);
        }
        let (vdev, offset) = place_of(bp);
        let entries = match self.tables.lock().get(&vdev) {
            None => return Ok(false),
            Some(table) if table.is_changed(offset) => None,
            Some(table) => match table.entries_for(offset) {
                None => return Ok(false),
                entries => entries,
            },
        };
        let before = entries.map_or(Ok(0), |entries| self.lookup(entries, offset))?;
        let mut tables = self.tables.lock();
        let Some(table) = tables.get_mut(&vdev) else { return Ok(false) };
        if entries.is_some() {
            table.bring(offset, before);
        }
        let is_shared = table.take(offset, storage.deflated(bp))?;
        self.publish(&tables);
        Ok(is_shared)
    }

    /// An entry on disk, 0 without.
    fn lookup(&self, entries: ObjectId, offset: u64) -> Result<u64> {
        let mos = self.mos.lock().upgrade().ok_or(Error::Invalid)?;
        match Zap::hold(&mos, entries)?.lookup_key(&[offset]) {
            Ok(value) => references(&value).ok_or(Error::Damaged),
            Err(Error::NotFound) => Ok(0),
            Err(e) => Err(e),
        }
    }

    fn publish(&self, tables: &BTreeMap<u32, Table>) {
        let sum = |of: fn(&Table) -> u64| tables.values().map(of).fold(0, u64::saturating_add);
        self.used.store(sum(|t| t.used), Ordering::Relaxed);
        self.saved.store(sum(|t| t.saved), Ordering::Relaxed);
    }
}

fn place_of(bp: &BlkPtr) -> Place {
    let dva = bp.dva(0);
    (dva.vdev, dva.offset)
}

/// The value of an entry: a word, or (before `block_cloning_endian`) its bytes as the writer's memory had them.
fn references(value: &ZapValue) -> Option<u64> {
    value.as_word().or_else(|| {
        let bytes = value.as_bytes()?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    })
}
