//! The frame on the application's stack, in Linux's layout, and the way back from it.
//!
//! From high to low: the XSAVE image (aligned to 64, with the software bytes that tell its size), then the frame:
//! return address, `ucontext`, `siginfo`. It starts below the red zone of the interrupted code. Unwinders, Go, Java
//! and sanitizers read and change it, so the layout is ABI to the byte.
use super::deliver::Delivery;
use super::{SA_ONSTACK, SigSet, info};
use crate::errno::{Errno, SysResult};
use crate::task::{AltStack, Task};
use crate::user;
use alloc::vec::Vec;
use hal::fpu::{self, FpuArea};
use hal::trap::TrapFrame;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes below the stack pointer that leaf functions use.
const RED_ZONE: u64 = 128;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS: u64 = 7;
/// `UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS`.
const UC_FLAGS_FXSAVE: u64 = 6;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where the software bytes lie in the legacy region.
const SW_BYTES: usize = 464;
/// Flags an application may change: CF PF AF ZF SF TF DF OF RF AC.
const USER_FLAGS: u64 = 0x5_0dd5;
const FLAG_DF: u64 = 0x400;
const FLAG_TF: u64 = 0x100;
const FLAG_RF: u64 = 0x1_0000;

/// `SS_ONSTACK`.
pub const SS_ONSTACK: u32 = 1;
/// `SS_DISABLE`.
pub const SS_DISABLE: u32 = 2;
/// `SS_AUTODISARM`.
pub const SS_AUTODISARM: u32 = 1 << 31;

/// `stack_t`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackT {
    /// Lowest byte.
    pub start: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Padding.
    pub pad: u32,
    /// Bytes.
    pub size: u64,
}

/// `struct sigcontext`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct rt_sigframe`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RtSigFrame {
    restorer: u64,
    flags: u64,
    link: u64,
    stack: StackT,
    context: SigContext,
    mask: u64,
    info: [u8; info::SIZE],
}

const _: () = assert!(size_of::<SigContext>() == 256 && size_of::<RtSigFrame>() == 8 + 304 + 128);

/// Code and data selectors as Linux applications expect them in a context.
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;

/// What a stack_t says of an alternate stack, seen from stack pointer `rsp`.
pub fn describe_alt_stack(alt: &AltStack, rsp: u64) -> StackT {
    let flags = match alt.size {
        0 => SS_DISABLE,
        _ if alt.holds(rsp) => SS_ONSTACK,
        _ => 0,
    };
    StackT { start: alt.start, flags: flags | alt.flags, pad: 0, size: alt.size }
}

/// Bytes of the floating-point state in a frame.
fn state_size() -> usize {
    fpu::area_size() + if fpu::components() == 0 { 0 } else { 4 }
}

/// Where the state and the frame go.
fn place(rsp: u64) -> Option<(u64, u64)> {
    let state = rsp.checked_sub(state_size() as u64)? & !63;
    let frame = (state.checked_sub(size_of::<RtSigFrame>() as u64)? & !15).checked_sub(8)?;
    Some((state, frame))
}

/// Puts a frame on the application's stack and makes `frame` start the handler.
///
/// # Errors
/// [`Errno::EFAULT`] when the stack cannot take it.
pub fn push(task: &Task, frame: &mut TrapFrame, delivery: &Delivery) -> SysResult<()> {
    let alt = *task.alt_stack.lock();
    let is_switched = delivery.action.flags & SA_ONSTACK != 0 && alt.size > 0 && !alt.holds(frame.rsp);
    let top = if is_switched { alt.start + alt.size } else { frame.rsp.wrapping_sub(RED_ZONE) };
    let (state_at, at) = place(top).ok_or(Errno::EFAULT)?;
    if !is_switched && alt.holds(frame.rsp) && !alt.holds(at) {
        return Err(Errno::EFAULT);
    }
    write_state(frame, state_at)?;
    let has_xsave = fpu::components() != 0;
    let image = RtSigFrame {
        restorer: delivery.action.restorer,
        flags: if has_xsave { UC_FLAGS } else { UC_FLAGS_FXSAVE },
        link: 0,
        stack: describe_alt_stack(&alt, frame.rsp),
        context: context_of(frame, state_at, delivery),
        mask: delivery.saved_mask.0,
        info: delivery.info.to_bytes(),
    };
    user::write(at, &image)?;
    if alt.flags & SS_AUTODISARM != 0 {
        *task.alt_stack.lock() = AltStack::default();
    }
    frame.rip = delivery.action.handler;
    frame.rsp = at;
    frame.rdi = u64::from(delivery.info.signo);
    frame.rsi = at + core::mem::offset_of!(RtSigFrame, info) as u64;
    frame.rdx = at + core::mem::offset_of!(RtSigFrame, flags) as u64;
    frame.rax = 0;
    frame.rflags &= !(FLAG_DF | FLAG_TF | FLAG_RF);
    Ok(())
}

