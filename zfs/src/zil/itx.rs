//! What operations leave for the log: intent transactions, in memory, by transaction group.
//!
//! Changes of names are kept in one order for the whole dataset. Changes of one file's content and attributes
//! (*unordered* ones) are kept by object and join the others when that file is committed, so an fsync of one file does
//! not write what others have dirty. Replay allows for it: their object may be gone.
//!
//! Invariant: what is listed under a group is dropped once that group is on disk, and not before.
use alloc::vec::Vec;
use hashbrown::HashMap;
use ondisk::Txg;
use rt::SpinLock;

use crate::txg::TXG_SLOTS;

/// Locks that the lists by object are spread over.
const SHARDS: usize = 16;
/// Neighbouring writes become one up to this length.
const WRITE_MAX: u64 = 1 << 20;

/// One change that fsync has to make durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A record, encoded but for group and number.
    Record(Vec<u8>),
    /// Content: it is fetched when the record is written.
    Write(WriteChange),
    /// A change that has no record: its group must be waited for.
    Wait,
}

/// A write whose data is still to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteChange {
    pub(super) object: u64,
    /// Tells an object from the one that had its number before.
    pub(super) generation: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// The file's block size: what lies in one block reaches the log in one piece.
    pub(super) block_size: u32,
}

/// A change and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Itx {
    pub(super) txg: Txg,
    pub(super) change: Change,
}

impl Itx {
    /// The object whose data is to be fetched.
    pub(super) fn written(&self) -> Option<u64> {
        match &self.change {
            Change::Write(write) => Some(write.object),
            Change::Record(_) | Change::Wait => None,
        }
    }
}

/// The changes of one group.
#[derive(Debug, Default)]
struct Group {
    ordered: SpinLock<Vec<Change>>,
    by_object: [SpinLock<HashMap<u64, Vec<Change>>>; SHARDS],
}

/// The changes of the groups in flight.
#[derive(Debug, Default)]
pub(super) struct Itxs([Group; TXG_SLOTS]);

impl Itxs {
    fn of(&self, txg: Txg) -> &Group {
        &self.0[txg.slot()]
    }

    /// Adds a change that keeps its place among all others.
    pub(super) fn add(&self, txg: Txg, change: Change) {
        self.of(txg).ordered.lock().push(change);
    }

    /// Adds a change that keeps its place among those of its object.
    pub(super) fn add_of_object(&self, txg: Txg, object: u64, change: Change) {
        let mut lists = self.of(txg).by_object[shard(object)].lock();
        let list = lists.entry(object).or_default();
        if let (Some(Change::Write(last)), Change::Write(new)) = (list.last_mut(), &change)
            && last.joins(new)
        {
            return;
        }
        list.push(change);
    }

    /// An object is gone: nothing of it needs to be written any more.
    pub(super) fn forget(&self, txgs: impl Iterator<Item = Txg>, object: u64) {
        for txg in txgs {
            self.of(txg).by_object[shard(object)].lock().remove(&object);
        }
    }

    /// Gives an object's changes their place among all others.
    pub(super) fn order(&self, txgs: impl Iterator<Item = Txg>, object: u64) {
        for txg in txgs {
            let group = self.of(txg);
            let list = group.by_object[shard(object)].lock().remove(&object);
            if let Some(mut list) = list {
                group.ordered.lock().append(&mut list);
            }
        }
    }

    /// As [`Self::order`], for every object, in the order of their numbers.
    pub(super) fn order_all(&self, txgs: impl Iterator<Item = Txg>) {
        for txg in txgs {
            let group = self.of(txg);
            let mut all: Vec<(u64, Vec<Change>)> = Vec::new();
            group.by_object.iter().for_each(|shard| all.extend(shard.lock().drain()));
            all.sort_by_key(|(object, _)| *object);
            let mut ordered = group.ordered.lock();
            all.iter_mut().for_each(|(_, list)| ordered.append(list));
        }
    }

    /// Takes what has its place, in order.
    pub(super) fn take(&self, txgs: impl Iterator<Item = Txg>) -> Vec<Itx> {
        let mut out = Vec::new();
        for txg in txgs {
            let list = core::mem::take(&mut *self.of(txg).ordered.lock());
            out.extend(list.into_iter().map(|change| Itx { txg, change }));
        }
        out
    }

    /// A group is on disk.
    pub(super) fn clean(&self, txg: Txg) {
        let group = self.of(txg);
        let ordered = core::mem::take(&mut *group.ordered.lock());
        drop(ordered);
        for shard in &group.by_object {
            let lists = core::mem::take(&mut *shard.lock());
            drop(lists);
        }
    }
}

impl WriteChange {
    /// Takes the write that follows into this one, if it begins where this ends.
    fn joins(&mut self, next: &Self) -> bool {
        let is_same = self.object == next.object && self.generation == next.generation;
        let is_inside = next.offset >= self.offset && next.offset <= self.offset + self.length;
        let end = (self.offset + self.length).max(next.offset + next.length);
        if !is_same || !is_inside || end - self.offset > WRITE_MAX {
            return false;
        }
        self.length = end - self.offset;
        self.block_size = next.block_size;
        true
    }
}

fn shard(object: u64) -> usize {
    object as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(object: u64, offset: u64, length: u64) -> Change {
        Change::Write(WriteChange { object, generation: 1, offset, length, block_size: 4096 })
    }

    fn only(txg: u64) -> impl Iterator<Item = Txg> {
        core::iter::once(Txg(txg))
    }

    #[test]
    fn writes_that_follow_each_other_are_one() {
        let itxs = Itxs::default();
        for (offset, len) in [(0, 10), (10, 10), (5, 3), (100, 1)] {
            itxs.add_of_object(Txg(5), 7, write(7, offset, len));
        }
        itxs.add_of_object(Txg(5), 7, Change::Wait);
        itxs.order(only(5), 7);
        let taken: Vec<Change> = itxs.take(only(5)).into_iter().map(|i| i.change).collect();
        assert_eq!(taken, [write(7, 0, 20), write(7, 100, 1), Change::Wait]);
    }

    #[test]
    fn only_what_is_committed_is_taken() {
        let itxs = Itxs::default();
        itxs.add_of_object(Txg(5), 1, write(1, 0, 1));
        itxs.add(Txg(5), Change::Record(vec![1]));
        itxs.add_of_object(Txg(6), 2, write(2, 0, 1));
        let both = || [Txg(5), Txg(6)].into_iter();
        assert_eq!(itxs.take(both()).len(), 1);
        itxs.order(both(), 2);
        assert_eq!(itxs.take(both()), [Itx { txg: Txg(6), change: write(2, 0, 1) }]);
        itxs.forget(both(), 1);
        itxs.order_all(both());
        assert_eq!(itxs.take(both()), []);
    }
}
