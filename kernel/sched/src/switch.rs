//! Picking the next thread and going there.
use crate::cpu::{self, Cpu};
use crate::thread::{Thread, ThreadPtr};
use core::sync::atomic::Ordering;
use hal::addr::PhysAddr;
use hal::{clock, context, paging};

/// Why the running thread leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It goes on later, after the others.
    Yield,
    /// Its slice ran out or a fresh thread came.
    Preempt,
    /// It is marked parked; a waker queues it.
    Park,
    /// It never comes back.
    End,
}

/// Leaves the running thread for the next one; returns when it is picked again. Interrupts are off on entry and on
/// return, the CPU may be another.
pub(crate) fn schedule(why: Why) {
    hal::cpu::preempt_disable();
    let cpu = cpu::this();
    hal::cpu::clear_reschedule();
    let now = clock::tsc();
    let previous = cpu.current();
    cpu.account(previous.get(), now);
    let next = cpu.pick(previous, why, now);
    if next == previous {
        previous.get().since.store(now, Ordering::Relaxed);
    } else {
        // SAFETY: interrupts and pre-emption are off; next came out of the queue, so nobody else runs it.
        unsafe { switch_to(cpu, previous, next, now) };
        finish();
    }
    hal::cpu::preempt_enable_quietly();
}

/// The reschedule hook: called where a pre-emption section or an interrupt ends and someone wants the CPU.
pub(crate) fn preempt() {
    let _irq = hal::io::IrqGuard::new();
    // It may have been answered between the look and here.
    if hal::cpu::is_reschedule_due() {
        schedule(Why::Preempt);
    }
}

/// # Safety
/// Interrupts and pre-emption are off, `next` is in no queue and on no CPU (or is this CPU's idle thread).
unsafe fn switch_to(cpu: &Cpu, previous: ThreadPtr, next: ThreadPtr, now: u64) {
    let (from, to) = (previous.get(), next.get());
    to.is_on_cpu.store(true, Ordering::Relaxed);
    to.cpu.store(cpu.id as u32, Ordering::Relaxed);
    to.since.store(now, Ordering::Relaxed);
    cpu.leaving.store(previous.0.cast_mut(), Ordering::Relaxed);
    cpu.set_current(next);
    // SAFETY: from runs here and to nowhere, so both private parts are ours; the space is kept alive by the thread.
    unsafe {
        let (old, new) = (&mut *from.private.get(), &mut *to.private.get());
        if let Some(area) = &mut old.fpu {
            area.save();
            cpu.note_fpu_owner(from);
        }
        if let Some(area) = &new.fpu {
            if !cpu.holds_fpu_of(to) {
                area.load();
            }
            hal::cpu::load_fs_base(new.fs_base);
        }
        if new.root != 0 {
            paging::load_root(PhysAddr(new.root));
        }
        hal::cpu::set_current(to.head_ptr());
        context::switch_stack(&raw mut old.stack_pointer, new.stack_pointer);
    }
}

/// First thing on the new stack: the thread before is off its stack now.
fn finish() {
    let cpu = cpu::this();
    let left = ThreadPtr(cpu.leaving.swap(core::ptr::null_mut(), Ordering::Relaxed));
    if left.0.is_null() {
        return;
    }
    let thread: &Thread = left.get();
    if thread.has_ended.load(Ordering::Relaxed) {
        crate::reaper::bury(cpu, left);
        return;
    }
    let must_move = thread.must_move.swap(false, Ordering::Relaxed);
    // Release: whoever sees it clear sees the saved context.
    thread.is_on_cpu.store(false, Ordering::Release);
    if must_move {
        cpu::move_elsewhere(left);
    }
}

/// A new thread's part of what [`schedule`] does after the switch. Interrupts stay off.
pub(crate) fn begin() {
    finish();
    hal::cpu::preempt_enable_quietly();
}
