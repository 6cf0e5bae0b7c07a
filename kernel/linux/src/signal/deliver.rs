//! What happens to a signal that is taken, on the way back to the application.
use super::{
    Action, Disposition, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIG_DFL, SIG_IGN, SIGKILL, SIGSEGV, SigInfo,
    SigSet, Source, bit, default_of, frame,
};
use crate::errno::Errno;
use crate::task::Task;
use crate::task::process::Ending;
use hal::trap::TrapFrame;

/// A signal about to enter its handler.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The signal.
    pub info: SigInfo,
    /// Its action.
    pub action: Action,
    /// The mask to go back to.
    pub saved_mask: SigSet,
}

impl Delivery {
    /// CR2 of the fault, if it was one.
    pub fn fault_addr(&self) -> u64 {
        match self.info.source {
            Source::Fault { addr } => addr,
            _ => 0,
        }
    }
}

/// Takes the next signal of a task that its mask lets through.
fn take(task: &Task) -> Option<SigInfo> {
    let wanted = SigSet(!task.mask().0);
    task.pending.take(wanted).or_else(|| task.process.pending.take(wanted))
}

/// Whether `frame` is a system call that was interrupted and asks to be repeated, and how.
fn restart_code(frame: &TrapFrame) -> Option<Errno> {
    if !frame.is_syscall() {
        return None;
    }
    [Errno::RESTARTSYS, Errno::RESTARTNOHAND].into_iter().find(|code| frame.rax as i64 == code.to_return())
}

/// Makes the application execute the call again.
fn repeat(frame: &mut TrapFrame) {
    /// Length of `syscall`.
    const SYSCALL_LEN: u64 = 2;
    frame.rax = frame.error;
    frame.rip -= SYSCALL_LEN;
}

/// Handles signals until one enters a handler or none is left. Does not return if the process ends.
pub fn deliver(task: &Task, frame: &mut TrapFrame) {
    while let Some(info) = take(task) {
        let action = task.process.actions.get(info.signo);
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => act_by_default(task, info),
            _ => {
                enter_handler(task, frame, info, action);
                return;
            }
        }
    }
    if restart_code(frame).is_some() {
        repeat(frame);
    }
    if let Some(mask) = task.saved_mask.lock().take() {
        task.set_mask(mask);
    }
}

fn act_by_default(task: &Task, info: SigInfo) {
    let disposition = default_of(info.signo);
    let is_core = disposition == Disposition::Core;
    if info.signo == SIGKILL && !task.process.is_exiting() && info == SigInfo::kernel(SIGKILL) {
        // execve in another thread: only this thread ends.
        crate::task::exit::end_thread(task);
    }
    match disposition {
        // Stopping is not offered: a process that is stopped could never be continued from the console.
        Disposition::Ignore | Disposition::Continue | Disposition::Stop => {}
        Disposition::Terminate | Disposition::Core => {
            if is_core {
                log::warn!(
                    "process {} ends by {}: {:?}",
                    task.process.pid,
                    super::name(info.signo),
                    info.source
                );
            }
            crate::task::exit::end_process(task, Ending::Killed { signo: info.signo, is_core });
        }
    }
}

fn enter_handler(task: &Task, frame: &mut TrapFrame, info: SigInfo, action: Action) {
    if let Some(code) = restart_code(frame) {
        if code == Errno::RESTARTSYS && action.flags & SA_RESTART != 0 {
            repeat(frame);
        } else {
            frame.rax = Errno::EINTR.to_return() as u64;
        }
    }
    let mask = task.mask();
    let saved_mask = task.saved_mask.lock().take().unwrap_or(mask);
    let delivery = Delivery { info, action, saved_mask };
    if action.flags & SA_RESETHAND != 0 {
        task.process.actions.set(info.signo, Action { handler: SIG_DFL, ..action });
    }
    if frame::push(task, frame, &delivery).is_err() {
        crate::task::exit::end_process(task, Ending::Killed { signo: SIGSEGV, is_core: true });
    }
    let own = if action.flags & SA_NODEFER != 0 { 0 } else { bit(info.signo) };
    task.set_mask(SigSet(mask.0 | action.mask | own));
}
