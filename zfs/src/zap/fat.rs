//! The fat form: a header block, a table of pointers indexed by the top bits of the hash, and leaf blocks.
//!
//! Several table entries may name one leaf: as many as the table has more bits than the leaf's prefix. A full leaf is
//! split in two by one more bit; when the leaf already has as many bits as the table, the table doubles first, in one
//! step: the doubled table goes to new blocks and the header then names them, so a table that grows a block at a time
//! (`nextblk`, as OpenZFS does it) is never left behind by us. One found on disk is given up: its blocks are copies.
//!
//! The first half of the table's life is inside the header block (`numblks` 0).
use super::blocks::Blocks;
use super::hash::{Key, hash_bits};
use super::leaf::{Leaf, LeafEntry, format_leaf};
use super::value::ZapValue;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::zap::{RawZapHeader, ZAP_MAGIC, ZBT_HEADER, ZapFlags};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const POINTER_SIZE: usize = 8;
/// log2 of the largest table we open: 2^32 leaves of at least 1 KiB are more than any pool of ours holds.
const TABLE_SHIFT_MAX: u64 = 32;

/// The header, kept in memory; it is written through at every change.
#[derive(Debug)]
pub(super) struct Fat {
    header: RawZapHeader,
    pub(super) flags: ZapFlags,
}

/// Makes block 0 a header with one empty leaf in block 1.
pub(super) fn format_fat<B: Blocks>(
    blocks: &B,
    tx: &B::Tx,
    salt: u64,
    normflags: u64,
    flags: ZapFlags,
) -> Result<Fat> {
    let block_size = blocks.block_size();
    if !block_size.is_power_of_two() || block_size < 1024 {
        return Err(Error::Invalid);
    }
    let mut header = RawZapHeader::new_zeroed();
    header.block_type.set(ZBT_HEADER);
    header.magic.set(ZAP_MAGIC);
    header.ptrtbl.shift.set(embedded_shift(block_size));
    header.freeblk.set(2);
    header.num_leafs.set(1);
    header.salt.set(salt);
    header.normflags.set(normflags);
    header.flags.set(flags.bits());
    blocks.modify(tx, 0, &mut |bytes| {
        bytes.fill(0);
        let (_, table) = bytes.split_at_mut(block_size / 2);
        table.chunks_exact_mut(POINTER_SIZE).for_each(|p| p.copy_from_slice(&1u64.to_le_bytes()));
        header.write_to_prefix(bytes).map_err(|_| Error::Invalid)
    })?;
    blocks.modify(tx, 1, &mut |bytes| format_leaf(bytes, 0, 0))?;
    Ok(Fat { header, flags })
}

fn embedded_shift(block_size: usize) -> u64 {
    u64::from(block_size.trailing_zeros()).saturating_sub(4)
}

impl Fat {
    /// Checks a header block.
    pub(super) fn open(bytes: &[u8]) -> Result<Self> {
        let (header, _) = RawZapHeader::read_from_prefix(bytes).map_err(|_| Error::Damaged)?;
        let flags = ZapFlags::from_bits_retain(header.flags.get());
        let table = &header.ptrtbl;
        let (shift, nr_blocks) = (table.shift.get(), table.numblks.get());
        let is_header = header.block_type.get() == ZBT_HEADER && header.magic.get() == ZAP_MAGIC;
        let is_shift_ok = bytes.len().is_power_of_two()
            && bytes.len() >= 1024
            && shift <= TABLE_SHIFT_MAX
            && shift <= u64::from(hash_bits(flags));
        if !is_header || !is_shift_ok {
            return Err(Error::Damaged);
        }
        let is_size_ok = match nr_blocks {
            0 => shift == embedded_shift(bytes.len()),
            n => n.checked_mul(bytes.len() as u64) == Some((POINTER_SIZE as u64) << shift),
        };
        if is_size_ok { Ok(Self { header, flags }) } else { Err(Error::Damaged) }
    }

    pub(super) fn salt(&self) -> u64 {
        self.header.salt.get()
    }

