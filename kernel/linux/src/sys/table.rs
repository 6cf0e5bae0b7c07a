//! Which number is which function.
use super::{Call, DeferredHandler, Handler};
use super::{futex, io, locks, mem, misc, names, open, poll, process, signal, stat, time, xattr};
use crate::errno::{Errno, SysResult};
use crate::glue;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as nr;

/// A system call.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name, for traces.
    pub name: &'static str,
    /// Number of arguments, for traces.
    pub nr_args: u8,
    /// Function.
    pub handler: Handler,
}

/// Numbers below this may exist.
pub const NR_CALLS: usize = 463;

/// Calls without a function, counted by number.
static NR_UNKNOWN: [AtomicU32; NR_CALLS] = [const { AtomicU32::new(0) }; NR_CALLS];

/// Counts and answers a call there is no function for.
pub fn unknown(nr: usize) -> SysResult {
    if let Some(count) = NR_UNKNOWN.get(nr) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    Err(Errno::ENOSYS)
}

/// Calls each number that was asked for in vain, with how often.
pub fn for_each_unknown(mut each: impl FnMut(usize, u32)) {
    for (nr, count) in NR_UNKNOWN.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            each(nr, count);
        }
    }
}

/// First stage of a deferred call.
fn defer(_call: &mut Call<'_>) -> SysResult {
    glue::request_deferred();
    Ok(0)
}

/// The second stage of a deferred call.
pub fn deferred(number: usize) -> Option<DeferredHandler> {
    Some(match u32::try_from(number).ok()? {
        nr::__NR_clone => process::clone,
        nr::__NR_clone3 => process::clone3,
        nr::__NR_fork => process::fork,
        nr::__NR_vfork => process::vfork,
        nr::__NR_execve => process::execve,
        nr::__NR_execveat => process::execveat,
        nr::__NR_rt_sigreturn => signal::sigreturn,
        nr::__NR_sigaltstack => signal::sigaltstack,
        _ => return None,
    })
}

/// Every call there is, by number.
pub static CALLS: [Option<Entry>; NR_CALLS] = {
    let mut calls: [Option<Entry>; NR_CALLS] = [None; NR_CALLS];
    let mut i = 0;
    while i < LIST.len() {
        let (number, name, nr_args, handler) = LIST[i];
        calls[number as usize] = Some(Entry { name, nr_args, handler });
        i += 1;
    }
    calls
};

