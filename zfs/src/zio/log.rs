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
/// part of it. A write that has to reach the medium takes this long on many virtual disks.
const POLLED_MAX: Duration = Duration::from_micros(300);
/// The same for who commits alone, where sleeping turns out to take longer by more than a sixteenth: in a virtual
/// machine a halted CPU may need hundreds of microseconds to go on. With company the CPU is wanted by those who come next.
const POLLED_MAX_ALONE: Duration = Duration::from_micros(1000);
/// Sleeping must take longer by more than one part of so many.
const WORTH_SHARE: u32 = 16;
/// Polling ends at this multiple of the usual time.
const PATIENCE: u32 = 2;
/// Shortest time that is polled.
const SPIN_MIN: Duration = Duration::from_micros(30);
/// One of so many waits for a device that is not quick is done the other way: what a sleeper measures is also how long it
/// takes to be woken, and would keep it asleep for good. Odd, as a log block is one wait or two, a write and a flush.
const TRIAL_EVERY: u64 = 17;
/// The most that a measurement moves the usual time: 1/8 of it. So it follows the median: an average would be that of
/// the few requests that met something else, a machine that was not run for a while or a disk that was busy.
const STEP_SHIFT: u32 = 3;

/// How long log requests usually take, which decides how long a waiter polls.
#[derive(Debug, Default)]
pub(super) struct LogPace {
    polled: Usual,
    /// Being woken included.
    slept: Usual,
    nr_waits: AtomicU64,
}

/// Nanoseconds, about the median of the last ones; 0: not known yet.
#[derive(Debug, Default)]
struct Usual(AtomicU64);

impl LogPace {
    /// Waits for a group of requests; only those of log blocks tell how long log requests take.
    fn wait(&self, group: &IoGroup, leaves: &[Arc<Leaf>], kind: Waiter) -> Vec<Done> {
        let leaves = leaves.iter().map(|leaf| &**leaf);
        let most = match kind {
            Waiter::Data => return group.wait(leaves),
            Waiter::Log { is_alone: true } => POLLED_MAX_ALONE,
            Waiter::Log { is_alone: false } => POLLED_MAX,
        };
        let is_trial = self.nr_waits.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIAL_EVERY);
        let polled = self.polled.get();
        let start = rt::now();
        let (usual, done) = if is_polled(polled, self.slept.get(), most, is_trial) {
            let spin = if polled.is_zero() { POLLED_MAX } else { polled * PATIENCE };
            (&self.polled, group.wait_polling(leaves, spin.clamp(SPIN_MIN, most * PATIENCE)))
        } else {
            (&self.slept, group.wait(leaves))
        };
        usual.note(rt::now().0.saturating_sub(start.0));
        done
    }
}

/// Whether to poll, for one who may as long as `most`.
fn is_polled(polled: Duration, slept: Duration, most: Duration, is_trial: bool) -> bool {
    let is_worth_it = polled <= most && polled + (polled / WORTH_SHARE) < slept;
    polled <= POLLED_MAX || is_worth_it != is_trial
}

impl Usual {
    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn note(&self, took: u64) {
        self.0.store(moved(self.0.load(Ordering::Relaxed), took), Ordering::Relaxed);
    }
}

/// The usual time after a request that took so long.
fn moved(usual: u64, took: u64) -> u64 {
    let step = usual >> STEP_SHIFT;
    let polled_max = POLLED_MAX.as_nanos() as u64;
    let is_quick_after_all = usual > polled_max && took <= polled_max;
    if usual == 0 || is_quick_after_all { took } else { took.clamp(usual - step, usual + step) }
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    /// For data that a log is going to point to.
    Data,
    /// For log blocks; nobody else commits these days, or somebody does.
    Log { is_alone: bool },
}

impl Storage {
    /// How long a log request usually takes.
    pub fn usual_log_time(&self) -> Duration {
        self.log_pace.polled.get()
    }

