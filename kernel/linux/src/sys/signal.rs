//! Signals.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::signal::frame::{self, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, StackT};
use crate::signal::{Action, NSIG, SIGKILL, SIGSTOP, SigInfo, SigSet, Source, info, send};
use crate::task::{AltStack, pids};
use crate::time::{self, CLOCK_MONOTONIC, TimeSpec};
use crate::user;
use crate::wait::Ended;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as k;
use rt::time::{Instant, now};

fn number(raw: u64) -> SysResult<u32> {
    let signo = raw as u32;
    if (1..=NSIG as u32).contains(&signo) { Ok(signo) } else { Err(Errno::EINVAL) }
}

fn check_set_size(size: u64) -> SysResult<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// rt_sigaction(2).
pub fn sigaction(c: &mut Call<'_>) -> SysResult {
    check_set_size(c.a3())?;
    let signo = number(c.a0())?;
    let actions = &c.task.process.actions;
    let before = if c.a1() == 0 {
        actions.get(signo)
    } else {
        if signo == SIGKILL || signo == SIGSTOP {
            return Err(Errno::EINVAL);
        }
        let mut action: Action = user::read(c.a1())?;
        action.mask = SigSet(action.mask).as_mask().0;
        let before = actions.set(signo, action);
        if actions.is_ignored(signo) {
            let unwanted = SigSet::default().with(signo);
            c.task.process.pending.discard(unwanted);
            c.task.pending.discard(unwanted);
        }
        before
    };
    user::write_optional(c.a2(), &before)?;
    Ok(0)
}

/// rt_sigprocmask(2).
pub fn sigprocmask(c: &mut Call<'_>) -> SysResult {
    check_set_size(c.a3())?;
    let before = c.task.mask();
    if c.a1() != 0 {
        let set: u64 = user::read(c.a1())?;
        let next = match c.a0() as u32 {
            k::SIG_BLOCK => before.0 | set,
            k::SIG_UNBLOCK => before.0 & !set,
            k::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        c.task.set_mask(SigSet(next));
    }
    user::write_optional(c.a2(), &before.0)?;
    Ok(0)
}

/// rt_sigreturn(2).
pub fn sigreturn(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    if frame::pop(c.task, c.frame).is_err() {
        send::force(c.task, SigInfo::kernel(crate::signal::SIGSEGV));
    }
    Ok(None)
}

/// sigaltstack(2). Deferred only because it needs the stack pointer at the moment of the call, as signals see it.
pub fn sigaltstack(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let before = *c.task.alt_stack.lock();
    let rsp = c.frame.rsp;
    if c.a0() != 0 {
        let new: StackT = user::read(c.a0())?;
        if before.holds(rsp) {
            return Err(Errno::EPERM);
        }
        let flags = new.flags & !SS_ONSTACK;
        if flags & !(SS_DISABLE | SS_AUTODISARM) != 0 {
            return Err(Errno::EINVAL);
        }
        let next = if flags & SS_DISABLE != 0 {
            AltStack::default()
        } else if new.size < u64::from(k::MINSIGSTKSZ) {
            return Err(Errno::ENOMEM);
        } else {
            AltStack { start: new.start, size: new.size, flags: flags & SS_AUTODISARM }
        };
        *c.task.alt_stack.lock() = next;
    }
    user::write_optional(c.a1(), &frame::describe_alt_stack(&before, rsp))?;
    Ok(Some(0))
}

fn from_me(c: &Call<'_>, signo: u32, code: i32) -> SigInfo {
    let uid = c.task.process.cred.lock().uid[0];
    SigInfo { signo, code, source: Source::Process { pid: c.task.process.pid, uid } }
}

/// kill(2).
pub fn kill(c: &mut Call<'_>) -> SysResult {
    let (pid, signo) = (c.fd(), c.a1() as u32);
    if signo > NSIG as u32 {
        return Err(Errno::EINVAL);
    }
    let info = from_me(c, signo, info::SI_USER);
    if pid > 0 {
        let target = pids::process(pid).ok_or(Errno::ESRCH)?;
        send::check_permission(c.task, &target)?;
        send::to_process(&target, info);
        return Ok(0);
    }
    let pgid = match pid {
        0 => Some(c.task.process.pgid.load(Ordering::Relaxed)),
        -1 => None,
        other => Some(other.wrapping_neg()),
    };
    let mut nr_meant = 0;
    let mut nr_sent = 0;
    for target in pids::processes() {
        let is_meant = match pgid {
            Some(pgid) => target.pgid.load(Ordering::Relaxed) == pgid,
            None => target.pid != 1 && target.pid != c.task.process.pid,
        };
        if is_meant && !target.is_zombie() {
            nr_meant += 1;
            if send::check_permission(c.task, &target).is_ok() {
                send::to_process(&target, info);
                nr_sent += 1;
            }
        }
    }
    match (nr_meant, nr_sent) {
        (0, _) => Err(Errno::ESRCH),
        (_, 0) => Err(Errno::EPERM),
        _ => Ok(0),
    }
}

fn send_to_thread(c: &Call<'_>, tgid: Option<i32>, tid: i32, info: SigInfo) -> SysResult {
    if tid <= 0 || info.signo > NSIG as u32 || tgid.is_some_and(|t| t <= 0) {
        return Err(Errno::EINVAL);
    }
    let target = pids::task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| tgid != target.process.pid) {
        return Err(Errno::ESRCH);
    }
    send::check_permission(c.task, &target.process)?;
    send::to_task(&target, info);
    Ok(0)
}

