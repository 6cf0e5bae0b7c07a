//! What runs next.
//!
//! The scheduler runs on the host thread's own stack and resumes one coroutine at a time. Invariants: a task is in
//! `runnable` exactly when its state is `Runnable`; `current` is set exactly while a coroutine runs; no borrow of the
//! simulation's cells is held across a resume or a suspend (the next task would find them borrowed).
use crate::task::{State, Task};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Of each thread; committed by the host as it is touched.
const STACK_SIZE: usize = 1 << 20;
/// What a look at the clock costs, ns: code that polls for so many microseconds comes to an end.
const CLOCK_STEP: u64 = 400;
/// Unit of [`Config::preempt`].
const PREEMPT_UNIT: u64 = 65_536;
/// The wall clock when a simulation starts: 2024-01-01.
const WALL_START: u64 = 1_704_067_200_000_000_000;

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Decides everything that is left open.
    pub seed: u64,
    /// What `rt::nr_cpus` says.
    pub nr_cpus: usize,
    /// Chance of a switch at a place where one may happen, in 1/65536.
    pub preempt: u32,
    /// Longest a switch takes; each takes between nothing and this.
    pub switch_time: Duration,
    /// A simulation whose clock passes this has run away.
    pub time_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            nr_cpus: 2,
            preempt: 1024,
            switch_time: Duration::from_micros(2),
            time_limit: Duration::from_secs(24 * 3600),
        }
    }
}

/// Why a simulation ended before its body did. The text names every thread and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody can run and no timer will change that.
    Deadlock(String),
    /// The clock passed its limit.
    TimeLimit(String),
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Switches between threads.
    pub switches: u64,
    /// Threads started.
    pub spawned: u64,
    /// Virtual time, ns.
    pub now: u64,
    /// The next random number would follow from this: equal runs have equal values.
    pub random_state: u64,
}

type Body = Coroutine<(), (), (), DefaultStack>;

struct Slot {
    task: Arc<Task>,
    /// `None` while it runs.
    body: Option<Body>,
}

pub(crate) struct Sim {
    config: Config,
    now: Cell<u64>,
    random: Cell<u64>,
    nr_switches: Cell<u64>,
    nr_spawned: Cell<usize>,
    current: Cell<*const Task>,
    runnable: RefCell<Vec<Arc<Task>>>,
    timers: RefCell<BinaryHeap<Reverse<Timer>>>,
    slots: RefCell<Vec<Option<Slot>>>,
    free_slots: RefCell<Vec<usize>>,
}

/// When, a number that orders equal times, whose, and of which park.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    deadline: u64,
    id: usize,
    slot: usize,
    nr_parks: u64,
}

