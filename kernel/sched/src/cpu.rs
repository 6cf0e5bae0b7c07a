//! One CPU: its run queue, its deadlines, its idle loop.
//!
//! The timer is armed lazily: a switch touches it only if it is not already due to fire early enough. The interrupt
//! then finds out what is really due and arms it again.
use crate::deadline::{DeadlineHeap, NOWHERE};
use crate::lock::IrqLock;
use crate::queue::RunQueue;
use crate::switch::{self, Why};
use crate::thread::{self, Thread, ThreadPtr};
use crate::{provider, reaper};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use hal::cpu::CPUS_MAX;
use hal::io::IrqGuard;
use hal::{apic, clock, irq};

/// How long a thread runs while others wait.
const SLICE_NS: u64 = 4_000_000;
/// How long a thread runs at least before a woken one takes its place.
const GRANULARITY_NS: u64 = 500_000;
const LOAD_PERIOD_NS: u64 = 5_000_000_000;
const NEVER: u64 = u64::MAX;

pub(crate) struct Cpu {
    pub(crate) id: usize,
    current: AtomicPtr<Thread>,
    idle: ThreadPtr,
    queue: IrqLock<RunQueue<ThreadPtr>>,
    /// Length of `queue`, readable without its lock.
    nr_queued: AtomicUsize,
    /// Whether `queue` holds threads that slept, readable without its lock.
    has_fresh: AtomicBool,
    deadlines: IrqLock<DeadlineHeap<ThreadPtr>>,
    /// TSC value the timer is armed for.
    armed_for: AtomicU64,
    /// TSC value at which the running thread's slice ends.
    slice_end: AtomicU64,
    /// The thread being switched away from.
    pub(crate) leaving: AtomicPtr<Thread>,
    /// The thread whose vector state the registers hold.
    fpu_owner: AtomicPtr<Thread>,
    /// TSC ticks spent idle.
    idle_ticks: AtomicU64,
}

static CPUS: [AtomicPtr<Cpu>; CPUS_MAX] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CPUS_MAX];
static ONLINE: AtomicU64 = AtomicU64::new(0);
/// CPUs that wait for an interrupt and were given nothing yet. A CPU that runs anything is not among them: all who are
/// woken would be queued there.
static IDLE: AtomicU64 = AtomicU64::new(0);
static SLICE_TICKS: AtomicU64 = AtomicU64::new(SLICE_NS);
static GRANULARITY_TICKS: AtomicU64 = AtomicU64::new(GRANULARITY_NS);

/// CPUs that take part, one bit each.
pub(crate) fn online_mask() -> u64 {
    ONLINE.load(Ordering::Relaxed)
}

/// The running CPU. Interrupts or pre-emption are off.
#[inline]
pub(crate) fn this() -> &'static Cpu {
    // SAFETY: set in init_this_cpu to a leaked object, before anything here runs.
    unsafe { &*hal::cpu::sched_slot().cast::<Cpu>() }
}

fn get(id: usize) -> Option<&'static Cpu> {
    let at = CPUS.get(id)?.load(Ordering::Acquire);
    // SAFETY: published objects are leaked.
    (!at.is_null()).then(|| unsafe { &*at })
}

/// Connects the scheduler to interrupts. Call once, with a heap and a calibrated clock, before other CPUs start.
pub fn start() {
    let ticks = |ns: u64| u128::from(ns) * u128::from(clock::scale().hz) / 1_000_000_000;
    SLICE_TICKS.store(ticks(SLICE_NS) as u64, Ordering::Relaxed);
    GRANULARITY_TICKS.store(ticks(GRANULARITY_NS) as u64, Ordering::Relaxed);
    irq::set_timer_hook(tick);
    hal::cpu::set_reschedule_hook(switch::preempt);
}

/// Starts the scheduler's own threads. Call once, after [`init_this_cpu`] on the first CPU.
///
/// # Errors
/// No memory.
pub fn start_threads() -> Result<(), thread::OutOfMemory> {
    reaper::start()
}

