//! Threads: what they are, how they start and end, what belongs to the running one.
use crate::deadline::{NOWHERE, Waiter};
use crate::queue::Link;
use crate::stack::Stack;
use crate::{cpu, reaper, switch};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::{Any, TypeId};
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hal::addr::PhysAddr;
use hal::cpu::{QUICK_SLOTS, ThreadHead};
use hal::fpu::FpuArea;
use hal::trap::TrapFrame;
use rt::rank::HeldRanks;

/// No memory for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// An address space as the switch sees it. Threads keep it alive.
pub trait Space: Send + Sync {
    /// What goes into CR3.
    fn root(&self) -> PhysAddr;
}

/// The body of a kernel thread.
pub type Body = Box<dyn FnOnce() + Send + 'static>;

/// What only the thread itself and the switch around it touch.
pub(crate) struct Private {
    pub(crate) stack_pointer: usize,
    pub(crate) stack: Option<Stack>,
    pub(crate) body: Option<Body>,
    pub(crate) space: Option<Arc<dyn Space>>,
    /// Root of `space`, 0 for none: then any root will do.
    pub(crate) root: u64,
    pub(crate) fs_base: u64,
    pub(crate) fpu: Option<FpuArea>,
}

/// A thread. Reference counted; runs on even when nobody refers to it.
#[repr(C)]
pub struct Thread {
    /// First: entry code finds the thread through a pointer to it.
    head: ThreadHead,
    pub(crate) private: UnsafeCell<Private>,
    /// Link in a run queue, the list of the dead, or nothing.
    pub(crate) next: AtomicPtr<Thread>,
    pub(crate) park_state: AtomicU8,
    /// Its stack is in use: it runs, or its context is not saved yet.
    pub(crate) is_on_cpu: AtomicBool,
    pub(crate) is_idle: bool,
    pub(crate) has_ended: AtomicBool,
    /// CPU it runs on, or ran on last, or is queued on.
    pub(crate) cpu: AtomicU32,
    /// CPU that ran it last when it had vector state, plus one.
    pub(crate) fpu_cpu: AtomicU32,
    affinity: AtomicU64,
    /// Place in the deadline heap of `timer_cpu`.
    pub(crate) timer_index: AtomicUsize,
    pub(crate) timer_cpu: AtomicU32,
    /// TSC ticks it ran, up to the last time it was switched in.
    pub(crate) ran_ticks: AtomicU64,
    /// TSC when it was switched in.
    pub(crate) since: AtomicU64,
    /// It may not run where it was switched out: whoever comes next queues it elsewhere.
    pub(crate) must_move: AtomicBool,
    /// What it waits for, packed (see [`Thread::waits_for`]).
    reason: AtomicU64,
    id: u64,
    name: Box<str>,
    extension: Option<Extension>,
    pub(crate) held_ranks: HeldRanks,
}

struct Extension {
    type_id: TypeId,
    value: Arc<dyn Any + Send + Sync>,
}

