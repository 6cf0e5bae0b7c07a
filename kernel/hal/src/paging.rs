//! Page tables.
//!
//! A [`PageTable`] is one root: its lower half is its own, its upper half is copied from the kernel's when it is made,
//! so the kernel's top-level entries must all exist by then (see [`kernel`]). It owns the table pages of the lower
//! half, never the frames mapped by leaves.
//!
//! Entries are atomics and every change is one store or compare-exchange, so that faults on different pages of one
//! space proceed without a lock. Table pages are freed only when the whole table is dropped or through
//! [`PageTable::prune`], which needs exclusive access: a walker must never stand in a freed page.
//!
//! Nothing here flushes a TLB: callers batch and call [`crate::tlb`].
pub mod kernel;
mod walk;

#[cfg(test)]
mod tests;

use crate::addr::{LARGE_PAGE_SIZE, PAGE_SIZE, PhysAddr};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

bitflags::bitflags! {
    /// Bits of an entry. The user bit is never set: applications run in ring 0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PteFlags: u64 {
        /// The entry maps something.
        const PRESENT = 1;
        /// Writes are allowed (CR0.WP is on: for ring 0 too).
        const WRITABLE = 1 << 1;
        /// Writes go through the cache.
        const WRITE_THROUGH = 1 << 3;
        /// Not cached: device memory.
        const NO_CACHE = 1 << 4;
        /// Set by the CPU on access.
        const ACCESSED = 1 << 5;
        /// Set by the CPU on write.
        const DIRTY = 1 << 6;
        /// In a level-2 entry: maps 2 MiB.
        const LARGE = 1 << 7;
        /// Survives a change of CR3.
        const GLOBAL = 1 << 8;
        /// Free for software.
        const SOFT_0 = 1 << 9;
        /// Free for software.
        const SOFT_1 = 1 << 10;
        /// Free for software.
        const SOFT_2 = 1 << 11;
        /// No instruction fetch.
        const NO_EXEC = 1 << 63;
    }
}

const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: usize = 512;

/// No memory for a table page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// Why a page was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No memory for a table page.
    OutOfMemory,
    /// Something is mapped there.
    Occupied,
}

impl From<OutOfMemory> for MapError {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

/// One entry of a table.
#[derive(Debug)]
#[repr(transparent)]
pub struct Pte(AtomicU64);

/// An entry's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PteValue(pub u64);

impl PteValue {
    /// Maps nothing; software bits may still mean something to their owner.
    pub const EMPTY: Self = Self(0);

    /// Maps `at` with `flags`.
    pub const fn new(at: PhysAddr, flags: PteFlags) -> Self {
        Self(at.0 & ADDRESS_MASK | flags.bits())
    }

    /// The flags.
    pub const fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate(self.0)
    }

    /// Whether it maps something.
    pub const fn is_present(self) -> bool {
        self.0 & 1 != 0
    }

    /// The address it maps.
    pub const fn address(self) -> PhysAddr {
        PhysAddr(self.0 & ADDRESS_MASK)
    }
}

impl Pte {
    /// The value.
    pub fn load(&self) -> PteValue {
        PteValue(self.0.load(Ordering::Acquire))
    }

    /// Replaces the value; what it was, with accessed and dirty bits as the CPU left them.
    pub fn swap(&self, value: PteValue) -> PteValue {
        PteValue(self.0.swap(value.0, Ordering::AcqRel))
    }

    /// Replaces the value if it is `current`.
    ///
    /// # Errors
    /// The value it is instead.
    pub fn compare_exchange(&self, current: PteValue, new: PteValue) -> Result<(), PteValue> {
        let outcome = self.0.compare_exchange(current.0, new.0, Ordering::AcqRel, Ordering::Acquire);
        outcome.map(drop).map_err(PteValue)
    }

    /// Sets and clears flags in one step; what it was.
    pub fn update(&self, set: PteFlags, clear: PteFlags) -> PteValue {
        let changed = |old: u64| Some((old | set.bits()) & !clear.bits());
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed) {
            Ok(old) | Err(old) => PteValue(old),
        }
    }
}

/// What is mapped at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address it covers.
    pub virt: usize,
    /// Where.
    pub phys: PhysAddr,
    /// How.
    pub flags: PteFlags,
    /// Bytes: 4 KiB or 2 MiB.
    pub size: usize,
}

/// A root with its lower half.
#[derive(Debug)]
pub struct PageTable {
    root: PhysAddr,
}

