//! The kernel's half: one set of tables below entries 256..512 of every root.
//!
//! Top-level entries are made before the first application space and never change afterwards, because every root
//! holds a copy; tables below them are shared and may grow at any time.
use super::{MapError, OutOfMemory, PteFlags, PteValue, walk};
use crate::addr::{DIRECT_MAP, IMAGE_BASE, LARGE_PAGE_SIZE, PAGE_SIZE, PhysAddr, STACK_AREA};
use core::sync::atomic::{AtomicU64, Ordering};

/// The root in use since boot, and of CPUs without an application.
static ROOT: AtomicU64 = AtomicU64::new(0);

/// Takes over the tables the entry code built.
///
/// # Safety
/// `root` is the active root; called once at boot.
pub unsafe fn adopt(root: PhysAddr) {
    ROOT.store(root.0, Ordering::Release);
}

/// The kernel's own root.
pub fn root() -> PhysAddr {
    PhysAddr(ROOT.load(Ordering::Acquire))
}

/// Removes the identity map of the boot code and makes the top-level entries for good. Call with a heap, before the
/// first [`super::PageTable`].
///
/// # Errors
/// No memory.
///
/// # Safety
/// Nothing uses low addresses any more, no other CPU is starting.
pub unsafe fn seal() -> Result<(), OutOfMemory> {
    walk::entry_or_create(root(), STACK_AREA, 3)?;
    walk::clear_lower_half(root());
    crate::tlb::flush_all_local();
    Ok(())
}

pub(super) fn copy_upper_half(to: PhysAddr) {
    let from = root();
    if from.0 != 0 {
        walk::copy_upper_half(from, to);
    }
}

/// Maps a page in the kernel's half below an existing top-level entry.
///
/// # Errors
/// [`MapError`].
pub fn map(virt: usize, at: PhysAddr, flags: PteFlags) -> Result<(), MapError> {
    let entry = walk::entry_or_create(root(), virt, 1)?.ok_or(MapError::Occupied)?;
    let value = PteValue::new(at, flags | PteFlags::PRESENT | PteFlags::GLOBAL);
    entry.compare_exchange(PteValue::EMPTY, value).map_err(|_| MapError::Occupied)
}

/// Takes away a page of the kernel's half; the caller flushes all CPUs before it reuses the frame or the address.
pub fn unmap(virt: usize) -> Option<PhysAddr> {
    let (entry, level) = walk::find(root(), virt)?;
    let old = if level == 1 { entry.swap(PteValue::EMPTY) } else { PteValue::EMPTY };
    old.is_present().then(|| old.address())
}

/// Extends the direct map over RAM `[start, end)`, cached, with large pages. Parts mapped already are left alone.
///
/// # Errors
/// No memory for tables.
pub fn map_ram(start: PhysAddr, end: PhysAddr) -> Result<(), OutOfMemory> {
    map_direct(start, end, PteFlags::WRITABLE | PteFlags::GLOBAL | PteFlags::NO_EXEC)
}

/// Maps device memory uncached into the direct map; its address there.
///
/// # Errors
/// No memory for tables.
pub fn map_device(at: PhysAddr, len: usize) -> Result<*mut u8, OutOfMemory> {
    let flags = PteFlags::WRITABLE
        | PteFlags::GLOBAL
        | PteFlags::NO_EXEC
        | PteFlags::NO_CACHE
        | PteFlags::WRITE_THROUGH;
    let size = LARGE_PAGE_SIZE as u64;
    let end = (at.0 + len as u64).next_multiple_of(size);
    map_direct(PhysAddr(at.0 & !(size - 1)), PhysAddr(end), flags)?;
    Ok(at.to_virt())
}

fn map_direct(start: PhysAddr, end: PhysAddr, flags: PteFlags) -> Result<(), OutOfMemory> {
    let mut at = start.0 & !(LARGE_PAGE_SIZE as u64 - 1);
    while at < end.0 {
        let virt = DIRECT_MAP + at as usize;
        if let Some(entry) = walk::entry_or_create(root(), virt, 2)? {
            let value = PteValue::new(PhysAddr(at), flags | PteFlags::PRESENT | PteFlags::LARGE);
            // Occupied: mapped before.
            let _ = entry.compare_exchange(PteValue::EMPTY, value);
        }
        at += LARGE_PAGE_SIZE as u64;
    }
    Ok(())
}

/// Marks the boot map's large pages in `[start, end)` as device memory, if they hold no RAM.
pub fn uncache_direct(start: PhysAddr, end: PhysAddr) {
    let size = LARGE_PAGE_SIZE as u64;
    let mut at = start.0.next_multiple_of(size);
    while at + size <= end.0 {
        if let Some((entry, 2)) = walk::find(root(), DIRECT_MAP + at as usize) {
            entry.update(PteFlags::NO_CACHE | PteFlags::WRITE_THROUGH | PteFlags::NO_EXEC, PteFlags::empty());
        }
        at += size;
    }
}

/// Whether `virt` can be read. Used while reporting a panic: takes no lock.
pub fn is_mapped(virt: usize) -> bool {
    walk::find(root(), virt).is_some_and(|(entry, _)| entry.load().is_present())
}

/// Forbids execution in the direct map's part `[0, end)`: the image runs at its own place. Call when no other CPU is
/// starting any more.
pub fn forbid_direct_execution(end: PhysAddr) {
    let mut at = 0;
    while at < end.0 {
        if let Some((entry, 2)) = walk::find(root(), DIRECT_MAP + at as usize) {
            entry.update(PteFlags::NO_EXEC | PteFlags::GLOBAL, PteFlags::empty());
        }
        at += LARGE_PAGE_SIZE as u64;
    }
}

/// Sets the final protection of the kernel image's pages `[start, end)` (addresses in the image's window).
///
/// # Errors
/// No memory.
pub fn protect_image(start: usize, end: usize, flags: PteFlags) -> Result<(), OutOfMemory> {
    debug_assert!(start >= IMAGE_BASE);
    let mut virt = start & !(PAGE_SIZE - 1);
    while virt < end {
        walk::split_large(root(), virt)?;
        if let Some((entry, 1)) = walk::find(root(), virt) {
            let clear = PteFlags::WRITABLE | PteFlags::NO_EXEC;
            entry.update(flags | PteFlags::GLOBAL, clear - flags);
        }
        virt += PAGE_SIZE;
    }
    Ok(())
}
