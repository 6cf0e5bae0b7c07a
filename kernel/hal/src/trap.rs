//! Exceptions and interrupts: the frame, the dispatch, the hooks.
//!
//! Entry runs on a per-CPU interrupt stack, because the interrupted code may own the 128 bytes below its stack
//! pointer (the red zone, in our own code and in the application's), and leaves it at once: the frame is moved to
//! the running thread's kernel stack (application interrupted) or below the red zone of the kernel stack in use
//! (kernel interrupted). The handler may therefore switch threads, turn interrupts on and sleep. Never turn
//! interrupts on while on an interrupt stack: the next one would start at the same top.
//!
//! Whether the application was interrupted is decided by the sign of RSP, not of RIP: that also covers the two
//! instructions of the system call exit that run in the kernel with the application's stack pointer.
mod entry;
mod frame;

pub use entry::FRAME_SIZE;
pub(crate) use entry::{idt_address, restore_general, return_to_frame};
pub(crate) use frame::FX_XMM;
pub use frame::{FxImage, TrapFrame, VECTOR_SYSCALL};

use crate::hook::Hook;
use crate::{addr, cpu, io, irq, syscall, uaccess};
use core::arch::asm;

/// What kind of fault, for the fault hook.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Exception number, 0..32.
    pub vector: u8,
    /// Error code, 0 for exceptions without one. For page faults see the `PF_*` bits.
    pub error: u64,
    /// Page faults: the address that was accessed.
    pub addr: usize,
}

/// Divide error.
pub const VECTOR_DIVIDE: u8 = 0;
/// Single step and breakpoints in debug registers.
pub const VECTOR_DEBUG: u8 = 1;
/// `int3`.
pub const VECTOR_BREAKPOINT: u8 = 3;
/// Undefined instruction.
pub const VECTOR_UNDEFINED: u8 = 6;
/// General protection.
pub const VECTOR_PROTECTION: u8 = 13;
/// Page fault.
pub const VECTOR_PAGE_FAULT: u8 = 14;
/// x87 error.
pub const VECTOR_X87: u8 = 16;
/// SIMD error.
pub const VECTOR_SIMD: u8 = 19;
const VECTOR_NMI: u64 = 2;

/// Page fault error bit: the page was present, the access was not allowed.
pub const PF_PRESENT: u64 = 1;
/// Page fault error bit: a write.
pub const PF_WRITE: u64 = 2;
/// Page fault error bit: an instruction fetch.
pub const PF_FETCH: u64 = 16;

/// Handles a fault: true if the thread may continue with the (possibly changed) frame. Runs on the thread's kernel
/// stack with interrupts as they were at the fault.
pub type FaultHook = fn(&mut TrapFrame, Fault) -> bool;

static FAULT: Hook<FaultHook> = Hook::new();
static FATAL: Hook<fn(&TrapFrame, Fault, &str) -> !> = Hook::new();

/// Registers the handler of faults, in application code and in kernel code that touches application memory.
pub fn set_fault_hook(hook: FaultHook) {
    FAULT.set(hook);
}

/// Registers what ends the machine after a fault nobody handles.
pub fn set_fatal_hook(hook: fn(&TrapFrame, Fault, &str) -> !) {
    FATAL.set(hook);
}

/// Fills the interrupt descriptor table, shared by all CPUs.
pub fn init() {
    entry::fill_idt();
}

/// Called by the entry code on a kernel stack, interrupts off.
extern "C" fn dispatch(frame: &mut TrapFrame) {
    if frame.vector >= 32 {
        interrupt(frame);
    } else {
        exception(frame);
    }
    leave(frame);
}

fn interrupt(frame: &mut TrapFrame) {
    syscall::leave_exit_window(frame);
    cpu::preempt_disable();
    irq::dispatch(frame.vector as u8);
    cpu::preempt_enable_quietly();
}

fn exception(frame: &mut TrapFrame) {
    let addr = if frame.vector == u64::from(VECTOR_PAGE_FAULT) { fault_address() } else { 0 };
    let fault = Fault { vector: frame.vector as u8, error: frame.error, addr };
    if fault.vector == VECTOR_PAGE_FAULT && (addr::STACK_AREA..addr::IMAGE_BASE).contains(&addr) {
        fatal(frame, fault, "kernel stack overflow");
    }
    let may_sleep = frame.rflags & io::RFLAGS_IF != 0;
    if may_sleep {
        io::enable_interrupts();
    }
    let is_atomic = !frame.is_user() && (!may_sleep || cpu::preempt_count() != 0);
    let is_handled = !is_atomic && FAULT.get().is_some_and(|hook| hook(frame, fault));
    if !is_handled && !uaccess::fix_up(frame) {
        fatal(frame, fault, "unhandled exception");
    }
    io::disable_interrupts();
}

/// The way out: reschedule if due, then the application's pending work. Interrupts off on entry and on return.
fn leave(frame: &mut TrapFrame) {
    if frame.rflags & io::RFLAGS_IF == 0 {
        return;
    }
    if cpu::is_reschedule_due() {
        cpu::reschedule();
    }
    if frame.is_user() {
        syscall::run_pending_work(frame);
    }
}

/// Called by the entry code on an interrupt stack: NMI, double fault, machine check.
extern "C" fn dispatch_fatal(frame: &mut TrapFrame) {
    let fault = Fault { vector: frame.vector as u8, error: frame.error, addr: fault_address() };
    let what = if frame.vector == VECTOR_NMI { "non-maskable interrupt" } else { "unrecoverable exception" };
    fatal(frame, fault, what);
}

fn fatal(frame: &TrapFrame, fault: Fault, what: &str) -> ! {
    match FATAL.get() {
        Some(hook) => hook(frame, fault, what),
        None => panic!("{what}: {fault:?} at {:#x}", frame.rip),
    }
}

fn fault_address() -> usize {
    let addr;
    // SAFETY: reads CR2.
    unsafe { asm!("mov {}, cr2", out(reg) addr, options(nomem, nostack, preserves_flags)) };
    addr
}
