//! The machine itself.
use crate::frames;
use crate::space::pages::PageInfo;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};
use hal::addr::PhysAddr;
use hal::{paging, tlb};
use rt::Once;

/// Frames per piece of the information table: it grows where frames are used by applications.
const PIECE: usize = 4096;

static INFO: Once<Vec<AtomicPtr<PageInfo>>> = Once::new();
static ZERO: Once<u64> = Once::new();
/// Large pages are given out only while more than this share of all frames is free.
const AMPLE_DIVISOR: usize = 4;

/// A zeroed frame.
pub(crate) fn alloc_zeroed() -> Option<u64> {
    frames::alloc_zeroed().map(|at| at.0)
}

/// A frame with unspecified content.
pub(crate) fn alloc() -> Option<u64> {
    frames::alloc().map(|at| at.0)
}

/// A zeroed 2 MiB page, while memory is ample.
pub(crate) fn alloc_large_zeroed() -> Option<u64> {
    if frames::nr_free() < frames::nr_total() / AMPLE_DIVISOR {
        return None;
    }
    let at = frames::alloc_huge()?;
    // SAFETY: the frames are ours and mapped.
    unsafe { core::ptr::write_bytes(at.to_virt(), 0, hal::addr::LARGE_PAGE_SIZE) };
    Some(at.0)
}

/// Gives a frame back.
pub(crate) fn free(frame: u64) {
    // SAFETY: page tables and counted frames are freed once, by whoever held the last reference.
    unsafe { frames::free(PhysAddr(frame)) };
}

/// Where a frame is in the direct map.
pub(crate) fn phys_to_virt(frame: u64) -> *mut u8 {
    PhysAddr(frame).to_virt()
}

/// The frame behind an address of the heap.
pub(crate) fn virt_to_phys(at: *const u8) -> u64 {
    PhysAddr::of_virt(at.addr()).map_or(0, |at| at.0)
}

/// The frame of zeroes that every untouched page reads.
pub(crate) fn zero_frame() -> u64 {
    *ZERO.get_or_init(|| frames::alloc_zeroed().map_or(0, |at| at.0))
}

/// What is known of a frame.
pub(crate) fn info(frame: u64) -> &'static PageInfo {
    let pfn = PhysAddr(frame).pfn();
    let all = INFO.get_or_init(|| {
        let nr_pieces = frames::pfn_end().div_ceil(PIECE);
        (0..nr_pieces).map(|_| AtomicPtr::new(core::ptr::null_mut())).collect()
    });
    let slot = &all[pfn / PIECE];
    let mut piece = slot.load(Ordering::Acquire);
    if piece.is_null() {
        piece = make_piece(slot);
    }
    // SAFETY: a piece is a leaked array of PIECE entries.
    unsafe { &*piece.add(pfn % PIECE) }
}

#[cold]
fn make_piece(slot: &AtomicPtr<PageInfo>) -> *mut PageInfo {
    let fresh: Box<[PageInfo]> = (0..PIECE).map(|_| PageInfo::new()).collect();
    let fresh = Box::into_raw(fresh).cast::<PageInfo>();
    match slot.compare_exchange(core::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(other) => {
            let all = core::ptr::slice_from_raw_parts_mut(fresh, PIECE);
            // SAFETY: made above, never published.
            drop(unsafe { Box::from_raw(all) });
            other
        }
    }
}

/// Copies the kernel's half into a new root.
pub(crate) fn copy_kernel_half(root: u64) {
    const HALF: usize = 256;
    let from = paging::kernel::root().to_virt().cast::<u64>();
    // SAFETY: both are root tables of 512 entries; the kernel's upper half is complete and constant once processes
    // exist, and the new root is not in use yet.
    unsafe {
        let to = phys_to_virt(root).cast::<u64>();
        core::ptr::copy_nonoverlapping(from.add(HALF), to.add(HALF), HALF);
    }
}

/// Forgets translations of a space on every CPU.
pub(crate) fn flush(root: u64, start: u64, end: u64) {
    tlb::flush_range(PhysAddr(root), start as usize..end as usize);
}

/// Forgets one translation on this CPU.
pub(crate) fn flush_local(page: u64) {
    tlb::flush_page_local(page as usize);
}

/// Makes CPUs that still have a dead space's tables loaded let go of them.
pub(crate) fn evict(root: u64) {
    tlb::evict(PhysAddr(root));
}
