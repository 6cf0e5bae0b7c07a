//! Threads that keep patterns in every place an interrupt or a switch could damage, and threads that block and wake.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use rt::wait::WaitQueue;
use rt::{Condvar, JoinHandle, Mutex};

const SPINS: u64 = 20_000;
const ROUNDS: u64 = 60;
const PASSES: u64 = 2_000;
/// Longer than CPUs take to wake, on a busy host too.
const PATIENCE_NS: u64 = 20_000_000_000;

/// Fills the 128 bytes below the stack pointer, spins, counts the words that changed.
#[unsafe(naked)]
extern "C" fn probe_red_zone(spins: u64) -> u64 {
    naked_asm!(
        "lea rcx, [rsp - 136]",
        "mov edx, 1",
        "2: cmp edx, 17",
        "je 3f",
        "mov [rcx + rdx*8], rdx",
        "inc edx",
        "jmp 2b",
        "3: dec rdi",
        "jnz 3b",
        "xor eax, eax",
        "mov edx, 1",
        "4: cmp edx, 17",
        "je 5f",
        "cmp [rcx + rdx*8], rdx",
        "je 6f",
        "inc rax",
        "6: inc edx",
        "jmp 4b",
        "5: ret",
    )
}

/// Fills registers with a pattern, spins, counts those that changed.
#[unsafe(naked)]
extern "C" fn probe_registers(spins: u64, pattern: u64) -> u64 {
    naked_asm!(
        "movq xmm0, rsi",
        "movq xmm7, rsi",
        "movq xmm15, rsi",
        "mov r8, rsi",
        "mov r9, rsi",
        "mov r10, rsi",
        "mov r11, rsi",
        "mov rcx, rsi",
        "3: dec rdi",
        "jnz 3b",
        "xor eax, eax",
        "movq rdx, xmm0",
        "cmp rdx, rsi",
        "je 4f",
        "inc eax",
        "4: movq rdx, xmm7",
        "cmp rdx, rsi",
        "je 4f",
        "inc eax",
        "4: movq rdx, xmm15",
        "cmp rdx, rsi",
        "je 4f",
        "inc eax",
        "4: cmp r8, rsi",
        "je 4f",
        "inc eax",
        "4: cmp r9, rsi",
        "je 4f",
        "inc eax",
        "4: cmp r10, rsi",
        "je 4f",
        "inc eax",
        "4: cmp r11, rsi",
        "je 4f",
        "inc eax",
        "4: cmp rcx, rsi",
        "je 4f",
        "inc eax",
        "4: ret",
    )
}

/// Runs everything; true if nothing was damaged and nothing was lost.
pub fn run() -> bool {
    let nr_damaged = Arc::new(AtomicU64::new(0));
    let nr_passed = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for tag in 0..rt::nr_cpus() as u64 * 4 {
        let nr_damaged = nr_damaged.clone();
        threads.push(rt::spawn("probe", move || {
            for round in 0..ROUNDS {
                let damage = probe_red_zone(SPINS) + probe_registers(SPINS, tag << 32 | round);
                nr_damaged.fetch_add(damage, Ordering::Relaxed);
            }
        }));
        threads.extend(ping_pong(&nr_passed));
    }
    let nr_pairs = rt::nr_cpus() as u64 * 4;
    threads.into_iter().for_each(JoinHandle::join);
    let is_heap_good = allocate_on_all_cpus();
    let is_spread = woken_at_once_run_everywhere();
    let is_accounted = busy_time_is_not_idle_time();
    let (damaged, passed) = (nr_damaged.load(Ordering::Relaxed), nr_passed.load(Ordering::Relaxed));
    log::info!("stress: {damaged} damaged, {passed} passes, heap good: {is_heap_good}, spread: {is_spread}");
    log::info!("stress: busy time is not idle time: {is_accounted}");
    damaged == 0 && passed == nr_pairs * PASSES * 2 && is_heap_good && is_spread && is_accounted
}

