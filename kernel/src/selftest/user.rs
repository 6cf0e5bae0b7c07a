//! Application code in the lower half: system calls, the exit window, faults, switches, and what they cost.
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::addr::{PAGE_SIZE, PhysAddr};
use hal::paging::{PageTable, PteFlags};
use hal::trap::{Fault, TrapFrame};
use hal::{cpu, syscall, trap};
use sched::{Builder, Space};

const CODE_AT: usize = 0x40_0000;
const STACK_AT: usize = 0x7fff_0000_0000;
/// Touched by the program, mapped by the fault hook.
const LAZY_AT: usize = 0x1000_0000;
const ROUNDS: u64 = 2_000;

const CALL_NOTHING: u64 = 39;
const CALL_YIELD: u64 = 24;
const CALL_QUICK: u64 = 186;
const QUICK_RESULT: u32 = 4711;
const CALL_REPORT: u64 = 500;
const CALL_EXIT: u64 = 60;
const CALL_WORK: u64 = 501;

/// Ticks for the rounds of: empty calls, yields, quick calls; then the numbers of damaged YMM halves and of other
/// damaged words.
static REPORTS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
static NR_FAULTS: AtomicU64 = AtomicU64::new(0);
static NR_WORK: AtomicU64 = AtomicU64::new(0);
static NR_RUNNING: AtomicU64 = AtomicU64::new(0);

struct TestSpace(PageTable);

impl Space for TestSpace {
    fn root(&self) -> PhysAddr {
        self.0.root()
    }
}

/// The program: position independent, at most 1 KiB. R15: whether there is AVX. R12 keeps rounds, RBP the start time.
#[unsafe(naked)]
extern "C" fn program() {
    naked_asm!(
        // empty calls, timed; patterns in XMM and in the red zone must survive
        "mov rax, 0x123456789abcdef0",
        "movq xmm0, rax",
        "movq xmm15, rax",
        "mov [rsp - 8], rax",
        "mov [rsp - 128], rax",
        "mov [rsp - 64], r15",
        "mov r12, {rounds}",
        "rdtsc",
        "shl rdx, 32",
        "lea rbp, [rax + rdx]",
        "2:",
        "mov eax, {nothing}",
        "syscall",
        "dec r12",
        "jnz 2b",
        "rdtsc",
        "shl rdx, 32",
        "add rax, rdx",
        "sub rax, rbp",
        "mov rsi, rax",
        "xor edi, edi",
        "mov eax, {report}",
        "syscall",
        // quick calls, timed
        "mov r12, {rounds}",
        "rdtsc",
        "shl rdx, 32",
        "lea rbp, [rax + rdx]",
        "4:",
        "mov eax, {quick}",
        "syscall",
        "dec r12",
        "jnz 4b",
        "mov r15, rax",
        "rdtsc",
        "shl rdx, 32",
        "add rax, rdx",
        "sub rax, rbp",
        "mov rsi, rax",
        "mov edi, 2",
        "mov eax, {report}",
        "syscall",
        // count damaged words
        "xor ebx, ebx",
        "cmp r15, {quick_result}",
        "setne bl",
        "mov rcx, 0x123456789abcdef0",
        "movq rax, xmm0",
        "cmp rax, rcx",
        "setne al",
        "add bl, al",
        "movq rax, xmm15",
        "cmp rax, rcx",
        "setne al",
        "add bl, al",
        "cmp [rsp - 8], rcx",
        "setne al",
        "add bl, al",
        "cmp [rsp - 128], rcx",
        "setne al",
        "add bl, al",
        // work: every register survives the second stage
        "mov r13, 0x1313",
        "mov r14, 0x1414",
        "mov r11, 0x1111",
        "mov eax, {work}",
        "syscall",
        "cmp rax, 77",
        "setne al",
        "add bl, al",
        "cmp r13, 0x1313",
        "setne al",
        "add bl, al",
        "cmp r14, 0x1414",
        "setne al",
        "add bl, al",
        // lazy memory
        "mov rax, {lazy}",
        "mov qword ptr [rax + 8], 5",
        "mov qword ptr [rax + 4096], 6",
        "cmp qword ptr [rax + 8], 5",
        "setne al",
        "add bl, al",
        "movzx esi, bl",
        "mov edi, 4",
        "mov eax, {report}",
        "syscall",
        // yields, timed; the partner does the same. Upper halves of YMM must survive, where there are any
        "cmp qword ptr [rsp - 64], 0",
        "je 5f",
        "movq xmm3, rsp",
        "vinsertf128 ymm3, ymm3, xmm3, 1",
        "5:",
        "mov r12, {rounds}",
        "rdtsc",
        "shl rdx, 32",
        "lea rbp, [rax + rdx]",
        "3:",
        "mov eax, {yielding}",
        "syscall",
        "dec r12",
        "jnz 3b",
        "rdtsc",
        "shl rdx, 32",
        "add rax, rdx",
        "sub rax, rbp",
        "mov rsi, rax",
        "mov edi, 1",
        "mov eax, {report}",
        "syscall",
        "cmp qword ptr [rsp - 64], 0",
        "je 6f",
        "vextractf128 xmm4, ymm3, 1",
        "movq rax, xmm4",
        "xor esi, esi",
        "cmp rax, rsp",
        "setne sil",
        "mov edi, 3",
        "mov eax, {report}",
        "syscall",
        "6:",
        "mov eax, {exit}",
        "syscall",
        "ud2",
        rounds = const ROUNDS,
        nothing = const CALL_NOTHING,
        quick = const CALL_QUICK,
        quick_result = const QUICK_RESULT,
        report = const CALL_REPORT,
        work = const CALL_WORK,
        yielding = const CALL_YIELD,
        exit = const CALL_EXIT,
        lazy = const LAZY_AT,
    )
}

