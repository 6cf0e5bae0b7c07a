//! A blocking many-readers-or-one-writer lock with its rank in its type.
//!
//! Writers are preferred: a reader that arrives while a writer waits queues behind it, otherwise a stream of
//! readers would keep the writer out for ever. A thread must therefore not read-lock the same lock twice.
use crate::rank;
use crate::wait::WaitQueue;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

const WRITER: u32 = 1 << 31;

/// A reader-writer lock. `RANK` 0 is unranked; see [`crate::rank`].
pub struct RwLock<T: ?Sized, const RANK: u16 = 0> {
    /// `WRITER`, or the number of readers.
    state: AtomicU32,
    nr_writers_waiting: AtomicU32,
    readers: WaitQueue,
    writers: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the value moves between threads under the lock.
unsafe impl<T: ?Sized + Send, const RANK: u16> Send for RwLock<T, RANK> {}
// SAFETY: readers share `&T` (Sync), a writer has it alone (Send).
unsafe impl<T: ?Sized + Send + Sync, const RANK: u16> Sync for RwLock<T, RANK> {}

impl<T, const RANK: u16> RwLock<T, RANK> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(0),
            nr_writers_waiting: AtomicU32::new(0),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, when no one can hold the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized, const RANK: u16> RwLock<T, RANK> {
    /// Blocks until no writer holds or waits for the lock.
    pub fn read(&self) -> RwLockReadGuard<'_, T, RANK> {
        rank::acquire(RANK);
        if !self.try_read_raw() {
            self.readers.wait("rwlock read", || self.try_read_raw().then_some(()));
        }
        RwLockReadGuard { lock: self, _not_send: core::marker::PhantomData }
    }

    /// Blocks until no one holds the lock.
    pub fn write(&self) -> RwLockWriteGuard<'_, T, RANK> {
        rank::acquire(RANK);
        if !self.try_write_raw() {
            self.nr_writers_waiting.fetch_add(1, Ordering::SeqCst);
            self.writers.wait("rwlock write", || self.try_write_raw().then_some(()));
            self.nr_writers_waiting.fetch_sub(1, Ordering::SeqCst);
        }
        RwLockWriteGuard { lock: self, _not_send: core::marker::PhantomData }
    }

    /// Takes the lock for writing if no one holds it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T, RANK>> {
        if !self.try_write_raw() {
            return None;
        }
        rank::acquire(RANK);
        Some(RwLockWriteGuard { lock: self, _not_send: core::marker::PhantomData })
    }

    /// The value, without locking: exclusive access proves that no one holds it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn try_read_raw(&self) -> bool {
        if self.nr_writers_waiting.load(Ordering::SeqCst) != 0 {
            return false;
        }
        let take = |n: u32| (n & WRITER == 0).then_some(n + 1);
        self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn try_write_raw(&self) -> bool {
        self.state.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn unlock_read(&self) {
        rank::release(RANK);
        if self.state.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.wake();
        }
    }

    fn unlock_write(&self) {
        rank::release(RANK);
        self.state.store(0, Ordering::SeqCst);
        self.wake();
    }

    /// A writer first; with none waiting, all readers. A reader that saw a waiting writer is woken by that
    /// writer's own unlock.
    fn wake(&self) {
        if !self.writers.wake_one() {
            self.readers.wake_all();
        }
    }
}

impl<T: ?Sized, const RANK: u16> fmt::Debug for RwLock<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RwLock(state: {:#x})", self.state.load(Ordering::Relaxed))
    }
}

impl<T: Default, const RANK: u16> Default for RwLock<T, RANK> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Shared access; unlocks when dropped.
pub struct RwLockReadGuard<'a, T: ?Sized, const RANK: u16 = 0> {
    lock: &'a RwLock<T, RANK>,
    _not_send: core::marker::PhantomData<*const ()>,
}

impl<T: ?Sized, const RANK: u16> Deref for RwLockReadGuard<'_, T, RANK> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: while the guard exists no writer does.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const RANK: u16> Drop for RwLockReadGuard<'_, T, RANK> {
    fn drop(&mut self) {
        self.lock.unlock_read();
    }
}

/// Exclusive access; unlocks when dropped.
pub struct RwLockWriteGuard<'a, T: ?Sized, const RANK: u16 = 0> {
    lock: &'a RwLock<T, RANK>,
    _not_send: core::marker::PhantomData<*const ()>,
}

impl<T: ?Sized, const RANK: u16> Deref for RwLockWriteGuard<'_, T, RANK> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while this thread holds the lock alone.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const RANK: u16> DerefMut for RwLockWriteGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, const RANK: u16> Drop for RwLockWriteGuard<'_, T, RANK> {
    fn drop(&mut self) {
        self.lock.unlock_write();
    }
}
