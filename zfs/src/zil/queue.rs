//! Who commits together with whom, who packs for them, and in which order commits take effect.
//!
//! Requests gather for the next commit; the first of them leads it, the others wait until it is settled. One commit is
//! packed at a time, so the chain has the order in which changes were taken; up to [`DEPTH`] are under way, so that one
//! is packed while the device works on the one before it, and who comes just too late for one does not wait for all of it.
//!
//! Invariants, and the crash behind each:
//!
//! 1. *A commit is settled after those before it.* Its blocks are found only through theirs: acknowledged sooner, it would
//!    be lost with a power cut that leaves a hole in the chain before it.
//! 2. *Whoever asked before a commit stopped gathering is served by it or by one before it:* its changes had their place in
//!    the lists when it asked, and the lists are taken afterwards.
//! 3. *A request of a commit that failed asks again.* It may take a success for a failure when it looks late, never the
//!    other way round.
use alloc::collections::VecDeque;
use core::time::Duration;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// Commits under way at a time. More would serve fewer requests each.
pub(super) const DEPTH: usize = 2;
/// Commits whose requests wait apart: those under way, the one that gathers, and one whose waiters are leaving.
const SLOTS: usize = DEPTH + 2;

/// The part of one who asks for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Carries it out.
    Leader(u64),
    /// Waits for it.
    Follower(u64),
}

/// Requests and commits. Commits are numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: SpinLock<State>,
    /// The leader of the commit that gathers waits here, for its turn to pack and for company.
    turn: WaitQueue,
    /// Leaders whose blocks are durable wait here for the commits before theirs.
    order: WaitQueue,
    /// Followers, by their commit's number.
    followers: [WaitQueue; SLOTS],
}

#[derive(Debug, Default)]
struct State {
    /// Requests of the commit that gathers.
    nr_gathered: usize,
    /// Requests of those that were begun and are not settled, oldest first.
    under_way: VecDeque<usize>,
    /// One is being packed.
    is_packing: bool,
    /// The last that was begun; the next one gathers.
    begun: u64,
    /// All up to this one are settled.
    settled: u64,
    /// The last that failed.
    failed: u64,
    /// Requests that were waiting or served at one time lately.
    expected: usize,
}

impl State {
    /// Whether enough have gathered: with an equal share of requests each, commits follow one another without a pause.
    fn has_company(&self) -> bool {
        self.nr_gathered >= self.expected.div_ceil(DEPTH)
    }

    fn may_begin(&self) -> bool {
        let has_place = self.under_way.is_empty() || (self.under_way.len() < DEPTH && self.has_company());
        has_place && !self.is_packing
    }
}

impl Queue {
    /// Asks for a commit.
    pub(super) fn join(&self) -> Role {
        let (role, may_begin) = {
            let mut state = self.state.lock();
            state.nr_gathered += 1;
            let number = state.begun + 1;
            let is_first = state.nr_gathered == 1;
            (if is_first { Role::Leader(number) } else { Role::Follower(number) }, state.has_company())
        };
        if may_begin && matches!(role, Role::Follower(_)) {
            self.turn.wake_all();
        }
        role
    }

    /// Waits for a follower's commit; false when it failed.
    pub(super) fn wait_settled(&self, number: u64) -> bool {
        let outcome = || {
            let state = self.state.lock();
            (state.settled >= number).then_some(state.failed < number)
        };
        match self.followers.get(number as usize % SLOTS) {
            Some(followers) => followers.wait("log commit", outcome),
            None => false,
        }
    }

