//! Single writes that are durable when they are answered, on devices whose write cache can be turned off.
//!
//! The interface has no such request. But where the cache's mode can be set (`VIRTIO_BLK_F_CONFIG_WCE`), a write is durable
//! on completion if `writeback` was 0 "all the time between the submission of the write and its completion" (specification
//! 5.2.6.2). So the cache is turned off before such a write is put on a ring, stays off while one is in flight, and is
//! turned on again before the next plain write is put on a ring with none in flight. A program that does nothing but fsync
//! leaves it off: no register is touched, and one request takes the place of a write and a flush.
//!
//! What it is not: free for others. A plain write that is submitted while the cache is off is written through as well.
//! Whoever has a choice asks [`BlockDevice::is_fua_shared`](blockdev::BlockDevice::is_fua_shared) and, while there are other
//! writes, uses a flush.
//!
//! Invariants:
//! 1. `nr_in_flight` is raised, under `turn`, before the request is on a ring, and lowered after the device has returned
//!    it or was reset. Turning the cache on in between would leave an acknowledged write in it, lost with the next power
//!    cut.
//! 2. The mode is read back after it was set: a write to a register of a PCI device may be under way still when the
//!    device finds the request on its ring by itself.
//! 3. After a reset the mode is set anew while no ring takes requests.
use crate::config::{Features, WRITEBACK_AT};
use crate::transport::Transport;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use rt::SpinLock;

/// The write cache's switch.
#[derive(Debug, Default)]
pub(crate) struct CacheSwitch {
    /// What `writeback` says, as far as we have set it.
    is_off: AtomicBool,
    /// Writes that need it off.
    nr_in_flight: AtomicUsize,
    /// Held to set `writeback`.
    turn: SpinLock<()>,
}

/// Whether the device has a volatile cache and turns it off and on when told to.
pub(crate) fn obeys<T: Transport>(transport: &T, features: Features) -> bool {
    let needed = Features::CONFIG_WCE | Features::FLUSH | Features::VERSION_1;
    features.contains(needed)
        && transport.read_config8(WRITEBACK_AT) == 1
        && set(transport, false)
        && set(transport, true)
}

/// Sets the cache's mode; whether the device has it now.
fn set<T: Transport>(transport: &T, is_on: bool) -> bool {
    transport.write_config8(WRITEBACK_AT, u8::from(is_on));
    transport.read_config8(WRITEBACK_AT) == u8::from(is_on)
}

impl CacheSwitch {
    /// A durable write is about to be put on a ring; false when the device does not turn its cache off.
    pub(crate) fn begin<T: Transport>(&self, transport: &T) -> bool {
        let _turn = self.turn.lock();
        if !self.is_off.load(Ordering::Relaxed) {
            self.is_off.store(true, Ordering::SeqCst);
            if !set(transport, false) {
                return false;
            }
        }
        self.nr_in_flight.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// A durable write is not on a ring any more.
    pub(crate) fn end(&self) {
        self.nr_in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// A plain write is about to be put on a ring.
    pub(crate) fn before_plain<T: Transport>(&self, transport: &T) {
        if !self.is_off.load(Ordering::SeqCst) {
            return;
        }
        let _turn = self.turn.lock();
        if self.is_off.load(Ordering::SeqCst) && self.nr_in_flight.load(Ordering::SeqCst) == 0 {
            // What a device that does not obey leaves off is slow, not wrong.
            set(transport, true);
            self.is_off.store(false, Ordering::SeqCst);
        }
    }

    /// The device was reset, and nothing is on its rings.
    pub(crate) fn reset<T: Transport>(&self, transport: &T) {
        let _turn = self.turn.lock();
        set(transport, true);
        self.is_off.store(false, Ordering::SeqCst);
    }
}
