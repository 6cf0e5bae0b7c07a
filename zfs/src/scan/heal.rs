//! Checking one block: every copy, in every way its vdev offers, and rewriting those that are wrong from one that is
//! right.
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::Error;
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
    let bad = || copies.iter().filter(|copy| copy.result.is_err());
    if bad().next().is_none() {
        return Checked::default();
    }
    match storage.read_uncached(bp, bookmark, Priority::Scrub) {
        Ok(_) => Checked { repaired: bad().map(|copy| copy.dva.asize).sum(), is_lost: false },
        Err(_) => Checked { repaired: 0, is_lost: true },
    }
}
