//! Processes, threads, ids, limits, scheduling.
use super::Call;
use crate::errno::{Errno, SysResult};
use crate::glue;
use crate::task::clone::{self, CloneArgs, CloneFlags};
use crate::task::cred::{self, Credentials};
use crate::task::exec::{self, ARGS_MAX, Args};
use crate::task::exit::{self, Ended, Which};
use crate::task::limits::{self, Limit};
use crate::task::place::AT_FDCWD;
use crate::task::process::Ending;
use crate::task::{Process, Task, pids};
use crate::time::TimeVal;
use crate::{signal, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as k;
use linux_raw_sys::prctl as p;
use vfs::WalkFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// clone(2).
pub fn clone(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let args = CloneArgs {
        flags: CloneFlags::from_bits_retain(c.a0() & 0xffff_ff00),
        exit_signal: c.a0() as u32 & 0xff,
        stack: c.a1(),
        parent_tid: c.a2(),
        child_tid: c.a3(),
        tls: c.a4(),
    };
    clone::clone(c.task, c.frame, &args).map(Some)
}

/// clone3(2).
pub fn clone3(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let size = c.a1();
    if size < 64 {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, _pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls]: [u64; 8] =
        user::read(c.a0())?;
    if size > 64 {
        let mut rest = alloc::vec![0_u8; size as usize - 64];
        user::read_bytes(c.a0() + 64, &mut rest)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Errno::EINVAL);
        }
    }
    if exit_signal > 64 || flags & 0xff != 0 || (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let args = CloneArgs {
        flags: CloneFlags::from_bits_retain(flags),
        exit_signal: exit_signal as u32,
        stack: stack.wrapping_add(stack_size),
        parent_tid,
        child_tid,
        tls,
    };
    clone::clone(c.task, c.frame, &args).map(Some)
}

const NOTHING: CloneArgs = CloneArgs {
    flags: CloneFlags::empty(),
    exit_signal: signal::SIGCHLD,
    stack: 0,
    tls: 0,
    parent_tid: 0,
    child_tid: 0,
};

/// fork(2).
pub fn fork(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    clone::clone(c.task, c.frame, &NOTHING).map(Some)
}

/// vfork(2).
pub fn vfork(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let args = CloneArgs { flags: CloneFlags::VM | CloneFlags::VFORK, ..NOTHING };
    clone::clone(c.task, c.frame, &args).map(Some)
}

fn run(
    c: &mut Call<'_>,
    dirfd: i32,
    path: &[u8],
    argv: u64,
    envp: u64,
    flags: WalkFlags,
) -> SysResult<Option<usize>> {
    let argv = user::read_strings(argv, ARGS_MAX)?;
    let envp = user::read_strings(envp, ARGS_MAX)?;
    let argv = if argv.is_empty() { alloc::vec![Vec::new()] } else { argv };
    // The link to the own program is followed here, because what it names may have no path any more; the new name of
    // the thread is still the link's, which busybox knows itself by.
    let target = crate::procfs::exe_path(c.task, path);
    let mut loaded =
        exec::load(c.task, dirfd, target.as_deref().unwrap_or(path), flags, Args { argv, envp })?;
    loaded.set_name(path);
    exec::commit(c.task, c.frame, loaded);
    Ok(None)
}

/// execve(2).
pub fn execve(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let path = user::read_path(c.a0())?;
    run(c, AT_FDCWD, &path, c.a1(), c.a2(), WalkFlags::FOLLOW)
}

/// execveat(2).
pub fn execveat(c: &mut Call<'_>) -> SysResult<Option<usize>> {
    let path = user::read_path(c.a1())?;
    let flags = c.a4() as u32;
    if flags & !(k::AT_EMPTY_PATH | k::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    if path.is_empty() && flags & k::AT_EMPTY_PATH != 0 {
        let described = c.task.file(c.fd())?.describe();
        return run(c, AT_FDCWD, &described, c.a2(), c.a3(), WalkFlags::FOLLOW);
    }
    let follow = if flags & k::AT_SYMLINK_NOFOLLOW != 0 { WalkFlags::empty() } else { WalkFlags::FOLLOW };
    run(c, c.fd(), &path, c.a2(), c.a3(), follow)
}

/// exit(2).
pub fn exit(c: &mut Call<'_>) -> SysResult {
    let is_last = c.task.process.threads.lock().len() == 1;
    if is_last {
        c.task.process.set_ending_if_none(Ending::Exited(c.a0() as u8));
    }
    exit::end_thread(c.task)
}

/// exit_group(2).
pub fn exit_group(c: &mut Call<'_>) -> SysResult {
    exit::end_process(c.task, Ending::Exited(c.a0() as u8))
}

fn which(c: &Call<'_>, pid: i32) -> Which {
    match pid {
        -1 => Which::Any,
        0 => Which::Group(c.task.process.pgid.load(Ordering::Relaxed)),
        pid if pid < 0 => Which::Group(pid.wrapping_neg()),
        pid => Which::Pid(pid),
    }
}

/// `struct rusage`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Rusage {
    user: TimeVal,
    system: TimeVal,
    max_rss_kib: u64,
    rest: [u64; 13],
}

