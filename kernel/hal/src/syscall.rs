//! SYSCALL from ring 0 and its two-stage exit.
//!
//! The instruction leaves RSP alone and the caller's red zone is live, so entry changes to the thread's kernel stack
//! before it touches memory. Linux keeps every register but RAX, RCX and R11 across a call, XMM included, and our
//! code uses XMM: they are saved on each call. The upper halves of YMM and everything of x87 are never touched by
//! the kernel and saved only by a thread switch.
//!
//! Stage one is a function that gets the frame and returns the result; callee-saved registers are not stored, Rust
//! keeps them. If the thread's [`crate::cpu::ThreadHead::work`] is non-zero afterwards, stage two runs: the frame is
//! completed, a second function may change everything in it (signals, execve, fork, sigreturn), and the exit restores
//! all of it, RCX and R11 included, by `iretq`.
//!
//! Calls that only return a number of the thread (getpid, gettid, getuid...) can be answered before anything is saved:
//! their results lie in [`crate::cpu::ThreadHead::quick`], see [`set_quick`].
//!
//! The race between the look at `work` and the return: interrupts are off from the look on. An interrupt that was
//! held back arrives right after `popfq`, with RIP still in the kernel; [`leave_exit_window`] steps the frame over
//! the two remaining instructions so that it is the application's and its work is seen.
use crate::cpu::{self, OFFSET_QUICK, QUICK_SLOTS};
use crate::hook::Hook;
use crate::io;
use crate::trap::{FRAME_SIZE, TrapFrame, VECTOR_SYSCALL};
use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, Ordering};

/// First stage: the call's result, as it goes into RAX. Interrupts are on.
pub type CallHandler = extern "C" fn(&mut TrapFrame) -> i64;
/// Second stage: called when the thread has work, with a complete frame (`rax` holds the result). Interrupts are on.
/// It must clear [`crate::cpu::ThreadHead::work`], or it is called again.
pub type WorkHandler = extern "C" fn(&mut TrapFrame);

static WORK: Hook<WorkHandler> = Hook::new();
/// Read by the entry code.
static CALL: Hook<CallHandler> = Hook::new();

/// By call number: the offset of its result in [`crate::cpu::ThreadHead`], or 0. Read by the entry code.
static QUICK: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

const _: () = assert!(OFFSET_QUICK > 0 && OFFSET_QUICK + 4 * QUICK_SLOTS < 256, "quick offsets fit a byte");

/// Answers call `number` from slot `slot` of the thread's quick results, from now on and for all threads; `None`
/// sends it to the handler again.
pub fn set_quick(number: u8, slot: Option<usize>) {
    let value = slot.filter(|&slot| slot < QUICK_SLOTS).map_or(0, |slot| OFFSET_QUICK + 4 * slot);
    QUICK[usize::from(number)].store(value as u8, Ordering::Relaxed);
}

/// Registers both stages.
pub fn set_handlers(call: CallHandler, work: WorkHandler) {
    CALL.set(call);
    WORK.set(work);
}

/// Answers calls while nothing is registered.
extern "C" fn no_handler(_frame: &mut TrapFrame) -> i64 {
    const ENOSYS: i64 = 38;
    -ENOSYS
}

/// Points the running CPU's SYSCALL registers here.
pub fn init_this_cpu() {
    const MSR_STAR: u32 = 0xc000_0081;
    const MSR_LSTAR: u32 = 0xc000_0082;
    const MSR_FMASK: u32 = 0xc000_0084;
    /// TF, IF, DF, NT, AC.
    const MASKED_FLAGS: u64 = 0x4_4700;
    if CALL.get().is_none() {
        CALL.set(no_handler);
    }
    let selector = u64::from(cpu::CODE_SELECTOR);
    // SAFETY: these registers exist in long mode; the entry code follows their contract.
    unsafe {
        io::wrmsr(MSR_STAR, selector << 32 | selector << 48);
        io::wrmsr(MSR_LSTAR, syscall_entry as *const () as u64);
        io::wrmsr(MSR_FMASK, MASKED_FLAGS);
    }
}

macro_rules! for_each_xmm {
    ($one:ident) => {
        concat!(
            $one!(0),
            $one!(1),
            $one!(2),
            $one!(3),
            $one!(4),
            $one!(5),
            $one!(6),
            $one!(7),
            $one!(8),
            $one!(9),
            $one!(10),
            $one!(11),
            $one!(12),
            $one!(13),
            $one!(14),
            $one!(15)
        )
    };
}

