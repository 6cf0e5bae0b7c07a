//! /proc and /sys, as far as programs look at them.
//!
//! | module | holds |
//! |---|---|
//! | [`system`] | what concerns the whole system |
//! | [`process`] | the directory of a process |
//! | [`sysfs`] | /sys |
//!
//! Links to open files (`/proc/self/fd/N`) are no paths: a pipe has none, and a removed file's leads nowhere. Calls
//! that follow them ask [`fd_link`] first.
pub mod process;
pub mod sysfs;
pub mod system;

use crate::errno::{Errno, SysResult};
use crate::fd::FileRef;
use crate::kernel::kernel;
use crate::pseudo::{Entry, PseudoFs};
use crate::sys::open::wrap;
use crate::task::place::AT_FDCWD;
use crate::task::{Task, pids};
use crate::user::UserString;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::{FileType, OpenFlags};

const PROC_MAGIC: u32 = 0x9fa0;
const SYSFS_MAGIC: u32 = 0x6265_6572;

/// /proc.
pub fn proc_fs() -> Arc<PseudoFs> {
    PseudoFs::new("proc", PROC_MAGIC, proc_tree)
}

/// /sys.
pub fn sys_fs() -> Arc<PseudoFs> {
    PseudoFs::new("sysfs", SYSFS_MAGIC, sysfs::tree)
}

fn proc_tree(path: &[&str]) -> Option<Entry> {
    match path {
        [] => Some(root()),
        ["self"] => Some(Entry::Link(crate::task::current()?.process.pid.to_string().into_bytes())),
        ["thread-self"] => {
            let task = crate::task::current()?;
            Some(Entry::Link(alloc::format!("{}/task/{}", task.process.pid, task.tid()).into_bytes()))
        }
        [first, rest @ ..] => match first.parse::<i32>() {
            Ok(pid) => process::tree(&pids::process(pid)?, rest),
            Err(_) => system::tree(path),
        },
    }
}

fn root() -> Entry {
    let Entry::Dir(mut children) = Entry::dir(system::NAMES) else { return Entry::dir(&[]) };
    children.extend(pids::processes().iter().map(|p| (p.pid.to_string(), FileType::Directory)));
    Entry::Dir(children)
}

/// The number at the end of a path of the form `/proc/self/fd/N`, `/proc/PID/fd/N` of the caller, `/dev/fd/N`, or a
/// standard stream's name.
fn fd_of(task: &Task, path: &[u8]) -> Option<i32> {
    match path {
        b"/dev/stdin" => return Some(0),
        b"/dev/stdout" => return Some(1),
        b"/dev/stderr" => return Some(2),
        _ => {}
    }
    let number = if let Some(rest) = path.strip_prefix(b"/dev/fd/") {
        rest
    } else {
        let rest = path.strip_prefix(b"/proc/")?;
        let at = rest.iter().position(|b| *b == b'/')?;
        let own = task.process.pid.to_string();
        if !(rest[..at] == *b"self" || rest[..at] == *b"thread-self" || rest[..at] == *own.as_bytes()) {
            return None;
        }
        rest[at..].strip_prefix(b"/fd/")?
    };
    core::str::from_utf8(number).ok()?.parse().ok()
}

/// The open file a path links to, if it is such a path.
pub fn fd_link(task: &Task, path: &[u8]) -> Option<SysResult<FileRef>> {
    fd_of(task, path).map(|fd| task.file(fd).map_err(|_| Errno::ENOENT))
}

/// Opens what such a path links to anew; `None` for other paths.
///
/// # Errors
/// As open(2).
pub fn reopen(task: &Task, path: &[u8], flags: OpenFlags) -> SysResult<Option<FileRef>> {
    let Some(file) = fd_link(task, path) else { return Ok(None) };
    let file = file?;
    if flags.contains(OpenFlags::NO_FOLLOW) {
        return if flags.contains(OpenFlags::PATH) { Ok(None) } else { Err(Errno::ELOOP) };
    }
    let Some(open) = file.as_file() else {
        // Pipes and the like: the same description serves.
        return Ok(Some(file));
    };
    let dentry = open.dentry().clone();
    let again =
        task.walk_from(AT_FDCWD, b"/", |from| Ok(kernel().namespace.open_dentry(dentry, from, flags)?))?;
    wrap(task, again).map(Some)
}

/// The program's own path, if `path` is the link to it.
pub fn exe_path(task: &Task, path: &[u8]) -> Option<UserString> {
    if path != b"/proc/self/exe" {
        return None;
    }
    let exe = task.process.image.lock().exe.clone()?;
    let path: Vec<u8> = kernel().namespace.path_of(&exe, kernel().namespace.root());
    Some(UserString::from_vec(path))
}
