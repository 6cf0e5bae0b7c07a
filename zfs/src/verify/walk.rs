//! The walk over all object sets, and over the lists of blocks that belong to none.
//!
//! Each block is walked once: a dataset or snapshot owns what was born after the snapshot before it, and what is older
//! belongs to that one.
use super::checker::Checker;
use super::clones::Clones;
use super::counts::{self, Counts};
use super::space::Claims;
use super::usage::Usage;
use super::{Finding, Progress, Report};
use crate::dsl::bpobj::{self, Sums};
use crate::dsl::names::{self as dsl_names, Entry};
use crate::dsl::{dir, livelist};
use crate::spa::features;
use crate::spa::mos::Mos;
use crate::spa::traverse::{Visitor, Walk};
use crate::vdev::Priority;
use crate::zil::chain;
use crate::zio::Storage;
use crate::{Error, Result};
use alloc::format;
use alloc::sync::Arc;
use ondisk::bpobj::{RawBptree, RawBptreeEntry};
use ondisk::feature::Feature;
use ondisk::objset::RawObjset;
use ondisk::pool_directory as names;
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};
use zerocopy::FromBytes;

/// Blocks between two calls of the progress function.
const PROGRESS_EVERY: u64 = 256;
/// Most entries of a bptree.
const BPTREE_MAX: u64 = 1 << 16;

/// Walks the pool whose MOS root block is `root`.
///
/// # Errors
/// Only what keeps the walk from going on at all.
pub(crate) fn run(
    mos: &Mos,
    storage: &Arc<Storage>,
    root_dir: ObjectId,
    root: &BlkPtr,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report> {
    let mut state = State {
        storage,
        claims: Claims::new(storage),
        clones: Clones::load(mos, storage)?,
        checker: Checker::new(storage),
        report: Report::default(),
        progress,
        done: Progress { bytes_done: 0, bytes_total: storage.space().allocated },
        walked: Sums::default(),
        usage: Usage::new(0),
        after: Txg::ZERO,
        is_whole: true,
        is_readable: true,
        is_snapshot: false,
    };
    state.claims.may_share = features::is_active(mos, Feature::FastDedup)? || has_dedup(mos)?;
    state.walk(0, Txg::ZERO, root)?;
    let mut counts = Counts::default();
    dsl_names::walk(mos, root_dir, &mos.pool_name(), true, &mut |entry| {
        state.dataset(mos, entry, &mut counts)
    })?;
    state.lists(mos)?;
    livelist::deleted(mos)?.into_iter().try_for_each(|list| counts.live_list(mos, list))?;
    state.claims.allow_checkpointed(mos, storage)?;
    let is_complete = state.report.not_walked.is_empty() && state.is_whole;
    state.claims.compare(mos, storage, &mut state.report, is_complete)?;
    if is_complete {
        state.clones.check(mos, storage, &mut state.report)?;
    }
    counts::check(mos, storage, &counts, &mut state.report)?;
    (state.progress)(Progress { bytes_done: state.done.bytes_total, ..state.done });
    Ok(state.report)
}

/// Whether the datasets of a directory are encrypted.
fn is_encrypted(mos: &Mos, dir: ObjectId) -> Result<bool> {
    let is_zap = mos.kind(dir)? == DmuType::OTN_ZAP_METADATA;
    Ok(is_zap && mos.zap_has(dir, ondisk::dsl::keys::CRYPTO_KEY_OBJ)?)
}

/// Old dedup tables have no feature of their own: their directory entries tell.
fn has_dedup(mos: &Mos) -> Result<bool> {
    let mut found = false;
    mos.for_each_name(names::POOL_DIRECTORY, &mut |name| {
        found |= name.starts_with("DDT-") && name != names::DDT_STATS;
        Ok(())
    })?;
    Ok(found)
}

struct State<'a> {
    storage: &'a Storage,
    claims: Claims,
    clones: Clones,
    checker: Checker,
    report: Report,
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
    /// Of the object set being walked.
    walked: Sums,
    usage: Usage,
    /// Its blocks born at or before this are not walked.
    after: Txg,
    /// Nothing was left out because it could not be read.
    is_whole: bool,
    /// This build has what it takes to read the object set being walked.
    is_readable: bool,
    /// It is a snapshot: the log its root block names is its head's.
    is_snapshot: bool,
}

