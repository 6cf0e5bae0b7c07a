//! System attributes: the header before the packed attributes of a bonus or spill block, the registry's words, and the
//! attribute names of a file system.
//!
//! Attribute and layout numbers are per dataset: look them up in the registry, never assume them.

use crate::error::{OndiskError, Result};
use crate::le::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number of an SA header.
pub const SA_MAGIC: u32 = 0x002f_505a;
/// Layout number of the fixed znode of old file systems.
pub const LAYOUT_LEGACY: u16 = 0;
/// Layout number of "no attributes".
pub const LAYOUT_DUMMY: u16 = 1;
/// First layout number that describes anything.
pub const LAYOUT_FIRST: u16 = 2;

/// Fixed part of an SA header. Lengths of variable attributes follow as 16-bit words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawSaHeader {
    /// 0: [`SA_MAGIC`].
    pub magic: U32,
    /// 4: bits 0-9 layout, 10-15 header size in units of 8 bytes.
    pub info: U16,
}

const _: () = assert!(size_of::<RawSaHeader>() == 6);

/// A validated SA header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaHeader {
    /// Layout number.
    pub layout: u16,
    /// Bytes of the header, lengths and padding included; a multiple of 8, at least 8.
    pub size: usize,
}

impl SaHeader {
    /// Largest layout number the header can carry.
    pub const LAYOUT_MAX: u16 = (1 << 10) - 1;

    /// Parses the header at the start of a bonus or spill block.
    ///
    /// # Errors
    /// `ForeignEndian` for a byte-swapped magic, `BadMagic`, `BadSize`, `Truncated`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (raw, _) = RawSaHeader::ref_from_prefix(bytes).map_err(|_| OndiskError::Truncated)?;
        match raw.magic.get() {
            SA_MAGIC => {}
            m if m == SA_MAGIC.swap_bytes() => return Err(OndiskError::ForeignEndian),
            _ => return Err(OndiskError::BadMagic),
        }
        let info = raw.info.get();
        let header = Self { layout: info & Self::LAYOUT_MAX, size: usize::from(info >> 10) << 3 };
        if header.size < 8 {
            return Err(OndiskError::BadSize);
        }
        if header.size > bytes.len() {
            return Err(OndiskError::Truncated);
        }
        Ok(header)
    }

    /// Size of a header with that many variable attributes.
    #[must_use]
    pub const fn size_for(variable_attrs: usize) -> usize {
        (6 + 2 * variable_attrs).next_multiple_of(8)
    }

    /// On-disk form of the fixed part.
    ///
    /// # Errors
    /// `DoesNotFit` when layout or size have no on-disk form.
    pub fn to_raw(&self) -> Result<RawSaHeader> {
        let units = u16::try_from(self.size >> 3).map_err(|_| OndiskError::DoesNotFit)?;
        if self.layout > Self::LAYOUT_MAX || !self.size.is_multiple_of(8) || units >= 1 << 6 {
            return Err(OndiskError::DoesNotFit);
        }
        Ok(RawSaHeader { magic: SA_MAGIC.into(), info: (self.layout | units << 10).into() })
    }

    /// Length of variable attribute `index`, in layout order; `None` when the header has no such word.
    #[must_use]
    pub fn variable_length(&self, bytes: &[u8], index: usize) -> Option<u16> {
        let start = 6usize.checked_add(index.checked_mul(2)?)?;
        let end = start.checked_add(2)?;
        if end > self.size {
            return None;
        }
        bytes.get(start..end).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes)
    }
}

/// How an attribute's bytes are swapped (`sa_bswap_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SaByteswap {
    /// 64-bit words.
    U64 = 0,
    /// 32-bit words.
    U32 = 1,
    /// 16-bit words.
    U16 = 2,
    /// Bytes.
    U8 = 3,
    /// ACL.
    Acl = 4,
}

impl SaByteswap {
    /// The class of that number.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::U64,
            1 => Self::U32,
            2 => Self::U16,
            3 => Self::U8,
            4 => Self::Acl,
            _ => return None,
        })
    }
}

/// A registered attribute: the value of its name in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaRegistration {
    /// Number in layouts.
    pub number: u16,
    /// How its bytes are swapped.
    pub byteswap: SaByteswap,
    /// Bytes; 0 = variable.
    pub length: u16,
}

impl SaRegistration {
    /// Unpacks a registry word: bits 0-15 number, 16-23 byteswap class, 24-39 length.
    ///
    /// # Errors
    /// `BadType` for an unknown byteswap class.
    pub fn unpack(word: u64) -> Result<Self> {
        Ok(Self {
            number: word as u16,
            byteswap: SaByteswap::from_id((word >> 16) as u8).ok_or(OndiskError::BadType)?,
            length: (word >> 24) as u16,
        })
    }

    /// Packs a registry word.
    #[must_use]
    pub const fn pack(&self) -> u64 {
        self.number as u64 | (self.byteswap as u64) << 16 | (self.length as u64) << 24
    }
}

/// Attributes of a file system as a fresh one registers them: number = index, name, byteswap class, length.
pub const ZPL_ATTRIBUTES: [(&str, SaByteswap, u16); 22] = [
    ("ZPL_ATIME", SaByteswap::U64, 16),
    ("ZPL_MTIME", SaByteswap::U64, 16),
    ("ZPL_CTIME", SaByteswap::U64, 16),
    ("ZPL_CRTIME", SaByteswap::U64, 16),
    ("ZPL_GEN", SaByteswap::U64, 8),
    ("ZPL_MODE", SaByteswap::U64, 8),
    ("ZPL_SIZE", SaByteswap::U64, 8),
    ("ZPL_PARENT", SaByteswap::U64, 8),
    ("ZPL_LINKS", SaByteswap::U64, 8),
    ("ZPL_XATTR", SaByteswap::U64, 8),
    ("ZPL_RDEV", SaByteswap::U64, 8),
    ("ZPL_FLAGS", SaByteswap::U64, 8),
    ("ZPL_UID", SaByteswap::U64, 8),
    ("ZPL_GID", SaByteswap::U64, 8),
    ("ZPL_PAD", SaByteswap::U64, 32),
    ("ZPL_ZNODE_ACL", SaByteswap::U8, 88),
    ("ZPL_DACL_COUNT", SaByteswap::U64, 8),
    ("ZPL_SYMLINK", SaByteswap::U8, 0),
    ("ZPL_SCANSTAMP", SaByteswap::U8, 32),
    ("ZPL_DACL_ACES", SaByteswap::Acl, 0),
    ("ZPL_DXATTR", SaByteswap::U8, 0),
    ("ZPL_PROJID", SaByteswap::U64, 8),
];
