//! Processes and threads.
//!
//! | module | holds |
//! |---|---|
//! | [`process`] | what the threads of a process share |
//! | [`pids`] | who has which number |
//! | [`cred`] | user and group ids |
//! | [`place`] | root, working directory and umask |
//! | [`limits`] | resource limits |
//! | [`clone`] | new threads and processes |
//! | [`exec`] | programs |
//! | [`exit`] | ends, and waiting for them |
//!
//! A [`Task`] is a thread. Hot paths reach everything through it without a lock: its descriptor table, its place and
//! its process never change; only execve replaces its address space.
pub mod clone;
pub mod cred;
pub mod exec;
pub mod exit;
pub mod limits;
pub mod pids;
pub mod place;
pub mod process;

pub use place::Place;
pub use process::Process;

use crate::fd::{FdTable, FileRef};
use crate::glue;
use crate::signal::{Pending, SigSet};
use crate::wait::{Ended, WaitList, Waiter};
use crate::{errno::SysResult, signal};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use mm::space::AddressSpace;
use rt::time::Instant;
use rt::{Once, SpinLock};
use vfs::Caller;

/// `sigaltstack`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AltStack {
    /// Lowest byte.
    pub start: u64,
    /// Bytes; 0: none.
    pub size: u64,
    /// `SS_*` flags beyond `SS_DISABLE` and `SS_ONSTACK`.
    pub flags: u32,
}

impl AltStack {
    /// Whether `rsp` is on it.
    pub fn holds(&self, rsp: u64) -> bool {
        self.size > 0 && rsp.wrapping_sub(self.start) <= self.size && rsp > self.start
    }
}

/// A thread.
pub struct Task {
    tid: AtomicI32,
    /// Its process.
    pub process: Arc<Process>,
    /// Its descriptors.
    pub fds: Arc<FdTable>,
    /// Its root and working directory.
    pub place: Arc<Place>,
    space: SpinLock<Option<Arc<AddressSpace>>>,
    /// Address of the space, to tell it apart without touching its count.
    space_id: AtomicU64,
    /// Blocked signals.
    mask: AtomicU64,
    /// The mask to go back to when the next signal was delivered or found missing (sigsuspend, ppoll...).
    pub saved_mask: SpinLock<Option<SigSet>>,
    /// Signals for this thread alone.
    pub pending: Pending,
    /// Its alternate stack.
    pub alt_stack: SpinLock<AltStack>,
    /// Zeroed and woken when it ends (`CLONE_CHILD_CLEARTID`).
    pub clear_tid: AtomicU64,
    /// Head of its robust futex list.
    pub robust_list: AtomicU64,
    waiter: Once<Arc<Waiter>>,
    /// Its scheduler thread.
    pub(crate) thread: Once<glue::ThreadHandle>,
    /// `PR_SET_NAME`.
    pub name: SpinLock<[u8; 16]>,
}

/// What a new task is made of.
pub struct Parts {
    /// Number.
    pub tid: i32,
    /// Process.
    pub process: Arc<Process>,
    /// Descriptors.
    pub fds: Arc<FdTable>,
    /// Place.
    pub place: Arc<Place>,
    /// Memory.
    pub space: Arc<AddressSpace>,
    /// Blocked signals.
    pub mask: SigSet,
    /// Name.
    pub name: [u8; 16],
}

impl Task {
    /// A task that does not run yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            tid: AtomicI32::new(parts.tid),
            process: parts.process,
            fds: parts.fds,
            place: parts.place,
            space_id: AtomicU64::new(Arc::as_ptr(&parts.space) as u64),
            space: SpinLock::new(Some(parts.space)),
            mask: AtomicU64::new(parts.mask.as_mask().0),
            saved_mask: SpinLock::new(None),
            pending: Pending::new(),
            alt_stack: SpinLock::default(),
            clear_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            waiter: Once::new(),
            thread: Once::new(),
            name: SpinLock::new(parts.name),
        })
    }

    /// Its number.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    pub(crate) fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Its memory.
    ///
    /// # Panics
    /// After its end: nothing asks then.
    pub fn space(&self) -> Arc<AddressSpace> {
        self.space.lock().clone().expect("a running task has memory")
    }

    /// Its memory, if it has not ended.
    pub fn space_if_alive(&self) -> Option<Arc<AddressSpace>> {
        self.space.lock().clone()
    }

    /// Replaces its memory; what it was.
    pub(crate) fn set_space(&self, space: Option<Arc<AddressSpace>>) -> Option<Arc<AddressSpace>> {
        self.space_id.store(space.as_ref().map_or(0, |s| Arc::as_ptr(s) as u64), Ordering::Relaxed);
        core::mem::replace(&mut *self.space.lock(), space)
    }

    /// Differs between the spaces of live tasks.
    pub fn space_id(&self) -> u64 {
        self.space_id.load(Ordering::Relaxed)
    }

    /// The file of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn file(&self, fd: i32) -> SysResult<FileRef> {
        self.fds.get(fd)
    }

    /// Blocked signals.
    pub fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::SeqCst))
    }

    /// Replaces the mask; pending signals that it no longer blocks are taken on the way back to the application.
    pub fn set_mask(&self, mask: SigSet) {
        self.mask.store(mask.as_mask().0, Ordering::SeqCst);
        if self.has_signal() {
            glue::request_work_here();
        }
    }

    /// Whether there is a signal to take, or the process ends.
    pub fn has_signal(&self) -> bool {
        let pending = self.pending.set().0 | self.process.pending.set().0;
        pending & !self.mask().0 != 0 || self.process.is_exiting()
    }

    /// Makes the task look at its signals soon, wherever it is.
    pub fn interrupt(&self) {
        if let Some(thread) = self.thread.get() {
            thread.request_work();
        }
        if let Some(waiter) = self.waiter.get() {
            waiter.nudge();
        }
    }

    /// Its place in wait lists. First called by the thread itself, before it runs the application.
    pub fn waiter(&self) -> &Arc<Waiter> {
        self.waiter.get_or_init(Waiter::of_current)
    }

    /// Blocks until `ready` gives a value.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn wait<R>(
        &self,
        list: &WaitList,
        deadline: Instant,
        reason: &'static str,
        ready: impl FnMut() -> Option<R>,
    ) -> Result<R, Ended> {
        list.wait(self.waiter(), deadline, reason, &|| self.has_signal(), ready)
    }

    /// Sleeps until `deadline` (true) or a signal (false).
    pub fn sleep(&self, deadline: Instant) -> bool {
        let waiter = self.waiter();
        waiter.reset();
        waiter.park(deadline, "sleep", &|| self.has_signal()) != Err(Ended::Signal)
    }

    /// Runs `f` as the caller of file-system operations.
    pub fn with_caller<R>(&self, f: impl FnOnce(Caller<'_>) -> R) -> R {
        let cred = self.process.cred.lock().clone();
        f(cred.as_caller())
    }
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Task({} of {})", self.tid(), self.process.pid)
    }
}

/// The task of the calling thread, if it is an application's.
pub fn current() -> Option<Arc<Task>> {
    glue::current_task()
}

/// Sends SIGSEGV and the like to the calling thread so that it cannot be ignored or blocked.
pub fn force_signal(task: &Task, info: signal::SigInfo) {
    signal::send::force(task, info);
}
