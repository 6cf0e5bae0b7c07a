//! Interrupt vectors and who handles them.
//!
//! Handlers run in interrupt context: interrupts off, on whatever kernel stack was in use, pre-emption off. They may
//! unpark threads and touch their device; they may not block, allocate or take a lock that threads take with
//! interrupts on.
use crate::hook::Hook;
use crate::{apic, cpu, tlb};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// First vector for devices.
const VECTOR_DEVICE_FIRST: u8 = 0x30;
/// First vector past those for devices.
const VECTOR_DEVICE_END: u8 = 0xe0;
/// The local timer.
pub const VECTOR_TIMER: u8 = 0xf0;
/// Another CPU asks for a look at the run queue or at pending work.
pub const VECTOR_RESCHEDULE: u8 = 0xf1;
/// TLB shootdown.
pub(crate) const VECTOR_SHOOTDOWN: u8 = 0xf2;
/// Stop for good: another CPU panicked or powers off.
pub(crate) const VECTOR_STOP: u8 = 0xf3;
/// The local APIC's spurious interrupt.
pub(crate) const VECTOR_SPURIOUS: u8 = 0xff;

/// What a device's interrupt does.
pub type Handler = Box<dyn Fn() + Send + Sync>;

struct Slot {
    /// A leaked [`Handler`].
    handler: AtomicPtr<Handler>,
    nr_taken: AtomicU64,
}

static SLOTS: [Slot; 256] =
    [const { Slot { handler: AtomicPtr::new(core::ptr::null_mut()), nr_taken: AtomicU64::new(0) } }; 256];
static NEXT_VECTOR: AtomicUsize = AtomicUsize::new(VECTOR_DEVICE_FIRST as usize);
static TIMER: Hook<fn()> = Hook::new();

/// All device vectors are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoVector;

/// Registers what the local timer does, and [`VECTOR_RESCHEDULE`]. Called on the CPU that was interrupted.
pub fn set_timer_hook(hook: fn()) {
    TIMER.set(hook);
}

/// Takes a free device vector for `handler`, for ever.
///
/// # Errors
/// [`NoVector`].
pub fn allocate(handler: Handler) -> Result<u8, NoVector> {
    let vector = NEXT_VECTOR.fetch_add(1, Ordering::Relaxed);
    if vector >= usize::from(VECTOR_DEVICE_END) {
        return Err(NoVector);
    }
    let leaked = Box::into_raw(Box::new(handler));
    SLOTS[vector].handler.store(leaked, Ordering::Release);
    Ok(vector as u8)
}

/// How often `vector` was taken, for procfs.
pub fn nr_taken(vector: u8) -> u64 {
    SLOTS[usize::from(vector)].nr_taken.load(Ordering::Relaxed)
}

/// Called by the trap dispatch.
pub(crate) fn dispatch(vector: u8) {
    cpu::this().nr_interrupts.fetch_add(1, Ordering::Relaxed);
    let slot = &SLOTS[usize::from(vector)];
    slot.nr_taken.fetch_add(1, Ordering::Relaxed);
    match vector {
        VECTOR_SPURIOUS => return,
        VECTOR_TIMER | VECTOR_RESCHEDULE => run_timer_hook(),
        VECTOR_SHOOTDOWN => tlb::serve(),
        VECTOR_STOP => crate::power::stop_this_cpu(),
        _ => {
            let handler = slot.handler.load(Ordering::Acquire);
            if !handler.is_null() {
                // SAFETY: stored by allocate, leaked.
                unsafe { (*handler)() };
            }
        }
    }
    apic::end_of_interrupt();
}

fn run_timer_hook() {
    if let Some(hook) = TIMER.get() {
        hook();
    }
}
