//! Event records: the detail behind an error, for logs, `status` and tests.
use crate::vdev::VdevState;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::{Bookmark, Txg};
use rt::SpinLock;

/// Something that happened to the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A copy of a block was bad.
    BadCopy {
        /// Whose block.
        bookmark: Bookmark,
        /// Top-level vdev of the copy.
        vdev: u64,
        /// Offset of the copy in that vdev, bytes.
        offset: u64,
        /// The device failed to read it (else: its checksum was wrong).
        is_device_error: bool,
    },
    /// A bad copy was rewritten from a good one.
    Repaired {
        /// Whose block.
        bookmark: Bookmark,
        /// Top-level vdev of the copy.
        vdev: u64,
        /// Offset of the copy in that vdev, bytes.
        offset: u64,
    },
    /// No copy was good: the reader got an error.
    Lost {
        /// Whose block.
        bookmark: Bookmark,
        /// Its offset in the object, bytes, when it is data.
        offset: u64,
    },
    /// A write or flush failed.
    WriteFailed {
        /// Top-level vdev.
        vdev: u64,
        /// Offset in that vdev, bytes.
        offset: u64,
    },
    /// A device's state has changed.
    VdevState {
        /// Its guid.
        guid: u64,
        /// What it is now.
        state: VdevState,
    },
    /// A hot spare stands in for a device.
    SpareActivated {
        /// The spare's guid.
        guid: u64,
        /// The device's guid.
        original: u64,
    },
    /// A structure's content is not what its type demands.
    Damaged {
        /// What and where, for people.
        what: String,
    },
    /// A feature stands in the way of opening or of writing.
    Feature {
        /// Its guid.
        guid: String,
        /// Reading would be possible.
        is_readable: bool,
    },
    /// The pool is open read-only although writing was asked for.
    ForcedReadOnly {
        /// Why, for people.
        reason: String,
    },
    /// The pool is suspended.
    Suspended,
}

/// Most lost blocks kept until the pool's log has them.
const LOST_MAX: usize = 16 << 10;

/// Most records kept; older ones are dropped and counted.
pub const EVENTS_MAX: usize = 1024;

/// The pool's recent events.
#[derive(Clone, Debug, Default)]
pub struct EventLog(Arc<SpinLock<Records>>);

#[derive(Debug, Default)]
struct Records {
    events: Vec<Event>,
    nr_dropped: u64,
    /// Blocks without a good copy that the pool's log does not have yet, and their births.
    lost: BTreeMap<Bookmark, Txg>,
}

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records an event, and tells the log facade.
    pub fn post(&self, event: Event) {
        log::warn!("zfs: {event:?}");
        let mut records = self.0.lock();
        if records.events.len() >= EVENTS_MAX {
            records.events.remove(0);
            records.nr_dropped += 1;
        }
        records.events.push(event);
    }

    /// Notes a block without a good copy for the pool's log.
    pub(crate) fn note_lost(&self, bookmark: Bookmark, birth: Txg) {
        let mut records = self.0.lock();
        if records.lost.len() < LOST_MAX {
            records.lost.insert(bookmark, birth);
        }
    }

    /// Whether there are such blocks.
    pub(crate) fn has_lost(&self) -> bool {
        !self.0.lock().lost.is_empty()
    }

    /// Those that the pool's log does not have yet.
    pub(crate) fn lost(&self) -> BTreeMap<Bookmark, Txg> {
        self.0.lock().lost.clone()
    }

    /// As [`Self::lost`], and forgets them.
    pub(crate) fn take_lost(&self) -> BTreeMap<Bookmark, Txg> {
        core::mem::take(&mut self.0.lock().lost)
    }

    /// A copy of what is kept, oldest first.
    pub fn snapshot(&self) -> Vec<Event> {
        self.0.lock().events.clone()
    }

    /// How many were dropped because the log was full.
    pub fn nr_dropped(&self) -> u64 {
        self.0.lock().nr_dropped
    }
}