fn rusage_of(nanos: u64, rss_kib: u64) -> Rusage {
    Rusage { user: TimeVal::from_nanos(nanos), max_rss_kib: rss_kib, ..Rusage::default() }
}

/// wait4(2).
pub fn wait4(c: &mut Call<'_>) -> SysResult {
    let options = c.a2() as u32;
    if options & !(k::WNOHANG | k::WUNTRACED | k::WCONTINUED | k::__WALL | k::__WCLONE | k::__WNOTHREAD) != 0
    {
        return Err(Errno::EINVAL);
    }
    let ended = exit::wait(c.task, which(c, c.fd()), options & k::WNOHANG != 0, false)?;
    let Some(ended) = ended else { return Ok(0) };
    user::write_optional(c.a1(), &ended.ending.to_status())?;
    user::write_optional(c.a3(), &rusage_of(ended.cpu_nanos, 0))?;
    Ok(ended.pid as usize)
}

fn child_info(ended: &Ended) -> signal::SigInfo {
    use signal::info;
    let (code, status) = match ended.ending {
        Ending::Exited(code) => (info::CLD_EXITED, i32::from(code)),
        Ending::Killed { signo, is_core } => {
            (if is_core { info::CLD_DUMPED } else { info::CLD_KILLED }, signo as i32)
        }
    };
    let source = signal::Source::Child { pid: ended.pid, uid: ended.uid, status };
    signal::SigInfo { signo: signal::SIGCHLD, code, source }
}

/// waitid(2).
pub fn waitid(c: &mut Call<'_>) -> SysResult {
    let id = c.a1() as i32;
    let which = match c.a0() as u32 {
        k::P_ALL => Which::Any,
        k::P_PID => Which::Pid(id),
        k::P_PGID if id == 0 => Which::Group(c.task.process.pgid.load(Ordering::Relaxed)),
        k::P_PGID => Which::Group(id),
        _ => return Err(Errno::EINVAL),
    };
    let options = c.a3() as u32;
    if options & (k::WEXITED | k::WSTOPPED | k::WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let ended = exit::wait(c.task, which, options & k::WNOHANG != 0, options & k::WNOWAIT != 0)?;
    if c.a2() != 0 {
        let bytes = ended.as_ref().map_or([0; signal::info::SIZE], |e| child_info(e).to_bytes());
        user::write_bytes(c.a2(), &bytes)?;
    }
    if let Some(ended) = ended {
        user::write_optional(c.a4(), &rusage_of(ended.cpu_nanos, 0))?;
    }
    Ok(0)
}

/// getpid(2).
pub fn getpid(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.process.pid as usize)
}

/// gettid(2).
pub fn gettid(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.tid() as usize)
}

/// getppid(2).
pub fn getppid(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.process.ppid() as usize)
}

/// set_tid_address(2).
pub fn set_tid_address(c: &mut Call<'_>) -> SysResult {
    c.task.clear_tid.store(c.a0(), Ordering::Relaxed);
    gettid(c)
}

