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

/// An armed timer, for cancelling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    at: Instant,
    /// What [`Expires::expired`] is called with.
    pub token: u64,
}

static SERVICE: TimerService =
    TimerService { entries: Mutex::new(BTreeMap::new()), next_token: AtomicU64::new(1), thread: Once::new() };

/// Calls `target` at `at`, unless it is gone by then.
pub fn arm(at: Instant, target: Weak<dyn Expires>) -> Armed {
    let thread = SERVICE.thread.get_or_init(|| rt::thread::spawn("timers", run).thread().clone());
    let token = SERVICE.next_token.fetch_add(1, Ordering::Relaxed);
    let is_first = {
        let mut entries = SERVICE.entries.lock();
        entries.insert((at, token), target);
        entries.first_key_value().is_some_and(|(key, _)| *key == (at, token))
    };
    if is_first {
        thread.unpark();
    }
    Armed { at, token }
}

/// Forgets a timer. It may be expiring at this moment: its target compares tokens.
pub fn cancel(armed: Armed) {
    SERVICE.entries.lock().remove(&(armed.at, armed.token));
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
