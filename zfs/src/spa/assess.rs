//! Judging devices by what failed on them.
//!
//! A device with failed writes is degraded; one that is gone, or fails again and again, is not used any more: as long as
//! everything can still be read without it. What it misses is noted by whoever writes past it.
use super::Spa;
use crate::event::Event;
use crate::vdev::{Leaf, Vdev, VdevState};
use alloc::sync::Arc;

/// Failed writes, or reads, after which a device is not used any more.
const ERRORS_MAX: u64 = 16;

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
        let health = leaf.health();
        let (state, errors) = (health.state(), health.errors());
        if !state.is_usable() || errors == Default::default() {
            return false;
        }
        let is_worn = errors.write >= ERRORS_MAX || errors.read >= ERRORS_MAX;
        let new = match (health.is_gone(), is_worn) {
            (true, _) if top.can_lose(leaf.guid()) => VdevState::Removed,
            (false, true) if top.can_lose(leaf.guid()) => VdevState::Faulted,
            _ if errors.write > 0 || is_worn => VdevState::Degraded,
            _ => return false,
        };
        if new == state {
            return false;
        }
        health.set_state(new);
        self.events.post(Event::VdevState { guid: leaf.guid(), state: new });
        !new.is_usable()
    }
}
