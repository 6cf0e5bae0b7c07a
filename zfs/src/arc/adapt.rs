//! How the cache divides itself: shares moved by what turned out to be missed.
use super::shard::ListId;
use core::sync::atomic::{AtomicU32, Ordering};

/// Shares are fractions of this.
const WHOLE: u32 = 1 << 16;
/// No list is squeezed out entirely: it could never show that it was too short.
const SHARE_MIN: u32 = WHOLE / 64;

/// The shares.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Metadata's of everything.
    metadata: AtomicU32,
    /// MRU's of data, and of metadata.
    recent: [AtomicU32; 2],
}

impl Default for Shares {
    fn default() -> Self {
        let half = || AtomicU32::new(WHOLE / 2);
        Self { metadata: AtomicU32::new(WHOLE / 4), recent: [half(), half()] }
    }
}

impl Shares {
    /// A block of `size` bytes was missed that had been evicted from `list`; `target` is the cache's size.
    pub(crate) fn missed(&self, list: ListId, size: u64, target: u64) {
        let step = (size * u64::from(WHOLE) / target.max(1)).clamp(1, u64::from(WHOLE) / 16) as u32;
        shift(&self.metadata, step, list.is_metadata());
        shift(&self.recent[usize::from(list.is_metadata())], step, !list.is_frequent());
    }

    /// The list to evict from, given the lists' bytes: the one that exceeds its share.
    pub(crate) fn victim(&self, bytes: impl Fn(ListId) -> u64) -> ListId {
        let of = |is_metadata| bytes(ListId::new(is_metadata, false)) + bytes(ListId::new(is_metadata, true));
        let (data, metadata) = (of(false), of(true));
        let share = self.metadata.load(Ordering::Relaxed);
        let is_metadata = data == 0 || metadata > part(data + metadata, share);
        let recent = bytes(ListId::new(is_metadata, false));
        let frequent = bytes(ListId::new(is_metadata, true));
        let share = self.recent[usize::from(is_metadata)].load(Ordering::Relaxed);
        let is_frequent = recent == 0 || (frequent > 0 && recent <= part(recent + frequent, share));
        ListId::new(is_metadata, is_frequent)
    }
}

fn part(bytes: u64, share: u32) -> u64 {
    (u128::from(bytes) * u128::from(share) / u128::from(WHOLE)) as u64
}

fn shift(share: &AtomicU32, step: u32, is_up: bool) {
    let old = share.load(Ordering::Relaxed);
    let new = if is_up { old.saturating_add(step) } else { old.saturating_sub(step) };
    // A lost race costs one step of an estimate.
    share.store(new.clamp(SHARE_MIN, WHOLE - SHARE_MIN), Ordering::Relaxed);
}
