//! Mirrors, single devices among them: the same bytes at the same offset of every side.
//!
//! Attempt `n` is side `n`.
use super::leaf::Leaf;
use super::queue::Payload;
use super::sides::{Part, PartWrite, Place, Sides, write_parts};
use super::top::{ReadIo, Standing, TopVdev, WriteIo};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::Txg;

/// Reads of neighbouring offsets prefer the same side, so that its queue can join them and its read-ahead helps.
const LOCALITY_SHIFT: u32 = 20;

/// A mirror of one or more sides.
#[derive(Debug)]
pub(crate) struct Mirror {
    sides: Sides,
}

impl Mirror {
    /// A mirror of these sides.
    ///
    /// # Errors
    /// `MissingVdev` when none of them can be used.
    pub(crate) fn new(sides: Sides) -> Result<Self> {
        if !sides.iter().any(|leaf| leaf.is_usable()) {
            return Err(Error::MissingVdev);
        }
        Ok(Self { sides })
    }

    /// A mirror of these sides, of which perhaps none can be used: then everything fails.
    pub(crate) fn of_any(sides: Sides) -> Self {
        Self { sides }
    }

    fn write_to(&self, io: WriteIo, is_wanted: impl Fn(usize) -> bool) {
        let wanted = self.sides.iter().enumerate().filter(|(side, _)| is_wanted(*side));
        let part =
            |leaf: &Arc<Leaf>| Part { leaf: leaf.clone(), offset: io.offset, content: io.data.clone() };
        let parts = wanted.map(|(_, leaf)| PartWrite { child: 0, part: part(leaf) }).collect();
        write_parts(parts, 0, io.txg, io.priority, io.done);
    }
}

impl TopVdev for Mirror {
    fn leaves(&self) -> &[Arc<Leaf>] {
        &self.sides
    }

    fn nr_attempts(&self) -> usize {
        self.sides.len()
    }

    fn nr_copies(&self) -> usize {
        self.sides.len()
    }

    fn first_attempt(&self, offset: u64, txg: Txg) -> usize {
        let nr = self.sides.len();
        let start = (offset >> LOCALITY_SHIFT) as usize % nr;
        (0..nr).map(|n| (start + n) % nr).find(|side| self.sides[*side].is_current(txg)).unwrap_or(start)
    }

    fn standing(&self, attempt: usize, txg: Txg) -> Standing {
        match self.sides.get(attempt) {
            Some(leaf) if leaf.is_current(txg) => Standing::Good,
            Some(leaf) if leaf.is_usable() => Standing::Stale,
            _ => Standing::Absent,
        }
    }

    fn read(&self, io: ReadIo) {
        match self.sides.get(io.attempt) {
            Some(leaf) => leaf.start(io.offset, Payload::Read(io.len), io.priority, io.done),
            None => io.done.complete(Err(blockdev::Error::Invalid), None),
        }
    }

    fn write(&self, io: WriteIo) {
        self.write_to(io, |_| true);
    }

    fn repair(&self, bad: &[usize], good: Option<usize>, io: WriteIo) {
        let is_all = good.is_none() || bad.is_empty();
        self.write_to(io, |side| is_all || bad.contains(&side));
    }

    fn note_bad(&self, bad: &[usize], _good: Option<usize>) {
        bad.iter()
            .filter_map(|side| self.sides.get(*side))
            .for_each(|leaf| leaf.health().note_checksum_error());
    }

    fn parts(&self, offset: u64, data: &Abd, is_wanted: &dyn Fn(&Leaf) -> bool) -> Vec<Part> {
        let part = |leaf: &Arc<Leaf>| Part { leaf: leaf.clone(), offset, content: data.clone() };
        self.sides.iter().filter(|leaf| is_wanted(leaf)).map(part).collect()
    }

    fn places(&self, offset: u64, len: usize) -> Vec<Place> {
        let usable = self.sides.iter().filter(|leaf| leaf.is_usable());
        usable.map(|leaf| Place { leaf: leaf.clone(), offset, len }).collect()
    }

    fn wholes(&self, _offset: u64, _len: usize, parts: Vec<Abd>) -> Option<Vec<Abd>> {
        Some(parts)
    }

    fn nr_spare(&self, is_good: &dyn Fn(&Leaf) -> bool) -> Option<usize> {
        self.sides.iter().filter(|leaf| is_good(leaf)).count().checked_sub(1)
    }
}
