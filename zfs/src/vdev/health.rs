//! How a device does: its state, what failed on it, and what it missed.
//!
//! It outlives the opened device: when a device goes and comes back, or the tree around it changes, this stays.
use super::dtl::TxgRanges;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use ondisk::{ObjectId, Txg};
use rt::{Instant, SpinLock};

/// State of a vdev, worst first. Numbers: `vdev_state_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum VdevState {
    /// Taken out by the administrator.
    Offline = 2,
    /// The device vanished while it was in use.
    Removed = 3,
    /// Its device was not found, or too few of its children were.
    Unavail = 4,
    /// Failed too often to be used.
    Faulted = 5,
    /// Works, but not as it should: errors, or children that are missing.
    Degraded = 6,
    /// Fine.
    Online = 7,
}

impl VdevState {
    /// Whether I/O is sent to a device in this state.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Degraded | Self::Online)
    }

    const fn from_id(id: u8) -> Self {
        match id {
            2 => Self::Offline,
            3 => Self::Removed,
            5 => Self::Faulted,
            6 => Self::Degraded,
            7 => Self::Online,
            _ => Self::Unavail,
        }
    }
}

impl fmt::Display for VdevState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "OFFLINE",
            Self::Removed => "REMOVED",
            Self::Unavail => "UNAVAIL",
            Self::Faulted => "FAULTED",
            Self::Degraded => "DEGRADED",
            Self::Online => "ONLINE",
        })
    }
}

/// Errors of a device since the pool was opened or they were cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VdevErrors {
    /// Reads that failed.
    pub read: u64,
    /// Writes and flushes that failed.
    pub write: u64,
    /// Reads whose content was wrong.
    pub checksum: u64,
}

/// How a device does.
#[derive(Debug)]
pub struct Health {
    guid: AtomicU64,
    state: AtomicU8,
    nr_read_errors: AtomicU64,
    nr_write_errors: AtomicU64,
    nr_checksum_errors: AtomicU64,
    /// The device said that it is not there any more.
    is_gone: AtomicBool,
    /// Transaction groups whose writes did not reach it. The flag saves readers the lock.
    missing: SpinLock<TxgRanges>,
    has_missing: AtomicBool,
    /// Resilvers of earlier generations (`Storage::resilver_generation`) were walked without it.
    back_since: AtomicU64,
    /// Those among them that a resilver under way could not bring back.
    unhealed: SpinLock<TxgRanges>,
    /// `missing` has changed since it was last written.
    is_dirty: AtomicBool,
    /// The space map with `missing`, 0 when there is none.
    object: AtomicU64,
    judged: SpinLock<Judged>,
}

/// What is known of how it did lately.
#[derive(Debug, Default)]
struct Judged {
    /// Errors when it was last judged, and when that was.
    errors: VdevErrors,
    at: Option<Instant>,
    /// Failed reads and writes that are remembered: those of the present span of time, and of the one before.
    present: (u64, u64),
    before: (u64, u64),
    since: Option<Instant>,
    /// Given up for going on failing: it is not taken back by itself.
    is_worn: bool,
}

impl Health {
    /// That of a device in good order.
    pub fn new(guid: u64) -> Arc<Self> {
        Arc::new(Self {
            guid: AtomicU64::new(guid),
            state: AtomicU8::new(VdevState::Online as u8),
            nr_read_errors: AtomicU64::new(0),
            nr_write_errors: AtomicU64::new(0),
            nr_checksum_errors: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            missing: SpinLock::new(TxgRanges::new()),
            has_missing: AtomicBool::new(false),
            back_since: AtomicU64::new(0),
            unhealed: SpinLock::new(TxgRanges::new()),
            is_dirty: AtomicBool::new(false),
            object: AtomicU64::new(0),
            judged: SpinLock::new(Judged::default()),
        })
    }

    /// The device's guid.
    pub fn guid(&self) -> u64 {
        self.guid.load(Ordering::Acquire)
    }

    /// It takes over the guid of the mirror whose last side it is.
    pub(crate) fn set_guid(&self, guid: u64) {
        self.guid.store(guid, Ordering::Release);
    }

