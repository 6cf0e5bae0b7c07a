//! Interval timers: setitimer and alarm.
//!
//! `ITIMER_REAL` sends SIGALRM. The CPU-time timers (`ITIMER_VIRTUAL`, `ITIMER_PROF`) are not offered.
use crate::signal::{self, SigInfo};
use crate::task::Process;
use crate::timers::{self, Armed, Expires, Schedule};
use alloc::sync::{Arc, Weak};
use rt::time::now;
use rt::{Once, SpinLock};

#[derive(Debug, Default)]
struct State {
    schedule: Schedule,
    armed: Option<Armed>,
}

/// The real-time interval timer of a process.
#[derive(Debug)]
pub struct IntervalTimers {
    process: Weak<Process>,
    real: Once<Arc<RealTimer>>,
}

#[derive(Debug)]
struct RealTimer {
    me: Weak<Self>,
    process: Weak<Process>,
    state: SpinLock<State>,
}

impl IntervalTimers {
    /// Disarmed.
    pub const fn new(process: Weak<Process>) -> Self {
        Self { process, real: Once::new() }
    }

    fn real(&self) -> &Arc<RealTimer> {
        self.real.get_or_init(|| {
            Arc::new_cyclic(|me| RealTimer {
                me: me.clone(),
                process: self.process.clone(),
                state: SpinLock::default(),
            })
        })
    }

    /// Sets the real-time timer; what it was.
    pub fn set(&self, schedule: Schedule) -> Schedule {
        let timer = self.real();
        let armed = schedule.next.map(|at| {
            let target: Weak<dyn Expires> = timer.me.clone();
            timers::arm(at, target)
        });
        let before = core::mem::replace(&mut *timer.state.lock(), State { schedule, armed });
        if let Some(armed) = before.armed {
            timers::cancel(armed);
        }
        before.schedule
    }

    /// What the real-time timer is set to.
    pub fn get(&self) -> Schedule {
        self.real.get().map_or_else(Schedule::default, |timer| timer.state.lock().schedule)
    }

    /// Disarms (the process ended).
    pub fn clear(&self) {
        if self.real.get().is_some() {
            self.set(Schedule::default());
        }
    }
}

impl Expires for RealTimer {
    fn expired(&self, token: u64) {
        let next = {
            let mut state = self.state.lock();
            if state.armed.is_none_or(|a| a.token != token) {
                return;
            }
            state.schedule.advance(now());
            state.armed = None;
            state.schedule.next
        };
        if let Some(at) = next {
            let armed = timers::arm(at, self.me.clone());
            self.state.lock().armed = Some(armed);
        }
        if let Some(process) = self.process.upgrade() {
            signal::send::to_process(&process, SigInfo::kernel(signal::SIGALRM));
        }
    }
}
