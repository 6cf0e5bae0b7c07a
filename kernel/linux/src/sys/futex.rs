//! futex(2).
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::futex::{FUTEXES, Key, MATCH_ANY};
use crate::task::Task;
use crate::time::{self, CLOCK_MONOTONIC, CLOCK_REALTIME, TimeSpec};
use crate::user;
use hal::uaccess;
use linux_raw_sys::general as k;
use rt::time::Instant;

/// Times a word is brought in again when it vanished between the look and the lock.
const RETRIES_MAX: u32 = 16;

/// The key of the word at `at`.
///
/// # Errors
/// [`Errno::EINVAL`] (not aligned), [`Errno::EFAULT`].
pub fn key_of(task: &Task, at: u64, is_private: bool) -> SysResult<Key> {
    if !at.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if at >= mm::space::USER_END {
        return Err(Errno::EFAULT);
    }
    let own = Key { owner: task.space_id(), at, is_shared: false };
    if is_private {
        return Ok(own);
    }
    Ok(match task.space_if_alive().and_then(|space| space.shared_place(at)) {
        Some((object, offset)) => Key { owner: object, at: offset, is_shared: true },
        None => own,
    })
}

/// Runs `f` with a look at the word that must not sleep; when the word is not there it is brought in and `f` tried
/// again.
fn with_word<R>(at: u64, f: impl Fn(&dyn Fn() -> SysResult<u32>) -> SysResult<R>) -> SysResult<R> {
    let look = || Ok(uaccess::load_u32(at as usize)?);
    for _ in 0..RETRIES_MAX {
        look()?;
        match f(&look) {
            Err(Errno::EFAULT) => {}
            result => return result,
        }
    }
    Err(Errno::EFAULT)
}

fn deadline(c: &Call<'_>, op: u32, is_absolute: bool) -> SysResult<Instant> {
    if c.a3() == 0 {
        return Ok(Instant::NEVER);
    }
    let clock = if op & k::FUTEX_CLOCK_REALTIME != 0 { CLOCK_REALTIME } else { CLOCK_MONOTONIC };
    let time: TimeSpec = user::read(c.a3())?;
    time::deadline(clock, time, is_absolute)
}

fn wait(c: &Call<'_>, op: u32, bits: u32, is_absolute: bool) -> SysResult {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let at = c.a0();
    let key = key_of(c.task, at, op & k::FUTEX_PRIVATE_FLAG != 0)?;
    let deadline = deadline(c, op, is_absolute)?;
    let expected = c.a2() as u32;
    let result = with_word(at, |look| {
        let is_interrupted = || c.task.has_signal();
        FUTEXES.wait(key, bits, c.task.waiter(), deadline, &is_interrupted, || Ok(look()? == expected))
    });
    match result {
        // A relative timeout would start again from its beginning.
        Err(Errno::RESTARTSYS) if !is_absolute && deadline != Instant::NEVER => Err(Errno::EINTR),
        result => result.map(|()| 0),
    }
}

fn count(raw: u64) -> usize {
    usize::try_from(raw as i32).unwrap_or(0)
}

fn requeue(c: &Call<'_>, op: u32, expected: Option<u32>) -> SysResult {
    let is_private = op & k::FUTEX_PRIVATE_FLAG != 0;
    let (at, to) = (c.a0(), c.a4());
    let (from, to) = (key_of(c.task, at, is_private)?, key_of(c.task, to, is_private)?);
    let (nr_wake, nr_move) = (count(c.a2()), count(c.a3()));
    let (woken, moved) = with_word(at, |look| {
        let is_expected = || Ok(expected.is_none() || Some(look()?) == expected);
        FUTEXES.requeue(from, to, nr_wake, nr_move, is_expected)
    })?;
    Ok(woken + if expected.is_some() { moved } else { 0 })
}

/// `FUTEX_WAKE_OP`: changes the second word and wakes waiters of the first, and of the second if its old value
/// compares as asked.
fn wake_op(c: &Call<'_>, op: u32) -> SysResult {
    let is_private = op & k::FUTEX_PRIVATE_FLAG != 0;
    let (first, second) = (key_of(c.task, c.a0(), is_private)?, key_of(c.task, c.a4(), is_private)?);
    let code = c.a5() as u32;
    let sign = |v: u32| ((v << 20) as i32) >> 20;
    let (operation, comparison) = (code >> 28 & 15, code >> 24 & 15);
    let (mut argument, against) = (sign(code >> 12 & 0xfff), sign(code & 0xfff));
    if operation & 8 != 0 {
        argument = 1_i32.wrapping_shl(argument as u32);
    }
    let mut old = uaccess::load_u32(c.a4() as usize)?;
    loop {
        let new = match operation & 7 {
            0 => argument as u32,
            1 => old.wrapping_add(argument as u32),
            2 => old | argument as u32,
            3 => old & !(argument as u32),
            4 => old ^ argument as u32,
            _ => return Err(Errno::ENOSYS),
        };
        let seen = uaccess::compare_exchange_u32(c.a4() as usize, old, new)?;
        if seen == old {
            break;
        }
        old = seen;
    }
    let value = old as i32;
    let is_true = match comparison {
        0 => value == against,
        1 => value != against,
        2 => value < against,
        3 => value <= against,
        4 => value > against,
        5 => value >= against,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = FUTEXES.wake(first, count(c.a2()), MATCH_ANY);
    if is_true {
        woken += FUTEXES.wake(second, count(c.a3()), MATCH_ANY);
    }
    Ok(woken)
}

/// futex(2).
pub fn futex(c: &mut Call<'_>) -> SysResult {
    let op = c.a1() as u32;
    let is_private = op & k::FUTEX_PRIVATE_FLAG != 0;
    match op & k::FUTEX_CMD_MASK as u32 {
        k::FUTEX_WAIT => wait(c, op, MATCH_ANY, false),
        k::FUTEX_WAIT_BITSET => wait(c, op, c.a5() as u32, true),
        k::FUTEX_WAKE => {
            Ok(FUTEXES.wake(key_of(c.task, c.a0(), is_private)?, count(c.a2()).max(1), MATCH_ANY))
        }
        k::FUTEX_WAKE_BITSET if c.a5() as u32 == 0 => Err(Errno::EINVAL),
        k::FUTEX_WAKE_BITSET => {
            Ok(FUTEXES.wake(key_of(c.task, c.a0(), is_private)?, count(c.a2()), c.a5() as u32))
        }
        k::FUTEX_REQUEUE => requeue(c, op, None),
        k::FUTEX_CMP_REQUEUE => requeue(c, op, Some(c.a5() as u32)),
        k::FUTEX_WAKE_OP => wake_op(c, op),
        // Priority inheritance is not offered.
        _ => Err(Errno::ENOSYS),
    }
}