macro_rules! save_xmm {
    ($n:literal) => {
        concat!("movups [rsp + 160 + 16*", $n, "], xmm", $n, "\n")
    };
}

macro_rules! load_xmm {
    ($n:literal) => {
        concat!("movups xmm", $n, ", [rsp + 160 + 16*", $n, "]\n")
    };
}

#[unsafe(naked)]
extern "C" fn syscall_entry() {
    naked_asm!(
        "mov gs:[{scratch}], rsp",
        "cmp rax, 255",
        "ja 2f",
        "lea rsp, [rip + {quick}]",
        "cmp byte ptr [rsp + rax], 0",
        "jne {quick_call}",
        "2:",
        "mov rsp, gs:[{kernel_stack}]",
        "sub rsp, {frame_size}",
        "mov [rsp + {rip}], rcx",
        "mov [rsp + {rflags}], r11",
        "mov [rsp + {error}], rax",
        "mov rax, gs:[{scratch}]",
        "mov [rsp + {rsp_slot}], rax",
        "mov [rsp + {rdi}], rdi",
        "mov [rsp + {rsi}], rsi",
        "mov [rsp + {rdx}], rdx",
        "mov [rsp + {r10}], r10",
        "mov [rsp + {r8}], r8",
        "mov [rsp + {r9}], r9",
        for_each_xmm!(save_xmm),
        "sti",
        "mov rdi, rsp",
        "call [rip + {call}]",
        "cli",
        "mov rcx, gs:[{current}]",
        "cmp dword ptr [rcx + {work}], 0",
        "jne {second_stage}",
        for_each_xmm!(load_xmm),
        "mov rdi, [rsp + {rdi}]",
        "mov rsi, [rsp + {rsi}]",
        "mov rdx, [rsp + {rdx}]",
        "mov r10, [rsp + {r10}]",
        "mov r8, [rsp + {r8}]",
        "mov r9, [rsp + {r9}]",
        "mov rcx, [rsp + {rip}]",
        "mov r11, [rsp + {rflags}]",
        "add rsp, {rflags}",
        ".global hal_syscall_leave",
        "hal_syscall_leave:",
        "popfq",
        ".global hal_syscall_window_pop, hal_syscall_window_jump",
        "hal_syscall_window_pop:",
        "pop rsp",
        "hal_syscall_window_jump:",
        "jmp rcx",
        scratch = const cpu::OFFSET_SCRATCH,
        kernel_stack = const cpu::OFFSET_KERNEL_STACK,
        current = const cpu::OFFSET_CURRENT,
        work = const cpu::OFFSET_WORK,
        frame_size = const FRAME_SIZE,
        rip = const offset_of!(TrapFrame, rip),
        rflags = const offset_of!(TrapFrame, rflags),
        rsp_slot = const offset_of!(TrapFrame, rsp),
        error = const offset_of!(TrapFrame, error),
        rdi = const offset_of!(TrapFrame, rdi),
        rsi = const offset_of!(TrapFrame, rsi),
        rdx = const offset_of!(TrapFrame, rdx),
        r10 = const offset_of!(TrapFrame, r10),
        r8 = const offset_of!(TrapFrame, r8),
        r9 = const offset_of!(TrapFrame, r9),
        call = sym CALL,
        quick = sym QUICK,
        quick_call = sym quick_call,
        second_stage = sym second_stage,
    )
}

/// Entered with RSP at the table, RAX the number, everything else the application's, interrupts off.
#[unsafe(naked)]
extern "C" fn quick_call() {
    naked_asm!(
        "movzx esp, byte ptr [rsp + rax]",
        "mov rax, gs:[{current}]",
        "mov eax, [rsp + rax]",
        "mov rsp, gs:[{kernel_stack}]",
        "push qword ptr gs:[{scratch}]",
        "push r11",
        "jmp hal_syscall_leave",
        current = const cpu::OFFSET_CURRENT,
        kernel_stack = const cpu::OFFSET_KERNEL_STACK,
        scratch = const cpu::OFFSET_SCRATCH,
    )
}

