//! Clocks, sleeping, timers.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::fd::timer::TimerFd;
use crate::fd::{FileRef, downcast};
use crate::signal;
use crate::time::posix::{Notify, thread_of};
use crate::time::{self, CLOCK_MONOTONIC, CLOCK_REALTIME, TimeSpec, TimeVal};
use crate::timers::Schedule;
use crate::user;
use linux_raw_sys::general as k;
use rt::time::now;
use vfs::OpenFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// clock_gettime(2).
pub fn clock_gettime(c: &mut Call<'_>) -> SysResult {
    user::write(c.a1(), &time::read(c.task, c.fd())?)?;
    Ok(0)
}

/// clock_getres(2).
pub fn clock_getres(c: &mut Call<'_>) -> SysResult {
    time::read(c.task, c.fd())?;
    user::write_optional(c.a1(), &TimeSpec { secs: 0, nanos: 1 })?;
    Ok(0)
}

/// gettimeofday(2).
pub fn gettimeofday(c: &mut Call<'_>) -> SysResult {
    let wall = rt::time::wall_clock();
    user::write_optional(c.a0(), &TimeVal { secs: wall.secs, micros: i64::from(wall.nanos) / 1000 })?;
    user::write_optional(c.a1(), &[0_i32; 2])?;
    Ok(0)
}

/// time(2).
pub fn time(c: &mut Call<'_>) -> SysResult {
    let wall = rt::time::wall_clock();
    user::write_optional(c.a0(), &wall.secs)?;
    Ok(wall.secs as usize)
}

fn sleep(c: &Call<'_>, clock: i32, is_absolute: bool, request: u64, rest: u64) -> SysResult {
    let deadline = time::deadline(clock, user::read(request)?, is_absolute)?;
    if c.task.sleep(deadline) {
        return Ok(0);
    }
    if is_absolute {
        return Err(Errno::RESTARTNOHAND);
    }
    let left = deadline.0.saturating_sub(now().0);
    user::write_optional(rest, &TimeSpec::from_nanos(left))?;
    Err(Errno::EINTR)
}

/// nanosleep(2).
pub fn nanosleep(c: &mut Call<'_>) -> SysResult {
    sleep(c, CLOCK_MONOTONIC, false, c.a0(), c.a1())
}

/// clock_nanosleep(2).
pub fn clock_nanosleep(c: &mut Call<'_>) -> SysResult {
    if !time::is_sleepable(c.fd()) {
        return Err(Errno::EINVAL);
    }
    sleep(c, c.fd(), c.a1() as u32 & k::TIMER_ABSTIME != 0, c.a2(), c.a3())
}

/// `struct itimerval`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimerVal {
    interval: TimeVal,
    value: TimeVal,
}

/// `struct itimerspec`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimerSpec {
    interval: TimeSpec,
    value: TimeSpec,
}

fn in_micros(schedule: Schedule) -> TimerVal {
    TimerVal {
        interval: TimeVal::from_nanos(schedule.interval),
        value: TimeVal::from_nanos(schedule.left(now()).next_multiple_of(1000)),
    }
}

fn in_nanos(schedule: Schedule) -> TimerSpec {
    TimerSpec {
        interval: TimeSpec::from_nanos(schedule.interval),
        value: TimeSpec::from_nanos(schedule.left(now())),
    }
}

/// Only the real-time timer is offered.
fn check_real(which: u64) -> SysResult<()> {
    if which as u32 == k::ITIMER_REAL { Ok(()) } else { Err(Errno::EINVAL) }
}

/// setitimer(2).
pub fn setitimer(c: &mut Call<'_>) -> SysResult {
    check_real(c.a0())?;
    let new: TimerVal = user::read(c.a1())?;
    let (value, interval) = (new.value.to_nanos()?, new.interval.to_nanos()?);
    let next = (value > 0).then(|| rt::time::Instant(now().0.saturating_add(value)));
    let before = c.task.process.itimers.set(Schedule { next, interval });
    user::write_optional(c.a2(), &in_micros(before))?;
    Ok(0)
}

/// getitimer(2).
pub fn getitimer(c: &mut Call<'_>) -> SysResult {
    check_real(c.a0())?;
    user::write(c.a1(), &in_micros(c.task.process.itimers.get()))?;
    Ok(0)
}

