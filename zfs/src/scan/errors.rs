//! Looking again at the blocks that the error log names, and at nothing else: what can be read now is taken off the log.
//!
//! What it is not: a scan. There are few such blocks, so whoever asks waits for them, nothing of it is stored, and one that
//! is cut off has changed nothing but what it repaired.
//!
//! Source: `dsl_errorscrub_do` (dsl_scan.c) for what it does to the log.
use super::errlog::{self, LostBlock};
use super::lookup;
use crate::dsl::dir;
use crate::spa::{Spa, When};
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use ondisk::scan::ScanState;
use ondisk::{BlkPtr, ObjectId};

/// What came of a look at the error log's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorScrub {
    /// Blocks looked at, each under every dataset that holds it.
    pub nr_examined: u64,
    /// Those that are still lost.
    pub nr_lost: u64,
    /// Bytes rewritten on devices.
    pub repaired: u64,
}

impl Spa {
    /// Reads every copy of the blocks in the error log, repairs what can be, and takes off the log what is right or gone.
    ///
    /// # Errors
    /// `Busy` while a scan is under way, which writes the log; `ReadOnly`, `Suspended`; what reading the MOS gives.
    pub fn scrub_errors(self: &Arc<Self>) -> Result<ErrorScrub> {
        self.check_writable()?;
        if self.scan().state.lock().phys.state == ScanState::Scanning {
            return Err(Error::Busy);
        }
        // What was met lately is in the log after this.
        self.run_task(When::AfterDatasets, |_, _, _| Ok(()))?;
        let mut result = ErrorScrub::default();
        let looked = self.look_at_errors(&mut result)?;
        let mended: BTreeSet<LostBlock> =
            looked.into_iter().filter(|(_, is_right)| *is_right).map(|(entry, _)| entry).collect();
        let command = format!("zpool scrub -e {}", self.mos().pool_name());
        self.run_task(When::AfterDatasets, move |spa, _, tx| {
            // A scan that has begun meanwhile finds for itself what is lost.
            if spa.scan().state.lock().phys.state != ScanState::Scanning {
                errlog::forget(spa, tx, &mended)?;
            }
            spa.note(tx, &command)
        })?;
        Ok(result)
    }

    /// Every entry of the log, and whether all it stands for is right now.
    fn look_at_errors(self: &Arc<Self>, result: &mut ErrorScrub) -> Result<BTreeMap<LostBlock, bool>> {
        let (uberblock, not_syncing) = self.settled();
        let entries = errlog::entries(self)?;
        let ids: BTreeSet<u64> = entries.values().flatten().map(|block| block.bookmark.objset).collect();
        let root_of = |id: u64| match id {
            0 => Ok(uberblock.rootbp),
            _ => dir::read_dataset(self.mos(), ObjectId(id)).map(|dataset| dataset.bp),
        };
        let roots: BTreeMap<u64, Result<BlkPtr>> = ids.into_iter().map(|id| (id, root_of(id))).collect();
        let hold = self.scan().holds.take(uberblock.txg);
        drop(not_syncing);
        let mut all = BTreeMap::new();
        for (entry, blocks) in entries {
            let mut is_right = true;
            for block in blocks {
                result.nr_examined += 1;
                let root = roots.get(&block.bookmark.objset).copied().unwrap_or(Err(Error::NotFound));
                if !look(self.storage(), root, &block, result) {
                    result.nr_lost += 1;
                    is_right = false;
                }
            }
            all.insert(entry, is_right);
        }
        drop(hold);
        Ok(all)
    }
}

/// Whether a block is right, or no longer there.
fn look(storage: &Storage, root: Result<BlkPtr>, block: &LostBlock, result: &mut ErrorScrub) -> bool {
    let root = match root {
        Ok(root) => root,
        Err(Error::NotFound) => return true,
        Err(_) => return false,
    };
    let bp = match lookup::block_at(storage, &root, &block.bookmark) {
        Some(Some(bp)) if block.birth.is_none_or(|birth| birth == bp.birth()) => bp,
        Some(_) => return true,
        None => return false,
    };
    match storage.scrub_block(&bp, block.bookmark) {
        Ok(healed) => {
            result.repaired += healed.repaired;
            healed.nr_unrepaired == 0
        }
        Err(_) => false,
    }
}
