//! Space maps: the log of allocations and frees of one metaslab (or, vdev-qualified, of one transaction group).
//!
//! Data are 64-bit words replayed in order. Offsets and runs are in units of `1 << shift` and relative to the map's
//! start.
//!
//! | form | words |
//! |---|---|
//! | debug | `10` act:2 pass:10 txg:50 |
//! | one word | `0` offset:47 type:1 run-1:15 |
//! | two words | `11` pad:2 run-1:36 vdev:24, then type:1 offset:63 |

use crate::error::{OndiskError, Result};
use crate::ids::Txg;
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Buckets of the histogram.
pub const HISTOGRAM_SIZE: usize = 32;
/// Bonus size without histogram.
pub const SPACE_MAP_SIZE_V0: usize = 24;
/// Bonus size with histogram.
pub const SPACE_MAP_SIZE_V1: usize = 320;
/// Vdev number of a run that is not vdev-qualified. Two-word entries store it as 0, so that only a log map's reader,
/// who knows that its entries are qualified, may believe a decoded vdev.
pub const NO_VDEV: u32 = 1 << 24;
/// Longest run of a one-word entry, in units.
pub const RUN_MAX_ONE_WORD: u64 = 1 << 15;
/// Longest run of a two-word entry, in units.
pub const RUN_MAX_TWO_WORDS: u64 = 1 << 36;
/// Offsets of one-word entries stay below this, in units.
pub const OFFSET_END_ONE_WORD: u64 = 1 << 47;
/// Block size of a space map object.
pub const SPACE_MAP_BLOCK_SIZE: u32 = 16 << 10;
/// Block size of a space map object on pools with `log_spacemap`.
pub const SPACE_MAP_BLOCK_SIZE_LOG: u32 = 128 << 10;

/// Bonus of a space map as it lies on disk, with histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawSpaceMap {
    /// 0: its own object number (unused since long).
    pub object: U64,
    /// 8: bytes of data in use.
    pub length: U64,
    /// 16: allocated bytes, two's complement.
    pub alloc: U64,
    /// 24: reserved.
    pub pad: [U64; 5],
    /// 64: free segments by log2 of their size, first bucket = one unit.
    pub histogram: [U64; HISTOGRAM_SIZE],
}

const _: () = assert!(size_of::<RawSpaceMap>() == SPACE_MAP_SIZE_V1);

/// A space map's bonus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceMapPhys {
    /// Its own object number (unused since long).
    pub object: u64,
    /// Bytes of data in use; a multiple of 8.
    pub length: u64,
    /// Allocated bytes (negative for the maps of what a log freed).
    pub alloc: i64,
    /// Free segments by log2 of their size; zero when the bonus has none.
    pub histogram: [u64; HISTOGRAM_SIZE],
}

impl SpaceMapPhys {
    /// Parses a bonus of either version.
    ///
    /// # Errors
    /// `Truncated` when it is shorter than the older version, `BadSize` when the length is not whole words.
    pub fn parse(bonus: &[u8]) -> Result<Self> {
        let word = |index: usize| -> Result<u64> {
            let bytes = bonus.get(index * 8..index * 8 + 8).ok_or(OndiskError::Truncated)?;
            Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| OndiskError::Truncated)?))
        };
        let mut map = Self {
            object: word(0)?,
            length: word(1)?,
            alloc: word(2)?.cast_signed(),
            histogram: [0; HISTOGRAM_SIZE],
        };
        if !map.length.is_multiple_of(8) {
            return Err(OndiskError::BadSize);
        }
        if let Ok((raw, _)) = RawSpaceMap::ref_from_prefix(bonus) {
            map.histogram = raw.histogram.map(U64::get);
        }
        Ok(map)
    }

    /// On-disk form; write as many bytes of it as the bonus has.
    #[must_use]
    pub fn to_raw(&self) -> RawSpaceMap {
        RawSpaceMap {
            object: self.object.into(),
            length: self.length.into(),
            alloc: self.alloc.cast_unsigned().into(),
            pad: [U64::ZERO; 5],
            histogram: self.histogram.map(U64::new),
        }
    }
}

