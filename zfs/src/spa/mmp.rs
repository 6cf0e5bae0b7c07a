//! Multihost protection: a pool that has it on shows, several times in its uberblocks' life, that it is open; who wants
//! to open it watches for that first.
//!
//! Between transaction groups the newest uberblock is written again and again, with a new time and sequence number, into
//! the last slot of one label of one device after the other. An importer that finds the pool in use by another host
//! waits longer than that host may be silent, and looks whether anything has changed. The other half of the bargain:
//! a host that could not write for so long stops writing altogether, since someone else may have the pool by now.
//!
//! Source: `mmp.c`, `spa_activity_check` (spa.c), `uberblock_impl.h`.
use super::label::{self, DeviceLabels};
use super::{ImportOptions, PoolNumber, Spa};
use crate::event::Event;
use crate::{Error, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use nvpair::NvList;
use ondisk::label::PoolState;
use ondisk::uberblock::{Mmp, Uberblock};
use rt::wait::WaitQueue;
use rt::{Instant, JoinHandle, SpinLock};

/// Labels of a device.
const LABELS: u64 = 4;
/// Intervals that an importer waits when the uberblock does not say how long its writer may be silent.
const IMPORT_INTERVALS: u32 = 20;
/// An importer waits this many times as long as the writer may be silent.
const SAFETY_FACTOR: u32 = 2;
/// Up to this share of the wait is added by chance, so that two importers do not look in step.
const CHANCE: u64 = 4;
/// Least time between two writes.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest time an importer waits, whatever the uberblock says: it may be damage.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How often an importer looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often a host shows that it has the pool open, and after how many missed times it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multihost {
    /// Time in which each device gets a sign of life.
    pub interval: Duration,
    /// Intervals without a successful write after which the pool is suspended; 0: never.
    pub fail_intervals: u16,
}

impl Default for Multihost {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), fail_intervals: 10 }
    }
}

impl Multihost {
    /// The fields of an uberblock.
    fn fields(&self, sequence: u16) -> Mmp {
        let millis = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX) & 0xff_ffff;
        Mmp {
            delay: u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX),
            config: 7 | millis << 8 | u64::from(sequence) << 32 | u64::from(self.fail_intervals) << 48,
        }
    }
}

/// The thread that writes signs of life.
#[derive(Debug, Default)]
pub(super) struct Beat {
    thread: SpinLock<Option<JoinHandle>>,
    changed: WaitQueue,
    is_stopping: AtomicBool,
    /// No sign could be written for so long that the pool may be somebody else's.
    is_lost: AtomicBool,
}

impl Beat {
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.changed.wake_all();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join();
        }
    }
}

impl Spa {
    /// Whether multihost protection is on.
    pub(super) fn is_multihost(&self) -> bool {
        self.pool_number(PoolNumber::MultiHost) == Some(1)
    }

    /// What the uberblock of a transaction group says of multihost protection.
    ///
    /// # Errors
    /// `Suspended` when the pool may be somebody else's by now.
    pub(super) fn mmp_fields(&self) -> Result<Mmp> {
        match self.is_multihost() {
            _ if self.beat.is_lost.load(Ordering::Acquire) => Err(Error::Suspended),
            true => Ok(self.multihost.fields(0)),
            false => Ok(Mmp::default()),
        }
    }

    /// Starts to write signs of life, if the pool wants them and they are not being written yet.
    pub(super) fn start_beat(self: &Arc<Self>) {
        let mut thread = self.beat.thread.lock();
        if thread.is_some() || !self.is_multihost() || self.beat.is_stopping.load(Ordering::Acquire) {
            return;
        }
        let spa = self.clone();
        *thread = Some(rt::spawn("mmp", move || spa.beat()));
    }

    fn beat(&self) {
        let mut last_good = rt::now();
        let (mut time, mut sequence, mut turn) = (0, 0u16, 0usize);
        while !self.beat.is_stopping.load(Ordering::Acquire) {
            let leaves = self.storage.leaves();
            let nr_leaves = u32::try_from(leaves.len()).unwrap_or(1).max(1);
            let now = self.env.time();
            (time, sequence) = if now == time { (time, sequence.wrapping_add(1)) } else { (now, 1) };
            turn = turn.wrapping_add(1);
            if !self.is_multihost() || self.write_sign(turn, time, sequence).is_ok() {
                last_good = rt::now();
            } else if self.is_silent_since(last_good) {
                log::error!(
                    "zfs: no sign of life could be written: pool {} is given up",
                    self.mos.pool_name()
                );
                self.beat.is_lost.store(true, Ordering::Release);
                self.events.post(Event::Suspended);
                return self.txgs.suspend(false);
            }
            let pause = (self.multihost.interval / nr_leaves).max(INTERVAL_MIN);
            let deadline = rt::now().after(pause);
            self.beat
                .changed
                .wait_until(deadline, "mmp", || self.beat.is_stopping.load(Ordering::Acquire).then_some(()));
        }
    }

