//! Free space that is left alone for a while: to be discarded, or written over, on the devices.
//!
//! Only what could be allocated now is handed out: what was freed in a group is not among it before two more groups
//! have been written, so nothing that any of the last uberblocks refers to is touched. As long as the [`Quiet`] lives
//! nothing is allocated from the metaslab: else a discard under way could destroy what is written there meanwhile.
use super::allocator::Allocator;
use super::group::Group;
use super::metaslab::MsState;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use ondisk::Txg;

/// Ranges noted for a metaslab until they are discarded; more are forgotten until the next whole trim.
const NOTED_MAX: usize = 16 << 10;

/// Free ranges of a metaslab in which nothing is allocated.
pub(crate) struct Quiet {
    group: Arc<Group>,
    id: u32,
    /// Offset in the vdev, and length.
    pub(crate) ranges: Vec<(u64, u64)>,
}

impl Allocator {
    /// The free ranges of a metaslab that are at least `min` bytes; `None` when there is no such metaslab, or it is not
    /// loaded.
    pub(crate) fn quiet(&self, vdev: u32, id: u32, min: u64) -> Option<Quiet> {
        self.hush(vdev, id, |state| state.allocatable.iter().filter(|(_, len)| *len >= min).collect())
    }

    /// As [`Self::quiet`], only of what was freed since the last call.
    pub(crate) fn quiet_freed(&self, vdev: u32, id: u32, min: u64) -> Option<Quiet> {
        self.hush(vdev, id, |state| state.take_noted(min))
    }

    fn hush(&self, vdev: u32, id: u32, pick: impl FnOnce(&mut MsState) -> Vec<(u64, u64)>) -> Option<Quiet> {
        let group = self.group(vdev)?;
        let mut state = group.metaslabs.get(id as usize)?.state.lock();
        if !state.is_loaded || state.is_quiet {
            return None;
        }
        let ranges = pick(&mut state);
        state.is_quiet = true;
        drop(state);
        Some(Quiet { group, id, ranges })
    }

    /// Whether freed ranges are noted for [`Self::quiet_freed`].
    pub(crate) fn note_freed(&self, is_on: bool) {
        self.notes_freed.store(is_on, Ordering::Relaxed);
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let mut state = self.group.metaslabs[self.id as usize].state.lock();
        state.is_quiet = false;
        let weight = state.weight();
        drop(state);
        self.group.set_weight(self.id, weight);
    }
}

impl MsState {
    /// Notes what the end of group `txg` is going to make allocatable.
    pub(super) fn note_due(&mut self, txg: Txg) {
        let slot = txg.0 as usize % self.defer.len();
        let room = NOTED_MAX.saturating_sub(self.noted.len());
        self.noted.extend(self.defer[slot].iter().take(room));
    }

    /// What was noted, as far as it is still free: whole free ranges are given, so that neighbours freed apart make up
    /// ranges worth discarding.
    fn take_noted(&mut self, min: u64) -> Vec<(u64, u64)> {
        let mut noted = core::mem::take(&mut self.noted);
        noted.sort_unstable();
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (start, len) in noted {
            let free =
                self.allocatable.iter_from(start).take_while(|(at, _)| *at < start.saturating_add(len));
            for (at, free_len) in free {
                let from = at.max(start);
                let until = at.saturating_add(free_len).min(start.saturating_add(len));
                match out.last_mut() {
                    Some((last, last_len)) if *last + *last_len >= from => {
                        *last_len = (*last_len).max(until.saturating_sub(*last));
                    }
                    _ if until > from => out.push((from, until - from)),
                    _ => {}
                }
            }
        }
        out.retain(|(_, len)| *len >= min);
        out
    }
}
