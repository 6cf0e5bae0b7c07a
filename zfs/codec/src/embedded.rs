//! Blocks that carry their own digest: labels, uberblock slots, boot environment, gang headers, log blocks.
//!
//! The digest covers the buffer with the *verifier* in the digest's place. A buffer whose magic number is byte-swapped
//! was written by a big-endian host: verifier and digest are swapped too.

use crate::checksum::Hasher;
use crate::error::{CodecError, Result};
use ondisk::eck::{ECK_MAGIC, ECK_SIZE};
use ondisk::zil::{CHAIN_DIGEST_OFFSET, CHAIN_SIZE, ZILOG2_CHECKSUM_UNIT};
use ondisk::{Checksum, Digest};

const DIGEST_SIZE: usize = 32;
const MAGIC_SIZE: usize = 8;
/// Position of the used-bytes word in a slim log block.
const CHAIN_USED_OFFSET: usize = 136;

/// Byte order of a verified buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Little-endian, ours.
    Native,
    /// Big-endian: to be swapped before it is parsed.
    Foreign,
}

/// Writes the trailer of a label part, uberblock slot, boot environment, or gang header: the last 40 bytes of `buffer`.
///
/// A buffer shorter than the trailer is left alone.
pub fn seal(buffer: &mut [u8], verifier: &Digest) {
    if buffer.len() < ECK_SIZE {
        return;
    }
    let magic_at = buffer.len() - ECK_SIZE;
    let digest_at = buffer.len() - DIGEST_SIZE;
    put_u64(buffer, magic_at, ECK_MAGIC);
    let Ok(digest) = digest_with(Checksum::Label, buffer, digest_at, verifier, ByteOrder::Native) else {
        return;
    };
    put_digest(buffer, digest_at, &digest);
}

/// Verifies what [`seal`] wrote.
///
/// # Errors
/// `Mismatch` when the trailer is missing or the digest differs.
pub fn verify(buffer: &[u8], verifier: &Digest) -> Result<ByteOrder> {
    verify_trailer(Checksum::Label, buffer, verifier)
}

/// Verifies a log block against the digest words of the pointer to it. `alg` is `Zilog` (trailer last) or `Zilog2`
/// (head first, only the used bytes are covered).
///
/// # Errors
/// `Mismatch` when the block is not the one that was to be written there, `Unsupported` for another algorithm.
pub fn verify_log(alg: Checksum, block: &[u8], verifier: &Digest) -> Result<ByteOrder> {
    match alg {
        Checksum::Zilog => verify_trailer(alg, block, verifier),
        Checksum::Zilog2 => {
            let (order, covered) = slim_coverage(block)?;
            let expected = get_digest(block, CHAIN_DIGEST_OFFSET, order)?;
            let actual = digest_with(alg, covered, CHAIN_DIGEST_OFFSET, verifier, order)?;
            if actual == expected { Ok(order) } else { Err(CodecError::Mismatch) }
        }
        _ => Err(CodecError::Unsupported),
    }
}

/// Writes magic number and digest of a slim log block whose head, used bytes included, is otherwise complete.
///
/// # Errors
/// `Mismatch` when the block is shorter than its head or than its used bytes.
pub fn seal_log(block: &mut [u8], verifier: &Digest) -> Result<()> {
    if block.len() < CHAIN_SIZE {
        return Err(CodecError::Mismatch);
    }
    put_u64(block, CHAIN_DIGEST_OFFSET - MAGIC_SIZE, ECK_MAGIC);
    let (order, covered) = slim_coverage(block)?;
    let digest = digest_with(Checksum::Zilog2, covered, CHAIN_DIGEST_OFFSET, verifier, order)?;
    put_digest(block, CHAIN_DIGEST_OFFSET, &digest);
    Ok(())
}

