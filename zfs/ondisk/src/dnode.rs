//! The dnode: what an object is and where its blocks are.
//!
//! A dnode takes `1 + extra_slots` slots of 512 bytes of the dnode file, whose blocks hold 32 slots; it never crosses a
//! block. After the 64-byte core come 1 to 3 block pointers, then the bonus; with the spill flag, the last 128 bytes of
//! the *whole* (large) dnode are the spill block's pointer.

use crate::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE, BlkPtr, RawBlkPtr};
use crate::checksum::Checksum;
use crate::compression::Compression;
use crate::dmu_type::DmuType;
use crate::error::{OndiskError, Result};
use crate::le::{U16, U64};
use core::ops::Range;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of a slot, the smallest dnode.
pub const DNODE_SIZE: usize = 512;
/// log2 of [`DNODE_SIZE`].
pub const DNODE_SHIFT: u32 = 9;
/// Bytes before the block pointers.
pub const DNODE_CORE_SIZE: usize = 64;
/// Size of a block of the dnode file.
pub const DNODE_BLOCK_SIZE: usize = 1 << DNODE_BLOCK_SHIFT;
/// log2 of [`DNODE_BLOCK_SIZE`].
pub const DNODE_BLOCK_SHIFT: u32 = 14;
/// Slots in a block of the dnode file.
pub const DNODES_PER_BLOCK: usize = DNODE_BLOCK_SIZE / DNODE_SIZE;
/// Largest number of slots of one dnode.
pub const DNODE_SLOTS_MAX: usize = DNODES_PER_BLOCK;
/// Most block pointers in a dnode.
pub const DNODE_BLKPTRS_MAX: u8 = 3;
/// Smallest log2 of an indirect block's size.
pub const INDIRECT_SHIFT_MIN: u8 = 12;
/// Largest log2 of an indirect block's size; also the default.
pub const INDIRECT_SHIFT_MAX: u8 = 17;
/// Most levels, data included, a dnode can have.
pub const LEVELS_MAX: u8 = 30;
/// Largest bonus of a one-slot dnode.
pub const BONUS_MAX_OLD: usize = DNODE_SIZE - DNODE_CORE_SIZE - BLKPTR_SIZE;
/// log2 of the highest number of objects of a user dataset.
pub const OBJECT_SHIFT: u32 = 48;

bitflags::bitflags! {
    /// Flags of a dnode. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DnodeFlags: u8 {
        /// `used` counts bytes, not sectors.
        const USED_BYTES = 1;
        /// The object is counted in the user and group accounts (bytes).
        const USERUSED_ACCOUNTED = 2;
        /// There is a spill block.
        const SPILL_BLKPTR = 4;
        /// The object is counted in the user and group accounts (objects).
        const USEROBJUSED_ACCOUNTED = 8;
        const _ = !0;
    }
}

/// The first 64 bytes of a dnode as they lie on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawDnodeCore {
    /// 0: type; 0 = free.
    pub kind: u8,
    /// 1: log2 of the indirect block size.
    pub indirect_shift: u8,
    /// 2: levels, data included; 0 is treated as 1.
    pub levels: u8,
    /// 3: number of block pointers.
    pub nr_blkptr: u8,
    /// 4: type of the bonus.
    pub bonus_kind: u8,
    /// 5: checksum property.
    pub checksum: u8,
    /// 6: compression property.
    pub compress: u8,
    /// 7: [`DnodeFlags`].
    pub flags: u8,
    /// 8: data block size in sectors.
    pub data_sectors: U16,
    /// 10: bytes of bonus in use.
    pub bonus_len: U16,
    /// 12: slots beyond the first.
    pub extra_slots: u8,
    /// 13: zero.
    pub pad: [u8; 3],
    /// 16: highest data block number.
    pub max_blkid: U64,
    /// 24: allocated bytes (or sectors, see the flags).
    pub used: U64,
    /// 32: zero.
    pub pad2: [U64; 4],
}

const _: () = assert!(size_of::<RawDnodeCore>() == DNODE_CORE_SIZE);