const _: () = assert!(
    offset_of!(TrapFrame, rflags) + 8 == offset_of!(TrapFrame, rsp),
    "popfq and pop rsp take neighbours"
);

/// Entered from the first stage with the result in RAX, callee-saved registers the application's, interrupts off.
#[unsafe(naked)]
extern "C" fn second_stage() {
    naked_asm!(
        "mov [rsp + {rax}], rax",
        "mov [rsp + {rbx}], rbx",
        "mov [rsp + {rbp}], rbp",
        "mov [rsp + {r12}], r12",
        "mov [rsp + {r13}], r13",
        "mov [rsp + {r14}], r14",
        "mov [rsp + {r15}], r15",
        "mov rcx, [rsp + {rip}]",
        "mov [rsp + {rcx}], rcx",
        "mov rcx, [rsp + {rflags}]",
        "mov [rsp + {r11}], rcx",
        "mov qword ptr [rsp + {vector}], {syscall}",
        "mov qword ptr [rsp + {cs}], {code}",
        "mov qword ptr [rsp + {ss}], {data}",
        "mov rdi, rsp",
        "call {pending}",
        "jmp {exit}",
        rax = const offset_of!(TrapFrame, rax),
        rbx = const offset_of!(TrapFrame, rbx),
        rbp = const offset_of!(TrapFrame, rbp),
        rcx = const offset_of!(TrapFrame, rcx),
        r11 = const offset_of!(TrapFrame, r11),
        r12 = const offset_of!(TrapFrame, r12),
        r13 = const offset_of!(TrapFrame, r13),
        r14 = const offset_of!(TrapFrame, r14),
        r15 = const offset_of!(TrapFrame, r15),
        rip = const offset_of!(TrapFrame, rip),
        rflags = const offset_of!(TrapFrame, rflags),
        vector = const offset_of!(TrapFrame, vector),
        cs = const offset_of!(TrapFrame, cs),
        ss = const offset_of!(TrapFrame, ss),
        syscall = const VECTOR_SYSCALL,
        code = const cpu::CODE_SELECTOR,
        data = const cpu::DATA_SELECTOR,
        pending = sym pending_in_call,
        exit = sym restore_all,
    )
}

extern "C" fn pending_in_call(frame: &mut TrapFrame) {
    run_pending_work(frame);
}

/// RSP points at a complete frame, interrupts off: loads its XMM registers and everything else, continues there.
#[unsafe(naked)]
pub(crate) extern "C" fn restore_all() {
    naked_asm!(for_each_xmm!(load_xmm), "jmp {rest}", rest = sym crate::trap::restore_general)
}

/// Runs the second stage until the thread has no work. Interrupts off on entry and on return.
pub(crate) fn run_pending_work(frame: &mut TrapFrame) {
    // SAFETY: the running thread's head is alive.
    let head = unsafe { &*cpu::current_head() };
    while head.work.load(Ordering::Acquire) != 0 {
        let Some(handler) = WORK.get() else { return };
        io::enable_interrupts();
        handler(frame);
        io::disable_interrupts();
    }
}

unsafe extern "C" {
    static hal_syscall_window_pop: u8;
    static hal_syscall_window_jump: u8;
}

/// Completes the system call exit in `frame` if it was interrupted in its last two instructions.
pub(crate) fn leave_exit_window(frame: &mut TrapFrame) {
    let at_pop = &raw const hal_syscall_window_pop as u64;
    let at_jump = &raw const hal_syscall_window_jump as u64;
    if frame.rip == at_pop {
        // SAFETY: the interrupted `pop rsp` was about to read this word of the thread's own kernel stack.
        frame.rsp = unsafe { *(frame.rsp as *const u64) };
        frame.rip = frame.rcx;
    } else if frame.rip == at_jump {
        frame.rip = frame.rcx;
    }
}

/// Leaves the kernel for application code described by `frame`, abandoning the kernel stack in use.
///
/// # Safety
/// The caller's stack holds nothing whose destructor matters, the thread's FS base and vector state are set, and its
/// address space is active. `frame` lies on the thread's kernel stack.
pub unsafe fn enter_user(frame: &TrapFrame) -> ! {
    io::disable_interrupts();
    // SAFETY: the exit only reads the frame, upwards from its start, and pushes nothing: it may lie anywhere on the
    // stack being abandoned.
    unsafe { crate::trap::return_to_frame(frame) }
}
