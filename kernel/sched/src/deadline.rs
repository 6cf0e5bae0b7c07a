//! A binary heap of deadlines whose entries know their place, so that one can be taken out early.
use alloc::vec::Vec;

/// Index of an entry that is in no heap.
pub(crate) const NOWHERE: usize = usize::MAX;

/// Something that waits for a deadline and remembers its place.
pub(crate) trait Waiter: Copy {
    fn set_index(self, index: usize);
}

#[derive(Clone, Copy)]
struct Entry<W> {
    at: u64,
    waiter: W,
}

/// Earliest first.
pub(crate) struct DeadlineHeap<W> {
    entries: Vec<Entry<W>>,
}

impl<W: Waiter> DeadlineHeap<W> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The earliest deadline.
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.entries.first().map(|e| e.at)
    }

    pub(crate) fn insert(&mut self, at: u64, waiter: W) {
        self.entries.push(Entry { at, waiter });
        self.sift_up(self.entries.len() - 1);
    }

    /// Takes out the earliest if it is not after `now`.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<W> {
        let first = *self.entries.first()?;
        if first.at > now {
            return None;
        }
        self.remove(0);
        Some(first.waiter)
    }

    /// Takes out the entry at `index`.
    pub(crate) fn remove(&mut self, index: usize) {
        let gone = self.entries.swap_remove(index);
        gone.waiter.set_index(NOWHERE);
        if index < self.entries.len() {
            let index = self.sift_up(index);
            self.sift_down(index);
        }
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.entries[parent].at <= self.entries[index].at {
                break;
            }
            self.entries.swap(parent, index);
            self.entries[index].waiter.set_index(index);
            index = parent;
        }
        self.entries[index].waiter.set_index(index);
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let children = (2 * index + 1..self.entries.len()).take(2);
            let Some(least) = children.min_by_key(|&child| self.entries[child].at) else { break };
            if self.entries[index].at <= self.entries[least].at {
                break;
            }
            self.entries.swap(index, least);
            self.entries[index].waiter.set_index(index);
            index = least;
        }
        if let Some(entry) = self.entries.get(index) {
            entry.waiter.set_index(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::vec::Vec;

    impl Waiter for &Cell<usize> {
        fn set_index(self, index: usize) {
            self.set(index);
        }
    }

    /// A small generator is enough to visit many shapes.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn pops_in_order_whatever_is_removed() {
        let mut state = 1;
        for _ in 0..200 {
            let cells: Vec<Cell<usize>> = (0..40).map(|_| Cell::new(NOWHERE)).collect();
            let mut heap = DeadlineHeap::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (n, cell) in cells.iter().enumerate() {
                let at = next(&mut state) % 50;
                heap.insert(at, cell);
                model.push((at, n));
                if next(&mut state).is_multiple_of(3) {
                    let (_, victim) = model.swap_remove(next(&mut state) as usize % model.len());
                    heap.remove(cells[victim].get());
                    assert_eq!(cells[victim].get(), NOWHERE);
                }
            }
            for (n, cell) in cells.iter().enumerate() {
                let is_queued = model.iter().any(|&(_, m)| m == n);
                assert_eq!(cell.get() != NOWHERE, is_queued);
            }
            let mut times: Vec<u64> = model.iter().map(|&(at, _)| at).collect();
            times.sort_unstable();
            for at in times {
                assert_eq!(heap.earliest(), Some(at));
                assert!(at == 0 || heap.pop_due(at - 1).is_none());
                assert!(heap.pop_due(at).is_some());
            }
            assert_eq!(heap.earliest(), None);
        }
    }
}
