//! The top-level vdevs of an open pool: a snapshot that is replaced as a whole when the tree changes.
//!
//! Whoever does I/O takes the snapshot once and works on it to the end. What was started on an old snapshot ends on it;
//! a leaf that is added notes the transaction groups whose writes may have been started before as missed.
use super::leaf::Leaf;
use super::top::Vdev;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rt::SpinLock;

/// The top-level vdevs; indexes are their numbers in block pointers.
pub type Tops = Arc<[Arc<Vdev>]>;

/// Where the current snapshot is. Clones share it.
#[derive(Clone, Debug)]
pub struct VdevTree(Arc<SpinLock<Tops>>);

impl VdevTree {
    /// A tree that begins with these.
    pub fn new(tops: impl IntoIterator<Item = Vdev>) -> Self {
        Self(Arc::new(SpinLock::new(tops.into_iter().map(Arc::new).collect())))
    }

    /// The current snapshot.
    pub fn get(&self) -> Tops {
        self.0.lock().clone()
    }

    /// Replaces it.
    pub(crate) fn set(&self, tops: Vec<Arc<Vdev>>) {
        let new: Tops = tops.into();
        // The old one is dropped without the lock.
        let old = core::mem::replace(&mut *self.0.lock(), new);
        drop(old);
    }

    /// One top-level vdev.
    pub fn top(&self, id: u32) -> Option<Arc<Vdev>> {
        self.0.lock().get(id as usize).cloned()
    }

    /// Every leaf, those without a device too.
    pub fn leaves(&self) -> Vec<Arc<Leaf>> {
        self.get().iter().flat_map(|top| top.io().leaves().iter().cloned()).collect()
    }

    /// Lets every device report completions.
    pub fn poll(&self) {
        for top in self.get().iter() {
            top.io().leaves().iter().for_each(|leaf| {
                leaf.poll();
            });
        }
    }
}
