//! A named pool of worker threads with a bounded queue.
use crate::condvar::Condvar;
use crate::mutex::Mutex;
use crate::thread::{JoinHandle, spawn};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

type Task = Box<dyn FnOnce() + Send + 'static>;

/// Workers that run tasks in the order dispatched. Dropping it finishes what is queued and joins the workers.
pub struct Taskq {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle>,
}

struct Shared {
    state: Mutex<State>,
    not_empty: Condvar,
    not_full: Condvar,
    idle: Condvar,
    queue_max: usize,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    nr_running: usize,
    is_stopping: bool,
}

impl Taskq {
    /// `nr_threads` workers (at least one); `dispatch` blocks while `queue_max` tasks wait.
    pub fn new(name: &str, nr_threads: usize, queue_max: usize) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            idle: Condvar::new(),
            queue_max: queue_max.max(1),
        });
        let worker = |_| {
            let shared = shared.clone();
            spawn(name, move || shared.work())
        };
        let workers = (0..nr_threads.max(1)).map(worker).collect();
        Self { shared, workers }
    }

    /// Queues a task; blocks while the queue is full.
    pub fn dispatch(&self, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        while state.tasks.len() >= self.shared.queue_max {
            state = self.shared.not_full.wait(state);
        }
        state.tasks.push_back(Box::new(task));
        drop(state);
        self.shared.not_empty.notify_one();
    }

    /// Blocks until nothing is queued or running.
    pub fn wait_idle(&self) {
        let mut state = self.shared.state.lock();
        while !state.tasks.is_empty() || state.nr_running > 0 {
            state = self.shared.idle.wait(state);
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                state.nr_running += 1;
                drop(state);
                self.not_full.notify_one();
                task();
                state = self.state.lock();
                state.nr_running -= 1;
                if state.tasks.is_empty() && state.nr_running == 0 {
                    self.idle.notify_all();
                }
            } else if state.is_stopping {
                return;
            } else {
                state = self.not_empty.wait(state);
            }
        }
    }
}

impl Drop for Taskq {
    fn drop(&mut self) {
        self.shared.state.lock().is_stopping = true;
        self.shared.not_empty.notify_all();
        for worker in self.workers.drain(..) {
            worker.join();
        }
    }
}

impl fmt::Debug for Taskq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Taskq({} workers)", self.workers.len())
    }
}
