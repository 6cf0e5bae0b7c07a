//! What the threads of a process share.
use super::cred::Credentials;
use super::limits::{self, Limits};
use super::{Task, pids};
use crate::signal::{Actions, Pending};
use crate::time::itimer::IntervalTimers;
use crate::time::posix::PosixTimers;
use crate::wait::WaitList;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use rt::SpinLock;
use rt::time::{Instant, now};
use vfs::DentryRef;

/// What /proc shows of the program.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its file.
    pub exe: Option<DentryRef>,
    /// Arguments, each with its NUL.
    pub cmdline: Vec<u8>,
    /// Environment, each with its NUL.
    pub environ: Vec<u8>,
    /// Auxiliary vector.
    pub auxv: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By exit, with the low eight bits of its argument.
    Exited(u8),
    /// By a signal.
    Killed {
        /// Which.
        signo: u32,
        /// Linux would have written a core file.
        is_core: bool,
    },
}

impl Ending {
    /// As wait(2) encodes it.
    pub const fn to_status(self) -> i32 {
        match self {
            Self::Exited(code) => (code as i32) << 8,
            Self::Killed { signo, is_core } => signo as i32 | if is_core { 0x80 } else { 0 },
        }
    }

    /// As a shell tells it.
    pub const fn to_exit_code(self) -> i32 {
        match self {
            Self::Exited(code) => code as i32,
            Self::Killed { signo, .. } => 128 + signo as i32,
        }
    }
}

/// CPU time, nanoseconds.
#[derive(Debug, Default)]
pub struct CpuTime {
    /// Of threads that have ended.
    pub ended: AtomicU64,
    /// Of children that were waited for.
    pub children: AtomicU64,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Number.
    pub pid: i32,
    /// Who is told of its end.
    parent: SpinLock<Weak<Process>>,
    /// Process group.
    pub pgid: AtomicI32,
    /// Session.
    pub sid: AtomicI32,
    /// Signal actions.
    pub actions: Arc<Actions>,
    /// Signals for any of its threads.
    pub pending: Pending,
    /// Threads that run.
    pub threads: SpinLock<Vec<Arc<Task>>>,
    /// Children, ended ones included until they are waited for.
    pub children: SpinLock<Vec<Arc<Process>>>,
    /// Told when a child ends.
    pub child_events: WaitList,
    /// Told when a thread ends (execve waits for the others).
    pub thread_events: WaitList,
    ending: SpinLock<Option<Ending>>,
    is_exiting: AtomicBool,
    is_zombie: AtomicBool,
    /// What the parent is sent at the end; 0: nothing.
    pub exit_signal: AtomicU32,
    /// Users and groups.
    pub cred: SpinLock<Credentials>,
    /// Resource limits.
    pub limits: SpinLock<Limits>,
    /// The program.
    pub image: SpinLock<Image>,
    /// `setitimer`.
    pub itimers: IntervalTimers,
    /// `timer_create`.
    pub timers: PosixTimers,
    /// Accounting.
    pub cpu_time: CpuTime,
    /// Start.
    pub started: Instant,
    /// The parent of a vfork waits here until the memory is given back.
    pub vfork_done: WaitList,
    is_vfork_done: AtomicBool,
}

impl Process {
    /// The first process.
    pub fn first(cred: Credentials) -> Arc<Self> {
        let pid = pids::allocate();
        Self::build(pid, Weak::new(), (pid, pid), Arc::new(Actions::new()), cred, limits::initial())
    }

    /// A child of `self`, known but without threads.
    pub fn child(self: &Arc<Self>, actions: Arc<Actions>, parent: &Arc<Self>) -> Arc<Self> {
        let ids = (self.pgid.load(Ordering::Relaxed), self.sid.load(Ordering::Relaxed));
        let (cred, limits) = (self.cred.lock().clone(), *self.limits.lock());
        let child = Self::build(pids::allocate(), Arc::downgrade(parent), ids, actions, cred, limits);
        *child.image.lock() = self.image.lock().clone();
        parent.children.lock().push(child.clone());
        child
    }