fn context_of(frame: &TrapFrame, state_at: u64, delivery: &Delivery) -> SigContext {
    let is_fault = !frame.is_syscall() && frame.vector < 32;
    SigContext {
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rdi: frame.rdi,
        rsi: frame.rsi,
        rbp: frame.rbp,
        rbx: frame.rbx,
        rdx: frame.rdx,
        rax: frame.rax,
        rcx: frame.rcx,
        rsp: frame.rsp,
        rip: frame.rip,
        eflags: frame.rflags,
        cs: USER_CS,
        gs: 0,
        fs: 0,
        ss: USER_SS,
        // Bit 2 says "user mode" to those who look, as it would under Linux.
        err: if is_fault { frame.error | 4 } else { 0 },
        trapno: if is_fault { frame.vector } else { 0 },
        oldmask: delivery.saved_mask.0,
        cr2: delivery.fault_addr(),
        fpstate: state_at,
        reserved: [0; 8],
    }
}

fn write_state(frame: &TrapFrame, at: u64) -> SysResult<()> {
    let mut area = FpuArea::new().ok_or(Errno::EFAULT)?;
    area.capture(frame);
    let size = fpu::area_size();
    if fpu::components() != 0 {
        let extended = (size + 4) as u32;
        let software = &mut area.bytes_mut()[SW_BYTES..512];
        software.fill(0);
        software[..4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
        software[4..8].copy_from_slice(&extended.to_le_bytes());
        software[8..16].copy_from_slice(&fpu::components().to_le_bytes());
        software[16..20].copy_from_slice(&(size as u32).to_le_bytes());
        user::write(at + size as u64, &FP_XSTATE_MAGIC2)?;
    }
    user::write_bytes(at, area.bytes())
}

/// rt_sigreturn: puts back what the frame at the application's stack pointer says.
///
/// # Errors
/// [`Errno::EFAULT`] when it is not readable.
pub fn pop(task: &Task, frame: &mut TrapFrame) -> SysResult<()> {
    // The handler's return took the first word.
    let image: RtSigFrame = user::read(frame.rsp.wrapping_sub(8))?;
    let context = image.context;
    task.set_mask(SigSet(image.mask));
    let set = &mut *frame;
    (set.r8, set.r9, set.r10, set.r11) = (context.r8, context.r9, context.r10, context.r11);
    (set.r12, set.r13, set.r14, set.r15) = (context.r12, context.r13, context.r14, context.r15);
    (set.rdi, set.rsi, set.rbp, set.rbx) = (context.rdi, context.rsi, context.rbp, context.rbx);
    (set.rdx, set.rax, set.rcx) = (context.rdx, context.rax, context.rcx);
    (set.rsp, set.rip) = (context.rsp, context.rip);
    set.rflags = set.rflags & !USER_FLAGS | context.eflags & USER_FLAGS;
    if context.fpstate != 0 {
        read_state(frame, context.fpstate)?;
    }
    let stack = image.stack;
    let is_off = stack.flags & SS_DISABLE != 0;
    let size = if is_off { 0 } else { stack.size };
    *task.alt_stack.lock() = AltStack { start: stack.start, size, flags: stack.flags & SS_AUTODISARM };
    Ok(())
}

fn read_state(frame: &mut TrapFrame, at: u64) -> SysResult<()> {
    let mut area = FpuArea::new().ok_or(Errno::EFAULT)?;
    let mut legacy = [0_u8; 512];
    user::read_bytes(at, &mut legacy)?;
    let word = |i: usize| u32::from_le_bytes([legacy[i], legacy[i + 1], legacy[i + 2], legacy[i + 3]]);
    let size = fpu::area_size();
    let is_extended =
        fpu::components() != 0 && word(SW_BYTES) == FP_XSTATE_MAGIC1 && word(SW_BYTES + 16) == size as u32;
    if is_extended {
        let mut rest: Vec<u8> = alloc::vec![0; size - 512];
        user::read_bytes(at + 512, &mut rest)?;
        area.bytes_mut()[512..].copy_from_slice(&rest);
    } else if let Some(header) = area.bytes_mut().get_mut(512..520) {
        header.copy_from_slice(&3_u64.to_le_bytes());
    }
    area.bytes_mut()[..512].copy_from_slice(&legacy);
    area.sanitise();
    area.apply(frame);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_aligned_as_the_abi_wants() {
        for top in (0x7000_0000_0000_u64..0x7000_0000_0200).step_by(8) {
            let (state, frame) = place(top).expect("room");
            assert!(state.is_multiple_of(64) && state + state_size() as u64 <= top);
            assert_eq!((frame + 8) % 16, 0);
            assert!(frame + size_of::<RtSigFrame>() as u64 <= state);
        }
        assert_eq!(place(100), None);
    }

    #[test]
    fn alternate_stacks_say_whether_they_are_in_use() {
        let alt = AltStack { start: 0x1000, size: 0x1000, flags: 0 };
        assert_eq!(describe_alt_stack(&alt, 0x1800).flags, SS_ONSTACK);
        assert_eq!(describe_alt_stack(&alt, 0x2000).flags, SS_ONSTACK, "an empty stack points past its end");
        assert_eq!(describe_alt_stack(&alt, 0x2001).flags, 0);
        assert_eq!(describe_alt_stack(&AltStack::default(), 0).flags, SS_DISABLE);
    }
}
