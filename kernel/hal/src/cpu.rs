//! The per-CPU block behind GS, and the head of the thread that runs on the CPU.
//!
//! GS base points at the running CPU's [`CpuBlock`] from the first Rust instruction on and never changes: there is
//! no ring change, hence no swapgs. FS base belongs to the application.
//!
//! Migration: one instruction that reads or writes through GS is safe at any time if the value belongs to the
//! *thread* (current thread, its kernel stack). Anything longer needs pre-emption off, or the thread may continue
//! on another CPU between two instructions.
//!
//! The pre-emption word is one 32-bit counter whose top bit says "no reschedule wanted" (inverted, so that the
//! decrement that ends a section reaches zero exactly when someone also wants the CPU): one instruction each way.
mod features;
mod tables;

pub use features::{Features, features};
pub use tables::{CODE_SELECTOR, DATA_SELECTOR, load_tables};
pub(crate) use tables::{IST_EXCEPTION, IST_FATAL, IST_IRQ, IST_NMI, IST_PAGE_FAULT};

use crate::hook::Hook;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Most CPUs supported.
pub const CPUS_MAX: usize = 64;

/// Top bit of the pre-emption word: nobody wants this CPU rescheduled.
const NO_RESCHEDULE: u32 = 1 << 31;

/// What entry code must know about the running thread. First field of the scheduler's thread object.
#[derive(Debug)]
#[repr(C)]
pub struct ThreadHead {
    /// Non-zero: before this thread returns to its application code, the full exit handler runs (see
    /// [`crate::syscall`]). Other threads may set it.
    pub work: AtomicU32,
    /// A word for the upper crates, found by [`user_slot`].
    pub user_slot: AtomicPtr<()>,
    /// Top of its kernel stack, 16-aligned.
    pub kernel_stack_top: AtomicUsize,
    /// Results of calls that only return a number of the thread (see [`crate::syscall::set_quick`]).
    pub quick: [AtomicU32; QUICK_SLOTS],
}

/// Slots of [`ThreadHead::quick`].
pub const QUICK_SLOTS: usize = 8;

impl ThreadHead {
    /// A head for a thread whose kernel stack ends at `kernel_stack_top`.
    pub const fn new(kernel_stack_top: usize) -> Self {
        Self {
            work: AtomicU32::new(0),
            user_slot: AtomicPtr::new(core::ptr::null_mut()),
            kernel_stack_top: AtomicUsize::new(kernel_stack_top),
            quick: [const { AtomicU32::new(0) }; QUICK_SLOTS],
        }
    }
}

/// One CPU's own data.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuBlock {
    self_ptr: AtomicPtr<CpuBlock>,
    pub(crate) kernel_stack_top: AtomicUsize,
    pub(crate) scratch: AtomicUsize,
    preempt: AtomicU32,
    id: AtomicU32,
    current: AtomicPtr<ThreadHead>,
    /// Physical address of the page table in CR3.
    pub(crate) active_root: AtomicU64,
    /// Local APIC identifier.
    pub(crate) apic_id: AtomicU32,
    /// FS base in the register now.
    pub(crate) fs_base: AtomicU64,
    /// Interrupts taken.
    pub(crate) nr_interrupts: AtomicU64,
    /// The scheduler's own per-CPU object.
    sched_slot: AtomicPtr<()>,
    /// The heap's own per-CPU object.
    heap_slot: AtomicPtr<()>,
}

pub(crate) const OFFSET_KERNEL_STACK: usize = offset_of!(CpuBlock, kernel_stack_top);
pub(crate) const OFFSET_SCRATCH: usize = offset_of!(CpuBlock, scratch);
pub(crate) const OFFSET_CURRENT: usize = offset_of!(CpuBlock, current);
const OFFSET_PREEMPT: usize = offset_of!(CpuBlock, preempt);
/// Where the number of the CPU lies from GS base: the vDSO reads it too.
pub const OFFSET_ID: usize = offset_of!(CpuBlock, id);
const OFFSET_SCHED: usize = offset_of!(CpuBlock, sched_slot);
const OFFSET_HEAP: usize = offset_of!(CpuBlock, heap_slot);
pub(crate) const OFFSET_WORK: usize = offset_of!(ThreadHead, work);
pub(crate) const OFFSET_QUICK: usize = offset_of!(ThreadHead, quick);
const OFFSET_USER_SLOT: usize = offset_of!(ThreadHead, user_slot);

/// Stands in for the running thread until the scheduler takes over.
static BOOT_THREAD: ThreadHead = ThreadHead::new(0);

