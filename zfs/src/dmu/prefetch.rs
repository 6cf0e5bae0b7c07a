//! Reading ahead of sequential readers.
//!
//! A few streams per object, each the position where a reader is expected next. A read that continues a stream makes
//! its distance grow; what lies within the distance is asked for, its indirect blocks first. A read elsewhere starts a
//! stream in the place of the one not used for longest. Looking whether a read continues a stream takes no lock.
use super::dnode::Dnode;
use core::sync::atomic::{AtomicU64, Ordering};
use rt::SpinLock;

/// Streams per object.
const STREAMS: usize = 4;
/// A stream never reads further ahead than this.
const DISTANCE_MAX: u64 = 8 << 20;
const DISTANCE_START: u64 = 256 << 10;
/// Most blocks asked for at once.
const BLOCKS_MAX: u64 = 64;

#[derive(Debug)]
pub(super) struct Streams {
    /// Block after the last one read, by stream.
    next: [AtomicU64; STREAMS],
    ahead: SpinLock<[Ahead; STREAMS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    /// Blocks below this one were asked for.
    until: u64,
    /// Bytes to read ahead.
    distance: u64,
    last_used: u64,
}

impl Streams {
    pub(super) const fn new() -> Self {
        Self {
            next: [const { AtomicU64::new(u64::MAX) }; STREAMS],
            ahead: SpinLock::new([Ahead { until: 0, distance: 0, last_used: 0 }; STREAMS]),
        }
    }

    /// The stream that expects `blkid`.
    #[inline]
    fn find(&self, blkid: u64) -> Option<usize> {
        self.next.iter().position(|n| n.load(Ordering::Relaxed) == blkid)
    }
}

impl Dnode {
    /// A read of blocks `first..=last` is about to be done.
    #[inline]
    pub(super) fn note_read(&self, first: u64, last: u64) {
        if let Some(index) = self.streams.find(first) {
            self.continue_stream(index, last);
        }
    }

    /// A read that ends with block `last` found its first block missing.
    pub(super) fn note_miss(&self, last: u64) {
        // A stream that ends here was continued by this very read.
        if self.streams.find(last + 1).is_some() || self.max_blkid() == 0 {
            return;
        }
        let mut ahead = self.streams.ahead.lock();
        let now = ahead.iter().map(|a| a.last_used).max().unwrap_or(0) + 1;
        let oldest = (0..STREAMS).min_by_key(|i| ahead[*i].last_used).unwrap_or(0);
        ahead[oldest] = Ahead { until: last + 1, distance: 0, last_used: now };
        self.streams.next[oldest].store(last + 1, Ordering::Relaxed);
    }

    #[cold]
    fn continue_stream(&self, index: usize, last: u64) {
        let block_size = u64::from(self.block_size().max(512));
        let (from, to) = {
            let mut ahead = self.streams.ahead.lock();
            let now = ahead.iter().map(|a| a.last_used).max().unwrap_or(0) + 1;
            self.streams.next[index].store(last + 1, Ordering::Relaxed);
            let stream = &mut ahead[index];
            stream.last_used = now;
            stream.distance = (stream.distance * 2).clamp(DISTANCE_START, DISTANCE_MAX);
            let blocks = (stream.distance / block_size).clamp(1, BLOCKS_MAX);
            let from = stream.until.max(last + 1);
            let to = (last + 1 + blocks).min(self.max_blkid() + 1);
            // Ask in bunches: topping up one block at a time would make each read pay for it.
            if to <= from || (to - from < blocks / 2 && to <= self.max_blkid()) {
                return;
            }
            stream.until = to;
            (from, to)
        };
        let reached = self.prefetch_blocks(from, to);
        self.prefetch_indirect(reached);
        if reached < to {
            // Goes on from there once the indirect block is in memory.
            let mut ahead = self.streams.ahead.lock();
            let until = &mut ahead[index].until;
            *until = reached.min(*until);
        }
    }

    /// Asks for the data blocks `from..to` that are not in memory; gives the first it knows no place of.
    pub(super) fn prefetch_blocks(&self, from: u64, to: u64) -> u64 {
        let to = to.min(from.saturating_add(BLOCKS_MAX));
        for blkid in from..to {
            if self.level(0).get(blkid).is_some() || self.is_freed(blkid) {
                continue;
            }
            match self.pointer_in_memory(0, blkid) {
                Some(bp) if !bp.is_hole() && !bp.is_embedded() && bp.level() == 0 => {
                    self.storage.prefetch(&bp, self.bookmark(0, blkid));
                }
                Some(_) => {}
                None => return blkid,
            }
        }
        to
    }

    /// Asks for the indirect block above data block `blkid`.
    fn prefetch_indirect(&self, blkid: u64) {
        let shift = self.phys.lock().entries_shift();
        let above = blkid >> shift;
        if self.level(1).get(above).is_none()
            && let Some(bp) = self.pointer_in_memory(1, above)
            && !bp.is_hole()
            && bp.level() == 1
        {
            self.storage.prefetch(&bp, self.bookmark(1, above));
        }
    }

    /// Starts reading a range into the cache; best effort.
    pub fn prefetch(&self, offset: u64, len: u64) {
        let size = u64::from(self.block_size().max(512));
        let last = offset.saturating_add(len.max(1) - 1) / size;
        let reached = self.prefetch_blocks(offset / size, last.saturating_add(1));
        self.prefetch_indirect(reached);
    }
}