/// Makes the running CPU take part; what runs on it now becomes its idle thread and ends in [`run_idle`].
pub fn init_this_cpu() {
    let id = hal::cpu::id();
    let idle = Arc::into_raw(Arc::new(thread::new_idle(id)));
    let cpu: &'static Cpu = Box::leak(Box::new(Cpu {
        id,
        current: AtomicPtr::new(idle.cast_mut()),
        idle: ThreadPtr(idle),
        queue: IrqLock::new(RunQueue::new()),
        nr_queued: AtomicUsize::new(0),
        has_fresh: AtomicBool::new(false),
        deadlines: IrqLock::new(DeadlineHeap::new()),
        armed_for: AtomicU64::new(NEVER),
        slice_end: AtomicU64::new(0),
        leaving: AtomicPtr::new(core::ptr::null_mut()),
        fpu_owner: AtomicPtr::new(core::ptr::null_mut()),
        idle_ticks: AtomicU64::new(0),
    }));
    let _irq = IrqGuard::new();
    hal::cpu::set_sched_slot(core::ptr::from_ref(cpu).cast_mut().cast());
    // SAFETY: the idle thread is leaked; the CPU stays on the stack it is on.
    unsafe { hal::cpu::set_current(cpu.idle.get().head_ptr()) };
    CPUS[id].store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Release);
    ONLINE.fetch_or(1 << id, Ordering::SeqCst);
}

/// Runs threads for ever. Ends the pre-emption section the CPU started with.
pub fn run_idle() -> ! {
    hal::io::disable_interrupts();
    hal::cpu::preempt_enable_quietly();
    loop {
        switch::schedule(Why::Yield);
        reaper::wake_if_needed();
        // An interrupt ends the wait, and no more: whom it woke is switched to above. Were it switched to from inside the
        // wait, its time would count as idle.
        hal::cpu::preempt_disable();
        this().wait_for_work();
        hal::cpu::preempt_enable_quietly();
    }
}

