//! The block reference table: how often blocks are shared by cloning. Source: `brt_impl.h`.
//!
//! One for each top-level vdev that has shared blocks, found under [`crate::pool_directory::BRT_PREFIX`]: an object whose
//! data counts the entries of each range of the vdev (16 bits each) and whose bonus is [`RawBrtVdev`], and a ZAP of the
//! entries themselves: the offset of a block's first copy, and how many references it has beyond the first.

use crate::error::{OndiskError, Result};
use crate::ids::ObjectId;
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a vdev that one count stands for, in tables made now.
pub const BRT_RANGE_SIZE: u64 = 16 << 20;
/// Data block size of the object with the counts.
pub const BRT_BLOCK_SIZE: u32 = 32 << 10;
/// log2 of the block size of the ZAP with the entries, indirect blocks included.
pub const BRT_ZAP_SHIFT: u8 = 13;
/// Size of the bonus.
pub const BRT_VDEV_SIZE: usize = 56;
/// The smallest block: a range must not hold more of them than a count can say.
const SECTOR: u64 = 512;

/// Bonus of a vdev's table (`brt_vdev_phys_t`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBrtVdev {
    /// 0: the ZAP with the entries.
    pub entries: U64,
    /// 8: counts.
    pub size: U64,
    /// 16: byte order of the counts; 0: little-endian.
    pub byte_order: U64,
    /// 24: entries.
    pub total: U64,
    /// 32: bytes of the vdev that one count stands for.
    pub range_size: U64,
    /// 40: bytes that shared blocks occupy.
    pub used: U64,
    /// 48: bytes that they would occupy beyond that if they were not shared.
    pub saved: U64,
}

const _: () = assert!(size_of::<RawBrtVdev>() == BRT_VDEV_SIZE);

/// A vdev's table, validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrtVdev {
    /// The ZAP with the entries.
    pub entries: ObjectId,
    /// Counts.
    pub size: u64,
    /// The counts are big-endian.
    pub is_big_endian: bool,
    /// Entries.
    pub total: u64,
    /// Bytes of the vdev that one count stands for.
    pub range_size: u64,
    /// Bytes that shared blocks occupy.
    pub used: u64,
    /// Bytes that they would occupy beyond that if they were not shared.
    pub saved: u64,
}

impl BrtVdev {
    /// Parses a bonus.
    ///
    /// # Errors
    /// `Truncated`; `BadSize` for ranges in which the entries cannot be counted, or without entries.
    pub fn parse(bonus: &[u8]) -> Result<Self> {
        let (raw, _) = RawBrtVdev::read_from_prefix(bonus).map_err(|_| OndiskError::Truncated)?;
        let range_size = raw.range_size.get();
        let is_countable = range_size >= SECTOR && range_size / SECTOR <= u64::from(u16::MAX);
        if !is_countable || raw.entries.get() == 0 {
            return Err(OndiskError::BadSize);
        }
        Ok(Self {
            entries: ObjectId(raw.entries.get()),
            size: raw.size.get(),
            is_big_endian: raw.byte_order.get() != 0,
            total: raw.total.get(),
            range_size,
            used: raw.used.get(),
            saved: raw.saved.get(),
        })
    }

    /// On-disk form.
    #[must_use]
    pub fn to_raw(&self) -> RawBrtVdev {
        RawBrtVdev {
            entries: self.entries.0.into(),
            size: self.size.into(),
            byte_order: u64::from(self.is_big_endian).into(),
            total: self.total.into(),
            range_size: self.range_size.into(),
            used: self.used.into(),
            saved: self.saved.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_survives_the_disk_and_nonsense_does_not() {
        let table = BrtVdev {
            entries: ObjectId(7),
            size: 5,
            is_big_endian: false,
            total: 3,
            range_size: BRT_RANGE_SIZE,
            used: 1 << 20,
            saved: 1 << 21,
        };
        let bytes = table.to_raw();
        assert_eq!(BrtVdev::parse(bytes.as_bytes()), Ok(table));
        assert_eq!(BrtVdev::parse(&bytes.as_bytes()[..48]), Err(OndiskError::Truncated));
        for nonsense in [
            BrtVdev { range_size: 0, ..table },
            BrtVdev { range_size: 32 << 20, ..table },
            BrtVdev { entries: ObjectId(0), ..table },
        ] {
            assert_eq!(BrtVdev::parse(nonsense.to_raw().as_bytes()), Err(OndiskError::BadSize));
        }
    }
}
