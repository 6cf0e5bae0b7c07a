//! One CPU's runnable threads: two first-in first-out lists, linked through the threads.
//!
//! Threads that slept wait in `fresh` and run first; threads whose slice ran out wait in `used`. After
//! [`FRESH_RUN_MAX`] fresh ones in a row a used one has its turn, so that a pair of threads waking each other
//! cannot starve a third.

/// Fresh threads picked in a row while a used one waits.
const FRESH_RUN_MAX: u32 = 16;

/// A thread as the queue sees it.
pub(crate) trait Link: Copy + PartialEq {
    fn next(self) -> Option<Self>;
    fn set_next(self, next: Option<Self>);
}

struct List<L> {
    first: Option<L>,
    last: Option<L>,
}

impl<L: Link> List<L> {
    const fn new() -> Self {
        Self { first: None, last: None }
    }

    fn push(&mut self, link: L) {
        link.set_next(None);
        match self.last {
            Some(last) => last.set_next(Some(link)),
            None => self.first = Some(link),
        }
        self.last = Some(link);
    }

    fn pop(&mut self) -> Option<L> {
        let link = self.first?;
        self.first = link.next();
        if self.first.is_none() {
            self.last = None;
        }
        link.set_next(None);
        Some(link)
    }

    /// Takes out the first one that `matches`.
    fn take(&mut self, matches: &impl Fn(L) -> bool) -> Option<L> {
        let mut before: Option<L> = None;
        let mut at = self.first;
        while let Some(link) = at {
            let next = link.next();
            if matches(link) {
                match before {
                    Some(before) => before.set_next(next),
                    None => self.first = next,
                }
                if next.is_none() {
                    self.last = before;
                }
                link.set_next(None);
                return Some(link);
            }
            before = at;
            at = next;
        }
        None
    }
}

pub(crate) struct RunQueue<L> {
    fresh: List<L>,
    used: List<L>,
    nr_queued: usize,
    fresh_run: u32,
}

impl<L: Link> RunQueue<L> {
    pub(crate) const fn new() -> Self {
        Self { fresh: List::new(), used: List::new(), nr_queued: 0, fresh_run: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.nr_queued
    }

    /// Whether threads that slept wait.
    pub(crate) fn has_fresh(&self) -> bool {
        self.fresh.first.is_some()
    }

    /// Adds a thread that slept.
    pub(crate) fn push_fresh(&mut self, link: L) {
        self.fresh.push(link);
        self.nr_queued += 1;
    }

    /// Adds a thread that was running.
    pub(crate) fn push_used(&mut self, link: L) {
        self.used.push(link);
        self.nr_queued += 1;
    }

    /// The next to run.
    pub(crate) fn pop(&mut self) -> Option<L> {
        let is_used_due = self.fresh_run >= FRESH_RUN_MAX && self.used.first.is_some();
        let fresh = if is_used_due { None } else { self.fresh.pop() };
        self.fresh_run = if fresh.is_some() { self.fresh_run + 1 } else { 0 };
        let link = fresh.or_else(|| self.used.pop()).or_else(|| self.fresh.pop())?;
        self.nr_queued -= 1;
        Some(link)
    }

    /// Takes out one that `matches`, for another CPU: those that waited longest first.
    pub(crate) fn steal(&mut self, matches: impl Fn(L) -> bool) -> Option<L> {
        let link = self.used.take(&matches).or_else(|| self.fresh.take(&matches))?;
        self.nr_queued -= 1;
        Some(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::vec::Vec;

    #[derive(Clone, Copy)]
    struct Node<'a>(&'a Cell<Option<Node<'a>>>, usize);

    impl PartialEq for Node<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1 == other.1
        }
    }

    impl Link for Node<'_> {
        fn next(self) -> Option<Self> {
            self.0.get()
        }
        fn set_next(self, next: Option<Self>) {
            self.0.set(next);
        }
    }

    #[test]
    fn fresh_first_but_not_for_ever() {
        let cells: Vec<Cell<Option<Node>>> = (0..40).map(|_| Cell::new(None)).collect();
        let mut queue = RunQueue::new();
        queue.push_used(Node(&cells[0], 0));
        for (n, cell) in cells.iter().enumerate().skip(1) {
            queue.push_fresh(Node(cell, n));
        }
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop().map(|n| n.1)).collect();
        assert_eq!(order.len(), 40);
        assert_eq!(order.iter().position(|&n| n == 0), Some(FRESH_RUN_MAX as usize));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn steals_from_anywhere() {
        let cells: Vec<Cell<Option<Node>>> = (0..4).map(|_| Cell::new(None)).collect();
        for victim in 0..4 {
            let mut queue = RunQueue::new();
            for (n, cell) in cells.iter().enumerate() {
                queue.push_used(Node(cell, n));
            }
            assert_eq!(queue.steal(|n| n.1 == victim).map(|n| n.1), Some(victim));
            assert!(queue.steal(|n| n.1 == victim).is_none());
            queue.push_used(Node(&cells[victim], victim));
            let order: Vec<usize> = std::iter::from_fn(|| queue.pop().map(|n| n.1)).collect();
            let expected: Vec<usize> = (0..4).filter(|&n| n != victim).chain([victim]).collect();
            assert_eq!(order, expected);
        }
    }
}
