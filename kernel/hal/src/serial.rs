//! The first serial port (16550): console output, and input by interrupt.
//!
//! Output is synchronous: what was printed is out before the next instruction, which is what a panic needs. Whoever is
//! at the other end may stop reading (a pipe that is full, a terminal held by Ctrl-S): the kernel's own messages are
//! then cut short, since a machine must not stand still for them; who can wait uses [`write_some`] and loses nothing.
//! Input bytes go from the interrupt handler to a registered function.
use crate::hook::Hook;
use crate::{cpu, io};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

const PORT: u16 = 0x3f8;
const DATA: u16 = PORT;
const INTERRUPT_ENABLE: u16 = PORT + 1;
const FIFO_CONTROL: u16 = PORT + 2;
const LINE_CONTROL: u16 = PORT + 3;
const MODEM_CONTROL: u16 = PORT + 4;
const LINE_STATUS: u16 = PORT + 5;
/// Its line at the interrupt controller.
pub const ISA_IRQ: u8 = 4;

const STATUS_HAS_DATA: u8 = 1;
const STATUS_CAN_SEND: u8 = 0x20;
const FIFO_LEN: usize = 16;
/// Bytes taken in one interrupt, so that a sender without pause does not hold a CPU for good.
const RECEIVED_MAX: usize = FIFO_LEN * 4;
/// A missing port reads as all ones; a stuck one must not stop the machine.
const SEND_SPINS_MAX: usize = 100_000;
/// Longer than a port needs that is read at its other end.
const SEND_SPINS_SHORT: usize = 1_000;

static IS_LOCKED: AtomicBool = AtomicBool::new(false);
static RECEIVED: Hook<fn(u8)> = Hook::new();

/// Sets 115200 8N1 with FIFOs, interrupts off.
pub fn init() {
    // SAFETY: the port is ours; it never touches memory.
    unsafe {
        io::outb(INTERRUPT_ENABLE, 0);
        io::outb(LINE_CONTROL, 0x80);
        io::outb(DATA, 1);
        io::outb(INTERRUPT_ENABLE, 0);
        io::outb(LINE_CONTROL, 3);
        io::outb(FIFO_CONTROL, 0x07);
        io::outb(MODEM_CONTROL, 0x0b);
    }
}

/// Hands each input byte to `received` (in interrupt context) from now on.
pub fn enable_input(received: fn(u8)) {
    RECEIVED.set(received);
    raise_again();
}

/// Has the port interrupt for what it holds. Only the handler takes bytes out: with two who do, one could see a byte there,
/// the other take it, and the first would read a byte that nobody sent.
fn raise_again() {
    // SAFETY: as in init; the handler is in place.
    unsafe {
        io::outb(INTERRUPT_ENABLE, 0);
        io::outb(INTERRUPT_ENABLE, 1);
    }
}

/// The port's interrupt; for the handler of its line only.
pub fn handle_interrupt() {
    for _ in 0..RECEIVED_MAX {
        // SAFETY: reading status and data only takes bytes out of the port.
        let byte = unsafe {
            let status = io::inb(LINE_STATUS);
            if status & STATUS_HAS_DATA == 0 || status == 0xff {
                return;
            }
            io::inb(DATA)
        };
        if let Some(received) = RECEIVED.get() {
            received(byte);
        }
    }
    // The line is triggered by its edge, and stays up while the port holds something.
    raise_again();
}

/// Writes all bytes; `\n` is sent as it is. What a port that stands still does not take is lost.
pub fn write(bytes: &[u8]) {
    locked(|| send(bytes, SEND_SPINS_MAX));
}

/// Writes what the port takes without a long wait: how many bytes that was. With 0 the caller tries again later.
pub fn write_some(bytes: &[u8]) -> usize {
    locked(|| send(bytes, SEND_SPINS_SHORT))
}

/// As [`write`], but ignores who holds the port: for panics, when the other CPUs are stopped.
pub fn write_forced(bytes: &[u8]) {
    send(bytes, SEND_SPINS_MAX);
}

fn locked<R>(f: impl FnOnce() -> R) -> R {
    cpu::preempt_disable();
    while IS_LOCKED.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let result = f();
    IS_LOCKED.store(false, Ordering::Release);
    cpu::preempt_enable();
    result
}

/// How many bytes were sent before the port stood still for `spins_max` looks.
fn send(bytes: &[u8], spins_max: usize) -> usize {
    let mut sent = 0;
    for chunk in bytes.chunks(FIFO_LEN) {
        if !is_empty_within(spins_max) {
            break;
        }
        for &byte in chunk {
            // SAFETY: the FIFO has room for a chunk.
            unsafe { io::outb(DATA, byte) };
        }
        sent += chunk.len();
    }
    sent
}

fn is_empty_within(spins_max: usize) -> bool {
    for _ in 0..spins_max {
        // SAFETY: reads a status register.
        if unsafe { io::inb(LINE_STATUS) } & STATUS_CAN_SEND != 0 {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

/// The port as a formatter's target, with `\n` sent as CR LF.
#[derive(Debug)]
pub struct Console {
    /// Whether to ignore the lock.
    pub is_forced: bool,
}

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let put = if self.is_forced { write_forced } else { write };
        for (n, line) in s.split('\n').enumerate() {
            if n > 0 {
                put(b"\r\n");
            }
            if !line.is_empty() {
                put(line.as_bytes());
            }
        }
        Ok(())
    }
}