    fn build(
        pid: i32,
        parent: Weak<Self>,
        (pgid, sid): (i32, i32),
        actions: Arc<Actions>,
        cred: Credentials,
        limits: Limits,
    ) -> Arc<Self> {
        let process = Arc::new_cyclic(|me| Self {
            pid,
            parent: SpinLock::new(parent),
            pgid: AtomicI32::new(pgid),
            sid: AtomicI32::new(sid),
            actions,
            pending: Pending::new(),
            threads: SpinLock::default(),
            children: SpinLock::default(),
            child_events: WaitList::new(),
            thread_events: WaitList::new(),
            ending: SpinLock::new(None),
            is_exiting: AtomicBool::new(false),
            is_zombie: AtomicBool::new(false),
            exit_signal: AtomicU32::new(0),
            cred: SpinLock::new(cred),
            limits: SpinLock::new(limits),
            image: SpinLock::default(),
            itimers: IntervalTimers::new(me.clone()),
            timers: PosixTimers::new(me.clone()),
            cpu_time: CpuTime::default(),
            started: now(),
            vfork_done: WaitList::new(),
            is_vfork_done: AtomicBool::new(false),
        });
        pids::add_process(&process);
        process
    }

    /// The parent, if it still runs.
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.parent.lock().upgrade()
    }

    /// The parent's number; 0 for the first process.
    pub fn ppid(&self) -> i32 {
        self.parent().map_or(0, |p| p.pid)
    }

    /// Gives it another parent.
    pub fn set_parent(&self, parent: &Arc<Self>) {
        *self.parent.lock() = Arc::downgrade(parent);
    }

    /// A limit's value in force.
    pub fn limit(&self, which: usize) -> u64 {
        self.limits.lock().get(which).map_or(limits::INFINITY, |l| l.soft)
    }

    /// Most descriptors.
    pub fn nofile(&self) -> usize {
        usize::try_from(self.limit(limits::NOFILE)).unwrap_or(usize::MAX)
    }

    /// Whether all its threads must end.
    pub fn is_exiting(&self) -> bool {
        self.is_exiting.load(Ordering::SeqCst)
    }

    /// Begins the end of all threads; the first caller's ending counts.
    pub fn begin_exit(&self, ending: Ending) {
        {
            let mut slot = self.ending.lock();
            slot.get_or_insert(ending);
            self.is_exiting.store(true, Ordering::SeqCst);
        }
        let threads = self.threads.lock().clone();
        threads.iter().for_each(|t| t.interrupt());
    }

    /// Makes every thread but `survivor` end (execve), without ending the process.
    pub fn end_other_threads(&self, survivor: &Task) {
        let threads = self.threads.lock().clone();
        for thread in threads.iter().filter(|t| !core::ptr::eq(&***t, survivor)) {
            thread.pending.push(crate::signal::SigInfo::kernel(crate::signal::SIGKILL));
            thread.interrupt();
        }
    }

    /// How it ended, once it began to.
    pub fn ending(&self) -> Option<Ending> {
        *self.ending.lock()
    }

    /// Notes the ending of a process whose last thread called exit.
    pub fn set_ending_if_none(&self, ending: Ending) -> Ending {
        *self.ending.lock().get_or_insert(ending)
    }

    /// Whether it has ended and waits to be waited for.
    pub fn is_zombie(&self) -> bool {
        self.is_zombie.load(Ordering::SeqCst)
    }

    pub(crate) fn set_zombie(&self) {
        self.is_zombie.store(true, Ordering::SeqCst);
    }

    /// Whether the parent of a vfork may go on.
    pub fn is_vfork_done(&self) -> bool {
        self.is_vfork_done.load(Ordering::SeqCst)
    }

    /// Lets the parent of a vfork go on.
    pub fn finish_vfork(&self) {
        if !self.is_vfork_done.swap(true, Ordering::SeqCst) {
            self.vfork_done.wake_all();
        }
    }

    /// The thread with the process' own number, or any other.
    pub fn main_thread(&self) -> Option<Arc<Task>> {
        let threads = self.threads.lock();
        threads.iter().find(|t| t.tid() == self.pid).or_else(|| threads.first()).cloned()
    }

    /// CPU time of all threads, ended ones included, nanoseconds.
    pub fn cpu_nanos(&self) -> u64 {
        let running: u64 = self.threads.lock().iter().map(|t| crate::glue::cpu_nanos(t)).sum();
        self.cpu_time.ended.load(Ordering::Relaxed) + running
    }
}
