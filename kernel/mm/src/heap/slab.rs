//! Slabs: aligned blocks of frames cut into objects of one size, and the lists of those with free objects.
//!
//! A slab's header lies at its start, so the header of an object is found by rounding its address down. A slab whose
//! objects are all free goes back to the frames, unless it is the only one of its class with free objects: a
//! program that allocates and frees one object in turns must not pay for a slab each time.
use core::alloc::Layout;
use core::ptr::NonNull;
use hal::addr::PAGE_SIZE;

/// Object sizes. Powers of two are aligned to themselves, the others to 16, 32, 64 or 128.
pub(super) const SIZES: [usize; 15] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1280, 1536, 2048];
/// Larger layouts get whole frames.
pub(super) const SIZE_MAX: usize = 2048;
pub(super) const NR_CLASSES: usize = SIZES.len();
/// Granularity of the lookup table.
const STEP: usize = 16;

/// Class by size in steps of 16 bytes, rounded up.
static CLASS_BY_STEP: [u8; SIZE_MAX / STEP + 1] = {
    let mut table = [0; SIZE_MAX / STEP + 1];
    let mut step = 0;
    while step < table.len() {
        let mut class = 0;
        while SIZES[class] < step * STEP {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

/// The class for a layout; `None` for whole frames.
#[inline]
pub(super) fn class_of(layout: Layout) -> Option<usize> {
    let size = if layout.align() <= STEP {
        layout.size()
    } else {
        // The next power of two that is at least the alignment is aligned to it.
        layout.size().max(layout.align()).next_power_of_two()
    };
    (size <= SIZE_MAX).then(|| usize::from(CLASS_BY_STEP[size.div_ceil(STEP)]))
}

/// Bytes of a slab of `class`: at least a dozen objects.
pub(super) const fn slab_size(class: usize) -> usize {
    match SIZES[class] {
        0..=256 => PAGE_SIZE,
        257..=768 => 2 * PAGE_SIZE,
        _ => 8 * PAGE_SIZE,
    }
}

/// A free object.
#[repr(C)]
pub(super) struct Object {
    pub(super) next: Option<NonNull<Object>>,
}

/// At the start of a slab.
#[repr(C)]
struct Slab {
    next: Option<NonNull<Slab>>,
    previous: Option<NonNull<Slab>>,
    free: Option<NonNull<Object>>,
    nr_free: usize,
}

/// The slabs of one class that have free objects.
pub(super) struct ClassList {
    class: usize,
    first: Option<NonNull<Slab>>,
}

// SAFETY: the slabs belong to the list.
unsafe impl Send for ClassList {}

/// Frames for slabs, so that tests need no machine.
pub(super) trait SlabSource {
    /// `nr` frames aligned to as much.
    fn alloc(&self, nr: usize) -> Option<NonNull<u8>>;
    /// # Safety
    /// `at` came from `alloc` with this `nr`.
    unsafe fn free(&self, at: NonNull<u8>, nr: usize);
}

fn first_offset(class: usize) -> usize {
    let size = SIZES[class];
    let align = 1 << size.trailing_zeros();
    size_of::<Slab>().next_multiple_of(align)
}

fn nr_objects(class: usize) -> usize {
    (slab_size(class) - first_offset(class)) / SIZES[class]
}

impl ClassList {
    pub(super) const fn new(class: usize) -> Self {
        Self { class, first: None }
    }

    /// Takes an object.
    pub(super) fn pop(&mut self, source: &impl SlabSource) -> Option<NonNull<Object>> {
        let mut slab = match self.first {
            Some(slab) => slab,
            None => self.add_slab(source)?,
        };
        // SAFETY: slabs in the list are live and ours, and have a free object.
        unsafe {
            let slab_ref = slab.as_mut();
            let object = slab_ref.free?;
            slab_ref.free = object.as_ref().next;
            slab_ref.nr_free -= 1;
            if slab_ref.nr_free == 0 {
                self.unlink(slab);
            }
            Some(object)
        }
    }

    /// Gives an object back.
    ///
    /// # Safety
    /// It came from [`ClassList::pop`] of this list and is nobody's any more.
    pub(super) unsafe fn push(&mut self, object: NonNull<Object>, source: &impl SlabSource) {
        let size = slab_size(self.class);
        let offset = object.as_ptr() as usize & (size - 1);
        // SAFETY: slabs are aligned to their size and the object lies in a live one of ours.
        unsafe {
            let mut slab: NonNull<Slab> = object.cast::<u8>().sub(offset).cast();
            object.write(Object { next: slab.as_ref().free });
            slab.as_mut().free = Some(object);
            slab.as_mut().nr_free += 1;
            let nr_free = slab.as_ref().nr_free;
            if nr_free == 1 {
                self.link(slab);
            }
            let is_only = slab.as_ref().next.is_none() && slab.as_ref().previous.is_none();
            if nr_free == nr_objects(self.class) && !is_only {
                self.unlink(slab);
                source.free(slab.cast(), size / PAGE_SIZE);
            }
        }
    }

    fn add_slab(&mut self, source: &impl SlabSource) -> Option<NonNull<Slab>> {
        let at = source.alloc(slab_size(self.class) / PAGE_SIZE)?;
        let nr_free = nr_objects(self.class);
        let mut free = None;
        for n in (0..nr_free).rev() {
            // SAFETY: the object lies inside the new slab; sizes are multiples of 16.
            unsafe {
                let object: NonNull<Object> = at.add(first_offset(self.class) + n * SIZES[self.class]).cast();
                object.write(Object { next: free });
                free = Some(object);
            }
        }
        let slab: NonNull<Slab> = at.cast();
        // SAFETY: the header lies inside the new slab.
        unsafe {
            slab.write(Slab { next: None, previous: None, free, nr_free });
            self.link(slab);
        }
        Some(slab)
    }

    /// # Safety
    /// `slab` is live and in no list.
    unsafe fn link(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: the caller's promise; the first of the list is live.
        unsafe {
            slab.as_mut().previous = None;
            slab.as_mut().next = self.first;
            if let Some(mut next) = self.first {
                next.as_mut().previous = Some(slab);
            }
        }
        self.first = Some(slab);
    }

    /// # Safety
    /// `slab` is in this list.
    unsafe fn unlink(&mut self, mut slab: NonNull<Slab>) {
        // SAFETY: the neighbours are live members of the list.
        unsafe {
            let (next, previous) = (slab.as_ref().next, slab.as_ref().previous);
            match previous {
                Some(mut previous) => previous.as_mut().next = next,
                None => self.first = next,
            }
            if let Some(mut next) = next {
                next.as_mut().previous = previous;
            }
            slab.as_mut().next = None;
            slab.as_mut().previous = None;
        }
    }
}
