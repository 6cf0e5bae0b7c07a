//! Who has which number: processes, and threads by their own numbers.
use super::{Process, Task};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use hashbrown::HashMap;
use rt::{Once, RwLock};

/// Numbers stay below this (`pid_max`).
pub const PID_MAX: i32 = 1 << 22;

#[derive(Default)]
struct Tables {
    processes: HashMap<i32, Weak<Process>>,
    tasks: HashMap<i32, Weak<Task>>,
}

static TABLES: Once<RwLock<Tables>> = Once::new();
static NEXT: AtomicI32 = AtomicI32::new(1);

fn tables() -> &'static RwLock<Tables> {
    TABLES.get_or_init(RwLock::default)
}

/// A number no one has.
pub fn allocate() -> i32 {
    loop {
        let next = |n: i32| Some(if n >= PID_MAX - 1 { 300 } else { n + 1 });
        let pid = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(1);
        let all = tables().read();
        if !all.processes.contains_key(&pid) && !all.tasks.contains_key(&pid) {
            return pid;
        }
    }
}

/// Makes a process known.
pub fn add_process(process: &Arc<Process>) {
    tables().write().processes.insert(process.pid, Arc::downgrade(process));
}

/// Makes a thread known.
pub fn add_task(task: &Arc<Task>) {
    tables().write().tasks.insert(task.tid(), Arc::downgrade(task));
}

/// Frees a process' number.
pub fn remove_process(pid: i32) {
    tables().write().processes.remove(&pid);
}

/// Frees a thread's number.
pub fn remove_task(tid: i32) {
    tables().write().tasks.remove(&tid);
}

/// The process with a number.
pub fn process(pid: i32) -> Option<Arc<Process>> {
    tables().read().processes.get(&pid).and_then(Weak::upgrade)
}

/// The thread with a number.
pub fn task(tid: i32) -> Option<Arc<Task>> {
    tables().read().tasks.get(&tid).and_then(Weak::upgrade)
}

/// All processes, by number.
pub fn processes() -> Vec<Arc<Process>> {
    let mut all: Vec<_> = tables().read().processes.values().filter_map(Weak::upgrade).collect();
    all.sort_by_key(|p| p.pid);
    all
}
