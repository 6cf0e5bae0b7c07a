//! Starting the other CPUs, one after the other.
use crate::addr::PhysAddr;
use crate::cpu::{self, CPUS_MAX, CpuBlock};
use crate::{apic, clock};
use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the start-up code is copied: a page below 1 MiB that is never handed out.
pub const TRAMPOLINE: PhysAddr = PhysAddr(0x8000);
/// Stack of a CPU until it runs threads, and of its idle thread.
const IDLE_STACK_SIZE: usize = 16 << 10;
/// How long a CPU may take to come up. A loaded host under emulation can be slow.
const START_NS_MAX: u64 = 2_000_000_000;

/// What the start-up code picks up.
#[derive(Debug)]
pub struct Handover {
    /// Top of the stack.
    pub stack: &'static AtomicU64,
    /// Address of the CPU's block.
    pub block: &'static AtomicU64,
}

/// Starts the CPUs with these local APIC identifiers (this one is skipped), numbered in this order from 1. Returns
/// how many CPUs run afterwards, this one included.
///
/// # Safety
/// Called once. `trampoline` leads each CPU to code that calls [`cpu::init_this_cpu`] with the block handed over.
pub unsafe fn start_others(apic_ids: &[u32], trampoline: &[u8], handover: &Handover) -> usize {
    // SAFETY: the page is reserved for this.
    unsafe { core::ptr::copy_nonoverlapping(trampoline.as_ptr(), TRAMPOLINE.to_virt(), trampoline.len()) };
    let own = cpu::this().apic_id();
    for &apic_id in apic_ids.iter().filter(|&&id| id != own).take(CPUS_MAX - 1) {
        let id = cpu::nr_online();
        if !start(apic_id, id as u32, handover) {
            log::warn!("CPU with APIC id {apic_id} does not start");
            // Its block must not be given to another: it might still wake up.
            break;
        }
    }
    cpu::nr_online()
}

fn start(apic_id: u32, id: u32, handover: &Handover) -> bool {
    let Ok(layout) = Layout::from_size_align(IDLE_STACK_SIZE, 4096) else { return false };
    // SAFETY: the size is not zero.
    let stack = unsafe { alloc(layout) };
    if stack.is_null() {
        return false;
    }
    let block: &'static CpuBlock = Box::leak(Box::new(CpuBlock::new(id)));
    handover.stack.store(stack as u64 + IDLE_STACK_SIZE as u64, Ordering::SeqCst);
    handover.block.store(core::ptr::from_ref(block) as u64, Ordering::SeqCst);
    let before = cpu::nr_online();
    apic::send_init(apic_id);
    spin_ns(200_000);
    // Sent twice where the first is not enough, as the architecture asks for.
    for _ in 0..2 {
        apic::send_startup(apic_id, (TRAMPOLINE.0 >> 12) as u8);
        let end = clock::now_ns() + START_NS_MAX / 2;
        while clock::now_ns() < end {
            if cpu::nr_online() > before {
                return true;
            }
            core::hint::spin_loop();
        }
    }
    false
}

fn spin_ns(span: u64) {
    let end = clock::now_ns() + span;
    while clock::now_ns() < end {
        core::hint::spin_loop();
    }
}
