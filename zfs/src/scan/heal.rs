//! What a scan does with one block.
use super::ScanFunc;
use crate::Error;
use crate::zio::Storage;
use ondisk::{BlkPtr, Bookmark};

/// What came of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Bytes rewritten on devices.
    pub(super) repaired: u64,
    /// No copy is right, or a device did not take what it should hold.
    pub(super) is_bad: bool,
}

/// Scrubs or resilvers a block.
pub(super) fn check(storage: &Storage, func: ScanFunc, bp: &BlkPtr, bookmark: Bookmark) -> Checked {
    let healed = match func {
        ScanFunc::Resilver => storage.resilver_block(bp, bookmark),
        _ => storage.scrub_block(bp, bookmark),
    };
    match healed {
        Ok(healed) => Checked { repaired: healed.repaired, is_bad: healed.nr_unrepaired > 0 },
        // The end of an intent log is a block that was never written; what is of an algorithm that is not built in
        // cannot be called damaged.
        Err(_) if bookmark.level == Bookmark::LEVEL_ZIL => Checked::default(),
        Err(Error::Unsupported | Error::Encrypted) => Checked::default(),
        Err(_) => Checked { repaired: 0, is_bad: true },
    }
}
