//! Segment descriptors, task state segment and interrupt stacks of one CPU.
//!
//! Seven interrupt stacks exist per TSS; five are used. Interrupts, page faults and other exceptions leave theirs
//! within 20 instructions (see [`crate::trap`]), each has its own so that a fault inside those instructions does
//! not overwrite the frame being moved. NMI, double fault and machine check stay on theirs.
use crate::trap;
use core::arch::asm;
use core::cell::UnsafeCell;

/// Selector of the only code segment; the application runs on it too.
pub const CODE_SELECTOR: u16 = 0x08;
/// Selector of the only data segment.
pub const DATA_SELECTOR: u16 = 0x10;
const TSS_SELECTOR: u16 = 0x18;

/// Interrupt stack for device interrupts.
pub(crate) const IST_IRQ: u8 = 1;
/// For page faults.
pub(crate) const IST_PAGE_FAULT: u8 = 2;
/// For other exceptions.
pub(crate) const IST_EXCEPTION: u8 = 3;
/// For NMI.
pub(crate) const IST_NMI: u8 = 4;
/// For double faults and machine checks: both end in a panic.
pub(crate) const IST_FATAL: u8 = 5;

const IRQ_STACK: usize = 1024;
/// Large, because an overflow of a kernel stack is reported from here.
const PAGE_FAULT_STACK: usize = 12 << 10;
const EXCEPTION_STACK: usize = 4096;
const NMI_STACK: usize = 4096;
const FATAL_STACK: usize = 12 << 10;
const STACKS: usize = IRQ_STACK + PAGE_FAULT_STACK + EXCEPTION_STACK + NMI_STACK + FATAL_STACK;

#[derive(Debug)]
#[repr(C, packed(4))]
struct Tss {
    _reserved0: u32,
    _rsp: [u64; 3],
    _reserved1: u64,
    ist: [u64; 7],
    _reserved2: u64,
    _reserved3: u16,
    io_map: u16,
}

const _: () = assert!(size_of::<Tss>() == 104, "the architecture's size");

/// Everything a CPU's descriptor registers point at.
#[repr(C, align(16))]
struct Tables {
    stacks: [u8; STACKS],
    gdt: [u64; 5],
    tss: Tss,
}

impl Tables {
    const fn new() -> Self {
        const TSS: Tss = Tss {
            _reserved0: 0,
            _rsp: [0; 3],
            _reserved1: 0,
            ist: [0; 7],
            _reserved2: 0,
            _reserved3: 0,
            io_map: size_of::<Tss>() as u16,
        };
        Self { stacks: [0; STACKS], gdt: [0; 5], tss: TSS }
    }
}

struct BootTables(UnsafeCell<Tables>);
// SAFETY: touched only by the CPU that boots, once, in load_tables.
unsafe impl Sync for BootTables {}
static BOOT_TABLES: BootTables = BootTables(UnsafeCell::new(Tables::new()));

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Loads GDT, TSS and IDT on the running CPU. `is_boot_cpu` uses static memory: there is no heap yet.
///
/// # Safety
/// Called once per CPU, after its block is in place, with interrupts off.
pub unsafe fn load_tables(is_boot_cpu: bool) {
    let tables: *mut Tables = if is_boot_cpu {
        BOOT_TABLES.0.get()
    } else {
        // SAFETY: all-zero bytes are a valid Tables; it is leaked, so the registers may keep pointing at it.
        alloc::boxed::Box::leak(unsafe { alloc::boxed::Box::<Tables>::new_zeroed().assume_init() })
    };
    // SAFETY: the tables belong to this CPU alone and live for ever.
    unsafe { load(&mut *tables) };
}

unsafe fn load(tables: &'static mut Tables) {
    let mut top = tables.stacks.as_ptr() as u64;
    let sizes = [IRQ_STACK, PAGE_FAULT_STACK, EXCEPTION_STACK, NMI_STACK, FATAL_STACK];
    let mut ist = [0; 7];
    for (slot, size) in ist.iter_mut().zip(sizes) {
        top += size as u64;
        *slot = top;
    }
    tables.tss.ist = ist;
    tables.tss.io_map = size_of::<Tss>() as u16;
    let tss = &raw const tables.tss as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    tables.gdt = [
        0,
        0x0020_9a00_0000_0000,
        0x0000_9200_0000_0000,
        limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ];
    let gdt = TablePointer { limit: size_of_val(&tables.gdt) as u16 - 1, base: tables.gdt.as_ptr() as u64 };
    let idt = TablePointer { limit: 4095, base: trap::idt_address() };
    // SAFETY: both tables are static; the code and data selectors mean the same in the old and the new GDT.
    unsafe {
        asm!("lgdt [{}]", in(reg) &gdt, options(readonly, nostack, preserves_flags));
        asm!("ltr {:x}", in(reg) TSS_SELECTOR, options(nostack, preserves_flags));
        asm!("lidt [{}]", in(reg) &idt, options(readonly, nostack, preserves_flags));
    }
}