impl CpuBlock {
    /// A block with pre-emption off (one section open), for the CPU with number `id`.
    pub const fn new(id: u32) -> Self {
        Self {
            self_ptr: AtomicPtr::new(core::ptr::null_mut()),
            kernel_stack_top: AtomicUsize::new(0),
            scratch: AtomicUsize::new(0),
            preempt: AtomicU32::new(NO_RESCHEDULE + 1),
            id: AtomicU32::new(id),
            current: AtomicPtr::new(core::ptr::null_mut()),
            active_root: AtomicU64::new(0),
            apic_id: AtomicU32::new(0),
            fs_base: AtomicU64::new(0),
            nr_interrupts: AtomicU64::new(0),
            sched_slot: AtomicPtr::new(core::ptr::null_mut()),
            heap_slot: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Number of the CPU, 0 for the one that booted.
    pub fn id(&self) -> usize {
        self.id.load(Ordering::Relaxed) as usize
    }

    /// Its local APIC identifier.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Interrupts it has taken since boot.
    pub fn nr_interrupts(&self) -> u64 {
        self.nr_interrupts.load(Ordering::Relaxed)
    }
}

static BOOT_BLOCK: CpuBlock = CpuBlock::new(0);
static BLOCKS: [AtomicPtr<CpuBlock>; CPUS_MAX] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CPUS_MAX];
static NR_ONLINE: AtomicUsize = AtomicUsize::new(0);
static RESCHEDULE: Hook<fn()> = Hook::new();

/// Makes the first CPU's block reachable through GS. Nothing else of this crate works before.
///
/// # Safety
/// Called once, first thing, on the CPU that booted.
pub unsafe fn init_boot_cpu() {
    // SAFETY: the caller's promise; the block is static.
    unsafe { init_this_cpu(&BOOT_BLOCK) };
}

/// Makes `block` the running CPU's own and publishes it.
///
/// # Safety
/// Called once per CPU before it uses anything of this crate; the block belongs to no other CPU.
pub unsafe fn init_this_cpu(block: &'static CpuBlock) {
    const MSR_GS_BASE: u32 = 0xc000_0101;
    let at = core::ptr::from_ref(block).cast_mut();
    block.self_ptr.store(at, Ordering::Relaxed);
    block.current.store(core::ptr::from_ref(&BOOT_THREAD).cast_mut(), Ordering::Relaxed);
    // SAFETY: nothing has used GS before; the block lives for ever.
    unsafe { crate::io::wrmsr(MSR_GS_BASE, at as u64) };
    let root: u64;
    // SAFETY: reads CR3.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    block.active_root.store(root, Ordering::Relaxed);
    features::enable_on_this_cpu();
    BLOCKS[block.id()].store(at, Ordering::Release);
    NR_ONLINE.fetch_add(1, Ordering::Release);
}

/// The running CPU's block. Stays the caller's CPU only while pre-emption or interrupts are off.
#[inline]
pub fn this() -> &'static CpuBlock {
    let at: *const CpuBlock;
    // SAFETY: GS base points at a static block whose first word is its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) at, options(nostack, pure, readonly, preserves_flags));
        &*at
    }
}

/// The block of CPU `id`, if that CPU runs.
pub fn block_of(id: usize) -> Option<&'static CpuBlock> {
    let at = BLOCKS.get(id)?.load(Ordering::Acquire);
    // SAFETY: published blocks are static.
    (!at.is_null()).then(|| unsafe { &*at })
}

/// Number of the running CPU; a hint unless pre-emption is off.
#[inline]
pub fn id() -> usize {
    let id: u32;
    // SAFETY: reads a field of the static block.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) id, const OFFSET_ID, options(nostack, readonly, preserves_flags));
    }
    id as usize
}

/// CPUs that run.
pub fn nr_online() -> usize {
    NR_ONLINE.load(Ordering::Acquire).max(1)
}

/// The head of the running thread.
#[inline]
pub fn current_head() -> *const ThreadHead {
    let at: *const ThreadHead;
    // SAFETY: reads a field of the static block; the value belongs to the thread.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) at, const OFFSET_CURRENT,
             options(nostack, readonly, preserves_flags));
    }
    at
}

/// Makes `head` the running thread, for entry code and [`current_head`].
///
/// # Safety
/// Interrupts are off; `head` lives until another takes its place, and the switch to its stack follows at once.
#[inline]
pub unsafe fn set_current(head: *const ThreadHead) {
    let block = this();
    block.current.store(head.cast_mut(), Ordering::Relaxed);
    // SAFETY: head is alive by the caller's promise.
    let top = unsafe { (*head).kernel_stack_top.load(Ordering::Relaxed) };
    block.kernel_stack_top.store(top, Ordering::Relaxed);
}

/// The running thread's word for the upper crates, null until set.
#[inline]
pub fn user_slot() -> *mut () {
    let slot: *mut ();
    // SAFETY: both loads read live objects: the block and the running thread's head. A switch between the two
    // instructions is harmless, because the first result belongs to the thread.
    unsafe {
        asm!("mov {0}, gs:[{1}]", "mov {0}, [{0} + {2}]", out(reg) slot, const OFFSET_CURRENT,
             const OFFSET_USER_SLOT, options(nostack, readonly, preserves_flags));
    }
    slot
}

