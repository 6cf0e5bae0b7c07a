//! Ending: exit status, power-off, stopping the other CPUs.
//!
//! The status leaves on two channels. The exact one is a line on the debug port 0xe9 (`zeolite: exit status N`, see
//! [`report_status`]); the coarse one is QEMU's own exit status through the isa-debug-exit device, which has only
//! seven bits: [`DEBUG_EXIT_OK`], [`DEBUG_EXIT_FAILED`] (status not 0) or [`DEBUG_EXIT_PANIC`].
use crate::{apic, cpu, io, irq};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Value for the exit device after status 0; QEMU then exits with 33.
pub const DEBUG_EXIT_OK: u32 = 0x10;
/// Value after any other status; QEMU then exits with 35.
pub const DEBUG_EXIT_FAILED: u32 = 0x11;
/// Value after a panic; QEMU then exits with 255.
pub const DEBUG_EXIT_PANIC: u32 = 0x7f;

const DEBUG_EXIT_PORT: u16 = 0xf4;
const DEBUG_CONSOLE_PORT: u16 = 0xe9;

/// How the machine powers off by ACPI, found at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// Write the value to the 16-bit PM1a control port.
    Pm1 {
        /// The port.
        port: u16,
        /// What to write.
        value: u16,
    },
    /// Write the byte to the sleep control register in memory (hardware-reduced ACPI).
    SleepControl {
        /// Physical address.
        at: u64,
        /// What to write.
        value: u8,
    },
}

/// 0: unknown. Otherwise kind in the top byte, value in the next three, address or port below (see [`set_power_off`]).
static METHOD: AtomicU64 = AtomicU64::new(0);
static METHOD_VALUE: AtomicU32 = AtomicU32::new(0);
const KIND_PM1: u64 = 1 << 56;
const KIND_SLEEP: u64 = 2 << 56;

/// Notes how to power off.
pub fn set_power_off(method: PowerOff) {
    let (word, value) = match method {
        PowerOff::Pm1 { port, value } => (KIND_PM1 | u64::from(port), u32::from(value)),
        PowerOff::SleepControl { at, value } => (KIND_SLEEP | at, u32::from(value)),
    };
    METHOD_VALUE.store(value, Ordering::Relaxed);
    METHOD.store(word, Ordering::Release);
}

/// The debug port as a formatter's target.
struct DebugConsole;

impl Write for DebugConsole {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            // SAFETY: the port takes a byte or nobody listens.
            unsafe { io::outb(DEBUG_CONSOLE_PORT, byte) };
        }
        Ok(())
    }
}

/// Writes the machine-readable last line to the debug port.
pub fn report_status(line: fmt::Arguments<'_>) {
    // Writing to a port cannot fail.
    let _ = DebugConsole.write_fmt(format_args!("zeolite: {line}\n"));
}

/// Ends the machine after the application ended with `status` (0..=255).
pub fn exit(status: u8) -> ! {
    report_status(format_args!("exit status {status}"));
    leave(if status == 0 { DEBUG_EXIT_OK } else { DEBUG_EXIT_FAILED })
}

/// Ends the machine after a panic.
pub fn exit_after_panic() -> ! {
    report_status(format_args!("panic"));
    leave(DEBUG_EXIT_PANIC)
}

fn leave(debug_exit: u32) -> ! {
    io::disable_interrupts();
    // SAFETY: ends the machine where the device exists, and does nothing elsewhere.
    unsafe { io::outl(DEBUG_EXIT_PORT, debug_exit) };
    power_off();
    reset_or_hang()
}

fn power_off() {
    let word = METHOD.load(Ordering::Acquire);
    let value = METHOD_VALUE.load(Ordering::Relaxed);
    let at = word & !(0xff << 56);
    // SAFETY: the method comes from the machine's own tables.
    unsafe {
        if word & KIND_PM1 != 0 {
            io::outw(at as u16, value as u16);
        } else if word & KIND_SLEEP != 0 {
            crate::addr::PhysAddr(at).to_virt().write_volatile(value as u8);
        }
    }
}

/// Without a way to power off, a reset ends QEMU when it runs with `-no-reboot`.
fn reset_or_hang() -> ! {
    const KEYBOARD_COMMAND: u16 = 0x64;
    const PULSE_RESET: u8 = 0xfe;
    // SAFETY: asks the keyboard controller for a reset; harmless where there is none.
    unsafe { io::outb(KEYBOARD_COMMAND, PULSE_RESET) };
    stop_this_cpu()
}

/// Stops the other CPUs for good: nothing else prints or writes after it.
pub fn stop_other_cpus() {
    if !apic::is_ready() {
        return;
    }
    let own = cpu::id();
    for id in (0..cpu::CPUS_MAX).filter(|&id| id != own && cpu::block_of(id).is_some()) {
        apic::send_ipi(id, irq::VECTOR_STOP);
    }
}

/// Stops this CPU for good.
pub fn stop_this_cpu() -> ! {
    loop {
        // SAFETY: waits with interrupts off.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