    fn is_silent_since(&self, last_good: Instant) -> bool {
        let limit = self.multihost.interval * u32::from(self.multihost.fail_intervals);
        !limit.is_zero() && rt::now().since(last_good) > limit
    }

    /// Writes the newest uberblock with a new time and number into the last slot of one label.
    fn write_sign(&self, turn: usize, time: u64, sequence: u16) -> Result<()> {
        let tops = self.storage.vdevs();
        let all = tops.iter().flat_map(|top| top.io().leaves().iter().map(|leaf| (leaf, top.info().ashift)));
        let usable: alloc::vec::Vec<_> = all.filter(|(leaf, _)| leaf.is_usable()).collect();
        let (leaf, ashift) = usable.get(turn % usable.len().max(1)).ok_or(Error::MissingVdev)?;
        let newest = *self.uberblock.lock();
        let sign = Uberblock { timestamp: time, mmp: Some(self.multihost.fields(sequence)), ..newest };
        let label = leaf.label_offsets()[(self.env.random() % LABELS) as usize];
        let (offset, data) = label::sign_part(&sign, *ashift, label)?;
        leaf.write_raw(offset, data)
    }
}

/// Watches a pool that another host may have open, for as long as that host may be silent.
///
/// # Errors
/// `Busy` when it shows signs of life.
pub(super) fn watch(
    config: &NvList,
    best: &Uberblock,
    options: &ImportOptions,
    look: &dyn Fn() -> Result<Uberblock>,
) -> Result<()> {
    let is_active = config.get_u64("state") == Some(PoolState::Active as u64);
    let is_own = config.get_u64("hostid").unwrap_or(0) == options.hostid && options.hostid != 0;
    let fields = best.mmp.unwrap_or_default();
    if fields.delay != 0 && options.hostid == 0 && !options.read_only {
        log::error!("zfs: the pool has multihost protection, which needs a host id here");
        return Err(Error::Busy);
    }
    // An uberblock of a time before there were such fields tells nothing: the host id is all there is.
    if !is_active || is_own || options.read_only || fields.delay == 0 {
        return Ok(());
    }
    let wait = wait_for(&fields, &options.multihost);
    log::warn!("zfs: the pool was last open on another host: watching it for {} ms", wait.as_millis());
    let mut chance = [0; 8];
    rt::fill_random(&mut chance);
    let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    let more = Duration::from_nanos(u64::from_le_bytes(chance) % (nanos / CHANCE).max(1));
    let end = rt::now().after(wait + more);
    while rt::now() < end {
        rt::sleep(LOOK_EVERY);
        let now = look()?;
        let key = |u: &Uberblock| (u.txg, u.timestamp, u.mmp.and_then(|m| m.sequence()));
        if key(&now) != key(best) {
            log::error!("zfs: the pool is in use on host {:#x}", config.get_u64("hostid").unwrap_or(0));
            return Err(Error::Busy);
        }
    }
    Ok(())
}

/// How long the writer of these fields may be silent, with a margin.
fn wait_for(fields: &Mmp, own: &Multihost) -> Duration {
    let has = |bit: u64| fields.config & bit != 0;
    let interval = Duration::from_millis(fields.config >> 8 & 0xff_ffff);
    let fail_intervals = (fields.config >> 48) as u32;
    let least = (own.interval * IMPORT_INTERVALS).max(Duration::from_millis(1));
    let delay = Duration::from_nanos(fields.delay);
    let wait = match has(1) && has(4) {
        true if fail_intervals > 0 => interval * fail_intervals * SAFETY_FACTOR,
        true => least.max((interval + delay) * IMPORT_INTERVALS),
        false => least.max((own.interval + delay) * IMPORT_INTERVALS),
    };
    wait.min(WAIT_MAX)
}

/// The newest uberblock on these labels.
pub(super) fn newest<'a>(labels: impl Iterator<Item = &'a DeviceLabels>) -> Option<Uberblock> {
    label::best_uberblock(labels.flat_map(|l| l.uberblocks.iter().copied()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_say_how_long_to_wait() {
        let own = Multihost::default();
        let fields = own.fields(7);
        assert_eq!(fields.sequence(), Some(7));
        assert_eq!(wait_for(&fields, &own), Duration::from_secs(20));
        let never = Multihost { fail_intervals: 0, ..own };
        assert_eq!(wait_for(&never.fields(1), &own), Duration::from_secs(40));
        let old = Mmp { delay: 500_000_000, config: 0 };
        assert_eq!(wait_for(&old, &own), Duration::from_secs(30));
        // Numbers of a foreign label must not overflow.
        let wild = Mmp { delay: u64::MAX, config: u64::MAX };
        assert_eq!(wait_for(&wild, &own), WAIT_MAX);
        assert_eq!(wait_for(&Mmp { delay: u64::MAX, config: 0 }, &own), WAIT_MAX);
    }
}