/// Whether an entry takes or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MapType {
    /// The run is allocated.
    Alloc = 0,
    /// The run is free.
    Free = 1,
}

impl MapType {
    const fn from_bit(bit: u64) -> Self {
        if bit & 1 == 0 { Self::Alloc } else { Self::Free }
    }
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceMapRun {
    /// What happened to it.
    pub kind: MapType,
    /// First unit, relative to the map's start.
    pub offset: u64,
    /// Units; at least 1.
    pub run: u64,
    /// Vdev, or [`NO_VDEV`].
    pub vdev: u32,
}

/// One entry of a space map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceMapEntry {
    /// Who wrote the entries after it. A zero word (txg 0) is padding.
    Debug {
        /// Kind of the following entries.
        kind: MapType,
        /// Sync pass.
        pass: u16,
        /// Transaction group.
        txg: Txg,
    },
    /// A run.
    Run(SpaceMapRun),
}

impl SpaceMapEntry {
    /// Decodes the entry at the start of `words`; returns it and how many words it took.
    ///
    /// # Errors
    /// `Truncated` when `words` is empty or ends within a two-word entry.
    pub fn decode(words: &[u64]) -> Result<(Self, usize)> {
        let first = *words.first().ok_or(OndiskError::Truncated)?;
        match first >> 62 {
            0 | 1 => {
                let run = SpaceMapRun {
                    kind: MapType::from_bit(first >> 15),
                    offset: (first >> 16) & (OFFSET_END_ONE_WORD - 1),
                    run: (first & 0x7fff) + 1,
                    vdev: NO_VDEV,
                };
                Ok((Self::Run(run), 1))
            }
            2 => {
                let entry = Self::Debug {
                    kind: MapType::from_bit(first >> 60),
                    pass: ((first >> 50) & 0x3ff) as u16,
                    txg: Txg(first & ((1 << 50) - 1)),
                };
                Ok((entry, 1))
            }
            _ => {
                let second = *words.get(1).ok_or(OndiskError::Truncated)?;
                let run = SpaceMapRun {
                    kind: MapType::from_bit(second >> 63),
                    offset: second & !(1 << 63),
                    run: ((first >> 24) & (RUN_MAX_TWO_WORDS - 1)) + 1,
                    vdev: (first & 0xff_ffff) as u32,
                };
                Ok((Self::Run(run), 2))
            }
        }
    }

    /// The padding word that fills a block before a two-word entry that would straddle it.
    #[must_use]
    pub const fn padding() -> u64 {
        2 << 62
    }

    /// Encodes a debug entry.
    #[must_use]
    pub const fn encode_debug(kind: MapType, pass: u16, txg: Txg) -> u64 {
        2 << 62 | (kind as u64) << 60 | (pass as u64 & 0x3ff) << 50 | (txg.0 & ((1 << 50) - 1))
    }
}

impl SpaceMapRun {
    /// The one-word form.
    ///
    /// # Errors
    /// `DoesNotFit` when the run needs two words.
    pub fn encode_one(&self) -> Result<u64> {
        let fits = self.vdev == NO_VDEV
            && self.offset < OFFSET_END_ONE_WORD
            && (1..=RUN_MAX_ONE_WORD).contains(&self.run);
        if !fits {
            return Err(OndiskError::DoesNotFit);
        }
        Ok(self.offset << 16 | (self.kind as u64) << 15 | (self.run - 1))
    }

    /// The two-word form.
    ///
    /// # Errors
    /// `DoesNotFit` when run, offset or vdev are too large.
    pub fn encode_two(&self) -> Result<[u64; 2]> {
        let fits =
            self.vdev <= NO_VDEV && self.offset < 1 << 63 && (1..=RUN_MAX_TWO_WORDS).contains(&self.run);
        if !fits {
            return Err(OndiskError::DoesNotFit);
        }
        let first = 3 << 62 | (self.run - 1) << 24 | u64::from(self.vdev % NO_VDEV);
        Ok([first, (self.kind as u64) << 63 | self.offset])
    }
}
