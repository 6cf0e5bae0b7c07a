//! Per-CPU caches of objects and frames: the path of nearly every allocation, without atomics.
//!
//! A cache is touched only by its CPU with pre-emption off. Before a CPU has one, requests go to the shared lists.
use super::slab::{ClassList, NR_CLASSES, Object, SIZES, SlabSource};
use crate::frames;
use core::ptr::NonNull;
use hal::addr::{PAGE_SIZE, PhysAddr};
use hal::cpu;
use rt::SpinLock;

/// Frames a CPU keeps at most.
const FRAMES_MAX: usize = 64;
/// Frames moved at once.
const FRAMES_BATCH: usize = 32;

static CLASSES: [SpinLock<ClassList>; NR_CLASSES] = {
    let mut classes = [const { SpinLock::new(ClassList::new(0)) }; NR_CLASSES];
    let mut class = 0;
    while class < NR_CLASSES {
        classes[class] = SpinLock::new(ClassList::new(class));
        class += 1;
    }
    classes
};

struct Frames;

impl SlabSource for Frames {
    fn alloc(&self, nr: usize) -> Option<NonNull<u8>> {
        let first = if nr == 1 { frames::alloc()? } else { frames::alloc_aligned(nr, nr.trailing_zeros())? };
        NonNull::new(first.to_virt())
    }

    unsafe fn free(&self, at: NonNull<u8>, nr: usize) {
        if let Some(first) = PhysAddr::of_virt(at.as_ptr() as usize) {
            // SAFETY: the caller's promise.
            unsafe { frames::free_pages(first, nr) };
        }
    }
}

#[derive(Clone, Copy)]
struct ObjectCache {
    first: Option<NonNull<Object>>,
    nr: usize,
}

struct Cache {
    objects: [ObjectCache; NR_CLASSES],
    nr_frames: usize,
    frames: [u32; FRAMES_MAX],
}

/// Objects of a class moved at once: about 4 KiB, at least 4.
const fn batch(class: usize) -> usize {
    let nr = 4096 / SIZES[class];
    if nr > 32 {
        32
    } else if nr < 4 {
        4
    } else {
        nr
    }
}

/// Gives the running CPU its cache. Without memory it goes on without.
pub fn init_this_cpu() {
    let nr_pages = size_of::<Cache>().div_ceil(PAGE_SIZE);
    if let Some(at) = frames::alloc_pages(nr_pages) {
        let cache = at.to_virt().cast::<Cache>();
        let empty = ObjectCache { first: None, nr: 0 };
        // SAFETY: the frames are ours for ever and large enough.
        unsafe { cache.write(Cache { objects: [empty; NR_CLASSES], nr_frames: 0, frames: [0; FRAMES_MAX] }) };
        cpu::set_heap_slot(cache.cast());
    }
}

/// The running CPU's cache. Pre-emption is off.
#[inline]
fn this<'a>() -> Option<&'a mut Cache> {
    // SAFETY: set by init_this_cpu; only this CPU uses it, with pre-emption off, and no two borrows overlap: the
    // functions here do not call each other while they hold one.
    unsafe { cpu::heap_slot().cast::<Cache>().as_mut() }
}

/// An object of `class`, null without memory.
#[inline]
pub(super) fn pop_object(class: usize) -> *mut u8 {
    cpu::preempt_disable();
    let object = match this() {
        Some(cache) => {
            let cache = &mut cache.objects[class];
            match cache.first {
                Some(object) => {
                    // SAFETY: cached objects are free memory of this cache.
                    cache.first = unsafe { object.as_ref().next };
                    cache.nr -= 1;
                    Some(object)
                }
                None => refill(class),
            }
        }
        None => CLASSES[class].lock().pop(&Frames),
    };
    cpu::preempt_enable();
    object.map_or(core::ptr::null_mut(), |o| o.as_ptr().cast())
}

