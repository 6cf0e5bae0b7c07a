//! Physical frames: a buddy allocator behind per-CPU caches of single frames.
//!
//! One byte of state per frame; the links of free blocks lie in the blocks themselves, reached through the direct
//! map. Blocks larger than a frame and cache refills take one lock for a few dozen instructions.
//!
//! Frames handed out are not zeroed unless asked for. Nothing here is called from interrupt handlers.
mod buddy;

#[cfg(test)]
mod tests;

use crate::heap::local;
use buddy::{Buddy, Links};
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use hal::addr::{DIRECT_MAP, LARGE_PAGE_SIZE, PAGE_SIZE, PhysAddr};
use rt::SpinLock;

/// Order of a 2 MiB block.
const LARGE_ORDER: u32 = (LARGE_PAGE_SIZE / PAGE_SIZE).trailing_zeros();

static BUDDY: SpinLock<Option<Buddy>> = SpinLock::new(None);
static NR_TOTAL: AtomicUsize = AtomicUsize::new(0);
/// Free frames in the buddy allocator, caches not counted.
static NR_FREE: AtomicUsize = AtomicUsize::new(0);
static PFN_END: AtomicUsize = AtomicUsize::new(0);
/// Below this many free frames the pressure hook is called.
static LOW_MARK: AtomicUsize = AtomicUsize::new(0);
/// A `fn() -> bool`.
static EXHAUSTION: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// A `fn(usize)`.
static PRESSURE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Sets up the allocator for frames below `pfn_end` with the given free ranges, all mapped already. The state array
/// is taken out of the first range that holds it. More ranges may follow through [`add`].
///
/// # Panics
/// No range is large enough: there is no machine to run on.
///
/// # Safety
/// Called once; the ranges are RAM that nobody uses.
pub unsafe fn init(ranges: &[Range<u64>], pfn_end: usize) {
    let links_at = (pfn_end as u64).next_multiple_of(align_of::<Links>() as u64);
    let nr_links = buddy::nr_top_links(pfn_end);
    let len = links_at + (nr_links * size_of::<Links>()) as u64;
    let aligned = |r: &Range<u64>| r.start.next_multiple_of(PAGE_SIZE as u64)..r.end;
    let home = ranges.iter().map(aligned).find(|r| r.end.saturating_sub(r.start) > len + PAGE_SIZE as u64);
    let Some(home) = home else { panic!("not enough memory for the frame table") };
    let state_at = PhysAddr(home.start);
    // SAFETY: the range is free and mapped, and from here on only the allocator's.
    let (state, links) = unsafe {
        let at = state_at.to_virt();
        core::ptr::write_bytes(at, buddy::NOT_FREE, len as usize);
        let links = at.add(links_at as usize).cast::<Links>();
        (core::slice::from_raw_parts_mut(at, pfn_end), core::slice::from_raw_parts_mut(links, nr_links))
    };
    PFN_END.store(pfn_end, Ordering::Relaxed);
    *BUDDY.lock() = Some(Buddy::new(DIRECT_MAP as *mut u8, state, links));
    let table_end = (home.start + len).next_multiple_of(PAGE_SIZE as u64);
    for range in ranges {
        let is_home = range.contains(&home.start);
        // SAFETY: the caller's promise, less the table.
        unsafe { add(if is_home { table_end..range.end } else { range.clone() }) };
    }
}

/// Adds the whole frames of a free range, mapped already and below the `pfn_end` of [`init`].
///
/// # Safety
/// The range is RAM that nobody uses, added once.
pub unsafe fn add(range: Range<u64>) {
    let start = range.start.div_ceil(PAGE_SIZE as u64) as usize;
    let end = (range.end / PAGE_SIZE as u64) as usize;
    let end = end.min(pfn_end());
    if start < end {
        with_buddy(|buddy| buddy.free_range(start, end - start));
        NR_TOTAL.fetch_add(end - start, Ordering::Relaxed);
        // 1/32 of memory, at most 32 MiB: enough for what is in flight while someone reclaims.
        LOW_MARK.store((nr_total() / 32).min(8192), Ordering::Relaxed);
    }
}

fn with_buddy<R: Default>(f: impl FnOnce(&mut Buddy) -> R) -> R {
    let mut guard = BUDDY.lock();
    let Some(buddy) = guard.as_mut() else { return R::default() };
    let result = f(buddy);
    NR_FREE.store(buddy.nr_free(), Ordering::Relaxed);
    result
}

/// Frames of RAM that were ever handed to the allocator.
pub fn nr_total() -> usize {
    NR_TOTAL.load(Ordering::Relaxed)
}

/// Free frames, those in per-CPU caches not counted.
pub fn nr_free() -> usize {
    NR_FREE.load(Ordering::Relaxed)
}

/// One more than the highest frame number: the length of arrays by frame number.
pub fn pfn_end() -> usize {
    PFN_END.load(Ordering::Relaxed)
}

/// Registers what is called, with the number of free frames, when memory gets low: in the allocating thread, under
/// whatever it holds, so it may only wake someone.
pub fn set_pressure_hook(hook: fn(usize)) {
    PRESSURE.store(hook as *mut (), Ordering::Release);
}

