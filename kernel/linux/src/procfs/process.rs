//! The directory of a process.
use crate::kernel::kernel;
use crate::pseudo::Entry;
use crate::task::limits::{INFINITY, Limit};
use crate::task::{Process, Task, pids};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use mm::space::{Backing, Prot, Vma, VmaFlags};
use vfs::{FileType, MountFlags};

const NAMES: &[&str] = &[
    "auxv",
    "cgroup",
    "cmdline",
    "comm",
    "coredump_filter",
    "cwd@",
    "environ",
    "exe@",
    "fd/",
    "io",
    "limits",
    "maps",
    "mountinfo",
    "mounts",
    "oom_score_adj",
    "root@",
    "smaps",
    "stat",
    "statm",
    "status",
    "task/",
];
const TASK_NAMES: &[&str] = &["comm", "stat", "status"];

/// /proc/PID.
pub fn tree(process: &Arc<Process>, path: &[&str]) -> Option<Entry> {
    let me = process.clone();
    let main = process.main_thread();
    Some(match path {
        [] => Entry::dir(NAMES),
        ["auxv"] => Entry::File(Box::new(move || me.image.lock().auxv.clone())),
        ["cgroup"] => Entry::text("0::/\n"),
        ["cmdline"] => Entry::File(Box::new(move || me.image.lock().cmdline.clone())),
        ["environ"] => Entry::File(Box::new(move || me.image.lock().environ.clone())),
        ["coredump_filter"] => Entry::Writable(Box::new(|| b"00000033\n".to_vec()), |_, _| Ok(())),
        ["oom_score_adj"] => Entry::Writable(Box::new(|| b"0\n".to_vec()), |_, _| Ok(())),
        ["cwd"] => Entry::Link(path_of(&main?.place.cwd())),
        ["root"] => Entry::Link(path_of(&main?.place.root())),
        ["exe"] => {
            let exe = process.image.lock().exe.clone()?;
            Entry::Link(path_of(&exe))
        }
        ["fd"] => fd_dir(&*main?),
        ["fd", number] => {
            let file = main?.fds.get(number.parse().ok()?).ok()?;
            Entry::Link(file.describe())
        }
        ["io"] => Entry::text("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n"),
        ["limits"] => Entry::made(move || limits(&me)),
        ["maps"] => Entry::made(move || maps(main.as_deref(), false)),
        ["smaps"] => Entry::made(move || maps(main.as_deref(), true)),
        ["mountinfo"] => Entry::made(mountinfo),
        ["mounts"] => Entry::made(mounts),
        ["statm"] => Entry::made(move || statm(main.as_deref())),
        ["task"] => {
            let tids =
                process.threads.lock().iter().map(|t| (t.tid().to_string(), FileType::Directory)).collect();
            Entry::Dir(tids)
        }
        ["task", tid, rest @ ..] => {
            let task = pids::task(tid.parse().ok()?).filter(|t| Arc::ptr_eq(&t.process, process))?;
            return task_tree(&task, rest);
        }
        rest => return task_tree(&main?, rest),
    })
}

/// Files that threads have too.
fn task_tree(task: &Arc<Task>, path: &[&str]) -> Option<Entry> {
    let task = task.clone();
    Some(match path {
        [] => Entry::dir(TASK_NAMES),
        ["comm"] => {
            Entry::Writable(Box::new(move || format!("{}\n", name_of(&task)).into_bytes()), |path, bytes| {
                let number = path.get(2).or_else(|| path.first()).and_then(|n| n.parse().ok());
                let task = number.and_then(pids::task).ok_or(vfs::Error::NotFound)?;
                *task.name.lock() = crate::task::exec::short_name(bytes.trim_ascii_end());
                Ok(())
            })
        }
        ["stat"] => Entry::made(move || stat(&task)),
        ["status"] => Entry::made(move || status(&task)),
        _ => return None,
    })
}

fn path_of(dentry: &vfs::DentryRef) -> Vec<u8> {
    let ns = &kernel().namespace;
    let mut path = ns.path_of(dentry, ns.root());
    if dentry.is_removed() {
        path.extend_from_slice(b" (deleted)");
    }
    path
}