/// Moves a batch from the shared list to the cache and one object to the caller.
#[cold]
fn refill(class: usize) -> Option<NonNull<Object>> {
    let mut first = None;
    let mut nr = 0;
    {
        let mut list = CLASSES[class].lock();
        while nr < batch(class) {
            let Some(object) = list.pop(&Frames) else { break };
            // SAFETY: a popped object is ours.
            unsafe { object.write(Object { next: first }) };
            first = Some(object);
            nr += 1;
        }
    }
    let object = first?;
    if let Some(cache) = this() {
        // SAFETY: as above.
        cache.objects[class] = ObjectCache { first: unsafe { object.as_ref().next }, nr: nr - 1 };
    }
    Some(object)
}

/// Gives an object of `class` back.
///
/// # Safety
/// It came from [`pop_object`] of this class and is nobody's any more.
#[inline]
pub(super) unsafe fn push_object(class: usize, at: *mut u8) {
    let Some(object) = NonNull::new(at.cast::<Object>()) else { return };
    cpu::preempt_disable();
    match this() {
        Some(cache) => {
            let cache = &mut cache.objects[class];
            // SAFETY: the object is ours now.
            unsafe { object.write(Object { next: cache.first }) };
            cache.first = Some(object);
            cache.nr += 1;
            if cache.nr > 2 * batch(class) {
                spill(class);
            }
        }
        // SAFETY: the caller's promise.
        None => unsafe { CLASSES[class].lock().push(object, &Frames) },
    }
    cpu::preempt_enable();
}

/// Moves a batch from the cache to the shared list.
#[cold]
fn spill(class: usize) {
    let Some(cache) = this() else { return };
    let cache = &mut cache.objects[class];
    let mut first = cache.first;
    let mut list = CLASSES[class].lock();
    for _ in 0..batch(class) {
        let Some(object) = first else { break };
        // SAFETY: cached objects are free memory of this cache, and came from this class.
        unsafe {
            first = object.as_ref().next;
            list.push(object, &FramesUncached);
        }
        cache.nr -= 1;
    }
    cache.first = first;
}

/// As [`Frames`], for use while a cache is borrowed: goes past it.
struct FramesUncached;

impl SlabSource for FramesUncached {
    fn alloc(&self, nr: usize) -> Option<NonNull<u8>> {
        NonNull::new(frames::alloc_aligned(nr, nr.trailing_zeros())?.to_virt())
    }

    unsafe fn free(&self, at: NonNull<u8>, nr: usize) {
        if let Some(first) = PhysAddr::of_virt(at.as_ptr() as usize) {
            if nr == 1 {
                frames::return_batch(&[first.pfn() as u32]);
            } else {
                // SAFETY: the caller's promise.
                unsafe { frames::free_pages(first, nr) };
            }
        }
    }
}

/// A single frame.
#[inline]
pub(crate) fn pop_frame() -> Option<usize> {
    cpu::preempt_disable();
    let pfn = match this() {
        Some(cache) if cache.nr_frames != 0 => {
            cache.nr_frames -= 1;
            Some(cache.frames[cache.nr_frames] as usize)
        }
        Some(cache) => {
            let nr = frames::take_batch(&mut cache.frames[..FRAMES_BATCH]);
            cache.nr_frames = nr.saturating_sub(1);
            (nr != 0).then(|| cache.frames[nr - 1] as usize)
        }
        None => {
            let mut one = [0];
            (frames::take_batch(&mut one) == 1).then(|| one[0] as usize)
        }
    };
    cpu::preempt_enable();
    pfn
}

/// Gives a single frame back.
#[inline]
pub(crate) fn push_frame(pfn: usize) {
    cpu::preempt_disable();
    match this() {
        Some(cache) => {
            if cache.nr_frames == FRAMES_MAX {
                cache.nr_frames -= FRAMES_BATCH;
                frames::return_batch(&cache.frames[cache.nr_frames..]);
            }
            cache.frames[cache.nr_frames] = pfn as u32;
            cache.nr_frames += 1;
        }
        None => frames::return_batch(&[pfn as u32]),
    }
    cpu::preempt_enable();
}
