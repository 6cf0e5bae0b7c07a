//! A block that is on its way into the cache, and those who wait for it.
//!
//! A read ahead leaves the bytes as they came from the device: the first reader who wants them verifies and
//! decompresses them on its own CPU, so that completions stay short and a read ahead that no one needs costs no more
//! than its I/O.
use super::buf::{ArcBuf, Charge};
use crate::Error;
use abd::AbdMut;
use core::time::Duration;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// How often a waiter looks after the devices.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A block on its way.
#[derive(Debug)]
pub(crate) struct Pending {
    state: SpinLock<State>,
    changed: WaitQueue,
}

#[derive(Debug)]
enum State {
    /// Someone reads it.
    Busy,
    /// Read ahead: here are the bytes as they lie on disk.
    Raw {
        bytes: AbdMut,
        charge: Charge,
    },
    Done(Result<ArcBuf, Error>),
    /// The read ahead failed: whoever needs the block reads it anew, with all its copies.
    Abandoned,
}

/// What a waiter gets.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The waiter is now the one to verify these bytes, and to finish.
    Raw(AbdMut),
    Done(Result<ArcBuf, Error>),
    /// The waiter is now the one to read it, and to finish.
    Abandoned,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self { state: SpinLock::new(State::Busy), changed: WaitQueue::new() }
    }

    /// Blocks until the block is there; calls `look` now and then, to look after the devices.
    pub(crate) fn wait(&self, mut look: impl FnMut()) -> Arrival {
        loop {
            let deadline = rt::now().after(LOOK_EVERY);
            let arrival = self.changed.wait_until(deadline, "block being read", || self.arrival());
            if let Some(arrival) = arrival {
                return arrival;
            }
            look();
        }
    }

    fn arrival(&self) -> Option<Arrival> {
        let mut state = self.state.lock();
        match core::mem::replace(&mut *state, State::Busy) {
            State::Busy => None,
            State::Raw { bytes, charge } => {
                drop(state);
                drop(charge);
                Some(Arrival::Raw(bytes))
            }
            State::Abandoned => Some(Arrival::Abandoned),
            State::Done(result) => {
                *state = State::Done(result.clone());
                Some(Arrival::Done(result))
            }
        }
    }

    /// The reader has finished.
    pub(crate) fn finish(&self, result: Result<ArcBuf, Error>) {
        self.set(State::Done(result));
    }

    /// A read ahead has arrived.
    pub(crate) fn arrived(&self, bytes: AbdMut, charge: Charge) {
        self.set(State::Raw { bytes, charge });
    }

    /// A read ahead has failed.
    pub(crate) fn abandon(&self) {
        self.set(State::Abandoned);
    }

    /// Whether eviction may throw it away: no one reads it and no one waits. A reader that found it before then gets
    /// [`Arrival::Abandoned`].
    pub(crate) fn try_discard(&self) -> bool {
        let mut state = self.state.lock();
        let is_idle = matches!(*state, State::Raw { .. } | State::Abandoned);
        let old = is_idle.then(|| core::mem::replace(&mut *state, State::Abandoned));
        drop(state);
        drop(old);
        is_idle
    }

    fn set(&self, new: State) {
        let old = core::mem::replace(&mut *self.state.lock(), new);
        drop(old);
        self.changed.wake_all();
    }
}