/// A thread that an interrupt woke works a while and sleeps again: its CPU was not idle meanwhile.
fn busy_time_is_not_idle_time() -> bool {
    const BUSY_NS: u64 = 100_000_000;
    let start = rt::now().0;
    let before: Vec<u64> = (0..rt::nr_cpus()).map(sched::idle_ns).collect();
    rt::sleep(core::time::Duration::from_millis(1));
    let cpu = rt::cpu_id();
    let woken = rt::now().0;
    while rt::now().0 - woken < BUSY_NS {
        core::hint::spin_loop();
    }
    let is_moved = rt::cpu_id() != cpu;
    // What was idle is counted when that ends.
    rt::sleep(core::time::Duration::from_millis(1));
    let idle = sched::idle_ns(cpu) - before[cpu];
    is_moved || idle + BUSY_NS <= rt::now().0 - start
}

/// As many threads as there are CPUs, which sleep, are woken together and run on: soon there is one on each CPU, though
/// the CPUs take a while to wake.
fn woken_at_once_run_everywhere() -> bool {
    let nr_cpus = rt::nr_cpus() as u64;
    let all = u64::MAX >> (64 - nr_cpus);
    let start = Arc::new((WaitQueue::new(), AtomicBool::new(false)));
    let nr_asleep = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(AtomicU64::new(0));
    let runner = |_| {
        let (start, nr_asleep, seen) = (start.clone(), nr_asleep.clone(), seen.clone());
        rt::spawn("runner", move || {
            nr_asleep.fetch_add(1, Ordering::SeqCst);
            start.0.wait("start", || start.1.load(Ordering::SeqCst).then_some(()));
            let since = rt::now().0;
            while seen.fetch_or(1 << rt::cpu_id(), Ordering::SeqCst) != all
                && rt::now().0 - since < PATIENCE_NS
            {
                core::hint::spin_loop();
            }
        })
    };
    let threads: Vec<JoinHandle> = (0..nr_cpus).map(runner).collect();
    while nr_asleep.load(Ordering::SeqCst) < nr_cpus {
        rt::sleep(core::time::Duration::from_millis(1));
    }
    rt::sleep(core::time::Duration::from_millis(5));
    start.1.store(true, Ordering::SeqCst);
    start.0.wake_all();
    threads.into_iter().for_each(JoinHandle::join);
    seen.load(Ordering::SeqCst) == all
}

/// Two threads that hand a turn to each other.
fn ping_pong(nr_passed: &Arc<AtomicU64>) -> [JoinHandle; 2] {
    let turn = Arc::new((Mutex::<u64>::new(0), Condvar::new()));
    [0, 1].map(|own| {
        let (turn, nr_passed) = (turn.clone(), nr_passed.clone());
        rt::spawn("ping", move || {
            for _ in 0..PASSES {
                let mut now = turn.0.lock();
                while *now % 2 != own {
                    now = turn.1.wait(now);
                }
                *now += 1;
                turn.1.notify_all();
                nr_passed.fetch_add(1, Ordering::Relaxed);
            }
        })
    })
}

/// Blocks of many sizes, filled, moved between threads, checked and freed elsewhere.
fn allocate_on_all_cpus() -> bool {
    let shelf = Arc::new(Mutex::<Vec<(u8, Vec<u8>)>>::new(Vec::new()));
    let nr_bad = Arc::new(AtomicU64::new(0));
    let threads: Vec<JoinHandle> = (0..rt::nr_cpus() as u64 * 2)
        .map(|seed| {
            let (shelf, nr_bad) = (shelf.clone(), nr_bad.clone());
            rt::spawn("heap", move || {
                let mut state = seed + 1;
                for _ in 0..3_000 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (len, fill) = ((state >> 40) as usize % 9_000 + 1, state as u8);
                    let taken = {
                        let mut shelf = shelf.lock();
                        shelf.push((fill, alloc::vec![fill; len]));
                        let at = (state >> 20) as usize % shelf.len();
                        if shelf.len() > 100 { Some(shelf.swap_remove(at)) } else { None }
                    };
                    let is_bad = taken.is_some_and(|(fill, bytes)| bytes.iter().any(|b| *b != fill));
                    nr_bad.fetch_add(u64::from(is_bad), Ordering::Relaxed);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(JoinHandle::join);
    nr_bad.load(Ordering::Relaxed) == 0
}