#[rustfmt::skip]
const LIST: &[(u32, &str, u8, Handler)] = &[
    (nr::__NR_read, "read", 3, io::read),
    (nr::__NR_write, "write", 3, io::write),
    (nr::__NR_open, "open", 3, open::open),
    (nr::__NR_close, "close", 1, open::close),
    (nr::__NR_stat, "stat", 2, stat::stat),
    (nr::__NR_fstat, "fstat", 2, stat::fstat),
    (nr::__NR_lstat, "lstat", 2, stat::lstat),
    (nr::__NR_poll, "poll", 3, poll::poll),
    (nr::__NR_lseek, "lseek", 3, io::lseek),
    (nr::__NR_mmap, "mmap", 6, mem::mmap),
    (nr::__NR_mprotect, "mprotect", 3, mem::mprotect),
    (nr::__NR_munmap, "munmap", 2, mem::munmap),
    (nr::__NR_brk, "brk", 1, mem::brk),
    (nr::__NR_rt_sigaction, "rt_sigaction", 4, signal::sigaction),
    (nr::__NR_rt_sigprocmask, "rt_sigprocmask", 4, signal::sigprocmask),
    (nr::__NR_rt_sigreturn, "rt_sigreturn", 0, defer),
    (nr::__NR_ioctl, "ioctl", 3, open::ioctl),
    (nr::__NR_pread64, "pread64", 4, io::pread),
    (nr::__NR_pwrite64, "pwrite64", 4, io::pwrite),
    (nr::__NR_readv, "readv", 3, io::readv),
    (nr::__NR_writev, "writev", 3, io::writev),
    (nr::__NR_access, "access", 2, stat::access),
    (nr::__NR_pipe, "pipe", 1, open::pipe),
    (nr::__NR_select, "select", 5, poll::select),
    (nr::__NR_sched_yield, "sched_yield", 0, process::sched_yield),
    (nr::__NR_mremap, "mremap", 5, mem::mremap),
    (nr::__NR_msync, "msync", 3, mem::msync),
    (nr::__NR_mincore, "mincore", 3, mem::mincore),
    (nr::__NR_madvise, "madvise", 3, mem::madvise),
    (nr::__NR_dup, "dup", 1, open::dup),
    (nr::__NR_dup2, "dup2", 2, open::dup2),
    (nr::__NR_pause, "pause", 0, signal::pause),
    (nr::__NR_nanosleep, "nanosleep", 2, time::nanosleep),
    (nr::__NR_getitimer, "getitimer", 2, time::getitimer),
    (nr::__NR_alarm, "alarm", 1, time::alarm),
    (nr::__NR_setitimer, "setitimer", 3, time::setitimer),
    (nr::__NR_getpid, "getpid", 0, process::getpid),
    (nr::__NR_sendfile, "sendfile", 4, io::sendfile),
    (nr::__NR_socket, "socket", 3, misc::socket),
    (nr::__NR_socketpair, "socketpair", 4, misc::socket),
    (nr::__NR_clone, "clone", 5, defer),
    (nr::__NR_fork, "fork", 0, defer),
    (nr::__NR_vfork, "vfork", 0, defer),
    (nr::__NR_execve, "execve", 3, defer),
    (nr::__NR_exit, "exit", 1, process::exit),
    (nr::__NR_wait4, "wait4", 4, process::wait4),
    (nr::__NR_kill, "kill", 2, signal::kill),
    (nr::__NR_uname, "uname", 1, misc::uname),
    (nr::__NR_fcntl, "fcntl", 3, open::fcntl),
    (nr::__NR_flock, "flock", 2, locks::flock),
    (nr::__NR_fsync, "fsync", 1, io::fsync),
    (nr::__NR_fdatasync, "fdatasync", 1, io::fdatasync),
    (nr::__NR_truncate, "truncate", 2, names::truncate),
    (nr::__NR_ftruncate, "ftruncate", 2, names::ftruncate),
    (nr::__NR_getdents64, "getdents64", 3, names::getdents64),
    (nr::__NR_getcwd, "getcwd", 2, names::getcwd),
    (nr::__NR_chdir, "chdir", 1, names::chdir),
    (nr::__NR_fchdir, "fchdir", 1, names::fchdir),
    (nr::__NR_rename, "rename", 2, names::rename),
    (nr::__NR_mkdir, "mkdir", 2, names::mkdir),
    (nr::__NR_rmdir, "rmdir", 1, names::rmdir),
    (nr::__NR_creat, "creat", 2, open::creat),
    (nr::__NR_link, "link", 2, names::link),
    (nr::__NR_unlink, "unlink", 1, names::unlink),
    (nr::__NR_symlink, "symlink", 2, names::symlink),
    (nr::__NR_readlink, "readlink", 3, names::readlink),
    (nr::__NR_chmod, "chmod", 2, names::chmod),
    (nr::__NR_fchmod, "fchmod", 2, names::fchmod),
    (nr::__NR_chown, "chown", 3, names::chown),
    (nr::__NR_fchown, "fchown", 3, names::fchown),
    (nr::__NR_lchown, "lchown", 3, names::lchown),
    (nr::__NR_umask, "umask", 1, names::umask),
    (nr::__NR_gettimeofday, "gettimeofday", 2, time::gettimeofday),
    (nr::__NR_getrlimit, "getrlimit", 2, process::getrlimit),
    (nr::__NR_getrusage, "getrusage", 2, process::getrusage),
    (nr::__NR_sysinfo, "sysinfo", 1, misc::sysinfo),
    (nr::__NR_times, "times", 1, process::times),
    (nr::__NR_getuid, "getuid", 0, process::getuid),
    (nr::__NR_syslog, "syslog", 3, misc::syslog),
    (nr::__NR_getgid, "getgid", 0, process::getgid),
    (nr::__NR_setuid, "setuid", 1, process::setuid),
    (nr::__NR_setgid, "setgid", 1, process::setgid),
    (nr::__NR_geteuid, "geteuid", 0, process::geteuid),
    (nr::__NR_getegid, "getegid", 0, process::getegid),
    (nr::__NR_setpgid, "setpgid", 2, process::setpgid),
    (nr::__NR_getppid, "getppid", 0, process::getppid),
    (nr::__NR_getpgrp, "getpgrp", 0, process::getpgrp),
    (nr::__NR_setsid, "setsid", 0, process::setsid),
    (nr::__NR_setreuid, "setreuid", 2, process::setreuid),
    (nr::__NR_setregid, "setregid", 2, process::setregid),
    (nr::__NR_getgroups, "getgroups", 2, process::getgroups),
    (nr::__NR_setgroups, "setgroups", 2, process::setgroups),
    (nr::__NR_setresuid, "setresuid", 3, process::setresuid),
    (nr::__NR_getresuid, "getresuid", 3, process::getresuid),
    (nr::__NR_setresgid, "setresgid", 3, process::setresgid),
    (nr::__NR_getresgid, "getresgid", 3, process::getresgid),
    (nr::__NR_getpgid, "getpgid", 1, process::getpgid),
    (nr::__NR_getsid, "getsid", 1, process::getsid),
    (nr::__NR_capget, "capget", 2, misc::capget),
    (nr::__NR_capset, "capset", 2, misc::capset),
    (nr::__NR_rt_sigpending, "rt_sigpending", 2, signal::sigpending),
    (nr::__NR_rt_sigtimedwait, "rt_sigtimedwait", 4, signal::sigtimedwait),
    (nr::__NR_rt_sigqueueinfo, "rt_sigqueueinfo", 3, signal::sigqueueinfo),
    (nr::__NR_rt_sigsuspend, "rt_sigsuspend", 2, signal::sigsuspend),
    (nr::__NR_sigaltstack, "sigaltstack", 2, defer),
    (nr::__NR_mknod, "mknod", 3, names::mknod),
    (nr::__NR_personality, "personality", 1, misc::personality),
    (nr::__NR_statfs, "statfs", 2, stat::statfs),
    (nr::__NR_fstatfs, "fstatfs", 2, stat::fstatfs),
    (nr::__NR_getpriority, "getpriority", 2, process::getpriority),
    (nr::__NR_setpriority, "setpriority", 3, process::setpriority),
    (nr::__NR_sched_setparam, "sched_setparam", 2, process::sched_setparam),
    (nr::__NR_sched_getparam, "sched_getparam", 2, process::sched_getparam),
    (nr::__NR_sched_setscheduler, "sched_setscheduler", 3, process::sched_setscheduler),
    (nr::__NR_sched_getscheduler, "sched_getscheduler", 1, process::sched_getscheduler),
    (nr::__NR_sched_get_priority_max, "sched_get_priority_max", 1, process::sched_priority_max),
    (nr::__NR_sched_get_priority_min, "sched_get_priority_min", 1, process::sched_priority_min),
    (nr::__NR_mlock, "mlock", 2, misc::nothing),
    (nr::__NR_munlock, "munlock", 2, misc::nothing),
    (nr::__NR_mlockall, "mlockall", 1, misc::nothing),
    (nr::__NR_munlockall, "munlockall", 0, misc::nothing),
    (nr::__NR_prctl, "prctl", 5, process::prctl),
    (nr::__NR_arch_prctl, "arch_prctl", 2, process::arch_prctl),
    (nr::__NR_setrlimit, "setrlimit", 2, process::setrlimit),
    (nr::__NR_chroot, "chroot", 1, names::chroot),
    (nr::__NR_sync, "sync", 0, io::sync),
    (nr::__NR_sethostname, "sethostname", 2, misc::not_permitted),
    (nr::__NR_gettid, "gettid", 0, process::gettid),
    (nr::__NR_readahead, "readahead", 3, io::readahead),
    (nr::__NR_setxattr, "setxattr", 5, xattr::setxattr),
    (nr::__NR_lsetxattr, "lsetxattr", 5, xattr::lsetxattr),
    (nr::__NR_fsetxattr, "fsetxattr", 5, xattr::fsetxattr),
    (nr::__NR_getxattr, "getxattr", 4, xattr::getxattr),
    (nr::__NR_lgetxattr, "lgetxattr", 4, xattr::lgetxattr),
    (nr::__NR_fgetxattr, "fgetxattr", 4, xattr::fgetxattr),
    (nr::__NR_listxattr, "listxattr", 3, xattr::listxattr),
    (nr::__NR_llistxattr, "llistxattr", 3, xattr::llistxattr),
    (nr::__NR_flistxattr, "flistxattr", 3, xattr::flistxattr),
    (nr::__NR_removexattr, "removexattr", 2, xattr::removexattr),
    (nr::__NR_lremovexattr, "lremovexattr", 2, xattr::lremovexattr),
    (nr::__NR_fremovexattr, "fremovexattr", 2, xattr::fremovexattr),
    (nr::__NR_tkill, "tkill", 2, signal::tkill),
    (nr::__NR_time, "time", 1, time::time),
    (nr::__NR_futex, "futex", 6, futex::futex),
    (nr::__NR_sched_setaffinity, "sched_setaffinity", 3, process::sched_setaffinity),
    (nr::__NR_sched_getaffinity, "sched_getaffinity", 3, process::sched_getaffinity),
    (nr::__NR_epoll_create, "epoll_create", 1, poll::epoll_create),
    (nr::__NR_set_tid_address, "set_tid_address", 1, process::set_tid_address),
    (nr::__NR_restart_syscall, "restart_syscall", 0, misc::interrupted),
    (nr::__NR_fadvise64, "fadvise64", 4, io::fadvise),
    (nr::__NR_timer_create, "timer_create", 3, time::timer_create),
    (nr::__NR_timer_settime, "timer_settime", 4, time::timer_settime),
    (nr::__NR_timer_gettime, "timer_gettime", 2, time::timer_gettime),
    (nr::__NR_timer_getoverrun, "timer_getoverrun", 1, time::timer_getoverrun),
    (nr::__NR_timer_delete, "timer_delete", 1, time::timer_delete),
    (nr::__NR_clock_settime, "clock_settime", 2, misc::not_permitted),
    (nr::__NR_clock_gettime, "clock_gettime", 2, time::clock_gettime),
    (nr::__NR_clock_getres, "clock_getres", 2, time::clock_getres),
    (nr::__NR_clock_nanosleep, "clock_nanosleep", 4, time::clock_nanosleep),
    (nr::__NR_exit_group, "exit_group", 1, process::exit_group),
    (nr::__NR_epoll_wait, "epoll_wait", 4, poll::epoll_wait),
    (nr::__NR_epoll_ctl, "epoll_ctl", 4, poll::epoll_ctl),
    (nr::__NR_tgkill, "tgkill", 3, signal::tgkill),
    (nr::__NR_utimes, "utimes", 2, names::utimes),
    (nr::__NR_set_mempolicy, "set_mempolicy", 3, misc::nothing),
    (nr::__NR_get_mempolicy, "get_mempolicy", 5, misc::get_mempolicy),
    (nr::__NR_mbind, "mbind", 6, misc::nothing),
    (nr::__NR_waitid, "waitid", 5, process::waitid),
    (nr::__NR_ioprio_set, "ioprio_set", 3, misc::nothing),
    (nr::__NR_ioprio_get, "ioprio_get", 2, misc::nothing),
    (nr::__NR_openat, "openat", 4, open::openat),
    (nr::__NR_mkdirat, "mkdirat", 3, names::mkdirat),
    (nr::__NR_mknodat, "mknodat", 4, names::mknodat),
    (nr::__NR_fchownat, "fchownat", 5, names::fchownat),
    (nr::__NR_futimesat, "futimesat", 3, names::futimesat),
    (nr::__NR_newfstatat, "newfstatat", 4, stat::newfstatat),
    (nr::__NR_unlinkat, "unlinkat", 3, names::unlinkat),
    (nr::__NR_renameat, "renameat", 4, names::renameat),
    (nr::__NR_linkat, "linkat", 5, names::linkat),
    (nr::__NR_symlinkat, "symlinkat", 3, names::symlinkat),
    (nr::__NR_readlinkat, "readlinkat", 4, names::readlinkat),
    (nr::__NR_fchmodat, "fchmodat", 3, names::fchmodat),
    (nr::__NR_faccessat, "faccessat", 3, stat::faccessat),
    (nr::__NR_pselect6, "pselect6", 6, poll::pselect6),
    (nr::__NR_ppoll, "ppoll", 5, poll::ppoll),
    (nr::__NR_set_robust_list, "set_robust_list", 2, process::set_robust_list),
    (nr::__NR_get_robust_list, "get_robust_list", 3, process::get_robust_list),
    (nr::__NR_splice, "splice", 6, io::splice),
    (nr::__NR_sync_file_range, "sync_file_range", 4, io::sync_file_range),
    (nr::__NR_utimensat, "utimensat", 4, names::utimensat),
    (nr::__NR_epoll_pwait, "epoll_pwait", 6, poll::epoll_pwait),
    (nr::__NR_timerfd_create, "timerfd_create", 2, time::timerfd_create),
    (nr::__NR_eventfd, "eventfd", 1, open::eventfd),
    (nr::__NR_fallocate, "fallocate", 4, names::fallocate),
    (nr::__NR_timerfd_settime, "timerfd_settime", 4, time::timerfd_settime),
    (nr::__NR_timerfd_gettime, "timerfd_gettime", 2, time::timerfd_gettime),
    (nr::__NR_eventfd2, "eventfd2", 2, open::eventfd2),
    (nr::__NR_epoll_create1, "epoll_create1", 1, poll::epoll_create1),
    (nr::__NR_dup3, "dup3", 3, open::dup3),
    (nr::__NR_pipe2, "pipe2", 2, open::pipe2),
    (nr::__NR_preadv, "preadv", 5, io::preadv),
    (nr::__NR_pwritev, "pwritev", 5, io::pwritev),
    (nr::__NR_rt_tgsigqueueinfo, "rt_tgsigqueueinfo", 4, signal::tgsigqueueinfo),
    (nr::__NR_prlimit64, "prlimit64", 4, process::prlimit64),
    (nr::__NR_syncfs, "syncfs", 1, io::syncfs),
    (nr::__NR_getcpu, "getcpu", 3, process::getcpu),
    (nr::__NR_renameat2, "renameat2", 5, names::renameat2),
    (nr::__NR_getrandom, "getrandom", 3, misc::getrandom),
    (nr::__NR_memfd_create, "memfd_create", 2, open::memfd_create),
    (nr::__NR_execveat, "execveat", 5, defer),
    (nr::__NR_membarrier, "membarrier", 3, misc::membarrier),
    (nr::__NR_copy_file_range, "copy_file_range", 6, io::copy_file_range),
    (nr::__NR_preadv2, "preadv2", 6, io::preadv2),
    (nr::__NR_pwritev2, "pwritev2", 6, io::pwritev2),
    (nr::__NR_statx, "statx", 5, stat::statx),
    (nr::__NR_clone3, "clone3", 2, defer),
    (nr::__NR_close_range, "close_range", 3, open::close_range),
    (nr::__NR_openat2, "openat2", 4, open::openat2),
    (nr::__NR_faccessat2, "faccessat2", 4, stat::faccessat2),
    (nr::__NR_fchmodat2, "fchmodat2", 4, names::fchmodat2),
];