impl PageTable {
    /// An empty lower half under the kernel's upper half.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> Result<Self, OutOfMemory> {
        let root = allocate_table()?;
        kernel::copy_upper_half(root);
        Ok(Self { root })
    }

    /// What goes into CR3.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// The entry for the 4 KiB page at `virt`, with all tables above it made; `None` where a large page is mapped.
    ///
    /// # Errors
    /// No memory for a table.
    pub fn entry_or_create(&self, virt: usize) -> Result<Option<&Pte>, OutOfMemory> {
        walk::entry_or_create(self.root, virt, 1)
    }

    /// The entry for the 4 KiB page at `virt`, if its tables exist and no large page covers it.
    pub fn entry(&self, virt: usize) -> Option<&Pte> {
        walk::find(self.root, virt).and_then(|(entry, level)| (level == 1).then_some(entry))
    }

    /// The level-2 entry for the 2 MiB at `virt`, with the tables above it made.
    ///
    /// # Errors
    /// No memory for a table.
    pub fn large_entry_or_create(&self, virt: usize) -> Result<Option<&Pte>, OutOfMemory> {
        walk::entry_or_create(self.root, virt, 2)
    }

    /// Maps a 4 KiB page where nothing is mapped.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map(&self, virt: usize, at: PhysAddr, flags: PteFlags) -> Result<(), MapError> {
        let entry = self.entry_or_create(virt)?.ok_or(MapError::Occupied)?;
        let value = PteValue::new(at, flags | PteFlags::PRESENT);
        entry.compare_exchange(PteValue::EMPTY, value).map_err(|_| MapError::Occupied)
    }

    /// Maps 2 MiB where nothing is mapped and no table hangs.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map_large(&self, virt: usize, at: PhysAddr, flags: PteFlags) -> Result<(), MapError> {
        debug_assert!(virt.is_multiple_of(LARGE_PAGE_SIZE) && at.0.is_multiple_of(LARGE_PAGE_SIZE as u64));
        let entry = self.large_entry_or_create(virt)?.ok_or(MapError::Occupied)?;
        let value = PteValue::new(at, flags | PteFlags::PRESENT | PteFlags::LARGE);
        entry.compare_exchange(PteValue::EMPTY, value).map_err(|_| MapError::Occupied)
    }

    /// Takes away what is mapped at `virt` (all of a large page).
    pub fn unmap(&self, virt: usize) -> Option<Mapping> {
        let (entry, level) = walk::find(self.root, virt)?;
        let old = entry.swap(PteValue::EMPTY);
        old.is_present().then(|| walk::mapping(virt, old, level))
    }

    /// Sets and clears flags of what is mapped at `virt`; how it was mapped.
    pub fn protect(&self, virt: usize, set: PteFlags, clear: PteFlags) -> Option<Mapping> {
        let (entry, level) = walk::find(self.root, virt)?;
        if !entry.load().is_present() {
            return None;
        }
        let keep = PteFlags::PRESENT | PteFlags::LARGE;
        let old = entry.update(set, clear - keep);
        old.is_present().then(|| walk::mapping(virt, old, level))
    }

    /// What is mapped at `virt`.
    pub fn query(&self, virt: usize) -> Option<Mapping> {
        let (entry, level) = walk::find(self.root, virt)?;
        let value = entry.load();
        value.is_present().then(|| walk::mapping(virt, value, level))
    }

    /// Calls `visit` for every non-empty leaf entry that touches `range`, in order; whole missing tables are
    /// skipped at once. The arguments: first address of the page, the entry, its size.
    pub fn for_each(&self, range: Range<usize>, mut visit: impl FnMut(usize, &Pte, usize)) {
        walk::for_each(self.root, range, &mut visit);
    }

    /// Replaces the large page at `virt` by 512 small ones with the same flags. Flush afterwards.
    ///
    /// # Errors
    /// No memory. Nothing is changed then.
    pub fn split_large(&self, virt: usize) -> Result<(), OutOfMemory> {
        walk::split_large(self.root, virt)
    }

    /// Frees table pages of the lower half that map nothing any more inside `range`. The caller has flushed what
    /// it unmapped there.
    pub fn prune(&mut self, range: Range<usize>) {
        walk::prune(self.root, range);
    }

    /// Makes it the running CPU's page table.
    ///
    /// # Safety
    /// It stays alive while it is active, the running code does not rely on the lower half of the one before.
    pub unsafe fn activate(&self) {
        // SAFETY: the caller's promise; the upper half is the kernel's.
        unsafe { load_root(self.root) };
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        crate::tlb::evict(self.root);
        walk::free_lower_half(self.root);
        // SAFETY: no CPU uses it after evict, and its own tables are freed.
        unsafe { free_table(self.root) };
    }
}

/// Loads CR3 if `root` is not there yet.
///
/// # Safety
/// `root` is a live table with the kernel's upper half.
#[inline]
pub unsafe fn load_root(root: PhysAddr) {
    let block = crate::cpu::this();
    if block.active_root.load(Ordering::Relaxed) != root.0 {
        // Published before the load: a shootdown that misses this CPU finds it had not cached anything yet.
        block.active_root.store(root.0, Ordering::SeqCst);
        // SAFETY: the caller's promise.
        unsafe { core::arch::asm!("mov cr3, {}", in(reg) root.0, options(nostack, preserves_flags)) };
    }
}

/// A zeroed table page. The heap hands out whole pages of the direct map, so its address converts.
fn allocate_table() -> Result<PhysAddr, OutOfMemory> {
    // SAFETY: the size is not zero.
    let page = unsafe { alloc_zeroed(TABLE_LAYOUT) };
    if page.is_null() {
        return Err(OutOfMemory);
    }
    Ok(table_phys(page as usize))
}

const TABLE_LAYOUT: Layout = match Layout::from_size_align(PAGE_SIZE, PAGE_SIZE) {
    Ok(layout) => layout,
    Err(_) => panic!("a page is a valid layout"),
};

/// # Safety
/// The table came from [`allocate_table`] and nothing refers to it any more.
unsafe fn free_table(table: PhysAddr) {
    // SAFETY: the caller's promise.
    unsafe { dealloc(table_virt(table), TABLE_LAYOUT) };
}

/// Host tests have no direct map: there a "physical" address is the pointer itself.
#[cfg(not(test))]
fn table_phys(virt: usize) -> PhysAddr {
    PhysAddr((virt - crate::addr::DIRECT_MAP) as u64)
}
#[cfg(test)]
fn table_phys(virt: usize) -> PhysAddr {
    PhysAddr(virt as u64)
}
#[cfg(not(test))]
fn table_virt(table: PhysAddr) -> *mut u8 {
    table.to_virt()
}
#[cfg(test)]
fn table_virt(table: PhysAddr) -> *mut u8 {
    table.0 as *mut u8
}