/// tgkill(2).
pub fn tgkill(c: &mut Call<'_>) -> SysResult {
    send_to_thread(c, Some(c.fd()), c.a1() as i32, from_me(c, c.a2() as u32, info::SI_TKILL))
}

/// tkill(2).
pub fn tkill(c: &mut Call<'_>) -> SysResult {
    send_to_thread(c, None, c.fd(), from_me(c, c.a1() as u32, info::SI_TKILL))
}

fn read_info(c: &Call<'_>, signo: u32, at: u64, target: i32) -> SysResult<SigInfo> {
    let mut bytes = [0; info::SIZE];
    user::read_bytes(at, &mut bytes)?;
    let info = SigInfo::from_bytes(signo, &bytes);
    let is_forged = info.code >= 0 || info.code == info::SI_TKILL;
    if is_forged && target != c.task.process.pid { Err(Errno::EPERM) } else { Ok(info) }
}

/// rt_sigqueueinfo(2).
pub fn sigqueueinfo(c: &mut Call<'_>) -> SysResult {
    let (pid, signo) = (c.fd(), c.a1() as u32);
    let info = read_info(c, signo, c.a2(), pid)?;
    let target = pids::process(pid).ok_or(Errno::ESRCH)?;
    if signo > NSIG as u32 {
        return Err(Errno::EINVAL);
    }
    send::check_permission(c.task, &target)?;
    send::to_process(&target, info);
    Ok(0)
}

/// rt_tgsigqueueinfo(2).
pub fn tgsigqueueinfo(c: &mut Call<'_>) -> SysResult {
    let info = read_info(c, c.a2() as u32, c.a3(), c.fd())?;
    send_to_thread(c, Some(c.fd()), c.a1() as i32, info)
}

/// rt_sigpending(2).
pub fn sigpending(c: &mut Call<'_>) -> SysResult {
    let pending = c.task.pending.set().0 | c.task.process.pending.set().0;
    user::write(c.a0(), &(pending & c.task.mask().0))?;
    Ok(0)
}

/// Replaces the mask until the next signal.
pub fn set_temporary_mask(c: &Call<'_>, mask: u64) {
    let before = c.task.mask();
    *c.task.saved_mask.lock() = Some(before);
    c.task.set_mask(SigSet(mask));
    crate::glue::request_work_here();
}

/// rt_sigsuspend(2).
pub fn sigsuspend(c: &mut Call<'_>) -> SysResult {
    check_set_size(c.a1())?;
    let mask: u64 = user::read(c.a0())?;
    set_temporary_mask(c, mask);
    pause(c)
}

/// pause(2).
pub fn pause(c: &mut Call<'_>) -> SysResult {
    while c.task.sleep(Instant::NEVER) {}
    Err(Errno::RESTARTNOHAND)
}

/// rt_sigtimedwait(2).
pub fn sigtimedwait(c: &mut Call<'_>) -> SysResult {
    check_set_size(c.a3())?;
    let wanted = SigSet(user::read::<u64>(c.a0())?).as_mask();
    let deadline = match c.a2() {
        0 => Instant::NEVER,
        at => time::deadline(CLOCK_MONOTONIC, user::read::<TimeSpec>(at)?, false)?,
    };
    let waiter = c.task.waiter();
    loop {
        waiter.reset();
        let taken = c.task.pending.take(wanted).or_else(|| c.task.process.pending.take(wanted));
        if let Some(taken) = taken {
            if c.a1() != 0 {
                user::write_bytes(c.a1(), &taken.to_bytes())?;
            }
            return Ok(taken.signo as usize);
        }
        if deadline <= now() {
            return Err(Errno::EAGAIN);
        }
        let is_there = || {
            let pending = c.task.pending.set().0 | c.task.process.pending.set().0;
            pending & wanted.0 != 0 || c.task.has_signal()
        };
        match waiter.park(deadline, "sigwait", &is_there) {
            Err(Ended::Signal) if c.task.has_signal() => {
                let pending = c.task.pending.set().0 | c.task.process.pending.set().0;
                if pending & wanted.0 == 0 {
                    return Err(Errno::EINTR);
                }
            }
            _ => {}
        }
    }
}