extern "C" fn call(frame: &mut TrapFrame) -> i64 {
    match frame.error {
        CALL_NOTHING => {
            sched::with_current(|thread| thread.head().quick[3].store(QUICK_RESULT, Ordering::Relaxed));
            1
        }
        CALL_YIELD => {
            sched::yield_now();
            0
        }
        CALL_REPORT => {
            if let Some(slot) = REPORTS.get(frame.rdi as usize) {
                slot.fetch_max(frame.rsi, Ordering::Relaxed);
            }
            // With AVX, where there is any: the application's upper halves must survive that too.
            REPORTS[4].fetch_max(u64::from(!are_sums_right()), Ordering::Relaxed);
            0
        }
        CALL_WORK => {
            sched::with_current(|thread| thread.head().work.store(1, Ordering::Relaxed));
            -4
        }
        CALL_EXIT => {
            NR_RUNNING.fetch_sub(1, Ordering::SeqCst);
            sched::exit_thread()
        }
        _ => -38,
    }
}

/// Sums a block as a whole, and in pieces too short for a bracket.
fn are_sums_right() -> bool {
    let block = alloc::vec![0xa5; 8 << 10];
    let mut sums = codec::fletcher::Fletcher4::default();
    block.chunks(512).for_each(|piece| sums.update(piece));
    codec::fletcher::fletcher4(&block) == sums.finish()
}

extern "C" fn work(frame: &mut TrapFrame) {
    sched::with_current(|thread| thread.head().work.store(0, Ordering::Relaxed));
    NR_WORK.fetch_add(1, Ordering::Relaxed);
    if frame.is_syscall() && frame.error == CALL_WORK {
        frame.rax = 77;
    }
}

static SPACE: rt::Mutex<Option<Arc<TestSpace>>> = rt::Mutex::new(None);

fn fault(_frame: &mut TrapFrame, fault: Fault) -> bool {
    if fault.vector != trap::VECTOR_PAGE_FAULT || !(LAZY_AT..LAZY_AT + 4 * PAGE_SIZE).contains(&fault.addr) {
        return false;
    }
    NR_FAULTS.fetch_add(1, Ordering::Relaxed);
    let space = SPACE.lock();
    let Some(space) = space.as_ref() else { return false };
    let Some(frame) = mm::frames::alloc_zeroed() else { return false };
    // Another thread may have been first.
    let _ = space.0.map(fault.addr & !(PAGE_SIZE - 1), frame, PteFlags::WRITABLE | PteFlags::NO_EXEC);
    true
}

