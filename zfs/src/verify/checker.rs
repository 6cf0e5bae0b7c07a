//! Checks the copies of blocks on several threads: reading and summing is all the time a walk takes.
use super::Finding;
use crate::Error;
use crate::zio::Storage;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::{BlkPtr, Bookmark};
use rt::{SpinLock, Taskq};

/// Blocks handed to a thread at a time.
const BATCH: usize = 32;
/// Batches that wait: bounds memory, and how far the walk runs ahead.
const QUEUE_MAX: usize = 64;

/// The threads, and the batch being filled for them.
pub(super) struct Checker {
    storage: Arc<Storage>,
    workers: Taskq,
    batch: Vec<(BlkPtr, Bookmark)>,
    results: Arc<Results>,
}

#[derive(Debug, Default)]
struct Results {
    findings: SpinLock<Vec<(Bookmark, Finding)>>,
    nr_copies: AtomicU64,
    has_lost: AtomicBool,
    has_unsupported: AtomicBool,
}

/// What was found since the last time it was taken.
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    pub(super) nr_copies: u64,
    /// A block has no good copy.
    pub(super) has_lost: bool,
    /// A block's checksum is of a kind this build cannot compute.
    pub(super) has_unsupported: bool,
}

impl Checker {
    pub(super) fn new(storage: &Arc<Storage>) -> Self {
        Self {
            storage: storage.clone(),
            workers: Taskq::new("verify", rt::nr_cpus(), QUEUE_MAX),
            batch: Vec::with_capacity(BATCH),
            results: Arc::default(),
        }
    }

    pub(super) fn add(&mut self, bp: &BlkPtr, bookmark: Bookmark) {
        self.batch.push((*bp, bookmark));
        if self.batch.len() >= BATCH {
            self.dispatch();
        }
    }

    fn dispatch(&mut self) {
        let batch = core::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        let (storage, results) = (self.storage.clone(), self.results.clone());
        self.workers
            .dispatch(move || batch.iter().for_each(|(bp, bookmark)| results.check(&storage, bp, *bookmark)));
    }

    /// Waits for all that was added; findings come in the order of their bookmarks, whatever thread was faster.
    pub(super) fn take(&mut self) -> Checked {
        self.dispatch();
        self.workers.wait_idle();
        let mut findings = core::mem::take(&mut *self.results.findings.lock());
        findings.sort_by_key(|(bookmark, _)| *bookmark);
        Checked {
            findings: findings.into_iter().map(|(_, finding)| finding).collect(),
            nr_copies: self.results.nr_copies.swap(0, Ordering::AcqRel),
            has_lost: self.results.has_lost.swap(false, Ordering::AcqRel),
            has_unsupported: self.results.has_unsupported.swap(false, Ordering::AcqRel),
        }
    }
}

impl Results {
    fn check(&self, storage: &Storage, bp: &BlkPtr, bookmark: Bookmark) {
        let mut has_good = false;
        for copy in storage.check_copies(bp, bookmark).unwrap_or_default() {
            if copy.result == Err(Error::Unsupported) {
                self.has_unsupported.store(true, Ordering::Release);
                return;
            }
            self.nr_copies.fetch_add(1, Ordering::Relaxed);
            has_good |= copy.result.is_ok();
            if copy.result.is_err() {
                let (vdev, offset) = (copy.dva.vdev.into(), copy.dva.offset);
                self.add(bookmark, Finding::BadCopy { bookmark, vdev, offset });
            }
        }
        if !has_good {
            self.has_lost.store(true, Ordering::Release);
            self.add(bookmark, Finding::Lost { bookmark });
        }
    }

    fn add(&self, bookmark: Bookmark, finding: Finding) {
        let mut findings = self.findings.lock();
        // The report keeps no more than that anyway.
        if findings.len() <= super::FINDINGS_MAX {
            findings.push((bookmark, finding));
        }
    }
}
