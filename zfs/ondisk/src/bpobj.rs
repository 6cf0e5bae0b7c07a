//! Lists of block pointers: bpobj (dead lists, deferred frees), bptree (asynchronous destroy).

use crate::blkptr::{BLKPTR_SIZE, RawBlkPtr};
use crate::error::{OndiskError, Result};
use crate::ids::ObjectId;
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bonus size of the oldest bpobjs: count and bytes only.
pub const BPOBJ_SIZE_V0: usize = 16;
/// Bonus size with compressed and uncompressed sums.
pub const BPOBJ_SIZE_V1: usize = 32;
/// Bonus size with sub-objects.
pub const BPOBJ_SIZE_V2: usize = 48;
/// Bonus size with the count of freed ones (livelists).
pub const BPOBJ_SIZE_V3: usize = 56;

/// Bonus of a bpobj, newest form. The object's data is an array of block pointers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBpobj {
    /// 0: block pointers in the data.
    pub num_blkptrs: U64,
    /// 8: their allocated bytes.
    pub bytes: U64,
    /// 16: compressed bytes.
    pub comp: U64,
    /// 24: the same before compression.
    pub uncomp: U64,
    /// 32: object that lists sub-objects as 64-bit numbers.
    pub subobjs: U64,
    /// 40: how many.
    pub num_subobjs: U64,
    /// 48: how many entries are FREE marks.
    pub num_freed: U64,
}

const _: () = assert!(size_of::<RawBpobj>() == BPOBJ_SIZE_V3);

/// A bpobj's bonus. Fields beyond the on-disk form's size read as zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpobjPhys {
    /// Block pointers in the data.
    pub num_blkptrs: u64,
    /// Their allocated bytes.
    pub bytes: u64,
    /// Compressed bytes.
    pub comp: u64,
    /// The same before compression.
    pub uncomp: u64,
    /// Object that lists sub-objects as 64-bit numbers.
    pub subobjs: ObjectId,
    /// How many.
    pub num_subobjs: u64,
    /// How many entries are FREE marks.
    pub num_freed: u64,
}

impl BpobjPhys {
    /// Parses a bonus of any version.
    ///
    /// # Errors
    /// `Truncated` when it is shorter than the oldest version.
    pub fn parse(bonus: &[u8]) -> Result<Self> {
        if bonus.len() < BPOBJ_SIZE_V0 {
            return Err(OndiskError::Truncated);
        }
        let mut full = [0; BPOBJ_SIZE_V3];
        let len = bonus.len().min(full.len()) & !7;
        full[..len].copy_from_slice(&bonus[..len]);
        let raw: RawBpobj = zerocopy::transmute!(full);
        Ok(Self {
            num_blkptrs: raw.num_blkptrs.get(),
            bytes: raw.bytes.get(),
            comp: raw.comp.get(),
            uncomp: raw.uncomp.get(),
            subobjs: ObjectId(raw.subobjs.get()),
            num_subobjs: raw.num_subobjs.get(),
            num_freed: raw.num_freed.get(),
        })
    }

    /// On-disk form; write as many bytes of it as the bonus has.
    #[must_use]
    pub fn to_raw(&self) -> RawBpobj {
        RawBpobj {
            num_blkptrs: self.num_blkptrs.into(),
            bytes: self.bytes.into(),
            comp: self.comp.into(),
            uncomp: self.uncomp.into(),
            subobjs: self.subobjs.0.into(),
            num_subobjs: self.num_subobjs.into(),
            num_freed: self.num_freed.into(),
        }
    }
}

/// Bookmark as it lies on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBookmark {
    /// Object set.
    pub objset: U64,
    /// Object.
    pub object: U64,
    /// Level, two's complement.
    pub level: U64,
    /// Block number.
    pub blkid: U64,
}

impl From<crate::Bookmark> for RawBookmark {
    fn from(b: crate::Bookmark) -> Self {
        Self {
            objset: b.objset.into(),
            object: b.object.0.into(),
            level: b.level.cast_unsigned().into(),
            blkid: b.blkid.into(),
        }
    }
}

impl From<RawBookmark> for crate::Bookmark {
    fn from(raw: RawBookmark) -> Self {
        Self {
            objset: raw.objset.get(),
            object: ObjectId(raw.object.get()),
            level: raw.level.get().cast_signed(),
            blkid: raw.blkid.get(),
        }
    }
}

/// Bonus of a bptree.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBptree {
    /// First entry still to be freed.
    pub begin: U64,
    /// One past the last entry.
    pub end: U64,
    /// Allocated bytes.
    pub bytes: U64,
    /// Compressed bytes.
    pub comp: U64,
    /// The same before compression.
    pub uncomp: U64,
}

const _: () = assert!(size_of::<RawBptree>() == 40);

/// Entry of a bptree: a tree being freed, and how far that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawBptreeEntry {
    /// Root of the tree.
    pub bp: RawBlkPtr,
    /// Only blocks born after this are to be freed.
    pub birth_txg: U64,
    /// Where to go on.
    pub bookmark: RawBookmark,
}

const _: () = assert!(size_of::<RawBptreeEntry>() == BLKPTR_SIZE + 40);
