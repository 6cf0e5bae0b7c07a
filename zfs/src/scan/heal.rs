//! What a scan does with one block.
use super::ScanFunc;
use crate::zio::{Healed, Storage};
use crate::{Error, Result};
use ondisk::{BlkPtr, Bookmark};

/// What came of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// Bytes rewritten on devices.
    pub(super) repaired: u64,
    /// No copy is right, or a device did not take what it should hold.
    pub(super) is_bad: bool,
}

/// Scrubs or resilvers blocks.
pub(super) fn check<'a>(
    storage: &Storage,
    func: ScanFunc,
    blocks: &'a [(BlkPtr, Bookmark)],
) -> impl Iterator<Item = Checked> + use<'a> {
    let healed = match func {
        ScanFunc::Resilver => storage.resilver_blocks(blocks),
        _ => storage.scrub_blocks(blocks),
    };
    healed.into_iter().zip(blocks).map(|(healed, (_, bookmark))| checked(healed, *bookmark))
}

fn checked(healed: Result<Healed>, bookmark: Bookmark) -> Checked {
    match healed {
        Ok(healed) => Checked { repaired: healed.repaired, is_bad: healed.nr_unrepaired > 0 },
        // The end of an intent log is a block that was never written; what is of an algorithm that is not built in
        // cannot be called damaged.
        Err(_) if bookmark.level == Bookmark::LEVEL_ZIL => Checked::default(),
        Err(Error::Unsupported | Error::Encrypted) => Checked::default(),
        Err(_) => Checked { repaired: 0, is_bad: true },
    }
}
