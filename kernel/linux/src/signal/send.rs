//! Whom a signal goes to, and how that thread learns of it.
use super::{Action, SIG_DFL, SigInfo, SigSet};
use crate::errno::{Errno, SysResult};
use crate::task::{Process, Task, pids};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Sends a signal to a process: any thread that does not block it takes it.
pub fn to_process(process: &Process, info: SigInfo) {
    if info.signo == 0 || process.is_zombie() {
        return;
    }
    let threads = process.threads.lock().clone();
    if process.actions.is_ignored(info.signo) && !threads.iter().any(|t| t.mask().contains(info.signo)) {
        return;
    }
    process.pending.push(info);
    let is_taker = |t: &&Arc<Task>| !t.mask().contains(info.signo);
    let main = threads.iter().find(|t| t.tid() == process.pid && is_taker(t));
    if let Some(taker) = main.or_else(|| threads.iter().find(is_taker)) {
        taker.interrupt();
    }
    // Threads in sigtimedwait block what they wait for.
    threads.iter().filter(|t| t.mask().contains(info.signo)).for_each(|t| t.interrupt());
}

/// Sends a signal to one thread.
pub fn to_task(task: &Task, info: SigInfo) {
    if info.signo == 0 {
        return;
    }
    if task.process.actions.is_ignored(info.signo) && !task.mask().contains(info.signo) {
        return;
    }
    task.pending.push(info);
    task.interrupt();
}

/// Sends a signal to every process of a group; how many there are.
pub fn to_group(pgid: i32, info: SigInfo) -> usize {
    let members =
        pids::processes().into_iter().filter(|p| p.pgid.load(Ordering::Relaxed) == pgid && !p.is_zombie());
    members.map(|p| to_process(&p, info)).count()
}

/// Sends the signal of a fault: if it is blocked or ignored the process ends by it.
pub fn force(task: &Task, info: SigInfo) {
    let is_blocked = task.mask().contains(info.signo);
    if is_blocked || task.process.actions.is_ignored(info.signo) {
        task.process.actions.set(info.signo, Action { handler: SIG_DFL, ..Action::default() });
        task.set_mask(SigSet(task.mask().0 & !super::bit(info.signo)));
    }
    task.pending.push(info);
    task.interrupt();
}

/// Whether `task` may signal `target`.
///
/// # Errors
/// [`Errno::EPERM`].
pub fn check_permission(task: &Task, target: &Process) -> SysResult<()> {
    let mine = task.process.cred.lock().clone();
    let theirs = target.cred.lock().clone();
    let is_allowed = mine.is_root()
        || [mine.uid[0], mine.uid[1]].iter().any(|id| [theirs.uid[0], theirs.uid[2]].contains(id));
    if is_allowed { Ok(()) } else { Err(Errno::EPERM) }
}
