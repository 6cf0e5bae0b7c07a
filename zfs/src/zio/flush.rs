//! Making writes durable, on every device or on as many as redundancy asks for.
use super::storage::Storage;
use crate::vdev::{IoGroup, Leaf, Vdev};
use crate::{Error, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Done;
use core::sync::atomic::Ordering;
use ondisk::Txg;

/// Transaction groups after the syncing one whose intent logs may have been written already.
const TXGS_AHEAD: u64 = 2;

impl Storage {
    /// Makes every completed write durable. A device that fails to flush may have lost whatever was written to it since
    /// its last flush: it has missed the group that is being written and those whose logs were, and the pool goes on
    /// as long as that can be borne.
    ///
    /// # Errors
    /// `Io` when it cannot.
    pub fn flush_all(&self) -> Result<()> {
        let leaves = self.leaves();
        self.flush_leaves(&leaves, &|group| group.wait(leaves.iter().map(|leaf| &**leaf)))
    }

    /// As [`Self::flush_all`], of some devices, which `wait` waits for.
    ///
    /// # Errors
    /// As [`Self::flush_all`].
    pub(super) fn flush_leaves(
        &self,
        leaves: &[Arc<Leaf>],
        wait: &dyn Fn(&IoGroup) -> Vec<Done>,
    ) -> Result<()> {
        let group = IoGroup::new();
        let usable: Vec<&Leaf> = leaves.iter().map(|l| &**l).filter(|l| l.is_usable()).collect();
        let start = |(tag, leaf): (usize, &&Leaf)| leaf.start_flush(group.completion(tag as u64));
        let covered: Vec<u64> = usable.iter().enumerate().map(start).collect();
        let syncing = self.syncing.load(Ordering::Acquire);
        let mut failed: Vec<u64> = Vec::new();
        for done in wait(&group) {
            let leaf = usable[done.tag as usize];
            match done.result {
                Ok(()) => leaf.flushed(covered[done.tag as usize]),
                Err(error) => {
                    leaf.flush_failed(error);
                    leaf.health().miss(Txg(syncing), Txg(syncing + TXGS_AHEAD));
                    failed.push(leaf.guid());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let is_good = |leaf: &Leaf| leaf.is_usable() && !failed.contains(&leaf.guid());
        let tops = self.vdevs.get();
        let is_borne = |top: &Vdev| {
            top.io().leaves().is_empty() || top.is_lost_log() || top.io().nr_spare(&is_good).is_some()
        };
        if tops.iter().all(|top| is_borne(top)) {
            return Ok(());
        }
        self.has_lost_flush.store(true, Ordering::Release);
        Err(Error::Io)
    }

    /// Whether a flush failed that no redundancy made good: what the devices hold is not known any more.
    pub(crate) fn has_lost_flush(&self) -> bool {
        self.has_lost_flush.load(Ordering::Acquire)
    }
}
