//! timerfd: a timer to read from.
use super::{FileObject, anonymous_attr, anonymous_ino};
use crate::errno::{Errno, SysResult};
use crate::task::Task;
use crate::timers::{Expires, Schedule, Timer};
use crate::wait::WaitList;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use rt::SpinLock;
use rt::time::{Instant, now};
use vfs::{Attr, FileType, FlagCell, OpenFlags, PollQueue, Pollable, ReadSink, Readiness};

#[derive(Debug, Default)]
struct State {
    timer: Timer,
    /// Expirations not read yet.
    nr_expired: u64,
}

/// A timerfd.
#[derive(Debug)]
pub struct TimerFd {
    me: Weak<Self>,
    ino: u64,
    /// `CLOCK_*` it counts on.
    pub clock: i32,
    state: SpinLock<State>,
    flags: FlagCell,
    readers: WaitList,
    watchers: PollQueue,
}

impl TimerFd {
    /// A disarmed one.
    pub fn create(clock: i32, flags: OpenFlags) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            ino: anonymous_ino(),
            clock,
            state: SpinLock::default(),
            flags: FlagCell::new(flags | OpenFlags::READ),
            readers: WaitList::new(),
            watchers: PollQueue::new(),
        })
    }

    /// Sets it; what it was.
    pub fn set(&self, schedule: Schedule) -> Schedule {
        let (before, change) = {
            let mut state = self.state.lock();
            state.nr_expired = 0;
            state.timer.set(schedule)
        };
        change.carry_out(&self.me);
        before
    }

    /// What it is set to.
    pub fn get(&self) -> Schedule {
        let mut state = self.state.lock();
        let n = state.timer.advance(now());
        state.nr_expired += n;
        state.timer.schedule()
    }

    fn take(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let n = state.timer.advance(now());
        let total = core::mem::take(&mut state.nr_expired) + n;
        (total > 0).then_some(total)
    }
}

impl Expires for TimerFd {
    fn expired(&self, token: u64) {
        let change = {
            let mut state = self.state.lock();
            let Some((nr_passed, change)) = state.timer.expired(token, now()) else { return };
            state.nr_expired += nr_passed;
            change
        };
        change.carry_out(&self.me);
        self.readers.wake_all();
        self.watchers.notify(Readiness::IN);
    }
}

impl FileObject for TimerFd {
    fn flag_cell(&self) -> &FlagCell {
        &self.flags
    }

    fn read(&self, task: &Task, sink: &mut dyn ReadSink) -> SysResult {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let n = match self.take() {
            Some(n) => n,
            None if self.flags.is_nonblocking() => return Err(Errno::EAGAIN),
            None => task
                .wait(&self.readers, Instant::NEVER, "timerfd", || self.take())
                .map_err(|_| Errno::RESTARTSYS)?,
        };
        sink.put(&n.to_le_bytes())?;
        Ok(8)
    }

    fn getattr(&self) -> SysResult<Attr> {
        Ok(anonymous_attr(self.ino, FileType::Regular, 0o600))
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }
}

impl Pollable for TimerFd {
    fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        let is_due = state.nr_expired > 0 || state.timer.schedule().next.is_some_and(|at| at <= now());
        if is_due { Readiness::IN } else { Readiness::empty() }
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        Some(&self.watchers)
    }
}
