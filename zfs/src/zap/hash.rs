//! Keys of a ZAP and their hashes.
//!
//! The hash is a CRC-64 (ECMA polynomial, reflected) started with the ZAP's salt, of which only the top 28 bits (48
//! with the HASH64 flag) are kept. Names are hashed without their NUL.
use crate::{Error, Result};
use alloc::vec::Vec;
use ondisk::zap::{HASH_BITS, HASH_BITS_64, ZAP_NAME_MAX_LONG, ZapFlags};

/// Normalisation: names are hashed in upper case (and still told apart by case). So are the names of snapshots.
pub(super) const NORM_UPPER: u64 = 2;

/// What an entry is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// A name, without NUL.
    Name(&'a [u8]),
    /// An array of words, in ZAPs with the UINT64_KEY flag.
    Words(&'a [u64]),
}

impl Key<'_> {
    /// Size of one integer of the key, as leaves store it.
    pub(super) fn int_size(&self) -> usize {
        match self {
            Self::Name(_) => 1,
            Self::Words(_) => 8,
        }
    }

    /// Integers of the stored key: a name counts its NUL.
    pub(super) fn nr_ints(&self) -> usize {
        match self {
            Self::Name(name) => name.len() + 1,
            Self::Words(words) => words.len(),
        }
    }

    /// The key as leaves store it: integers big-endian, a name with its NUL.
    pub(super) fn stored(&self) -> Vec<u8> {
        match self {
            Self::Name(name) => [*name, &[0]].concat(),
            Self::Words(words) => words.iter().flat_map(|w| w.to_be_bytes()).collect(),
        }
    }

    /// Refuses keys that no ZAP can hold, or not this one, or whose normal form needs tables of Unicode.
    pub(super) fn check(&self, flags: ZapFlags, normflags: u64) -> Result<()> {
        let is_plain = match self {
            Self::Name(name) => normflags == 0 || (normflags == NORM_UPPER && name.is_ascii()),
            Self::Words(_) => normflags == 0,
        };
        if !is_plain {
            return Err(Error::Unsupported);
        }
        let is_words = flags.contains(ZapFlags::UINT64_KEY);
        match self {
            Self::Name(name) if name.is_empty() || name.contains(&0) || is_words => Err(Error::Invalid),
            Self::Name(name) if name.len() > ZAP_NAME_MAX_LONG => Err(Error::NameTooLong),
            Self::Words(words) if words.is_empty() || words.len() > 128 || !is_words => Err(Error::Invalid),
            _ => Ok(()),
        }
    }

    /// The hash under `salt`, of the name as the ZAP's normalisation makes it.
    pub(super) fn hash(&self, salt: u64, flags: ZapFlags, normflags: u64) -> u64 {
        let full = match self {
            Self::Words([first, ..]) if flags.contains(ZapFlags::PRE_HASHED_KEY) => *first,
            Self::Words(words) => words.iter().flat_map(|w| w.to_le_bytes()).fold(salt, step),
            Self::Name(name) if normflags == NORM_UPPER => {
                name.iter().map(u8::to_ascii_uppercase).fold(salt, step)
            }
            Self::Name(name) => name.iter().copied().fold(salt, step),
        };
        full & !(u64::MAX >> hash_bits(flags))
    }
}

/// Top bits of a hash that are kept.
pub(super) fn hash_bits(flags: ZapFlags) -> u32 {
    if flags.contains(ZapFlags::HASH64) { HASH_BITS_64 } else { HASH_BITS }
}

fn step(crc: u64, byte: u8) -> u64 {
    (crc >> 8) ^ CRC64[usize::from(crc.to_le_bytes()[0] ^ byte)]
}

const CRC64: [u64; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xC96C_5795_D787_0F42 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};