/// set_robust_list(2).
pub fn set_robust_list(c: &mut Call<'_>) -> SysResult {
    if c.a1() != 24 {
        return Err(Errno::EINVAL);
    }
    c.task.robust_list.store(c.a0(), Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2).
pub fn get_robust_list(c: &mut Call<'_>) -> SysResult {
    let head = match c.fd() {
        0 => c.task.robust_list.load(Ordering::Relaxed),
        tid => pids::task(tid).ok_or(Errno::ESRCH)?.robust_list.load(Ordering::Relaxed),
    };
    user::write(c.a1(), &head)?;
    user::write(c.a2(), &24_u64)?;
    Ok(0)
}

/// The process with a number, 0 for the caller's.
fn process_of(c: &Call<'_>, pid: i32) -> SysResult<Arc<Process>> {
    if pid == 0 { Ok(c.task.process.clone()) } else { pids::process(pid).ok_or(Errno::ESRCH) }
}

/// getpgid(2).
pub fn getpgid(c: &mut Call<'_>) -> SysResult {
    Ok(process_of(c, c.fd())?.pgid.load(Ordering::Relaxed) as usize)
}

/// getpgrp(2).
pub fn getpgrp(c: &mut Call<'_>) -> SysResult {
    Ok(c.task.process.pgid.load(Ordering::Relaxed) as usize)
}

/// setpgid(2).
pub fn setpgid(c: &mut Call<'_>) -> SysResult {
    let process = process_of(c, c.fd())?;
    let pgid = c.a1() as i32;
    if pgid < 0 {
        return Err(Errno::EINVAL);
    }
    process.pgid.store(if pgid == 0 { process.pid } else { pgid }, Ordering::Relaxed);
    Ok(0)
}

/// getsid(2).
pub fn getsid(c: &mut Call<'_>) -> SysResult {
    Ok(process_of(c, c.fd())?.sid.load(Ordering::Relaxed) as usize)
}

/// setsid(2).
pub fn setsid(c: &mut Call<'_>) -> SysResult {
    let process = &c.task.process;
    if process.pgid.load(Ordering::Relaxed) == process.pid {
        return Err(Errno::EPERM);
    }
    process.pgid.store(process.pid, Ordering::Relaxed);
    process.sid.store(process.pid, Ordering::Relaxed);
    Ok(process.pid as usize)
}

macro_rules! getters {
    ($($name:ident = $field:ident[$which:literal];)*) => {
        $(#[doc = concat!(stringify!($name), "(2).")]
        pub fn $name(c: &mut Call<'_>) -> SysResult {
            Ok(c.task.process.cred.lock().$field[$which] as usize)
        })*
    };
}
getters! { getuid = uid[0]; geteuid = uid[1]; getgid = gid[0]; getegid = gid[1]; }

fn change_ids(
    c: &Call<'_>,
    change: impl FnOnce(&Credentials, bool) -> Option<([u32; 3], [u32; 3])>,
) -> SysResult {
    let mut slot = c.task.process.cred.lock();
    let (uid, gid) = change(&slot, slot.is_root()).ok_or(Errno::EPERM)?;
    (slot.uid, slot.gid) = (uid, gid);
    drop(slot);
    let threads = c.task.process.threads.lock().clone();
    threads.iter().for_each(|t| glue::refresh_quick(t));
    Ok(0)
}

/// setuid(2).
pub fn setuid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((cred::change_one(now.uid, c.a0() as u32, root)?, now.gid)))
}

/// setgid(2).
pub fn setgid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((now.uid, cred::change_one(now.gid, c.a0() as u32, root)?)))
}

/// The saved id follows the effective one when the real one is set, or the effective one differs from the real one.
fn change_two(ids: [u32; 3], real: u32, effective: u32, is_root: bool) -> Option<[u32; 3]> {
    let mut next = cred::change(ids, [real, effective, cred::KEEP], is_root)?;
    if real != cred::KEEP || (effective != cred::KEEP && effective != ids[0]) {
        next[2] = next[1];
    }
    Some(next)
}

/// setreuid(2).
pub fn setreuid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((change_two(now.uid, c.a0() as u32, c.a1() as u32, root)?, now.gid)))
}

/// setregid(2).
pub fn setregid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((now.uid, change_two(now.gid, c.a0() as u32, c.a1() as u32, root)?)))
}

fn triple(c: &Call<'_>) -> [u32; 3] {
    [c.a0() as u32, c.a1() as u32, c.a2() as u32]
}

/// setresuid(2).
pub fn setresuid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((cred::change(now.uid, triple(c), root)?, now.gid)))
}

/// setresgid(2).
pub fn setresgid(c: &mut Call<'_>) -> SysResult {
    change_ids(c, |now, root| Some((now.uid, cred::change(now.gid, triple(c), root)?)))
}

fn store_triple(c: &Call<'_>, ids: [u32; 3]) -> SysResult {
    for (at, id) in [c.a0(), c.a1(), c.a2()].into_iter().zip(ids) {
        user::write(at, &id)?;
    }
    Ok(0)
}

/// getresuid(2).
pub fn getresuid(c: &mut Call<'_>) -> SysResult {
    let ids = c.task.process.cred.lock().uid;
    store_triple(c, ids)
}

/// getresgid(2).
pub fn getresgid(c: &mut Call<'_>) -> SysResult {
    let ids = c.task.process.cred.lock().gid;
    store_triple(c, ids)
}

/// getgroups(2).
pub fn getgroups(c: &mut Call<'_>) -> SysResult {
    let groups = c.task.process.cred.lock().groups.clone();
    let room = usize::try_from(c.a0() as i32).map_err(|_| Errno::EINVAL)?;
    if room > 0 {
        if groups.len() > room {
            return Err(Errno::EINVAL);
        }
        user::write_bytes(c.a1(), groups.as_bytes())?;
    }
    Ok(groups.len())
}