fn map_program() -> Option<Arc<TestSpace>> {
    let table = PageTable::new().ok()?;
    let code = mm::frames::alloc_zeroed()?;
    // SAFETY: the frame is ours; the program is shorter than a page and lies in readable memory.
    unsafe { core::ptr::copy_nonoverlapping(program as *const u8, code.to_virt(), 1024) };
    table.map(CODE_AT, code, PteFlags::empty()).ok()?;
    for n in 0..8 {
        let frame = mm::frames::alloc_zeroed()?;
        table.map(STACK_AT + n * PAGE_SIZE, frame, PteFlags::WRITABLE | PteFlags::NO_EXEC).ok()?;
    }
    Some(Arc::new(TestSpace(table)))
}

fn start(space: &Arc<TestSpace>, n: usize, cpus: u64) -> bool {
    NR_RUNNING.fetch_add(1, Ordering::SeqCst);
    const AVX: u64 = 4;
    let mut frame = TrapFrame::new_user(CODE_AT as u64, (STACK_AT + (2 * n + 2) * PAGE_SIZE - 64) as u64);
    frame.r15 = hal::fpu::components() & AVX;
    let builder = Builder::new("program").space(space.clone()).affinity(cpus);
    builder.spawn_user(&frame).is_ok()
}

fn wait_for_all() {
    while NR_RUNNING.load(Ordering::SeqCst) != 0 {
        sched::sleep_until(hal::clock::now_ns() + 1_000_000);
    }
}

/// Prints the costs; true if nothing was damaged.
pub fn run() -> bool {
    syscall::set_handlers(call, work);
    trap::set_fault_hook(fault);
    syscall::set_quick(CALL_QUICK as u8, Some(3));
    let Some(space) = map_program() else { return false };
    *SPACE.lock() = Some(space.clone());
    let is_started = start(&space, 0, 1);
    wait_for_all();
    let per_round = |n: usize| REPORTS[n].swap(0, Ordering::Relaxed) * 10 / ROUNDS;
    let (empty, alone, quick) = (per_round(0), per_round(1), per_round(2));
    let is_pair_started = start(&space, 1, 1) && start(&space, 2, 1);
    wait_for_all();
    let pair = per_round(1);
    // And on all CPUs, while this thread sets work from outside.
    let is_crowd_started = (0..4).all(|n| start(&space, n, u64::MAX));
    wait_for_all();
    log::info!("ticks: call {}.{}, yield {}.{}", empty / 10, empty % 10, alone / 10, alone % 10);
    log::info!("ticks: quick call {}.{}", quick / 10, quick % 10);
    log::info!("ticks: yield pair {}.{}", pair / 10, pair % 10);
    let spawned = spawn_and_join();
    log::info!("ticks: spawn and join {spawned}");
    let damaged = REPORTS[4].load(Ordering::Relaxed) + REPORTS[3].load(Ordering::Relaxed);
    let (faults, works) = (NR_FAULTS.load(Ordering::Relaxed), NR_WORK.load(Ordering::Relaxed));
    log::info!("user: {damaged} damaged, {faults} faults, {works} works");
    *SPACE.lock() = None;
    let is_started = is_started && is_pair_started && is_crowd_started;
    is_started && damaged == 0 && faults >= 2 && works == 7 && cpu::preempt_count() == 0
}

/// Ticks to start a kernel thread and wait for its end.
fn spawn_and_join() -> u64 {
    const THREADS: u64 = 200;
    let start = hal::clock::tsc();
    for _ in 0..THREADS {
        let body = Box::new(|| {});
        let is_spawned = Builder::new("short").spawn(body).is_ok();
        debug_assert!(is_spawned);
        sched::yield_now();
    }
    (hal::clock::tsc() - start) / THREADS
}
