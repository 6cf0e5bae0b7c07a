//! Compression algorithms by id (block pointers, dnodes, the `compression` property).
//!
//! Only identification is here; the coders are crate `codec`.

/// A compression algorithm (`enum zio_compress`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Property: take the parent's.
    Inherit = 0,
    /// Property: the default (lz4, lzjb on pools without it).
    On = 1,
    /// Not compressed.
    Off = 2,
    /// LZJB.
    Lzjb = 3,
    /// A block of zeros; never written as a stored block.
    Empty = 4,
    /// zlib stream, level 1.
    Gzip1 = 5,
    /// zlib stream, level 2.
    Gzip2 = 6,
    /// zlib stream, level 3.
    Gzip3 = 7,
    /// zlib stream, level 4.
    Gzip4 = 8,
    /// zlib stream, level 5.
    Gzip5 = 9,
    /// zlib stream, level 6.
    Gzip6 = 10,
    /// zlib stream, level 7.
    Gzip7 = 11,
    /// zlib stream, level 8.
    Gzip8 = 12,
    /// zlib stream, level 9.
    Gzip9 = 13,
    /// Runs of zeros.
    Zle = 14,
    /// LZ4 with a big-endian length before it.
    Lz4 = 15,
    /// Zstandard with a ZFS header before it.
    Zstd = 16,
}

impl Compression {
    /// Number of ids the format defines.
    pub const COUNT: u8 = 17;

    const ALL: [Self; Self::COUNT as usize] = [
        Self::Inherit,
        Self::On,
        Self::Off,
        Self::Lzjb,
        Self::Empty,
        Self::Gzip1,
        Self::Gzip2,
        Self::Gzip3,
        Self::Gzip4,
        Self::Gzip5,
        Self::Gzip6,
        Self::Gzip7,
        Self::Gzip8,
        Self::Gzip9,
        Self::Zle,
        Self::Lz4,
        Self::Zstd,
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

    /// Level of a gzip id.
    #[must_use]
    pub const fn gzip_level(self) -> Option<u8> {
        let id = self.id();
        if id >= Self::Gzip1.id() && id <= Self::Gzip9.id() { Some(id - Self::Gzip1.id() + 1) } else { None }
    }

    /// Name as the `compression` property prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inherit => "inherit",
            Self::On => "on",
            Self::Off => "off",
            Self::Lzjb => "lzjb",
            Self::Empty => "empty",
            Self::Gzip1 => "gzip-1",
            Self::Gzip2 => "gzip-2",
            Self::Gzip3 => "gzip-3",
            Self::Gzip4 => "gzip-4",
            Self::Gzip5 => "gzip-5",
            Self::Gzip6 => "gzip-6",
            Self::Gzip7 => "gzip-7",
            Self::Gzip8 => "gzip-8",
            Self::Gzip9 => "gzip-9",
            Self::Zle => "zle",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The algorithm of that property name; `gzip` alone is level 6.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "gzip" {
            return Some(Self::Gzip6);
        }
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}