fn fd_dir(task: &Task) -> Entry {
    let numbers = task.fds.numbers(0, usize::MAX);
    Entry::Dir(numbers.into_iter().map(|fd| (fd.to_string(), FileType::Symlink)).collect())
}

fn name_of(task: &Task) -> String {
    let name = *task.name.lock();
    let len = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..len]).into_owned()
}

fn map_line(vma: &Vma) -> String {
    let flag = |on: bool, c: char| if on { c } else { '-' };
    let (offset, device, ino, name) = match &vma.backing {
        Backing::Anonymous => (0, (0, 0), 0, special_name(vma)),
        Backing::Private { file, offset } => {
            let device = file.vnode.fs().device_id();
            (
                *offset,
                (device.major, device.minor),
                file.vnode.ino(),
                String::from_utf8_lossy(&file.name).into_owned(),
            )
        }
        Backing::Shared { object, offset, .. } => match object.file() {
            Some(file) => {
                let device = file.vnode.fs().device_id();
                let name = String::from_utf8_lossy(&file.name).into_owned();
                (*offset, (device.major, device.minor), file.vnode.ino(), name)
            }
            None => (*offset, (0, 1), object.id(), String::from("/dev/zero (deleted)")),
        },
    };
    let is_shared = matches!(vma.backing, Backing::Shared { .. });
    let head = format!(
        "{:08x}-{:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {ino} ",
        vma.start,
        vma.end,
        flag(vma.prot.contains(Prot::READ), 'r'),
        flag(vma.prot.contains(Prot::WRITE), 'w'),
        flag(vma.prot.contains(Prot::EXEC), 'x'),
        if is_shared { 's' } else { 'p' },
        device.0,
        device.1,
    );
    if name.is_empty() { format!("{head}\n") } else { format!("{head:<73}{name}\n") }
}

fn special_name(vma: &Vma) -> String {
    if vma.flags.contains(VmaFlags::HEAP) {
        String::from("[heap]")
    } else if vma.flags.contains(VmaFlags::GROWSDOWN) {
        String::from("[stack]")
    } else {
        String::new()
    }
}

fn maps(task: Option<&Task>, is_detailed: bool) -> String {
    let mut text = String::new();
    let Some(space) = task.and_then(Task::space_if_alive) else { return text };
    let mut all = Vec::new();
    space.for_each_vma(|vma| all.push(vma.clone()));
    for vma in &all {
        text += &map_line(vma);
        if is_detailed {
            let mut nr_resident = 0_u64;
            // Reservations of terabytes are not walked page by page.
            if vma.len() <= 1 << 34 {
                space.residency(vma.start, vma.len(), |is_there| nr_resident += u64::from(is_there));
            }
            let kib = nr_resident * 4;
            let _ = write!(
                text,
                "Size: {:>18} kB\nKernelPageSize: {:>8} kB\nMMUPageSize: {:>11} kB\nRss: {kib:>19} kB\n\
                 Pss: {kib:>19} kB\nPrivate_Dirty: {kib:>9} kB\nAnonHugePages: {:>9} kB\nSwap: {:>18} kB\n",
                vma.len() / 1024,
                4,
                4,
                0,
                0,
            );
        }
    }
    text
}

fn usage(task: Option<&Task>) -> mm::space::Usage {
    task.and_then(Task::space_if_alive).map(|s| s.usage()).unwrap_or_default()
}

fn statm(task: Option<&Task>) -> String {
    let usage = usage(task);
    format!("{} {} 0 0 0 {} 0\n", usage.mapped / 4096, usage.resident / 4096, usage.mapped / 4096)
}

fn state_of(task: &Task) -> char {
    let is_waiting = task.thread.get().is_some_and(crate::glue::ThreadHandle::is_waiting);
    if task.process.is_zombie() {
        'Z'
    } else if is_waiting {
        'S'
    } else {
        'R'
    }
}

