//! The log, on the serial port.
use core::fmt::Write;
use hal::serial::Console;
use log::{LevelFilter, Log, Metadata, Record};

struct SerialLog;

impl Log for SerialLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = hal::clock::now_ns() / 1000;
        let target = record.target().split("::").next().unwrap_or_default();
        // A line may be cut by another CPU's; it is never lost. The port does not fail.
        let _ = writeln!(
            Console { is_forced: false },
            "[{:5}.{:06}] {target}: {}",
            now / 1_000_000,
            now % 1_000_000,
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Sends log records of at least this importance to the serial port.
pub fn init(level: LevelFilter) {
    // Fails only when called twice.
    let _ = log::set_logger(&SerialLog);
    log::set_max_level(level);
}
