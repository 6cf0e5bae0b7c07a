//! System calls.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | which number is which function |
//! | [`args`] | flags and small structures that calls share |
//! | [`io`] | reading, writing, seeking, moving data between files |
//! | [`reflink`] | sharing blocks between files |
//! | [`open`] | opening, closing, descriptors, fcntl, ioctl |
//! | [`locks`] | flock and record locks |
//! | [`stat`] | attributes of files and file systems |
//! | [`names`] | making, renaming and removing names; changing attributes |
//! | [`xattr`] | extended attributes |
//! | [`mem`] | memory |
//! | [`futex`] | futexes |
//! | [`process`] | processes, threads, ids |
//! | [`signal`] | signals |
//! | [`time`] | clocks, sleeping, timers |
//! | [`poll`] | poll, select, epoll |
//! | [`misc`] | the rest |
//! | [`trace`] | printing calls as they happen |
//!
//! A function gets a [`Call`] and returns a number or an errno. It runs with interrupts on and may block. Calls that
//! need or change the complete register frame are *deferred*: their first stage only asks for the second.
pub mod args;
pub mod futex;
pub mod io;
pub mod locks;
pub mod mem;
pub mod misc;
pub mod names;
pub mod open;
pub mod poll;
pub mod process;
pub mod reflink;
pub mod signal;
pub mod stat;
pub mod table;
pub mod time;
pub mod trace;
pub mod xattr;

use crate::errno::{Errno, SysResult};
use crate::glue;
use crate::task::Task;
use hal::trap::TrapFrame;

/// A system call in progress.
#[derive(Debug)]
pub struct Call<'a> {
    /// Who calls.
    pub task: &'a Task,
    /// Registers; complete only in the second stage.
    pub frame: &'a mut TrapFrame,
}

impl Call<'_> {
    /// First argument.
    pub fn a0(&self) -> u64 {
        self.frame.rdi
    }

    /// Second argument.
    pub fn a1(&self) -> u64 {
        self.frame.rsi
    }

    /// Third argument.
    pub fn a2(&self) -> u64 {
        self.frame.rdx
    }

    /// Fourth argument.
    pub fn a3(&self) -> u64 {
        self.frame.r10
    }

    /// Fifth argument.
    pub fn a4(&self) -> u64 {
        self.frame.r8
    }

    /// Sixth argument.
    pub fn a5(&self) -> u64 {
        self.frame.r9
    }

    /// First argument as a descriptor.
    pub fn fd(&self) -> i32 {
        self.a0() as i32
    }

    /// All arguments.
    pub fn args(&self) -> [u64; 6] {
        [self.a0(), self.a1(), self.a2(), self.a3(), self.a4(), self.a5()]
    }
}

/// The function behind a number.
pub type Handler = fn(&mut Call<'_>) -> SysResult;

fn to_register(result: SysResult) -> i64 {
    match result {
        Ok(value) => value as i64,
        Err(errno) => {
            if errno.0 >= Errno::RESTARTSYS.0 {
                glue::request_work_here();
            }
            errno.to_return()
        }
    }
}

/// First stage of a call: its result for RAX.
#[inline]
pub fn dispatch(task: &Task, frame: &mut TrapFrame) -> i64 {
    let nr = frame.error as usize;
    if trace::is_on() {
        return trace::dispatch(task, frame);
    }
    match table::CALLS.get(nr) {
        Some(Some(entry)) => to_register((entry.handler)(&mut Call { task, frame })),
        _ => to_register(table::unknown(nr)),
    }
}

/// Second stage of a deferred call.
pub fn dispatch_deferred(task: &Task, frame: &mut TrapFrame) {
    let nr = frame.error as usize;
    let Some(handler) = table::deferred(nr) else { return };
    let args = *frame;
    match handler(&mut Call { task, frame }) {
        Ok(Some(value)) => frame.rax = value as u64,
        // The frame is another program's or another moment's.
        Ok(None) => {}
        Err(errno) => frame.rax = to_register(Err(errno)) as u64,
    }
    if trace::is_on() {
        trace::deferred(task, &args, frame.rax as i64);
    }
}

/// A deferred call's function; `None` when it replaced the frame.
pub type DeferredHandler = fn(&mut Call<'_>) -> SysResult<Option<usize>>;
