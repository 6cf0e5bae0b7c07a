//! The buddy allocator proper: no locks, no caches.
//!
//! A free block of order n is 2^n frames at a multiple of 2^n. Its first frame's state byte holds n, every other
//! state byte [`NOT_FREE`]; its first 16 bytes link it into the list of its order. Two free buddies never exist:
//! freeing merges them.
//!
//! Blocks of the largest order have their links in a table beside: memory that was never used is then never touched
//! either, and the host need not provide it.

/// State of a frame that is not the first of a free block.
pub(super) const NOT_FREE: u8 = 0xff;
/// Orders 0..=14: up to 64 MiB, so that the largest record of a pool is one run.
const ORDERS: usize = 15;
const TOP: usize = ORDERS - 1;
/// No block.
const NONE: usize = usize::MAX;

/// In the first bytes of a free block, or in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    next: usize,
    previous: usize,
}

/// Entries of the table for frames below `pfn_end`.
pub(super) const fn nr_top_links(pfn_end: usize) -> usize {
    pfn_end.div_ceil(1 << TOP)
}

pub(super) struct Buddy {
    /// Where frame 0 would be.
    memory: *mut u8,
    state: &'static mut [u8],
    top_links: &'static mut [Links],
    first: [usize; ORDERS],
    nr_free: usize,
}

// SAFETY: the memory behind free frames belongs to the allocator alone.
unsafe impl Send for Buddy {}

impl Buddy {
    /// Without free frames. `state` is all [`NOT_FREE`], `top_links` has [`nr_top_links`] entries of any content;
    /// frame n lies at `memory + n * 4096`.
    pub(super) fn new(memory: *mut u8, state: &'static mut [u8], top_links: &'static mut [Links]) -> Self {
        Self { memory, state, top_links, first: [NONE; ORDERS], nr_free: 0 }
    }

    pub(super) fn nr_free(&self) -> usize {
        self.nr_free
    }

    fn links(&mut self, pfn: usize, order: usize) -> &mut Links {
        if order == TOP {
            return &mut self.top_links[pfn >> TOP];
        }
        // SAFETY: only called for free blocks, whose memory is ours; frames are aligned.
        unsafe { &mut *self.memory.wrapping_add(pfn * 4096).cast() }
    }

    fn push(&mut self, pfn: usize, order: usize) {
        let next = self.first[order];
        *self.links(pfn, order) = Links { next, previous: NONE };
        if next != NONE {
            self.links(next, order).previous = pfn;
        }
        self.first[order] = pfn;
        self.state[pfn] = order as u8;
    }

    fn remove(&mut self, pfn: usize, order: usize) {
        let Links { next, previous } = *self.links(pfn, order);
        if previous == NONE {
            self.first[order] = next;
        } else {
            self.links(previous, order).next = next;
        }
        if next != NONE {
            self.links(next, order).previous = previous;
        }
        self.state[pfn] = NOT_FREE;
    }

    /// A block of `order`, split off the smallest that has it.
    fn alloc(&mut self, order: usize) -> Option<usize> {
        let from = (order..ORDERS).find(|&o| self.first[o] != NONE)?;
        let pfn = self.first[from];
        self.remove(pfn, from);
        for split in (order..from).rev() {
            self.push(pfn + (1 << split), split);
        }
        self.nr_free -= 1 << order;
        Some(pfn)
    }

    fn free(&mut self, pfn: usize, order: usize) {
        self.nr_free += 1 << order;
        let (mut pfn, mut order) = (pfn, order);
        while order + 1 < ORDERS {
            let buddy = pfn ^ 1 << order;
            if self.state.get(buddy) != Some(&(order as u8)) {
                break;
            }
            self.remove(buddy, order);
            pfn = pfn.min(buddy);
            order += 1;
        }
        self.push(pfn, order);
    }

    /// `nr` contiguous frames, the first at a multiple of `1 << align_order`. What the block is larger is given
    /// back at once.
    pub(super) fn alloc_range(&mut self, nr: usize, align_order: u32) -> Option<usize> {
        let order = nr.checked_next_power_of_two()?.trailing_zeros().max(align_order) as usize;
        if order >= ORDERS || nr == 0 {
            return None;
        }
        let pfn = self.alloc(order)?;
        self.free_range(pfn + nr, (1 << order) - nr);
        Some(pfn)
    }

    /// Frees any run of frames.
    pub(super) fn free_range(&mut self, start: usize, nr: usize) {
        debug_assert!(self.state[start.min(self.state.len() - 1)..][..nr].iter().all(|&s| s == NOT_FREE));
        let (mut pfn, end) = (start, start + nr);
        while pfn < end {
            let by_alignment = if pfn == 0 { TOP } else { pfn.trailing_zeros() as usize };
            let by_length = (end - pfn).ilog2() as usize;
            let order = by_alignment.min(by_length).min(TOP);
            self.free(pfn, order);
            pfn += 1 << order;
        }
    }
}
