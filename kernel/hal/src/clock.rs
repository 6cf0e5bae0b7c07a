//! The monotonic clock: the TSC, scaled.
//!
//! `now = (tsc - base) * mult >> 32`, with the rate from the hypervisor if it tells, else measured against the PIT.
//! Under `-icount` the TSC counts instructions at 1 GHz and the PIT follows the same virtual time, so the measured
//! rate is right there too.
use crate::{apic, cpu, io, rtc};
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// What turns a TSC value into nanoseconds since boot; constant once the system runs. For a vDSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// TSC at time 0.
    pub base: u64,
    /// Nanoseconds per 2^32 ticks.
    pub mult: u64,
    /// TSC ticks per second.
    pub hz: u64,
}

static BASE: AtomicU64 = AtomicU64::new(0);
/// 1 GHz until calibrated.
static MULT: AtomicU64 = AtomicU64::new(1 << 32);
static HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
/// Wall clock at monotonic time 0, nanoseconds since 1970.
static WALL_OFFSET: AtomicI64 = AtomicI64::new(0);
/// Changes when the wall clock is set.
static WALL_GENERATION: AtomicU32 = AtomicU32::new(0);

/// The time stamp counter.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has it and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since boot.
#[inline]
pub fn now_ns() -> u64 {
    let ticks = tsc().saturating_sub(BASE.load(Ordering::Relaxed));
    ticks_to_ns(ticks)
}

/// Nanoseconds of `ticks` TSC ticks.
#[inline]
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(MULT.load(Ordering::Relaxed))) >> 32) as u64
}

/// The TSC value at `ns` nanoseconds since boot, saturating.
#[inline]
pub fn tsc_at(ns: u64) -> u64 {
    let hz = u128::from(HZ.load(Ordering::Relaxed));
    let ticks = u64::try_from(u128::from(ns) * hz / 1_000_000_000).unwrap_or(u64::MAX);
    BASE.load(Ordering::Relaxed).saturating_add(ticks).saturating_add(1)
}

/// The scale in use.
pub fn scale() -> Scale {
    Scale {
        base: BASE.load(Ordering::Relaxed),
        mult: MULT.load(Ordering::Relaxed),
        hz: HZ.load(Ordering::Relaxed),
    }
}

/// Nanoseconds since 1970.
pub fn wall_ns() -> i64 {
    WALL_OFFSET.load(Ordering::Relaxed).saturating_add(i64::try_from(now_ns()).unwrap_or(i64::MAX))
}

/// Wall clock at monotonic time 0, and a number that changes whenever it is set. For a vDSO.
pub fn wall_offset() -> (i64, u32) {
    (WALL_OFFSET.load(Ordering::Relaxed), WALL_GENERATION.load(Ordering::Acquire))
}

/// Sets the wall clock.
pub fn set_wall_ns(now: i64) {
    let offset = now.saturating_sub(i64::try_from(now_ns()).unwrap_or(i64::MAX));
    WALL_OFFSET.store(offset, Ordering::Relaxed);
    WALL_GENERATION.fetch_add(1, Ordering::Release);
}

/// Finds the rates of the TSC and of the local timer and reads the wall clock. `boot_tsc` is time 0.
pub fn init(boot_tsc: u64) {
    BASE.store(boot_tsc, Ordering::Relaxed);
    let told = told_hz();
    let needs_timer = !cpu::features().has_tsc_deadline;
    if told.is_none() || needs_timer {
        let measured = pit::measure(needs_timer);
        set_hz(told.unwrap_or(measured.tsc_hz));
        if needs_timer {
            apic::finish_calibration(measured.timer_ratio);
        }
    } else if let Some(hz) = told {
        set_hz(hz);
    }
    set_wall_ns(rtc::read_ns());
}

fn set_hz(hz: u64) {
    HZ.store(hz, Ordering::Relaxed);
    MULT.store(((1_000_000_000_u128 << 32) / u128::from(hz)) as u64, Ordering::Relaxed);
}

/// The rate as hypervisor or CPU tell it.
fn told_hz() -> Option<u64> {
    const HYPERVISOR_TIMING: u32 = 0x4000_0010;
    if cpu::features().is_virtual && __cpuid(0x4000_0000).eax >= HYPERVISOR_TIMING {
        let khz = __cpuid(HYPERVISOR_TIMING).eax;
        if khz != 0 {
            return Some(u64::from(khz) * 1000);
        }
    }
    if __cpuid(0).eax >= 0x15 {
        let leaf = __cpuid(0x15);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            return Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax));
        }
    }
    None
}

/// Measuring against channel 0 of the interval timer, which every machine type here has.
mod pit {
    use super::{apic, io, tsc};

    const CHANNEL_0: u16 = 0x40;
    const COMMAND: u16 = 0x43;
    const HZ: u64 = 1_193_182;
    /// About 4 ms: good to 0.02 %, which is better than the host's scheduling lets anyone notice.
    const SPAN: u16 = 4772;

    pub(super) struct Rates {
        pub(super) tsc_hz: u64,
        /// Timer ticks per 2^32 TSC ticks.
        pub(super) timer_ratio: u64,
    }

    fn count() -> u16 {
        // SAFETY: latches and reads a counter whose interrupt is masked.
        unsafe {
            io::outb(COMMAND, 0);
            let low = io::inb(CHANNEL_0);
            u16::from_le_bytes([low, io::inb(CHANNEL_0)])
        }
    }

    /// A counter value and the TSC at it: the tightest of three readings.
    fn sample() -> (u16, u64) {
        let one = || {
            let before = tsc();
            let at = count();
            let after = tsc();
            (after.wrapping_sub(before), at, before.wrapping_add(after.wrapping_sub(before) / 2))
        };
        let best = [one(), one(), one()].into_iter().min_by_key(|reading| reading.0);
        best.map_or((0, 0), |(_, at, tsc)| (at, tsc))
    }

    pub(super) fn measure(with_timer: bool) -> Rates {
        // Mode 2, both bytes, longest period.
        // SAFETY: programs a timer nobody else uses.
        unsafe {
            io::outb(COMMAND, 0x34);
            io::outb(CHANNEL_0, 0);
            io::outb(CHANNEL_0, 0);
        }
        if with_timer {
            apic::start_calibration();
        }
        let timer_start = if with_timer { apic::calibration_ticks() } else { 0 };
        let (start, tsc_start) = sample();
        // The latched value may be from before the mode took effect: bounded by the TSC.
        while start.wrapping_sub(count()) < SPAN && tsc().wrapping_sub(tsc_start) < 1 << 32 {
            core::hint::spin_loop();
        }
        let (end, tsc_end) = sample();
        let timer_end = if with_timer { apic::calibration_ticks() } else { 0 };
        let ticks = u64::from(start.wrapping_sub(end)).max(1);
        let tsc_span = tsc_end.wrapping_sub(tsc_start).max(1);
        let timer_span = u64::from(timer_end.wrapping_sub(timer_start)).max(1);
        Rates {
            tsc_hz: (u128::from(tsc_span) * u128::from(HZ) / u128::from(ticks)).max(1_000_000) as u64,
            timer_ratio: ((u128::from(timer_span) << 32) / u128::from(tsc_span)).max(1) as u64,
        }
    }
}