/// A validated dnode, without its block pointers and bonus: those are read from the same bytes by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnodePhys {
    /// Type; never `NONE`.
    pub kind: DmuType,
    /// log2 of the indirect block size.
    pub indirect_shift: u8,
    /// Levels, data included; at least 1.
    pub levels: u8,
    /// Number of block pointers, 1 to 3.
    pub nr_blkptr: u8,
    /// Type of the bonus.
    pub bonus_kind: DmuType,
    /// Checksum property (`Inherit` = the dataset's).
    pub checksum: Checksum,
    /// Compression property (`Inherit` = the dataset's).
    pub compress: Compression,
    /// Flags.
    pub flags: DnodeFlags,
    /// Data block size in bytes; a multiple of 512, not zero.
    pub block_size: u32,
    /// Bytes of bonus in use.
    pub bonus_len: u16,
    /// Slots, the first included.
    pub slots: u8,
    /// Highest data block number.
    pub max_blkid: u64,
    /// Allocated bytes.
    pub used: u64,
}

impl RawDnodeCore {
    /// The slot is free (or lies within the large dnode before it).
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.kind == 0
    }

    /// Slots this dnode takes.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.extra_slots as usize + 1
    }

    /// Validates; `None` for a free slot.
    ///
    /// # Errors
    /// The first field out of its limits, or `Inconsistent` when bonus and spill pointer do not fit the dnode.
    pub fn parse(&self) -> Result<Option<DnodePhys>> {
        if self.is_free() {
            return Ok(None);
        }
        let flags = DnodeFlags::from_bits_retain(self.flags);
        let used = self.used.get();
        let dn = DnodePhys {
            kind: DmuType::from_id(self.kind).ok_or(OndiskError::BadType)?,
            indirect_shift: self.indirect_shift,
            levels: self.levels.max(1),
            nr_blkptr: self.nr_blkptr,
            bonus_kind: DmuType::from_id(self.bonus_kind).ok_or(OndiskError::BadType)?,
            checksum: Checksum::from_id(self.checksum).ok_or(OndiskError::BadChecksumId)?,
            compress: Compression::from_id(self.compress).ok_or(OndiskError::BadCompressionId)?,
            flags,
            block_size: u32::from(self.data_sectors.get()) << 9,
            bonus_len: self.bonus_len.get(),
            slots: self.extra_slots.saturating_add(1),
            max_blkid: self.max_blkid.get(),
            used: if flags.contains(DnodeFlags::USED_BYTES) { used } else { used.saturating_mul(512) },
        };
        dn.check()?;
        Ok(Some(dn))
    }
}

impl DnodePhys {
    fn check(&self) -> Result<()> {
        if usize::from(self.slots) > DNODE_SLOTS_MAX {
            return Err(OndiskError::BadCount);
        }
        if !(1..=DNODE_BLKPTRS_MAX).contains(&self.nr_blkptr) {
            return Err(OndiskError::BadCount);
        }
        if self.levels > LEVELS_MAX {
            return Err(OndiskError::BadLevel);
        }
        let shifts = INDIRECT_SHIFT_MIN..=INDIRECT_SHIFT_MAX;
        if !shifts.contains(&self.indirect_shift) || self.block_size == 0 {
            return Err(OndiskError::BadSize);
        }
        let spill = if self.has_spill() { BLKPTR_SIZE } else { 0 };
        let is_overlapping = self.bonus_offset() + spill > self.size();
        if is_overlapping || usize::from(self.bonus_len) > self.bonus_max() {
            return Err(OndiskError::Inconsistent);
        }
        Ok(())
    }

    /// On-disk core. `used` is always written in bytes.
    ///
    /// # Errors
    /// `DoesNotFit` when the block size is unaligned or too large, or the limits of the format are not kept.
    pub fn to_raw(&self) -> Result<RawDnodeCore> {
        self.check()?;
        if !self.block_size.is_multiple_of(512) {
            return Err(OndiskError::DoesNotFit);
        }
        let sectors = u16::try_from(self.block_size >> 9).map_err(|_| OndiskError::DoesNotFit)?;
        Ok(RawDnodeCore {
            kind: self.kind.0,
            indirect_shift: self.indirect_shift,
            levels: self.levels,
            nr_blkptr: self.nr_blkptr,
            bonus_kind: self.bonus_kind.0,
            checksum: self.checksum.id(),
            compress: self.compress.id(),
            flags: (self.flags | DnodeFlags::USED_BYTES).bits(),
            data_sectors: sectors.into(),
            bonus_len: self.bonus_len.into(),
            extra_slots: self.slots.saturating_sub(1),
            pad: [0; 3],
            max_blkid: self.max_blkid.into(),
            used: self.used.into(),
            pad2: [U64::ZERO; 4],
        })
    }

