//! Page-table entries and the walk of the lower half.
//!
//! Entries change by compare-and-swap only, because faults of several threads race with the lock held for reading.
//! Tables are added under that lock too (the loser of the race frees its table) and freed only when the whole space
//! goes away, when no walker is left.
use super::machine;
use core::sync::atomic::{AtomicU64, Ordering};

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pte(pub u64);

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// Software: the frame is kept but no access is allowed (`PROT_NONE` over populated memory).
const HIDDEN: u64 = 1 << 9;
const NO_EXEC: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

impl Pte {
    /// No page.
    pub const NONE: Self = Self(0);

    /// A page at `frame`. Accessed and dirty are set beforehand: nothing here reads them, and the processor would
    /// spend a locked write on each.
    pub const fn page(frame: u64, is_writable: bool, is_executable: bool) -> Self {
        let w = if is_writable { WRITE } else { 0 };
        let x = if is_executable { 0 } else { NO_EXEC };
        Self(frame | PRESENT | ACCESSED | DIRTY | w | x)
    }

    /// A 2 MiB page at `frame`.
    pub const fn large(frame: u64, is_writable: bool, is_executable: bool) -> Self {
        Self(Self::page(frame, is_writable, is_executable).0 | LARGE)
    }

    const fn table(frame: u64) -> Self {
        Self(frame | PRESENT | WRITE | ACCESSED)
    }

    /// Whether nothing is here.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether the processor can use it.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether it holds a frame, reachable or hidden.
    pub const fn has_frame(self) -> bool {
        self.0 & (PRESENT | HIDDEN) != 0
    }

    /// Whether writes are allowed.
    pub const fn is_writable(self) -> bool {
        self.0 & (PRESENT | WRITE) == PRESENT | WRITE
    }

    /// Whether it is a 2 MiB page.
    pub const fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Whether execution is allowed.
    pub const fn is_executable(self) -> bool {
        self.0 & NO_EXEC == 0
    }

    /// The frame's physical address.
    pub const fn frame(self) -> u64 {
        self.0 & FRAME
    }

    /// The same page, read-only.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self(self.0 & !WRITE)
    }

    /// The same page with other rights; writing stays off until a fault decides whether the page must be copied.
    #[must_use]
    pub const fn with_rights(self, is_readable: bool, keeps_write: bool, is_executable: bool) -> Self {
        let mut bits = self.0 & !(PRESENT | HIDDEN | NO_EXEC);
        bits |= if is_readable { PRESENT } else { HIDDEN };
        if !keeps_write {
            bits &= !WRITE;
        }
        if !is_executable {
            bits |= NO_EXEC;
        }
        Self(bits)
    }
}

