//! What exists once: the name space, the lock table, the terminal, how the kernel was started.
use crate::fd::console::Console;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rt::Once;
use rt::time::{Instant, now};
use vfs::{LockTable, Namespace};

/// The system.
pub struct Kernel {
    /// Names.
    pub namespace: Arc<Namespace>,
    /// Advisory locks.
    pub locks: Arc<LockTable>,
    /// The terminal.
    pub console: Arc<Console>,
    /// Print calls as they happen.
    pub is_traced: bool,
    /// Host name.
    pub hostname: Vec<u8>,
    /// The kernel's command line, for /proc/cmdline.
    pub cmdline: Vec<u8>,
    /// When it started.
    pub started: Instant,
}

static KERNEL: Once<Kernel> = Once::new();

/// Makes the system; once.
pub fn init(make: impl FnOnce() -> Kernel) -> &'static Kernel {
    KERNEL.get_or_init(make)
}

/// The system.
///
/// # Panics
/// Before [`init`]: no task exists then.
pub fn kernel() -> &'static Kernel {
    KERNEL.get().expect("the system is made before its first task")
}

impl Kernel {
    /// Time since start.
    pub fn uptime(&self) -> core::time::Duration {
        now().since(self.started)
    }
}

impl core::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Kernel")
    }
}
