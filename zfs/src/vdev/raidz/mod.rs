//! RAIDZ: a block's sectors and their parity over several children.
//!
//! What it is: the map, parity, and I/O of whole blocks. What it is not: expanded raidz (its width changes with a
//! block's birth), and no decision about which column is wrong: an *attempt* is an assumption about that, and the
//! block's checksum says whether it was right.
//!
//! Attempts are the sets of up to `nparity` children assumed bad, few before many. A child that is being replaced has
//! several sides: which one is read is part of the assumption, the first sides first. Attempt 0 reads just the data of a
//! healthy vdev. Attempts are numbered, not listed: a wide vdev has millions.
mod attempt;
mod map;
mod parity;
mod stripe;

use self::attempt::Attempts;
use self::map::Map;
use self::stripe::{Stripe, assemble};
use super::leaf::Leaf;
use super::queue::Payload;
use super::sides::{Part, PartWrite, Place, Sides, write_parts};
use super::top::{ReadIo, Standing, TopVdev, WriteIo};
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::Completion;
use ondisk::Txg;
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
    children: Vec<Sides>,
    leaves: Vec<Arc<Leaf>>,
    nparity: usize,
    ashift: u8,
    attempts: Attempts,
}

impl RaidZ {
    /// A raidz over `children`.
    ///
    /// # Errors
    /// `Invalid` when the numbers make no raidz, `MissingVdev` when more children are absent than parity can replace.
    pub(crate) fn new(children: Vec<Sides>, nparity: u8, ashift: u8) -> Result<Self> {
        let (width, nparity) = (children.len(), usize::from(nparity));
        if !(1..=PARITY_MAX).contains(&nparity) || width <= nparity || width > WIDTH_MAX {
            return Err(Error::Invalid);
        }
        let leaves = children.iter().flatten().cloned().collect();
        let attempts = Attempts::new(width, nparity, children.iter().map(|sides| sides.len()));
        let raidz = Self { children, leaves, nparity, ashift, attempts };
        raidz.nr_spare(&Leaf::is_usable).ok_or(Error::MissingVdev)?;
        Ok(raidz)
    }

    fn map(&self, offset: u64, len: usize) -> Map {
        Map::new(offset, len, self.ashift, self.children.len(), self.nparity)
    }

    /// The side of a child that a choice reads.
    fn side(&self, choice: usize, child: usize) -> &Arc<Leaf> {
        &self.children[child][self.attempts.side(choice, child)]
    }

    /// The contents of a block's columns, parity first.
    fn contents(&self, map: &Map, block: &Abd) -> Vec<Abd> {
        let rows: Vec<usize> = (0..map.parity().len()).collect();
        let parity = self.parity_of(map, &rows, block);
        parity.into_iter().chain(map.data_ranges().map(|range| block.slice(range))).collect()
    }

