//! The numbers of attempts: which children are assumed bad, and which side of each child is read.
//!
//! Sets of children are numbered by size, then in lexicographic order; after all sets with the first choice of sides
//! come all sets with the next.
use super::{Bad, PARITY_MAX};
use alloc::vec::Vec;

/// Most choices of sides: a child that is being replaced has two sides, seldom three, and few are at a time.
const CHOICES_MAX: usize = 64;

/// The attempts of a vdev.
#[derive(Debug)]
pub(super) struct Attempts {
    width: usize,
    /// Sets of exactly so many children, from 0.
    nr_sets_of: [usize; PARITY_MAX + 1],
    nr_sets: usize,
    nr_choices: usize,
    /// Children with several sides: index, number of sides, and the choices that pass before the next side.
    several: Vec<(usize, usize, usize)>,
}

impl Attempts {
    pub(super) fn new(width: usize, nparity: usize, sides: impl Iterator<Item = usize>) -> Self {
        let mut nr_sets_of = [0; PARITY_MAX + 1];
        for (size, nr) in nr_sets_of.iter_mut().enumerate().take(nparity + 1) {
            *nr = choose(width, size);
        }
        let mut several = Vec::new();
        let mut nr_choices = 1;
        for (child, nr) in sides.enumerate().filter(|(_, nr)| *nr > 1) {
            if nr_choices * nr <= CHOICES_MAX {
                several.push((child, nr, nr_choices));
                nr_choices *= nr;
            }
        }
        Self { width, nr_sets_of, nr_sets: nr_sets_of.iter().sum(), nr_choices, several }
    }

    pub(super) fn len(&self) -> usize {
        self.nr_sets * self.nr_choices
    }

    /// The side of a child that is read in a choice.
    pub(super) fn side(&self, choice: usize, child: usize) -> usize {
        let found = self.several.iter().find(|(c, ..)| *c == child);
        found.map_or(0, |(_, nr, before)| choice / before % nr)
    }

    /// Choice and bad children of an attempt.
    pub(super) fn get(&self, attempt: usize) -> (usize, Bad) {
        let (choice, mut rank) = (attempt / self.nr_sets, attempt % self.nr_sets);
        let mut size = 0;
        while size < PARITY_MAX && rank >= self.nr_sets_of[size] {
            rank -= self.nr_sets_of[size];
            size += 1;
        }
        let mut bad = Bad::new();
        let mut child = 0;
        while bad.len() < size && child < self.width {
            // So many sets go on with this child.
            let nr = choose(self.width - child - 1, size - bad.len() - 1);
            if rank < nr {
                bad.push(child);
            } else {
                rank -= nr;
            }
            child += 1;
        }
        (choice, bad)
    }

    /// The attempt that reads the given side of each child and does without those that have `None`; `None` when they are
    /// too many.
    pub(super) fn first(&self, sides: impl Iterator<Item = Option<usize>>) -> Option<usize> {
        let mut bad = Bad::new();
        let mut choice = 0;
        for (child, side) in sides.enumerate() {
            match side {
                None => bad.push(child),
                Some(0) => {}
                Some(side) => match self.several.iter().find(|(c, ..)| *c == child) {
                    Some((_, _, before)) => choice += side * before,
                    None => bad.push(child),
                },
            }
        }
        let is_possible = bad.len() <= PARITY_MAX && self.nr_sets_of[bad.len()] > 0;
        is_possible.then(|| choice * self.nr_sets + self.rank(&bad))
    }

    fn rank(&self, bad: &Bad) -> usize {
        let smaller: usize = self.nr_sets_of[..bad.len()].iter().sum();
        let mut rank = 0;
        let mut from = 0;
        for (index, &child) in bad.iter().enumerate() {
            let left = bad.len() - index - 1;
            rank += (from..child).map(|skipped| choose(self.width - skipped - 1, left)).sum::<usize>();
            from = child + 1;
        }
        smaller + rank
    }
}

/// Ways to choose `k` (at most [`PARITY_MAX`]) of `n`.
fn choose(n: usize, k: usize) -> usize {
    if k > n {
        return 0;
    }
    (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_set_has_its_number() {
        for (width, nparity) in [(2, 1), (5, 2), (9, 3), (4, 3)] {
            let all = Attempts::new(width, nparity, core::iter::repeat_n(1, width));
            let mut seen = BTreeSet::new();
            let mut last_size = 0;
            for attempt in 0..all.len() {
                let (choice, bad) = all.get(attempt);
                assert!(choice == 0 && bad.len() >= last_size && bad.len() <= nparity);
                last_size = bad.len();
                assert!(seen.insert(bad.to_vec()), "{bad:?} twice");
                let sides = (0..width).map(|child| (!bad.contains(&child)).then_some(0));
                assert_eq!(all.first(sides), Some(attempt));
            }
            let expected: usize = (0..=nparity).map(|k| choose(width, k)).sum();
            assert_eq!(seen.len(), expected);
        }
        assert_eq!(Attempts::new(255, 3, core::iter::repeat_n(1, 255)).len(), 1 + 255 + 32_385 + 2_731_135);
    }

    #[test]
    fn every_side_is_read() {
        let all = Attempts::new(4, 1, [1, 2, 1, 3].into_iter());
        assert_eq!(all.len(), 6 * 5);
        let read: BTreeSet<_> = (0..6).map(|choice| (all.side(choice, 1), all.side(choice, 3))).collect();
        assert_eq!(read.len(), 6);
        let attempt = all.first([Some(0), Some(1), None, Some(2)].into_iter()).expect("possible");
        let (choice, bad) = all.get(attempt);
        assert_eq!((all.side(choice, 1), all.side(choice, 3), &bad[..]), (1, 2, &[2usize][..]));
        assert_eq!(all.first([None, None, Some(0), Some(0)].into_iter()), None);
    }
}