    pub(super) fn normflags(&self) -> u64 {
        self.header.normflags.get()
    }

    pub(super) fn len(&self) -> u64 {
        self.header.num_entries.get()
    }

    fn key_int_size(&self) -> usize {
        if self.flags.contains(ZapFlags::UINT64_KEY) { 8 } else { 1 }
    }

    /// The value under `key`.
    pub(super) fn lookup<B: Blocks>(&self, blocks: &B, key: &Key<'_>) -> Result<ZapValue> {
        let hash = key.hash(self.salt(), self.flags, self.normflags());
        let leaf = blocks.block(self.leaf_of(blocks, hash)?)?;
        Leaf::open(leaf.to_contiguous().as_ref())?.lookup(key, hash)
    }

    /// The entries of the leaf that holds `hash`, sorted for cursors, and the first hash after that leaf.
    pub(super) fn leaf_entries<B: Blocks>(
        &self,
        blocks: &B,
        hash: u64,
    ) -> Result<(Vec<LeafEntry>, Option<u64>)> {
        let block = blocks.block(self.leaf_of(blocks, hash)?)?;
        let bytes = block.to_contiguous();
        let leaf = Leaf::open(bytes.as_ref())?;
        let header = leaf.header()?;
        let prefix_len = u32::from(header.prefix_len.get());
        let mut entries = leaf.entries(self.key_int_size())?;
        entries.sort_by_key(|e| (e.hash, e.cd));
        if prefix_len == 0 {
            return Ok((entries, None));
        }
        // The leaf says which hashes it holds; they must include the one that led here, or iteration would loop.
        let prefix = hash >> (64 - prefix_len);
        if header.prefix.get() != prefix {
            return Err(Error::Damaged);
        }
        let is_last = prefix == u64::MAX >> (64 - prefix_len);
        Ok((entries, (!is_last).then(|| (prefix + 1) << (64 - prefix_len))))
    }

