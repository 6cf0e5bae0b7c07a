//! A spin lock that also keeps interrupts off: for data that interrupt handlers touch (run queues, timers).
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};
use hal::io::IrqGuard;

pub(crate) struct IrqLock<T> {
    is_locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one CPU at a time access to the value.
unsafe impl<T: Send> Send for IrqLock<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for IrqLock<T> {}

impl<T> IrqLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { is_locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> IrqLockGuard<'_, T> {
        let irq = IrqGuard::new();
        while self.is_locked.swap(true, Ordering::Acquire) {
            while self.is_locked.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        IrqLockGuard { lock: self, _irq: irq }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<IrqLockGuard<'_, T>> {
        let irq = IrqGuard::new();
        let is_free = !self.is_locked.swap(true, Ordering::Acquire);
        is_free.then(|| IrqLockGuard { lock: self, _irq: irq })
    }
}

pub(crate) struct IrqLockGuard<'a, T> {
    lock: &'a IrqLock<T>,
    /// Dropped after the unlock in `drop`.
    _irq: IrqGuard,
}

impl<T> Deref for IrqLockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while this CPU holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for IrqLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for IrqLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.is_locked.store(false, Ordering::Release);
    }
}
