//! Port I/O, model-specific registers, the interrupt flag.
use core::arch::asm;

/// Reads a byte from a port.
///
/// # Safety
/// Reading `port` has no effect the rest of the kernel does not expect.
#[inline]
pub unsafe fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller answers for the device's reaction.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a 16-bit word from a port.
///
/// # Safety
/// As for [`inb`].
#[inline]
pub unsafe fn inw(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as for inb.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a 32-bit word from a port.
///
/// # Safety
/// As for [`inb`].
#[inline]
pub unsafe fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as for inb.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to a port.
///
/// # Safety
/// The device behind `port` may not write to memory the kernel uses in reaction.
#[inline]
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: the caller answers for the device's reaction.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Writes a 16-bit word to a port.
///
/// # Safety
/// As for [`outb`].
#[inline]
pub unsafe fn outw(port: u16, value: u16) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// Writes a 32-bit word to a port.
///
/// # Safety
/// As for [`outb`].
#[inline]
pub unsafe fn outl(port: u16, value: u32) {
    // SAFETY: as for outb.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists on this CPU.
#[inline]
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller knows that the register exists.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}

/// Writes a model-specific register.
///
/// # Safety
/// The register exists and `value` keeps the kernel's assumptions about the CPU.
#[inline]
pub unsafe fn wrmsr(msr: u32, value: u64) {
    // SAFETY: the caller answers for the effect.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
             options(nostack, preserves_flags));
    }
}

/// Whether interrupts are on.
#[inline]
pub fn interrupts_enabled() -> bool {
    let flags: u64;
    // SAFETY: reads the flags through one stack slot below the red zone LLVM knows about (no `nostack`).
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(nomem, preserves_flags)) };
    flags & RFLAGS_IF != 0
}

/// The interrupt flag in RFLAGS.
pub const RFLAGS_IF: u64 = 0x200;

/// Turns interrupts on.
#[inline]
pub fn enable_interrupts() {
    // SAFETY: handlers keep every register and the red zone (see trap); the memory clobber keeps stores before it.
    unsafe { asm!("sti", options(nostack, preserves_flags)) };
}

/// Turns interrupts off.
#[inline]
pub fn disable_interrupts() {
    // SAFETY: only delays interrupts.
    unsafe { asm!("cli", options(nostack, preserves_flags)) };
}

/// Interrupts off until dropped, then as before. Nests.
#[derive(Debug)]
pub struct IrqGuard {
    was_enabled: bool,
    /// The flag belongs to this CPU.
    _not_send: core::marker::PhantomData<*const ()>,
}

impl IrqGuard {
    /// Turns interrupts off.
    #[inline]
    pub fn new() -> Self {
        let was_enabled = interrupts_enabled();
        disable_interrupts();
        Self { was_enabled, _not_send: core::marker::PhantomData }
    }
}

impl Default for IrqGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IrqGuard {
    #[inline]
    fn drop(&mut self) {
        if self.was_enabled {
            enable_interrupts();
        }
    }
}

/// Sleeps until the next interrupt. Interrupts are off on entry and on return; an interrupt that came before the
/// call is not missed, because `sti` takes effect only after the `hlt` has begun.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: the instruction pair only waits; handlers keep all state.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}
