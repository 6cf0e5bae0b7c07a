//! Timers that call back: one thread that sleeps until the next deadline.
//!
//! Used by interval timers, POSIX timers and timerfd. Blocking calls with a timeout need none of it: they park with a
//! deadline.
use alloc::collections::BTreeMap;
use alloc::sync::Weak;
use core::sync::atomic::{AtomicU64, Ordering};
use rt::thread::Thread;
use rt::time::{Instant, now};
use rt::{Mutex, Once};

/// Who is called.
pub trait Expires: Send + Sync {
    /// The deadline armed with `token` passed. Called on the timer thread; must not block for long.
    fn expired(&self, token: u64);
}

type Entries = BTreeMap<(Instant, u64), Weak<dyn Expires>>;

/// The armed timers.
#[derive(Default)]
pub struct TimerService {
    entries: Mutex<Entries>,
    next_token: AtomicU64,
    thread: Once<Thread>,
}

/// An armed deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    at: Instant,
    /// What [`Expires::expired`] is called with.
    token: u64,
}

static SERVICE: TimerService =
    TimerService { entries: Mutex::new(BTreeMap::new()), next_token: AtomicU64::new(1), thread: Once::new() };

/// A schedule and the deadline that stands for it. Its owner keeps it under a lock.
///
/// The deadline is noted here before it is armed: a short one, or one on a machine that stood still for a moment, passes
/// before the caller has come back from arming, and a timer that did not know of it then would never expire again. Arming
/// takes a lock that may block, so it comes after the owner's is released: [`Change::carry_out`].
#[derive(Debug, Default)]
pub struct Timer {
    schedule: Schedule,
    armed: Option<Armed>,
}

/// What is left to do of a change once the lock is released. In between the timer may be set anew: what is armed late is of a
/// token that the timer does not know any more.
#[derive(Debug)]
#[must_use = "nothing is armed or cancelled before"]
pub struct Change {
    armed: Option<Armed>,
    cancelled: Option<Armed>,
}

impl Timer {
    /// What it is set to.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Sets it; what it was.
    pub fn set(&mut self, schedule: Schedule) -> (Schedule, Change) {
        let cancelled = self.armed.take();
        self.armed = schedule.next.map(Armed::new);
        (core::mem::replace(&mut self.schedule, schedule), Change { armed: self.armed, cancelled })
    }

    /// Moves past `now` without waiting for the deadline; how many expirations that were.
    pub fn advance(&mut self, now: Instant) -> u64 {
        self.schedule.advance(now)
    }

    /// The deadline of `token` has passed: how many expirations that were. `None` when it is not this timer's any more.
    pub fn expired(&mut self, token: u64, now: Instant) -> Option<(u64, Change)> {
        self.armed.take_if(|armed| armed.token == token)?;
        let nr_passed = self.schedule.advance(now);
        self.armed = self.schedule.next.map(Armed::new);
        Some((nr_passed, Change { armed: self.armed, cancelled: None }))
    }
}

impl Change {
    /// Arms what is to call `target`.
    pub fn carry_out(self, target: &Weak<impl Expires + 'static>) {
        if let Some(armed) = self.cancelled {
            SERVICE.entries.lock().remove(&(armed.at, armed.token));
        }
        if let Some(armed) = self.armed {
            arm(armed, target.clone());
        }
    }
}

impl Armed {
    fn new(at: Instant) -> Self {
        Self { at, token: SERVICE.next_token.fetch_add(1, Ordering::Relaxed) }
    }
}

fn arm(armed: Armed, target: Weak<dyn Expires>) {
    let thread = SERVICE.thread.get_or_init(|| rt::thread::spawn("timers", run).thread().clone());
    let key = (armed.at, armed.token);
    let is_first = {
        let mut entries = SERVICE.entries.lock();
        entries.insert(key, target);
        entries.first_key_value().is_some_and(|(first, _)| *first == key)
    };
    if is_first {
        thread.unpark();
    }
}

fn run() {
    loop {
        let due = {
            let mut entries = SERVICE.entries.lock();
            match entries.first_key_value() {
                Some(((at, _), _)) if *at <= now() => entries.pop_first(),
                Some(((at, _), _)) => {
                    let at = *at;
                    drop(entries);
                    rt::thread::park_until(at, "timers");
                    None
                }
                None => {
                    drop(entries);
                    rt::thread::park("timers");
                    None
                }
            }
        };
        if let Some(((_, token), target)) = due
            && let Some(target) = target.upgrade()
        {
            target.expired(token);
        }
    }
}

/// A deadline that repeats: the arithmetic of interval timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Next expiration; `None` when disarmed.
    pub next: Option<Instant>,
    /// Nanoseconds between expirations; 0: once.
    pub interval: u64,
}

impl Schedule {
    /// Time to the next expiration in nanoseconds, at least 1 while armed; 0 when disarmed.
    pub fn left(&self, now: Instant) -> u64 {
        self.next.map_or(0, |next| next.0.saturating_sub(now.0).max(1))
    }

    /// Moves past `now`; how many expirations that were.
    pub fn advance(&mut self, now: Instant) -> u64 {
        let Some(next) = self.next else { return 0 };
        if next > now {
            return 0;
        }
        if self.interval == 0 {
            self.next = None;
            return 1;
        }
        let nr_passed = (now.0 - next.0) / self.interval + 1;
        self.next = Some(Instant(next.0.saturating_add(nr_passed.saturating_mul(self.interval))));
        nr_passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_passes_before_it_is_armed_is_the_timers() {
        let mut timer = Timer::default();
        let (_, change) = timer.set(Schedule { next: Some(Instant(100)), interval: 10 });
        let first = change.armed.expect("armed").token;
        let (nr_passed, again) = timer.expired(first, Instant(101)).expect("its own");
        assert_eq!((nr_passed, again.armed.map(|a| a.at)), (1, Some(Instant(110))));
        assert!(timer.expired(first, Instant(102)).is_none(), "once");
        let second = again.armed.expect("armed").token;
        let (before, stopped) = timer.set(Schedule::default());
        assert_eq!((before.next, stopped.armed), (Some(Instant(110)), None));
        assert!(timer.expired(second, Instant(111)).is_none(), "one armed after it was stopped calls nobody");
    }

    #[test]
    fn a_schedule_counts_what_it_missed() {
        let mut schedule = Schedule { next: Some(Instant(100)), interval: 10 };
        assert_eq!(schedule.advance(Instant(99)), 0);
        assert_eq!(schedule.left(Instant(99)), 1);
        assert_eq!(schedule.advance(Instant(125)), 3);
        assert_eq!(schedule.next, Some(Instant(130)));
        let mut once = Schedule { next: Some(Instant(5)), interval: 0 };
        assert_eq!((once.advance(Instant(9)), once.advance(Instant(99))), (1, 0));
        assert_eq!(once.left(Instant(9)), 0);
    }
}
