//! Checksum algorithms by id (block pointers, dnodes, the `checksum` property) and the four-word digest.
//!
//! Only identification is here; the arithmetic is crate `codec`.

use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A checksum algorithm (`enum zio_checksum`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Checksum {
    /// Property: take the parent's.
    Inherit = 0,
    /// Property: the default, which is fletcher-4.
    On = 1,
    /// No checksum.
    Off = 2,
    /// Embedded SHA-256 of labels, uberblocks and the boot environment.
    Label = 3,
    /// Embedded SHA-256 of a gang header.
    GangHeader = 4,
    /// Embedded fletcher-2 of an old log block (trailer at the end).
    Zilog = 5,
    /// Fletcher-2.
    Fletcher2 = 6,
    /// Fletcher-4.
    Fletcher4 = 7,
    /// SHA-256.
    Sha256 = 8,
    /// Embedded fletcher-4 of a log block (header first).
    Zilog2 = 9,
    /// No checksum, and no parity either.
    NoParity = 10,
    /// SHA-512/256.
    Sha512 = 11,
    /// Skein-512-256 keyed by the pool's salt.
    Skein = 12,
    /// Edon-R 512 with the pool's salt, truncated.
    EdonR = 13,
    /// BLAKE3 keyed by the pool's salt.
    Blake3 = 14,
}

impl Checksum {
    /// Number of ids the format defines.
    pub const COUNT: u8 = 15;

    const ALL: [Self; Self::COUNT as usize] = [
        Self::Inherit,
        Self::On,
        Self::Off,
        Self::Label,
        Self::GangHeader,
        Self::Zilog,
        Self::Fletcher2,
        Self::Fletcher4,
        Self::Sha256,
        Self::Zilog2,
        Self::NoParity,
        Self::Sha512,
        Self::Skein,
        Self::EdonR,
        Self::Blake3,
    ];

    /// The algorithm of that id, if the format defines it.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The id.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The digest lies in the block itself (trailer or log header), not in the block pointer.
    #[must_use]
    pub const fn is_embedded(self) -> bool {
        matches!(self, Self::Label | Self::GangHeader | Self::Zilog | Self::Zilog2)
    }

    /// The algorithm is keyed by the pool's checksum salt.
    #[must_use]
    pub const fn is_salted(self) -> bool {
        matches!(self, Self::Skein | Self::EdonR | Self::Blake3)
    }

    /// Name as the `checksum` property and pool history print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inherit => "inherit",
            Self::On => "on",
            Self::Off => "off",
            Self::Label => "label",
            Self::GangHeader => "gang_header",
            Self::Zilog => "zilog",
            Self::Fletcher2 => "fletcher2",
            Self::Fletcher4 => "fletcher4",
            Self::Sha256 => "sha256",
            Self::Zilog2 => "zilog2",
            Self::NoParity => "noparity",
            Self::Sha512 => "sha512",
            Self::Skein => "skein",
            Self::EdonR => "edonr",
            Self::Blake3 => "blake3",
        }
    }

    /// The algorithm of that property name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// Four checksum words as values (`zio_cksum_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u64; 4]);

impl Digest {
    /// All zero, as in holes and in blocks without checksum.
    pub const ZERO: Self = Self([0; 4]);

    /// Every word byte-swapped.
    #[must_use]
    pub fn swap_bytes(self) -> Self {
        Self(self.0.map(u64::swap_bytes))
    }
}

/// [`Digest`] on disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawDigest(pub [U64; 4]);

impl From<Digest> for RawDigest {
    fn from(digest: Digest) -> Self {
        Self(digest.0.map(U64::new))
    }
}

impl From<RawDigest> for Digest {
    fn from(raw: RawDigest) -> Self {
        Self(raw.0.map(U64::get))
    }
}
