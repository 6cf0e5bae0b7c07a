//! The global allocator.
//!
//! Up to [`slab::SIZE_MAX`] bytes: objects of fixed sizes from slabs, behind per-CPU caches. Above: whole frames, so
//! every page-aligned allocation of whole pages is physically contiguous and in the direct map; drivers and page
//! tables convert its address by subtraction.
//!
//! Not usable in interrupt handlers. Usable with interrupts off (a scheduler queue may grow): its locks are held for
//! a few dozen instructions and never by interrupted code on the same CPU, since a holder is not switched away from.
pub(crate) mod local;
mod slab;

#[cfg(test)]
mod tests;

use crate::frames;
use core::alloc::{GlobalAlloc, Layout};
use hal::addr::{PAGE_SIZE, PhysAddr};

pub use local::init_this_cpu;

/// The allocator; the kernel binary declares it as the global one.
#[derive(Debug)]
pub struct KernelHeap;

// SAFETY: objects come from slabs or frames that are handed out once until given back; size and alignment are those
// of the class or of whole frames, which are at least the layout's.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match slab::class_of(layout) {
            Some(class) => local::pop_object(class),
            None => alloc_pages(layout),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match slab::class_of(layout) {
            // SAFETY: the caller gives back what alloc made with this layout, hence of this class.
            Some(class) => unsafe { local::push_object(class, at) },
            // SAFETY: as above, hence whole frames.
            None => unsafe { free_pages(at, layout) },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that new_size is valid with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if fits_in_place(layout, new_layout) {
            return at;
        }
        // SAFETY: both layouts are valid; the copy stays inside both.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(at, new, layout.size().min(new_size));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

/// Whether both layouts get exactly the same memory.
fn fits_in_place(old: Layout, new: Layout) -> bool {
    match (slab::class_of(old), slab::class_of(new)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => old.size().div_ceil(PAGE_SIZE) == new.size().div_ceil(PAGE_SIZE),
        _ => false,
    }
}

#[cold]
fn alloc_pages(layout: Layout) -> *mut u8 {
    let nr = layout.size().div_ceil(PAGE_SIZE);
    let first = if layout.align() <= PAGE_SIZE {
        frames::alloc_pages(nr)
    } else {
        frames::alloc_aligned(nr, (layout.align() / PAGE_SIZE).trailing_zeros())
    };
    first.map_or(core::ptr::null_mut(), PhysAddr::to_virt)
}

/// # Safety
/// `at` came from [`alloc_pages`] with this layout and is nobody's any more.
#[cold]
unsafe fn free_pages(at: *mut u8, layout: Layout) {
    if let Some(first) = PhysAddr::of_virt(at as usize) {
        // SAFETY: the caller's promise.
        unsafe { frames::free_pages(first, layout.size().div_ceil(PAGE_SIZE)) };
    }
}