/// setgroups(2).
pub fn setgroups(c: &mut Call<'_>) -> SysResult {
    const GROUPS_MAX: usize = 65536;
    let count = c.a0() as usize;
    if count > GROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups = alloc::vec![0_u32; count];
    user::read_bytes(c.a1(), groups.as_mut_bytes())?;
    let mut slot = c.task.process.cred.lock();
    if !slot.is_root() {
        return Err(Errno::EPERM);
    }
    let before = core::mem::replace(&mut slot.groups, Arc::from(groups));
    drop(slot);
    drop(before);
    Ok(0)
}

fn change_limit(process: &Process, which: u64, new: Option<Limit>) -> SysResult<Limit> {
    let which = usize::try_from(which).map_err(|_| Errno::EINVAL)?;
    let is_root = process.cred.lock().is_root();
    let mut limits = process.limits.lock();
    let slot = limits.get_mut(which).ok_or(Errno::EINVAL)?;
    let before = *slot;
    if let Some(new) = new {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        let is_too_many = which == limits::NOFILE && new.hard > crate::fd::table::FDS_MAX as u64;
        if (new.hard > before.hard && !is_root) || is_too_many {
            return Err(Errno::EPERM);
        }
        *slot = new;
    }
    Ok(before)
}

/// prlimit64(2).
pub fn prlimit64(c: &mut Call<'_>) -> SysResult {
    let process = process_of(c, c.fd())?;
    let new = if c.a2() == 0 { None } else { Some(user::read::<Limit>(c.a2())?) };
    let before = change_limit(&process, c.a1(), new)?;
    user::write_optional(c.a3(), &before)?;
    Ok(0)
}

/// getrlimit(2).
pub fn getrlimit(c: &mut Call<'_>) -> SysResult {
    user::write(c.a1(), &change_limit(&c.task.process, c.a0(), None)?)?;
    Ok(0)
}

/// setrlimit(2).
pub fn setrlimit(c: &mut Call<'_>) -> SysResult {
    let new: Limit = user::read(c.a1())?;
    change_limit(&c.task.process, c.a0(), Some(new))?;
    Ok(0)
}

/// getrusage(2).
pub fn getrusage(c: &mut Call<'_>) -> SysResult {
    let nanos = match c.a0() as i32 {
        0 => c.task.process.cpu_nanos(),
        -1 => c.task.process.cpu_time.children.load(Ordering::Relaxed),
        1 => glue::cpu_nanos(c.task),
        _ => return Err(Errno::EINVAL),
    };
    let rss_kib = c.task.space().nr_resident() * 4;
    user::write(c.a1(), &rusage_of(nanos, rss_kib))?;
    Ok(0)
}

/// times(2).
pub fn times(c: &mut Call<'_>) -> SysResult {
    const TICK: u64 = crate::time::NANOS / crate::time::TICKS_PER_SEC;
    let own = c.task.process.cpu_nanos() / TICK;
    let children = c.task.process.cpu_time.children.load(Ordering::Relaxed) / TICK;
    user::write_optional(c.a0(), &[own, 0, children, 0])?;
    Ok((rt::time::now().0 / TICK) as usize)
}

fn task_of(c: &Call<'_>, tid: i32) -> SysResult<Arc<Task>> {
    let tid = if tid == 0 { c.task.tid() } else { tid };
    pids::task(tid).ok_or(Errno::ESRCH)
}

/// sched_yield(2).
pub fn sched_yield(_c: &mut Call<'_>) -> SysResult {
    rt::thread::yield_now();
    Ok(0)
}

/// sched_getaffinity(2).
pub fn sched_getaffinity(c: &mut Call<'_>) -> SysResult {
    let cpus = glue::affinity(&*task_of(c, c.fd())?);
    if c.a1() < 8 || !c.a1().is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    user::write(c.a2(), &cpus)?;
    Ok(8)
}

/// sched_setaffinity(2).
pub fn sched_setaffinity(c: &mut Call<'_>) -> SysResult {
    let mut bytes = [0; 8];
    let n = (c.a1() as usize).min(8);
    user::read_bytes(c.a2(), &mut bytes[..n])?;
    let all = u64::MAX >> (64 - rt::thread::nr_cpus().clamp(1, 64));
    let cpus = u64::from_le_bytes(bytes) & all;
    if cpus == 0 {
        return Err(Errno::EINVAL);
    }
    glue::set_affinity(&*task_of(c, c.fd())?, cpus);
    Ok(0)
}

