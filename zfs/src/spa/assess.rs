//! Judging devices by what failed on them, and taking back those that work again.
//!
//! A request that failed makes the device be probed. One that fails the probe too, or is gone, is not used any more: as long
//! as everything can still be read without it. One that passes is degraded until nothing has failed for a while; only
//! when writes go on failing it is given up all the same, or every group would end in a resilver that cannot end. What
//! a device misses is noted by whoever writes past it.
//!
//! A device that was given up is probed again now and then. When it answers, and its label says that it is the same
//! one, it is used again, and a resilver brings it what it missed.
use super::{Spa, label};
use crate::vdev::{Leaf, Probe, Vdev, VdevState};
use alloc::sync::Arc;
use core::time::Duration;

/// So many failed writes within [`MEMORY`] are too many, whatever a probe says.
const WRITE_ERRORS_MAX: u64 = 16;
/// For how long a failure is held against a device.
const MEMORY: Duration = Duration::from_secs(600);
/// How often a device that was given up is probed.
const RETRY_EVERY: Duration = Duration::from_secs(10);

impl Spa {
    /// Looks at every device; true if one is not used any more.
    pub(super) fn assess(&self) -> bool {
        let mut has_lost = false;
        for top in self.storage.vdevs().iter() {
            for leaf in top.io().leaves() {
                has_lost |= self.assess_leaf(top, leaf);
            }
        }
        has_lost
    }

    fn assess_leaf(&self, top: &Vdev, leaf: &Arc<Leaf>) -> bool {
        let (health, state) = (leaf.health(), leaf.health().state());
        if !state.is_usable() {
            return false;
        }
        let new = match (health.is_gone(), self.probe_if_failing(leaf)) {
            (true, _) if top.can_lose(leaf.guid()) => VdevState::Removed,
            (_, Some(false)) if top.can_lose(leaf.guid()) => VdevState::Faulted,
            (true, _) | (_, Some(false)) => VdevState::Degraded,
            _ => match health.recent_failures(rt::now(), MEMORY) {
                (_, writes) if writes >= WRITE_ERRORS_MAX && top.can_lose(leaf.guid()) => {
                    health.set_worn(true);
                    VdevState::Faulted
                }
                (0, 0) => VdevState::Online,
                (_, 0) => state,
                _ => VdevState::Degraded,
            },
        };
        if new == state {
            return false;
        }
        self.set_leaf_state(leaf, new);
        !new.is_usable()
    }

    /// Probes a leaf on which something has failed since it was last judged; what came of it, once that is known.
    fn probe_if_failing(&self, leaf: &Arc<Leaf>) -> Option<bool> {
        self.probe_leaf(leaf, || leaf.health().has_failed_since_judged())
    }

    /// Goes on with the probe of a leaf, or begins one if `is_due`; what came of it, once that is known. The sync thread's
    /// alone; no lock is held while the device is asked.
    fn probe_leaf(&self, leaf: &Arc<Leaf>, is_due: impl FnOnce() -> bool) -> Option<bool> {
        let under_way = leaf.probe().lock().take();
        let mut probe = match under_way {
            Some(probe) => probe,
            None if is_due() => Probe::start(leaf),
            None => return None,
        };
        match probe.verdict(leaf) {
            Some(verdict) => {
                leaf.health().note_judged(rt::now());
                Some(verdict)
            }
            None => {
                *leaf.probe().lock() = Some(probe);
                None
            }
        }
    }

    /// Uses devices again that were given up and answer now. In the sync thread, at the beginning of a group: what the
    /// group writes reaches them.
    pub(super) fn take_back_devices(&self) {
        for leaf in self.storage.leaves() {
            let health = leaf.health();
            let is_lost = matches!(health.state(), VdevState::Removed | VdevState::Faulted);
            if !is_lost || health.is_worn() || leaf.is_absent() || !self.answers_again(&leaf) {
                continue;
            }
            if !self.is_same_device(&leaf) {
                log::warn!("zfs: what is now in the place of device {} is another", leaf.guid());
                continue;
            }
            health.clear_errors();
            self.set_leaf_state(&leaf, VdevState::Online);
            self.storage.request_resilver();
        }
    }

    /// Whether a probe of a lost device has succeeded; begins one when it is time.
    fn answers_again(&self, leaf: &Arc<Leaf>) -> bool {
        let is_due = || leaf.health().is_retry_due(rt::now(), RETRY_EVERY);
        self.probe_leaf(leaf, is_due) == Some(true)
    }

    fn is_same_device(&self, leaf: &Leaf) -> bool {
        label::read(leaf.device()).is_ok_and(|labels| {
            let number = |name: &str| labels.config.get_u64(name);
            number("pool_guid") == Some(self.guid) && number("guid") == Some(leaf.guid())
        })
    }

    /// Someone has learned that devices may have come back: the next group looks at every lost one.
    pub fn look_for_devices(&self) {
        self.storage.leaves().iter().for_each(|leaf| leaf.health().hasten_retry());
        self.mos.mark_config_dirty();
        self.txgs.kick(self.txgs.open_txg());
    }
}
