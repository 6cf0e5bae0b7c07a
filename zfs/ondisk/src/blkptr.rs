//! The 128-byte block pointer: where a block lies, what it is, what it must hash to.
//!
//! | word | content |
//! |---|---|
//! | 0..6 | three DVAs, two words each |
//! | 6 | bits 0-15 lsize, 16-31 psize (sectors less one), 32-38 compression, 39 embedded, 40-47 checksum, 48-55 type, 56-60 level, 61 crypt, 62 dedup, 63 little-endian |
//! | 7 | bit 63 rewritten; rest zero |
//! | 8 | zero |
//! | 9 | physical birth, 0 = same as logical |
//! | 10 | logical birth |
//! | 11 | fill count (encrypted: low half fill, high half the end of the IV) |
//! | 12..16 | checksum |
//!
//! [`RawBlkPtr`] is what lies on disk; [`BlkPtr`] has passed [`RawBlkPtr::parse`], so no accessor of it can fail.
//! What `parse` cannot know (whether a vdev exists, whether an offset lies on it) is the pool's to check.

use crate::checksum::{Checksum, Digest};
use crate::compression::Compression;
use crate::dmu_type::DmuType;
use crate::dva::Dva;
use crate::error::{OndiskError, Result};
use crate::ids::Txg;
use crate::le::U64;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Smallest block, and the unit of most sizes: 512 bytes.
pub const SECTOR_SIZE: u32 = 1 << SECTOR_SHIFT;
/// log2 of [`SECTOR_SIZE`].
pub const SECTOR_SHIFT: u32 = 9;
/// Largest block the format allows: 16 MiB.
pub const MAX_BLOCK_SIZE: u32 = 1 << 24;
/// Largest block without the feature `large_blocks`: 128 KiB.
pub const OLD_MAX_BLOCK_SIZE: u32 = 1 << 17;
/// Size of a block pointer.
pub const BLKPTR_SIZE: usize = 128;
/// log2 of [`BLKPTR_SIZE`].
pub const BLKPTR_SHIFT: u32 = 7;
/// DVAs in a block pointer.
pub const DVAS_PER_BP: usize = 3;
/// Bytes an embedded block pointer can hold.
pub const EMBEDDED_PAYLOAD_SIZE: usize = 112;

const WORD_PROP: usize = 6;
const WORD_PAD0: usize = 7;
const WORD_PHYS_BIRTH: usize = 9;
const WORD_BIRTH: usize = 10;
const WORD_FILL: usize = 11;
const WORD_CKSUM: usize = 12;
/// Words of an embedded block pointer that hold payload, in order.
const PAYLOAD_WORDS: [usize; 14] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 15];

/// A block pointer as it lies on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBlkPtr(pub [U64; 16]);

const _: () = assert!(size_of::<RawBlkPtr>() == BLKPTR_SIZE);

impl RawBlkPtr {
    /// A hole without birth: all zero.
    pub const HOLE: Self = Self([U64::ZERO; 16]);

    /// Checks every field against the limits of the format.
    ///
    /// # Errors
    /// The first field that is out of its limits.
    pub fn parse(&self) -> Result<BlkPtr> {
        let bp = BlkPtr { words: self.0.map(U64::get) };
        bp.check()?;
        Ok(bp)
    }

    /// True if every byte is zero: a hole that was never written. Cheaper than parsing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|w| *w == U64::ZERO)
    }
}

/// What an embedded block pointer holds (`bp_embedded_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EmbeddedType {
    /// The block's (perhaps compressed) data.
    Data = 0,
    /// Reserved.
    Reserved = 1,
    /// The block was left out by a redacted send.
    Redacted = 2,
}

/// A validated block pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlkPtr {
    words: [u64; 16],
}

impl Default for BlkPtr {
    fn default() -> Self {
        Self::HOLE
    }
}

impl BlkPtr {
    /// A hole without birth: all zero.
    pub const HOLE: Self = Self { words: [0; 16] };

