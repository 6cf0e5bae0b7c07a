//! Clocks and timers.
//!
//! | module | holds |
//! |---|---|
//! | [`itimer`] | setitimer, alarm |
//! | [`posix`] | timer_create and its family |
//!
//! The wall clock is the monotonic clock plus an offset that never changes, so absolute wall-clock deadlines become
//! monotonic ones once, when they are read.
pub mod itimer;
pub mod posix;

use crate::errno::{Errno, SysResult};
use crate::glue;
use crate::task::{Task, pids};
use core::time::Duration;
use rt::time::{Instant, now, wall_clock};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds of a second.
pub const NANOS: u64 = 1_000_000_000;
/// Clock ticks a second, for times(2) and /proc.
pub const TICKS_PER_SEC: u64 = 100;

/// Wall clock.
pub const CLOCK_REALTIME: i32 = 0;
/// Time since start.
pub const CLOCK_MONOTONIC: i32 = 1;
/// CPU time of the process.
pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
/// CPU time of the thread.
pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimeSpec {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, 0..10^9.
    pub nanos: i64,
}

impl TimeSpec {
    /// Of a count of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { secs: (nanos / NANOS) as i64, nanos: (nanos % NANOS) as i64 }
    }

    /// As a duration.
    ///
    /// # Errors
    /// [`Errno::EINVAL`].
    pub fn to_duration(self) -> SysResult<Duration> {
        let secs = u64::try_from(self.secs).map_err(|_| Errno::EINVAL)?;
        let nanos = u32::try_from(self.nanos).ok().filter(|n| u64::from(*n) < NANOS).ok_or(Errno::EINVAL)?;
        Ok(Duration::new(secs, nanos))
    }

    /// As nanoseconds, saturating.
    ///
    /// # Errors
    /// [`Errno::EINVAL`].
    pub fn to_nanos(self) -> SysResult<u64> {
        Ok(u64::try_from(self.to_duration()?.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimeVal {
    /// Seconds.
    pub secs: i64,
    /// Microseconds, 0..10^6.
    pub micros: i64,
}

impl TimeVal {
    /// Of a count of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { secs: (nanos / NANOS) as i64, micros: (nanos % NANOS / 1000) as i64 }
    }

    /// As nanoseconds, saturating.
    ///
    /// # Errors
    /// [`Errno::EINVAL`].
    pub fn to_nanos(self) -> SysResult<u64> {
        if !(0..1_000_000).contains(&self.micros) {
            return Err(Errno::EINVAL);
        }
        TimeSpec { secs: self.secs, nanos: self.micros * 1000 }.to_nanos()
    }
}

fn wall_nanos() -> i128 {
    let wall = wall_clock();
    i128::from(wall.secs) * i128::from(NANOS) + i128::from(wall.nanos)
}

/// The time of a clock.
///
/// # Errors
/// [`Errno::EINVAL`] for clocks there are not.
pub fn read(task: &Task, clock: i32) -> SysResult<TimeSpec> {
    match clock {
        // REALTIME, REALTIME_COARSE, TAI
        0 | 5 | 11 => {
            let wall = wall_clock();
            Ok(TimeSpec { secs: wall.secs, nanos: i64::from(wall.nanos) })
        }
        // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME
        1 | 4 | 6 | 7 => Ok(TimeSpec::from_nanos(now().0)),
        CLOCK_PROCESS_CPUTIME_ID => Ok(TimeSpec::from_nanos(task.process.cpu_nanos())),
        CLOCK_THREAD_CPUTIME_ID => Ok(TimeSpec::from_nanos(glue::cpu_nanos(task))),
        clock if clock < 0 => read_dynamic(task, clock),
        _ => Err(Errno::EINVAL),
    }
}

/// CPU clocks of other threads and processes: `~id << 3 | kind`, bit 2 for a thread.
fn read_dynamic(task: &Task, clock: i32) -> SysResult<TimeSpec> {
    let id = !(clock >> 3);
    let nanos = if clock & 4 != 0 {
        if id == 0 { glue::cpu_nanos(task) } else { glue::cpu_nanos(&*pids::task(id).ok_or(Errno::EINVAL)?) }
    } else if id == 0 {
        task.process.cpu_nanos()
    } else {
        pids::process(id).ok_or(Errno::EINVAL)?.cpu_nanos()
    };
    Ok(TimeSpec::from_nanos(nanos))
}

/// Whether a clock can be slept on.
pub const fn is_sleepable(clock: i32) -> bool {
    matches!(clock, 0 | 1 | 7 | 8 | 9 | 11)
}

const fn is_wall(clock: i32) -> bool {
    matches!(clock, 0 | 8 | 11)
}

/// The monotonic deadline that `time` on `clock` means, absolute or from now on.
///
/// # Errors
/// [`Errno::EINVAL`].
pub fn deadline(clock: i32, time: TimeSpec, is_absolute: bool) -> SysResult<Instant> {
    let span = time.to_nanos()?;
    if !is_absolute {
        return Ok(Instant(now().0.saturating_add(span)));
    }
    if is_wall(clock) {
        let ahead = i128::from(span) - wall_nanos();
        let at = i128::from(now().0) + ahead;
        return Ok(Instant(u64::try_from(at.max(0)).unwrap_or(u64::MAX)));
    }
    Ok(Instant(span))
}

/// The deadline of a call whose timeout is a span in milliseconds, negative for none.
pub fn deadline_millis(millis: i64) -> Instant {
    match u64::try_from(millis) {
        Ok(ms) => Instant(now().0.saturating_add(ms.saturating_mul(1_000_000))),
        Err(_) => Instant::NEVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt_std as _;

    #[test]
    fn times_are_checked() {
        assert_eq!(TimeSpec { secs: 1, nanos: 5 }.to_nanos(), Ok(1_000_000_005));
        assert_eq!(TimeSpec { secs: -1, nanos: 0 }.to_nanos(), Err(Errno::EINVAL));
        assert_eq!(TimeSpec { secs: 0, nanos: 1_000_000_000 }.to_nanos(), Err(Errno::EINVAL));
        assert_eq!(TimeSpec { secs: i64::MAX, nanos: 0 }.to_nanos(), Ok(u64::MAX));
        assert_eq!(TimeVal { secs: 0, micros: -1 }.to_nanos(), Err(Errno::EINVAL));
    }

    #[test]
    fn deadlines_of_the_wall_clock_become_monotonic() {
        let wall = wall_clock();
        let soon = TimeSpec { secs: wall.secs + 10, nanos: i64::from(wall.nanos) };
        let at = deadline(CLOCK_REALTIME, soon, true).unwrap();
        let ahead = at.since(now());
        assert!(ahead > Duration::from_secs(9) && ahead <= Duration::from_secs(10));
        assert!(deadline(CLOCK_REALTIME, TimeSpec { secs: 5, nanos: 0 }, true).unwrap() <= now());
    }
}
