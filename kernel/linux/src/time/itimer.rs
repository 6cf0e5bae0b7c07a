//! Interval timers: setitimer and alarm.
//!
//! `ITIMER_REAL` sends SIGALRM. The CPU-time timers (`ITIMER_VIRTUAL`, `ITIMER_PROF`) are not offered.
use crate::signal::{self, SigInfo};
use crate::task::Process;
use crate::timers::{Expires, Schedule, Timer};
use alloc::sync::{Arc, Weak};
use rt::time::now;
use rt::{Once, SpinLock};

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
    timer: SpinLock<Timer>,
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
                timer: SpinLock::default(),
            })
        })
    }

    /// Sets the real-time timer; what it was.
    pub fn set(&self, schedule: Schedule) -> Schedule {
        let real = self.real();
        let (before, change) = real.timer.lock().set(schedule);
        change.carry_out(&real.me);
        before
    }

    /// What the real-time timer is set to.
    pub fn get(&self) -> Schedule {
        self.real.get().map_or_else(Schedule::default, |real| real.timer.lock().schedule())
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
        let Some((_, change)) = self.timer.lock().expired(token, now()) else { return };
        change.carry_out(&self.me);
        if let Some(process) = self.process.upgrade() {
            signal::send::to_process(&process, SigInfo::kernel(signal::SIGALRM));
        }
    }
}
