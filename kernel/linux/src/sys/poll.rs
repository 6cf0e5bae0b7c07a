//! poll, select, epoll.
use super::Call;
use super::signal::set_temporary_mask;
use crate::errno::{Errno, SysResult};
use crate::fd::epoll::{Epoll, Event};
use crate::fd::{FileObject, FileRef, downcast};
use crate::task::Task;
use crate::time::{self, CLOCK_MONOTONIC, TimeSpec, TimeVal};
use crate::user;
use crate::wait::Ended;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as k;
use rt::time::Instant;
use vfs::{PollWatcher, Readiness};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PollFd {
    fd: i32,
    events: u16,
    revents: u16,
}

const POLLNVAL: u16 = 0x20;
const POLLRDNORM: u16 = 0x40;
const POLLWRNORM: u16 = 0x100;
/// Reported without being asked for.
const ALWAYS: Readiness = Readiness::ERR.union(Readiness::HUP);

/// One file that is waited for.
struct Watched {
    file: FileRef,
    wanted: Readiness,
}

/// Waits until `look` counts something: registers with every file first, so that no change is missed.
fn wait_for(
    task: &Task,
    files: &[Watched],
    deadline: Instant,
    mut look: impl FnMut() -> usize,
) -> SysResult<Option<usize>> {
    let n = look();
    if n > 0 || deadline.0 == 0 {
        return Ok(Some(n));
    }
    let waiter = task.waiter();
    let watcher: Arc<dyn PollWatcher> = waiter.clone();
    let queues: Vec<_> = files.iter().filter_map(|w| w.file.poll_queue()).collect();
    queues.iter().for_each(|q| q.add(&watcher));
    let result = loop {
        waiter.reset();
        let n = look();
        if n > 0 {
            break Ok(Some(n));
        }
        match waiter.park(deadline, "poll", &|| task.has_signal()) {
            Ok(()) => {}
            Err(Ended::Timeout) => break Ok(Some(look())),
            Err(Ended::Signal) => break Ok(None),
        }
    };
    queues.iter().for_each(|q| q.remove(&watcher));
    result
}

fn ready(watched: &Watched) -> Readiness {
    watched.file.readiness() & (watched.wanted | ALWAYS)
}

fn poll_fds(c: &Call<'_>, at: u64, count: u64, deadline: Instant) -> SysResult {
    if count > c.task.process.nofile() as u64 {
        return Err(Errno::EINVAL);
    }
    let mut fds = alloc::vec![PollFd { fd: -1, events: 0, revents: 0 }; count as usize];
    user::read_bytes(at, fds.as_mut_bytes())?;
    let mut files = Vec::with_capacity(fds.len());
    let mut index = Vec::with_capacity(fds.len());
    let mut nr_bad = 0;
    for (i, fd) in fds.iter_mut().enumerate() {
        fd.revents = 0;
        if fd.fd < 0 {
            continue;
        }
        match c.task.file(fd.fd) {
            Ok(file) => {
                let mut wanted = Readiness::from_bits_truncate(u32::from(fd.events));
                wanted.set(Readiness::IN, fd.events & (1 | POLLRDNORM) != 0);
                wanted.set(Readiness::OUT, fd.events & (4 | POLLWRNORM) != 0);
                files.push(Watched { file, wanted });
                index.push(i);
            }
            Err(_) => {
                fd.revents = POLLNVAL;
                nr_bad += 1;
            }
        }
    }
    let found = wait_for(c.task, &files, deadline, || {
        nr_bad + files.iter().filter(|w| !ready(w).is_empty()).count()
    })?;
    for (watched, i) in files.iter().zip(index) {
        let now = ready(watched);
        let mut bits = now.bits() as u16;
        if now.contains(Readiness::IN) && fds[i].events & POLLRDNORM != 0 {
            bits |= POLLRDNORM;
        }
        if now.contains(Readiness::OUT) && fds[i].events & POLLWRNORM != 0 {
            bits |= POLLWRNORM;
        }
        fds[i].revents = bits & (fds[i].events | 0x18);
    }
    let n = fds.iter().filter(|fd| fd.revents != 0).count();
    if found.is_none() && n == 0 {
        return Err(Errno::RESTARTNOHAND);
    }
    user::write_bytes(at, fds.as_bytes())?;
    Ok(n)
}

