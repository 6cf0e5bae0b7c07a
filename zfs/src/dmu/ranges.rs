//! Sets of block numbers as disjoint ranges.
use alloc::collections::BTreeMap;
use core::ops::Range;

/// Half-open ranges; `u64::MAX` as an end means "to the end".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    pub(super) fn contains(&self, at: u64) -> bool {
        self.0.range(..=at).next_back().is_some_and(|(_, end)| at < *end || *end == u64::MAX)
    }

    /// Adds a range, joining what it touches.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&at, &at_end)) = self.0.range(start..=end).next() {
            self.0.remove(&at);
            end = end.max(at_end);
        }
        self.0.insert(start, end);
    }

    /// The first number from `at` on that is not in the set; `None` when everything from there on is.
    pub(super) fn next_outside(&self, at: u64) -> Option<u64> {
        match self.0.range(..=at).next_back() {
            Some((_, &end)) if end == u64::MAX => None,
            Some((_, &end)) if at < end => Some(end),
            _ => Some(at),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(
            ranges in proptest::collection::vec((0u64..60, 0u64..20), 0..12),
        ) {
            let mut set = RangeSet::default();
            let mut model = [false; 100];
            for (start, len) in ranges {
                set.insert(start..start + len);
                model[start as usize..(start + len) as usize].fill(true);
            }
            for at in 0..90 {
                prop_assert_eq!(set.contains(at), model[at as usize]);
                let next = (at..100).find(|n| !model[*n as usize]);
                prop_assert_eq!(set.next_outside(at), next);
            }
            let all: Vec<_> = set.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].end < w[1].start));
        }
    }

    #[test]
    fn to_the_end_means_the_last_number_too() {
        let mut set = RangeSet::default();
        set.insert(7..u64::MAX);
        assert!(set.contains(u64::MAX) && !set.contains(6));
        assert_eq!(set.next_outside(9), None);
    }
}
