//! Ends of threads and processes, and waiting for them.
use super::process::Ending;
use super::{Process, Task, pids};
use crate::errno::{Errno, SysResult};
use crate::fd::FileRef;
use crate::futex::{FUTEXES, MATCH_ANY};
use crate::kernel::kernel;
use crate::signal::{self, SA_NOCLDWAIT, SIG_IGN, SigInfo, Source, info};
use crate::sys::futex::key_of;
use crate::{glue, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use rt::Once;
use rt::time::Instant;

/// Most entries of a robust list that are looked at: the list is the application's and may be a circle.
const ROBUST_MAX: usize = 2048;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// Told when the first process ends.
static FIRST_ENDED: Once<Arc<rt::Event>> = Once::new();

/// The event of the first process' end.
pub fn first_ended() -> &'static Arc<rt::Event> {
    FIRST_ENDED.get_or_init(|| Arc::new(rt::Event::new()))
}

/// exit_group, or death by a signal: ends the calling thread and makes the others end.
pub fn end_process(task: &Task, ending: Ending) -> ! {
    task.process.begin_exit(ending);
    end_thread(task)
}

/// Ends the calling thread, and the process with its last one.
pub fn end_thread(task: &Task) -> ! {
    release_futexes(task);
    let process = task.process.clone();
    process.cpu_time.ended.fetch_add(glue::cpu_nanos(task), Ordering::Relaxed);
    let is_last = {
        let mut threads = process.threads.lock();
        threads.retain(|t| !core::ptr::eq(&**t, task));
        threads.is_empty()
    };
    if task.tid() != process.pid {
        pids::remove_task(task.tid());
    }
    if is_last {
        end_last(task, &process);
    }
    process.thread_events.wake_all();
    drop(task.set_space(None));
    drop(process);
    glue::exit_thread()
}

/// What the kernel owes to those who wait for the thread: robust mutexes, and the word of pthread_join.
fn release_futexes(task: &Task) {
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head != 0 {
        let _ = release_robust(task, head);
    }
    let clear = task.clear_tid.swap(0, Ordering::Relaxed);
    if clear != 0 && user::write(clear, &0_u32).is_ok() {
        wake_word(task, clear);
    }
}

/// Wakes one waiter of a word, whether it waits by a private or a shared key.
fn wake_word(task: &Task, at: u64) {
    for is_private in [true, false] {
        if let Ok(key) = key_of(task, at, is_private)
            && FUTEXES.wake(key, 1, MATCH_ANY) > 0
        {
            return;
        }
    }
}

fn release_robust(task: &Task, head: u64) -> SysResult<()> {
    let [first, offset, pending]: [u64; 3] = user::read(head)?;
    let mut at = first & !1;
    for _ in 0..ROBUST_MAX {
        if at == head || at == 0 {
            break;
        }
        let next: u64 = user::read(at)?;
        if at != pending & !1 {
            release_robust_word(task, at.wrapping_add(offset))?;
        }
        at = next & !1;
    }
    if pending & !1 != 0 {
        release_robust_word(task, (pending & !1).wrapping_add(offset))?;
    }
    Ok(())
}

fn release_robust_word(task: &Task, at: u64) -> SysResult<()> {
    let value: u32 = user::read(at)?;
    if value & FUTEX_TID_MASK != task.tid() as u32 {
        return Ok(());
    }
    user::write(at, &(value & FUTEX_WAITERS | FUTEX_OWNER_DIED))?;
    if value & FUTEX_WAITERS != 0 {
        wake_word(task, at);
    }
    Ok(())
}

/// The last thread of a process ends.
fn end_last(task: &Task, process: &Arc<Process>) {
    let ending = process.set_ending_if_none(Ending::Exited(0));
    process.itimers.clear();
    process.timers.clear();
    if task.fds.remove_user() {
        let files = task.fds.take_all();
        files.iter().for_each(|file| release_locks(process, file));
    }
    drop(task.set_space(None));
    glue::leave_space();
    process.finish_vfork();
    pids::remove_task(process.pid);
    adopt_children(process);
    tell_parent(process, ending);
}

/// POSIX: any close of a file by a process drops all its record locks on it.
pub fn release_locks(process: &Process, file: &FileRef) {
    if let Some(file) = file.as_file() {
        kernel().locks.release_process(file.vnode(), process.pid as u64);
    }
}

