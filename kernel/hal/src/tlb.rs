//! Translation caches: local flushes and shootdowns on other CPUs.
//!
//! A shootdown sends an interrupt to every other CPU that runs on the same root and waits until each has flushed.
//! The requester keeps interrupts on while it waits, so two CPUs that request at once serve each other. Never call a
//! shootdown with interrupts off or holding a lock that is taken with interrupts off.
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::paging::kernel;
use crate::{apic, cpu, io, irq};
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// More pages than this are flushed by reloading everything.
const PAGES_MAX: usize = 32;

/// The one request in flight.
struct Request {
    is_taken: AtomicBool,
    /// Root concerned; 0 for the kernel's half.
    root: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Whether CPUs on `root` must leave it.
    is_eviction: AtomicBool,
    /// One bit per CPU that has not flushed yet.
    pending: AtomicU64,
}

static REQUEST: Request = Request {
    is_taken: AtomicBool::new(false),
    root: AtomicU64::new(0),
    start: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
    is_eviction: AtomicBool::new(false),
    pending: AtomicU64::new(0),
};

/// Forgets one page on this CPU.
#[inline]
pub fn flush_page_local(virt: usize) {
    // SAFETY: only drops a cached translation.
    unsafe { asm!("invlpg [{}]", in(reg) virt, options(nostack, preserves_flags)) };
}

/// Forgets everything on this CPU, global pages included.
pub fn flush_all_local() {
    const CR4_PGE: u64 = 1 << 7;
    let _irq = io::IrqGuard::new();
    // SAFETY: toggling PGE flushes all translations and changes nothing else.
    unsafe {
        let cr4: u64;
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags));
        asm!("mov cr4, {}", in(reg) cr4 & !CR4_PGE, options(nostack, preserves_flags));
        asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
    }
}

/// Forgets all pages of the lower half on this CPU.
#[inline]
pub fn flush_lower_half_local() {
    // SAFETY: reloading CR3 flushes non-global translations.
    unsafe {
        let root: u64;
        asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags));
        asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags));
    }
}

fn flush_range_local(range: &Range<usize>) {
    let nr_pages = range.end.saturating_sub(range.start).div_ceil(PAGE_SIZE);
    if nr_pages <= PAGES_MAX {
        for n in 0..nr_pages {
            flush_page_local(range.start + n * PAGE_SIZE);
        }
    } else if range.start < crate::addr::DIRECT_MAP {
        flush_lower_half_local();
    } else {
        flush_all_local();
    }
}

/// Forgets `range` of the space with this root, on every CPU that runs on it.
pub fn flush_range(root: PhysAddr, range: Range<usize>) {
    cpu::preempt_disable();
    if cpu::this().active_root.load(Ordering::Relaxed) == root.0 {
        flush_range_local(&range);
    }
    shoot(root.0, &range, false);
    cpu::preempt_enable();
}

/// Forgets `range` of the kernel's half on every CPU.
pub fn flush_kernel_range(range: Range<usize>) {
    cpu::preempt_disable();
    flush_range_local(&range);
    shoot(0, &range, false);
    cpu::preempt_enable();
}

/// Makes every CPU that still has this root loaded (lazily, for a kernel thread) load the kernel's.
pub fn evict(root: PhysAddr) {
    if cpu_tables_absent() {
        return;
    }
    cpu::preempt_disable();
    leave(root.0);
    shoot(root.0, &(0..0), true);
    cpu::preempt_enable();
}

/// Host tests drop page tables without any CPU block.
fn cpu_tables_absent() -> bool {
    cfg!(test) || kernel::root().0 == 0
}

fn leave(root: u64) {
    if cpu::this().active_root.load(Ordering::Relaxed) == root {
        // SAFETY: the kernel's root is always alive; the running code is in the upper half.
        unsafe { crate::paging::load_root(kernel::root()) };
    }
}

/// CPUs other than this one that must act on a request for `root`.
fn targets(root: u64) -> u64 {
    // Entries were changed before; a CPU that loads the root after this fence walks the new ones.
    core::sync::atomic::fence(Ordering::SeqCst);
    let own = cpu::id();
    let mut mask = 0;
    for id in (0..cpu::CPUS_MAX).filter(|&id| id != own) {
        let Some(block) = cpu::block_of(id) else { continue };
        if root == 0 || block.active_root.load(Ordering::SeqCst) == root {
            mask |= 1 << id;
        }
    }
    mask
}

fn shoot(root: u64, range: &Range<usize>, is_eviction: bool) {
    if cpu::nr_online() == 1 || targets(root) == 0 {
        return;
    }
    debug_assert!(io::interrupts_enabled(), "shootdown with interrupts off");
    while REQUEST.is_taken.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let mask = targets(root);
    REQUEST.root.store(root, Ordering::Relaxed);
    REQUEST.start.store(range.start, Ordering::Relaxed);
    REQUEST.end.store(range.end, Ordering::Relaxed);
    REQUEST.is_eviction.store(is_eviction, Ordering::Relaxed);
    REQUEST.pending.store(mask, Ordering::Release);
    for id in (0..cpu::CPUS_MAX).filter(|id| mask >> id & 1 != 0) {
        apic::send_ipi(id, irq::VECTOR_SHOOTDOWN);
    }
    while REQUEST.pending.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
    REQUEST.is_taken.store(false, Ordering::Release);
}

/// The interrupt on a target CPU.
pub(crate) fn serve() {
    let bit = 1 << cpu::id();
    if REQUEST.pending.load(Ordering::Acquire) & bit == 0 {
        return;
    }
    if REQUEST.is_eviction.load(Ordering::Relaxed) {
        leave(REQUEST.root.load(Ordering::Relaxed));
    } else {
        let range = REQUEST.start.load(Ordering::Relaxed)..REQUEST.end.load(Ordering::Relaxed);
        flush_range_local(&range);
    }
    REQUEST.pending.fetch_and(!bit, Ordering::Release);
}
