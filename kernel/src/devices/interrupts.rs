//! What a disk's interrupts call. Vectors are set up before the disk exists, so they go through a slot that is
//! filled later; an interrupt before that is dropped, there is nothing it could be about.
use super::dma::DirectMapDma;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicPtr, Ordering};
use virtio_blk::Disk;
use virtio_blk::transport::Transport;

/// The entry points of a disk, whatever its transport.
pub trait Interrupts: Send + Sync {
    /// Queue `queue` has completed requests.
    fn on_queue(&self, queue: usize);
    /// The configuration changed.
    fn on_config(&self);
    /// The shared interrupt.
    fn on_shared(&self);
}

impl<T: Transport> Interrupts for Disk<T, DirectMapDma> {
    fn on_queue(&self, queue: usize) {
        self.on_interrupt(queue);
    }
    fn on_config(&self) {
        self.on_config_interrupt();
    }
    fn on_shared(&self) {
        self.on_shared_interrupt();
    }
}

/// Where interrupt handlers find their disk.
#[derive(Debug)]
pub struct Slot(AtomicPtr<Arc<dyn Interrupts>>);

impl Slot {
    /// An empty one, for ever: handlers are never removed.
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self(AtomicPtr::new(core::ptr::null_mut()))))
    }

    /// Interrupts reach `disk` from now on.
    pub fn connect(&self, disk: Arc<dyn Interrupts>) {
        self.0.store(Box::into_raw(Box::new(disk)), Ordering::Release);
    }

    /// Calls `f` with the disk. Interrupt context.
    pub fn with(&self, f: impl FnOnce(&dyn Interrupts)) {
        let disk = self.0.load(Ordering::Acquire);
        if !disk.is_null() {
            // SAFETY: stored by connect, leaked.
            f(unsafe { &**disk });
        }
    }
}