/// sched_getscheduler(2): all threads are equal.
pub fn sched_getscheduler(c: &mut Call<'_>) -> SysResult {
    task_of(c, c.fd())?;
    Ok(0)
}

/// sched_setscheduler(2): accepted for the ordinary policies, which are all the same here.
pub fn sched_setscheduler(c: &mut Call<'_>) -> SysResult {
    task_of(c, c.fd())?;
    match c.a1() as u32 & !k::SCHED_RESET_ON_FORK {
        k::SCHED_NORMAL | k::SCHED_BATCH | k::SCHED_IDLE => Ok(0),
        k::SCHED_FIFO | k::SCHED_RR => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_getparam(2).
pub fn sched_getparam(c: &mut Call<'_>) -> SysResult {
    task_of(c, c.fd())?;
    user::write(c.a1(), &0_i32)?;
    Ok(0)
}

/// sched_setparam(2).
pub fn sched_setparam(c: &mut Call<'_>) -> SysResult {
    task_of(c, c.fd())?;
    let priority: i32 = user::read(c.a1())?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// sched_get_priority_max(2).
pub fn sched_priority_max(c: &mut Call<'_>) -> SysResult {
    match c.a0() as u32 {
        k::SCHED_FIFO | k::SCHED_RR => Ok(99),
        k::SCHED_NORMAL | k::SCHED_BATCH | k::SCHED_IDLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// sched_get_priority_min(2).
pub fn sched_priority_min(c: &mut Call<'_>) -> SysResult {
    sched_priority_max(c).map(|max| usize::from(max > 0))
}

/// getpriority(2): as the call returns it, 20 minus the nice value.
pub fn getpriority(_c: &mut Call<'_>) -> SysResult {
    Ok(20)
}

/// setpriority(2): accepted, without effect.
pub fn setpriority(_c: &mut Call<'_>) -> SysResult {
    Ok(0)
}

/// getcpu(2).
pub fn getcpu(c: &mut Call<'_>) -> SysResult {
    user::write_optional(c.a0(), &(rt::thread::cpu_id() as u32))?;
    user::write_optional(c.a1(), &0_u32)?;
    Ok(0)
}

/// arch_prctl(2).
pub fn arch_prctl(c: &mut Call<'_>) -> SysResult {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    match c.a0() {
        ARCH_SET_FS if c.a1() < mm::space::USER_END => {
            sched::set_fs_base(c.a1());
            Ok(0)
        }
        ARCH_GET_FS => user::write(c.a1(), &sched::fs_base()).map(|()| 0),
        // GS belongs to the kernel: applications run in its ring.
        ARCH_SET_FS | ARCH_SET_GS => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(2).
pub fn prctl(c: &mut Call<'_>) -> SysResult {
    match c.a0() as u32 {
        p::PR_SET_NAME => {
            let mut name = [0; 16];
            let given = user::read_string(c.a1(), 16)?.unwrap_or_else(|| {
                let mut cut = user::UserString::from_elem(0, 15);
                if user::read_bytes(c.a1(), &mut cut).is_err() {
                    cut.clear();
                }
                cut
            });
            let n = given.len().min(15);
            name[..n].copy_from_slice(&given[..n]);
            *c.task.name.lock() = name;
            Ok(0)
        }
        p::PR_GET_NAME => {
            let name = *c.task.name.lock();
            user::write_bytes(c.a1(), &name).map(|()| 0)
        }
        p::PR_GET_DUMPABLE | p::PR_CAPBSET_READ => Ok(1),
        p::PR_GET_NO_NEW_PRIVS | p::PR_GET_SECUREBITS | p::PR_GET_KEEPCAPS | p::PR_GET_THP_DISABLE => Ok(0),
        p::PR_CAP_AMBIENT | p::PR_GET_PDEATHSIG if c.a0() as u32 == p::PR_CAP_AMBIENT => Ok(0),
        p::PR_GET_PDEATHSIG => user::write(c.a1(), &0_i32).map(|()| 0),
        p::PR_SET_DUMPABLE
        | p::PR_SET_KEEPCAPS
        | p::PR_SET_NO_NEW_PRIVS
        | p::PR_SET_THP_DISABLE
        | p::PR_SET_PDEATHSIG
        | p::PR_SET_TIMERSLACK
        | p::PR_SET_CHILD_SUBREAPER
        | p::PR_SET_VMA
        | p::PR_SET_PTRACER => Ok(0),
        p::PR_GET_TIMERSLACK => Ok(50_000),
        _ => Err(Errno::EINVAL),
    }
}
