//! Writing log blocks: at once, and durable with one flush.
use super::physical::pad;
use super::storage::Storage;
use crate::bugs::{self, Bug};
use crate::vdev::{IoGroup, Leaf, Priority, VdevKind, WriteIo};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Done;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use ondisk::BlkPtr;

/// Devices that usually answer within this time are polled for that long; to sleep and be woken would cost more than a
/// part of it.
const POLLED_MAX: Duration = Duration::from_micros(200);
/// Polling ends at this multiple of the usual time.
const PATIENCE: u32 = 2;
/// Polling while the usual time is not known.
const SPIN_MIN: Duration = Duration::from_micros(30);
/// Share of the newest measurement in the average: 1/8.
const AVERAGE_SHIFT: u32 = 3;

/// How long log requests usually take, which decides how long a waiter polls.
#[derive(Debug, Default)]
pub(super) struct LogPace {
    /// Nanoseconds, a moving average; 0: not known yet.
    usual: AtomicU64,
}

impl LogPace {
    /// Waits for a group of requests; only those of log blocks tell how long log requests take.
    fn wait(&self, group: &IoGroup, leaves: &[Arc<Leaf>], is_log: bool) -> Vec<Done> {
        if !is_log {
            return group.wait(leaves.iter().map(|leaf| &**leaf));
        }
        let start = rt::now();
        let leaves = leaves.iter().map(|leaf| &**leaf);
        let usual = Duration::from_nanos(self.usual.load(Ordering::Relaxed));
        // Where there is one CPU only, the poller keeps everyone else from running.
        let done = match usual <= POLLED_MAX && rt::nr_cpus() > 1 {
            true => group.wait_polling(leaves, (usual * PATIENCE).max(SPIN_MIN)),
            false => group.wait(leaves),
        };
        let took = rt::now().0.saturating_sub(start.0);
        let before = self.usual.load(Ordering::Relaxed);
        let after = match before {
            0 => took,
            before => before - (before >> AVERAGE_SHIFT) + (took >> AVERAGE_SHIFT),
        };
        self.usual.store(after, Ordering::Relaxed);
        done
    }
}

impl Storage {
    /// How long a log request usually takes.
    pub fn usual_log_time(&self) -> Duration {
        Duration::from_nanos(self.log_pace.usual.load(Ordering::Relaxed))
    }

    /// Writes log blocks and makes them durable: all writes at once, then one flush of each device touched that has a
    /// volatile cache, and of `others`, which have what the log blocks point to. Devices that make single writes durable
    /// (FUA) are flushed only for `others`: then one flush serves both, and the log blocks go as plain writes. Only the
    /// used bytes are given, a multiple of 4096; what follows them in the block is never looked at.
    ///
    /// # Errors
    /// `Io` when a write or flush failed beyond what redundancy bears: then nothing is known of any of the blocks.
    pub fn write_log(&self, blocks: Vec<(BlkPtr, Abd)>, others: &[Arc<Leaf>]) -> Result<()> {
        let mut leaves = others.to_vec();
        let is_flushed = !others.is_empty() || bugs::is(Bug::LogNotFlushed);
        let priority = if is_flushed { Priority::SyncWrite } else { Priority::FuaWrite };
        self.write_blocks(blocks, &mut leaves, (priority, true))?;
        leaves.retain(|leaf| is_flushed || !leaf.does_fua());
        if leaves.is_empty() || bugs::is(Bug::LogNotFlushed) {
            return Ok(());
        }
        self.flush_leaves(&leaves, &|group| self.log_pace.wait(group, &leaves, true))
    }

    /// Writes whole blocks that a log is going to point to. They are durable with the next flush of what `leaves` gains.
    ///
    /// # Errors
    /// `Io` when a write failed beyond what redundancy bears.
    pub(crate) fn write_ahead(&self, blocks: Vec<(BlkPtr, Abd)>, leaves: &mut Vec<Arc<Leaf>>) -> Result<()> {
        self.write_blocks(blocks, leaves, (Priority::SyncWrite, false))
    }

    fn write_blocks(
        &self,
        blocks: Vec<(BlkPtr, Abd)>,
        leaves: &mut Vec<Arc<Leaf>>,
        (priority, is_log): (Priority, bool),
    ) -> Result<()> {
        let group = IoGroup::new();
        for (bp, data) in blocks {
            for dva in bp.dvas() {
                let Some((vdev, len)) = self.extent_of(&dva, bp.psize()) else { return Err(Error::Damaged) };
                // A raidz lays a block out by its whole length.
                let len = match vdev.kind() {
                    VdevKind::RaidZ { .. } => len,
                    _ => data.len().next_multiple_of(1 << vdev.info().ashift),
                };
                for leaf in vdev.io().leaves() {
                    if !leaves.iter().any(|l| Arc::ptr_eq(l, leaf)) {
                        leaves.push(leaf.clone());
                    }
                }
                let io = WriteIo {
                    offset: dva.offset,
                    data: pad(&data, len),
                    txg: bp.phys_birth(),
                    priority,
                    done: group.completion(0),
                };
                vdev.io().write(io);
            }
        }
        let done = self.log_pace.wait(&group, leaves, is_log);
        done.into_iter().try_for_each(|done| done.result.map_err(Error::from))
    }
}
