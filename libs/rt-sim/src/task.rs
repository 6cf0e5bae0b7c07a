//! A simulated thread.
use corosensei::Yielder;
use rt::rank::HeldRanks;
use std::cell::Cell;
use std::ptr;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Runnable,
    Running,
    Parked,
    Done,
}

/// A thread as the seam sees it. Reference counted; only the host thread of its simulation looks inside.
pub(crate) struct Task {
    /// Counts up within a simulation.
    pub id: usize,
    pub name: String,
    /// Where its coroutine is kept.
    pub slot: usize,
    pub cpu: Cell<usize>,
    pub state: Cell<State>,
    pub has_token: Cell<bool>,
    pub reason: Cell<&'static str>,
    pub deadline: Cell<u64>,
    /// Counts parks: tells a timer of this park from one of an earlier.
    pub nr_parks: Cell<u64>,
    pub preempt_off: Cell<u32>,
    pub held: HeldRanks,
    /// How its body gives the host thread back; null until it has started.
    pub yielder: Cell<*const Yielder<(), ()>>,
}

// SAFETY: the cells are touched only by the host thread that runs the simulation: every entry point looks the
// simulation up in a thread-local first and panics on any other thread. The name and numbers never change.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

impl Task {
    pub fn new(id: usize, slot: usize, name: &str, cpu: usize) -> Self {
        Self {
            id,
            name: name.to_owned(),
            slot,
            cpu: Cell::new(cpu),
            state: Cell::new(State::Runnable),
            has_token: Cell::new(false),
            reason: Cell::new(""),
            deadline: Cell::new(u64::MAX),
            nr_parks: Cell::new(0),
            preempt_off: Cell::new(0),
            held: HeldRanks::new(),
            yielder: Cell::new(ptr::null()),
        }
    }

    /// One line of a report.
    pub fn describe(&self, now: u64) -> String {
        let what = match self.state.get() {
            State::Parked if self.deadline.get() == u64::MAX => format!("waits for {}", self.reason.get()),
            State::Parked => {
                let left = self.deadline.get().saturating_sub(now);
                format!("waits for {}, {} us left", self.reason.get(), left / 1000)
            }
            other => format!("{other:?}"),
        };
        format!("thread {} ({}): {what}", self.id, self.name)
    }
}