fn stat(task: &Task) -> String {
    const TICK: u64 = crate::time::NANOS / crate::time::TICKS_PER_SEC;
    let process = &task.process;
    let usage = usage(Some(task));
    let started = process.started.since(kernel().started).as_nanos() as u64 / TICK;
    let children = process.cpu_time.children.load(Ordering::Relaxed) / TICK;
    let nr_threads = process.threads.lock().len();
    format!(
        "{} ({}) {} {} {} {} 0 -1 0 0 0 0 0 {} 0 {children} 0 20 0 {nr_threads} 0 {started} {} {} \
         18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 {} 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        task.tid(),
        name_of(task),
        state_of(task),
        process.ppid(),
        process.pgid.load(Ordering::Relaxed),
        process.sid.load(Ordering::Relaxed),
        process.cpu_nanos() / TICK,
        usage.mapped,
        usage.resident / 4096,
        rt::thread::cpu_id(),
    )
}

fn status(task: &Task) -> String {
    let process = &task.process;
    let usage = usage(Some(task));
    let cred = process.cred.lock().clone();
    let state = match state_of(task) {
        'Z' => "Z (zombie)",
        'S' => "S (sleeping)",
        _ => "R (running)",
    };
    let kib = |bytes: u64| bytes / 1024;
    let nr_cpus = rt::thread::nr_cpus();
    let cpus = crate::glue::affinity(task);
    let ids = |ids: [u32; 3]| format!("{}\t{}\t{}\t{}", ids[0], ids[1], ids[2], ids[1]);
    let caps = if cred.is_root() { "000001ffffffffff" } else { "0000000000000000" };
    format!(
        "Name:\t{}\nUmask:\t{:04o}\nState:\t{state}\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n\
         Uid:\t{}\nGid:\t{}\nFDSize:\t64\nVmPeak:\t{:>8} kB\nVmSize:\t{:>8} kB\nVmLck:\t{:>8} kB\nVmHWM:\t{:>8} kB\n\
         VmRSS:\t{:>8} kB\nVmData:\t{:>8} kB\nVmSwap:\t{:>8} kB\nThreads:\t{}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\n\
         SigBlk:\t{:016x}\nCapInh:\t0000000000000000\nCapPrm:\t{caps}\nCapEff:\t{caps}\nCapBnd:\t{caps}\n\
         Cpus_allowed:\t{cpus:x}\nCpus_allowed_list:\t0-{}\nMems_allowed_list:\t0\n",
        name_of(task),
        task.place.umask(),
        process.pid,
        task.tid(),
        process.ppid(),
        ids(cred.uid),
        ids(cred.gid),
        kib(usage.mapped),
        kib(usage.mapped),
        0,
        kib(usage.resident),
        kib(usage.resident),
        kib(usage.mapped),
        0,
        process.threads.lock().len(),
        task.pending.set().0,
        process.pending.set().0,
        task.mask().0,
        nr_cpus - 1,
    )
}

const LIMIT_NAMES: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

fn limits(process: &Process) -> String {
    let show = |value: u64| if value == INFINITY { String::from("unlimited") } else { value.to_string() };
    let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let all = *process.limits.lock();
    for ((name, unit), Limit { soft, hard }) in LIMIT_NAMES.iter().zip(all) {
        let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", show(soft), show(hard));
    }
    text
}

/// Blanks and the like in paths, as /proc/mounts escapes them.
fn escaped(path: &[u8]) -> String {
    let mut text = String::new();
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                let _ = write!(text, "\\{byte:03o}");
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

fn mode(flags: MountFlags) -> &'static str {
    if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" }
}

fn mounts() -> String {
    let mut text = String::new();
    for m in kernel().namespace.mounts() {
        let _ =
            writeln!(text, "{} {} {} {},relatime 0 0", m.source, escaped(&m.path), m.fs_type, mode(m.flags));
    }
    text
}

fn mountinfo() -> String {
    let mut text = String::new();
    for m in kernel().namespace.mounts() {
        let (device, mode) = (m.device, mode(m.flags));
        let _ = writeln!(
            text,
            "{} {} {}:{} / {} {mode},relatime - {} {} {mode}",
            m.id,
            m.parent_id,
            device.major,
            device.minor,
            escaped(&m.path),
            m.fs_type,
            m.source,
        );
    }
    text
}