// SAFETY: `private` is touched only by the thread itself, by its creator before it starts, and by the switch that
// leaves or enters it, one at a time; `held_ranks` only by the thread itself. The rest is atomic or constant.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Thread {
    pub(crate) fn head_ptr(&self) -> *const ThreadHead {
        &raw const self.head
    }

    /// What entry code knows about it: the work word and the slot of the upper crates.
    pub fn head(&self) -> &ThreadHead {
        &self.head
    }

    /// A number no other thread of this boot has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The extension, if it is a `T`.
    #[inline]
    pub fn ext<T: Any>(&self) -> Option<&T> {
        let extension = self.extension.as_ref()?;
        if extension.type_id == TypeId::of::<T>() { extension.value.downcast_ref() } else { None }
    }

    /// Makes its current or next park return. Callable in interrupt context.
    pub fn unpark(&self) {
        crate::park::unpark(self);
    }

    /// Sets bits of its work word and makes sure that it sees them soon: if it runs application code now, its CPU
    /// is interrupted. A parked thread is not woken.
    pub fn set_work(&self, bits: u32) {
        self.head.work.fetch_or(bits, Ordering::SeqCst);
        if self.is_on_cpu.load(Ordering::SeqCst) {
            let cpu = self.cpu.load(Ordering::Relaxed) as usize;
            if cpu != hal::cpu::id() {
                hal::apic::send_ipi(cpu, hal::irq::VECTOR_RESCHEDULE);
            }
        }
    }

    /// CPUs it may run on, one bit each.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Changes the CPUs it may run on; takes effect when it is next switched out, which is soon. An empty
    /// intersection with the CPUs that run is ignored.
    pub fn set_affinity(&self, cpus: u64) {
        if cpus & cpu::online_mask() == 0 {
            return;
        }
        self.affinity.store(cpus, Ordering::SeqCst);
        let at = self.cpu.load(Ordering::Relaxed) as usize;
        if cpus >> at & 1 == 0 && self.is_on_cpu.load(Ordering::SeqCst) {
            if at == hal::cpu::id() {
                crate::yield_now();
            } else {
                hal::apic::send_ipi(at, hal::irq::VECTOR_RESCHEDULE);
            }
        }
    }

    /// The CPU it runs on or ran on last.
    pub fn last_cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed) as usize
    }

    /// Nanoseconds it ran.
    pub fn cpu_time_ns(&self) -> u64 {
        let before = self.ran_ticks.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let running =
            if self.is_on_cpu.load(Ordering::Relaxed) { hal::clock::tsc().saturating_sub(since) } else { 0 };
        hal::clock::ticks_to_ns(before + running)
    }

    /// What it waits for, if it is parked.
    pub fn waits_for(&self) -> Option<&'static str> {
        let word = self.reason.load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        // A kernel address: its upper 16 bits are ones and carry the length instead.
        let (at, len) = (word | 0xffff << 48, (word >> 48) as usize);
        // SAFETY: packed by set_reason from a static string.
        Some(unsafe { core::str::from_utf8_unchecked(core::slice::from_raw_parts(at as *const u8, len)) })
    }

    pub(crate) fn set_reason(&self, reason: Option<&'static str>) {
        let word = reason.map_or(0, |r| (r.as_ptr() as u64) << 16 >> 16 | (r.len() as u64) << 48);
        self.reason.store(word, Ordering::Release);
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({} {:?})", self.id, self.name)
    }
}

/// A thread in a run queue or heap: the queue holds no count, the thread's own reference keeps it alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadPtr(pub(crate) *const Thread);

// SAFETY: threads are Sync.
unsafe impl Send for ThreadPtr {}

impl ThreadPtr {
    pub(crate) fn get<'a>(self) -> &'a Thread {
        // SAFETY: a thread is in a queue, a heap or running only while it holds its own reference.
        unsafe { &*self.0 }
    }
}

impl Link for ThreadPtr {
    fn next(self) -> Option<Self> {
        let next = self.get().next.load(Ordering::Relaxed);
        (!next.is_null()).then_some(Self(next))
    }
    fn set_next(self, next: Option<Self>) {
        let next = next.map_or(core::ptr::null_mut(), |n| n.0.cast_mut());
        self.get().next.store(next, Ordering::Relaxed);
    }
}

impl Waiter for ThreadPtr {
    fn set_index(self, index: usize) {
        self.get().timer_index.store(index, Ordering::Relaxed);
    }
}

/// Describes a thread before it starts.
#[must_use = "a builder starts nothing by itself"]
pub struct Builder<'a> {
    name: &'a str,
    affinity: u64,
    extension: Option<Extension>,
    user_slot: *mut (),
    quick: [u32; QUICK_SLOTS],
    space: Option<Arc<dyn Space>>,
    fs_base: u64,
    fpu: Option<FpuArea>,
}

