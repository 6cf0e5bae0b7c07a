//! Cloning: data blocks that become another object's too, without being read or copied.
//!
//! The reader of pointers and the maker of the clone are apart: between the two a transaction is begun, and the intent
//! log gets the pointers. The caller holds a range lock over what it clones from, so that nothing but the sync thread
//! changes the source meanwhile; and a source that syncs in between was not dirty, or it would have been refused.
//!
//! Only what is on disk *in the last durable group* can be cloned. A block that a group in flight wrote has an address,
//! but a crash takes the block back, and with it whatever the intent log says of its address: replaying the clone would
//! share space that may be anybody's by then. The caller waits for the group, or copies.
use super::dnode::Dnode;
use super::tx::DmuTx;
use crate::brt::Brt;
use crate::txg::Dirtied;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::{BlkPtr, Txg};

/// What a cloned block counts as dirty data: its buffer, its entry in the block reference table, its part of indirect
/// blocks. It bounds the clones of a group as the limit of dirty data does its writes.
pub(super) const CLONE_DIRTY: u64 = 1 << 10;

impl Dnode {
    /// The pointers of `nr` data blocks from `first` on, to be cloned; `None` while one of them is not on disk: the caller
    /// waits for the open group and asks again.
    ///
    /// # Errors
    /// `Unsupported` for deduplicated and encrypted blocks; `Io`, `Checksum`, `Damaged`.
    pub fn read_pointers(&self, first: u64, nr: u64) -> Result<Option<Vec<BlkPtr>>> {
        let synced = self.objset()?.txgs().synced_txg();
        let mut pointers = Vec::new();
        for blkid in first..first.saturating_add(nr) {
            match self.pointer_to_clone(blkid, synced)? {
                Some(bp) => pointers.push(bp),
                None => return Ok(None),
            }
        }
        Ok(Some(pointers))
    }

    fn pointer_to_clone(&self, blkid: u64, synced: Txg) -> Result<Option<BlkPtr>> {
        let bp = loop {
            // Before the buffer: the sync thread publishes a pointer, then moves the epoch on, then lets go of the change.
            let epoch = self.epoch();
            if let Some(dbuf) = self.level(0).get(blkid) {
                let state = dbuf.state.lock();
                if state.is_gone {
                    continue;
                }
                if !state.is_clean() {
                    // A clone of a clone: what it shows is on disk already.
                    return Ok(state.newest_clone());
                }
            }
            let pointer = self.pointer(0, blkid);
            let is_freed = self.is_freed(blkid);
            if self.epoch() == epoch {
                break if is_freed { BlkPtr::HOLE } else { pointer? };
            }
        };
        if bp.is_hole() || bp.is_embedded() {
            return Ok(Some(bp));
        }
        if bp.is_dedup() || bp.uses_crypt() {
            return Err(Error::Unsupported);
        }
        if !Brt::is_sharable(&bp) {
            return Err(Error::Damaged);
        }
        Ok((bp.phys_birth() <= synced).then_some(bp))
    }

    /// Puts blocks in the place of the data blocks from `first` on. Holes become holes.
    ///
    /// # Errors
    /// `Invalid` for blocks of another size than this object's, or that are no file content: then nothing is changed.
    /// `NotFound` when the object is freed; `TooLarge`.
    pub fn clone_blocks(&self, tx: &DmuTx, first: u64, pointers: &[BlkPtr]) -> Result<()> {
        let size = self.block_size();
        let fits = |bp: &BlkPtr| {
            let is_content = bp.is_embedded() || self.storage.brt().can_share(&self.storage, bp);
            is_content && bp.level() == 0 && bp.lsize() == size
        };
        if !pointers.iter().all(|bp| bp.is_hole() || fits(bp)) {
            return Err(Error::Invalid);
        }
        self.mark_dirty(tx)?;
        let mut blkid = first;
        for run in pointers.chunk_by(|a, b| a.is_hole() && b.is_hole()) {
            let after = blkid.checked_add(run.len() as u64).ok_or(Error::TooLarge)?;
            match run {
                [bp] if !bp.is_hole() => self.clone_block(tx, blkid, bp)?,
                _ => self.free_blocks(tx, blkid..after)?,
            }
            blkid = after;
        }
        Ok(())
    }

    fn clone_block(&self, tx: &DmuTx, blkid: u64, bp: &BlkPtr) -> Result<()> {
        self.extend_to(tx, blkid)?;
        let (txg, storage) = (tx.txg(), &self.storage);
        self.with_buffer(blkid, |dbuf, state| {
            if state.is_changed_in(txg) {
                // What the group wrote or cloned before is given up: as if it had been freed.
                self.cut_out(txg, dbuf, state)?;
            }
            if state.change_in(txg)? {
                self.dirty_blocks.lock()[txg.slot()].push(dbuf.clone());
            }
            state.set_clone(txg, bp);
            if !bp.is_embedded() {
                storage.brt().add(storage, txg, bp);
            }
            if let Ok(objset) = self.objset() {
                objset.txgs().add_dirty(txg, CLONE_DIRTY, Dirtied::New);
                objset.promise_dirty(txg, |worst| worst.pointers(CLONE_DIRTY));
                objset.promised.add_cloned(txg, storage.deflated(bp));
            }
            Ok(())
        })
    }

    /// A clone of `txg` comes to nothing: it never gets a pointer on disk.
    pub(super) fn drop_clone(&self, txg: Txg, bp: &BlkPtr) {
        if !bp.is_embedded() {
            self.storage.brt().cancel(txg, bp);
        }
        if let Ok(objset) = self.objset() {
            objset.txgs().sub_dirty(txg, CLONE_DIRTY);
        }
    }
}
