//! Printing calls as they happen (`strace=1` on the kernel command line).
//!
//! A line tells who, what and what came of it. Numbers are printed as they are; the first argument of calls that take
//! a path is printed as text. The lines go to the console, between what the application writes there.
use super::{Call, table, to_register};
use crate::errno::Errno;
use crate::fd::console::LineOut;
use crate::task::Task;
use crate::user;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use hal::trap::TrapFrame;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Starts or stops printing.
pub fn set(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// Whether calls are printed.
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Calls whose argument at an index is a path.
fn path_argument(name: &str) -> Option<usize> {
    match name {
        "open" | "stat" | "lstat" | "access" | "execve" | "mkdir" | "rmdir" | "unlink" | "chdir"
        | "readlink" | "rename" | "link" | "symlink" | "chmod" | "chown" | "statfs" | "creat"
        | "truncate" => Some(0),
        "openat" | "newfstatat" | "faccessat" | "faccessat2" | "unlinkat" | "mkdirat" | "readlinkat"
        | "statx" | "openat2" | "renameat2" | "utimensat" | "fchmodat" | "fchownat" => Some(1),
        _ => None,
    }
}

fn describe(name: &str, args: &[u64; 6], nr_args: usize) -> String {
    let mut line = format!("{name}(");
    let path = path_argument(name);
    for (i, arg) in args.iter().take(nr_args).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let text = if path == Some(i) { user::read_string(*arg, 256).ok().flatten() } else { None };
        let _ = match text {
            Some(text) => write!(line, "{comma}\"{}\"", String::from_utf8_lossy(&text)),
            None if *arg < 4096 => write!(line, "{comma}{arg}"),
            None if (*arg as i64) < 0 && (*arg as i64) > -4096 => write!(line, "{comma}{}", *arg as i64),
            None if *arg as u32 as i32 == -100 => write!(line, "{comma}AT_FDCWD"),
            None => write!(line, "{comma}{arg:#x}"),
        };
    }
    line.push(')');
    line
}

fn print(task: &Task, what: &str, result: i64) {
    let outcome = if (-4095..0).contains(&result) {
        String::from(Errno(-result as u16).name())
    } else if (0..65536).contains(&result) {
        format!("{result}")
    } else {
        format!("{result:#x}")
    };
    let line = format!("[{}:{}] {what} = {outcome}\n", task.process.pid, task.tid());
    // Whoever reads the trace must not miss a call because others printed fast.
    LineOut::SERIAL.send_all(line.as_bytes(), || false);
}

/// As [`super::dispatch`], printing.
pub fn dispatch(task: &Task, frame: &mut TrapFrame) -> i64 {
    let nr = frame.error as usize;
    let Some(Some(entry)) = table::CALLS.get(nr) else {
        print(task, &format!("call {nr}(...)"), Errno::ENOSYS.to_return());
        return to_register(table::unknown(nr));
    };
    let args = Call { task, frame }.args();
    let what = describe(entry.name, &args, usize::from(entry.nr_args));
    if matches!(entry.name, "exit" | "exit_group") {
        print(task, &what, 0);
    }
    let result = to_register((entry.handler)(&mut Call { task, frame }));
    if table::deferred(nr).is_none() {
        print(task, &what, result);
    }
    result
}

/// Prints a call that ran in the second stage; `before` is its frame as it began.
pub fn deferred(task: &Task, before: &TrapFrame, result: i64) {
    let Some(Some(entry)) = table::CALLS.get(before.error as usize) else { return };
    let args = [before.rdi, before.rsi, before.rdx, before.r10, before.r8, before.r9];
    print(task, &describe(entry.name, &args, usize::from(entry.nr_args)), result);
}
