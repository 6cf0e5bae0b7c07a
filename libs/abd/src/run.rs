//! Runs: the reference-counted allocations behind buffers. The only unsafe module of this crate.
use alloc::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use alloc::boxed::Box;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;

/// Buffers of at most this many bytes are allocated to the byte, larger ones in whole pages.
pub const SMALL_MAX: usize = 2048;

const SMALL_ALIGN: usize = 512;

struct Header {
    nr_refs: AtomicUsize,
    data: NonNull<u8>,
    layout: Layout,
}

/// The allocation of a run of at least `len` bytes; its size is never zero.
fn layout_of(len: usize) -> Layout {
    let layout = if len <= SMALL_MAX {
        Layout::from_size_align(len.next_multiple_of(64).max(64), SMALL_ALIGN)
    } else {
        Layout::from_size_align(len.next_multiple_of(PAGE_SIZE), PAGE_SIZE)
    };
    layout.unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()))
}

/// A counted reference to a run.
pub(crate) struct Run(NonNull<Header>);

// SAFETY: the header is shared through an atomic count; bytes are written only under `&mut` of a unique run.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

impl Run {
    /// A zeroed run of at least `len` bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        let layout = layout_of(len);
        // SAFETY: the layout's size is not zero.
        let Some(data) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let header = Box::new(Header { nr_refs: AtomicUsize::new(1), data, layout });
        Self(NonNull::from(Box::leak(header)))
    }

    /// A run that holds `pieces` one after the other, in all `len` bytes.
    ///
    /// # Panics
    /// When they are more than `len`: a bug of the caller.
    pub(crate) fn gathered<'a>(len: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        let layout = layout_of(len);
        // SAFETY: the layout's size is not zero.
        let Some(data) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut filled = 0;
        for piece in pieces {
            assert!(piece.len() <= len - filled, "more than the length");
            // SAFETY: filled + piece.len() <= len <= layout.size(), and no one else knows this memory.
            unsafe { data.add(filled).copy_from_nonoverlapping(NonNull::from(piece).cast(), piece.len()) };
            filled += piece.len();
        }
        // SAFETY: the rest of the allocation; now all layout.size() bytes are initialised.
        unsafe { data.add(filled).write_bytes(0, layout.size() - filled) };
        let header = Box::new(Header { nr_refs: AtomicUsize::new(1), data, layout });
        Self(NonNull::from(Box::leak(header)))
    }

    fn header(&self) -> &Header {
        // SAFETY: the header lives as long as any reference, and self is one.
        unsafe { self.0.as_ref() }
    }

    /// All bytes of the run, the padding included.
    pub(crate) fn bytes(&self) -> &[u8] {
        let h = self.header();
        // SAFETY: data is layout.size() initialised bytes; writers need `&mut` of a unique run, which cannot
        // exist while this borrow does: a second reference would make the count 2.
        unsafe { core::slice::from_raw_parts(h.data.as_ptr(), h.layout.size()) }
    }

    /// Writable bytes, if this is the only reference.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_unique() {
            return None;
        }
        let h = self.header();
        // SAFETY: the count is 1 and self is borrowed exclusively, so no one else can reach the bytes.
        Some(unsafe { core::slice::from_raw_parts_mut(h.data.as_ptr(), h.layout.size()) })
    }

    pub(crate) fn is_unique(&self) -> bool {
        // Acquire: what the last other owner did with the bytes happened before we write them.
        self.header().nr_refs.load(Ordering::Acquire) == 1
    }

    pub(crate) fn len(&self) -> usize {
        self.header().layout.size()
    }
}

impl Clone for Run {
    fn clone(&self) -> Self {
        let before = self.header().nr_refs.fetch_add(1, Ordering::Relaxed);
        assert!(before < usize::MAX / 2, "reference count overflow");
        Self(self.0)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.header().nr_refs.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: this was the last reference; the header came from Box::leak and data from alloc with layout.
        unsafe {
            let header = Box::from_raw(self.0.as_ptr());
            dealloc(header.data.as_ptr(), header.layout);
        }
    }
}

/// One whole page of a buffer, kept alive for as long as it is mapped somewhere.
#[derive(Clone)]
pub struct PageRef {
    pub(crate) run: Run,
    pub(crate) offset: usize,
}

impl PageRef {
    /// The page's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.run.bytes()[self.offset..self.offset + PAGE_SIZE]
    }

    /// The page's address: aligned to a page, valid while this reference lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    /// Gives the reference away as one word, for tables that know the page's address by other means.
    pub fn into_raw(self) -> NonNull<()> {
        let raw = self.run.0.cast();
        core::mem::forget(self);
        raw
    }

    /// Takes a reference back.
    ///
    /// # Safety
    /// 1. `raw` came from [`PageRef::into_raw`] of a page at the address `page`.
    /// 2. It is used once.
    pub unsafe fn from_raw(raw: NonNull<()>, page: *const u8) -> Self {
        let run = Run(raw.cast());
        let offset = page.addr() - run.header().data.addr().get();
        Self { run, offset }
    }
}

impl fmt::Debug for PageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageRef({:p})", self.as_ptr())
    }
}
