//! Blocks of a ZAP: the micro form (one block), the fat form's header and leaves.
//!
//! Names and values in leaves are byte streams with integers big-endian, whatever the host; everything else here is in
//! the block's byte order. The algorithms are in the `zfs` crate.

use crate::le::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First word of a micro-ZAP.
pub const ZBT_MICRO: u64 = (1 << 63) + 3;
/// First word of a fat ZAP's header block.
pub const ZBT_HEADER: u64 = (1 << 63) + 1;
/// First word of a leaf.
pub const ZBT_LEAF: u64 = 1 << 63;
/// Magic number of the header block.
pub const ZAP_MAGIC: u64 = 0x2_f52a_b2ab;
/// Magic number of a leaf.
pub const LEAF_MAGIC: u32 = 0x02ab_1eaf;

/// Size of a micro-ZAP's header and of each of its entries.
pub const MZAP_ENTRY_SIZE: usize = 64;
/// Bytes of a name in a micro-ZAP, the NUL included.
pub const MZAP_NAME_SIZE: usize = 50;
/// Largest micro-ZAP without the feature `large_microzap`.
pub const MZAP_MAX_SIZE: usize = 128 << 10;
/// Longest name (without the NUL) of an ordinary ZAP.
pub const ZAP_NAME_MAX: usize = 255;
/// Longest name (without the NUL) with the feature `longname`.
pub const ZAP_NAME_MAX_LONG: usize = 1023;
/// Largest value in bytes.
pub const ZAP_VALUE_MAX: usize = 8192;
/// Default log2 of a fat ZAP's block size.
pub const FZAP_BLOCK_SHIFT: u32 = 14;
/// Top bits of a hash that are kept.
pub const HASH_BITS: u32 = 28;
/// The same with [`ZapFlags::HASH64`].
pub const HASH_BITS_64: u32 = 48;

bitflags::bitflags! {
    /// Flags of a fat ZAP. Unknown bits are kept.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ZapFlags: u64 {
        /// Hashes keep 48 bits.
        const HASH64 = 1;
        /// Keys are arrays of 64-bit words.
        const UINT64_KEY = 2;
        /// The first word of the key is its hash.
        const PRE_HASHED_KEY = 4;
        const _ = !0;
    }
}

/// Header of a micro-ZAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMzapHeader {
    /// 0: [`ZBT_MICRO`].
    pub block_type: U64,
    /// 8: start value of the hash; not zero.
    pub salt: U64,
    /// 16: normalisation of names.
    pub normflags: U64,
    /// 24: zero.
    pub pad: [U64; 5],
}

const _: () = assert!(size_of::<RawMzapHeader>() == MZAP_ENTRY_SIZE);

/// Entry of a micro-ZAP; free when the name is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawMzapEntry {
    /// 0: the value.
    pub value: U64,
    /// 8: collision differentiator: unique among entries of equal hash.
    pub cd: U32,
    /// 12: zero.
    pub pad: U16,
    /// 14: NUL-terminated name.
    pub name: [u8; MZAP_NAME_SIZE],
}

const _: () = assert!(size_of::<RawMzapEntry>() == MZAP_ENTRY_SIZE);

impl RawMzapEntry {
    /// A free entry.
    pub const FREE: Self =
        Self { value: U64::ZERO, cd: U32::ZERO, pad: U16::ZERO, name: [0; MZAP_NAME_SIZE] };

    /// The name up to its NUL; empty for a free entry. A name without NUL is cut at the field's end.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let len = self.name.iter().position(|b| *b == 0).unwrap_or(MZAP_NAME_SIZE - 1);
        &self.name[..len]
    }

    /// Sets the name; false if it is empty, too long, or contains a NUL.
    #[must_use]
    pub fn set_name(&mut self, name: &[u8]) -> bool {
        if name.is_empty() || name.len() >= MZAP_NAME_SIZE || name.contains(&0) {
            return false;
        }
        self.name = [0; MZAP_NAME_SIZE];
        self.name[..name.len()].copy_from_slice(name);
        true
    }
}

/// The pointer table of a fat ZAP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawZapTable {
    /// First block of the table.
    pub blk: U64,
    /// Blocks of the table; 0 = the table is the second half of the header block.
    pub numblks: U64,
    /// log2 of the number of pointers.
    pub shift: U64,
    /// First block of the table that is being grown into; 0 = not growing.
    pub nextblk: U64,
    /// How many blocks of the old table were copied.
    pub blks_copied: U64,
}

