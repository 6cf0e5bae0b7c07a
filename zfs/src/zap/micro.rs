//! The micro form: one block of 64-byte entries, for names below 50 bytes with one 64-bit value each.
//!
//! The block has no order, so an index is kept in memory: it makes lookup logarithmic and gives iteration the order
//! of cursors. Invariant: index and block agree; both change under the ZAP's write lock.
use super::blocks::Blocks;
use super::hash::Key;
use crate::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use ondisk::zap::{
    MZAP_ENTRY_SIZE, MZAP_MAX_SIZE, MZAP_NAME_SIZE, RawMzapEntry, RawMzapHeader, ZBT_MICRO, ZapFlags,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// What is kept in memory of a micro-ZAP.
#[derive(Debug)]
pub(super) struct Micro {
    salt: u64,
    pub(super) normflags: u64,
    /// (hash, differentiator) to entry number.
    index: BTreeMap<(u64, u32), u16>,
    /// Numbers of free entries; the lowest is last.
    free: Vec<u16>,
}

/// What became of an insertion.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// Done.
    Done,
    /// The micro form cannot hold it: the fat form must take over.
    NeedsFat,
}

/// Writes an empty micro-ZAP into block 0.
pub(super) fn format_micro(bytes: &mut [u8], salt: u64, normflags: u64) -> Result<()> {
    bytes.fill(0);
    let mut header = RawMzapHeader::new_zeroed();
    header.block_type.set(ZBT_MICRO);
    header.salt.set(salt);
    header.normflags.set(normflags);
    header.write_to_prefix(bytes).map_err(|_| Error::Invalid)
}

impl Micro {
    /// Indexes a block.
    pub(super) fn open(bytes: &[u8]) -> Result<Self> {
        let (header, entries) = RawMzapHeader::ref_from_prefix(bytes).map_err(|_| Error::Damaged)?;
        if header.block_type.get() != ZBT_MICRO {
            return Err(Error::Damaged);
        }
        let salt = header.salt.get();
        let normflags = header.normflags.get();
        let (mut index, mut free) = (BTreeMap::new(), Vec::new());
        for (nr, bytes) in entries.chunks_exact(MZAP_ENTRY_SIZE).enumerate() {
            let nr = u16::try_from(nr).map_err(|_| Error::Damaged)?;
            let entry = RawMzapEntry::ref_from_bytes(bytes).map_err(|_| Error::Damaged)?;
            if entry.name().is_empty() {
                free.push(nr);
                continue;
            }
            let hash = Key::Name(entry.name()).hash(salt, ZapFlags::empty(), normflags);
            if index.insert((hash, entry.cd.get()), nr).is_some() {
                return Err(Error::Damaged);
            }
        }
        free.reverse();
        Ok(Self { salt, normflags, index, free })
    }

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    pub(super) fn len(&self) -> u64 {
        self.index.len() as u64
    }

    /// The value under `name`.
    pub(super) fn lookup(&self, bytes: &[u8], name: &[u8]) -> Result<u64> {
        let (_, nr) = self.find(bytes, name)?;
        Ok(entry(bytes, nr)?.value.get())
    }

    /// The entries from (hash, differentiator) on, at most `max`.
    pub(super) fn entries_from(
        &self,
        bytes: &[u8],
        from: (u64, u32),
        max: usize,
    ) -> Result<Vec<(u64, RawMzapEntry)>> {
        let numbers = self.index.range(from..).take(max);
        numbers.map(|((hash, _), nr)| Ok((*hash, *entry(bytes, *nr)?))).collect()
    }

