//! Claiming logs at import: what they occupy becomes allocated, before anything else is.
//!
//! Blocks of groups that are on disk are allocated by the space maps already; those of later groups, which were lost with
//! the crash, are free there. Claiming follows each chain to its end, the block that was allocated for the next
//! commit included, and notes how far it came: replay goes no further, even if a device that was missing now comes back
//! with more.
use super::chain::{self, ChainVisitor, Step, number_of};
use super::{Result, Zil, ZilHeader, ZilHeaderFlags};
use crate::vdev::Priority;
use crate::zio::Storage;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use ondisk::zil::RecordHead;
use ondisk::{BlkPtr, Bookmark, DmuType, Txg};

/// Claims along a chain.
struct Claimer<'a> {
    storage: &'a Storage,
    objset: u64,
    /// The newest group on disk.
    synced: Txg,
    /// The group that claims.
    first: Txg,
    seen: BTreeSet<(u32, u64)>,
    blocks: Vec<BlkPtr>,
    nr_records: u64,
    nr_chain_blocks: u64,
    last_block: u64,
    last_record: u64,
}

impl Claimer<'_> {
    /// Claims a block of a lost group. False when its space is somebody's: then it is none of this log.
    fn claim(&mut self, bp: &BlkPtr) -> bool {
        if bp.birth() <= self.synced || !self.seen.insert(place_of(bp)) {
            return true;
        }
        self.storage.claim(bp, self.first).is_ok()
    }

    /// Takes a reference to each block that a record clones. False when one of them cannot be what was cloned: only what
    /// was on disk is.
    fn share(&self, head: &RecordHead, bytes: &[u8]) -> bool {
        let Ok(cloned) = chain::cloned(head, bytes) else { return false };
        let brt = self.storage.brt();
        if !cloned.iter().all(|bp| bp.phys_birth() <= self.synced && brt.can_share(self.storage, bp)) {
            return false;
        }
        cloned.iter().for_each(|bp| brt.add(self.storage, self.first, bp));
        true
    }
}

impl Claimer<'_> {
    /// Makes every device have what was claimed: a commit that was under way may have reached some only, and what is
    /// replayed from those must not be gone when another crash takes them away.
    fn heal(&self) {
        for bp in &self.blocks {
            let is_end = is_chain_block(bp) && number_of(bp) == self.last_block;
            let bookmark = Bookmark {
                objset: self.objset,
                level: Bookmark::LEVEL_ZIL,
                blkid: number_of(bp),
                ..Bookmark::default()
            };
            // The chain's end was never written. What cannot be healed is told by the scrub itself.
            if !is_end && let Err(e) = self.storage.scrub_block(bp, bookmark) {
                log::warn!("zfs: a block of the intent log cannot be read again: {e}");
            }
        }
    }
}

fn place_of(bp: &BlkPtr) -> (u32, u64) {
    let dva = bp.dva(0);
    (dva.vdev, dva.offset)
}

fn is_chain_block(bp: &BlkPtr) -> bool {
    bp.dmu_type() == DmuType::INTENT_LOG
}

impl ChainVisitor for Claimer<'_> {
    fn block(&mut self, bp: &BlkPtr) -> Result<Step> {
        if !self.claim(bp) {
            return Ok(Step::Stop);
        }
        self.blocks.push(*bp);
        self.nr_chain_blocks += 1;
        self.last_block = number_of(bp);
        Ok(Step::On)
    }

    /// A pointer to data that never reached the disk: the crash came before any record of the block was acknowledged.
    fn records(&mut self, records: &[u8]) -> Result<Step> {
        let bookmark = Bookmark { objset: self.objset, level: Bookmark::LEVEL_ZIL, ..Bookmark::default() };
        let mut rest = records;
        while let Ok(head) = RecordHead::parse(rest) {
            if let Some(bp) = chain::indirect(&head, rest).filter(|bp| bp.birth() > self.synced)
                && !self.seen.contains(&place_of(&bp))
                && self.storage.read_uncached(&bp, bookmark, Priority::SyncRead).is_err()
            {
                return Ok(Step::Stop);
            }
            rest = rest.get(head.reclen..).unwrap_or_default();
        }
        Ok(Step::On)
    }

    fn record(&mut self, head: &RecordHead, bytes: &[u8]) -> Result<Step> {
        if !self.share(head, bytes) {
            return Ok(Step::Stop);
        }
        if let Some(bp) = chain::indirect(head, bytes).filter(|bp| bp.birth() > self.synced) {
            let is_new = !self.seen.contains(&place_of(&bp));
            if !self.claim(&bp) {
                return Ok(Step::Stop);
            }
            // Several records may point to one block.
            self.blocks.extend(is_new.then_some(bp));
        }
        self.nr_records += 1;
        self.last_record = head.seq;
        Ok(Step::On)
    }
}

impl Zil {
    /// Claims the log that `header` leads to, in the first group after import. Nothing has been allocated yet.
    ///
    /// # Errors
    /// None yet: what cannot be claimed is the log's end.
    pub(crate) fn claim(&self, header: &ZilHeader, synced: Txg, first: Txg) -> Result<()> {
        if header.claim_txg != Txg::ZERO || header.log.is_hole() {
            return Ok(());
        }
        let mut claimer = Claimer {
            storage: &self.storage,
            objset: self.objset,
            synced,
            first,
            seen: BTreeSet::new(),
            blocks: Vec::new(),
            nr_records: 0,
            nr_chain_blocks: 0,
            last_block: 0,
            last_record: 0,
        };
        chain::walk(&self.storage, header, self.objset, &mut claimer)?;
        claimer.heal();
        let has_work = claimer.nr_records > 0;
        let mut claimed = self.claimed.lock();
        if !has_work {
            claimed.header = None;
            claimed.destroy = Some((first, claimer.blocks));
            return Ok(());
        }
        claimed.destroy = None;
        claimed.header = Some((
            first,
            ZilHeader {
                claim_txg: first,
                claim_blk_seq: claimer.last_block,
                claim_lr_seq: claimer.last_record,
                flags: ZilHeaderFlags::REPLAY_NEEDED | ZilHeaderFlags::CLAIM_LR_SEQ_VALID,
                ..*header
            },
        ));
        Ok(())
    }
}
