//! What the model remembers: for each file and for each thread's names, every state they went through.
//!
//! The clock counts the beginnings and ends of operations. A state has the moments its operation began and ended, and
//! the transaction groups that were open then: the operation's own group lies between. A power cut at moment `at`
//! that leaves a pool whose newest whole group is `txg` must leave one of the states from [`History::floor`] to
//! [`History::ceiling`].
use crate::content::Content;
use std::collections::BTreeMap;

/// A state, by what it hashes to.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// When its operation began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// The open group when it began.
    pub txg_lo: u64,
    /// The open group when it ended.
    pub txg_hi: u64,
    /// Of the state.
    pub hash: u64,
    /// Number of the operation, for reports.
    pub op: usize,
}

/// The states of one thing, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The states.
    pub versions: Vec<Version>,
    /// At this moment, that version (by index) was acknowledged as durable.
    pub acks: Vec<(u64, usize)>,
    /// Content of a file in some of the states, by index.
    pub contents: BTreeMap<usize, Content>,
}

/// What was found after a power cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// When.
    pub at: u64,
    /// What was acknowledged by then must be there: `at`, but for states that are kept of an earlier time.
    pub acked_by: u64,
    /// The newest whole transaction group on the disks.
    pub txg: u64,
    /// Operations that no group holds may be there all the same: an intent log was replayed.
    pub has_log: bool,
    /// Everything that ended before this moment was acknowledged as durable.
    pub all_before: u64,
}

impl History {
    /// The first state, durable from the start.
    pub fn durable(hash: u64) -> Self {
        let first = Version { start: 0, end: 0, txg_lo: 0, txg_hi: 0, hash, op: 0 };
        Self { versions: vec![first], acks: vec![(0, 0)], ..Self::default() }
    }

    /// The first state, as made by an operation.
    pub fn begun(first: Version) -> Self {
        Self { versions: vec![first], ..Self::default() }
    }

    /// The newest state is durable since `now`.
    pub fn ack(&mut self, now: u64) {
        self.acks.push((now, self.versions.len().saturating_sub(1)));
    }

    /// The oldest state that may be left.
    pub fn floor(&self, cut: &Cut) -> usize {
        let acked = self.acks.iter().filter(|(when, _)| *when <= cut.acked_by).map(|(_, index)| *index).max();
        let is_kept = |v: &Version| v.end <= cut.at && (v.txg_hi <= cut.txg || v.end <= cut.all_before);
        let kept = self.versions.iter().rposition(is_kept);
        acked.unwrap_or(0).max(kept.unwrap_or(0))
    }

    /// The newest state that may be there.
    pub fn ceiling(&self, cut: &Cut) -> Option<usize> {
        let may = |v: &Version| v.start <= cut.at && (cut.has_log || v.txg_lo <= cut.txg);
        self.versions.iter().rposition(may)
    }

    /// Which of the states that may be left has this hash.
    pub fn find(&self, cut: &Cut, hash: u64) -> Option<usize> {
        let ceiling = self.ceiling(cut)?;
        let floor = self.floor(cut);
        (floor..=ceiling).rev().find(|index| self.versions[*index].hash == hash)
    }

    /// Whether a file is a mixture of states that may be left. The intent log holds a long write in several records, and
    /// takes the data of a record from the file when it is written, which may be newer by then: of what was not
    /// acknowledged, each byte may be that of another operation. `hash` is that of a content with the attributes that
    /// were found, which must be those of one of the states.
    pub fn is_mixture(&self, cut: &Cut, found: &Content, hash: impl Fn(&Content) -> u64) -> bool {
        let Some(ceiling) = self.ceiling(cut).filter(|_| cut.has_log) else { return false };
        let allowed: Vec<(usize, &Content)> = self
            .contents
            .range(self.floor(cut)..=ceiling)
            .map(|(index, content)| (*index, content))
            .collect();
        let has_attributes =
            allowed.iter().any(|(index, content)| self.versions[*index].hash == hash(content));
        let contents: Vec<&Content> = allowed.into_iter().map(|(_, content)| content).collect();
        has_attributes && found.is_mixture_of(&contents)
    }

    /// For a report: what may be left, and what was found.
    pub fn explain(&self, cut: &Cut, hash: u64) -> String {
        let matching: Vec<usize> =
            self.versions.iter().enumerate().filter(|(_, v)| v.hash == hash).map(|(i, _)| i).collect();
        let (floor, ceiling) = (self.floor(cut), self.ceiling(cut));
        let line = |i: usize| self.versions.get(i).map_or("none".to_owned(), |v| format!("{i}: {v:?}"));
        format!(
            "{} states; oldest allowed {}; newest allowed {}; found is state {:?} of {:#x}; cut {cut:?}",
            self.versions.len(),
            line(floor),
            ceiling.map_or("none".to_owned(), line),
            matching,
            hash,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(n: u64, txg: u64) -> Version {
        Version { start: n * 10 + 1, end: n * 10 + 5, txg_lo: txg, txg_hi: txg, hash: n, op: 0 }
    }

    fn history() -> History {
        let mut history = History::durable(0);
        history.versions.extend([version(1, 5), version(2, 5), version(3, 6)]);
        history
    }

    #[test]
    fn a_whole_group_is_there_and_a_later_one_is_not() {
        let cut = |txg, has_log| Cut { at: 100, acked_by: 100, txg, has_log, all_before: 0 };
        let h = history();
        assert_eq!((h.floor(&cut(4, false)), h.ceiling(&cut(4, false))), (0, Some(0)));
        assert_eq!((h.floor(&cut(5, false)), h.ceiling(&cut(5, false))), (2, Some(2)));
        assert_eq!((h.floor(&cut(5, true)), h.ceiling(&cut(5, true))), (2, Some(3)));
        assert_eq!(h.find(&cut(5, false), 3), None);
        assert_eq!(h.find(&cut(5, true), 3), Some(3));
    }

    #[test]
    fn what_was_acknowledged_before_the_cut_stays() {
        let mut h = history();
        h.acks.push((40, 3));
        let cut = |at| Cut { at, acked_by: at, txg: 4, has_log: true, all_before: 0 };
        assert_eq!((h.floor(&cut(39)), h.floor(&cut(40))), (0, 3));
        assert_eq!(h.floor(&Cut { all_before: 15, ..cut(30) }), 1);
        assert_eq!(h.ceiling(&cut(25)), Some(2));
    }
}
