//! What a panic prints: the message, where it happened, the functions that led there.
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hal::addr::IMAGE_BASE;
use hal::backtrace;
use hal::serial::Console;
use hal::trap::{Fault, TrapFrame};
use hal::{cpu, io, power};

/// Where the prepared image's symbol table lies: filled in by the tool that prepares it (see kernel/boot), zero in
/// the linker's output.
#[repr(C)]
struct SymbolsAt {
    magic: [u8; 16],
    start: AtomicU64,
    len: AtomicU64,
}

#[used]
static SYMBOLS_AT: SymbolsAt =
    SymbolsAt { magic: *b"zeolite-symbols\0", start: AtomicU64::new(0), len: AtomicU64::new(0) };

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// Addresses of the symbol table, if the image has one.
pub fn symbols() -> Option<core::ops::Range<usize>> {
    let start = SYMBOLS_AT.start.load(Ordering::Relaxed) as usize;
    let len = SYMBOLS_AT.len.load(Ordering::Relaxed) as usize;
    (start >= IMAGE_BASE && len != 0).then(|| start..start + len)
}

/// Makes the symbol table known to backtraces.
pub fn load_symbols() {
    if let Some(table) = symbols() {
        // SAFETY: the preparing tool put a loaded segment there; memory::init keeps it.
        unsafe { backtrace::set_table(table.start, table.len()) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    say(format_args!("kernel panic on CPU {}: {info}", cpu::id()));
    trace(backtrace::frame_pointer(), None);
    power::exit_after_panic()
}

/// Ends the machine after an exception nobody handles.
pub fn fatal_trap(frame: &TrapFrame, fault: Fault, what: &str) -> ! {
    begin();
    say(format_args!("kernel panic on CPU {}: {what}: {fault:x?}\n{frame:?}", cpu::id()));
    trace(frame.rbp as usize, Some(frame.rip as usize));
    power::exit_after_panic()
}

/// Alone from here on. A panic while panicking ends at once.
fn begin() {
    io::disable_interrupts();
    cpu::preempt_disable();
    if HAS_PANICKED.swap(true, Ordering::SeqCst) {
        power::exit_after_panic();
    }
    power::stop_other_cpus();
}

fn say(line: core::fmt::Arguments<'_>) {
    // The port does not fail.
    let _ = Console { is_forced: true }.write_fmt(format_args!("{line}\n"));
}

fn trace(frame: usize, first: Option<usize>) {
    let show = |n: usize, address: usize| match backtrace::symbol(address) {
        Some((name, offset)) => say(format_args!("  {n:2}: {address:#x} {name}+{offset:#x}")),
        None => say(format_args!("  {n:2}: {address:#x}")),
    };
    let mut n = 0;
    if let Some(address) = first {
        show(0, address);
        n = 1;
    }
    backtrace::walk(frame, |address| {
        show(n, address);
        n += 1;
    });
}
