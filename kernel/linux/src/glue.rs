//! Where applications and kernel meet: system-call entry, faults, and the scheduler's threads under tasks.
//!
//! The only unsafe of this module turns the running thread's slot word into its [`Task`].
//!
//! Invariant: the slot of a thread that runs an application holds one counted reference to its task from before the
//! thread's first instruction until [`exit_thread`].
#![expect(unsafe_code, reason = "the thread's slot word is a pointer")]
use crate::errno::{Errno, SysResult};
use crate::signal::{self, SigInfo, Source, info};
use crate::sys;
use crate::task::{Task, exit};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use hal::fpu::FpuArea;
use hal::trap::{self, Fault, TrapFrame};
use linux_raw_sys::general as nr;
use mm::space::{Access, AddressSpace, FaultResult};

/// Work bit: look at signals.
pub const WORK_SIGNAL: u32 = 1;
/// Work bit: the call itself runs in the second stage, with the complete frame.
pub const WORK_DEFERRED: u32 = 2;

/// The scheduler's thread under a task.
#[derive(Clone, Debug)]
pub struct ThreadHandle(Arc<sched::Thread>);

impl ThreadHandle {
    /// Makes it pass through the second stage soon.
    pub fn request_work(&self) {
        self.0.set_work(WORK_SIGNAL);
    }

    /// Whether it is parked.
    pub fn is_waiting(&self) -> bool {
        self.0.waits_for().is_some()
    }
}

/// Calls that only tell a number of the thread, answered by the entry code itself.
const QUICK: [u32; 7] = [
    nr::__NR_getpid,
    nr::__NR_gettid,
    nr::__NR_getppid,
    nr::__NR_getuid,
    nr::__NR_geteuid,
    nr::__NR_getgid,
    nr::__NR_getegid,
];

/// Registers everything with the architecture. Traced calls all pass through [`sys::dispatch`].
pub fn install(is_traced: bool) {
    hal::syscall::set_handlers(on_call, on_work);
    trap::set_fault_hook(on_fault);
    for (slot, number) in QUICK.into_iter().enumerate() {
        hal::syscall::set_quick(number as u8, (!is_traced).then_some(slot));
    }
}

/// The answers to [`QUICK`].
fn quick_answers(task: &Task) -> [u32; 7] {
    let process = &task.process;
    let (uid, gid) = {
        let cred = process.cred.lock();
        (cred.uid, cred.gid)
    };
    [process.pid as u32, task.tid() as u32, process.ppid() as u32, uid[0], uid[1], gid[0], gid[1]]
}

/// Brings the answers that the entry code gives up to date, after one of the numbers changed.
pub fn refresh_quick(task: &Task) {
    let answers = quick_answers(task);
    if let Some(thread) = task.thread.get() {
        store_quick(thread.0.head(), answers);
    }
}

fn store_quick(head: &hal::cpu::ThreadHead, answers: [u32; 7]) {
    for (slot, answer) in head.quick.iter().zip(answers) {
        slot.store(answer, Ordering::Relaxed);
    }
}

/// The running thread's task, if it has one.
fn with_slot<R>(f: impl FnOnce(&Task) -> R) -> Option<R> {
    let slot = hal::cpu::user_slot().cast::<Task>().cast_const();
    if slot.is_null() {
        return None;
    }
    // SAFETY: the slot holds a counted reference until the thread ends (module invariant), so the task outlives f.
    Some(f(unsafe { &*slot }))
}

/// The calling thread's task, counted.
pub fn current_task() -> Option<Arc<Task>> {
    with_slot(|task| {
        let at = core::ptr::from_ref(task);
        // SAFETY: tasks live in Arcs, and the slot's reference keeps the count above zero.
        unsafe {
            Arc::increment_strong_count(at);
            Arc::from_raw(at)
        }
    })
}

/// Makes the calling thread pass through the second stage before it returns.
pub fn request_work_here() {
    request_bits(WORK_SIGNAL);
}

/// Makes the second stage run the call.
pub fn request_deferred() {
    request_bits(WORK_DEFERRED);
}

fn request_bits(bits: u32) {
    sched::with_current(|thread| thread.head().work.fetch_or(bits, Ordering::SeqCst));
}

/// Starts a task's thread at `frame`.
///
/// # Errors
/// [`Errno::ENOMEM`].
pub fn start(task: &Arc<Task>, frame: &TrapFrame, fs_base: u64, fpu: Option<FpuArea>) -> SysResult<()> {
    let slot = Arc::into_raw(task.clone()).cast_mut().cast();
    let mut builder = sched::Builder::new("app").user_slot(slot).space(task.space()).fs_base(fs_base);
    builder = builder.quick(&quick_answers(task));
    if let Some(fpu) = fpu {
        builder = builder.fpu(fpu);
    }
    match builder.spawn_user(frame) {
        Ok(thread) => {
            task.thread.get_or_init(|| ThreadHandle(thread));
            if task.has_signal() {
                task.interrupt();
            }
            Ok(())
        }
        Err(sched::thread::OutOfMemory) => {
            // SAFETY: no thread took the reference made above.
            drop(unsafe { Arc::from_raw(slot.cast::<Task>().cast_const()) });
            Err(Errno::ENOMEM)
        }
    }
}

