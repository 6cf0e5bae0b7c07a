//! The saved registers of interrupted or calling code. The layout is known to the entry code in assembler.
use crate::addr;

/// What [`TrapFrame::vector`] says in a frame made by a system call.
pub const VECTOR_SYSCALL: u64 = 0x100;

/// An FXSAVE image. In a frame made by a system call only the XMM registers (bytes 160..416) are valid.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct FxImage(pub [u8; 512]);

/// Offset of XMM0 in an FXSAVE image.
pub(crate) const FX_XMM: usize = 160;

/// All registers of interrupted or calling code. What a handler changes takes effect on return.
///
/// A frame made by a system call, as the first-stage handler sees it, holds `rdi rsi rdx r10 r8 r9 rip rflags rsp`,
/// the XMM registers and the call's number in `error`; the rest is filled before the second stage runs.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TrapFrame {
    /// Vector and x87 registers.
    pub fx: FxImage,
    /// General register.
    pub r15: u64,
    /// General register.
    pub r14: u64,
    /// General register.
    pub r13: u64,
    /// General register.
    pub r12: u64,
    /// General register.
    pub rbp: u64,
    /// General register.
    pub rbx: u64,
    /// General register.
    pub r11: u64,
    /// General register.
    pub r10: u64,
    /// General register.
    pub r9: u64,
    /// General register.
    pub r8: u64,
    /// General register.
    pub rdi: u64,
    /// General register.
    pub rsi: u64,
    /// General register.
    pub rdx: u64,
    /// General register.
    pub rcx: u64,
    /// General register.
    pub rax: u64,
    /// Exception or interrupt number, or [`VECTOR_SYSCALL`].
    pub vector: u64,
    /// Error code; in a system call its number (the original RAX).
    pub error: u64,
    /// Where it goes on.
    pub rip: u64,
    /// Always [`crate::cpu::CODE_SELECTOR`].
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Always [`crate::cpu::DATA_SELECTOR`].
    pub ss: u64,
}

impl TrapFrame {
    /// A frame that starts application code at `rip` on stack `rsp`, all other registers zero, interrupts on,
    /// vector registers and MXCSR as after reset.
    pub const fn new_user(rip: u64, rsp: u64) -> Self {
        let mut fx = [0; 512];
        // FCW 0x37f, MXCSR 0x1f80: all exceptions masked.
        (fx[0], fx[1], fx[24], fx[25]) = (0x7f, 0x03, 0x80, 0x1f);
        Self {
            fx: FxImage(fx),
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rdi: 0,
            rsi: 0,
            rdx: 0,
            rcx: 0,
            rax: 0,
            vector: VECTOR_SYSCALL,
            error: u64::MAX,
            rip,
            cs: crate::cpu::CODE_SELECTOR as u64,
            rflags: crate::io::RFLAGS_IF | 2,
            rsp,
            ss: crate::cpu::DATA_SELECTOR as u64,
        }
    }

    /// Whether application code was interrupted or called.
    pub const fn is_user(&self) -> bool {
        self.rip < addr::USER_END as u64
    }

    /// Whether a system call made it.
    pub const fn is_syscall(&self) -> bool {
        self.vector == VECTOR_SYSCALL
    }
}

impl core::fmt::Debug for TrapFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "rip {:016x} rsp {:016x} flags {:08x}", self.rip, self.rsp, self.rflags)?;
        writeln!(f, "vector {} error {:#x}", self.vector, self.error)?;
        writeln!(
            f,
            "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            self.rax, self.rbx, self.rcx, self.rdx
        )?;
        writeln!(
            f,
            "rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
            self.rsi, self.rdi, self.rbp, self.r8
        )?;
        writeln!(
            f,
            "r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
            self.r9, self.r10, self.r11, self.r12
        )?;
        write!(f, "r13 {:016x} r14 {:016x} r15 {:016x}", self.r13, self.r14, self.r15)
    }
}
