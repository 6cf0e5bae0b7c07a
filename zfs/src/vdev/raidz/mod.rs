//! RAIDZ: a block's sectors and their parity over several children.
//!
//! What it is: the map, parity, and I/O of whole blocks. What it is not: expanded raidz (its width changes with a
//! block's birth), and no decision about which column is wrong: an *attempt* is an assumption about that, and the
//! block's checksum says whether it was right.
//!
//! Attempts are the sets of up to `nparity` children assumed bad, smallest first, always together with those that are
//! absent. Attempt 0 of a healthy vdev reads just the data.
mod map;
mod parity;
mod stripe;

use self::map::{Column, Map};
use self::stripe::Stripe;
use super::leaf::Leaf;
use super::mirror::AllOf;
use super::priority::Priority;
use super::queue::Payload;
use super::top::{ReadIo, TopVdev, WriteIo};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Completion;
use smallvec::SmallVec;

/// Bytes to allocate for a block of `psize` bytes on a raidz of `width` children.
pub(super) fn asize_of(psize: u64, ashift: u8, width: usize, nparity: usize) -> u64 {
    Map::asize(psize, ashift, width, nparity)
}

/// Most parity columns.
const PARITY_MAX: usize = 3;
/// Most children; the format has 8 bits for them.
const WIDTH_MAX: usize = 255;

/// Children assumed bad.
type Bad = SmallVec<[usize; PARITY_MAX]>;

/// A raidz vdev.
#[derive(Debug)]
pub(crate) struct RaidZ {
    /// By index of the child; `None` for those that are absent.
    children: Vec<Option<Arc<Leaf>>>,
    present: Vec<Arc<Leaf>>,
    nparity: usize,
    ashift: u8,
    attempts: Vec<Bad>,
}

impl RaidZ {
    /// A raidz over `children`, some of which may be absent.
    ///
    /// # Errors
    /// `Invalid` when the numbers make no raidz, `MissingVdev` when more children are absent than parity can replace.
    pub(crate) fn new(children: Vec<Option<Arc<Leaf>>>, nparity: u8, ashift: u8) -> Result<Self> {
        let (width, nparity) = (children.len(), usize::from(nparity));
        if !(1..=PARITY_MAX).contains(&nparity) || width <= nparity || width > WIDTH_MAX {
            return Err(Error::Invalid);
        }
        let absent: Bad =
            children.iter().enumerate().filter(|(_, c)| c.is_none()).map(|(index, _)| index).collect();
        if absent.len() > nparity {
            return Err(Error::MissingVdev);
        }
        let present = children.iter().flatten().cloned().collect();
        let attempts = attempts(&absent, width, nparity);
        Ok(Self { children, present, nparity, ashift, attempts })
    }

    fn map(&self, offset: u64, len: usize) -> Map {
        Map::new(offset, len, self.ashift, self.children.len(), self.nparity)
    }

    fn start(&self, column: &Column, payload: Payload, priority: Priority, done: Completion) {
        match &self.children[column.child] {
            Some(leaf) => leaf.start(column.offset, payload, priority, done),
            None => done.complete(Err(blockdev::Error::Gone), None),
        }
    }

    /// Writes those columns of a block that lie on the children `wanted`.
    fn write_columns(&self, io: WriteIo, wanted: impl Fn(usize) -> bool) {
        let map = self.map(io.offset, io.data.len());
        let data: Vec<Abd> = map.data_ranges().map(|range| io.data.slice(range)).collect();
        let bytes: Vec<_> = data.iter().map(Abd::to_contiguous).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|b| &**b).collect();
        let parity = map
            .parity()
            .iter()
            .enumerate()
            .map(|(row, column)| Abd::copy_from(&parity::parity(row, &slices, column.len)));
        let contents: Vec<Abd> = parity.chain(data.iter().cloned()).collect();
        let writes: Vec<(&Column, Abd)> = map
            .columns
            .iter()
            .zip(contents)
            .filter(|(column, _)| wanted(column.child) && self.children[column.child].is_some())
            .collect();
        if writes.is_empty() {
            return io.done.complete(Ok(()), None);
        }
        let all = Arc::new(AllOf::new(writes.len(), io.done));
        for (column, content) in writes {
            self.start(column, Payload::Write(content), io.priority, Completion::new(all.clone(), 0));
        }
    }
}

impl TopVdev for RaidZ {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &self.present
    }

    fn nr_attempts(&self) -> usize {
        self.attempts.len()
    }

    fn nr_copies(&self) -> usize {
        1
    }

    fn read(&self, io: ReadIo) {
        let map = self.map(io.offset, io.len);
        let Some(bad) = self.attempts.get(io.attempt) else {
            return io.done.complete(Err(blockdev::Error::Invalid), None);
        };
        let is_bad = |column: &Column| bad.contains(&column.child);
        let nr_lost = map.data().iter().filter(|c| is_bad(c)).count();
        let parity = map.parity().iter().enumerate().filter(|(_, c)| !is_bad(c)).take(nr_lost);
        let data = map.data().iter().enumerate().filter(|(_, c)| !is_bad(c));
        let wanted: Vec<usize> =
            parity.map(|(i, _)| i).chain(data.map(|(i, _)| i + map.parity().len())).collect();
        // An assumption that touches no data column was tested by an earlier attempt.
        let is_new = io.attempt == 0 || nr_lost > 0;
        if !is_new || wanted.is_empty() {
            return io.done.complete(Err(blockdev::Error::Io), None);
        }
        let stripe = Arc::new(Stripe::new(map.clone(), wanted.len(), io.done));
        for index in wanted {
            let column = &map.columns[index];
            let done = Completion::new(stripe.clone(), index as u64);
            self.start(column, Payload::Read(column.len), io.priority, done);
        }
    }

    fn write(&self, io: WriteIo) {
        self.write_columns(io, |_| true);
    }

    fn repair(&self, _bad: &[usize], good: Option<usize>, io: WriteIo) {
        match good.and_then(|attempt| self.attempts.get(attempt)) {
            Some(bad) => self.write_columns(io, |child| bad.contains(&child)),
            None => self.write(io),
        }
    }
}

/// Every set of children to assume bad: the absent ones, and up to as many more as parity allows, few before many.
fn attempts(absent: &Bad, width: usize, nparity: usize) -> Vec<Bad> {
    let mut all: Vec<Bad> = alloc::vec![absent.clone()];
    let mut from = 0;
    for _ in absent.len()..nparity {
        let until = all.len();
        for index in from..until {
            // Only later children than the last added one: each set once.
            let added = all[index].get(absent.len()..).and_then(<[usize]>::last).copied();
            for child in added.map_or(0, |c| c + 1)..width {
                if !absent.contains(&child) {
                    let mut more = all[index].clone();
                    more.push(child);
                    all.push(more);
                }
            }
        }
        from = until;
    }
    all
}

#[cfg(test)]
mod tests;
