//! Checking one block: every copy, in every way its vdev offers, and rewriting those that are wrong from one that is
//! right.
use crate::Error;
use crate::vdev::Priority;
use crate::zio::Storage;
use ondisk::{BlkPtr, Bookmark};

/// What came of a block. Bytes are of allocated space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Rewritten.
    pub(super) repaired: u64,
    /// No copy was right.
    pub(super) is_lost: bool,
}

/// Checks a block.
pub(super) fn check(storage: &Storage, bp: &BlkPtr, bookmark: Bookmark) -> Checked {
    let copies = storage.check_copies(bp, bookmark).unwrap_or_default();
    if copies.iter().any(|copy| copy.result == Err(Error::Unsupported)) {
        return Checked::default();
    }
    if copies.iter().all(|copy| copy.result.is_ok()) {
        return Checked::default();
    }
    if let Ok(repaired) = storage.repair_copies(bp, bookmark, &copies) {
        return Checked { repaired, is_lost: false };
    }
    // Where parity or a gang's pieces are concerned, reading the block as a whole knows more ways.
    let bad = copies.iter().filter(|copy| copy.result.is_err()).map(|copy| copy.dva.asize).sum();
    match storage.read_uncached(bp, bookmark, Priority::Scrub) {
        Ok(_) => Checked { repaired: bad, is_lost: false },
        Err(_) => Checked { repaired: 0, is_lost: true },
    }
}
