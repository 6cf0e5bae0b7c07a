//! Submit many requests, wait once.
use crate::device::BlockDevice;
use crate::error::Error;
use crate::request::{Complete, Completion, Done};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use rt::wait::WaitQueue;
use rt::{Instant, SpinLock};

/// Collects the outcomes of a batch of requests.
#[derive(Clone, Debug)]
pub struct IoWait(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: SpinLock<State>,
    changed: WaitQueue,
}

#[derive(Debug, Default)]
struct State {
    nr_outstanding: usize,
    done: Vec<Done>,
}

impl IoWait {
    /// An empty batch.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// A completion that belongs to this batch. `tag` tells the batch's requests apart.
    pub fn completion(&self, tag: u64) -> Completion {
        self.0.state.lock().nr_outstanding += 1;
        Completion::new(self.0.clone(), tag)
    }

    /// Blocks until every request of the batch is done; their outcomes, in the order of completion.
    pub fn wait(&self) -> Vec<Done> {
        self.0.changed.wait("block I/O", || self.try_wait())
    }

    /// As [`IoWait::wait`], but polls `queue` of `device` for up to `spin` before it sleeps: a device that answers
    /// within a few microseconds costs no context switch.
    pub fn wait_polling(&self, device: &dyn BlockDevice, queue: usize, spin: Duration) -> Vec<Done> {
        if let Some(done) = self.try_wait() {
            return done;
        }
        device.poll_begin(queue);
        let done = self.poll_until(device, queue, rt::now().after(spin));
        device.poll_end(queue);
        done.unwrap_or_else(|| self.wait())
    }

    fn poll_until(&self, device: &dyn BlockDevice, queue: usize, end: Instant) -> Option<Vec<Done>> {
        loop {
            device.poll(queue);
            let done = self.try_wait();
            if done.is_some() || rt::now() >= end {
                return done;
            }
            core::hint::spin_loop();
        }
    }

    /// The outcomes, if every request of the batch is done.
    pub fn try_wait(&self) -> Option<Vec<Done>> {
        let mut state = self.0.state.lock();
        (state.nr_outstanding == 0).then(|| core::mem::take(&mut state.done))
    }

    /// As [`IoWait::wait`], until `deadline` at the latest: `None` when requests are still under way then.
    pub fn wait_until(&self, deadline: Instant) -> Option<Vec<Done>> {
        self.0.changed.wait_until(deadline, "block I/O", || self.try_wait())
    }

    /// Blocks for a batch of one request.
    ///
    /// # Errors
    /// The request's.
    pub fn wait_one(&self) -> Result<Done, Error> {
        let done = self.wait().pop().ok_or(Error::Io)?;
        done.result.map(|()| done)
    }
}

impl Default for IoWait {
    fn default() -> Self {
        Self::new()
    }
}

impl Complete for Inner {
    fn complete(&self, done: Done) {
        let is_last = {
            let mut state = self.state.lock();
            state.done.push(done);
            state.nr_outstanding -= 1;
            state.nr_outstanding == 0
        };
        if is_last {
            self.changed.wake_all();
        }
    }
}
