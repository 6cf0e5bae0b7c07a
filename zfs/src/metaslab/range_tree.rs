//! Sets of byte ranges, sorted by offset and, where asked for, also by size.
//!
//! Invariants: ranges are not empty, do not overlap, and do not touch (touching ranges are merged), so equal sets
//! have equal trees; the size index holds exactly the ranges of the offset index. Every operation costs
//! O(log n) for each range it touches.
use crate::{Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};

/// Buckets of a histogram of lengths: one for each power of two.
pub const NR_BUCKETS: usize = 64;

/// A set of byte ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeTree {
    /// Start -> end.
    by_offset: BTreeMap<u64, u64>,
    /// (length, start); `None` for trees that are never searched by size.
    by_size: Option<BTreeSet<(u64, u64)>>,
    bytes: u64,
    /// Ranges by log2 of their length, rounded down.
    histogram: [u32; NR_BUCKETS],
}

impl Default for RangeTree {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeTree {
    /// An empty tree without size index.
    pub const fn new() -> Self {
        Self { by_offset: BTreeMap::new(), by_size: None, bytes: 0, histogram: [0; NR_BUCKETS] }
    }

    /// An empty tree that can be searched by size.
    pub const fn with_sizes() -> Self {
        Self {
            by_offset: BTreeMap::new(),
            by_size: Some(BTreeSet::new()),
            bytes: 0,
            histogram: [0; NR_BUCKETS],
        }
    }

    /// Sum of the ranges' lengths.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of ranges.
    pub fn nr_ranges(&self) -> usize {
        self.by_offset.len()
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    /// Ranges by log2 of their length, rounded down.
    pub const fn histogram(&self) -> &[u32; NR_BUCKETS] {
        &self.histogram
    }

    /// The ranges as (start, length), by offset.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_offset.iter().map(|(&start, &end)| (start, end - start))
    }

    /// The ranges that end after `offset`, as (start, length), by offset.
    pub fn iter_from(&self, offset: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = match self.by_offset.range(..offset).next_back() {
            Some((&start, &end)) if end > offset => start,
            _ => offset,
        };
        self.by_offset.range(first..).map(|(&start, &end)| (start, end - start))
    }

    /// Adds a range that must not overlap any other.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it overlaps, is empty or wraps: a space map that allocates or frees twice.
    pub fn add(&mut self, start: u64, len: u64) -> Result<()> {
        let end = Self::end_of(start, len)?;
        let before = self.by_offset.range(..=start).next_back().map(|(&s, &e)| (s, e));
        let after = self.by_offset.range(start..).next().map(|(&s, &e)| (s, e));
        if before.is_some_and(|(_, e)| e > start) || after.is_some_and(|(s, _)| s < end) {
            return Err(Error::Damaged);
        }
        let mut merged = (start, end);
        if let Some((s, e)) = before.filter(|&(_, e)| e == start) {
            self.forget_size(s, e);
            merged.0 = s;
        }
        if let Some((s, e)) = after.filter(|&(s, _)| s == end) {
            self.forget_size(s, e);
            self.by_offset.remove(&s);
            merged.1 = e;
        }
        self.by_offset.insert(merged.0, merged.1);
        self.note_size(merged.0, merged.1);
        self.bytes += len;
        Ok(())
    }

    /// Removes a range that must be contained in the set.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not contained, is empty or wraps.
    pub fn remove(&mut self, start: u64, len: u64) -> Result<()> {
        let end = Self::end_of(start, len)?;
        let found = self.by_offset.range(..=start).next_back().map(|(&s, &e)| (s, e));
        let (s, e) = found.filter(|&(_, e)| e >= end).ok_or(Error::Damaged)?;
        self.forget_size(s, e);
        if s < start {
            self.by_offset.insert(s, start);
            self.note_size(s, start);
        } else {
            self.by_offset.remove(&s);
        }
        if end < e {
            self.by_offset.insert(end, e);
            self.note_size(end, e);
        }
        self.bytes -= len;
        Ok(())
    }

    /// Removes whatever of the range is in the set.
    pub fn clear(&mut self, start: u64, len: u64) {
        let end = start.saturating_add(len);
        loop {
            let first = self.iter_from(start).next();
            let Some((s, l)) = first.filter(|&(s, _)| s < end) else { return };
            let (from, to) = (s.max(start), (s + l).min(end));
            if self.remove(from, to - from).is_err() {
                return;
            }
        }
    }

    /// Takes out of the set what of the range is in it, and adds the rest to `other`.
    ///
    /// # Errors
    /// [`Error::Damaged`] when some of the rest is in `other` already.
    pub fn cancel(&mut self, start: u64, len: u64, other: &mut Self) -> Result<()> {
        let end = Self::end_of(start, len)?;
        let mut at = start;
        while at < end {
            let next = self.iter_from(at).next().filter(|&(s, _)| s < end);
            let (from, to) = next.map_or((end, end), |(s, l)| (s.max(at), (s + l).min(end)));
            if from > at {
                other.add(at, from - at)?;
            }
            if to > from {
                self.remove(from, to - from)?;
            }
            at = to;
        }
        Ok(())
    }

    /// Whether the whole range is in the set.
    pub fn contains(&self, start: u64, len: u64) -> bool {
        let Ok(end) = Self::end_of(start, len) else { return false };
        self.by_offset.range(..=start).next_back().is_some_and(|(_, &e)| e >= end)
    }