/// Children without parent become the first process'. Those that have ended go: it need not know of them.
fn adopt_children(process: &Arc<Process>) {
    let children = core::mem::take(&mut *process.children.lock());
    let first = pids::process(1).filter(|first| !Arc::ptr_eq(first, process));
    for child in children {
        if child.is_zombie() {
            pids::remove_process(child.pid);
        } else if let Some(first) = &first {
            child.set_parent(first);
            let threads = child.threads.lock().clone();
            threads.iter().for_each(|t| glue::refresh_quick(t));
            first.children.lock().push(child);
        }
    }
}

/// Makes a process one that can be waited for, and says so.
///
/// Both at once, as [`wait`] sees it: a parent whose wait returned has the signal pending already, and a handler that
/// waits finds the child.
fn tell_parent(process: &Arc<Process>, ending: Ending) {
    let Some(parent) = process.parent() else {
        process.set_zombie();
        pids::remove_process(process.pid);
        if process.pid == 1 {
            first_ended().set();
        }
        return;
    };
    let action = parent.actions.get(signal::SIGCHLD);
    let exit_signal = process.exit_signal.load(Ordering::Relaxed);
    let (code, status) = match ending {
        Ending::Exited(code) => (info::CLD_EXITED, i32::from(code)),
        Ending::Killed { signo, is_core: false } => (info::CLD_KILLED, signo as i32),
        Ending::Killed { signo, is_core: true } => (info::CLD_DUMPED, signo as i32),
    };
    let source = Source::Child { pid: process.pid, uid: process.cred.lock().uid[0], status };
    {
        let _children = parent.children.lock();
        process.set_zombie();
        signal::send::to_process(&parent, SigInfo { signo: exit_signal, code, source });
    }
    if exit_signal == signal::SIGCHLD && (action.handler == SIG_IGN || action.flags & SA_NOCLDWAIT != 0) {
        reap(&parent, process);
    }
    parent.child_events.wake_all();
}

/// Removes an ended child for good.
fn reap(parent: &Process, child: &Arc<Process>) {
    parent.children.lock().retain(|p| !Arc::ptr_eq(p, child));
    forget(parent, child);
}

/// Frees the number of an ended child and accounts for its time.
fn forget(parent: &Process, child: &Arc<Process>) {
    pids::remove_process(child.pid);
    let nanos = child.cpu_nanos() + child.cpu_time.children.load(Ordering::Relaxed);
    parent.cpu_time.children.fetch_add(nanos, Ordering::Relaxed);
}

/// Which children a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Any.
    Any,
    /// One.
    Pid(i32),
    /// Those of a group.
    Group(i32),
}

/// A child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub pid: i32,
    /// Its real user.
    pub uid: u32,
    /// How.
    pub ending: Ending,
    /// Its CPU time, nanoseconds.
    pub cpu_nanos: u64,
}

/// Waits for a child to end; `None` when none has and `is_nonblocking`.
///
/// # Errors
/// [`Errno::ECHILD`], [`Errno::RESTARTSYS`].
pub fn wait(task: &Task, which: Which, is_nonblocking: bool, keeps_it: bool) -> SysResult<Option<Ended>> {
    let process = &task.process;
    let look = || -> Option<SysResult<Ended>> {
        let is_meant = |p: &&Arc<Process>| match which {
            Which::Any => true,
            Which::Pid(pid) => p.pid == pid,
            Which::Group(pgid) => p.pgid.load(Ordering::Relaxed) == pgid,
        };
        let child = {
            let mut children = process.children.lock();
            if !children.iter().any(|p| is_meant(&p)) {
                return Some(Err(Errno::ECHILD));
            }
            let at = children.iter().position(|p| is_meant(&p) && p.is_zombie())?;
            // Taken out under the lock: of two threads that wait, one gets the child.
            if keeps_it { children[at].clone() } else { children.remove(at) }
        };
        let ending = child.ending().unwrap_or(Ending::Exited(0));
        if !keeps_it {
            forget(process, &child);
        }
        let uid = child.cred.lock().uid[0];
        Some(Ok(Ended { pid: child.pid, uid, ending, cpu_nanos: child.cpu_nanos() }))
    };
    if is_nonblocking {
        return look().transpose();
    }
    let found = task.wait(&process.child_events, Instant::NEVER, "wait", look);
    found.map_err(|_| Errno::RESTARTSYS)?.map(Some)
}
