//! Data virtual address: one copy of a block, as vdev, offset and allocated size.

use crate::blkptr::SECTOR_SHIFT;
use crate::error::{OndiskError, Result};
use crate::le::U64;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A DVA as it lies on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawDva(pub [U64; 2]);

const _: () = assert!(size_of::<RawDva>() == 16);

/// One copy's address.
///
/// Word 0: bits 0-23 asize in sectors, 32-55 vdev; word 1: bits 0-62 offset in sectors, 63 gang.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dva {
    /// Index of the top-level vdev.
    pub vdev: u32,
    /// Byte offset in the vdev's allocatable space (a leaf's labels and boot region are not counted).
    pub offset: u64,
    /// Allocated bytes, parity and gang header included.
    pub asize: u64,
    /// The address is that of a gang header.
    pub gang: bool,
}

impl Dva {
    /// No address.
    pub const EMPTY: Self = Self { vdev: 0, offset: 0, asize: 0, gang: false };

    const ASIZE_MASK: u64 = 0xff_ffff;
    const VDEV_MASK: u64 = 0xff_ffff;
    const OFFSET_MASK: u64 = (1 << 63) - 1;
    /// Offsets stay below 2^63 bytes so that an offset plus a size cannot overflow.
    const OFFSET_SECTORS_MAX: u64 = 1 << (63 - SECTOR_SHIFT);

    /// An address without the gang bit.
    #[must_use]
    pub const fn new(vdev: u32, offset: u64, asize: u64) -> Self {
        Self { vdev, offset, asize, gang: false }
    }

    /// Both words zero: absent.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.vdev == 0 && self.offset == 0 && self.asize == 0 && !self.gang
    }

    /// First byte after the allocation.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.asize
    }

    pub(crate) fn check(words: [u64; 2]) -> Result<()> {
        if words[1] & Self::OFFSET_MASK >= Self::OFFSET_SECTORS_MAX {
            return Err(OndiskError::BadOffset);
        }
        Ok(())
    }

    /// Callers have run [`Self::check`]: an offset beyond it would lose its high bits.
    pub(crate) const fn from_words(words: [u64; 2]) -> Self {
        Self {
            vdev: ((words[0] >> 32) & Self::VDEV_MASK) as u32,
            offset: (words[1] & Self::OFFSET_MASK) << SECTOR_SHIFT,
            asize: (words[0] & Self::ASIZE_MASK) << SECTOR_SHIFT,
            gang: words[1] >> 63 == 1,
        }
    }

    pub(crate) fn to_words(self) -> Result<[u64; 2]> {
        let unaligned = (self.offset | self.asize) & ((1 << SECTOR_SHIFT) - 1) != 0;
        let asize = self.asize >> SECTOR_SHIFT;
        let offset = self.offset >> SECTOR_SHIFT;
        let too_big = asize > Self::ASIZE_MASK
            || u64::from(self.vdev) > Self::VDEV_MASK
            || offset >= Self::OFFSET_SECTORS_MAX;
        if unaligned || too_big {
            return Err(OndiskError::DoesNotFit);
        }
        let word0 = asize | (u64::from(self.vdev) << 32);
        let word1 = offset | (u64::from(self.gang) << 63);
        Ok([word0, word1])
    }

    /// On-disk form.
    ///
    /// # Errors
    /// `DoesNotFit` when a field is unaligned or too large.
    pub fn to_raw(self) -> Result<RawDva> {
        Ok(RawDva(self.to_words()?.map(U64::new)))
    }
}

impl RawDva {
    /// Checks and decodes.
    ///
    /// # Errors
    /// `BadOffset` when the offset has no byte form.
    pub fn parse(&self) -> Result<Dva> {
        let words = self.0.map(U64::get);
        Dva::check(words)?;
        Ok(Dva::from_words(words))
    }
}

impl fmt::Debug for Dva {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gang = if self.gang { ":gang" } else { "" };
        write!(f, "<{}:{:x}:{:x}{gang}>", self.vdev, self.offset, self.asize)
    }
}
