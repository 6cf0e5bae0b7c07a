//! Signals: sets, actions, what is pending, and delivery.
//!
//! | module | holds |
//! |---|---|
//! | [`info`] | what a signal says about itself, in Linux's layout |
//! | [`pending`] | signals sent and not yet taken |
//! | [`frame`] | the frame on the application's stack, and the way back from it |
//! | [`send`] | whom a signal goes to, and how that thread learns of it |
//! | [`deliver`] | what happens to a signal that is taken |
pub mod deliver;
pub mod frame;
pub mod info;
pub mod pending;
pub mod send;

pub use info::{SigInfo, Source};
pub use pending::Pending;

use rt::SpinLock;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of signals; they count from 1.
pub const NSIG: usize = 64;

macro_rules! signals {
    ($($name:ident = $n:literal,)*) => {
        $(#[doc = stringify!($name)] pub const $name: u32 = $n;)*
        /// A signal's name, for traces.
        pub const fn name(signo: u32) -> &'static str {
            match signo { $($n => stringify!($name),)* _ => "SIGRT" }
        }
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9,
    SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15, SIGSTKFLT = 16, SIGCHLD = 17,
    SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25,
    SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31,
}

/// Flag of an action: the handler takes three arguments.
pub const SA_SIGINFO: u64 = 4;
/// Flag: children leave no zombies.
pub const SA_NOCLDWAIT: u64 = 2;
/// Flag: run on the alternate stack.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// Flag: interrupted calls are repeated.
pub const SA_RESTART: u64 = 0x1000_0000;
/// Flag: the signal itself is not blocked while its handler runs.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// Flag: the action is reset when the handler starts.
pub const SA_RESETHAND: u64 = 0x8000_0000;

/// Handler value: default action.
pub const SIG_DFL: u64 = 0;
/// Handler value: ignore.
pub const SIG_IGN: u64 = 1;

/// A set of signals; bit n-1 is signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// Those that can never be blocked or handled.
    pub const UNBLOCKABLE: Self = Self(bit(SIGKILL) | bit(SIGSTOP));
    /// Those a fault raises: they are taken first, before anything else moves the instruction pointer.
    pub const SYNCHRONOUS: Self =
        Self(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS));

    /// Whether `signo` is a member.
    pub const fn contains(self, signo: u32) -> bool {
        self.0 & bit(signo) != 0
    }

    /// The set with `signo`.
    #[must_use]
    pub const fn with(self, signo: u32) -> Self {
        Self(self.0 | bit(signo))
    }

    /// As a mask: without what cannot be blocked.
    #[must_use]
    pub const fn as_mask(self) -> Self {
        Self(self.0 & !Self::UNBLOCKABLE.0)
    }
}

/// The bit of a signal; 0 for numbers that are none.
pub const fn bit(signo: u32) -> u64 {
    if signo >= 1 && signo <= NSIG as u32 { 1 << (signo - 1) } else { 0 }
}

/// What to do about a signal; the layout is the kernel's `struct sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Action {
    /// [`SIG_DFL`], [`SIG_IGN`] or an address.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: u64,
}

/// What a default action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Ends the process.
    Terminate,
    /// Ends the process; Linux would write a core file.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues it.
    Continue,
}

/// The default action of a signal.
pub const fn default_of(signo: u32) -> Disposition {
    match signo {
        SIGCHLD | SIGURG | SIGWINCH => Disposition::Ignore,
        SIGCONT => Disposition::Continue,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Disposition::Stop,
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS => {
            Disposition::Core
        }
        _ => Disposition::Terminate,
    }
}

/// The actions of a process (shared by `CLONE_SIGHAND`).
#[derive(Debug)]
pub struct Actions(SpinLock<[Action; NSIG]>);

impl Actions {
    /// All default.
    pub fn new() -> Self {
        Self(SpinLock::new([Action::default(); NSIG]))
    }

    /// The action of `signo`.
    pub fn get(&self, signo: u32) -> Action {
        self.0.lock().get((signo as usize).wrapping_sub(1)).copied().unwrap_or_default()
    }

    /// Sets it; the one before.
    pub fn set(&self, signo: u32, action: Action) -> Action {
        let mut all = self.0.lock();
        match all.get_mut((signo as usize).wrapping_sub(1)) {
            Some(slot) => core::mem::replace(slot, action),
            None => Action::default(),
        }
    }

    /// A copy, as fork makes it.
    pub fn duplicate(&self) -> Self {
        Self(SpinLock::new(*self.0.lock()))
    }

    /// Handlers become default, what is ignored stays so (execve).
    pub fn reset_handlers(&self) {
        for action in self.0.lock().iter_mut() {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action { handler, ..Action::default() };
        }
    }

    /// Whether the signal would be thrown away if it were taken now.
    pub fn is_ignored(&self, signo: u32) -> bool {
        match self.get(signo).handler {
            SIG_IGN => signo != SIGKILL && signo != SIGSTOP,
            SIG_DFL => matches!(default_of(signo), Disposition::Ignore | Disposition::Continue),
            _ => false,
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
