//! One-time initialisation, also of values whose making may fail.
use crate::mutex::Mutex;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

/// A cell that is set at most once.
pub struct Once<T> {
    is_set: AtomicBool,
    making: Mutex<()>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written once under `making` and only shared afterwards.
unsafe impl<T: Send> Send for Once<T> {}
// SAFETY: as above; `get` shares `&T`, the maker may be any thread.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// Not set.
    pub const fn new() -> Self {
        Self { is_set: AtomicBool::new(false), making: Mutex::new(()), value: UnsafeCell::new(None) }
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<&T> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: is_set was seen with acquire, so the write happened before and no other follows.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// The value, made by `make` if this is the first call. Others block meanwhile.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, core::convert::Infallible>(make())) {
            Ok(v) => v,
            Err(never) => match never {},
        }
    }

    /// As [`Once::get_or_init`]; a failure leaves the cell unset.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(v) = self.get() {
            return Ok(v);
        }
        let _making = self.making.lock();
        if !self.is_set.load(Ordering::Acquire) {
            let value = make()?;
            // SAFETY: `making` is held and is_set is false: no other reference to the value exists.
            unsafe { *self.value.get() = Some(value) };
            self.is_set.store(true, Ordering::Release);
        }
        // SAFETY: is_set is true now, so the value is there and never written again.
        Ok(unsafe { (*self.value.get()).as_ref().unwrap_unchecked() })
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}
