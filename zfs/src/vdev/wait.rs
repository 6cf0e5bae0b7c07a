//! Submit many I/Os, wait once, and do not sleep for what a device answers within microseconds.
use super::leaf::Leaf;
use alloc::vec::Vec;
use blockdev::{Completion, Done, IoWait};
use core::time::Duration;

/// Longest time a waiter polls before it sleeps: about what two context switches cost.
const SPIN_MAX: Duration = Duration::from_micros(30);
/// How often a waiter looks after a queue that no completion will restart.
const STALL_CHECK: Duration = Duration::from_millis(1);
/// How often it looks whether there is one: a queue can stall after the waiter went to sleep.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A batch of I/Os on several leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct IoGroup(IoWait);

impl IoGroup {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A completion that belongs to this group.
    pub(crate) fn completion(&self, tag: u64) -> Completion {
        self.0.completion(tag)
    }

    /// Blocks until every I/O of the group is done; the outcomes, in the order of completion. `leaves` are the devices
    /// that may work on them.
    pub(crate) fn wait<'a>(&self, leaves: impl Iterator<Item = &'a Leaf> + Clone) -> Vec<Done> {
        self.spin(&leaves, (rt::cpu_id(), SPIN_MAX), &Leaf::answers_polls)
            .unwrap_or_else(|| self.sleep(&leaves))
    }

    /// The outcomes, if all are in.
    pub(super) fn try_wait(&self) -> Option<Vec<Done>> {
        self.0.try_wait()
    }

    /// As [`Self::wait`], polling for up to `spin` before it sleeps. The devices need not interrupt meanwhile, and those of
    /// which it is not known yet whether they answer polls are tried.
    pub(crate) fn wait_polling<'a>(
        &self,
        leaves: impl Iterator<Item = &'a Leaf> + Clone,
        spin: Duration,
    ) -> Vec<Done> {
        // Begun and ended on one queue, though the thread may move to another CPU in between.
        let queue = rt::cpu_id();
        leaves.clone().for_each(|leaf| leaf.poll_begin(queue));
        let done = self.spin(&leaves, (queue, spin), &Leaf::may_answer_polls);
        leaves.clone().for_each(|leaf| leaf.poll_end(queue));
        done.unwrap_or_else(|| {
            leaves.clone().for_each(Leaf::note_silence);
            self.sleep(&leaves)
        })
    }

    /// Polls for up to a time, as long as `may_answer` says of a device that there is a point in it.
    fn spin<'a>(
        &self,
        leaves: &(impl Iterator<Item = &'a Leaf> + Clone),
        (queue, spin): (usize, Duration),
        may_answer: &dyn Fn(&Leaf) -> bool,
    ) -> Option<Vec<Done>> {
        let spin_end = rt::now().after(spin);
        loop {
            let has_polling = leaves.clone().fold(false, |has, leaf| leaf.poll_queue(queue) | has);
            if let Some(done) = self.0.try_wait() {
                return Some(done);
            }
            let may_poll = has_polling || leaves.clone().any(may_answer);
            // Whoever waits for this CPU found none that was idle.
            let is_in_the_way = rt::has_waiting();
            if !may_poll || is_in_the_way || rt::now() >= spin_end {
                return None;
            }
            // No pause between looks: a look takes a hundred instructions, and hypervisors and emulators leave the guest
            // for a pause.
        }
    }

    fn sleep<'a>(&self, leaves: &(impl Iterator<Item = &'a Leaf> + Clone)) -> Vec<Done> {
        loop {
            let is_stalled = leaves.clone().any(Leaf::is_stalled);
            let deadline = rt::now().after(if is_stalled { STALL_CHECK } else { LOOK_EVERY });
            if let Some(done) = self.0.wait_until(deadline) {
                return done;
            }
            leaves.clone().for_each(|leaf| {
                leaf.poll();
            });
        }
    }
}
