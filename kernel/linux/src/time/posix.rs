//! POSIX timers: timer_create and its family.
use crate::errno::{Errno, SysResult};
use crate::signal::{self, SigInfo, Source, info};
use crate::task::{Process, Task, pids};
use crate::timers::{Expires, Schedule, Timer};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use rt::SpinLock;
use rt::time::now;

/// Most timers of one process.
const TIMERS_MAX: usize = 1024;

/// Whom an expiration is told.
#[derive(Clone, Debug)]
pub enum Notify {
    /// No one.
    None,
    /// The process, by a signal with a value.
    Process(u32, u64),
    /// One thread, by a signal with a value.
    Thread(Weak<Task>, u32, u64),
}

/// The timers of a process.
#[derive(Debug)]
pub struct PosixTimers {
    process: Weak<Process>,
    all: SpinLock<BTreeMap<i32, Arc<PosixTimer>>>,
}

/// One timer.
#[derive(Debug)]
pub struct PosixTimer {
    me: Weak<Self>,
    id: i32,
    /// `CLOCK_*` it counts on.
    pub clock: i32,
    process: Weak<Process>,
    notify: Notify,
    state: SpinLock<State>,
}

#[derive(Debug, Default)]
struct State {
    timer: Timer,
    overrun: u64,
}

impl PosixTimers {
    /// None.
    pub const fn new(process: Weak<Process>) -> Self {
        Self { process, all: SpinLock::new(BTreeMap::new()) }
    }

    /// Makes a timer; its number.
    ///
    /// # Errors
    /// [`Errno::EAGAIN`].
    pub fn create(&self, clock: i32, notify: impl FnOnce(i32) -> Notify) -> SysResult<i32> {
        let mut all = self.all.lock();
        if all.len() >= TIMERS_MAX {
            return Err(Errno::EAGAIN);
        }
        let id = all.last_key_value().map_or(0, |(id, _)| id + 1);
        let notify = notify(id);
        let timer = Arc::new_cyclic(|me| PosixTimer {
            me: me.clone(),
            id,
            clock,
            process: self.process.clone(),
            notify,
            state: SpinLock::default(),
        });
        all.insert(id, timer);
        Ok(id)
    }

    /// The timer with a number.
    ///
    /// # Errors
    /// [`Errno::EINVAL`].
    pub fn get(&self, id: i32) -> SysResult<Arc<PosixTimer>> {
        self.all.lock().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Removes a timer.
    ///
    /// # Errors
    /// [`Errno::EINVAL`].
    pub fn delete(&self, id: i32) -> SysResult<()> {
        let timer = self.all.lock().remove(&id).ok_or(Errno::EINVAL)?;
        timer.set(Schedule::default());
        Ok(())
    }

    /// Removes all (execve, exit).
    pub fn clear(&self) {
        let all = core::mem::take(&mut *self.all.lock());
        for timer in all.into_values() {
            timer.set(Schedule::default());
        }
    }
}

impl PosixTimer {
    /// Sets it; what it was.
    pub fn set(&self, schedule: Schedule) -> Schedule {
        let (before, change) = {
            let mut state = self.state.lock();
            state.overrun = 0;
            state.timer.set(schedule)
        };
        change.carry_out(&self.me);
        before
    }

    /// What it is set to.
    pub fn schedule(&self) -> Schedule {
        self.state.lock().timer.schedule()
    }

    /// Expirations beyond the last signal.
    pub fn overrun(&self) -> u64 {
        self.state.lock().overrun
    }
}

impl Expires for PosixTimer {
    fn expired(&self, token: u64) {
        let (missed, change) = {
            let mut state = self.state.lock();
            let Some((nr_passed, change)) = state.timer.expired(token, now()) else { return };
            state.overrun = nr_passed.saturating_sub(1);
            (state.overrun, change)
        };
        change.carry_out(&self.me);
        let overrun = i32::try_from(missed).unwrap_or(i32::MAX);
        let make = |signo, value| {
            let source = Source::Timer { id: self.id, overrun, value };
            SigInfo { signo, code: info::SI_TIMER, source }
        };
        match &self.notify {
            Notify::None => {}
            Notify::Process(signo, value) => {
                if let Some(process) = self.process.upgrade() {
                    signal::send::to_process(&process, make(*signo, *value));
                }
            }
            Notify::Thread(task, signo, value) => {
                if let Some(task) = task.upgrade() {
                    signal::send::to_task(&task, make(*signo, *value));
                }
            }
        }
    }
}

/// The thread a `SIGEV_THREAD_ID` timer names, if it is one of the process'.
pub fn thread_of(task: &Task, tid: i32) -> Option<Weak<Task>> {
    let target = pids::task(tid)?;
    Arc::ptr_eq(&target.process, &task.process).then(|| Arc::downgrade(&target))
}