    /// Writes log blocks and makes them durable: all writes at once, then one flush of each device touched that has a
    /// volatile cache, and of `others`, which have what the log blocks point to. Devices that make single writes durable
    /// (FUA) are flushed only for `others`, or when they are busy with other writes that would have to be durable too: then
    /// one flush serves all, and the log blocks go as plain writes. Only the used bytes are given, a multiple of 4096; what
    /// follows them in the block is never looked at. `is_alone`: nobody else commits these days, so the CPU is not wanted.
    ///
    /// # Errors
    /// `Io` when a write or flush failed beyond what redundancy bears: then nothing is known of any of the blocks.
    pub fn write_log(&self, blocks: Vec<(BlkPtr, Abd)>, others: &[Arc<Leaf>], is_alone: bool) -> Result<()> {
        let waiter = Waiter::Log { is_alone };
        let mut leaves = others.to_vec();
        let is_flushed = !others.is_empty() || bugs::is(Bug::LogNotFlushed) || !self.is_fua_apt(&blocks);
        let priority = if is_flushed { Priority::SyncWrite } else { Priority::FuaWrite };
        self.write_blocks(blocks, &mut leaves, (priority, waiter))?;
        leaves.retain(|leaf| is_flushed || !leaf.does_fua());
        if leaves.is_empty() || bugs::is(Bug::LogNotFlushed) {
            return Ok(());
        }
        self.flush_leaves(&leaves, &|group| self.log_pace.wait(group, &leaves, waiter))
    }

    fn is_fua_apt(&self, blocks: &[(BlkPtr, Abd)]) -> bool {
        let dvas = blocks.iter().flat_map(|(bp, _)| bp.dvas().map(move |dva| (dva, bp.psize())));
        dvas.filter_map(|(dva, size)| self.extent_of(&dva, size))
            .all(|(vdev, _)| vdev.io().leaves().iter().all(|leaf| leaf.is_fua_apt()))
    }

    /// Writes whole blocks that a log is going to point to. They are durable with the next flush of what `leaves` gains.
    ///
    /// # Errors
    /// `Io` when a write failed beyond what redundancy bears.
    pub(crate) fn write_ahead(&self, blocks: Vec<(BlkPtr, Abd)>, leaves: &mut Vec<Arc<Leaf>>) -> Result<()> {
        self.write_blocks(blocks, leaves, (Priority::SyncWrite, Waiter::Data))
    }

    fn write_blocks(
        &self,
        blocks: Vec<(BlkPtr, Abd)>,
        leaves: &mut Vec<Arc<Leaf>>,
        (priority, waiter): (Priority, Waiter),
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
        let done = self.log_pace.wait(&group, leaves, waiter);
        done.into_iter().try_for_each(|done| done.result.map_err(Error::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_polls_where_sleeping_takes_longer() {
        let us = Duration::from_micros;
        assert!(is_polled(us(0), us(0), POLLED_MAX, false), "nothing is known yet");
        assert!(
            is_polled(us(300), us(9000), POLLED_MAX, false) && is_polled(us(300), us(1), POLLED_MAX, true)
        );
        assert!(!is_polled(us(400), us(0), POLLED_MAX_ALONE, false), "sleeping has not been tried");
        assert!(is_polled(us(400), us(500), POLLED_MAX_ALONE, false));
        assert!(!is_polled(us(400), us(500), POLLED_MAX_ALONE, true));
        assert!(!is_polled(us(400), us(500), POLLED_MAX, false), "with company");
        assert!(!is_polled(us(400), us(420), POLLED_MAX_ALONE, false));
        assert!(!is_polled(us(1001), us(9000), POLLED_MAX_ALONE, false));
        assert!(is_polled(us(1001), us(9000), POLLED_MAX_ALONE, true));
    }

    #[test]
    fn the_usual_time_is_not_that_of_a_few() {
        let mut usual = moved(0, 100_000);
        assert_eq!(usual, 100_000);
        for nr in 0..100 {
            usual = moved(usual, if nr % 5 == 0 { 8_000_000 } else { 90_000 + nr * 100 });
        }
        assert!((80_000..130_000).contains(&usual), "{usual}");
        (0..100).for_each(|_| usual = moved(usual, 1_000_000));
        assert_eq!(usual, 1_000_000);
        assert_eq!(moved(usual, 200_000), 200_000);
    }
}