    /// Adds an entry.
    pub(super) fn insert<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        name: &[u8],
        value: u64,
    ) -> Result<Inserted> {
        if name.len() >= MZAP_NAME_SIZE {
            return Ok(Inserted::NeedsFat);
        }
        if self.free.is_empty() && !self.grow(blocks, tx)? {
            return Ok(Inserted::NeedsFat);
        }
        let hash = Key::Name(name).hash(self.salt, ZapFlags::empty(), self.normflags);
        let cd = self.free_cd(hash)?;
        let nr = self.free.last().copied().ok_or(Error::Damaged)?;
        let mut raw = RawMzapEntry::FREE;
        raw.value.set(value);
        raw.cd.set(cd);
        if !raw.set_name(name) {
            return Err(Error::Invalid);
        }
        blocks.modify(tx, 0, &mut |bytes| put(bytes, nr, &raw))?;
        self.free.pop();
        self.index.insert((hash, cd), nr);
        Ok(Inserted::Done)
    }

    /// Changes the value under `name`.
    pub(super) fn update<B: Blocks>(
        &mut self,
        blocks: &B,
        tx: &B::Tx,
        name: &[u8],
        value: u64,
    ) -> Result<()> {
        let (_, nr) = self.find(&blocks.block(0)?.to_contiguous(), name)?;
        blocks.modify(tx, 0, &mut |bytes| {
            let mut raw = *entry(bytes, nr)?;
            raw.value.set(value);
            put(bytes, nr, &raw)
        })
    }

    /// Removes the entry under `name`.
    pub(super) fn remove<B: Blocks>(&mut self, blocks: &B, tx: &B::Tx, name: &[u8]) -> Result<()> {
        let (place, nr) = self.find(&blocks.block(0)?.to_contiguous(), name)?;
        blocks.modify(tx, 0, &mut |bytes| put(bytes, nr, &RawMzapEntry::FREE))?;
        self.index.remove(&place);
        self.free.push(nr);
        Ok(())
    }

    fn find(&self, bytes: &[u8], name: &[u8]) -> Result<((u64, u32), u16)> {
        let hash = Key::Name(name).hash(self.salt, ZapFlags::empty(), self.normflags);
        for (place, nr) in self.index.range((hash, 0)..=(hash, u32::MAX)) {
            if entry(bytes, *nr)?.name() == name {
                return Ok((*place, *nr));
            }
        }
        Err(Error::NotFound)
    }

    fn free_cd(&self, hash: u64) -> Result<u32> {
        let mut cd = 0u32;
        for (_, used) in self.index.range((hash, 0)..=(hash, u32::MAX)).map(|(place, _)| place) {
            if *used != cd {
                break;
            }
            cd = cd.checked_add(1).ok_or(Error::NoSpace)?;
        }
        Ok(cd)
    }

    /// Makes the block half as large again; false when it has its largest size.
    fn grow<B: Blocks>(&mut self, blocks: &B, tx: &B::Tx) -> Result<bool> {
        let old = blocks.block_size();
        if old >= MZAP_MAX_SIZE {
            return Ok(false);
        }
        let new = (old + old / 2).next_multiple_of(512).min(MZAP_MAX_SIZE);
        blocks.set_block_size(tx, new)?;
        let number = |size: usize| u16::try_from(size / MZAP_ENTRY_SIZE - 1).map_err(|_| Error::Damaged);
        let fresh = number(old)?..number(new)?;
        self.free.splice(0..0, fresh.rev());
        Ok(true)
    }
}

fn range(nr: u16) -> core::ops::Range<usize> {
    let start = (usize::from(nr) + 1) * MZAP_ENTRY_SIZE;
    start..start + MZAP_ENTRY_SIZE
}

fn entry(bytes: &[u8], nr: u16) -> Result<&RawMzapEntry> {
    let bytes = bytes.get(range(nr)).ok_or(Error::Damaged)?;
    RawMzapEntry::ref_from_bytes(bytes).map_err(|_| Error::Damaged)
}

fn put(bytes: &mut [u8], nr: u16, raw: &RawMzapEntry) -> Result<()> {
    let place = bytes.get_mut(range(nr)).ok_or(Error::Damaged)?;
    raw.write_to(place).map_err(|_| Error::Damaged)
}