/// alarm(2).
pub fn alarm(c: &mut Call<'_>) -> SysResult {
    let secs = u64::from(c.a0() as u32);
    let next = (secs > 0).then(|| rt::time::Instant(now().0.saturating_add(secs * time::NANOS)));
    let before = c.task.process.itimers.set(Schedule { next, interval: 0 });
    Ok(before.left(now()).div_ceil(time::NANOS) as usize)
}

/// The schedule an itimerspec asks for.
fn schedule_of(new: TimerSpec, clock: i32, is_absolute: bool) -> SysResult<Schedule> {
    let interval = new.interval.to_nanos()?;
    let next = match new.value.to_nanos()? {
        0 => None,
        _ => Some(time::deadline(clock, new.value, is_absolute)?),
    };
    Ok(Schedule { next, interval })
}

/// timer_create(2).
pub fn timer_create(c: &mut Call<'_>) -> SysResult {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD_ID: i32 = 4;
    let clock = c.fd();
    if !time::is_sleepable(clock) {
        return Err(if matches!(clock, 2 | 3) { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    let event = if c.a1() == 0 { None } else { Some(user::read::<[u64; 3]>(c.a1())?) };
    let notify = match event {
        None => None,
        Some([value, word, target]) => {
            let (signo, how) = (word as u32, (word >> 32) as i32);
            if how != SIGEV_NONE && !(1..=64).contains(&signo) {
                return Err(Errno::EINVAL);
            }
            Some(match how {
                SIGEV_SIGNAL => Notify::Process(signo, value),
                SIGEV_NONE => Notify::None,
                SIGEV_THREAD_ID => {
                    let thread = thread_of(c.task, target as i32).ok_or(Errno::EINVAL)?;
                    Notify::Thread(thread, signo, value)
                }
                _ => return Err(Errno::EINVAL),
            })
        }
    };
    let timers = &c.task.process.timers;
    let id = timers.create(clock, |id| notify.unwrap_or(Notify::Process(signal::SIGALRM, id as u64)))?;
    if let Err(e) = user::write(c.a2(), &id) {
        timers.delete(id)?;
        return Err(e);
    }
    Ok(0)
}

/// timer_settime(2).
pub fn timer_settime(c: &mut Call<'_>) -> SysResult {
    let timer = c.task.process.timers.get(c.fd())?;
    let is_absolute = c.a1() as u32 & k::TIMER_ABSTIME != 0;
    let schedule = schedule_of(user::read(c.a2())?, timer.clock, is_absolute)?;
    let before = timer.set(schedule);
    user::write_optional(c.a3(), &in_nanos(before))?;
    Ok(0)
}

/// timer_gettime(2).
pub fn timer_gettime(c: &mut Call<'_>) -> SysResult {
    user::write(c.a1(), &in_nanos(c.task.process.timers.get(c.fd())?.schedule()))?;
    Ok(0)
}

/// timer_getoverrun(2).
pub fn timer_getoverrun(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.process.timers.get(c.fd())?.overrun().min(i32::MAX as u64) as usize)
}

/// timer_delete(2).
pub fn timer_delete(c: &mut Call<'_>) -> SysResult {
    c.task.process.timers.delete(c.fd())?;
    Ok(0)
}

/// timerfd_create(2).
pub fn timerfd_create(c: &mut Call<'_>) -> SysResult {
    let raw = c.a1() as u32;
    if !matches!(c.fd(), CLOCK_REALTIME | CLOCK_MONOTONIC | 7) || raw & !(k::O_CLOEXEC | k::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = OpenFlags::empty();
    flags.set(OpenFlags::NON_BLOCKING, raw & k::O_NONBLOCK != 0);
    let file = TimerFd::create(c.fd(), flags);
    Ok(c.task.fds.add(file, raw & k::O_CLOEXEC != 0, 0, c.task.process.nofile())? as usize)
}

fn timer_fd(file: &FileRef) -> SysResult<&TimerFd> {
    downcast(file).ok_or(Errno::EINVAL)
}

/// timerfd_settime(2).
pub fn timerfd_settime(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    let timer = timer_fd(&file)?;
    let is_absolute = c.a1() as u32 & 1 != 0;
    let before = timer.set(schedule_of(user::read(c.a2())?, timer.clock, is_absolute)?);
    user::write_optional(c.a3(), &in_nanos(before))?;
    Ok(0)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime(c: &mut Call<'_>) -> SysResult {
    let file = c.task.file(c.fd())?;
    user::write(c.a1(), &in_nanos(timer_fd(&file)?.get()))?;
    Ok(0)
}