impl Cpu {
    #[inline]
    pub(crate) fn current(&self) -> ThreadPtr {
        ThreadPtr(self.current.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_current(&self, thread: ThreadPtr) {
        self.current.store(thread.0.cast_mut(), Ordering::Relaxed);
    }

    /// Adds the time since it was switched in to the thread's account.
    #[inline]
    pub(crate) fn account(&self, thread: &Thread, now: u64) {
        let ran = now.saturating_sub(thread.since.load(Ordering::Relaxed));
        let before = thread.ran_ticks.load(Ordering::Relaxed);
        thread.ran_ticks.store(before + ran, Ordering::Relaxed);
    }

    pub(crate) fn note_fpu_owner(&self, thread: &Thread) {
        self.fpu_owner.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
        thread.fpu_cpu.store(self.id as u32 + 1, Ordering::Relaxed);
    }

    /// Whether the registers still hold what `thread` left in them.
    pub(crate) fn holds_fpu_of(&self, thread: &Thread) -> bool {
        core::ptr::eq(self.fpu_owner.load(Ordering::Relaxed), thread)
            && thread.fpu_cpu.load(Ordering::Relaxed) == self.id as u32 + 1
    }

    /// Waits for an interrupt, if there is nothing to do. Interrupts are off.
    fn wait_for_work(&self) {
        let bit = 1 << self.id;
        // An interrupt sent from here on ends the wait below: it stays pending until interrupts are on.
        IDLE.fetch_or(bit, Ordering::SeqCst);
        if self.nr_queued.load(Ordering::SeqCst) == 0 {
            let before = clock::tsc();
            hal::io::wait_for_interrupt();
            self.idle_ticks.fetch_add(clock::tsc().saturating_sub(before), Ordering::Relaxed);
        }
        IDLE.fetch_and(!bit, Ordering::SeqCst);
    }

    /// Queues the leaving thread if it can go on, and takes the next.
    #[inline]
    pub(crate) fn pick(&self, previous: ThreadPtr, why: Why, now: u64) -> ThreadPtr {
        let mut queue = self.queue.lock();
        if matches!(why, Why::Yield | Why::Preempt) && !previous.get().is_idle {
            if previous.get().affinity() >> self.id & 1 != 0 {
                queue.push_used(previous);
            } else {
                previous.get().must_move.store(true, Ordering::Relaxed);
            }
        }
        let next = queue.pop();
        let nr_left = queue.len();
        self.note_length(&queue);
        drop(queue);
        let slice_end = now + SLICE_TICKS.load(Ordering::Relaxed);
        self.slice_end.store(slice_end, Ordering::Relaxed);
        if nr_left != 0 {
            self.arm(slice_end);
        }
        next.or_else(|| self.steal()).unwrap_or(self.idle)
    }

    /// Publishes how long the queue is. The lock's release and the fences of its readers order it.
    #[inline]
    fn note_length(&self, queue: &RunQueue<ThreadPtr>) {
        self.nr_queued.store(queue.len(), Ordering::Relaxed);
        self.has_fresh.store(queue.has_fresh(), Ordering::Relaxed);
    }

    /// Takes a thread from the CPU with the longest queue.
    #[cold]
    fn steal(&self) -> Option<ThreadPtr> {
        let others =
            (0..CPUS_MAX).filter(|&id| id != self.id && online_mask() >> id & 1 != 0).filter_map(get);
        let victim = others
            .map(|cpu| (cpu.nr_queued.load(Ordering::Relaxed), cpu))
            .filter(|&(nr_queued, _)| nr_queued != 0)
            .max_by_key(|&(nr_queued, _)| nr_queued)?
            .1;
        let mut queue = victim.queue.try_lock()?;
        let stolen = queue.steal(|thread| {
            let thread = thread.get();
            !thread.is_on_cpu.load(Ordering::Acquire) && thread.affinity() >> self.id & 1 != 0
        });
        victim.note_length(&queue);
        stolen
    }

    /// Makes the timer fire at `tsc` at the latest. This CPU, interrupts off.
    #[inline]
    fn arm(&self, tsc: u64) {
        if tsc < self.armed_for.load(Ordering::Relaxed) {
            self.armed_for.store(tsc, Ordering::Relaxed);
            apic::arm_timer(tsc);
        }
    }

    /// Asks for a switch if the running thread had its time, else sees to it that the timer does. This CPU.
    fn check_preemption(&self, now: u64) {
        if self.nr_queued.load(Ordering::Relaxed) == 0 {
            return;
        }
        let current = self.current();
        let fair_end = if self.has_fresh.load(Ordering::Relaxed) {
            current.get().since.load(Ordering::Relaxed) + GRANULARITY_TICKS.load(Ordering::Relaxed)
        } else {
            self.slice_end.load(Ordering::Relaxed)
        };
        if current == self.idle || now >= fair_end {
            hal::cpu::request_reschedule();
        } else {
            self.arm(fair_end);
        }
    }
}

/// The timer interrupt, and the interrupt by which another CPU asks for a look at the queue.
fn tick() {
    let cpu = this();
    let now = clock::tsc();
    let armed_for = cpu.armed_for.load(Ordering::Relaxed);
    if now >= armed_for {
        cpu.armed_for.store(NEVER, Ordering::Relaxed);
    }
    loop {
        let due = cpu.deadlines.lock().pop_due(now);
        let Some(due) = due else { break };
        due.get().unpark();
    }
    let earliest = cpu.deadlines.lock().earliest();
    if let Some(earliest) = earliest {
        cpu.arm(earliest);
    }
    let current = cpu.current().get();
    if current.affinity() >> cpu.id & 1 == 0 {
        hal::cpu::request_reschedule();
    }
    cpu.check_preemption(now);
    // What an idle CPU has been given it takes itself.
    if cpu.nr_queued.load(Ordering::Relaxed) != 0 && cpu.current() != cpu.idle {
        call_for_help(cpu);
    }
    if cpu.armed_for.load(Ordering::Relaxed) == armed_for && armed_for != NEVER {
        // A timer that cannot count as far as the deadline fires before it: start it again.
        apic::arm_timer(armed_for);
    }
}

/// Queues a new thread.
pub(crate) fn enqueue_new(thread: ThreadPtr) {
    enqueue_woken(thread);
}

/// Queues a thread that was parked. Callable in interrupt context.
pub(crate) fn enqueue_woken(thread: ThreadPtr) {
    let _irq = IrqGuard::new();
    // Still leaving its CPU: only that one may take it, see the crate's documentation.
    let target = if thread.get().is_on_cpu.load(Ordering::Acquire) {
        thread.get().cpu.load(Ordering::Relaxed) as usize
    } else {
        choose_cpu(thread.get())
    };
    push(thread, target);
}

/// Queues a thread that may not run where it was.
pub(crate) fn move_elsewhere(thread: ThreadPtr) {
    push(thread, choose_cpu(thread.get()));
}

fn push(thread: ThreadPtr, target: usize) {
    let this = this();
    let cpu = get(target).unwrap_or(this);
    {
        let mut queue = cpu.queue.lock();
        thread.get().cpu.store(cpu.id as u32, Ordering::Relaxed);
        queue.push_fresh(thread);
        cpu.note_length(&queue);
    }
    if core::ptr::eq(cpu, this) {
        this.check_preemption(clock::tsc());
    } else {
        core::sync::atomic::fence(Ordering::SeqCst);
        apic::send_ipi(cpu.id, irq::VECTOR_RESCHEDULE);
    }
}

/// Where a woken thread should run: where it was if that CPU is idle, on any idle one, else where it was.
fn choose_cpu(thread: &Thread) -> usize {
    let allowed = thread.affinity() & online_mask();
    let last = thread.cpu.load(Ordering::Relaxed) as usize;
    if let Some(idle) = claim_idle(allowed, last) {
        idle
    } else if allowed >> last & 1 != 0 {
        last
    } else {
        allowed.trailing_zeros() as usize % CPUS_MAX
    }
}

/// Takes one of the `allowed` CPUs out of the idle ones, `preferred` if it is among them. It takes a while to wake: who is
/// woken meanwhile goes elsewhere.
fn claim_idle(allowed: u64, preferred: usize) -> Option<usize> {
    loop {
        let idle = IDLE.load(Ordering::Relaxed) & allowed;
        if idle == 0 {
            return None;
        }
        let cpu = if idle >> preferred & 1 != 0 { preferred } else { idle.trailing_zeros() as usize };
        // Another waker may have been quicker.
        if IDLE.fetch_and(!(1 << cpu), Ordering::SeqCst) >> cpu & 1 != 0 {
            return Some(cpu);
        }
    }
}

/// Wakes an idle CPU, which takes one of the threads that wait for `cpu`: it found none when it became idle, or the queue's
/// lock was taken just then.
fn call_for_help(cpu: &Cpu) {
    let others = online_mask() & !(1 << cpu.id);
    if let Some(idle) = claim_idle(others, cpu.id) {
        apic::send_ipi(idle, irq::VECTOR_RESCHEDULE);
    }
}

/// Unparks the thread at TSC value `at` unless the deadline is removed. Interrupts off.
pub(crate) fn add_deadline(thread: &Thread, at: u64) {
    let cpu = this();
    thread.timer_cpu.store(cpu.id as u32, Ordering::Relaxed);
    cpu.deadlines.lock().insert(at, ThreadPtr(thread));
    cpu.arm(at);
}

/// Takes the deadline back if it has not come.
pub(crate) fn remove_deadline(thread: &Thread) {
    if let Some(cpu) = get(thread.timer_cpu.load(Ordering::Relaxed) as usize) {
        let mut deadlines = cpu.deadlines.lock();
        let index = thread.timer_index.load(Ordering::Relaxed);
        if index != NOWHERE {
            deadlines.remove(index);
        }
    }
}

/// Whether someone waits for the running CPU; a hint.
pub fn has_waiting() -> bool {
    this().nr_queued.load(Ordering::Relaxed) != 0
}

/// Threads that run or want to.
pub fn nr_running() -> usize {
    let count = |cpu: &Cpu| {
        let is_busy = cpu.current() != cpu.idle;
        cpu.nr_queued.load(Ordering::Relaxed) + usize::from(is_busy)
    };
    (0..CPUS_MAX).filter_map(get).map(count).sum()
}

/// Nanoseconds CPU `id` spent waiting for something to do.
pub fn idle_ns(id: usize) -> u64 {
    get(id).map_or(0, |cpu| clock::ticks_to_ns(cpu.idle_ticks.load(Ordering::Relaxed)))
}

struct Load {
    averages: [u64; 3],
    next_ns: u64,
}

static LOAD: IrqLock<Load> = IrqLock::new(Load { averages: [0; 3], next_ns: 0 });

/// Load averages over 1, 5 and 15 minutes in units of 1/65536, brought up to date by the call.
pub fn load_average() -> [u64; 3] {
    /// exp(-5 s / span) in units of 1/65536.
    const DECAY: [u64; 3] = [60_297, 64_453, 65_173];
    const ONE: u64 = 65_536;
    /// After this many periods nothing of the past is left.
    const PERIODS_MAX: usize = 2_000;
    let nr_running = nr_running() as u64;
    let now = provider::now_ns();
    let mut load = LOAD.lock();
    for _ in 0..PERIODS_MAX {
        if load.next_ns > now {
            break;
        }
        for (average, decay) in load.averages.iter_mut().zip(DECAY) {
            *average = (*average * decay + nr_running * ONE * (ONE - decay)) / ONE;
        }
        load.next_ns += LOAD_PERIOD_NS;
    }
    load.next_ns = load.next_ns.max(now);
    load.averages
}
