//! Large writes: their data goes to blocks of its own, which the records point to and which the group's sync then uses,
//! so that it is written once.
//!
//! Which writes: with `logbias=throughput` all; else those of at least [`LARGE_MIN`], as far as there is no log device
//! that would take the data sooner, or too much for one commit.
//!
//! # Rules, and the crash or race behind each
//!
//! 1. *Blocks are allocated in the open group, whichever group the data belongs to.* Its sync waits for the writing (they
//!    count as a commit does) and frees what was not used. Data of an older group, which is closing or being written
//!    already, therefore gets a block that only the log has: the older group's sync must not be touched, it may have
//!    written that data a moment ago.
//! 2. *Data is written before the log block that points to it, and one flush makes both durable.* A power cut between
//!    the two may leave the log block without the data: import reads the data of all records of a log block before it
//!    claims any, and ends the log before a block that lacks some. Records of such a commit would else be replayed in
//!    part. (In a commit of several log blocks the data is flushed with all but the first, which is written last.)
//! 3. *A block is left for its group's sync only when it was written.* A failed write then costs nothing but the wait
//!    for the group, which writes everything anew; it flushes before its uberblock, as for its own writes.
//! 4. *The same content is not written twice:* a second commit before the group is on disk points to the same block.
use super::itx::{Change, Itx, WriteChange};
use super::{Error, LogSource, Result, Zil};
use crate::dmu::{BlockCopy, Logged};
use crate::vdev::Leaf;
use crate::zio::AheadBlock;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::zil_record::{Record, WriteData};
use ondisk::{BlkPtr, Txg};

/// Writes of this many bytes are large (OpenZFS's `zfs_immediate_write_sz`).
const LARGE_MIN: u64 = 32 << 10;
/// Bytes of data written together, and so kept twice where they compress.
const WINDOW: usize = 16 << 20;

/// Which writes of a batch are large.
#[derive(Clone, Copy, Debug)]
pub(super) struct LargeRule {
    /// Shortest write; `None`: none is.
    min: Option<u64>,
    /// Even if what it wrote of a block is less than that.
    whole_only: bool,
}

/// A block that is to be written, for one or several pieces of writes: their places among the changes.
struct Piece {
    records: Vec<(usize, WriteChange)>,
    copy: BlockCopy,
}

/// A batch whose large writes are becoming records.
#[derive(Default)]
struct Placing {
    changes: Vec<Itx>,
    pieces: Vec<Piece>,
    /// The piece that writes a block, by object and the block's first byte.
    of_block: BTreeMap<(u64, u64), usize>,
    bytes: usize,
}

impl LargeRule {
    fn takes(self, write: &WriteChange) -> bool {
        self.min.is_some_and(|min| write.length >= min)
    }

    /// Whether a part of a block goes that way, of a write that does; `block_size`: that of the file when it was written.
    fn takes_piece(self, piece: u64, block: u64, block_size: u32) -> bool {
        // A file of one block may have a larger one by now. Replay takes the whole block (`zfs_replay_write`), and so the
        // larger size; a clone that was logged in between would not fit into it any more, which ends OpenZFS's replay.
        let is_as_it_was = block == u64::from(block_size);
        is_as_it_was && (!self.whole_only || piece == block || self.min.is_some_and(|min| piece >= min))
    }
}

impl Placing {
    /// A piece of a write whose block is to be written. What the batch has of one block is all in one copy: it was listed
    /// before the first copy was taken.
    fn add(&mut self, txg: Txg, piece: WriteChange, block: u64, copy: BlockCopy) {
        let record = (self.changes.len(), piece);
        self.changes.push(Itx { txg, change: Change::Write(piece) });
        let next = self.pieces.len();
        let nr = *self.of_block.entry((piece.object, block)).or_insert(next);
        match self.pieces.get_mut(nr) {
            Some(same) => same.records.push(record),
            None => {
                self.bytes += copy.len();
                self.pieces.push(Piece { records: alloc::vec![record], copy });
            }
        }
    }
}

impl Zil {
    /// The rule for a batch that would be `bytes` long with all its data.
    pub(super) fn large_rule(&self, bytes: usize) -> LargeRule {
        if self.is_for_throughput() {
            return LargeRule { min: Some(0), whole_only: false };
        }
        let is_too_much = bytes > super::commit::BATCH_MAX;
        let has_fast_log = self.storage.has_log_vdev() && !is_too_much;
        LargeRule { min: (!has_fast_log).then_some(LARGE_MIN), whole_only: true }
    }

    /// Writes the data of a batch's large writes, and gives the batch with records that point to it. `leaves` gains the
    /// devices that are to be flushed with the records.
    ///
    /// # Errors
    /// `NoSpace`, `Io`, the source's: the batch must be made durable another way.
    pub(super) fn place_large(
        &self,
        batch: &[Itx],
        rule: LargeRule,
        source: Option<&dyn LogSource>,
        leaves: &mut Vec<Arc<Leaf>>,
    ) -> Result<Vec<Itx>> {
        let mut placing = Placing::default();
        for itx in batch {
            match (&itx.change, source) {
                // Its group is on disk.
                (Change::Write(write), _) if rule.takes(write) && itx.txg <= self.txgs.synced_txg() => {}
                (Change::Write(write), Some(source)) if rule.takes(write) => {
                    self.place_write(&mut placing, itx, *write, (rule, source), leaves)?;
                }
                _ => placing.changes.push(itx.clone()),
            }
        }
        self.write_pieces(&mut placing, leaves)?;
        Ok(placing.changes)
    }