    /// Its state.
    pub fn state(&self) -> VdevState {
        VdevState::from_id(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn set_state(&self, state: VdevState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Its errors.
    pub fn errors(&self) -> VdevErrors {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        VdevErrors {
            read: load(&self.nr_read_errors),
            write: load(&self.nr_write_errors),
            checksum: load(&self.nr_checksum_errors),
        }
    }

    /// Forgets its errors.
    pub(crate) fn clear_errors(&self) {
        for counter in [&self.nr_read_errors, &self.nr_write_errors, &self.nr_checksum_errors] {
            counter.store(0, Ordering::Relaxed);
        }
        self.is_gone.store(false, Ordering::Relaxed);
        *self.judged.lock() = Judged::default();
    }

    pub(crate) fn note_read_error(&self) {
        self.nr_read_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_write_error(&self, error: blockdev::Error) {
        self.nr_write_errors.fetch_add(1, Ordering::Relaxed);
        if error == blockdev::Error::Gone {
            self.is_gone.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn note_checksum_error(&self) {
        self.nr_checksum_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    // --- how it did lately ---------------------------------------------------------------------------------------

    /// Whether a read or a write has failed since it was last judged.
    pub(crate) fn has_failed_since_judged(&self) -> bool {
        let (now, then) = (self.errors(), self.judged.lock().errors);
        (now.read, now.write) != (then.read, then.write)
    }

    /// It has been judged: what failed until now is answered for, the probe's own failures among it.
    pub(crate) fn note_judged(&self, now: Instant) {
        let errors = self.errors();
        let mut judged = self.judged.lock();
        let reads = errors.read.saturating_sub(judged.errors.read);
        let writes = errors.write.saturating_sub(judged.errors.write);
        judged.present = (judged.present.0 + reads, judged.present.1 + writes);
        judged.errors = errors;
        judged.at = Some(now);
    }

    /// Failed reads and writes of the last `span`, or up to twice that: failures are forgotten a span at a time.
    pub(crate) fn recent_failures(&self, now: Instant, span: Duration) -> (u64, u64) {
        let mut judged = self.judged.lock();
        let since = *judged.since.get_or_insert(now);
        if now.since(since) >= span {
            let is_old = now.since(since) >= 2 * span;
            judged.before = if is_old { (0, 0) } else { judged.present };
            judged.present = (0, 0);
            judged.since = Some(now);
        }
        (judged.present.0 + judged.before.0, judged.present.1 + judged.before.1)
    }

    /// Whether it is time to ask a device that was given up again.
    pub(crate) fn is_retry_due(&self, now: Instant, every: Duration) -> bool {
        self.judged.lock().at.is_none_or(|at| now.since(at) >= every)
    }

    /// It is to be asked again at once.
    pub(crate) fn hasten_retry(&self) {
        self.judged.lock().at = None;
    }

    pub(crate) fn is_worn(&self) -> bool {
        self.judged.lock().is_worn
    }

    pub(crate) fn set_worn(&self, is_worn: bool) {
        self.judged.lock().is_worn = is_worn;
    }

    // --- what it missed ------------------------------------------------------------------------------------------

    /// Notes that writes of these groups, both included, did not reach the device.
    pub(crate) fn miss(&self, first: Txg, last: Txg) {
        let mut missing = self.missing.lock();
        if !missing.covers(first.0, last.0) {
            missing.add(first.0, last.0);
            self.has_missing.store(true, Ordering::Release);
            self.is_dirty.store(true, Ordering::Release);
        }
    }

    /// Whether writes of that group did not all reach the device.
    pub fn misses(&self, txg: Txg) -> bool {
        self.has_missing.load(Ordering::Acquire) && self.missing.lock().contains(txg.0)
    }

    /// Whether it missed anything.
    pub fn is_stale(&self) -> bool {
        self.has_missing.load(Ordering::Acquire)
    }

    /// First and last group it missed.
    pub fn missing_range(&self) -> Option<(Txg, Txg)> {
        self.missing.lock().bounds().map(|(first, last)| (Txg(first), Txg(last)))
    }

    /// What it missed.
    pub(crate) fn missing(&self) -> TxgRanges {
        self.missing.lock().clone()
    }

    /// Takes over what was read from disk.
    pub(crate) fn set_missing(&self, object: ObjectId, missing: TxgRanges) {
        self.object.store(object.0, Ordering::Release);
        self.has_missing.store(!missing.is_empty(), Ordering::Release);
        *self.missing.lock() = missing;
    }

    /// It is about to be used again: resilvers of generations before `generation` bring nothing back to it.
    pub(crate) fn come_back(&self, generation: u64) {
        self.back_since.store(generation, Ordering::Release);
    }

    /// Whether a resilver of that generation was walked with it from its beginning.
    pub(crate) fn was_there(&self, generation: u64) -> bool {
        self.back_since.load(Ordering::Acquire) <= generation
    }

    /// A block of that group could not be brought back to it, or was missed behind the place a resilver has come to.
    pub(crate) fn heal_failed(&self, txg: Txg) {
        self.unhealed.lock().add(txg.0, txg.0);
    }

    /// Whether there is a group up to `last` that the resilver under way cannot bring back to it.
    pub(crate) fn has_unhealed(&self, last: Txg) -> bool {
        self.unhealed.lock().bounds().is_some_and(|(first, _)| first <= last.0)
    }

    /// A resilver begins: nothing is behind its place yet.
    pub(crate) fn forget_unhealed(&self) {
        *self.unhealed.lock() = TxgRanges::new();
    }

    /// A resilver has brought back every group up to `last`, but for those of [`Self::heal_failed`].
    pub(crate) fn healed_up_to(&self, last: Txg) {
        let unhealed = core::mem::take(&mut *self.unhealed.lock());
        let mut missing = self.missing.lock();
        if missing.is_empty() {
            return;
        }
        missing.remove(0, last.0);
        unhealed.iter().for_each(|(first, last)| missing.add(first, last));
        self.has_missing.store(!missing.is_empty(), Ordering::Release);
        self.is_dirty.store(true, Ordering::Release);
    }

    /// `missing` has to be written; asking resets that.
    pub(crate) fn take_dirty(&self) -> bool {
        self.is_dirty.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Acquire)
    }

    pub(crate) fn object(&self) -> ObjectId {
        ObjectId(self.object.load(Ordering::Acquire))
    }

    pub(crate) fn set_object(&self, object: ObjectId) {
        self.object.store(object.0, Ordering::Release);
    }
}