impl State<'_> {
    fn walk(&mut self, objset: u64, after: Txg, root: &BlkPtr) -> Result<()> {
        self.walked = Sums::default();
        self.usage = Usage::new(objset);
        self.after = after;
        let storage = self.storage;
        let result = Walk { storage, objset, after, visitor: self }.run(root);
        self.collect();
        core::mem::replace(&mut self.usage, Usage::new(objset)).end(&mut self.report);
        result
    }

    fn dataset(&mut self, mos: &Mos, entry: &Entry, counts: &mut Counts) -> Result<()> {
        counts.dir(mos, entry)?;
        if entry.dataset.is_none() {
            return Ok(());
        }
        let ds = dir::read_dataset(mos, entry.dataset)?;
        counts.features(mos, entry.dataset)?;
        self.report.nr_datasets += 1;
        let nr_before = self.report.findings.len();
        self.is_readable = !is_encrypted(mos, entry.dir)? && self.root_is_readable(&ds.bp, entry.dataset);
        self.is_snapshot = entry.is_snapshot;
        if self.is_readable {
            self.walk(entry.dataset.0, ds.prev_snap_txg, &ds.bp)?;
            // A head that has not changed since its snapshot has the snapshot's root block, which the walk passes by; but
            // the log that block names is the head's.
            if !entry.is_snapshot && !ds.bp.is_hole() && ds.bp.birth() <= ds.prev_snap_txg {
                self.log_of(entry.dataset, &ds.bp)?;
            }
        }
        if !self.is_readable {
            self.report.not_walked.push(entry.name.clone());
        } else if self.report.findings.len() == nr_before {
            counts.dataset(mos, entry, &ds, self.walked, &mut self.report)?;
        }
        Ok(())
    }

    fn log_of(&mut self, id: ObjectId, root: &BlkPtr) -> Result<()> {
        match self.storage.read_uncached(root, Bookmark::root(id.0), Priority::Scrub) {
            Ok(block) => {
                let header = RawObjset::of(&block.to_contiguous())?.parse()?.zil;
                self.zil(&header, id.0)
            }
            Err(error) => self.lost(Bookmark::root(id.0), error),
        }
    }

    /// Whether this build has what it takes to read the object set at all.
    fn root_is_readable(&self, root: &BlkPtr, id: ObjectId) -> bool {
        let read = || self.storage.read_uncached(root, Bookmark::root(id.0), Priority::Scrub);
        root.is_hole() || !matches!(read(), Err(Error::Encrypted | Error::Unsupported))
    }

    /// Blocks that no object set holds any more and that are not free yet.
    fn lists(&mut self, mos: &Mos) -> Result<()> {
        for name in [names::SYNC_BPLIST, names::FREE_BPOBJ, names::OBSOLETE_BPOBJ] {
            let Some(list) = mos.directory_entry(name)?.and_then(ObjectId::non_zero) else {
                continue;
            };
            bpobj::for_each(mos, list, &mut |bp| {
                if !bp.is_hole() && !bp.is_embedded() {
                    self.claim(bp);
                }
                Ok(())
            })?;
        }
        for list in livelist::deleted(mos)? {
            livelist::for_each_block(mos, list, &mut |bp| {
                self.claim(bp);
                Ok(())
            })?;
        }
        self.bptree(mos)
    }

    /// Datasets being destroyed: some of their blocks are free already.
    fn bptree(&mut self, mos: &Mos) -> Result<()> {
        let Some(id) = mos.directory_entry(names::BPTREE_OBJ)?.and_then(ObjectId::non_zero) else {
            return Ok(());
        };
        let header = mos.bonus(id, |bytes| {
            RawBptree::read_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| Error::Damaged)
        })?;
        let (begin, end) = (header.begin.get(), header.end.get());
        if end.checked_sub(begin).is_none_or(|n| n > BPTREE_MAX) {
            return Err(Error::Damaged);
        }
        let size = size_of::<RawBptreeEntry>();
        for index in begin..end {
            let at = index.checked_mul(size as u64).ok_or(Error::Damaged)?;
            let bytes = mos.read(id, at, size)?;
            let entry = RawBptreeEntry::read_from_bytes(&bytes).map_err(|_| Error::Damaged)?;
            let root = entry.bp.parse()?;
            let after = Txg(entry.birth_txg.get());
            let (claims, clones) = (&mut self.claims, &mut self.clones);
            let mut allow = Allow { storage: self.storage, claims, clones };
            Walk { storage: self.storage, objset: u64::MAX, after, visitor: &mut allow }.run(&root)?;
        }
        Ok(())
    }

    /// Claims what a block occupies; false when it was claimed already.
    fn claim(&mut self, bp: &BlkPtr) -> bool {
        if self.clones.count(self.storage, bp) {
            return false;
        }
        let (claims, report) = (&mut self.claims, &mut self.report);
        let mut is_new = true;
        let places = self.storage.for_each_place(bp, &mut |vdev, offset, len| {
            is_new &= claims.claim(report, vdev, offset, len);
            Ok(())
        });
        // A gang header that cannot be read was reported as a bad copy; what hangs below it is unknown.
        self.is_whole &= places.is_ok();
        is_new
    }

    /// Takes what the checking threads have found.
    fn collect(&mut self) {
        let checked = self.checker.take();
        checked.findings.into_iter().for_each(|finding| self.report.add(finding));
        self.report.nr_copies += checked.nr_copies;
        self.is_whole &= !checked.has_lost;
        self.is_readable &= !checked.has_unsupported;
    }
}