    /// The contents of parity columns.
    fn parity_of(&self, map: &Map, rows: &[usize], block: &Abd) -> Vec<Abd> {
        if rows.is_empty() {
            return Vec::new();
        }
        let data: Vec<Abd> = map.data_ranges().map(|range| block.slice(range)).collect();
        let bytes: Vec<_> = data.iter().map(Abd::to_contiguous).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|b| &**b).collect();
        let of_row = |row: &usize| parity::parity(*row, &slices, map.columns[*row].len);
        rows.iter().map(|row| Abd::copy_from(&of_row(row))).collect()
    }

    fn part_writes(&self, offset: u64, data: &Abd) -> Vec<PartWrite> {
        let map = self.map(offset, data.len());
        let contents = self.contents(&map, data);
        let columns = map.columns.iter().zip(contents).filter(|(column, _)| column.len > 0);
        columns
            .flat_map(|(column, content)| {
                self.children[column.child].iter().map(move |leaf| PartWrite {
                    child: column.child,
                    part: Part { leaf: leaf.clone(), offset: column.offset, content: content.clone() },
                })
            })
            .collect()
    }

    /// The columns that an attempt reads, and by which choice of sides; `None` when there is no such attempt, or when another
    /// has read the same.
    fn plan(&self, map: &Map, attempt: usize) -> Option<(usize, Vec<usize>)> {
        if attempt >= self.attempts.len() {
            return None;
        }
        let (choice, bad) = self.attempts.get(attempt);
        let is_bad = |child: usize| bad.contains(&child);
        let nr_lost = map.data().iter().filter(|c| is_bad(c.child)).count();
        // An assumption about children that could be read, but of which nothing would be, was tested before.
        let is_idle = |child: &usize| {
            let has_column = map.columns.iter().any(|c| c.child == *child && c.len > 0);
            let leaf = self.side(choice, *child);
            leaf.is_usable() && !leaf.health().is_stale() && (nr_lost == 0 || !has_column)
        };
        if bad.iter().any(is_idle) {
            return None;
        }
        let parity = map.parity().iter().enumerate().filter(|(_, c)| !is_bad(c.child)).take(nr_lost);
        let data = map.data().iter().enumerate().filter(|(_, c)| !is_bad(c.child));
        let wanted: Vec<usize> =
            parity.map(|(i, _)| i).chain(data.map(|(i, _)| i + map.parity().len())).collect();
        (!wanted.is_empty()).then_some((choice, wanted))
    }

    /// The leaves that are to blame when the attempts `bad` were wrong and `good` was right.
    fn is_suspect(&self, bad: &[usize], good: usize, child: usize, leaf: &Arc<Leaf>) -> bool {
        let (choice, set) = self.attempts.get(good);
        let was_read = |n: &usize| Arc::ptr_eq(self.side(self.attempts.get(*n).0, child), leaf);
        set.contains(&child) || !Arc::ptr_eq(self.side(choice, child), leaf) && bad.iter().any(was_read)
    }
}

