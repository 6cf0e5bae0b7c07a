//! The interrupt descriptor table and the entry code behind it.
//!
//! Every vector has a 16-byte stub that pushes an error code where the CPU did not, pushes the vector and jumps to
//! the common part. The common part is the only place that knows [`TrapFrame`]'s layout together with
//! [`crate::syscall`].
use super::TrapFrame;
use crate::cpu;
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Bytes of a [`TrapFrame`].
pub const FRAME_SIZE: usize = size_of::<TrapFrame>();

const _: () =
    assert!(FRAME_SIZE == 688 && FRAME_SIZE.is_multiple_of(16), "entry code keeps the stack aligned");
const _: () = assert!(offset_of!(TrapFrame, r15) == 512 && offset_of!(TrapFrame, rip) == 648, "entry order");

#[repr(C, align(4096))]
struct Idt(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written once before any CPU loads it, read only by the hardware afterwards.
unsafe impl Sync for Idt {}
static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

pub(crate) fn idt_address() -> u64 {
    IDT.0.get() as u64
}

pub(super) fn fill_idt() {
    let base = stubs as *const () as u64;
    assert!(base.is_multiple_of(16), "interrupt stubs are not aligned");
    for vector in 0..256_usize {
        let ist = match vector {
            2 => cpu::IST_NMI,
            8 | 18 => cpu::IST_FATAL,
            14 => cpu::IST_PAGE_FAULT,
            0..32 => cpu::IST_EXCEPTION,
            _ => cpu::IST_IRQ,
        };
        let at = base + 16 * vector as u64;
        let low = at & 0xffff
            | u64::from(cpu::CODE_SELECTOR) << 16
            | u64::from(ist) << 32
            | 0x8e << 40
            | (at >> 16 & 0xffff) << 48;
        // SAFETY: runs once, before interrupts and before other CPUs.
        unsafe { (*IDT.0.get())[vector] = [low, at >> 32] };
    }
}

#[unsafe(naked)]
extern "C" fn stubs() {
    naked_asm!(
        ".set trap_vector, 0",
        ".rept 256",
        ".balign 16",
        ".if (trap_vector == 8) || (trap_vector == 17) || (trap_vector == 21) || (trap_vector == 29) || (trap_vector == 30)",
        ".elseif (trap_vector >= 10) && (trap_vector <= 14)",
        ".else",
        "push 0",
        ".endif",
        "push trap_vector",
        ".if (trap_vector == 2) || (trap_vector == 8) || (trap_vector == 18)",
        "jmp {fatal}",
        ".else",
        "jmp {moving}",
        ".endif",
        ".set trap_vector, trap_vector + 1",
        ".endr",
        fatal = sym enter_fatal,
        moving = sym enter_moving,
    )
}

/// Moves the frame off the interrupt stack, completes it, dispatches, returns.
#[unsafe(naked)]
extern "C" fn enter_moving() {
    naked_asm!(
        "push rax",
        "push rcx",
        // rcx rax vector error rip cs rflags rsp ss
        "mov rax, [rsp + 56]",
        "test rax, rax",
        "js 2f",
        "mov rax, gs:[{kernel_stack}]",
        "jmp 3f",
        "2:",
        "lea rax, [rax - 128]",
        "and rax, -16",
        "3:",
        "mov rcx, [rsp + 64]",
        "mov [rax - 8], rcx",
        "mov rcx, [rsp + 56]",
        "mov [rax - 16], rcx",
        "mov rcx, [rsp + 48]",
        "mov [rax - 24], rcx",
        "mov rcx, [rsp + 40]",
        "mov [rax - 32], rcx",
        "mov rcx, [rsp + 32]",
        "mov [rax - 40], rcx",
        "mov rcx, [rsp + 24]",
        "mov [rax - 48], rcx",
        "mov rcx, [rsp + 16]",
        "mov [rax - 56], rcx",
        "mov rcx, [rsp + 8]",
        "mov [rax - 64], rcx",
        "mov rcx, [rsp]",
        "lea rsp, [rax - 64]",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 512",
        "fxsave64 [rsp]",
        "cld",
        "mov rdi, rsp",
        "call {dispatch}",
        "fxrstor64 [rsp]",
        "jmp {restore}",
        kernel_stack = const cpu::OFFSET_KERNEL_STACK,
        dispatch = sym super::dispatch,
        restore = sym restore_general,
    )
}

/// NMI, double fault, machine check: stays on its interrupt stack.
#[unsafe(naked)]
extern "C" fn enter_fatal() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 512",
        "fxsave64 [rsp]",
        "cld",
        "mov rdi, rsp",
        "call {dispatch}",
        "ud2",
        dispatch = sym super::dispatch_fatal,
    )
}

/// RSP points at a frame whose vector registers are loaded already: loads the rest and continues there.
#[unsafe(naked)]
pub(crate) extern "C" fn restore_general() {
    naked_asm!(
        "add rsp, 512",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "add rsp, 16",
        "iretq",
    )
}

/// Leaves the kernel through `frame`: a full frame of any kind, XMM registers from its image.
///
/// # Safety
/// Interrupts are off. The frame lies on the running thread's kernel stack or in memory nothing else changes, and
/// no destructor of the abandoned stack matters.
pub(crate) unsafe fn return_to_frame(frame: *const TrapFrame) -> ! {
    // SAFETY: the frame is complete; the rest is the caller's promise.
    unsafe {
        asm!(
            "mov rsp, {frame}",
            "jmp {exit}",
            frame = in(reg) frame,
            exit = sym crate::syscall::restore_all,
            options(noreturn),
        );
    }
}