thread_local! {
    static SIM: Cell<*const Sim> = const { Cell::new(ptr::null()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` and every thread it starts until `body` has ended. Threads that are still there then are not run any
/// more, and what their stacks hold is leaked: a body that cares ends them first.
///
/// # Errors
/// [`Failure`].
///
/// # Panics
/// When a thread of the simulation panics; inside another simulation.
pub fn run<R: 'static>(config: Config, body: impl FnOnce() -> R + 'static) -> Result<R, Failure> {
    assert!(SIM.get().is_null(), "a simulation inside a simulation");
    let sim = Sim::new(config);
    let _entered = Entered::new(&sim);
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    let root = sim.start("main", move || *slot.borrow_mut() = Some(body()));
    sim.run_until_done(&root)?;
    let ended = result.borrow_mut().take();
    Ok(ended.unwrap_or_else(|| unreachable!("the body has ended")))
}

/// Figures of the running simulation.
pub fn stats() -> Stats {
    with(|sim| Stats {
        switches: sim.nr_switches.get(),
        spawned: sim.nr_spawned.get() as u64,
        now: sim.now.get(),
        random_state: sim.random.get(),
    })
}

/// One line for each thread of the running simulation.
pub fn threads() -> Vec<String> {
    with(|sim| sim.describe())
}

/// A random number of the running simulation.
pub fn random() -> u64 {
    with(Sim::next_random)
}

/// Moves the clock of the running simulation.
pub fn advance(by: Duration) {
    with(|sim| sim.now.set(sim.now.get() + by.as_nanos() as u64));
}

/// The running simulation.
pub(crate) fn with<R>(f: impl FnOnce(&Sim) -> R) -> R {
    let sim = SIM.get();
    assert!(!sim.is_null(), "no simulation runs on this thread");
    // SAFETY: set by `Entered` for as long as the simulation lives on this very thread's stack below us.
    f(unsafe { &*sim })
}

/// As [`with`], for what may happen after a failure: `None` outside a simulation.
pub(crate) fn try_with<R>(f: impl FnOnce(&Sim) -> R) -> Option<R> {
    (!SIM.get().is_null()).then(|| with(f))
}

struct Entered;

impl Entered {
    fn new(sim: &Sim) -> Self {
        SIM.set(sim);
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        SIM.set(ptr::null());
    }
}

impl Sim {
    fn new(config: Config) -> Self {
        Self {
            config,
            now: Cell::new(1_000_000),
            random: Cell::new(config.seed ^ 0x5851_f42d_4c95_7f2d),
            nr_switches: Cell::new(0),
            nr_spawned: Cell::new(0),
            current: Cell::new(ptr::null()),
            runnable: RefCell::default(),
            timers: RefCell::default(),
            slots: RefCell::default(),
            free_slots: RefCell::default(),
        }
    }

    pub fn start(&self, name: &str, body: impl FnOnce() + 'static) -> Arc<Task> {
        let id = self.nr_spawned.get();
        self.nr_spawned.set(id + 1);
        let slot = self.free_slots.borrow_mut().pop().unwrap_or_else(|| {
            self.slots.borrow_mut().push(None);
            self.slots.borrow().len() - 1
        });
        let cpu = (self.next_random() % self.nr_cpus() as u64) as usize;
        let task = Arc::new(Task::new(id, slot, name, cpu));
        let stack = STACKS.with(|stacks| stacks.borrow_mut().pop());
        let stack = stack.unwrap_or_else(|| match DefaultStack::new(STACK_SIZE) {
            Ok(stack) => stack,
            Err(e) => panic!("no memory for the stack of thread {name}: {e}"),
        });
        let own = task.clone();
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            own.yielder.set(yielder);
            drop(own);
            body();
        });
        self.slots.borrow_mut()[slot] = Some(Slot { task: task.clone(), body: Some(coroutine) });
        self.runnable.borrow_mut().push(task.clone());
        task
    }

    fn run_until_done(&self, root: &Arc<Task>) -> Result<(), Failure> {
        while root.state.get() != State::Done {
            self.fire_timers();
            if self.runnable.borrow().is_empty() {
                self.skip_to_next_timer()?;
                continue;
            }
            if self.now.get() > self.config.time_limit.as_nanos() as u64 {
                return Err(Failure::TimeLimit(self.describe().join("\n")));
            }
            let task = {
                let mut runnable = self.runnable.borrow_mut();
                let at = (self.next_random() % runnable.len() as u64) as usize;
                runnable.swap_remove(at)
            };
            self.resume(&task);
        }
        Ok(())
    }

    fn resume(&self, task: &Arc<Task>) {
        self.nr_switches.set(self.nr_switches.get() + 1);
        let random = self.next_random();
        let span = self.config.switch_time.as_nanos() as u64;
        self.now.set(self.now.get() + (random >> 32) % (span + 1));
        if random.is_multiple_of(64) {
            task.cpu.set((random >> 8) as usize % self.nr_cpus());
        }
        let body = self.slots.borrow_mut()[task.slot].as_mut().and_then(|slot| slot.body.take());
        let Some(mut body) = body else { unreachable!("a runnable thread has a body") };
        task.state.set(State::Running);
        self.current.set(Arc::as_ptr(task));
        let result = body.resume(());
        self.current.set(ptr::null());
        match result {
            CoroutineResult::Yield(()) => {
                if let Some(slot) = &mut self.slots.borrow_mut()[task.slot] {
                    slot.body = Some(body);
                }
            }
            CoroutineResult::Return(()) => {
                task.state.set(State::Done);
                STACKS.with(|stacks| stacks.borrow_mut().push(body.into_stack()));
                self.slots.borrow_mut()[task.slot] = None;
                self.free_slots.borrow_mut().push(task.slot);
            }
        }
    }

    /// Wakes whoever's time has come.
    fn fire_timers(&self) {
        loop {
            let timer = {
                let mut timers = self.timers.borrow_mut();
                match timers.peek() {
                    Some(Reverse(next)) if next.deadline <= self.now.get() => timers.pop(),
                    _ => None,
                }
            };
            let Some(Reverse(timer)) = timer else { return };
            if let Some(task) = self.sleeper(timer) {
                self.make_runnable(&task);
            }
        }
    }

    /// Nobody can run: the clock goes on to where somebody can.
    fn skip_to_next_timer(&self) -> Result<(), Failure> {
        loop {
            let Some(Reverse(timer)) = self.timers.borrow_mut().pop() else {
                return Err(Failure::Deadlock(self.describe().join("\n")));
            };
            if let Some(task) = self.sleeper(timer) {
                self.now.set(self.now.get().max(timer.deadline));
                self.make_runnable(&task);
                return Ok(());
            }
        }
    }

    /// Whom a timer is to wake, unless something else has.
    fn sleeper(&self, timer: Timer) -> Option<Arc<Task>> {
        let slots = self.slots.borrow();
        let task = &slots[timer.slot].as_ref()?.task;
        let is_its = task.id == timer.id && task.nr_parks.get() == timer.nr_parks;
        (is_its && task.state.get() == State::Parked).then(|| task.clone())
    }

    fn make_runnable(&self, task: &Arc<Task>) {
        task.state.set(State::Runnable);
        self.runnable.borrow_mut().push(task.clone());
    }

    fn describe(&self) -> Vec<String> {
        let slots = self.slots.borrow();
        let mut tasks: Vec<&Arc<Task>> = slots.iter().flatten().map(|slot| &slot.task).collect();
        tasks.sort_by_key(|task| task.id);
        tasks.iter().map(|task| task.describe(self.now.get())).collect()
    }

    fn nr_cpus(&self) -> usize {
        self.config.nr_cpus.max(1)
    }

    /// splitmix64.
    pub fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What the provider calls, from inside a thread of the simulation.
impl Sim {
    /// The running thread.
    pub fn current(&self) -> &Task {
        let task = self.current.get();
        assert!(!task.is_null(), "no thread of the simulation runs");
        // SAFETY: set while the task's coroutine runs, during which its slot holds a reference.
        unsafe { &*task }
    }

    /// A counted reference to the running thread.
    pub fn current_arc(&self) -> Arc<Task> {
        let task: *const Task = self.current();
        // SAFETY: the pointer came from an `Arc` whose count is at least the slot's one.
        unsafe {
            Arc::increment_strong_count(task);
            Arc::from_raw(task)
        }
    }

    pub fn nr_cpus_shown(&self) -> usize {
        self.nr_cpus()
    }

    pub fn look_at_clock(&self) -> u64 {
        let now = self.now.get() + CLOCK_STEP;
        self.now.set(now);
        now
    }

    pub fn wall_clock(&self) -> u64 {
        WALL_START + self.look_at_clock()
    }

    pub fn park(&self, deadline: u64, reason: &'static str) {
        let task = self.current();
        assert_eq!(task.preempt_off.get(), 0, "thread {} parks inside a spin-locked section", task.name);
        if task.has_token.replace(false) {
            return;
        }
        if deadline <= self.now.get() {
            return self.yield_now();
        }
        task.nr_parks.set(task.nr_parks.get() + 1);
        task.state.set(State::Parked);
        task.reason.set(reason);
        task.deadline.set(deadline);
        if deadline != u64::MAX {
            let timer = Timer { deadline, id: task.id, slot: task.slot, nr_parks: task.nr_parks.get() };
            self.timers.borrow_mut().push(Reverse(timer));
        }
        self.suspend(task);
        task.has_token.set(false);
    }

    pub fn unpark(&self, task: &Arc<Task>) {
        task.has_token.set(true);
        if task.state.get() == State::Parked {
            self.make_runnable(task);
        }
    }

    pub fn yield_now(&self) {
        let task = self.current();
        // A spinner inside a spin-locked section waits for a lock that a thread holds which was not switched away
        // from: that cannot be, unless the section was broken; switching shows it as a run-away clock.
        self.make_runnable(&self.current_arc());
        self.suspend(task);
    }

    /// A place where the running thread may lose the CPU.
    pub fn maybe_preempt(&self) {
        let current = self.current.get();
        if current.is_null() || self.config.preempt == 0 {
            return;
        }
        let task = self.current();
        let may = task.preempt_off.get() == 0 && task.state.get() == State::Running;
        if may && self.next_random() % PREEMPT_UNIT < u64::from(self.config.preempt) {
            self.yield_now();
        }
    }

    fn suspend(&self, task: &Task) {
        let yielder = task.yielder.get();
        assert!(!yielder.is_null(), "a running thread has a way back");
        // SAFETY: the yielder lives on the coroutine's own stack for as long as its body runs, and its body is who
        // calls this.
        unsafe { (*yielder).suspend(()) };
        self.current.set(task);
        task.state.set(State::Running);
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for mut slot in self.slots.borrow_mut().drain(..).flatten() {
            if let Some(body) = &mut slot.body
                && body.started()
                && !body.done()
            {
                // SAFETY: what lies on the stack is never touched again. It is leaked: unwinding it would run the
                // code of threads that were promised to run no more.
                unsafe { body.force_reset() };
            }
        }
    }
}