/// Registers what an allocation calls that found nothing and may block: it may free memory or wait for someone to,
/// and says whether to try again.
pub fn set_exhaustion_hook(hook: fn() -> bool) {
    EXHAUSTION.store(hook as *mut (), Ordering::Release);
}

/// Free frames below which the pressure hook is called.
pub fn low_mark() -> usize {
    LOW_MARK.load(Ordering::Relaxed)
}

/// Repeats an allocation while the exhaustion hook helps. What holds a spin lock or runs with interrupts off cannot
/// wait and gets what there is.
fn persist<T>(allocate: impl Fn() -> Option<T>) -> Option<T> {
    /// Bounded: the waiting thread may itself hold what the helper needs.
    const ATTEMPTS_MAX: usize = 50;
    let first = allocate();
    let may_wait = || hal::cpu::preempt_count() == 0 && hal::io::interrupts_enabled();
    if first.is_some() || !may_wait() {
        return first;
    }
    let hook = EXHAUSTION.load(Ordering::Acquire);
    if hook.is_null() {
        return None;
    }
    // SAFETY: stored by set_exhaustion_hook from a function of this type.
    let hook: fn() -> bool = unsafe { core::mem::transmute(hook) };
    (0..ATTEMPTS_MAX).take_while(|_| hook()).find_map(|_| allocate())
}

fn check_pressure() {
    let nr_free = nr_free();
    if nr_free < LOW_MARK.load(Ordering::Relaxed) {
        let hook = PRESSURE.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: stored by set_pressure_hook from a function of this type.
            let hook: fn(usize) = unsafe { core::mem::transmute(hook) };
            hook(nr_free);
        }
    }
}

/// A frame.
pub fn alloc() -> Option<PhysAddr> {
    persist(local::pop_frame).map(PhysAddr::from_pfn)
}

/// A frame of zeroes.
pub fn alloc_zeroed() -> Option<PhysAddr> {
    let frame = alloc()?;
    // SAFETY: the frame is ours and mapped.
    unsafe { core::ptr::write_bytes(frame.to_virt(), 0, PAGE_SIZE) };
    Some(frame)
}

/// 2 MiB, aligned.
pub fn alloc_huge() -> Option<PhysAddr> {
    // Without waiting: whoever wants a large page can do with small ones.
    with_buddy(|buddy| buddy.alloc_range(LARGE_PAGE_SIZE / PAGE_SIZE, LARGE_ORDER)).map(PhysAddr::from_pfn)
}

/// `nr` contiguous frames.
pub fn alloc_pages(nr: usize) -> Option<PhysAddr> {
    if nr == 1 { alloc() } else { alloc_aligned(nr, 0) }
}

/// `nr` contiguous frames, the first at a multiple of `1 << order`.
pub(crate) fn alloc_aligned(nr: usize, order: u32) -> Option<PhysAddr> {
    let pfn = persist(|| with_buddy(|buddy| buddy.alloc_range(nr, order)));
    check_pressure();
    pfn.map(PhysAddr::from_pfn)
}

/// Gives back what [`alloc`] or [`alloc_zeroed`] handed out.
///
/// # Safety
/// The frame is nobody's any more.
pub unsafe fn free(frame: PhysAddr) {
    local::push_frame(frame.pfn());
}

/// Gives back what [`alloc_huge`] handed out, or 512 frames of it one by one through [`free`].
///
/// # Safety
/// As for [`free`].
pub unsafe fn free_huge(frame: PhysAddr) {
    with_buddy(|buddy| buddy.free_range(frame.pfn(), LARGE_PAGE_SIZE / PAGE_SIZE));
}

/// Gives back what [`alloc_pages`] handed out; also in parts.
///
/// # Safety
/// As for [`free`].
pub unsafe fn free_pages(first: PhysAddr, nr: usize) {
    if nr == 1 {
        local::push_frame(first.pfn());
    } else {
        with_buddy(|buddy| buddy.free_range(first.pfn(), nr));
    }
}

/// Fills `into` with single frames; how many there were. Neighbours if possible, the lowest last: taken from the end
/// and given back in the order they were used, they are neighbours again.
pub(crate) fn take_batch(into: &mut [u32]) -> usize {
    let nr = with_buddy(|buddy| {
        if let Some(first) = buddy.alloc_range(into.len(), 0) {
            into.iter_mut().rev().zip(first as u32..).for_each(|(slot, pfn)| *slot = pfn);
            return into.len();
        }
        let mut nr = 0;
        while let Some(slot) = into.get_mut(nr) {
            let Some(pfn) = buddy.alloc_range(1, 0) else { break };
            *slot = pfn as u32;
            nr += 1;
        }
        nr
    });
    check_pressure();
    nr
}

/// Gives single frames back, neighbours together.
pub(crate) fn return_batch(from: &[u32]) {
    with_buddy(|buddy| {
        let mut rest = from;
        while let Some(&first) = rest.first() {
            let nr = 1 + rest.windows(2).take_while(|pair| pair[0].checked_add(1) == Some(pair[1])).count();
            buddy.free_range(first as usize, nr);
            rest = &rest[nr..];
        }
    });
}
