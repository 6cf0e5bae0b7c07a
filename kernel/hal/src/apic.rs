//! The local APIC: inter-processor interrupts, end of interrupt, the timer.
//!
//! Access is by register where the CPU has x2APIC, otherwise through the memory window, which the direct map covers.
use crate::addr::PhysAddr;
use crate::cpu::{self, features};
use crate::io::{rdmsr, wrmsr};
use crate::irq::{VECTOR_SPURIOUS, VECTOR_TIMER};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const MSR_APIC_BASE: u32 = 0x1b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const MSR_X2APIC: u32 = 0x800;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;

const REG_ID: u32 = 0x20;
const REG_TASK_PRIORITY: u32 = 0x80;
const REG_EOI: u32 = 0xb0;
const REG_SPURIOUS: u32 = 0xf0;
const REG_COMMAND: u32 = 0x300;
const REG_COMMAND_HIGH: u32 = 0x310;
const REG_TIMER: u32 = 0x320;
const REG_TIMER_INITIAL: u32 = 0x380;
const REG_TIMER_CURRENT: u32 = 0x390;
const REG_TIMER_DIVIDE: u32 = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
const TIMER_MASKED: u32 = 1 << 16;
const TIMER_DEADLINE: u32 = 2 << 17;
const COMMAND_PENDING: u32 = 1 << 12;
const COMMAND_ASSERT: u32 = 1 << 14;

/// Address of the memory window in the direct map; 0 with x2APIC.
static WINDOW: AtomicUsize = AtomicUsize::new(0);
static IS_READY: AtomicBool = AtomicBool::new(false);
/// Timer ticks per 2^32 TSC ticks; 0 with TSC deadlines.
static TIMER_RATIO: AtomicU64 = AtomicU64::new(0);

fn read(register: u32) -> u32 {
    let window = WINDOW.load(Ordering::Relaxed);
    // SAFETY: the register exists on every local APIC; the window is mapped device memory.
    unsafe {
        if window == 0 {
            rdmsr(MSR_X2APIC + (register >> 4)) as u32
        } else {
            ((window + register as usize) as *const u32).read_volatile()
        }
    }
}

fn write(register: u32, value: u32) {
    let window = WINDOW.load(Ordering::Relaxed);
    // SAFETY: as in read; callers write architecturally valid values.
    unsafe {
        if window == 0 {
            wrmsr(MSR_X2APIC + (register >> 4), u64::from(value));
        } else {
            ((window + register as usize) as *mut u32).write_volatile(value);
        }
    }
}

/// Enables the running CPU's local APIC, timer stopped.
///
/// # Safety
/// Called once per CPU with its block in place; the window at the APIC base is mapped by the direct map.
pub unsafe fn init_this_cpu() {
    // SAFETY: the register exists on every x86_64 CPU.
    unsafe {
        let base = rdmsr(MSR_APIC_BASE);
        if features().has_x2apic {
            wrmsr(MSR_APIC_BASE, base | BASE_ENABLE | BASE_X2APIC);
        } else {
            wrmsr(MSR_APIC_BASE, base | BASE_ENABLE);
            WINDOW.store(PhysAddr(base & 0xf_ffff_f000).to_virt() as usize, Ordering::Relaxed);
        }
    }
    write(REG_SPURIOUS, 0x100 | u32::from(VECTOR_SPURIOUS));
    write(REG_TASK_PRIORITY, 0);
    write(REG_TIMER, TIMER_MASKED | u32::from(VECTOR_TIMER));
    write(REG_TIMER_DIVIDE, DIVIDE_BY_1);
    if features().has_tsc_deadline {
        write(REG_TIMER, TIMER_DEADLINE | u32::from(VECTOR_TIMER));
    } else if TIMER_RATIO.load(Ordering::Relaxed) != 0 {
        write(REG_TIMER, u32::from(VECTOR_TIMER));
    }
    let id = read(REG_ID);
    let id = if WINDOW.load(Ordering::Relaxed) == 0 { id } else { id >> 24 };
    cpu::this().apic_id.store(id, Ordering::Relaxed);
    IS_READY.store(true, Ordering::Release);
}

/// Acknowledges the interrupt being handled.
#[inline]
pub(crate) fn end_of_interrupt() {
    write(REG_EOI, 0);
}

fn command(apic_id: u32, low: u32) {
    if WINDOW.load(Ordering::Relaxed) == 0 {
        // SAFETY: the command register exists with x2APIC.
        unsafe { wrmsr(MSR_X2APIC + (REG_COMMAND >> 4), u64::from(apic_id) << 32 | u64::from(low)) };
        return;
    }
    // Two writes: an interrupt handler that sends in between would change the destination.
    let _irq = crate::io::IrqGuard::new();
    write(REG_COMMAND_HIGH, apic_id << 24);
    write(REG_COMMAND, low);
    while read(REG_COMMAND) & COMMAND_PENDING != 0 {
        core::hint::spin_loop();
    }
}

/// Interrupts CPU `id` with `vector`.
pub fn send_ipi(id: usize, vector: u8) {
    if let Some(block) = cpu::block_of(id) {
        // Stores before the interrupt must be visible to its handler; x2APIC writes are not serialising.
        core::sync::atomic::fence(Ordering::SeqCst);
        command(block.apic_id(), COMMAND_ASSERT | u32::from(vector));
    }
}

/// Sends INIT and then a start-up interrupt for the page `start_page`.
pub(crate) fn send_init(apic_id: u32) {
    const INIT: u32 = 0x500;
    command(apic_id, COMMAND_ASSERT | INIT);
}

pub(crate) fn send_startup(apic_id: u32, start_page: u8) {
    const STARTUP: u32 = 0x600;
    command(apic_id, COMMAND_ASSERT | STARTUP | u32::from(start_page));
}

/// Whether this CPU's APIC can send (false in the first moments of boot).
pub(crate) fn is_ready() -> bool {
    IS_READY.load(Ordering::Acquire)
}

/// Free-running timer count for calibration: counts down from the largest value.
pub(crate) fn start_calibration() {
    write(REG_TIMER, TIMER_MASKED | u32::from(VECTOR_TIMER));
    write(REG_TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_calibration`].
pub(crate) fn calibration_ticks() -> u32 {
    u32::MAX - read(REG_TIMER_CURRENT)
}

/// Ends calibration: timer ticks per 2^32 TSC ticks.
pub(crate) fn finish_calibration(ratio: u64) {
    write(REG_TIMER_INITIAL, 0);
    write(REG_TIMER, u32::from(VECTOR_TIMER));
    TIMER_RATIO.store(ratio, Ordering::Relaxed);
}

/// Fires [`VECTOR_TIMER`] on this CPU once the TSC reaches `tsc`, at once if it has.
pub fn arm_timer(tsc: u64) {
    let ratio = TIMER_RATIO.load(Ordering::Relaxed);
    if ratio == 0 {
        // SAFETY: the register exists where there is no ratio.
        unsafe { wrmsr(MSR_TSC_DEADLINE, tsc.max(1)) };
        return;
    }
    let span = tsc.saturating_sub(crate::clock::tsc());
    let ticks = (u128::from(span) * u128::from(ratio)) >> 32;
    // A long wait fires early and is armed again.
    write(REG_TIMER_INITIAL, u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
}

/// Stops this CPU's timer.
pub fn disarm_timer() {
    if TIMER_RATIO.load(Ordering::Relaxed) == 0 {
        // SAFETY: as in arm_timer.
        unsafe { wrmsr(MSR_TSC_DEADLINE, 0) };
    } else {
        write(REG_TIMER_INITIAL, 0);
    }
}
