//! The writes that devices have not yet answered.
//!
//! Why: requests in flight have no order. A read that misses the cache must not overtake the write of the same block,
//! and a block rewritten in place (sync pass 2 and later) must not be overtaken by its earlier version. The table
//! answers the first from memory and makes the second wait.
use crate::vdev::VdevTree;
use abd::Abd;
use core::time::Duration;
use hashbrown::HashMap;
use rt::SpinLock;
use rt::wait::WaitQueue;

/// How often a waiter looks after devices whose queues no completion restarts.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A write that is not done.
#[derive(Clone, Debug)]
struct Write {
    data: Abd,
    has_failed: bool,
}

/// Writes in flight by (vdev, offset).
#[derive(Debug)]
pub(crate) struct InFlight {
    writes: SpinLock<HashMap<(u32, u64), Write>>,
    removed: WaitQueue,
    vdevs: VdevTree,
}

impl InFlight {
    pub(crate) fn new(vdevs: VdevTree) -> Self {
        Self { writes: SpinLock::new(HashMap::new()), removed: WaitQueue::new(), vdevs }
    }

    /// Notes a write before it starts, after the previous one to the same place is done.
    pub(crate) fn insert(&self, vdev: u32, offset: u64, data: Abd) {
        let place = (vdev, offset);
        // A failed one is not going to be answered: the newer takes its place.
        let is_under_way = || self.writes.lock().get(&place).is_some_and(|w| !w.has_failed);
        self.wait(&self.removed, || (!is_under_way()).then_some(()));
        self.writes.lock().insert(place, Write { data, has_failed: false });
    }

    /// A write is done.
    pub(crate) fn remove(&self, vdev: u32, offset: u64) {
        self.writes.lock().remove(&(vdev, offset));
        self.removed.wake_all();
    }

    /// What is being written there.
    pub(crate) fn get(&self, vdev: u32, offset: u64) -> Option<Abd> {
        self.writes.lock().get(&(vdev, offset)).map(|write| write.data.clone())
    }

    /// A write has failed: it stays, for readers, until it is tried again.
    pub(crate) fn fail(&self, vdev: u32, offset: u64) {
        if let Some(write) = self.writes.lock().get_mut(&(vdev, offset)) {
            write.has_failed = true;
        }
        self.removed.wake_all();
    }

    /// Blocks until `ready`, looking after the devices meanwhile.
    pub(crate) fn wait(&self, queue: &WaitQueue, mut ready: impl FnMut() -> Option<()>) {
        while ready().is_none() {
            self.vdevs.poll();
            let deadline = rt::now().after(LOOK_EVERY);
            if queue.wait_until(deadline, "writes in flight", &mut ready).is_some() {
                return;
            }
        }
    }
}