    /// Whether any of the range is in the set.
    pub fn overlaps(&self, start: u64, len: u64) -> bool {
        let end = start.saturating_add(len);
        self.iter_from(start).next().is_some_and(|(s, _)| s < end)
    }

    /// Length of the longest range.
    pub fn max_len(&self) -> u64 {
        match &self.by_size {
            Some(sizes) => sizes.last().map_or(0, |&(len, _)| len),
            None => self.iter().map(|(_, len)| len).max().unwrap_or(0),
        }
    }

    /// Start of the shortest range of at least `len` bytes, the first of several equal ones. `None` without size
    /// index.
    pub fn best_fit(&self, len: u64) -> Option<u64> {
        self.by_size.as_ref()?.range((len, 0)..).next().map(|&(_, start)| start)
    }

    /// Start of a place of `len` bytes at or after `cursor`, at most `steps` ranges away.
    pub fn first_fit(&self, cursor: u64, len: u64, steps: usize) -> Option<u64> {
        self.iter_from(cursor).take(steps).find_map(|(start, range_len)| {
            let from = start.max(cursor);
            (start + range_len - from >= len).then_some(from)
        })
    }

    /// Moves every range of `other` into this set.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one overlaps; the rest is lost then.
    pub fn absorb(&mut self, other: &mut Self) -> Result<()> {
        for (start, end) in core::mem::take(&mut other.by_offset) {
            self.add(start, end - start)?;
        }
        other.empty();
        Ok(())
    }

    /// Removes every range.
    pub fn empty(&mut self) {
        self.by_offset.clear();
        if let Some(sizes) = &mut self.by_size {
            sizes.clear();
        }
        self.bytes = 0;
        self.histogram = [0; NR_BUCKETS];
    }

    fn end_of(start: u64, len: u64) -> Result<u64> {
        start.checked_add(len).filter(|_| len > 0).ok_or(Error::Damaged)
    }

    fn note_size(&mut self, start: u64, end: u64) {
        self.histogram[(end - start).ilog2() as usize] += 1;
        if let Some(sizes) = &mut self.by_size {
            sizes.insert((end - start, start));
        }
    }

    fn forget_size(&mut self, start: u64, end: u64) {
        self.histogram[(end - start).ilog2() as usize] -= 1;
        if let Some(sizes) = &mut self.by_size {
            sizes.remove(&(end - start, start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNITS: usize = 256;

    fn ranges_of(model: &[bool]) -> Vec<(u64, u64)> {
        let mut out: Vec<(u64, u64)> = Vec::new();
        for (at, _) in model.iter().enumerate().filter(|(_, is_in)| **is_in) {
            match out.last_mut().filter(|(s, l)| s + l == at as u64) {
                Some(last) => last.1 += 1,
                None => out.push((at as u64, 1)),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn equals_a_bit_per_unit(ops in prop::collection::vec((0usize..UNITS, 1usize..40, 0u8..3), 1..200)) {
            let mut tree = RangeTree::with_sizes();
            let mut model = [false; UNITS];
            for (start, len, op) in ops {
                let len = len.min(UNITS - start);
                let units = &mut model[start..start + len];
                let (s, l) = (start as u64, len as u64);
                prop_assert_eq!(tree.contains(s, l), units.iter().all(|b| *b));
                prop_assert_eq!(tree.overlaps(s, l), units.iter().any(|b| *b));
                match op {
                    0 => {
                        let is_free = units.iter().all(|b| !*b);
                        prop_assert_eq!(tree.add(s, l).is_ok(), is_free);
                        if is_free {
                            units.fill(true);
                        }
                    }
                    1 => {
                        let is_in = units.iter().all(|b| *b);
                        prop_assert_eq!(tree.remove(s, l).is_ok(), is_in);
                        if is_in {
                            units.fill(false);
                        }
                    }
                    _ => {
                        tree.clear(s, l);
                        units.fill(false);
                    }
                }
                let expected = ranges_of(&model);
                prop_assert_eq!(tree.bytes(), model.iter().filter(|b| **b).count() as u64);
                prop_assert_eq!(tree.iter().collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(tree.max_len(), expected.iter().map(|r| r.1).max().unwrap_or(0));
                let in_buckets = |bucket| expected.iter().filter(|r| r.1.ilog2() == bucket).count() as u32;
                prop_assert!((0..8).all(|bucket| tree.histogram()[bucket as usize] == in_buckets(bucket)));
                let best = expected.iter().filter(|r| r.1 >= l).min_by_key(|r| (r.1, r.0)).map(|r| r.0);
                prop_assert_eq!(tree.best_fit(l), best);
                let first = expected.iter().find(|r| r.0.max(s) + l <= r.0 + r.1).map(|r| r.0.max(s));
                prop_assert_eq!(tree.first_fit(s, l, usize::MAX), first);
            }
        }
    }

    #[test]
    fn refuses_what_no_space_map_may_say() {
        let mut tree = RangeTree::new();
        assert_eq!(tree.add(0, 0), Err(Error::Damaged));
        assert_eq!(tree.add(u64::MAX, 2), Err(Error::Damaged));
        tree.add(10, 10).unwrap();
        assert_eq!(tree.remove(15, 10), Err(Error::Damaged));
        assert_eq!(tree.iter().collect::<Vec<_>>(), [(10, 10)]);
    }
}
