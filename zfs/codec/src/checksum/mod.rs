//! Digests of whole blocks by algorithm: dispatch, and how each hash becomes four words.
//!
//! SHA-256's bytes are read as big-endian words, the others' bytes are copied as they are; a block of foreign byte order
//! then has its words swapped. The fletchers sum words of the writer's byte order.

mod sha512;

use crate::error::{CodecError, Result};
use crate::fletcher::{Fletcher2, Fletcher4};
use ondisk::{Checksum, Digest};
use sha2::{Digest as _, Sha256};
use sha512::Sha512;

/// The pool's salt for keyed checksums.
pub type Salt = [u8; 32];

/// The algorithm is built in (those that lie in the block itself are in [`crate::embedded`]).
#[must_use]
pub const fn supports_checksum(alg: Checksum) -> bool {
    let is_missing = matches!(alg, Checksum::Skein | Checksum::EdonR | Checksum::Inherit);
    !is_missing && (cfg!(feature = "blake3") || !matches!(alg, Checksum::Blake3))
}

/// A digest in progress over pieces of a block.
///
/// Every piece but the last must be a multiple of 16 bytes, as pages and sectors are.
pub struct Hasher {
    state: State,
    is_foreign: bool,
}

enum State {
    None,
    Fletcher2(Fletcher2),
    Fletcher4(Fletcher4),
    Sha256(Sha256),
    Sha512(Sha512),
    #[cfg(feature = "blake3")]
    Blake3(alloc::boxed::Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts a digest. `is_foreign`: the block was written by a big-endian host.
    ///
    /// # Errors
    /// `Unsupported` for an algorithm that is not built in, `NoSalt` for a keyed one without salt.
    pub fn new(alg: Checksum, is_foreign: bool, salt: Option<&Salt>) -> Result<Self> {
        let state = match alg {
            Checksum::Off | Checksum::NoParity => State::None,
            Checksum::Fletcher2 | Checksum::Zilog => State::Fletcher2(Fletcher2::default()),
            Checksum::Fletcher4 | Checksum::On | Checksum::Zilog2 => State::Fletcher4(Fletcher4::default()),
            Checksum::Sha256 | Checksum::Label | Checksum::GangHeader => State::Sha256(Sha256::new()),
            Checksum::Sha512 => State::Sha512(Sha512::new()),
            Checksum::Blake3 => Self::blake3(salt)?,
            Checksum::Skein | Checksum::EdonR | Checksum::Inherit => return Err(CodecError::Unsupported),
        };
        Ok(Self { state, is_foreign })
    }

    #[cfg(feature = "blake3")]
    fn blake3(salt: Option<&Salt>) -> Result<State> {
        let salt = salt.ok_or(CodecError::NoSalt)?;
        Ok(State::Blake3(alloc::boxed::Box::new(blake3::Hasher::new_keyed(salt))))
    }

    #[cfg(not(feature = "blake3"))]
    fn blake3(_: Option<&Salt>) -> Result<State> {
        Err(CodecError::Unsupported)
    }

    /// Adds a piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.state {
            State::None => {}
            State::Fletcher2(sums) if self.is_foreign => sums.update_foreign(piece),
            State::Fletcher2(sums) => sums.update(piece),
            State::Fletcher4(sums) if self.is_foreign => sums.update_foreign(piece),
            State::Fletcher4(sums) => sums.update(piece),
            State::Sha256(hash) => hash.update(piece),
            State::Sha512(hash) => hash.update(piece),
            #[cfg(feature = "blake3")]
            State::Blake3(hash) => {
                hash.update(piece);
            }
        }
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.state {
            State::None => Digest::ZERO,
            State::Fletcher2(sums) => sums.finish(),
            State::Fletcher4(sums) => sums.finish(),
            State::Sha256(hash) => words(&hash.finalize(), u64::from_be_bytes),
            State::Sha512(hash) => raw_words(&hash.finish(), self.is_foreign),
            #[cfg(feature = "blake3")]
            State::Blake3(hash) => raw_words(hash.finalize().as_bytes(), self.is_foreign),
        }
    }
}

fn raw_words(bytes: &[u8], is_foreign: bool) -> Digest {
    words(bytes, if is_foreign { u64::from_be_bytes } else { u64::from_le_bytes })
}

fn words(bytes: &[u8], word: impl Fn([u8; 8]) -> u64) -> Digest {
    let mut digest = Digest::ZERO;
    for (out, chunk) in digest.0.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *out = word(*chunk);
    }
    digest
}

/// Digest of a block in one piece. `is_foreign`: the block was written by a big-endian host.
///
/// # Errors
/// As [`Hasher::new`].
pub fn checksum(alg: Checksum, bytes: &[u8], is_foreign: bool, salt: Option<&Salt>) -> Result<Digest> {
    let mut hasher = Hasher::new(alg, is_foreign, salt)?;
    hasher.update(bytes);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests;