    /// Adds an entry that is not there yet. `cd` as in [`Leaf::insert`].
    pub(super) fn insert<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        key: &Key<'_>,
        value: &ZapValue,
        cd: Option<u32>,
    ) -> Result<()> {
        let hash = key.hash(self.salt(), self.flags, self.normflags());
        let fits = Leaf::chunks_needed(key, value.stored()?.len());
        self.with_room(blocks, tx, hash, fits, &mut |leaf| leaf.insert(key, hash, cd, value))?;
        self.change_header(blocks, tx, |h| h.num_entries.set(h.num_entries.get() + 1))
    }

    /// Replaces a value.
    pub(super) fn update<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        key: &Key<'_>,
        value: &ZapValue,
    ) -> Result<()> {
        let hash = key.hash(self.salt(), self.flags, self.normflags());
        let fits = Leaf::chunks_needed(key, value.stored()?.len());
        self.with_room(blocks, tx, hash, fits, &mut |leaf| leaf.update(key, hash, value))
    }

    /// Removes an entry.
    pub(super) fn remove<B: Blocks>(&mut self, blocks: &B, tx: &B::Tx, key: &Key<'_>) -> Result<()> {
        let hash = key.hash(self.salt(), self.flags, self.normflags());
        let blkid = self.leaf_of(blocks, hash)?;
        blocks.modify(tx, blkid, &mut |bytes| Leaf::open(bytes)?.remove(key, hash))?;
        self.change_header(blocks, tx, |h| h.num_entries.set(h.num_entries.get().saturating_sub(1)))
    }

    /// Calls `change` on the leaf for `hash`, splitting it as long as `change` finds no room.
    fn with_room<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        hash: u64,
        chunks_needed: usize,
        change: &mut dyn FnMut(&mut Leaf<&mut [u8]>) -> Result<bool>,
    ) -> Result<()> {
        let block_shift = blocks.block_size().trailing_zeros();
        if chunks_needed > ondisk::zap::leaf_chunks(block_shift) {
            return Err(Error::TooLarge);
        }
        // Each round uses up one more bit of the hash.
        for _ in 0..=hash_bits(self.flags) {
            let blkid = self.leaf_of(blocks, hash)?;
            let mut is_done = false;
            blocks.modify(tx, blkid, &mut |bytes| {
                is_done = change(&mut Leaf::open(bytes)?)?;
                Ok(())
            })?;
            if is_done {
                return Ok(());
            }
            self.split(blocks, tx, hash, blkid)?;
        }
        Err(Error::NoSpace)
    }

    /// Moves the upper half of a leaf's hashes to a new leaf.
    fn split<B: Blocks>(&mut self, blocks: &B, tx: &B::Tx, hash: u64, blkid: u64) -> Result<()> {
        let block = blocks.block(blkid)?;
        let bytes = block.to_contiguous();
        let old = Leaf::open(bytes.as_ref())?;
        let (prefix_len, entries) = (old.prefix_len()? + 1, old.entries(self.key_int_size())?);
        if prefix_len > hash_bits(self.flags) {
            return Err(Error::NoSpace);
        }
        if u64::from(prefix_len) > self.header.ptrtbl.shift.get() {
            self.grow_table(blocks, tx)?;
        }
        let lower = hash >> (64 - prefix_len) & !1;
        let sibling = self.allocate(1)?;
        let (low, high): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|e| e.hash >> (64 - prefix_len) & 1 == 0);
        for (blkid, prefix, entries) in [(sibling, lower | 1, high), (blkid, lower, low)] {
            blocks.modify(tx, blkid, &mut |bytes| {
                fill(bytes, prefix, prefix_len, &entries, self.key_int_size())
            })?;
        }
        let spread = self.header.ptrtbl.shift.get() - u64::from(prefix_len);
        let first = (lower | 1) << spread;
        self.set_pointers(blocks, tx, first, 1 << spread, sibling)?;
        self.change_header(blocks, tx, |h| h.num_leafs.set(h.num_leafs.get() + 1))
    }

    /// Doubles the table.
    fn grow_table<B: Blocks>(&mut self, blocks: &B, tx: &B::Tx) -> Result<()> {
        let block_size = blocks.block_size();
        let table = self.header.ptrtbl;
        let shift = table.shift.get() + 1;
        if shift > TABLE_SHIFT_MAX || shift > u64::from(hash_bits(self.flags)) {
            return Err(Error::NoSpace);
        }
        let nr_new = if table.numblks.get() == 0 { 1 } else { table.numblks.get() * 2 };
        let first_new = self.allocate(nr_new)?;
        let per_block = block_size / POINTER_SIZE;
        for nr in 0..nr_new {
            let first = nr * per_block as u64 / 2;
            let mut pointers = Vec::with_capacity(per_block / 2);
            for index in first..first + per_block as u64 / 2 {
                pointers.push(self.pointer(blocks, index)?);
            }
            blocks.modify(tx, first_new + nr, &mut |bytes| {
                for (pair, pointer) in bytes.chunks_exact_mut(2 * POINTER_SIZE).zip(&pointers) {
                    pair[..POINTER_SIZE].copy_from_slice(&pointer.to_le_bytes());
                    pair[POINTER_SIZE..].copy_from_slice(&pointer.to_le_bytes());
                }
                Ok(())
            })?;
        }
        self.header.ptrtbl.blk.set(first_new);
        self.header.ptrtbl.numblks.set(nr_new);
        self.header.ptrtbl.shift.set(shift);
        self.give_up_growth();
        if table.numblks.get() != 0 {
            blocks.free(tx, table.blk.get(), table.numblks.get())?;
        }
        blocks.modify(tx, 0, &mut |bytes| {
            if table.numblks.get() == 0 {
                bytes[block_size / 2..].fill(0);
            }
            Ok(())
        })
    }

    fn give_up_growth(&mut self) {
        self.header.ptrtbl.nextblk.set(0);
        self.header.ptrtbl.blks_copied.set(0);
    }

    /// Hands out new blocks at the object's end.
    fn allocate(&mut self, nr_blocks: u64) -> Result<u64> {
        let first = self.header.freeblk.get();
        let next = first.checked_add(nr_blocks).filter(|n| *n < 1 << 40).ok_or(Error::Damaged)?;
        self.header.freeblk.set(next);
        Ok(first)
    }

    fn leaf_of<B: Blocks>(&self, blocks: &B, hash: u64) -> Result<u64> {
        let shift = self.header.ptrtbl.shift.get();
        let index = if shift == 0 { 0 } else { hash >> (64 - shift) };
        let blkid = self.pointer(blocks, index)?;
        // Block 0 is the header, and a leaf lies before the next block to hand out.
        if blkid == 0 || blkid >= self.header.freeblk.get() { Err(Error::Damaged) } else { Ok(blkid) }
    }

    fn pointer<B: Blocks>(&self, blocks: &B, index: u64) -> Result<u64> {
        let (blkid, at) = self.pointer_place(blocks.block_size(), index);
        let mut bytes = [0; POINTER_SIZE];
        let block = blocks.block(blkid)?;
        if at + POINTER_SIZE > block.len() {
            return Err(Error::Damaged);
        }
        block.read_at(at, &mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn pointer_place(&self, block_size: usize, index: u64) -> (u64, usize) {
        let table = &self.header.ptrtbl;
        let per_block = (block_size / POINTER_SIZE) as u64;
        if table.numblks.get() == 0 {
            return (0, block_size / 2 + index as usize % (block_size / 2 / POINTER_SIZE) * POINTER_SIZE);
        }
        (table.blk.get().saturating_add(index / per_block), (index % per_block) as usize * POINTER_SIZE)
    }

    fn set_pointers<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        first: u64,
        nr: u64,
        leaf: u64,
    ) -> Result<()> {
        self.give_up_growth();
        let block_size = blocks.block_size();
        let mut index = first;
        while index < first + nr {
            let (blkid, from) = self.pointer_place(block_size, index);
            let room = ((block_size - from) / POINTER_SIZE) as u64;
            let here = room.min(first + nr - index);
            blocks.modify(tx, blkid, &mut |bytes| {
                let end = from + here as usize * POINTER_SIZE;
                let table = bytes.get_mut(from..end).ok_or(Error::Damaged)?;
                table.chunks_exact_mut(POINTER_SIZE).for_each(|p| p.copy_from_slice(&leaf.to_le_bytes()));
                Ok(())
            })?;
            index += here;
        }
        Ok(())
    }

    fn change_header<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        change: impl FnOnce(&mut RawZapHeader),
    ) -> Result<()> {
        change(&mut self.header);
        let header = self.header;
        blocks.modify(tx, 0, &mut |bytes| header.write_to_prefix(bytes).map_err(|_| Error::Damaged))
    }
}

/// Formats a leaf and fills it with entries that came out of one of the same size.
fn fill(
    bytes: &mut [u8],
    prefix: u64,
    prefix_len: u32,
    entries: &[LeafEntry],
    key_int_size: usize,
) -> Result<()> {
    format_leaf(bytes, prefix, prefix_len)?;
    let mut leaf = Leaf::open(bytes)?;
    for entry in entries {
        let is_in = match key_int_size {
            8 => {
                let words: Vec<u64> = words_of(&entry.key);
                leaf.insert(&Key::Words(&words), entry.hash, Some(entry.cd), &entry.value)?
            }
            _ => {
                let name = entry.key.strip_suffix(&[0]).ok_or(Error::Damaged)?;
                leaf.insert(&Key::Name(name), entry.hash, Some(entry.cd), &entry.value)?
            }
        };
        if !is_in {
            return Err(Error::Damaged);
        }
    }
    Ok(())
}

/// Words from their stored form.
pub(super) fn words_of(stored: &[u8]) -> Vec<u64> {
    let word = |piece: &[u8]| piece.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte));
    stored.chunks_exact(8).map(word).collect()
}
