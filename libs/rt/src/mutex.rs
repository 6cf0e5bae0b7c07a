//! A blocking mutual-exclusion lock with its rank in its type.
use crate::provider::__rt_spin_hint;
use crate::rank;
use crate::wait::WaitQueue;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and threads may be waiting: the holder must wake one when it unlocks.
const CONTENDED: u32 = 2;
/// Looks before parking: most sections are shorter than two context switches.
const SPINS_MAX: u32 = 64;

/// A mutex. `RANK` 0 is unranked; see [`crate::rank`].
pub struct Mutex<T: ?Sized, const RANK: u16 = 0> {
    state: AtomicU32,
    queue: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives one thread at a time access to the value.
unsafe impl<T: ?Sized + Send, const RANK: u16> Send for Mutex<T, RANK> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send, const RANK: u16> Sync for Mutex<T, RANK> {}

impl<T, const RANK: u16> Mutex<T, RANK> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), queue: WaitQueue::new(), value: UnsafeCell::new(value) }
    }

    /// The value, when no one can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, const RANK: u16> Mutex<T, RANK> {
    /// Blocks until the lock is free.
    pub fn lock(&self) -> MutexGuard<'_, T, RANK> {
        rank::acquire(RANK);
        if self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow();
        }
        MutexGuard { mutex: self, _not_send: core::marker::PhantomData }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T, RANK>> {
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).ok()?;
        rank::acquire(RANK);
        Some(MutexGuard { mutex: self, _not_send: core::marker::PhantomData })
    }

    /// The value, without locking: exclusive access proves that no one holds it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS_MAX {
            if self.state.load(Ordering::Relaxed) == FREE
                && self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            __rt_spin_hint();
        }
        // CONTENDED even when no one else waits: at worst one needless wake-up.
        self.queue.wait("mutex", || (self.state.swap(CONTENDED, Ordering::Acquire) == FREE).then_some(()));
    }

    pub(crate) fn unlock(&self) {
        rank::release(RANK);
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            self.queue.wake_one();
        }
    }
}

impl<T: ?Sized, const RANK: u16> fmt::Debug for Mutex<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutex(held: {})", self.state.load(Ordering::Relaxed) != FREE)
    }
}

impl<T: Default, const RANK: u16> Default for Mutex<T, RANK> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Access to the value; unlocks when dropped.
pub struct MutexGuard<'a, T: ?Sized, const RANK: u16 = 0> {
    pub(crate) mutex: &'a Mutex<T, RANK>,
    /// Ranks are per thread, so a guard stays on its thread.
    _not_send: core::marker::PhantomData<*const ()>,
}

// SAFETY: sharing the guard shares only `&T`.
unsafe impl<T: ?Sized + Sync, const RANK: u16> Sync for MutexGuard<'_, T, RANK> {}

impl<T: ?Sized, const RANK: u16> Deref for MutexGuard<'_, T, RANK> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while this thread holds the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized, const RANK: u16> DerefMut for MutexGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized, const RANK: u16> Drop for MutexGuard<'_, T, RANK> {
    fn drop(&mut self) {
        self.mutex.unlock();
    }
}

impl<T: ?Sized + fmt::Debug, const RANK: u16> fmt::Debug for MutexGuard<'_, T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