/// Byte order of a slim log block, and the bytes its digest covers.
fn slim_coverage(block: &[u8]) -> Result<(ByteOrder, &[u8])> {
    let order = byte_order(block, CHAIN_DIGEST_OFFSET - MAGIC_SIZE)?;
    let used = get_u64(block, CHAIN_USED_OFFSET, order)?;
    let used = usize::try_from(used).map_err(|_| CodecError::Mismatch)?;
    let covered = used.checked_next_multiple_of(ZILOG2_CHECKSUM_UNIT).ok_or(CodecError::Mismatch)?;
    let covered = block.get(..covered).filter(|b| b.len() >= CHAIN_SIZE).ok_or(CodecError::Mismatch)?;
    Ok((order, covered))
}

fn verify_trailer(alg: Checksum, buffer: &[u8], verifier: &Digest) -> Result<ByteOrder> {
    let magic_at = buffer.len().checked_sub(ECK_SIZE).ok_or(CodecError::Mismatch)?;
    let digest_at = magic_at + MAGIC_SIZE;
    let order = byte_order(buffer, magic_at)?;
    let expected = get_digest(buffer, digest_at, order)?;
    let actual = digest_with(alg, buffer, digest_at, verifier, order)?;
    if actual == expected { Ok(order) } else { Err(CodecError::Mismatch) }
}

/// Digest of `buffer` with the verifier at `digest_at`.
fn digest_with(
    alg: Checksum,
    buffer: &[u8],
    digest_at: usize,
    verifier: &Digest,
    order: ByteOrder,
) -> Result<Digest> {
    let (before, rest) = buffer.split_at_checked(digest_at).ok_or(CodecError::Mismatch)?;
    let after = rest.get(DIGEST_SIZE..).ok_or(CodecError::Mismatch)?;
    let mut stand_in = [0; DIGEST_SIZE];
    for (chunk, word) in stand_in.as_chunks_mut::<8>().0.iter_mut().zip(verifier.0) {
        *chunk = if order == ByteOrder::Native { word.to_le_bytes() } else { word.to_be_bytes() };
    }
    let mut hasher = Hasher::new(alg, order == ByteOrder::Foreign, None)?;
    // Log digests lie 8 bytes off the 16 that the fletchers' pieces must be multiples of; one buffer would do as well,
    // but the block may be large and shared.
    let aligned = before.len() & !15;
    hasher.update(&before[..aligned]);
    let mut middle = [0u8; 64];
    let head = before.len() - aligned;
    let tail = (16 - (head + DIGEST_SIZE) % 16) % 16;
    let tail = tail.min(after.len());
    let (middle_tail, after) = after.split_at(tail);
    middle[..head].copy_from_slice(&before[aligned..]);
    middle[head..head + DIGEST_SIZE].copy_from_slice(&stand_in);
    middle[head + DIGEST_SIZE..head + DIGEST_SIZE + tail].copy_from_slice(middle_tail);
    hasher.update(&middle[..head + DIGEST_SIZE + tail]);
    hasher.update(after);
    Ok(hasher.finish())
}

fn byte_order(buffer: &[u8], magic_at: usize) -> Result<ByteOrder> {
    match get_u64(buffer, magic_at, ByteOrder::Native)? {
        ECK_MAGIC => Ok(ByteOrder::Native),
        m if m == ECK_MAGIC.swap_bytes() => Ok(ByteOrder::Foreign),
        _ => Err(CodecError::Mismatch),
    }
}

fn get_u64(buffer: &[u8], at: usize, order: ByteOrder) -> Result<u64> {
    let bytes = buffer.get(at..).and_then(<[u8]>::first_chunk).ok_or(CodecError::Mismatch)?;
    Ok(match order {
        ByteOrder::Native => u64::from_le_bytes(*bytes),
        ByteOrder::Foreign => u64::from_be_bytes(*bytes),
    })
}

fn get_digest(buffer: &[u8], at: usize, order: ByteOrder) -> Result<Digest> {
    let mut digest = Digest::ZERO;
    for (index, word) in digest.0.iter_mut().enumerate() {
        *word = get_u64(buffer, at + 8 * index, order)?;
    }
    Ok(digest)
}

fn put_u64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_digest(buffer: &mut [u8], at: usize, digest: &Digest) {
    for (index, word) in digest.0.iter().enumerate() {
        put_u64(buffer, at + 8 * index, *word);
    }
}

#[cfg(test)]
mod tests;