impl core::fmt::Debug for Pte {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pte({:#x})", self.0)
    }
}

/// One entry in place.
#[derive(Clone, Copy)]
pub struct Slot(&'static AtomicU64);

impl Slot {
    /// The entry now.
    pub fn get(self) -> Pte {
        Pte(self.0.load(Ordering::Acquire))
    }

    /// Replaces `old` by `new`; false when it was no longer `old`.
    pub fn replace(self, old: Pte, new: Pte) -> bool {
        self.0.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Replaces whatever is there.
    pub fn swap(self, new: Pte) -> Pte {
        Pte(self.0.swap(new.0, Ordering::AcqRel))
    }
}

/// Bytes one entry of a level covers: level 0 is the page table, 3 the root.
pub const fn span(level: u32) -> u64 {
    4096 << (9 * level)
}

const fn index(addr: u64, level: u32) -> usize {
    ((addr >> (12 + 9 * level)) & 511) as usize
}

fn slot_of(table: u64, i: usize) -> Slot {
    // SAFETY: `table` is a frame that holds a page table of a live root (walks start at a root and follow present
    // table entries, and tables are freed only with the root), `i` is below 512, and entries are accessed as
    // atomics only.
    Slot(unsafe { &*machine::phys_to_virt(table).cast::<AtomicU64>().add(i & 511) })
}

/// The lower half of a page-table tree.
#[derive(Debug)]
pub struct Root {
    frame: u64,
}

impl Root {
    /// A new tree: empty lower half, the kernel's upper half.
    pub fn new() -> Option<Self> {
        let frame = machine::alloc_zeroed()?;
        machine::copy_kernel_half(frame);
        Some(Self { frame })
    }

    /// The root's physical address, for CR3.
    pub fn frame(&self) -> u64 {
        self.frame
    }

    /// The entry of `level` (0 for 4 KiB, 1 for 2 MiB) for `addr`, if the tables above it exist. A large page above
    /// `level` gives its own entry and level.
    pub fn find(&self, addr: u64, level: u32) -> Option<(Slot, u32)> {
        let mut table = self.frame;
        let mut at = 3;
        loop {
            let slot = slot_of(table, index(addr, at));
            if at == level {
                return Some((slot, at));
            }
            let pte = slot.get();
            if pte.is_none() {
                return None;
            }
            if pte.is_large() {
                return Some((slot, at));
            }
            table = pte.frame();
            at -= 1;
        }
    }

    /// As [`Root::find`], making the tables in between; `None` when memory is out.
    pub fn find_or_make(&self, addr: u64, level: u32) -> Option<(Slot, u32)> {
        let mut table = self.frame;
        let mut at = 3;
        loop {
            let slot = slot_of(table, index(addr, at));
            if at == level {
                return Some((slot, at));
            }
            let mut pte = slot.get();
            if pte.is_none() {
                let fresh = machine::alloc_zeroed()?;
                if slot.replace(Pte::NONE, Pte::table(fresh)) {
                    pte = Pte::table(fresh);
                } else {
                    machine::free(fresh);
                    pte = slot.get();
                }
            }
            if pte.is_large() {
                return Some((slot, at));
            }
            table = pte.frame();
            at -= 1;
        }
    }

    /// Calls `each` with the address and slot of every entry that holds a frame in `start..end`; large pages come as
    /// one entry with level 1, at their own start, also when `range` covers only part of them.
    pub fn for_each(&self, start: u64, end: u64, each: &mut dyn FnMut(u64, Slot, u32)) {
        if start < end {
            walk(self.frame, 3, start, end, each);
        }
    }

    /// Replaces a 2 MiB entry by a table of 512 small ones that map the same frames. False when memory is out.
    /// The caller holds the space exclusively.
    pub fn split_large(&self, addr: u64) -> bool {
        let Some((slot, 1)) = self.find(addr, 1) else { return true };
        let pte = slot.get();
        if !pte.is_large() {
            return true;
        }
        let Some(table) = machine::alloc_zeroed() else { return false };
        for i in 0..512_u64 {
            let small = Pte((pte.0 & !LARGE & !FRAME) | (pte.frame() + i * 4096));
            slot_of(table, i as usize).swap(small);
        }
        slot.swap(Pte::table(table));
        true
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        machine::evict(self.frame);
        for i in 0..256 {
            free_tables(slot_of(self.frame, i).get(), 2);
        }
        machine::free(self.frame);
    }
}

fn free_tables(pte: Pte, level: u32) {
    if pte.is_none() || pte.is_large() {
        return;
    }
    if level > 0 {
        for i in 0..512 {
            free_tables(slot_of(pte.frame(), i).get(), level - 1);
        }
    }
    machine::free(pte.frame());
}

fn walk(table: u64, level: u32, start: u64, end: u64, each: &mut dyn FnMut(u64, Slot, u32)) {
    let size = span(level);
    let mut at = start;
    while at < end {
        let base = at / size * size;
        let next = (base + size).min(end);
        let slot = slot_of(table, index(at, level));
        let pte = slot.get();
        if level == 0 {
            if pte.has_frame() {
                each(base, slot, 0);
            }
        } else if pte.is_large() {
            each(base, slot, level);
        } else if pte.is_present() {
            walk(pte.frame(), level - 1, at, next, each);
        }
        at = next;
    }
}
