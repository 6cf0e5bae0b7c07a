//! What a signal says about itself.

/// `si_code`: sent by kill.
pub const SI_USER: i32 = 0;
/// `si_code`: sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code`: sent by sigqueue.
pub const SI_QUEUE: i32 = -1;
/// `si_code`: a POSIX timer.
pub const SI_TIMER: i32 = -2;
/// `si_code`: sent by tgkill.
pub const SI_TKILL: i32 = -6;
/// `si_code` of SIGSEGV: nothing mapped.
pub const SEGV_MAPERR: i32 = 1;
/// `si_code` of SIGSEGV: not allowed.
pub const SEGV_ACCERR: i32 = 2;
/// `si_code` of SIGBUS: past the end of the file.
pub const BUS_ADRERR: i32 = 2;
/// `si_code` of SIGBUS: alignment.
pub const BUS_ADRALN: i32 = 1;
/// `si_code` of SIGILL: the operation code.
pub const ILL_ILLOPN: i32 = 2;
/// `si_code` of SIGFPE: integer division.
pub const FPE_INTDIV: i32 = 1;
/// `si_code` of SIGFPE: floating-point, not told more exactly.
pub const FPE_FLTINV: i32 = 7;
/// `si_code` of SIGTRAP: breakpoint.
pub const TRAP_BRKPT: i32 = 1;
/// `si_code` of SIGTRAP: single step.
pub const TRAP_TRACE: i32 = 2;
/// `si_code` of SIGCHLD: exited.
pub const CLD_EXITED: i32 = 1;
/// `si_code` of SIGCHLD: killed.
pub const CLD_KILLED: i32 = 2;
/// `si_code` of SIGCHLD: killed, core dumped.
pub const CLD_DUMPED: i32 = 3;

/// Where it comes from, with what that adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel.
    Kernel,
    /// A process.
    Process {
        /// Sender.
        pid: i32,
        /// Its real user.
        uid: u32,
    },
    /// A process, with a value.
    Queue {
        /// Sender.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// The value.
        value: u64,
    },
    /// An instruction.
    Fault {
        /// The address it accessed, or its own.
        addr: u64,
    },
    /// A child.
    Child {
        /// Which.
        pid: i32,
        /// Its real user.
        uid: u32,
        /// Exit code or signal.
        status: i32,
    },
    /// A POSIX timer.
    Timer {
        /// Which.
        id: i32,
        /// Expirations missed.
        overrun: i32,
        /// The value it was made with.
        value: u64,
    },
}

/// A signal with its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Number.
    pub signo: u32,
    /// `si_code`.
    pub code: i32,
    /// Origin.
    pub source: Source,
}

/// Bytes of `siginfo_t`.
pub const SIZE: usize = 128;

impl SigInfo {
    /// From the kernel itself.
    pub const fn kernel(signo: u32) -> Self {
        Self { signo, code: SI_KERNEL, source: Source::Kernel }
    }

    /// The layout of `siginfo_t`.
    pub fn to_bytes(&self) -> [u8; SIZE] {
        let mut out = [0; SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.signo.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match self.source {
            Source::Kernel => {}
            Source::Process { pid, uid } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
            }
            Source::Queue { pid, uid, value } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            Source::Fault { addr } => put(16, &addr.to_le_bytes()),
            Source::Child { pid, uid, status } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
            }
            Source::Timer { id, overrun, value } => {
                put(16, &id.to_le_bytes());
                put(20, &overrun.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
        }
        out
    }

    /// From a `siginfo_t` that an application passes to rt_sigqueueinfo.
    pub fn from_bytes(signo: u32, bytes: &[u8; SIZE]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let value = u64::from(word(24)) | u64::from(word(28)) << 32;
        let source = Source::Queue { pid: word(16) as i32, uid: word(20), value };
        Self { signo, code: word(8) as i32, source }
    }
}
