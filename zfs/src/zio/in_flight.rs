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

/// Writes in flight by (vdev, offset).
#[derive(Debug)]
pub(crate) struct InFlight {
    writes: SpinLock<HashMap<(u32, u64), Abd>>,
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
        self.wait(&self.removed, || (!self.writes.lock().contains_key(&place)).then_some(()));
        self.writes.lock().insert(place, data);
    }

    /// A write is done.
    pub(crate) fn remove(&self, vdev: u32, offset: u64) {
        self.writes.lock().remove(&(vdev, offset));
        self.removed.wake_all();
    }

    /// What is being written there.
    pub(crate) fn get(&self, vdev: u32, offset: u64) -> Option<Abd> {
        self.writes.lock().get(&(vdev, offset)).cloned()
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
