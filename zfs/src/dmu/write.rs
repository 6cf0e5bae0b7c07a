//! Writing: changing blocks in a transaction.
//!
//! A whole block that is overwritten is not read and not copied: it gets fresh memory, which replaces the old content
//! only once the source has filled it. A part of a block is changed in place, after the pages it touches were
//! unshared from whoever still sees them (the cache, a group that syncs, readers, mappings).
use super::dbuf::{Content, Dbuf, State};
use super::dnode::Dnode;
use super::read::split;
use super::tx::DmuTx;
use crate::txg::Dirtied;
use crate::zio::Packed;
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use ondisk::Txg;
use ondisk::blkptr::MAX_BLOCK_SIZE;

/// Fills the pieces of what is written, in order.
pub(super) type Source<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<()>;

impl Dnode {
    /// Writes a range. `source` is called with each piece to fill, in order; it must not block. Gives the number of
    /// bytes written: less than `len` only when the source failed after something was written.
    ///
    /// # Errors
    /// The source's, when nothing was written; `Invalid` beyond the only block of an object whose block size is not a
    /// power of two; `NotFound` when the object is freed; `Io`, `Checksum`, `Damaged` when the rest of a partly
    /// written block cannot be read.
    pub fn write(&self, tx: &DmuTx, offset: u64, len: usize, source: Source<'_>) -> Result<usize> {
        let end = offset.checked_add(len as u64).ok_or(Error::TooLarge)?;
        self.mark_dirty(tx)?;
        let mut at = offset;
        while at < end {
            let size = u64::from(self.block_size());
            let result = match split(at, size) {
                None => Err(Error::Invalid),
                Some((blkid, within)) => {
                    let n = (size - within).min(end - at);
                    self.write_block(tx, blkid, (within as usize, n as usize), source).map(|()| n)
                }
            };
            match result {
                Ok(n) => at += n,
                Err(e) if at == offset => return Err(e),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// As [`Dnode::write`].
    pub fn write_slice(&self, tx: &DmuTx, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        let n = self.write(tx, offset, bytes.len(), &mut |piece| {
            let (now, later) = rest.split_at(piece.len());
            piece.copy_from_slice(now);
            rest = later;
            Ok(())
        })?;
        if n == bytes.len() { Ok(()) } else { Err(Error::Io) }
    }

    /// Changes a block as a whole: `change` sees its present content (zeroes for a hole) and leaves the new one, of
    /// the same length. When it fails, what it did stays done.
    ///
    /// # Errors
    /// `change`'s; `Invalid` when it changed the length; as [`Dnode::write`].
    pub fn modify_block(
        &self,
        tx: &DmuTx,
        blkid: u64,
        change: &mut dyn FnMut(&mut Abd) -> Result<()>,
    ) -> Result<()> {
        self.extend_to(tx, blkid)?;
        let size = self.block_size() as usize;
        self.with_data(blkid, |dbuf, state| {
            self.change_block(tx.txg(), dbuf, state)?;
            let mut abd = match core::mem::replace(&mut state.content, Content::Hole) {
                Content::Data(abd) => abd,
                Content::Hole | Content::Absent => Abd::zeroed(size),
            };
            let result = change(&mut abd);
            let is_length_kept = abd.len() == size;
            state.content = Content::Data(if is_length_kept { abd } else { Abd::zeroed(size) });
            result.and(if is_length_kept { Ok(()) } else { Err(Error::Invalid) })
        })
    }

    /// Replaces a block's content without reading it.
    ///
    /// # Errors
    /// `Invalid` when the length is not the block size; as [`Dnode::write`].
    pub fn set_block(&self, tx: &DmuTx, blkid: u64, content: Abd) -> Result<()> {
        self.extend_to(tx, blkid)?;
        if content.len() != self.block_size() as usize {
            return Err(Error::Invalid);
        }
        self.with_buffer(blkid, |dbuf, state| {
            self.change_block(tx.txg(), dbuf, state)?;
            state.content = Content::Data(content);
            Ok(())
        })
    }

    /// Replaces a block's content, and has it stored in a compressed form that the caller has of it. What changes the
    /// block again in the same group makes it an ordinary one.
    ///
    /// # Errors
    /// As [`Dnode::set_block`].
    pub(crate) fn set_block_packed(
        &self,
        tx: &DmuTx,
        blkid: u64,
        content: Abd,
        packed: Packed,
    ) -> Result<()> {
        self.extend_to(tx, blkid)?;
        let size = self.block_size() as usize;
        if content.len() != size || !self.storage.can_keep(packed.compression, packed.data.len(), size) {
            return Err(Error::Invalid);
        }
        self.with_buffer(blkid, |dbuf, state| {
            self.change_block(tx.txg(), dbuf, state)?;
            state.content = Content::Data(content);
            state.set_packed(tx.txg(), packed);
            Ok(())
        })
    }

    fn write_block(
        &self,
        tx: &DmuTx,
        blkid: u64,
        (within, n): (usize, usize),
        source: Source<'_>,
    ) -> Result<()> {
        self.extend_to(tx, blkid)?;
        let size = self.block_size() as usize;
        if within + n > size {
            return Err(Error::Invalid);
        }
        if n == size {
            return self.with_buffer(blkid, |dbuf, state| self.overwrite(tx.txg(), dbuf, state, source));
        }
        self.with_data(blkid, |dbuf, state| {
            self.change_block(tx.txg(), dbuf, state)?;
            if !matches!(&state.content, Content::Data(abd) if abd.len() == size) {
                state.content = Content::Data(Abd::zeroed(size));
            }
            let Content::Data(abd) = &mut state.content else { return Err(Error::Invalid) };
            let mut result = Ok(());
            abd.modify(within..within + n, |_, piece| {
                if result.is_ok() {
                    result = source(piece);
                }
            });
            result
        })
    }

    /// Writes a whole block.
    fn overwrite(&self, txg: Txg, dbuf: &Arc<Dbuf>, state: &mut State, source: Source<'_>) -> Result<()> {
        let size = self.block_size() as usize;
        let is_own = state.newest_change() == Some(txg);
        let in_place = match &mut state.content {
            Content::Data(abd) if is_own && abd.len() == size => {
                core::mem::replace(abd, Abd::empty()).try_into_mut()
            }
            _ => Err(Abd::empty()),
        };
        // Nobody else sees a unique buffer: half-filled is what the caller of a failing source gets.
        let (mut fresh, is_in_place) = match in_place {
            Ok(unique) => (unique, true),
            Err(shared) => {
                if !shared.is_empty() {
                    state.content = Content::Data(shared);
                }
                (AbdMut::zeroed(size), false)
            }
        };
        let filled = fresh.chunks_mut().try_for_each(&mut *source);
        if is_in_place || filled.is_ok() {
            self.change_block(txg, dbuf, state)?;
            state.content = Content::Data(fresh.freeze());
        }
        filled
    }

    /// As [`Dnode::with_data`], without finding out the content first.
    pub(super) fn with_buffer<R>(
        &self,
        blkid: u64,
        work: impl FnOnce(&Arc<Dbuf>, &mut State) -> Result<R>,
    ) -> Result<R> {
        loop {
            let dbuf = self.dbuf(0, blkid);
            let mut state = dbuf.state.lock();
            if state.is_gone {
                continue;
            }
            let result = work(&dbuf, &mut state);
            self.discard_if_empty(&dbuf, state);
            return result;
        }
    }

    /// Notes that a (locked) data block is changed in `txg`.
    pub(super) fn change_block(&self, txg: Txg, dbuf: &Arc<Dbuf>, state: &mut State) -> Result<()> {
        let what = match state.content {
            Content::Data(_) => Dirtied::Rewritten,
            Content::Hole | Content::Absent => Dirtied::New,
        };
        let is_new = state.change_in(txg)?;
        if is_new {
            self.dirty_blocks.lock()[txg.slot()].push(dbuf.clone());
        }
        let clone = state.end_clone(txg);
        if let Some(bp) = &clone {
            self.drop_clone(txg, bp);
        }
        if is_new || clone.is_some() {
            self.count_dirty(txg, u64::from(self.block_size()), what);
        }
        Ok(())
    }

    /// Accounts for dirty bytes, as long as the object set is open.
    fn count_dirty(&self, txg: Txg, bytes: u64, what: Dirtied) {
        if let Ok(objset) = self.objset() {
            objset.txgs().add_dirty(txg, bytes, what);
            objset.promise_dirty(txg, |worst| worst.dirty_block(bytes));
        }
    }

    /// Makes `blkid` one of the object's blocks.
    pub(super) fn extend_to(&self, tx: &DmuTx, blkid: u64) -> Result<()> {
        self.mark_dirty(tx)?;
        let size = self.block_size();
        if blkid > 0 && !size.is_power_of_two() {
            return Err(Error::Invalid);
        }
        if blkid <= self.max_blkid() {
            return Ok(());
        }
        // Offsets are 64 bits: a block beyond them could be made but never reached.
        if blkid.checked_add(1).and_then(|n| n.checked_mul(u64::from(size))).is_none() {
            return Err(Error::TooLarge);
        }
        self.change_open(tx, |open| {
            if blkid > open.max_blkid {
                open.max_blkid = blkid;
                self.store_max_blkid(blkid);
            }
            Ok(())
        })
    }

    /// Changes the block size (and, with `indirect_shift` not 0, that of indirect blocks, which only an object without
    /// any block can). What the only block holds is kept, cut or padded with zeroes.
    ///
    /// # Errors
    /// `Invalid` when the object has more than one block, or for sizes no block has.
    pub fn set_block_size(&self, tx: &DmuTx, bytes: u32, indirect_shift: u8) -> Result<()> {
        if bytes == 0 || !bytes.is_multiple_of(512) || bytes > MAX_BLOCK_SIZE {
            return Err(Error::Invalid);
        }
        self.set_indirect_shift(tx, indirect_shift)?;
        let before = self.block_size();
        if self.max_blkid() > 0 {
            return if before == bytes { Ok(()) } else { Err(Error::Invalid) };
        }
        if before == bytes {
            return Ok(());
        }
        self.mark_dirty(tx)?;
        let is_empty = self.with_data(0, |_, state| Ok(matches!(state.content, Content::Hole)))?;
        if is_empty {
            return self.store_size(tx, bytes);
        }
        self.with_data(0, |dbuf, state| {
            self.change_block(tx.txg(), dbuf, state)?;
            let mut fresh = AbdMut::zeroed(bytes as usize);
            if let Content::Data(old) = &state.content {
                let mut at = 0;
                for chunk in old.chunks_of(0..old.len().min(bytes as usize)) {
                    fresh.write_at(at, chunk);
                    at += chunk.len();
                }
            }
            state.content = Content::Data(fresh.freeze());
            Ok(())
        })?;
        self.store_size(tx, bytes)
    }

    fn store_size(&self, tx: &DmuTx, bytes: u32) -> Result<()> {
        self.change_open(tx, |open| {
            open.block_size = bytes;
            self.store_block_size(bytes);
            Ok(())
        })
    }

    fn set_indirect_shift(&self, tx: &DmuTx, shift: u8) -> Result<()> {
        if shift == 0 || shift == self.indirect_shift() {
            return Ok(());
        }
        let is_possible = (ondisk::dnode::INDIRECT_SHIFT_MIN..=ondisk::dnode::INDIRECT_SHIFT_MAX)
            .contains(&shift)
            && self.max_blkid() == 0
            && self.phys.lock().core.levels == 1;
        if !is_possible {
            return Err(Error::Invalid);
        }
        self.change_open(tx, |open| {
            open.indirect_shift = shift;
            Ok(())
        })
    }
}