    /// Waits for the turn of the commit that gathers, and a little for those who committed at the same time lately: threads
    /// that were all woken by one commit come back one by one, and a leader that ran ahead would write a block for
    /// itself alone. Not a moment when nobody else was there lately. From here on requests gather for the next one,
    /// and nobody else packs until [`Self::packed`].
    pub(super) fn begin(&self, patience: Duration) {
        wait(&self.turn, "log turn", || self.state.lock().may_begin().then_some(()));
        let has_company = || self.state.lock().has_company().then_some(());
        if has_company().is_none() {
            self.turn.wait_until(rt::now().after(patience), "log company", has_company);
        }
        let mut state = self.state.lock();
        let gathered = core::mem::take(&mut state.nr_gathered);
        let found = gathered + state.under_way.iter().sum::<usize>();
        state.expected = found.max(state.expected - state.expected.div_ceil(8));
        state.under_way.push_back(gathered);
        state.begun += 1;
        state.is_packing = true;
    }

    /// Whether nobody committed at the same time as another lately.
    pub(super) fn expects_nobody(&self) -> bool {
        self.state.lock().expected <= 1
    }

    /// The next commit may be packed.
    pub(super) fn packed(&self) {
        self.state.lock().is_packing = false;
        self.turn.wake_all();
    }

    /// Waits until all commits before this one are settled.
    pub(super) fn wait_order(&self, number: u64) {
        wait(&self.order, "log order", || (self.state.lock().settled + 1 == number).then_some(()));
    }

    /// Settles a commit whose turn it is.
    pub(super) fn settle(&self, number: u64, is_durable: bool) {
        {
            let mut state = self.state.lock();
            state.settled = state.settled.max(number);
            state.under_way.pop_front();
            if !is_durable {
                state.failed = number;
            }
        }
        self.order.wake_all();
        self.turn.wake_all();
        if let Some(followers) = self.followers.get(number as usize % SLOTS) {
            followers.wake_all();
        }
    }
}

/// Waits, without joining the queue where there is nothing to wait for.
fn wait(queue: &WaitQueue, reason: &'static str, ready: impl Fn() -> Option<()>) {
    if ready().is_none() {
        queue.wait(reason, ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(queue: &Queue) -> u64 {
        let Role::Leader(number) = queue.join() else { panic!("somebody else leads") };
        queue.begin(Duration::ZERO);
        number
    }

    #[test]
    fn who_comes_while_one_is_packed_is_served_by_the_next() {
        let queue = Queue::default();
        assert_eq!(queue.join(), Role::Leader(1));
        assert_eq!(queue.join(), Role::Follower(1));
        queue.begin(Duration::ZERO);
        assert_eq!(queue.join(), Role::Leader(2));
        assert!(!queue.state.lock().may_begin(), "one is packed at a time");
        queue.packed();
        assert!(queue.state.lock().may_begin() || DEPTH == 1);
        queue.wait_order(1);
        queue.settle(1, true);
        assert!(queue.wait_settled(1));
    }

    #[test]
    fn no_more_are_under_way_than_allowed() {
        let queue = Queue::default();
        for _ in 0..DEPTH {
            lead(&queue);
            queue.packed();
        }
        assert_eq!(queue.join(), Role::Leader(DEPTH as u64 + 1));
        assert!(!queue.state.lock().may_begin());
        queue.settle(1, true);
        assert!(queue.state.lock().may_begin());
    }

    #[test]
    fn a_commit_waits_for_its_share_while_another_is_under_way() {
        let queue = Queue::default();
        for _ in 0..16 {
            queue.join();
        }
        queue.begin(Duration::ZERO);
        queue.packed();
        for nr in 1..=8 {
            assert!(!queue.state.lock().may_begin() || nr > 16 / DEPTH);
            queue.join();
        }
        assert!(queue.state.lock().may_begin());
    }

    #[test]
    fn a_failure_is_told_to_its_followers_only() {
        let queue = Queue::default();
        let first = lead(&queue);
        queue.packed();
        let second = lead(&queue);
        queue.settle(first, true);
        assert!(queue.wait_settled(first));
        queue.settle(second, false);
        assert!(!queue.wait_settled(second));
        queue.packed();
        let next = lead(&queue);
        queue.settle(next, true);
        assert!(queue.wait_settled(next));
    }
}
