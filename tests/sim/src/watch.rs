//! States of the disks, kept at many of their requests: a power cut at each is tried later.
use crate::worker::Shared;
use blockdev_sim::{DiskState, Moment, Random, SimDisk};
use rt::SpinLock;
use std::sync::{Arc, Weak};

/// The disks at one moment.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The model's clock.
    pub at: u64,
    /// The newest group that counted as durable.
    pub synced: u64,
    /// What the disks were just told or said.
    pub moment: Option<Moment>,
    /// Number of the request, counting all of the disks.
    pub request: u64,
    /// What a power cut has to choose from.
    pub disks: Vec<DiskState>,
}

struct State {
    random: Random,
    nr_requests: u64,
    nr_max: usize,
    /// Distance of captures, on average half of this.
    gap: u64,
    next: u64,
    captures: Vec<Capture>,
    shared: Option<Arc<Shared>>,
}

/// Watches disks.
pub struct Watch {
    disks: Vec<Weak<SimDisk>>,
    state: SpinLock<State>,
}

impl Watch {
    /// Keeps up to `nr_max` states of the disks, at moments picked by `random`.
    pub fn new(disks: &[Arc<SimDisk>], nr_max: usize, mut random: Random) -> Arc<Self> {
        let gap = random.pick(&[2_u64, 10, 30]);
        let state =
            State { random, nr_requests: 0, nr_max, gap, next: 1, captures: Vec::new(), shared: None };
        let watch =
            Arc::new(Self { disks: disks.iter().map(Arc::downgrade).collect(), state: SpinLock::new(state) });
        for disk in disks {
            let watch = watch.clone();
            disk.set_observer(Some(Arc::new(move |moment| watch.heard(moment))));
        }
        watch
    }

    /// From now on the model has a clock.
    pub fn follow(&self, shared: &Arc<Shared>) {
        self.state.lock().shared = Some(shared.clone());
    }

    /// Keeps the state now, and ends.
    pub fn finish(&self) -> (Vec<Capture>, u64) {
        let last = self.capture(None);
        for disk in self.disks.iter().filter_map(Weak::upgrade) {
            disk.set_observer(None);
        }
        let mut state = self.state.lock();
        state.shared = None;
        let mut captures = core::mem::take(&mut state.captures);
        captures.push(last);
        (captures, state.nr_requests)
    }

    fn heard(&self, moment: Moment) {
        let is_due = {
            let state = &mut *self.state.lock();
            state.nr_requests += 1;
            let is_due = state.nr_requests >= state.next;
            if is_due {
                state.next = state.nr_requests + 1 + state.random.below(state.gap);
            }
            is_due
        };
        if !is_due {
            return;
        }
        let capture = self.capture(Some(moment));
        let state = &mut *self.state.lock();
        state.captures.push(capture);
        // Too many: every second one goes, and from now on they come half as often.
        if state.captures.len() > state.nr_max * 2 {
            let mut nr = 0;
            state.captures.retain(|_| {
                nr += 1;
                nr % 2 == 0
            });
            state.gap *= 2;
        }
    }

    /// All disks and the clock at one moment: no other thread runs while the lock is held. Were one to, what it did then
    /// would be there before the model let it begin, and one disk would be cut off later than another.
    fn capture(&self, moment: Option<Moment>) -> Capture {
        let state = self.state.lock();
        let of_shared = state.shared.as_ref().map(|shared| (shared.now(), shared.synced_txg()));
        let ((at, synced), request) = (of_shared.unwrap_or_default(), state.nr_requests);
        let disks = self.disks.iter().filter_map(Weak::upgrade).map(|disk| disk.state()).collect();
        Capture { at, synced, moment, request, disks }
    }
}
