//! A function pointer that an upper crate registers once and that interrupt code reads without a lock.
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A slot for a value of function-pointer type `F`. Entry code reads it as a plain pointer.
#[repr(transparent)]
pub(crate) struct Hook<F> {
    target: AtomicPtr<()>,
    _type: PhantomData<F>,
}

impl<F: Copy> Hook<F> {
    /// Nothing registered.
    pub(crate) const fn new() -> Self {
        assert!(size_of::<F>() == size_of::<*mut ()>(), "a hook holds one function pointer");
        Self { target: AtomicPtr::new(core::ptr::null_mut()), _type: PhantomData }
    }

    /// Registers `f`, replacing what was there.
    pub(crate) fn set(&self, f: F) {
        // SAFETY: F has the size of a pointer (checked in new); function pointers are plain addresses here.
        let raw: *mut () = unsafe { core::mem::transmute_copy(&f) };
        self.target.store(raw, Ordering::Release);
    }

    /// What is registered.
    pub(crate) fn get(&self) -> Option<F> {
        let raw = self.target.load(Ordering::Acquire);
        // SAFETY: a non-null value was stored by set from an F.
        (!raw.is_null()).then(|| unsafe { core::mem::transmute_copy(&raw) })
    }
}
