//! The stack switch between threads.
//!
//! A voluntary call, so only callee-saved registers travel; they lie on the stack that is left. An interrupted
//! thread has its other registers in a [`TrapFrame`] further up the same stack.
use crate::trap::TrapFrame;
use core::arch::naked_asm;

/// Leaves the running stack, storing its pointer in `*save`, and continues on the one `load` was stored for.
///
/// # Safety
/// Interrupts are off; `load` came from this function or from [`prepare_call`] or [`prepare_frame`], is used once,
/// and its stack is not in use on any CPU.
#[unsafe(naked)]
pub unsafe extern "C" fn switch_stack(save: *mut usize, load: usize) {
    naked_asm!(
        "push r15",
        "push r14",
        "push r13",
        "push r12",
        "push rbx",
        "push rbp",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop rbp",
        "pop rbx",
        "pop r12",
        "pop r13",
        "pop r14",
        "pop r15",
        "ret",
    )
}

/// Registers a new stack starts with, as [`switch_stack`] pops them.
#[repr(C)]
struct Start {
    rbp: u64,
    rbx: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    ret: u64,
    /// What a call instruction would have left: keeps the alignment and ends backtraces.
    end: [u64; 3],
}

/// Prepares the stack that ends at `top` to run `entry(argument)`, which never returns; the value for `load`.
///
/// # Safety
/// `top` is 16-aligned, the memory below it is the new thread's own.
pub unsafe fn prepare_call(top: usize, entry: extern "C" fn(usize) -> !, argument: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { prepare(top, call_entry as *const () as u64, entry as *const () as u64, argument as u64) }
}

/// Prepares the stack that ends at `top` so that its thread calls `first(argument)` and then continues in
/// application code at `frame`; the value for `load`.
///
/// # Safety
/// As for [`prepare_call`]; when the thread runs, its FS base and vector state are set by the switch.
pub unsafe fn prepare_frame(
    top: usize,
    frame: &TrapFrame,
    first: extern "C" fn(usize),
    argument: usize,
) -> usize {
    let at = top - size_of::<TrapFrame>();
    // SAFETY: the top of the new stack is free and the frame fits.
    unsafe {
        (at as *mut TrapFrame).write(*frame);
        prepare(at, frame_entry as *const () as u64, first as *const () as u64, argument as u64)
    }
}

unsafe fn prepare(top: usize, ret: u64, function: u64, argument: u64) -> usize {
    let at = top - size_of::<Start>();
    let start = Start { rbp: 0, rbx: function, r12: argument, r13: 0, r14: 0, r15: 0, ret, end: [0; 3] };
    // SAFETY: the caller's promise; at is 16-aligned because the size is a multiple of 16.
    unsafe { (at as *mut Start).write(start) };
    at
}

const _: () = assert!(size_of::<Start>() == 80, "start code pops 7 words and leaves 3");

/// First instruction of a thread made by [`prepare_call`]. RSP is 16-aligned less 8 after three words remain.
#[unsafe(naked)]
extern "C" fn call_entry() {
    naked_asm!("mov rdi, r12", "add rsp, 8", "call rbx", "ud2")
}

/// First instruction of a thread made by [`prepare_frame`]: three words above lies the frame.
#[unsafe(naked)]
extern "C" fn frame_entry() {
    naked_asm!(
        "mov rdi, r12",
        "add rsp, 8",
        "call rbx",
        "cli",
        "add rsp, 16",
        "jmp {exit}",
        exit = sym crate::syscall::restore_all,
    )
}