impl Visitor for State<'_> {
    fn block(&mut self, bp: &BlkPtr, bookmark: Bookmark) -> Result<bool> {
        self.report.nr_blocks += 1;
        self.walked.add(Sums::of(self.storage, bp));
        if bp.is_embedded() {
            return Ok(true);
        }
        self.usage.block(self.storage, bp, bookmark);
        let is_new = self.claim(bp);
        if !is_new && bp.level() > 0 && !self.claims.may_share {
            // Walked before: a tree whose branches meet again could have more paths than anyone can walk.
            self.usage.cut(bookmark);
            return Ok(false);
        }
        self.checker.add(bp, bookmark);
        self.done.bytes_done += bp.asize();
        if self.report.nr_blocks.is_multiple_of(PROGRESS_EVERY) {
            (self.progress)(self.done);
        }
        if !is_new && bp.level() > 0 {
            self.usage.cut(bookmark);
        }
        Ok(is_new)
    }

    fn dnode(&mut self, id: ObjectId, bytes: &[u8]) -> Result<()> {
        self.usage.dnode(id, bytes, self.after, &mut self.report);
        Ok(())
    }

    fn zil(&mut self, header: &ZilHeader, objset: u64) -> Result<()> {
        if self.is_snapshot {
            return Ok(());
        }
        let (storage, claims) = (self.storage, &mut self.claims);
        chain::for_each_block(storage, header, objset, &mut |bp, _| allow(storage, claims, bp));
        if header.claim_txg != Txg::ZERO {
            // Claiming has taken references to what the log would clone: it may be the last to hold it.
            chain::for_each_cloned(storage, header, objset, &mut |bp| {
                self.claim(bp);
            });
        }
        Ok(())
    }

    fn lost(&mut self, bookmark: Bookmark, error: Error) -> Result<()> {
        self.is_whole = false;
        self.usage.cut(bookmark);
        if matches!(error, Error::Unsupported | Error::Encrypted) {
            self.is_readable = false;
            return Ok(());
        }
        // Bad copies have been reported when the block was visited; content that makes no sense has not.
        if error == Error::Damaged {
            self.report.add(Finding::Damaged { what: format!("block {bookmark}") });
        } else if error != Error::Checksum && error != Error::Io {
            self.report.add(Finding::Damaged { what: format!("block {bookmark}: {error}") });
        }
        Ok(())
    }
}

/// Notes the space of blocks that may be allocated.
struct Allow<'a> {
    storage: &'a Storage,
    claims: &'a mut Claims,
    clones: &'a mut Clones,
}

impl Visitor for Allow<'_> {
    fn block(&mut self, bp: &BlkPtr, _bookmark: Bookmark) -> Result<bool> {
        self.clones.count_perhaps(bp);
        allow(self.storage, self.claims, bp);
        Ok(true)
    }

    fn lost(&mut self, _bookmark: Bookmark, _error: Error) -> Result<()> {
        // It is free already, and may have been overwritten.
        Ok(())
    }
}

fn allow(storage: &Storage, claims: &mut Claims, bp: &BlkPtr) {
    if bp.is_hole() || bp.is_embedded() {
        return;
    }
    // An unreadable gang header leaves its pieces unknown: they are then reported as leaks, which they may well be.
    let _ = storage.for_each_place(bp, &mut |vdev, offset, len| {
        claims.allow(vdev, offset, len);
        Ok(())
    });
}