    /// Cuts a write at the borders of its file's blocks.
    fn place_write(
        &self,
        placing: &mut Placing,
        Itx { txg, .. }: &Itx,
        write: WriteChange,
        (rule, source): (LargeRule, &dyn LogSource),
        leaves: &mut Vec<Arc<Leaf>>,
    ) -> Result<()> {
        let txg = *txg;
        let (mut at, end) = (write.offset, write.offset.saturating_add(write.length));
        while at < end {
            let (block, logged) = match source.block(write.object, write.generation, at) {
                Ok(found) => found,
                // The object is gone: so is the write.
                Err(Error::NotFound) => return Ok(()),
                Err(e) => return Err(e),
            };
            let to = block.end.min(end);
            if to <= at {
                return Err(Error::Damaged);
            }
            let piece = WriteChange { offset: at, length: to - at, ..write };
            let is_large = rule.takes_piece(to - at, block.end - block.start, write.block_size);
            at = to;
            match logged {
                _ if !is_large => placing.changes.push(Itx { txg, change: Change::Write(piece) }),
                Logged::Written(bp) => placing.changes.push(record_of(txg, &piece, &bp)?),
                Logged::Copy(copy) => placing.add(txg, piece, block.start, copy),
            }
            if placing.bytes >= WINDOW {
                self.write_pieces(placing, leaves)?;
            }
        }
        Ok(())
    }

    /// Writes the blocks gathered so far, and puts the records in their places.
    fn write_pieces(&self, placing: &mut Placing, leaves: &mut Vec<Arc<Leaf>>) -> Result<()> {
        placing.bytes = 0;
        placing.of_block.clear();
        let pieces = core::mem::take(&mut placing.pieces);
        if pieces.is_empty() {
            return Ok(());
        }
        let mut records = Vec::with_capacity(pieces.len());
        let mut copies = Vec::with_capacity(pieces.len());
        for piece in pieces {
            records.push(piece.records);
            copies.push(piece.copy);
        }
        for (records, bp) in records.into_iter().zip(self.write_copies(copies, leaves)?) {
            for (index, write) in records {
                let Some(change) = placing.changes.get_mut(index) else { return Err(Error::Invalid) };
                *change = record_of(change.txg, &write, &bp)?;
            }
        }
        Ok(())
    }

    /// Writes blocks in the open group and leaves them for its sync. Their pointers.
    pub(crate) fn write_copies(
        &self,
        copies: Vec<BlockCopy>,
        leaves: &mut Vec<Arc<Leaf>>,
    ) -> Result<Vec<BlkPtr>> {
        if !self.has_room_beside_log() {
            return Err(Error::NoSpace);
        }
        // Before the group is held: this takes a while.
        let prepared = BlockCopy::prepare(&copies)?;
        let hold = self.txgs.hold_open();
        let txg = hold.txg();
        let (mut pointers, mut ahead, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for (copy, block) in copies.iter().zip(prepared) {
            let placed = self.storage.place_ahead(block, txg, &copy.bookmark());
            let Ok((bp, data)) = placed else {
                // Nothing names them, and the group is still open.
                ahead.into_iter().flatten().for_each(|a: AheadBlock| {
                    self.storage.unallocate_log(&a.into_pointer(), txg);
                });
                return Err(Error::NoSpace);
            };
            pointers.push(bp);
            ahead.push(data.is_some().then(|| AheadBlock::new(bp, &self.unused)));
            writes.extend(data.map(|data| (bp, data)));
        }
        // From here on the group's sync waits for us, and we for nothing but the device.
        self.in_flight[txg.slot()].fetch_add(1, Ordering::SeqCst);
        self.is_dirty[txg.slot()].store(true, Ordering::Release);
        drop(hold);
        self.counters.large.fetch_add(writes.len() as u64, Ordering::Relaxed);
        let result = if writes.is_empty() { Ok(()) } else { self.storage.write_ahead(writes, leaves) };
        for (copy, ahead) in copies.into_iter().zip(ahead) {
            if let Some(ahead) = ahead.filter(|_| result.is_ok()) {
                copy.leave(txg, ahead);
            }
        }
        self.in_flight[txg.slot()].fetch_sub(1, Ordering::SeqCst);
        self.landed.wake_all();
        result.map(|()| pointers)
    }
}

/// The record of a piece whose block lies at `bp`.
fn record_of(txg: Txg, piece: &WriteChange, bp: &BlkPtr) -> Result<Itx> {
    let WriteChange { object, offset, length, .. } = *piece;
    let record = Record::Write { object, offset, length, data: WriteData::Block(*bp) };
    Ok(Itx { txg, change: Change::Record(record.encode().ok_or(Error::Invalid)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_as_large_as_they_were_are_pointed_to() {
        let all = LargeRule { min: Some(0), whole_only: false };
        assert!(all.takes_piece(100, 4096, 4096));
        assert!(!all.takes_piece(4096, 8192, 4096), "the block has grown since");
        let usual = LargeRule { min: Some(LARGE_MIN), whole_only: true };
        assert!(usual.takes_piece(4096, 4096, 4096) && usual.takes_piece(LARGE_MIN, 128 << 10, 128 << 10));
        assert!(!usual.takes_piece(100, 4096, 4096));
        assert!(!usual.takes_piece(64 << 10, 64 << 10, 32 << 10));
    }
}
