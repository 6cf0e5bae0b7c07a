//! Gang header: a block that stands for one that found no contiguous space, and points to its pieces.
//!
//! 512 bytes: three block pointers, padding, trailer. With the feature `dynamic_gang_header` it may be any larger power
//! of two, with as many pointers as fit. The pieces hold consecutive parts of the already compressed data.

use crate::blkptr::{BLKPTR_SIZE, BlkPtr, RawBlkPtr};
use crate::eck::ECK_SIZE;
use crate::error::{OndiskError, Result};
use zerocopy::FromBytes;

/// Size of the ordinary gang header.
pub const GANG_HEADER_SIZE: usize = 512;
/// Pieces in the ordinary gang header.
pub const GANG_CHILDREN: usize = 3;

/// Pieces a header of that size can have.
#[must_use]
pub const fn gang_capacity(header_size: usize) -> usize {
    header_size.saturating_sub(ECK_SIZE) / BLKPTR_SIZE
}

/// The piece `index` of a gang header.
///
/// # Errors
/// `Truncated` when the header has no such piece; else what is wrong with the pointer.
pub fn gang_child(header: &[u8], index: usize) -> Result<BlkPtr> {
    if index >= gang_capacity(header.len()) {
        return Err(OndiskError::Truncated);
    }
    let bytes = header.get(index * BLKPTR_SIZE..(index + 1) * BLKPTR_SIZE).ok_or(OndiskError::Truncated)?;
    RawBlkPtr::ref_from_bytes(bytes).map_err(|_| OndiskError::Truncated)?.parse()
}

/// Stores piece `index` into a gang header.
///
/// # Errors
/// `DoesNotFit` when the header has no such piece.
pub fn set_gang_child(header: &mut [u8], index: usize, bp: &BlkPtr) -> Result<()> {
    if index >= gang_capacity(header.len()) {
        return Err(OndiskError::DoesNotFit);
    }
    let place = header.get_mut(index * BLKPTR_SIZE..(index + 1) * BLKPTR_SIZE);
    place.ok_or(OndiskError::DoesNotFit)?.copy_from_slice(&bp.to_bytes());
    Ok(())
}
