//! Replaying a claimed log, once, when its dataset is mounted for writing.
//!
//! A record and the note that it was replayed are in one transaction, so a crash during replay goes on where it was. What
//! is on disk already (records of groups up to the claim) is passed over.
use super::chain::{self, ChainVisitor, Step};
use super::{Result, Zil};
use crate::Error;
use crate::dmu::Objset;
use crate::vdev::Priority;
use abd::Abd;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::zil::{RecordHead, ZilHeader, ZilHeaderFlags};
use ondisk::zil_record::{Record, WriteData};
use ondisk::{BlkPtr, Bookmark, Txg};

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Records applied.
    pub nr_applied: u64,
    /// Records whose object was gone by then.
    pub nr_skipped: u64,
    /// The record that could not be applied; those after it were given up.
    pub failed: Option<(u64, Error)>,
}

/// The block of the file that a large write went to.
#[derive(Clone, Debug)]
pub struct LoggedBlock(pub Abd);

/// Applies one record in transactions of its own.
type Apply<'a> = &'a mut dyn FnMut(&Record<'_>, Option<&LoggedBlock>) -> Result<()>;

struct Replayer<'a> {
    zil: &'a Zil,
    objset: &'a Objset,
    header: ZilHeader,
    apply: Apply<'a>,
    blocks: Vec<BlkPtr>,
    /// Data blocks among them: several records may point to one.
    seen: BTreeSet<(u32, u64)>,
    report: ReplayReport,
}

impl Replayer<'_> {
    fn apply(&mut self, head: &RecordHead, bytes: &[u8]) -> Result<()> {
        let record = Record::parse(head, bytes)?;
        if let Some(object) = record.unordered_object()
            && matches!(self.objset.hold(object), Err(Error::NotFound))
        {
            self.report.nr_skipped += 1;
            return Ok(());
        }
        let block = match &record {
            Record::Write { data: WriteData::Block(bp), .. } => Some(self.read_block(bp)?),
            _ => None,
        };
        self.zil.replaying.store(head.seq, Ordering::Relaxed);
        let mut result = (self.apply)(&record, block.as_ref());
        if result.is_err() {
            // An object number freed by a record before is free for the next only once that is on disk.
            self.zil.txgs.wait_synced(self.zil.txgs.open_txg())?;
            result = (self.apply)(&record, block.as_ref());
        }
        self.zil.replaying.store(0, Ordering::Relaxed);
        result?;
        self.report.nr_applied += 1;
        Ok(())
    }

    fn read_block(&self, bp: &BlkPtr) -> Result<LoggedBlock> {
        if bp.is_hole() {
            return Ok(LoggedBlock(Abd::zeroed(bp.lsize() as usize)));
        }
        let bookmark =
            Bookmark { objset: self.zil.objset, level: Bookmark::LEVEL_ZIL, ..Bookmark::default() };
        self.zil.storage.read_uncached(bp, bookmark, Priority::SyncRead).map(LoggedBlock)
    }
}

impl ChainVisitor for Replayer<'_> {
    fn block(&mut self, bp: &BlkPtr) -> Result<Step> {
        self.blocks.push(*bp);
        Ok(Step::On)
    }

    fn record(&mut self, head: &RecordHead, bytes: &[u8]) -> Result<Step> {
        // Data blocks that were claimed with the log go with it; older ones are the tree's.
        if let Some(bp) = chain::indirect(head, bytes).filter(|bp| bp.birth() >= self.header.claim_txg)
            && self.seen.insert((bp.dva(0).vdev, bp.dva(0).offset))
        {
            self.blocks.push(bp);
        }
        // The references that claiming took; what is replayed takes its own.
        self.blocks.extend(chain::cloned(head, bytes).unwrap_or_default());
        let is_new = head.seq > self.header.replay_seq && head.txg >= self.header.claim_txg;
        if !is_new || self.report.failed.is_some() {
            return Ok(Step::On);
        }
        match self.apply(head, bytes) {
            Ok(()) => {}
            Err(e @ Error::Suspended) => return Err(e),
            Err(e) => {
                log::error!(
                    "zfs: record {} ({:?}) of an intent log cannot be replayed: {e}",
                    head.seq,
                    head.kind
                );
                self.report.failed = Some((head.seq, e));
            }
        }
        Ok(Step::On)
    }
}

impl Zil {
    /// Replays what the import claimed, and frees the log. `apply` makes the change a record describes, in transactions
    /// that list it as usual; nobody else uses the dataset meanwhile.
    ///
    /// # Errors
    /// `Suspended`. A record that cannot be applied is in the report.
    pub fn replay(&self, objset: &Objset, apply: Apply<'_>) -> Result<ReplayReport> {
        let header = objset.zil_header();
        if header.claim_txg == Txg::ZERO || header.log.is_hole() {
            return Ok(ReplayReport::default());
        }
        let needs_replay = header.flags.contains(ZilHeaderFlags::REPLAY_NEEDED);
        let header = match header.flags.contains(ZilHeaderFlags::CLAIM_LR_SEQ_VALID) {
            true => header,
            false => ZilHeader { claim_lr_seq: u64::MAX, ..header },
        };
        let mut replayer = Replayer {
            zil: self,
            objset,
            header,
            apply,
            blocks: Vec::new(),
            seen: BTreeSet::new(),
            report: ReplayReport::default(),
        };
        if !needs_replay {
            replayer.header.replay_seq = u64::MAX;
        }
        let walked = chain::walk(&self.storage, &header, self.objset, &mut replayer);
        self.replaying.store(0, Ordering::Relaxed);
        walked?;
        let Replayer { blocks, report, .. } = replayer;
        let hold = self.txgs.hold_open();
        let txg = hold.txg();
        self.claimed.lock().destroy = Some((txg, blocks));
        drop(hold);
        self.txgs.wait_synced(txg)?;
        Ok(report)
    }

    /// A record is being applied.
    pub(crate) fn is_replaying(&self) -> bool {
        self.replaying.load(Ordering::Relaxed) != 0
    }

    /// There is a claimed log to replay.
    pub fn needs_replay(&self, objset: &Objset) -> bool {
        let header = objset.zil_header();
        header.claim_txg != Txg::ZERO && !header.log.is_hole()
    }
}
