//! One leaf block of a fat ZAP: a hash table of chains of entries, made of 24-byte chunks.
//!
//! Everything here works on the bytes of one block. Invariants of a block we wrote: `nfree` counts the free list,
//! `nentries` the entries in chains, every chunk is in exactly one chain or the free list, chains are sorted by
//! collision differentiator, and a differentiator is unique among entries of equal hash (cursors depend on it).
//! A block from disk may break all of them: every chunk index is checked and every walk is bounded by the number of
//! chunks, so that a loop in a damaged chain ends with an error.
use super::hash::Key;
use super::value::ZapValue;
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::zap::{
    CHAIN_END, CHUNK_ARRAY, CHUNK_ARRAY_BYTES, CHUNK_ENTRY, CHUNK_FREE, CHUNK_SIZE, LEAF_CD_SORTED,
    LEAF_HEADER_SIZE, LEAF_MAGIC, RawLeafArray, RawLeafEntry, RawLeafFree, RawLeafHeader, ZBT_LEAF,
    leaf_chunks, leaf_chunks_offset, leaf_hash_entries, leaf_hash_shift,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A leaf to look at (`B = &[u8]`) or to change (`B = &mut [u8]`).
#[derive(Debug)]
pub(super) struct Leaf<B> {
    bytes: B,
    block_shift: u32,
}

/// An entry, decoded as far as iteration needs it.
#[derive(Clone, Debug)]
pub(super) struct LeafEntry {
    pub(super) hash: u64,
    pub(super) cd: u32,
    /// As stored: a name with its NUL, or big-endian words.
    pub(super) key: Vec<u8>,
    pub(super) value: ZapValue,
}

impl<B: AsRef<[u8]>> Leaf<B> {
    /// Checks that the block is a leaf.
    pub(super) fn open(bytes: B) -> Result<Self> {
        let len = bytes.as_ref().len();
        if !len.is_power_of_two() || len < 1024 {
            return Err(Error::Damaged);
        }
        let leaf = Self { bytes, block_shift: len.trailing_zeros() };
        let header = leaf.header()?;
        let is_leaf = header.block_type.get() == ZBT_LEAF && header.magic.get() == LEAF_MAGIC;
        if !is_leaf || header.prefix_len.get() > 63 {
            return Err(Error::Damaged);
        }
        Ok(leaf)
    }

    pub(super) fn header(&self) -> Result<RawLeafHeader> {
        let (header, _) = RawLeafHeader::read_from_prefix(self.bytes.as_ref()).map_err(|_| Error::Damaged)?;
        Ok(header)
    }

    /// How many leading bits of a hash all entries of this leaf share.
    pub(super) fn prefix_len(&self) -> Result<u32> {
        Ok(u32::from(self.header()?.prefix_len.get()))
    }

    /// The value under `key`.
    pub(super) fn lookup(&self, key: &Key<'_>, hash: u64) -> Result<ZapValue> {
        let (_, entry) = self.find(key, hash)?;
        self.value(&entry)
    }

    /// All entries, in no order. `key_int_size` is the ZAP's: 1 for names, 8 for words.
    pub(super) fn entries(&self, key_int_size: usize) -> Result<Vec<LeafEntry>> {
        let nr_chunks = leaf_chunks(self.block_shift);
        let mut all = Vec::with_capacity(usize::from(self.header()?.nentries.get()).min(nr_chunks));
        for bucket in 0..leaf_hash_entries(self.block_shift) {
            let mut at = self.bucket(bucket)?;
            let mut nr_seen = 0;
            while at != CHAIN_END {
                nr_seen += 1;
                if nr_seen > nr_chunks || all.len() > nr_chunks {
                    return Err(Error::Damaged);
                }
                let entry = self.entry(at)?;
                let value = self.value(&entry)?;
                let key_len = usize::from(entry.name_numints.get()) * key_int_size;
                let key = self.array(entry.name_chunk.get(), key_len)?;
                all.push(LeafEntry { hash: entry.hash.get(), cd: entry.cd.get(), key, value });
                at = entry.next.get();
            }
        }
        Ok(all)
    }

    /// The chunk and content of the entry under `key`.
    fn find(&self, key: &Key<'_>, hash: u64) -> Result<(u16, RawLeafEntry)> {
        let mut at = self.bucket(self.bucket_of(hash)?)?;
        for _ in 0..leaf_chunks(self.block_shift) {
            if at == CHAIN_END {
                return Err(Error::NotFound);
            }
            let entry = self.entry(at)?;
            if entry.hash.get() == hash && self.is_key(&entry, key)? {
                return Ok((at, entry));
            }
            at = entry.next.get();
        }
        Err(Error::Damaged)
    }

    fn is_key(&self, entry: &RawLeafEntry, key: &Key<'_>) -> Result<bool> {
        if usize::from(entry.name_numints.get()) != key.nr_ints() {
            return Ok(false);
        }
        match key {
            // The common case, compared in place: no allocation per lookup.
            Key::Name(name) => self.is_name(entry.name_chunk.get(), name),
            Key::Words(_) => {
                let len = key.nr_ints() * key.int_size();
                Ok(self.array(entry.name_chunk.get(), len)? == key.stored())
            }
        }
    }

    fn is_name(&self, chunk: u16, name: &[u8]) -> Result<bool> {
        let mut at = chunk;
        for piece in name.chunks(CHUNK_ARRAY_BYTES) {
            let array: &RawLeafArray = self.chunk(at)?;
            if array.tag != CHUNK_ARRAY {
                return Err(Error::Damaged);
            }
            if !array.bytes.starts_with(piece) {
                return Ok(false);
            }
            at = array.next.get();
        }
        Ok(true)
    }

    fn value(&self, entry: &RawLeafEntry) -> Result<ZapValue> {
        let len = usize::from(entry.value_intlen) * usize::from(entry.value_numints.get());
        ZapValue::from_stored(entry.value_intlen, &self.array(entry.value_chunk.get(), len)?)
    }

    /// The first `len` bytes of an array.
    fn array(&self, chunk: u16, len: usize) -> Result<Vec<u8>> {
        let nr_chunks = len.div_ceil(CHUNK_ARRAY_BYTES);
        if nr_chunks > leaf_chunks(self.block_shift) {
            return Err(Error::Damaged);
        }
        let mut out = Vec::with_capacity(nr_chunks * CHUNK_ARRAY_BYTES);
        let mut at = chunk;
        for _ in 0..nr_chunks {
            let array: &RawLeafArray = self.chunk(at)?;
            if array.tag != CHUNK_ARRAY {
                return Err(Error::Damaged);
            }
            out.extend_from_slice(&array.bytes);
            at = array.next.get();
        }
        out.truncate(len);
        Ok(out)
    }

    fn entry(&self, at: u16) -> Result<RawLeafEntry> {
        let entry: &RawLeafEntry = self.chunk(at)?;
        if entry.tag == CHUNK_ENTRY { Ok(*entry) } else { Err(Error::Damaged) }
    }

    fn chunk<T: FromBytes + KnownLayout + Immutable + zerocopy::Unaligned>(&self, at: u16) -> Result<&T> {
        let start = self.chunk_offset(at)?;
        let bytes = self.bytes.as_ref().get(start..start + CHUNK_SIZE).ok_or(Error::Damaged)?;
        T::ref_from_bytes(bytes).map_err(|_| Error::Damaged)
    }

    fn chunk_offset(&self, at: u16) -> Result<usize> {
        if usize::from(at) >= leaf_chunks(self.block_shift) {
            return Err(Error::Damaged);
        }
        Ok(leaf_chunks_offset(self.block_shift) + usize::from(at) * CHUNK_SIZE)
    }

    fn bucket_of(&self, hash: u64) -> Result<usize> {
        let shift = 64 - leaf_hash_shift(self.block_shift) as i64 - i64::from(self.prefix_len()?);
        let index = if shift >= 0 { hash >> shift } else { hash << -shift };
        Ok(index as usize & (leaf_hash_entries(self.block_shift) - 1))
    }

    fn bucket(&self, bucket: usize) -> Result<u16> {
        let at = LEAF_HEADER_SIZE + 2 * bucket;
        let bytes = self.bytes.as_ref().get(at..at + 2).ok_or(Error::Damaged)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

/// Makes `bytes` an empty leaf.
pub(super) fn format_leaf(bytes: &mut [u8], prefix: u64, prefix_len: u32) -> Result<()> {
    let block_shift = bytes.len().trailing_zeros();
    bytes.fill(0);
    let mut header = RawLeafHeader::new_zeroed();
    header.block_type.set(ZBT_LEAF);
    header.magic.set(LEAF_MAGIC);
    header.prefix.set(prefix);
    header.prefix_len.set(u16::try_from(prefix_len).map_err(|_| Error::Invalid)?);
    header.flags = LEAF_CD_SORTED;
    header.write_to_prefix(bytes).map_err(|_| Error::Invalid)?;
    let mut leaf = Leaf { bytes, block_shift };
    leaf.clear()
}

impl Leaf<&mut [u8]> {
    /// Chunks that an entry takes.
    pub(super) fn chunks_needed(key: &Key<'_>, value_len: usize) -> usize {
        let key_len = key.nr_ints() * key.int_size();
        1 + key_len.div_ceil(CHUNK_ARRAY_BYTES) + value_len.div_ceil(CHUNK_ARRAY_BYTES)
    }

    /// Adds an entry; false when the leaf has no room (nothing is changed then).
    ///
    /// `cd` is chosen, or the given one (when entries move between blocks).
    pub(super) fn insert(
        &mut self,
        key: &Key<'_>,
        hash: u64,
        cd: Option<u32>,
        value: &ZapValue,
    ) -> Result<bool> {
        let stored = value.stored()?;
        if Self::chunks_needed(key, stored.len()) > usize::from(self.header()?.nfree.get()) {
            return Ok(false);
        }
        let cd = match cd {
            Some(cd) => cd,
            None => self.free_cd(hash)?,
        };
        let name_chunk = self.store_array(&key.stored())?;
        let value_chunk = self.store_array(&stored)?;
        let at = self.allocate()?;
        let mut entry = RawLeafEntry::new_zeroed();
        entry.tag = CHUNK_ENTRY;
        entry.value_intlen = value.int_size;
        entry.name_chunk.set(name_chunk);
        entry.name_numints.set(u16::try_from(key.nr_ints()).map_err(|_| Error::NameTooLong)?);
        entry.value_chunk.set(value_chunk);
        entry.value_numints.set(u16::try_from(value.ints.len()).map_err(|_| Error::TooLarge)?);
        entry.cd.set(cd);
        entry.hash.set(hash);
        self.link(at, entry)?;
        self.change_header(|h| h.nentries.set(h.nentries.get() + 1))?;
        Ok(true)
    }

    /// Replaces the value under `key`; false when the leaf has no room (nothing is changed then).
    pub(super) fn update(&mut self, key: &Key<'_>, hash: u64, value: &ZapValue) -> Result<bool> {
        let (at, mut entry) = self.find(key, hash)?;
        let stored = value.stored()?;
        let old_len = usize::from(entry.value_intlen) * usize::from(entry.value_numints.get());
        let old_chunks = old_len.div_ceil(CHUNK_ARRAY_BYTES);
        let free = usize::from(self.header()?.nfree.get()) + old_chunks;
        if stored.len().div_ceil(CHUNK_ARRAY_BYTES) > free {
            return Ok(false);
        }
        self.free_array(entry.value_chunk.get(), old_chunks)?;
        entry.value_chunk.set(self.store_array(&stored)?);
        entry.value_intlen = value.int_size;
        entry.value_numints.set(u16::try_from(value.ints.len()).map_err(|_| Error::TooLarge)?);
        self.put(at, &entry)?;
        Ok(true)
    }

    /// Removes the entry under `key`.
    pub(super) fn remove(&mut self, key: &Key<'_>, hash: u64) -> Result<()> {
        let (at, entry) = self.find(key, hash)?;
        self.unlink(at, &entry)?;
        let key_len = key.nr_ints() * key.int_size();
        let value_len = usize::from(entry.value_intlen) * usize::from(entry.value_numints.get());
        self.free_array(entry.name_chunk.get(), key_len.div_ceil(CHUNK_ARRAY_BYTES))?;
        self.free_array(entry.value_chunk.get(), value_len.div_ceil(CHUNK_ARRAY_BYTES))?;
        self.release(at)?;
        self.change_header(|h| h.nentries.set(h.nentries.get().saturating_sub(1)))
    }

    /// Empties the hash table and puts every chunk on the free list.
    fn clear(&mut self) -> Result<()> {
        let nr_chunks = leaf_chunks(self.block_shift);
        let table = LEAF_HEADER_SIZE..LEAF_HEADER_SIZE + 2 * leaf_hash_entries(self.block_shift);
        self.bytes.get_mut(table).ok_or(Error::Damaged)?.fill(0xff);
        for chunk in 0..nr_chunks {
            let mut free = RawLeafFree::new_zeroed();
            free.tag = CHUNK_FREE;
            free.next.set(if chunk + 1 < nr_chunks { chunk as u16 + 1 } else { CHAIN_END });
            self.put(chunk as u16, &free)?;
        }
        self.change_header(|h| {
            h.nfree.set(nr_chunks as u16);
            h.nentries.set(0);
            h.freelist.set(0);
        })
    }

    /// The lowest differentiator that no entry of this hash has.
    fn free_cd(&self, hash: u64) -> Result<u32> {
        let mut at = self.bucket(self.bucket_of(hash)?)?;
        let mut cd = 0;
        for _ in 0..=leaf_chunks(self.block_shift) {
            if at == CHAIN_END {
                return Ok(cd);
            }
            let entry = self.entry(at)?;
            // Chains are sorted by differentiator, so the first gap is free.
            if entry.hash.get() == hash {
                if entry.cd.get() > cd {
                    return Ok(cd);
                }
                cd = entry.cd.get().checked_add(1).ok_or(Error::NoSpace)?;
            }
            at = entry.next.get();
        }
        Err(Error::Damaged)
    }

    /// Puts an entry into its chain, which stays sorted by differentiator.
    fn link(&mut self, at: u16, mut entry: RawLeafEntry) -> Result<()> {
        let bucket = self.bucket_of(entry.hash.get())?;
        let (mut before, mut next) = (CHAIN_END, self.bucket(bucket)?);
        for _ in 0..leaf_chunks(self.block_shift) {
            if next == CHAIN_END {
                break;
            }
            let other = self.entry(next)?;
            if other.cd.get() > entry.cd.get() {
                break;
            }
            before = next;
            next = other.next.get();
        }
        entry.next.set(next);
        self.put(at, &entry)?;
        self.set_next(bucket, before, at)
    }

    fn unlink(&mut self, at: u16, entry: &RawLeafEntry) -> Result<()> {
        let bucket = self.bucket_of(entry.hash.get())?;
        let (mut before, mut next) = (CHAIN_END, self.bucket(bucket)?);
        for _ in 0..leaf_chunks(self.block_shift) {
            if next == at {
                return self.set_next(bucket, before, entry.next.get());
            }
            before = next;
            next = self.entry(next)?.next.get();
        }
        Err(Error::Damaged)
    }

    /// Makes `at` follow `before` (the bucket itself, when that is the chain's end).
    fn set_next(&mut self, bucket: usize, before: u16, at: u16) -> Result<()> {
        if before != CHAIN_END {
            let mut entry = self.entry(before)?;
            entry.next.set(at);
            return self.put(before, &entry);
        }
        let offset = LEAF_HEADER_SIZE + 2 * bucket;
        let place = self.bytes.get_mut(offset..offset + 2).ok_or(Error::Damaged)?;
        place.copy_from_slice(&at.to_le_bytes());
        Ok(())
    }

    fn store_array(&mut self, bytes: &[u8]) -> Result<u16> {
        let mut first = CHAIN_END;
        // From the end, so that each chunk knows its successor.
        for piece in bytes.chunks(CHUNK_ARRAY_BYTES).rev() {
            let at = self.allocate()?;
            let mut array = RawLeafArray::new_zeroed();
            array.tag = CHUNK_ARRAY;
            array.bytes[..piece.len()].copy_from_slice(piece);
            array.next.set(first);
            self.put(at, &array)?;
            first = at;
        }
        Ok(first)
    }

    fn free_array(&mut self, chunk: u16, nr_chunks: usize) -> Result<()> {
        let mut at = chunk;
        for _ in 0..nr_chunks {
            let array: &RawLeafArray = self.chunk(at)?;
            if array.tag != CHUNK_ARRAY {
                return Err(Error::Damaged);
            }
            let next = array.next.get();
            self.release(at)?;
            at = next;
        }
        Ok(())
    }

    fn allocate(&mut self) -> Result<u16> {
        let at = self.header()?.freelist.get();
        let free: &RawLeafFree = self.chunk(at)?;
        if free.tag != CHUNK_FREE {
            return Err(Error::Damaged);
        }
        let next = free.next.get();
        self.change_header(|h| {
            h.freelist.set(next);
            h.nfree.set(h.nfree.get().saturating_sub(1));
        })?;
        Ok(at)
    }

    fn release(&mut self, at: u16) -> Result<()> {
        let mut free = RawLeafFree::new_zeroed();
        free.tag = CHUNK_FREE;
        free.next.set(self.header()?.freelist.get());
        self.put(at, &free)?;
        self.change_header(|h| {
            h.freelist.set(at);
            h.nfree.set(h.nfree.get().saturating_add(1));
        })
    }

    fn put<T: IntoBytes + Immutable>(&mut self, at: u16, chunk: &T) -> Result<()> {
        let start = self.chunk_offset(at)?;
        let place = self.bytes.get_mut(start..start + CHUNK_SIZE).ok_or(Error::Damaged)?;
        chunk.write_to(place).map_err(|_| Error::Damaged)
    }

    fn change_header(&mut self, change: impl FnOnce(&mut RawLeafHeader)) -> Result<()> {
        let (header, _) = RawLeafHeader::mut_from_prefix(self.bytes).map_err(|_| Error::Damaged)?;
        change(header);
        Ok(())
    }
}
