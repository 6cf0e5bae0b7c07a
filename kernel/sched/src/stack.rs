//! Kernel stacks: mapped one by one into their own area, each above an unmapped guard.
//!
//! Invariant: a stack is mapped from its creation on; an interrupt frame may be pushed at any moment. Free stacks
//! keep their mapping and wait in a cache, because unmapping means interrupting every CPU.
use crate::lock::IrqLock;
use crate::thread::OutOfMemory;
use alloc::alloc::{Layout, alloc, dealloc};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use hal::addr::{PAGE_SIZE, PhysAddr, STACK_AREA};
use hal::paging::{PteFlags, kernel};

/// Usable bytes of a kernel stack. Unoptimised code needs more.
pub const STACK_SIZE: usize = if cfg!(debug_assertions) { 60 << 10 } else { 48 << 10 };
/// Distance between stacks; the difference is the guard.
const SLOT_SIZE: usize = 64 << 10;
/// Most stacks ever, 4 GiB of addresses.
const SLOTS_MAX: usize = 1 << 16;
/// Free stacks kept mapped.
const CACHED_MAX: usize = 64;

const _: () = assert!(STACK_SIZE + PAGE_SIZE <= SLOT_SIZE, "a guard page at least");

/// A mapped stack, identified by the address past its last byte.
#[derive(Debug)]
pub(crate) struct Stack {
    top: usize,
}

/// Free stacks, linked through the word below each top.
struct Cache {
    first: usize,
    nr_cached: usize,
}

static CACHE: IrqLock<Cache> = IrqLock::new(Cache { first: 0, nr_cached: 0 });
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);
/// Slots whose memory was given back.
static FREE_SLOTS: IrqLock<Vec<usize>> = IrqLock::new(Vec::new());

const PAGE_LAYOUT: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a valid layout"),
};

impl Stack {
    /// A stack from the cache, or a new one.
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        if let Some(stack) = Self::from_cache() {
            return Ok(stack);
        }
        let slot = free_slot()?;
        let top = STACK_AREA + (slot + 1) * SLOT_SIZE;
        let stack = Self { top };
        let flags = PteFlags::WRITABLE | PteFlags::NO_EXEC;
        for n in 1..=STACK_SIZE / PAGE_SIZE {
            // SAFETY: the size is not zero.
            let page = unsafe { alloc(PAGE_LAYOUT) };
            let at = PhysAddr::of_virt(page as usize).filter(|_| !page.is_null());
            let is_mapped = at.is_some_and(|at| kernel::map(top - n * PAGE_SIZE, at, flags).is_ok());
            if !is_mapped {
                unmap_pages(top, n - 1);
                FREE_SLOTS.lock().push(slot);
                return Err(OutOfMemory);
            }
        }
        Ok(stack)
    }

    fn from_cache() -> Option<Self> {
        let mut cache = CACHE.lock();
        if cache.first == 0 {
            return None;
        }
        let top = cache.first;
        // SAFETY: cached stacks are mapped and nobody uses them.
        cache.first = unsafe { *((top - 8) as *const usize) };
        cache.nr_cached -= 1;
        Some(Self { top })
    }

    /// Address past the last byte, 16-aligned.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// Gives the stack back; callable with interrupts off. Nobody runs on it any more.
    pub(crate) fn recycle(self) {
        let mut cache = CACHE.lock();
        // SAFETY: the stack is mapped and ours.
        unsafe { *((self.top - 8) as *mut usize) = cache.first };
        cache.first = self.top;
        cache.nr_cached += 1;
    }
}

fn free_slot() -> Result<usize, OutOfMemory> {
    if let Some(slot) = FREE_SLOTS.lock().pop() {
        return Ok(slot);
    }
    let slot = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
    if slot < SLOTS_MAX { Ok(slot) } else { Err(OutOfMemory) }
}

/// Frees the memory of cached stacks beyond the limit. Blocks on other CPUs: thread context, interrupts on.
pub(crate) fn trim_cache() {
    loop {
        let is_over = CACHE.lock().nr_cached > CACHED_MAX;
        let Some(stack) = is_over.then(Stack::from_cache).flatten() else { return };
        unmap_pages(stack.top, STACK_SIZE / PAGE_SIZE);
        FREE_SLOTS.lock().push((stack.top - STACK_AREA) / SLOT_SIZE - 1);
    }
}

/// Unmaps the topmost `nr_pages` of a stack, makes every CPU forget them, frees them.
fn unmap_pages(top: usize, nr_pages: usize) {
    let mut pages = [PhysAddr(0); STACK_SIZE / PAGE_SIZE];
    for (n, page) in pages.iter_mut().enumerate().take(nr_pages) {
        *page = kernel::unmap(top - (n + 1) * PAGE_SIZE).unwrap_or_default();
    }
    hal::tlb::flush_kernel_range(top - nr_pages * PAGE_SIZE..top);
    for page in pages.into_iter().take(nr_pages) {
        if page != PhysAddr(0) {
            // SAFETY: allocated in Stack::new with this layout, and no longer mapped as a stack anywhere.
            unsafe { dealloc(page.to_virt(), PAGE_LAYOUT) };
        }
    }
}