/// Sets the running thread's word.
pub fn set_user_slot(value: *mut ()) {
    // SAFETY: the running thread's head is alive.
    unsafe { (*current_head()).user_slot.store(value, Ordering::Relaxed) };
}

macro_rules! gs_slot {
    ($get:ident, $set:ident, $field:ident, $offset:ident, $what:literal) => {
        #[doc = concat!("The running CPU's pointer to ", $what, "; null until set. Use with pre-emption off.")]
        #[inline]
        pub fn $get() -> *mut () {
            let at: *mut ();
            // SAFETY: reads a field of the static block.
            unsafe {
                asm!("mov {}, gs:[{}]", out(reg) at, const $offset, options(nostack, readonly, preserves_flags));
            }
            at
        }

        #[doc = concat!("Sets the running CPU's pointer to ", $what, ".")]
        pub fn $set(at: *mut ()) {
            this().$field.store(at, Ordering::Release);
        }
    };
}
gs_slot!(sched_slot, set_sched_slot, sched_slot, OFFSET_SCHED, "the scheduler's object");
gs_slot!(heap_slot, set_heap_slot, heap_slot, OFFSET_HEAP, "the heap's object");

/// Opens a section in which the thread stays on this CPU and running. Nests.
#[inline]
pub fn preempt_disable() {
    // SAFETY: one instruction on the CPU's own counter: an interrupt sees it before or after. The missing
    // `nomem` makes it a compiler barrier.
    unsafe { asm!("inc dword ptr gs:[{}]", const OFFSET_PREEMPT, options(nostack)) };
}

/// Closes a section; reschedules if it was the last and someone wants the CPU. With interrupts off it does not: then
/// the caller is inside some other critical section, and the request stays for the next interrupt or section.
#[inline]
pub fn preempt_enable() {
    let is_due: u8;
    // SAFETY: as in preempt_disable.
    unsafe {
        asm!("dec dword ptr gs:[{}]", "setz {}", const OFFSET_PREEMPT, out(reg_byte) is_due, options(nostack));
    }
    if is_due != 0 && crate::io::interrupts_enabled() {
        reschedule();
    }
}

/// Closes a section without rescheduling: for interrupt exit and the scheduler itself.
#[inline]
pub fn preempt_enable_quietly() {
    // SAFETY: as in preempt_disable.
    unsafe { asm!("dec dword ptr gs:[{}]", const OFFSET_PREEMPT, options(nostack)) };
}

/// Open sections on this CPU.
#[inline]
pub fn preempt_count() -> u32 {
    preempt_word() & !NO_RESCHEDULE
}

#[inline]
fn preempt_word() -> u32 {
    let word: u32;
    // SAFETY: reads the CPU's own counter.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) word, const OFFSET_PREEMPT,
             options(nostack, readonly, preserves_flags));
    }
    word
}

/// Whether the running thread may be switched away from now and someone wants it to be.
#[inline]
pub fn is_reschedule_due() -> bool {
    preempt_word() == 0
}

/// Asks this CPU to reschedule at the end of the outermost section or interrupt.
#[inline]
pub fn request_reschedule() {
    // SAFETY: one instruction on the CPU's own word.
    unsafe { asm!("and dword ptr gs:[{}], 0x7fffffff", const OFFSET_PREEMPT, options(nostack)) };
}

/// Takes back the request: the scheduler calls it when it picks.
#[inline]
pub fn clear_reschedule() {
    // SAFETY: one instruction on the CPU's own word.
    unsafe { asm!("or dword ptr gs:[{}], 0x80000000", const OFFSET_PREEMPT, options(nostack)) };
}

/// Registers what to call when a reschedule is due (interrupts may be on or off).
pub fn set_reschedule_hook(hook: fn()) {
    RESCHEDULE.set(hook);
}

#[cold]
pub(crate) fn reschedule() {
    if let Some(hook) = RESCHEDULE.get() {
        hook();
    }
}

/// Writes FS base, if it is not that already.
///
/// # Safety
/// Interrupts are off or the value belongs to the running thread's record, so that a switch restores it.
#[inline]
pub unsafe fn load_fs_base(base: u64) {
    const MSR_FS_BASE: u32 = 0xc000_0100;
    let block = this();
    if block.fs_base.load(Ordering::Relaxed) != base {
        block.fs_base.store(base, Ordering::Relaxed);
        // SAFETY: the kernel never uses FS; a non-canonical base would fault, so callers check it.
        unsafe { crate::io::wrmsr(MSR_FS_BASE, base) };
    }
}
