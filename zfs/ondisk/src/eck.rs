//! The 40-byte trailer of blocks that carry their own checksum: labels, uberblocks, boot environment, gang headers,
//! old log blocks (`zio_eck`).
//!
//! The digest is taken over the whole buffer with the *verifier* in the digest's place, so that a block found at
//! the wrong place does not verify. The arithmetic is in `codec`.

use crate::checksum::{Digest, RawDigest};
use crate::dva::Dva;
use crate::ids::Txg;
use crate::le::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Magic number of the trailer.
pub const ECK_MAGIC: u64 = 0x0210_da7a_b10c_7a11;

/// The trailer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawEck {
    /// [`ECK_MAGIC`]; byte-swapped when the writer was big-endian.
    pub magic: U64,
    /// Digest of the buffer.
    pub digest: RawDigest,
}

/// Size of the trailer.
pub const ECK_SIZE: usize = 40;
const _: () = assert!(size_of::<RawEck>() == ECK_SIZE);

/// Verifier of a label, boot environment or uberblock: its absolute byte offset on the device.
#[must_use]
pub const fn label_verifier(device_offset: u64) -> Digest {
    Digest([device_offset, 0, 0, 0])
}

/// Verifier of every copy of a gang header: the address of the *first* copy, and the physical birth.
#[must_use]
pub const fn gang_verifier(first: &Dva, phys_birth: Txg) -> Digest {
    Digest([first.vdev as u64, first.offset, phys_birth.0, 0])
}
