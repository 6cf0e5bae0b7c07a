//! Dirty time logs: sets of transaction groups that a device missed.
//!
//! They are few ranges: an outage is one. On disk they are space maps of groups (see `spa/dtl.rs`).
use alloc::vec::Vec;

/// A set of transaction groups as ranges, both ends included, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TxgRanges(Vec<(u64, u64)>);

impl TxgRanges {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn contains(&self, txg: u64) -> bool {
        self.covers(txg, txg)
    }

    /// Whether every group from `first` to `last` is in the set.
    pub(crate) fn covers(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 < first);
        self.0.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// First and last group.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    pub(crate) fn add(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Everything that overlaps or touches becomes one range.
        let from = self.0.partition_point(|range| range.1.saturating_add(1) < first);
        let until = self.0.partition_point(|range| range.0 <= last.saturating_add(1));
        let merged = self.0[from..until].iter().fold((first, last), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.0.splice(from..until, [merged]);
    }

    pub(crate) fn remove(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        for &(start, end) in &self.0 {
            if end < first || start > last {
                rest.push((start, end));
                continue;
            }
            if start < first {
                rest.push((start, first - 1));
            }
            if end > last {
                rest.push((last + 1, end));
            }
        }
        self.0 = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn txgs(ranges: &TxgRanges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first..=last).collect()
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 1..60)) {
            let (mut ranges, mut model) = (TxgRanges::new(), BTreeSet::new());
            for (is_add, first, len) in steps {
                if is_add {
                    ranges.add(first, first + len);
                    model.extend(first..=first + len);
                } else {
                    ranges.remove(first, first + len);
                    model.retain(|txg| !(first..=first + len).contains(txg));
                }
                prop_assert_eq!(&txgs(&ranges), &model);
                prop_assert_eq!(ranges.bounds(), model.first().copied().zip(model.last().copied()));
                prop_assert!(ranges.0.windows(2).all(|w| w[0].1 + 1 < w[1].0), "apart: {:?}", ranges);
                prop_assert_eq!(ranges.covers(5, 9), (5..=9).all(|txg| model.contains(&txg)));
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_space_do_not_overflow() {
        let mut ranges = TxgRanges::new();
        ranges.add(4, u64::MAX);
        ranges.add(0, 3);
        assert_eq!(ranges.bounds(), Some((0, u64::MAX)));
        ranges.remove(0, u64::MAX - 1);
        assert_eq!(ranges.bounds(), Some((u64::MAX, u64::MAX)));
    }
}