/// poll(2).
pub fn poll(c: &mut Call<'_>) -> SysResult {
    let deadline = time::deadline_millis(i64::from(c.a2() as i32));
    let deadline = if c.a2() as i32 == 0 { Instant(0) } else { deadline };
    poll_fds(c, c.a0(), c.a1(), deadline)
}

/// The deadline of a call with an optional timespec; 0 asks for a look only.
fn deadline_of(at: u64) -> SysResult<Instant> {
    if at == 0 {
        return Ok(Instant::NEVER);
    }
    let span: TimeSpec = user::read(at)?;
    if span.to_nanos()? == 0 {
        return Ok(Instant(0));
    }
    time::deadline(CLOCK_MONOTONIC, span, false)
}

/// Takes a temporary mask into use.
fn apply_mask(c: &Call<'_>, at: u64, size: u64) -> SysResult<()> {
    if at == 0 {
        return Ok(());
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = user::read(at)?;
    set_temporary_mask(c, mask);
    Ok(())
}

/// ppoll(2).
pub fn ppoll(c: &mut Call<'_>) -> SysResult {
    let deadline = deadline_of(c.a2())?;
    apply_mask(c, c.a3(), c.a4())?;
    poll_fds(c, c.a0(), c.a1(), deadline)
}

/// A set of descriptors of select, as 64-bit words.
fn read_set(at: u64, nr_words: usize) -> SysResult<Vec<u64>> {
    let mut words = alloc::vec![0_u64; nr_words];
    if at != 0 {
        user::read_bytes(at, words.as_mut_bytes())?;
    }
    Ok(words)
}

fn select_sets(c: &Call<'_>, deadline: Instant) -> SysResult {
    const READ: Readiness = Readiness::IN.union(Readiness::HUP).union(Readiness::ERR);
    const WRITE: Readiness = Readiness::OUT.union(Readiness::ERR);
    let nr = usize::try_from(c.fd()).map_err(|_| Errno::EINVAL)?;
    let nr_words = nr.min(crate::fd::table::FDS_MAX).div_ceil(64);
    let at = [c.a1(), c.a2(), c.a3()];
    let mut sets = [read_set(at[0], nr_words)?, read_set(at[1], nr_words)?, read_set(at[2], nr_words)?];
    let kinds = [READ, WRITE, Readiness::PRI];
    let mut files = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..nr {
        let has = |set: &Vec<u64>| set[fd / 64] >> (fd % 64) & 1 != 0;
        let mut wanted = Readiness::empty();
        for (set, kind) in sets.iter().zip(kinds) {
            if has(set) {
                wanted |= kind;
            }
        }
        if !wanted.is_empty() {
            files.push(Watched { file: c.task.file(fd as i32)?, wanted });
            numbers.push(fd);
        }
    }
    let count = |file: &dyn FileObject, fd: usize, sets: &[Vec<u64>; 3]| {
        let now = file.readiness();
        (0..3).filter(|i| sets[*i][fd / 64] >> (fd % 64) & 1 != 0 && now.intersects(kinds[*i])).count()
    };
    let total = || files.iter().zip(&numbers).map(|(w, fd)| count(&*w.file, *fd, &sets)).sum();
    let found = wait_for(c.task, &files, deadline, total)?;
    if found.is_none() {
        return Err(Errno::RESTARTNOHAND);
    }
    let mut n = 0;
    let mut out = [alloc::vec![0_u64; nr_words], alloc::vec![0; nr_words], alloc::vec![0; nr_words]];
    for (watched, fd) in files.iter().zip(&numbers) {
        let now = watched.file.readiness();
        for i in 0..3 {
            if sets[i][fd / 64] >> (fd % 64) & 1 != 0 && now.intersects(kinds[i]) {
                out[i][fd / 64] |= 1 << (fd % 64);
                n += 1;
            }
        }
    }
    core::mem::swap(&mut sets, &mut out);
    for (at, set) in at.into_iter().zip(&sets) {
        if at != 0 {
            user::write_bytes(at, set.as_bytes())?;
        }
    }
    Ok(n)
}

/// select(2).
pub fn select(c: &mut Call<'_>) -> SysResult {
    let deadline = match c.a4() {
        0 => Instant::NEVER,
        at => match user::read::<TimeVal>(at)?.to_nanos()? {
            0 => Instant(0),
            nanos => Instant(rt::time::now().0.saturating_add(nanos)),
        },
    };
    select_sets(c, deadline)
}

/// pselect6(2).
pub fn pselect6(c: &mut Call<'_>) -> SysResult {
    let deadline = deadline_of(c.a4())?;
    if c.a5() != 0 {
        let [mask, size]: [u64; 2] = user::read(c.a5())?;
        apply_mask(c, mask, size)?;
    }
    select_sets(c, deadline)
}

fn create(c: &Call<'_>, closes_on_exec: bool) -> SysResult {
    Ok(c.task.fds.add(Epoll::create(), closes_on_exec, 0, c.task.process.nofile())? as usize)
}

/// epoll_create(2).
pub fn epoll_create(c: &mut Call<'_>) -> SysResult {
    if c.fd() <= 0 { Err(Errno::EINVAL) } else { create(c, false) }
}

/// epoll_create1(2).
pub fn epoll_create1(c: &mut Call<'_>) -> SysResult {
    let flags = c.a0() as u32;
    if flags & !k::EPOLL_CLOEXEC != 0 { Err(Errno::EINVAL) } else { create(c, flags != 0) }
}

fn as_epoll(file: &FileRef) -> SysResult<&Epoll> {
    downcast(file).ok_or(Errno::EINVAL)
}

/// `struct epoll_event` is packed.
fn read_event(at: u64) -> SysResult<(u32, u64)> {
    let mut bytes = [0_u8; 12];
    user::read_bytes(at, &mut bytes)?;
    let events = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut data = [0; 8];
    data.copy_from_slice(&bytes[4..]);
    Ok((events, u64::from_le_bytes(data)))
}

/// epoll_ctl(2).
pub fn epoll_ctl(c: &mut Call<'_>) -> SysResult {
    let epoll = c.task.file(c.fd())?;
    let fd = c.a2() as i32;
    let file = c.task.file(fd)?;
    if Arc::ptr_eq(&epoll, &file) {
        return Err(Errno::EINVAL);
    }
    let epoll = as_epoll(&epoll)?;
    match c.a1() as u32 {
        k::EPOLL_CTL_ADD => {
            let (events, data) = read_event(c.a3())?;
            epoll.add(fd, &file, events, data)?;
        }
        k::EPOLL_CTL_MOD => {
            let (events, data) = read_event(c.a3())?;
            epoll.modify(fd, &file, events, data)?;
        }
        k::EPOLL_CTL_DEL => epoll.remove(fd, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// Most events one wait reports.
const EVENTS_MAX: i32 = 1 << 16;

fn wait_epoll(c: &Call<'_>, deadline: Instant) -> SysResult {
    let max = c.a2() as i32;
    if !(1..=EVENTS_MAX).contains(&max) {
        return Err(Errno::EINVAL);
    }
    let file = c.task.file(c.fd())?;
    let events = as_epoll(&file)?.wait(c.task, max as usize, deadline)?;
    let mut bytes = Vec::with_capacity(events.len() * 12);
    for Event { events, data } in &events {
        bytes.extend_from_slice(&events.to_le_bytes());
        bytes.extend_from_slice(&data.to_le_bytes());
    }
    user::write_bytes(c.a1(), &bytes)?;
    Ok(events.len())
}

/// epoll_wait(2).
pub fn epoll_wait(c: &mut Call<'_>) -> SysResult {
    wait_epoll(c, time::deadline_millis(i64::from(c.a3() as i32)))
}

/// epoll_pwait(2).
pub fn epoll_pwait(c: &mut Call<'_>) -> SysResult {
    apply_mask(c, c.a4(), c.a5())?;
    wait_epoll(c, time::deadline_millis(i64::from(c.a3() as i32)))
}