impl<'a> Builder<'a> {
    /// A kernel thread on any CPU.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            affinity: u64::MAX,
            extension: None,
            user_slot: core::ptr::null_mut(),
            quick: [0; QUICK_SLOTS],
            space: None,
            fs_base: 0,
            fpu: None,
        }
    }

    /// Restricts the CPUs, one bit each.
    pub fn affinity(mut self, cpus: u64) -> Self {
        self.affinity = if cpus & cpu::online_mask() == 0 { u64::MAX } else { cpus };
        self
    }

    /// Something of the upper crates that lives as long as the thread. It is dropped by the reaper, some time after
    /// the thread ended: give back promptly what others wait for.
    pub fn ext<T: Any + Send + Sync>(mut self, value: Arc<T>) -> Self {
        self.extension = Some(Extension { type_id: TypeId::of::<T>(), value });
        self
    }

    /// Initial value of [`hal::cpu::user_slot`].
    pub fn user_slot(mut self, value: *mut ()) -> Self {
        self.user_slot = value;
        self
    }

    /// Initial results of the calls that the entry code answers itself (see [`hal::syscall::set_quick`]).
    pub fn quick(mut self, results: &[u32]) -> Self {
        for (slot, result) in self.quick.iter_mut().zip(results) {
            *slot = *result;
        }
        self
    }

    /// The address space it runs in.
    pub fn space(mut self, space: Arc<dyn Space>) -> Self {
        self.space = Some(space);
        self
    }

    /// Initial FS base (canonical).
    pub fn fs_base(mut self, base: u64) -> Self {
        self.fs_base = base;
        self
    }

    /// Initial vector state; threads that run application code need one.
    pub fn fpu(mut self, area: FpuArea) -> Self {
        self.fpu = Some(area);
        self
    }

    /// Starts a thread that runs `body` in the kernel.
    ///
    /// # Errors
    /// No memory.
    pub fn spawn(self, body: Body) -> Result<Arc<Thread>, OutOfMemory> {
        let thread = self.build()?;
        // SAFETY: the thread has not started, its private part is still ours; the stack is its own.
        unsafe {
            let private = &mut *thread.private.get();
            private.body = Some(body);
            let top = thread.head.kernel_stack_top.load(Ordering::Relaxed);
            let argument = Arc::as_ptr(&thread) as usize;
            private.stack_pointer = hal::context::prepare_call(top, run_body, argument);
        }
        Ok(launch(thread))
    }

    /// Starts a thread that continues in application code at `frame`. Without [`Builder::fpu`] it starts with the
    /// initial vector state.
    ///
    /// # Errors
    /// No memory.
    pub fn spawn_user(mut self, frame: &TrapFrame) -> Result<Arc<Thread>, OutOfMemory> {
        if self.fpu.is_none() {
            self.fpu = Some(FpuArea::new().ok_or(OutOfMemory)?);
        }
        let thread = self.build()?;
        // SAFETY: as in spawn.
        unsafe {
            let private = &mut *thread.private.get();
            let top = thread.head.kernel_stack_top.load(Ordering::Relaxed);
            private.stack_pointer = hal::context::prepare_frame(top, frame, begin_user, 0);
        }
        Ok(launch(thread))
    }

    fn build(self) -> Result<Arc<Thread>, OutOfMemory> {
        let stack = Stack::new()?;
        let thread = new_thread(self, Some(stack), false);
        Ok(Arc::new(thread))
    }
}

impl fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builder({:?})", self.name)
    }
}

/// The thread that a CPU's boot code becomes: runs when nothing else can.
pub(crate) fn new_idle(cpu: usize) -> Thread {
    let builder = Builder { affinity: 1 << cpu, ..Builder::new("idle") };
    let thread = new_thread(builder, None, true);
    thread.cpu.store(cpu as u32, Ordering::Relaxed);
    thread.is_on_cpu.store(true, Ordering::Relaxed);
    thread
}

fn new_thread(builder: Builder<'_>, stack: Option<Stack>, is_idle: bool) -> Thread {
    let top = stack.as_ref().map_or(0, Stack::top);
    let head = ThreadHead::new(top);
    head.user_slot.store(builder.user_slot, Ordering::Relaxed);
    for (slot, result) in head.quick.iter().zip(builder.quick) {
        slot.store(result, Ordering::Relaxed);
    }
    Thread {
        head,
        private: UnsafeCell::new(Private {
            stack_pointer: 0,
            stack,
            body: None,
            root: builder.space.as_ref().map_or(0, |s| s.root().0),
            space: builder.space,
            fs_base: builder.fs_base,
            fpu: builder.fpu,
        }),
        next: AtomicPtr::new(core::ptr::null_mut()),
        park_state: AtomicU8::new(crate::park::EMPTY),
        is_on_cpu: AtomicBool::new(false),
        is_idle,
        has_ended: AtomicBool::new(false),
        cpu: AtomicU32::new(hal::cpu::id() as u32),
        fpu_cpu: AtomicU32::new(0),
        affinity: AtomicU64::new(builder.affinity),
        timer_index: AtomicUsize::new(NOWHERE),
        timer_cpu: AtomicU32::new(0),
        ran_ticks: AtomicU64::new(0),
        since: AtomicU64::new(0),
        must_move: AtomicBool::new(false),
        reason: AtomicU64::new(0),
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        name: builder.name.into(),
        extension: builder.extension,
        held_ranks: HeldRanks::new(),
    }
}