    /// Largest level that `bp` words may hold and a dnode may have.
    pub const MAX_LEVEL: u8 = 31;

    /// A hole that remembers since when it is one (feature `hole_birth`).
    #[must_use]
    pub fn new_hole(ty: DmuType, level: u8, lsize: u32, birth: Txg) -> Self {
        let mut bp = Self::HOLE;
        bp.set_type(ty);
        bp.set_level(level);
        bp.set_lsize(lsize);
        bp.set_birth(birth, Txg::ZERO);
        bp
    }

    /// On-disk form.
    #[must_use]
    pub fn to_raw(&self) -> RawBlkPtr {
        RawBlkPtr(self.words.map(U64::new))
    }

    /// Writes the on-disk form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BLKPTR_SIZE] {
        let mut out = [0; BLKPTR_SIZE];
        for (chunk, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(self.words) {
            *chunk = word.to_le_bytes();
        }
        out
    }

    /// Parses 128 bytes.
    ///
    /// # Errors
    /// As [`RawBlkPtr::parse`]; `Truncated` if `bytes` is not exactly one block pointer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        RawBlkPtr::ref_from_bytes(bytes).map_err(|_| OndiskError::Truncated)?.parse()
    }

    /// The sixteen words.
    #[must_use]
    pub const fn words(&self) -> &[u64; 16] {
        &self.words
    }

    fn check(&self) -> Result<()> {
        let prop = self.words[WORD_PROP];
        DmuType::from_id(bits(prop, 48, 8) as u8).ok_or(OndiskError::BadType)?;
        Compression::from_id(bits(prop, 32, 7) as u8).ok_or(OndiskError::BadCompressionId)?;
        if self.is_embedded() {
            if bits(prop, 40, 8) > 2 {
                return Err(OndiskError::BadEmbedded);
            }
            let too_long = self.psize() as usize > EMBEDDED_PAYLOAD_SIZE;
            if self.lsize() > MAX_BLOCK_SIZE || too_long {
                return Err(OndiskError::BadSize);
            }
            return Ok(());
        }
        Checksum::from_id(bits(prop, 40, 8) as u8).ok_or(OndiskError::BadChecksumId)?;
        if self.lsize() > MAX_BLOCK_SIZE || self.psize() > MAX_BLOCK_SIZE {
            return Err(OndiskError::BadSize);
        }
        // The third address of an encrypted block is its salt and half of its initialisation vector: any bits at all.
        let nr_addresses = if self.is_encrypted() { DVAS_PER_BP - 1 } else { DVAS_PER_BP };
        let pairs = self.words[..WORD_PROP].as_chunks::<2>().0;
        pairs.iter().take(nr_addresses).try_for_each(|pair| Dva::check(*pair))
    }

    // --- where ---------------------------------------------------------------------------------------------------

    /// The `index`th copy's address; the empty address when embedded, absent, or `index` is above 2.
    #[must_use]
    pub fn dva(&self, index: usize) -> Dva {
        if self.is_embedded() || index >= DVAS_PER_BP {
            return Dva::EMPTY;
        }
        if index == 2 && self.is_encrypted() {
            return Dva::EMPTY;
        }
        Dva::from_words([self.words[2 * index], self.words[2 * index + 1]])
    }

    /// The addresses that are in use, in order.
    pub fn dvas(&self) -> impl Iterator<Item = Dva> + '_ {
        (0..DVAS_PER_BP).map(|i| self.dva(i)).filter(|d| !d.is_empty())
    }

    /// How many copies there are.
    #[must_use]
    pub fn nr_dvas(&self) -> usize {
        self.dvas().count()
    }

    /// Sets the `index`th copy's address; `index` above 2 changes nothing.
    ///
    /// # Errors
    /// `DoesNotFit` when the address has no on-disk form.
    pub fn set_dva(&mut self, index: usize, dva: Dva) -> Result<()> {
        let words = dva.to_words()?;
        if let Some(pair) = self.words[..WORD_PROP].as_chunks_mut::<2>().0.get_mut(index) {
            *pair = words;
        }
        Ok(())
    }

    /// Sum of the allocated sizes of all copies, in bytes (before deflation).
    #[must_use]
    pub fn asize(&self) -> u64 {
        self.dvas().map(|d| d.asize).sum()
    }

    /// No data: reads as zeros. It may still have a type, a size and a birth.
    #[must_use]
    pub const fn is_hole(&self) -> bool {
        !self.is_embedded() && self.words[0] == 0 && self.words[1] == 0
    }

    /// The first copy points to a gang header.
    #[must_use]
    pub fn is_gang(&self) -> bool {
        !self.is_embedded() && self.dva(0).gang
    }

    // --- what ----------------------------------------------------------------------------------------------------

    /// Logical (uncompressed) size in bytes. A hole without birth says 512, as the format has no zero.
    #[must_use]
    pub const fn lsize(&self) -> u32 {
        let prop = self.words[WORD_PROP];
        if self.is_embedded() {
            bits(prop, 0, 25) as u32 + 1
        } else {
            (bits(prop, 0, 16) as u32 + 1) << SECTOR_SHIFT
        }
    }

    /// Physical size in bytes: what the checksum covers. For embedded ones, the payload's length.
    #[must_use]
    pub const fn psize(&self) -> u32 {
        let prop = self.words[WORD_PROP];
        if self.is_embedded() {
            bits(prop, 25, 7) as u32 + 1
        } else {
            (bits(prop, 16, 16) as u32 + 1) << SECTOR_SHIFT
        }
    }

    /// Sets the logical size; it must be a multiple of 512 up to 32 MiB (other sizes are rounded up and capped).
    pub fn set_lsize(&mut self, bytes: u32) {
        let sectors = u64::from(bytes.div_ceil(SECTOR_SIZE).clamp(1, 0x1_0000) - 1);
        set_bits(&mut self.words[WORD_PROP], 0, 16, sectors);
    }

    /// Sets the physical size; rules as for [`Self::set_lsize`].
    pub fn set_psize(&mut self, bytes: u32) {
        let sectors = u64::from(bytes.div_ceil(SECTOR_SIZE).clamp(1, 0x1_0000) - 1);
        set_bits(&mut self.words[WORD_PROP], 16, 16, sectors);
    }

    /// Compression algorithm.
    #[must_use]
    pub fn compression(&self) -> Compression {
        Compression::from_id(bits(self.words[WORD_PROP], 32, 7) as u8).unwrap_or(Compression::Off)
    }

    /// Sets the compression algorithm.
    pub fn set_compression(&mut self, c: Compression) {
        set_bits(&mut self.words[WORD_PROP], 32, 7, u64::from(c.id()));
    }

    /// Checksum algorithm; `Off` for embedded ones.
    #[must_use]
    pub fn checksum_alg(&self) -> Checksum {
        if self.is_embedded() {
            return Checksum::Off;
        }
        Checksum::from_id(bits(self.words[WORD_PROP], 40, 8) as u8).unwrap_or(Checksum::Off)
    }

    /// Sets the checksum algorithm.
    pub fn set_checksum_alg(&mut self, c: Checksum) {
        set_bits(&mut self.words[WORD_PROP], 40, 8, u64::from(c.id()));
    }

    /// Type of the object the block belongs to.
    #[must_use]
    pub const fn dmu_type(&self) -> DmuType {
        DmuType(bits(self.words[WORD_PROP], 48, 8) as u8)
    }

    /// Sets the type.
    pub fn set_type(&mut self, ty: DmuType) {
        set_bits(&mut self.words[WORD_PROP], 48, 8, u64::from(ty.id()));
    }

    /// Indirection level: 0 is data.
    #[must_use]
    pub const fn level(&self) -> u8 {
        bits(self.words[WORD_PROP], 56, 5) as u8
    }

    /// Sets the level (0 to 31).
    pub fn set_level(&mut self, level: u8) {
        set_bits(&mut self.words[WORD_PROP], 56, 5, u64::from(level));
    }

    /// The payload lies in the pointer itself.
    #[must_use]
    pub const fn is_embedded(&self) -> bool {
        bits(self.words[WORD_PROP], 39, 1) == 1
    }

    /// The crypt bit, whatever it means for this type and level.
    #[must_use]
    pub const fn uses_crypt(&self) -> bool {
        bits(self.words[WORD_PROP], 61, 1) == 1
    }

    /// The data is encrypted (needs a key).
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.uses_crypt() && self.level() == 0 && self.dmu_type().is_encrypted()
    }

    /// The data is plain but carries a keyed MAC.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.uses_crypt() && self.level() == 0 && !self.dmu_type().is_encrypted()
    }

    /// An indirect block of an encrypted object: carries the hash of its children's MACs.
    #[must_use]
    pub const fn has_indirect_mac(&self) -> bool {
        self.uses_crypt() && self.level() > 0
    }

    /// Freeing it must consult the dedup table.
    #[must_use]
    pub const fn is_dedup(&self) -> bool {
        bits(self.words[WORD_PROP], 62, 1) == 1
    }

    /// Sets the dedup bit.
    pub fn set_dedup(&mut self, on: bool) {
        set_bits(&mut self.words[WORD_PROP], 62, 1, u64::from(on));
    }

    /// The block's content is little-endian; if not, it must be byte-swapped on read.
    #[must_use]
    pub const fn is_little_endian(&self) -> bool {
        bits(self.words[WORD_PROP], 63, 1) == 1
    }

    /// Sets the byte order bit.
    pub fn set_little_endian(&mut self, on: bool) {
        set_bits(&mut self.words[WORD_PROP], 63, 1, u64::from(on));
    }

    /// The block was rewritten in place of itself (feature `physical_rewrite`).
    #[must_use]
    pub const fn is_rewritten(&self) -> bool {
        !self.is_embedded() && bits(self.words[WORD_PAD0], 63, 1) == 1
    }

    // --- when ----------------------------------------------------------------------------------------------------

    /// Logical birth: the transaction group in which this content came into being.
    #[must_use]
    pub const fn birth(&self) -> Txg {
        Txg(self.words[WORD_BIRTH])
    }

    /// Physical birth: the transaction group in which the block was allocated.
    #[must_use]
    pub const fn phys_birth(&self) -> Txg {
        if self.is_embedded() || self.words[WORD_PHYS_BIRTH] == 0 {
            self.birth()
        } else {
            Txg(self.words[WORD_PHYS_BIRTH])
        }
    }

    /// Sets both births; a physical birth equal to the logical one is stored as 0, as the format asks.
    pub fn set_birth(&mut self, logical: Txg, physical: Txg) {
        self.words[WORD_BIRTH] = logical.0;
        if !self.is_embedded() {
            self.words[WORD_PHYS_BIRTH] = if physical == logical { 0 } else { physical.0 };
        }
    }

    /// Number of non-hole blocks (or allocated dnodes) below and including this one.
    #[must_use]
    pub fn fill(&self) -> u64 {
        if self.is_embedded() {
            1
        } else if self.is_encrypted() {
            self.words[WORD_FILL] & 0xffff_ffff
        } else {
            self.words[WORD_FILL]
        }
    }

    /// Sets the fill count. Embedded pointers have none; encrypted ones keep their IV bits.
    pub fn set_fill(&mut self, fill: u64) {
        if self.is_embedded() {
            return;
        }
        if self.is_encrypted() {
            set_bits(&mut self.words[WORD_FILL], 0, 32, fill & 0xffff_ffff);
        } else {
            self.words[WORD_FILL] = fill;
        }
    }

    // --- checksum, payload ---------------------------------------------------------------------------------------

    /// The checksum words.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        let w = &self.words;
        Digest([w[WORD_CKSUM], w[WORD_CKSUM + 1], w[WORD_CKSUM + 2], w[WORD_CKSUM + 3]])
    }

    /// Sets the checksum words.
    pub fn set_digest(&mut self, digest: Digest) {
        self.words[WORD_CKSUM..].copy_from_slice(&digest.0);
    }

    /// What an embedded pointer holds; `None` if it is not embedded.
    #[must_use]
    pub const fn embedded_type(&self) -> Option<EmbeddedType> {
        if !self.is_embedded() {
            return None;
        }
        Some(match bits(self.words[WORD_PROP], 40, 8) {
            0 => EmbeddedType::Data,
            2 => EmbeddedType::Redacted,
            _ => EmbeddedType::Reserved,
        })
    }

    /// All 112 payload bytes of an embedded pointer; the first [`Self::psize`] of them count.
    #[must_use]
    pub fn payload(&self) -> [u8; EMBEDDED_PAYLOAD_SIZE] {
        let mut out = [0; EMBEDDED_PAYLOAD_SIZE];
        for (chunk, index) in out.as_chunks_mut::<8>().0.iter_mut().zip(PAYLOAD_WORDS) {
            *chunk = self.words[index].to_le_bytes();
        }
        out
    }

    /// An embedded pointer.
    ///
    /// `payload` is the data as compressed by `compression` (`Off` = stored plainly), `lsize` its uncompressed length
    /// in bytes.
    ///
    /// # Errors
    /// `DoesNotFit` when the payload is empty or longer than 112 bytes, or `lsize` is zero or above 16 MiB, or the
    /// type never embeds.
    pub fn new_embedded(
        payload: &[u8],
        lsize: u32,
        compression: Compression,
        ty: DmuType,
        level: u8,
        birth: Txg,
    ) -> Result<Self> {
        let size_ok = (1..=EMBEDDED_PAYLOAD_SIZE).contains(&payload.len());
        if !size_ok || lsize == 0 || lsize > MAX_BLOCK_SIZE || !ty.may_embed() {
            return Err(OndiskError::DoesNotFit);
        }
        let mut padded = [0; EMBEDDED_PAYLOAD_SIZE];
        padded[..payload.len()].copy_from_slice(payload);
        let mut bp = Self::HOLE;
        for (chunk, index) in padded.as_chunks::<8>().0.iter().zip(PAYLOAD_WORDS) {
            bp.words[index] = u64::from_le_bytes(*chunk);
        }
        let prop = &mut bp.words[WORD_PROP];
        set_bits(prop, 0, 25, u64::from(lsize - 1));
        set_bits(prop, 25, 7, payload.len() as u64 - 1);
        set_bits(prop, 39, 1, 1);
        bp.set_compression(compression);
        bp.set_type(ty);
        bp.set_level(level);
        bp.set_little_endian(true);
        bp.words[WORD_BIRTH] = birth.0;
        Ok(bp)
    }
}

impl fmt::Debug for BlkPtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_hole() {
            return write!(f, "BlkPtr(hole birth={})", self.birth());
        }
        write!(
            f,
            "BlkPtr(L{} type={} {}L/{}P comp={} cksum={} birth={} fill={}",
            self.level(),
            self.dmu_type().0,
            self.lsize(),
            self.psize(),
            self.compression().name(),
            self.checksum_alg().name(),
            self.birth(),
            self.fill(),
        )?;
        for dva in self.dvas() {
            write!(f, " {dva:?}")?;
        }
        f.write_str(if self.is_embedded() { " embedded)" } else { ")" })
    }
}

const fn bits(word: u64, shift: u32, len: u32) -> u64 {
    (word >> shift) & ((1 << len) - 1)
}

fn set_bits(word: &mut u64, shift: u32, len: u32, value: u64) {
    let mask = ((1u64 << len) - 1) << shift;
    *word = (*word & !mask) | ((value << shift) & mask);
}
