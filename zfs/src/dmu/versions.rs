//! A value that several transaction groups in flight see differently.
//!
//! The newest group works on `current`. When a newer group changes the value first, what the older one leaves behind
//! is set aside for its sync. Invariant: groups change the value in order, so the set-aside versions are sorted.
use crate::bugs::{self, Bug};
use crate::{Error, Result};
use ondisk::Txg;
use smallvec::SmallVec;

#[derive(Clone, Debug)]
pub(super) struct Versions<T> {
    current: T,
    /// The group whose changes are in `current`, if they are not synced.
    newest: Option<Txg>,
    older: SmallVec<[(Txg, T); 0]>,
}

impl<T: Clone> Versions<T> {
    pub(super) fn new(current: T) -> Self {
        Self { current, newest: None, older: SmallVec::new() }
    }

    pub(super) fn current(&self) -> &T {
        &self.current
    }

    /// The value, to be changed in `txg`.
    ///
    /// # Errors
    /// `Invalid` when a newer group has changed it already: the caller mixed open and syncing context.
    pub(super) fn change_in(&mut self, txg: Txg) -> Result<&mut T> {
        match self.newest {
            Some(newest) if newest == txg => {}
            Some(newest) if newest > txg => return Err(Error::Invalid),
            Some(newest) => {
                if !bugs::is(Bug::NoVersions) {
                    self.older.push((newest, self.current.clone()));
                }
                self.newest = Some(txg);
            }
            None => self.newest = Some(txg),
        }
        Ok(&mut self.current)
    }

    /// What `txg` leaves behind, for its sync; `None` when it changed nothing.
    pub(super) fn take_for_sync(&mut self, txg: Txg) -> Option<T> {
        if let Some(at) = self.older.iter().position(|(t, _)| *t == txg) {
            return Some(self.older.remove(at).1);
        }
        (self.newest == Some(txg)).then(|| {
            self.newest = None;
            self.current.clone()
        })
    }

    /// Changes that concern every version alike (facts that only syncing learns).
    pub(super) fn for_each(&mut self, mut change: impl FnMut(&mut T)) {
        change(&mut self.current);
        self.older.iter_mut().for_each(|(_, v)| change(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_group_keeps_what_it_left_behind() {
        let mut v = Versions::new(1);
        *v.change_in(Txg(5)).unwrap() = 2;
        *v.change_in(Txg(6)).unwrap() = 3;
        *v.change_in(Txg(6)).unwrap() = 4;
        assert_eq!(v.change_in(Txg(5)), Err(Error::Invalid));
        assert_eq!(v.take_for_sync(Txg(5)), Some(2));
        assert_eq!(v.take_for_sync(Txg(5)), None);
        assert_eq!(v.take_for_sync(Txg(6)), Some(4));
        assert_eq!(v.take_for_sync(Txg(7)), None);
        assert_eq!(*v.current(), 4);
    }
}
