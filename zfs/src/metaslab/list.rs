//! A vdev's metaslabs: a list that only grows, so that it is read without a lock while it does.
//!
//! Invariant: a metaslab that is counted is there for good, at the same place in memory: whoever allocates holds
//! references into the list, and never waits for one who makes the vdev larger.
use super::metaslab::Metaslab;
use crate::{Error, Result};
use alloc::vec::Vec;
use core::ops::Index;
use core::sync::atomic::{AtomicUsize, Ordering};
use rt::Once;

/// How often a vdev may grow while it is open. Opening the pool anew makes one run of them all.
const GROWTHS_MAX: usize = 32;

/// A vdev's metaslabs, by number.
#[derive(Debug)]
pub(crate) struct Metaslabs {
    /// Those there were first.
    first: Vec<Metaslab>,
    /// Those of each growth.
    more: [Once<Vec<Metaslab>>; GROWTHS_MAX],
    len: AtomicUsize,
}

impl Metaslabs {
    pub(super) fn new(first: Vec<Metaslab>) -> Self {
        let len = AtomicUsize::new(first.len());
        Self { first, more: [const { Once::new() }; GROWTHS_MAX], len }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub(crate) fn get(&self, id: usize) -> Option<&Metaslab> {
        if let Some(metaslab) = self.first.get(id) {
            return Some(metaslab);
        }
        let mut rest = id - self.first.len();
        for run in self.more.iter().map_while(Once::get) {
            match run.get(rest) {
                Some(metaslab) => return Some(metaslab),
                None => rest -= run.len(),
            }
        }
        None
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Metaslab> {
        self.first.iter().chain(self.more.iter().map_while(Once::get).flatten())
    }

    /// Puts more at the end. For one caller at a time: the sync thread.
    ///
    /// # Errors
    /// `Busy` when it has grown too often: the pool has to be opened anew first.
    pub(super) fn extend(&self, more: Vec<Metaslab>) -> Result<()> {
        let place = self.more.iter().find(|run| run.get().is_none()).ok_or(Error::Busy)?;
        let nr = more.len();
        place.get_or_init(|| more);
        self.len.fetch_add(nr, Ordering::AcqRel);
        Ok(())
    }
}

impl Index<usize> for Metaslabs {
    type Output = Metaslab;

    fn index(&self, id: usize) -> &Metaslab {
        self.get(id).expect("numbers of metaslabs come from the list")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(ids: core::ops::Range<u64>) -> Vec<Metaslab> {
        ids.map(|id| Metaslab::new(id << 24, 1 << 24, 12)).collect()
    }

    #[test]
    fn it_grows_under_its_readers() {
        let list = Metaslabs::new(some(0..3));
        let first = &list[1];
        for at in (3..3 + 2 * GROWTHS_MAX as u64).step_by(2) {
            list.extend(some(at..at + 2)).unwrap();
        }
        assert_eq!(list.extend(some(0..1)), Err(Error::Busy));
        assert_eq!(first.extent.start, 1 << 24);
        assert_eq!((list.len(), list.iter().count()), (67, 67));
        assert!((0..67).all(|id| list[id].extent.start == (id as u64) << 24));
        assert!(list.get(67).is_none());
    }
}
