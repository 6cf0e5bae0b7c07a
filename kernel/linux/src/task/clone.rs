//! New threads and processes.
use super::{Parts, Process, Task, pids};
use crate::errno::{Errno, SysResult};
use crate::{glue, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::trap::TrapFrame;
use rt::time::Instant;

bitflags::bitflags! {
    /// `CLONE_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// Share the address space.
        const VM = 0x100;
        /// Share root, working directory and umask.
        const FS = 0x200;
        /// Share descriptors.
        const FILES = 0x400;
        /// Share signal actions.
        const SIGHAND = 0x800;
        /// The caller waits until the child gives the memory back.
        const VFORK = 0x4000;
        /// The caller's parent becomes the parent.
        const PARENT = 0x8000;
        /// A thread of the same process.
        const THREAD = 0x1_0000;
        /// Set FS base.
        const SETTLS = 0x8_0000;
        /// Store the number for the parent.
        const PARENT_SETTID = 0x10_0000;
        /// Clear the number and wake its futex at the end.
        const CHILD_CLEARTID = 0x20_0000;
        /// Store the number in the child's memory.
        const CHILD_SETTID = 0x100_0000;
        /// Handlers become default (clone3).
        const CLEAR_SIGHAND = 0x1_0000_0000;
        const _ = !0;
    }
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct CloneArgs {
    /// Flags.
    pub flags: CloneFlags,
    /// Signal to the parent at the end.
    pub exit_signal: u32,
    /// Stack pointer; 0: the caller's.
    pub stack: u64,
    /// FS base.
    pub tls: u64,
    /// Where the parent finds the number.
    pub parent_tid: u64,
    /// Where the child finds it.
    pub child_tid: u64,
}

/// Namespaces and the rest of what is refused: everything that would isolate, and pidfds.
const REFUSED: u64 = 0x7e02_0000 | 0x1000;

/// Makes a thread or process that continues at `frame` with result 0; its number.
///
/// # Errors
/// As clone(2).
pub fn clone(task: &Task, frame: &TrapFrame, args: &CloneArgs) -> SysResult {
    let flags = args.flags;
    let is_thread = flags.contains(CloneFlags::THREAD);
    let is_consistent = (!is_thread || flags.contains(CloneFlags::SIGHAND))
        && (!flags.contains(CloneFlags::SIGHAND) || flags.contains(CloneFlags::VM));
    if !is_consistent || flags.bits() & REFUSED != 0 || args.tls >= mm::space::USER_END {
        return Err(Errno::EINVAL);
    }
    let child = make_task(task, args)?;
    let tid = child.tid();
    let is_stored = store_numbers(&child, args);
    let mut child_frame = *frame;
    child_frame.rax = 0;
    if args.stack != 0 {
        child_frame.rsp = args.stack;
    }
    let fs_base = if flags.contains(CloneFlags::SETTLS) { args.tls } else { sched::fs_base() };
    let fpu = glue::capture_fpu(frame);
    let started = match (is_stored, fpu) {
        (Ok(()), Some(fpu)) => glue::start(&child, &child_frame, fs_base, Some(fpu)),
        (Err(e), _) => Err(e),
        (_, None) => Err(Errno::ENOMEM),
    };
    if let Err(e) = started {
        abandon(task, &child, is_thread);
        return Err(e);
    }
    if flags.contains(CloneFlags::VFORK) {
        wait_for_vfork(task, &child.process);
    }
    Ok(tid as usize)
}

fn make_task(task: &Task, args: &CloneArgs) -> SysResult<Arc<Task>> {
    let flags = args.flags;
    let space = if flags.contains(CloneFlags::VM) { task.space() } else { task.space().fork()? };
    let process =
        if flags.contains(CloneFlags::THREAD) { task.process.clone() } else { make_process(task, args)? };
    let tid = if flags.contains(CloneFlags::THREAD) { pids::allocate() } else { process.pid };
    let fds =
        if flags.contains(CloneFlags::FILES) { task.fds.clone() } else { Arc::new(task.fds.duplicate()) };
    if !flags.contains(CloneFlags::THREAD) && flags.contains(CloneFlags::FILES) {
        fds.add_user();
    }
    let place =
        if flags.contains(CloneFlags::FS) { task.place.clone() } else { Arc::new(task.place.duplicate()) };
    let name = *task.name.lock();
    let child =
        Task::new(Parts { tid, process: process.clone(), fds, place, space, mask: task.mask(), name });
    if !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK) {
        *child.alt_stack.lock() = *task.alt_stack.lock();
    }
    if flags.contains(CloneFlags::CHILD_CLEARTID) {
        child.clear_tid.store(args.child_tid, Ordering::Relaxed);
    }
    process.threads.lock().push(child.clone());
    pids::add_task(&child);
    Ok(child)
}

fn make_process(task: &Task, args: &CloneArgs) -> SysResult<Arc<Process>> {
    let actions = if args.flags.contains(CloneFlags::SIGHAND) {
        task.process.actions.clone()
    } else {
        Arc::new(task.process.actions.duplicate())
    };
    if args.flags.contains(CloneFlags::CLEAR_SIGHAND) {
        actions.reset_handlers();
    }
    let parent = if args.flags.contains(CloneFlags::PARENT) {
        task.process.parent().ok_or(Errno::EINVAL)?
    } else {
        task.process.clone()
    };
    let process = task.process.child(actions, &parent);
    process.exit_signal.store(args.exit_signal, Ordering::Relaxed);
    Ok(process)
}

fn store_numbers(child: &Task, args: &CloneArgs) -> SysResult<()> {
    let tid = child.tid();
    if args.flags.contains(CloneFlags::PARENT_SETTID) {
        user::write(args.parent_tid, &tid)?;
    }
    if args.flags.contains(CloneFlags::CHILD_SETTID) {
        if args.flags.contains(CloneFlags::VM) {
            user::write(args.child_tid, &tid)?;
        } else {
            child.space().poke(args.child_tid, &tid.to_le_bytes())?;
        }
    }
    Ok(())
}

/// Takes back a child that never ran.
fn abandon(task: &Task, child: &Arc<Task>, is_thread: bool) {
    child.process.threads.lock().retain(|t| !Arc::ptr_eq(t, child));
    pids::remove_task(child.tid());
    drop(child.set_space(None));
    if !is_thread {
        pids::remove_process(child.process.pid);
        let parent = child.process.parent().unwrap_or_else(|| task.process.clone());
        parent.children.lock().retain(|p| !Arc::ptr_eq(p, &child.process));
    }
}

fn wait_for_vfork(task: &Task, child: &Arc<Process>) {
    let is_done = || child.is_vfork_done().then_some(());
    let is_killed = || task.process.is_exiting();
    let _ = child.vfork_done.wait(task.waiter(), Instant::NEVER, "vfork", &is_killed, is_done);
}