/// Start of a fat ZAP's header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawZapHeader {
    /// 0: [`ZBT_HEADER`].
    pub block_type: U64,
    /// 8: [`ZAP_MAGIC`].
    pub magic: U64,
    /// 16: pointer table.
    pub ptrtbl: RawZapTable,
    /// 56: next block to hand out.
    pub freeblk: U64,
    /// 64: leaves.
    pub num_leafs: U64,
    /// 72: entries.
    pub num_entries: U64,
    /// 80: start value of the hash; not zero.
    pub salt: U64,
    /// 88: normalisation of names.
    pub normflags: U64,
    /// 96: [`ZapFlags`].
    pub flags: U64,
}

/// Size of the header's fields (the block goes on with zeros and perhaps the embedded table).
pub const ZAP_HEADER_SIZE: usize = 104;
const _: () = assert!(size_of::<RawZapHeader>() == ZAP_HEADER_SIZE);

/// Header of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLeafHeader {
    /// 0: [`ZBT_LEAF`].
    pub block_type: U64,
    /// 8: zero.
    pub pad1: U64,
    /// 16: the hash bits all entries of this leaf share.
    pub prefix: U64,
    /// 24: [`LEAF_MAGIC`].
    pub magic: U32,
    /// 28: free chunks.
    pub nfree: U16,
    /// 30: entries.
    pub nentries: U16,
    /// 32: how many bits `prefix` has.
    pub prefix_len: U16,
    /// 34: first free chunk.
    pub freelist: U16,
    /// 36: [`LEAF_CD_SORTED`].
    pub flags: u8,
    /// 37: zero.
    pub pad2: [u8; 11],
}

/// Size of the leaf header; the hash table follows.
pub const LEAF_HEADER_SIZE: usize = 48;
const _: () = assert!(size_of::<RawLeafHeader>() == LEAF_HEADER_SIZE);
/// Chains of the leaf are sorted by collision differentiator.
pub const LEAF_CD_SORTED: u8 = 1;

/// Size of a chunk.
pub const CHUNK_SIZE: usize = 24;
/// Bytes of name or value in an array chunk.
pub const CHUNK_ARRAY_BYTES: usize = 21;
/// End of a chain.
pub const CHAIN_END: u16 = 0xffff;
/// Tag of a free chunk.
pub const CHUNK_FREE: u8 = 253;
/// Tag of an entry chunk.
pub const CHUNK_ENTRY: u8 = 252;
/// Tag of an array chunk.
pub const CHUNK_ARRAY: u8 = 251;

/// log2 of the hash table's length in a leaf of that block size.
#[must_use]
pub const fn leaf_hash_shift(block_shift: u32) -> u32 {
    block_shift.saturating_sub(5)
}

/// Length of the hash table in a leaf of that block size.
#[must_use]
pub const fn leaf_hash_entries(block_shift: u32) -> usize {
    1 << leaf_hash_shift(block_shift)
}

/// Chunks in a leaf of that block size.
#[must_use]
pub const fn leaf_chunks(block_shift: u32) -> usize {
    ((1usize << block_shift) - 2 * leaf_hash_entries(block_shift)) / CHUNK_SIZE - 2
}

/// Position of the first chunk in a leaf of that block size.
#[must_use]
pub const fn leaf_chunks_offset(block_shift: u32) -> usize {
    LEAF_HEADER_SIZE + 2 * leaf_hash_entries(block_shift)
}

/// Entry chunk: a name, a value, and their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLeafEntry {
    /// 0: [`CHUNK_ENTRY`].
    pub tag: u8,
    /// 1: size of an integer of the value: 1, 2, 4 or 8.
    pub value_intlen: u8,
    /// 2: next entry of the chain.
    pub next: U16,
    /// 4: first chunk of the name.
    pub name_chunk: U16,
    /// 6: integers in the name: bytes with the NUL, or words.
    pub name_numints: U16,
    /// 8: first chunk of the value.
    pub value_chunk: U16,
    /// 10: integers in the value.
    pub value_numints: U16,
    /// 12: collision differentiator.
    pub cd: U32,
    /// 16: hash of the name.
    pub hash: U64,
}

const _: () = assert!(size_of::<RawLeafEntry>() == CHUNK_SIZE);

/// Array chunk: a piece of a name or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLeafArray {
    /// 0: [`CHUNK_ARRAY`].
    pub tag: u8,
    /// 1: bytes.
    pub bytes: [u8; CHUNK_ARRAY_BYTES],
    /// 22: next chunk of the name or value.
    pub next: U16,
}

const _: () = assert!(size_of::<RawLeafArray>() == CHUNK_SIZE);

/// Free chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawLeafFree {
    /// 0: [`CHUNK_FREE`].
    pub tag: u8,
    /// 1: anything.
    pub pad: [u8; CHUNK_ARRAY_BYTES],
    /// 22: next free chunk.
    pub next: U16,
}

const _: () = assert!(size_of::<RawLeafFree>() == CHUNK_SIZE);