impl TopVdev for RaidZ {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &self.leaves
    }

    fn children(&self) -> &[Sides] {
        &self.children
    }

    fn nr_attempts(&self) -> usize {
        self.attempts.len()
    }

    fn first_attempt(&self, _offset: u64, txg: Txg) -> usize {
        // A stale side is better than none.
        let current = |leaf: &Arc<Leaf>| leaf.is_current(txg);
        let usable = |leaf: &Arc<Leaf>| leaf.is_usable();
        let best = |is_wanted: &dyn Fn(&Arc<Leaf>) -> bool| {
            self.attempts.first(self.children.iter().map(|sides| sides.iter().position(is_wanted)))
        };
        best(&current).or_else(|| best(&usable)).unwrap_or(0)
    }

    fn standing(&self, attempt: usize, txg: Txg) -> Standing {
        let (choice, bad) = self.attempts.get(attempt);
        let read = (0..self.children.len()).filter(|child| !bad.contains(child));
        read.map(|child| self.side(choice, child)).fold(Standing::Good, |worst, leaf| {
            match (worst, leaf.is_usable()) {
                (Standing::Absent, _) | (_, false) => Standing::Absent,
                _ if leaf.is_current(txg) => worst,
                _ => Standing::Stale,
            }
        })
    }

    fn read(&self, io: ReadIo) {
        let map = self.map(io.offset, io.len);
        let Some((choice, wanted)) = self.plan(&map, io.attempt) else {
            return io.done.complete(Err(blockdev::Error::Io), None);
        };
        let stripe = Arc::new(Stripe::new(map.clone(), wanted.len(), io.done));
        for index in wanted {
            let column = &map.columns[index];
            let done = Completion::new(stripe.clone(), index as u64);
            let payload = Payload::Read(column.len);
            self.side(choice, column.child).start(column.offset, payload, io.priority, done);
        }
    }

    fn all_places(&self, offset: u64, len: usize) -> Vec<Place> {
        let map = self.map(offset, len);
        let columns = map.columns.iter().filter(|column| column.len > 0);
        columns
            .flat_map(|column| {
                let sides = self.children[column.child].iter();
                sides.map(|leaf| Place { leaf: leaf.clone(), offset: column.offset, len: column.len })
            })
            .collect()
    }

    fn assemble(&self, offset: u64, len: usize, attempt: usize, parts: &[Option<Abd>]) -> Option<AbdMut> {
        let map = self.map(offset, len);
        let (choice, wanted) = self.plan(&map, attempt)?;
        let mut columns: Vec<Option<&[u8]>> = alloc::vec![None; map.columns.len()];
        let mut first_part = 0;
        for (index, column) in map.columns.iter().enumerate().filter(|(_, column)| column.len > 0) {
            if wanted.contains(&index) {
                let part = parts.get(first_part + self.attempts.side(choice, column.child))?;
                columns[index] = Some(part.as_ref()?.as_slice()?);
            }
            first_part += self.children[column.child].len();
        }
        assemble(&map, &columns)
    }

    fn write(&self, io: WriteIo) {
        write_parts(self.part_writes(io.offset, &io.data), self.nparity, io.txg, io.priority, io.done);
    }

    fn repair(&self, bad: &[usize], good: Option<usize>, io: WriteIo) {
        let mut writes = self.part_writes(io.offset, &io.data);
        if let Some(good) = good {
            writes.retain(|w| self.is_suspect(bad, good, w.child, &w.part.leaf));
        }
        writes.retain(|w| w.part.leaf.is_usable());
        write_parts(writes, self.nparity, io.txg, io.priority, io.done);
    }

    fn note_bad(&self, bad: &[usize], good: Option<usize>) {
        let Some(good) = good else { return };
        for (child, sides) in self.children.iter().enumerate() {
            let suspects = sides.iter().filter(|leaf| self.is_suspect(bad, good, child, leaf));
            suspects.filter(|leaf| leaf.is_usable()).for_each(|leaf| leaf.health().note_checksum_error());
        }
    }

    fn parts(&self, offset: u64, data: &Abd, is_wanted: &dyn Fn(&Leaf) -> bool) -> Vec<Part> {
        let map = self.map(offset, data.len());
        let is_wanted_column = |column: &&map::Column| {
            column.len > 0 && self.children[column.child].iter().any(|leaf| is_wanted(leaf))
        };
        // Only what is wanted is computed.
        let rows = (0..map.parity().len()).filter(|row| is_wanted_column(&&map.columns[*row]));
        let rows: Vec<usize> = rows.collect();
        let parity = rows.iter().map(|row| &map.columns[*row]).zip(self.parity_of(&map, &rows, data));
        let content = map.data().iter().zip(map.data_ranges()).filter(|(column, _)| is_wanted_column(column));
        let content = content.map(|(column, range)| (column, data.slice(range)));
        parity
            .chain(content)
            .flat_map(|(column, content)| {
                let leaves = self.children[column.child].iter().filter(|leaf| is_wanted(leaf));
                leaves.map(move |leaf| Part {
                    leaf: leaf.clone(),
                    offset: column.offset,
                    content: content.clone(),
                })
            })
            .collect()
    }

    fn places(&self, offset: u64, len: usize) -> Vec<Place> {
        let can_read = self.leaves.iter().all(|leaf| leaf.is_usable());
        if can_read { self.all_places(offset, len) } else { Vec::new() }
    }

    fn wholes(&self, offset: u64, len: usize, parts: Vec<Abd>) -> Option<Vec<Abd>> {
        let map = self.map(offset, len);
        let mut parts = parts.into_iter();
        let mut columns = Vec::new();
        for column in &map.columns {
            if column.len == 0 {
                columns.push(Abd::zeroed(0));
                continue;
            }
            let first = parts.next()?;
            for _ in 1..self.children[column.child].len() {
                let other = parts.next()?;
                if other.to_contiguous() != first.to_contiguous() {
                    return None;
                }
            }
            columns.push(first);
        }
        let data = columns.split_off(map.parity().len());
        let bytes: Vec<_> = data.iter().map(Abd::to_contiguous).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(|b| &**b).collect();
        let is_right =
            |(row, found): (usize, &Abd)| parity::parity(row, &slices, found.len()) == *found.to_contiguous();
        columns.iter().enumerate().all(is_right).then(|| alloc::vec![Abd::concat(data.iter().cloned())])
    }

    fn nr_spare(&self, is_good: &dyn Fn(&Leaf) -> bool) -> Option<usize> {
        let nr_lost = self.children.iter().filter(|sides| !sides.iter().any(|leaf| is_good(leaf))).count();
        self.nparity.checked_sub(nr_lost)
    }
}

#[cfg(test)]
mod tests;