    /// Bytes of the whole dnode.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::from(self.slots) << DNODE_SHIFT
    }

    /// There is a spill block pointer.
    #[must_use]
    pub const fn has_spill(&self) -> bool {
        self.flags.contains(DnodeFlags::SPILL_BLKPTR)
    }

    /// Position of block pointer `index` within the dnode.
    #[must_use]
    pub fn blkptr_range(&self, index: usize) -> Option<Range<usize>> {
        if index >= usize::from(self.nr_blkptr) {
            return None;
        }
        let start = DNODE_CORE_SIZE + index * BLKPTR_SIZE;
        Some(start..start + BLKPTR_SIZE)
    }

    /// Position of the first bonus byte within the dnode.
    #[must_use]
    pub fn bonus_offset(&self) -> usize {
        DNODE_CORE_SIZE + usize::from(self.nr_blkptr) * BLKPTR_SIZE
    }

    /// Position of the bonus bytes in use.
    #[must_use]
    pub fn bonus_range(&self) -> Range<usize> {
        let start = self.bonus_offset();
        start..start + usize::from(self.bonus_len)
    }

    /// Room for bonus with the present number of block pointers, slots, and spill flag.
    #[must_use]
    pub fn bonus_max(&self) -> usize {
        let spill = if self.has_spill() { BLKPTR_SIZE } else { 0 };
        self.size().saturating_sub(self.bonus_offset() + spill)
    }

    /// Position of the spill block pointer; `None` without the flag.
    #[must_use]
    pub fn spill_range(&self) -> Option<Range<usize>> {
        self.has_spill().then(|| self.size() - BLKPTR_SIZE..self.size())
    }

    /// Block pointer `index` out of the dnode's bytes.
    ///
    /// # Errors
    /// `Truncated` when there is no such pointer or `bytes` ends before it; else what is wrong with the pointer.
    pub fn blkptr(&self, bytes: &[u8], index: usize) -> Result<BlkPtr> {
        let range = self.blkptr_range(index).ok_or(OndiskError::Truncated)?;
        raw_blkptr(bytes, range)?.parse()
    }

    /// Spill block pointer out of the dnode's bytes; `None` without the flag.
    ///
    /// # Errors
    /// `Truncated` when `bytes` ends before it; else what is wrong with the pointer.
    pub fn spill(&self, bytes: &[u8]) -> Result<Option<BlkPtr>> {
        self.spill_range().map(|range| raw_blkptr(bytes, range)?.parse()).transpose()
    }

    /// The bonus bytes in use, out of the dnode's bytes.
    ///
    /// # Errors
    /// `Truncated` when `bytes` ends before them.
    pub fn bonus<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        bytes.get(self.bonus_range()).ok_or(OndiskError::Truncated)
    }

    /// log2 of how many block pointers an indirect block holds.
    #[must_use]
    pub fn entries_shift(&self) -> u32 {
        u32::from(self.indirect_shift) - BLKPTR_SHIFT
    }

    /// Number of the level-`level` block that covers data block `blkid`.
    #[must_use]
    pub fn blkid_at_level(&self, blkid: u64, level: u8) -> u64 {
        blkid.checked_shr(u32::from(level) * self.entries_shift()).unwrap_or(0)
    }
}

fn raw_blkptr(bytes: &[u8], range: Range<usize>) -> Result<&RawBlkPtr> {
    let bytes = bytes.get(range).ok_or(OndiskError::Truncated)?;
    RawBlkPtr::ref_from_bytes(bytes).map_err(|_| OndiskError::Truncated)
}

/// The core at the start of `bytes`.
///
/// # Errors
/// `Truncated` when `bytes` is shorter.
pub fn core(bytes: &[u8]) -> Result<&RawDnodeCore> {
    RawDnodeCore::ref_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| OndiskError::Truncated)
}

/// Parses the dnode at the start of `bytes` and checks that all of its slots are in `bytes`.
///
/// # Errors
/// As [`RawDnodeCore::parse`]; `Truncated` when its slots reach beyond `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Option<DnodePhys>> {
    let dn = core(bytes)?.parse()?;
    if dn.is_some_and(|dn| dn.size() > bytes.len()) {
        return Err(OndiskError::Truncated);
    }
    Ok(dn)
}