/// Gives the thread its own reference and makes it runnable.
fn launch(thread: Arc<Thread>) -> Arc<Thread> {
    let own = Arc::into_raw(thread.clone());
    cpu::enqueue_new(ThreadPtr(own));
    thread
}

/// First code of a kernel thread.
extern "C" fn run_body(thread: usize) -> ! {
    switch::begin();
    hal::io::enable_interrupts();
    // SAFETY: the argument is the running thread; only it touches its private part now.
    let body = unsafe { (*(*(thread as *const Thread)).private.get()).body.take() };
    if let Some(body) = body {
        body();
    }
    exit_thread()
}

/// First code of a thread that starts in application code.
extern "C" fn begin_user(_argument: usize) {
    switch::begin();
}

/// Ends the calling thread.
pub fn exit_thread() -> ! {
    set_space(None);
    hal::cpu::preempt_disable();
    with_current(|thread| thread.has_ended.store(true, Ordering::Relaxed));
    reaper::announce();
    hal::io::disable_interrupts();
    hal::cpu::preempt_enable_quietly();
    switch::schedule(switch::Why::End);
    unreachable!("an ended thread was switched in")
}

/// Calls `f` with the running thread.
#[inline]
pub fn with_current<R>(f: impl FnOnce(&Thread) -> R) -> R {
    // SAFETY: the head is the first field of the running thread, which lives at least until it is switched out for
    // the last time, hence through f.
    f(unsafe { &*hal::cpu::current_head().cast::<Thread>() })
}

/// The running thread.
pub fn current() -> Arc<Thread> {
    with_current(|thread| {
        let at = core::ptr::from_ref(thread);
        // SAFETY: every thread lives in an Arc (idle threads in a leaked one) and has a reference now.
        unsafe {
            Arc::increment_strong_count(at);
            Arc::from_raw(at)
        }
    })
}

/// Calls `f` with the running thread's private part, pre-emption off: the switch touches it too.
fn with_private<R>(f: impl FnOnce(&mut Private) -> R) -> R {
    hal::cpu::preempt_disable();
    // SAFETY: only the running thread and switches touch it, and no switch can happen now.
    let result = with_current(|thread| f(unsafe { &mut *thread.private.get() }));
    hal::cpu::preempt_enable();
    result
}

/// FS base of the running thread.
pub fn fs_base() -> u64 {
    with_private(|private| private.fs_base)
}

/// Sets FS base of the running thread (a canonical address).
pub fn set_fs_base(base: u64) {
    with_private(|private| {
        private.fs_base = base;
        // SAFETY: the record says the same, so a switch restores it.
        unsafe { hal::cpu::load_fs_base(base) };
    });
}

/// Puts the running thread into `space`, or back to the kernel's own.
pub fn set_space(space: Option<Arc<dyn Space>>) {
    let old = with_private(|private| {
        let root = space.as_ref().map_or(hal::paging::kernel::root(), |s| s.root());
        private.root = if space.is_some() { root.0 } else { 0 };
        // SAFETY: the space is kept alive by the thread from here on; kernel code does not rely on the lower half.
        unsafe { hal::paging::load_root(root) };
        core::mem::replace(&mut private.space, space)
    });
    // Outside: dropping a space may block.
    drop(old);
}

/// Makes the running thread keep vector state across switches, as application code needs.
///
/// # Errors
/// No memory.
pub fn enable_fpu() -> Result<(), OutOfMemory> {
    let area = FpuArea::new().ok_or(OutOfMemory)?;
    with_private(|private| {
        if private.fpu.is_none() {
            area.load();
            private.fpu = Some(area);
        }
    });
    Ok(())
}

/// Calls `f` with the running thread's vector state area, pre-emption off; `None` for kernel threads.
pub fn with_fpu<R>(f: impl FnOnce(&mut FpuArea) -> R) -> Option<R> {
    with_private(|private| private.fpu.as_mut().map(f))
}