/// Ends the calling thread, giving up its task's reference.
pub fn exit_thread() -> ! {
    let slot = hal::cpu::user_slot().cast::<Task>().cast_const();
    hal::cpu::set_user_slot(core::ptr::null_mut());
    if !slot.is_null() {
        // SAFETY: the slot's reference, taken out of the slot above, so used once.
        drop(unsafe { Arc::from_raw(slot) });
    }
    sched::exit_thread()
}

/// The complete vector state of the calling thread at `frame`.
pub fn capture_fpu(frame: &TrapFrame) -> Option<FpuArea> {
    let mut area = FpuArea::new()?;
    area.capture(frame);
    Some(area)
}

/// Vector state and FS base as a program finds them at its start.
pub fn reset_registers(frame: &mut TrapFrame) {
    sched::set_fs_base(0);
    if let Some(area) = FpuArea::new() {
        area.apply(frame);
    }
}

/// Makes the calling thread use another address space.
pub fn activate_space(space: &Arc<AddressSpace>) {
    sched::set_space(Some(space.clone()));
}

/// CPU time of a task, nanoseconds.
pub fn cpu_nanos(task: &Task) -> u64 {
    task.thread.get().map_or(0, |t| t.0.cpu_time_ns())
}

/// CPUs a task may run on.
pub fn affinity(task: &Task) -> u64 {
    let all = u64::MAX >> (64 - rt::thread::nr_cpus().clamp(1, 64));
    task.thread.get().map_or(all, |t| t.0.affinity() & all)
}

/// Restricts the CPUs a task runs on.
pub fn set_affinity(task: &Task, cpus: u64) {
    if let Some(thread) = task.thread.get() {
        thread.0.set_affinity(cpus);
    }
}

/// First stage of a system call.
extern "C" fn on_call(frame: &mut TrapFrame) -> i64 {
    with_slot(|task| sys::dispatch(task, frame)).unwrap_or_else(|| Errno::ENOSYS.to_return())
}

/// Second stage: deferred calls, then signals.
extern "C" fn on_work(frame: &mut TrapFrame) {
    let bits = sched::with_current(|thread| thread.head().work.swap(0, Ordering::SeqCst));
    with_slot(|task| {
        if bits & WORK_DEFERRED != 0 && frame.is_syscall() {
            sys::dispatch_deferred(task, frame);
        }
        if task.process.is_exiting() {
            exit::end_thread(task);
        }
        signal::deliver::deliver(task, frame);
    });
}

/// A fault in the application, or in the kernel on the application's memory. True: repeat the instruction (or take
/// the signal that is pending now).
fn on_fault(frame: &mut TrapFrame, fault: Fault) -> bool {
    with_slot(|task| handle_fault(task, frame, fault)).unwrap_or(false)
}

fn handle_fault(task: &Task, frame: &mut TrapFrame, fault: Fault) -> bool {
    if fault.vector == trap::VECTOR_PAGE_FAULT {
        return handle_page_fault(task, frame, fault);
    }
    if !frame.is_user() {
        return false;
    }
    let (signo, code, addr) = match fault.vector {
        trap::VECTOR_DIVIDE => (signal::SIGFPE, info::FPE_INTDIV, frame.rip),
        trap::VECTOR_X87 | trap::VECTOR_SIMD => (signal::SIGFPE, info::FPE_FLTINV, frame.rip),
        trap::VECTOR_UNDEFINED => (signal::SIGILL, info::ILL_ILLOPN, frame.rip),
        trap::VECTOR_BREAKPOINT => (signal::SIGTRAP, info::SI_KERNEL, 0),
        trap::VECTOR_DEBUG => (signal::SIGTRAP, info::TRAP_TRACE, frame.rip),
        17 => (signal::SIGBUS, info::BUS_ADRALN, 0),
        _ => (signal::SIGSEGV, info::SI_KERNEL, 0),
    };
    signal::send::force(task, SigInfo { signo, code, source: Source::Fault { addr } });
    true
}

fn handle_page_fault(task: &Task, frame: &mut TrapFrame, fault: Fault) -> bool {
    let addr = fault.addr as u64;
    let access = if fault.error & trap::PF_FETCH != 0 {
        Access::Exec
    } else if fault.error & trap::PF_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    };
    let result = match task.space_if_alive() {
        Some(space) if addr < mm::space::USER_END => space.fault(addr, access),
        _ => FaultResult::Unmapped,
    };
    if result == FaultResult::Done {
        return true;
    }
    if !frame.is_user() {
        return false;
    }
    let (signo, code) = match result {
        FaultResult::Denied => (signal::SIGSEGV, info::SEGV_ACCERR),
        FaultResult::Bus => (signal::SIGBUS, info::BUS_ADRERR),
        FaultResult::NoMemory => (signal::SIGKILL, info::SI_KERNEL),
        _ => (signal::SIGSEGV, info::SEGV_MAPERR),
    };
    if result == FaultResult::NoMemory {
        log::error!("process {} is ended: memory is out", task.process.pid);
    }
    log::debug!("fault at {addr:#x} ({access:?}, {result:?}) in process {}: {frame:?}", task.process.pid);
    signal::send::force(task, SigInfo { signo, code, source: Source::Fault { addr } });
    true
}

/// Makes the calling thread use no application's address space any more.
pub fn leave_space() {
    sched::set_space(None);
}
