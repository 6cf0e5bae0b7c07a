//! Vector and x87 state that outlives a thread switch.
//!
//! XMM registers of interrupted or calling code lie in its [`TrapFrame`]; what a thread switch must keep beyond them
//! (upper halves of YMM and ZMM, masks, x87) lies in an [`FpuArea`]. Kernel code uses only XMM through legacy
//! encodings, so kernel threads need no area. Without XSAVE (qemu64) an area is an FXSAVE image.
//!
//! Rule for kernel code that wants AVX: run it in [`with_wide_registers`], or it destroys the application's upper
//! halves.
use crate::cpu::features;
use crate::trap::{FxImage, TrapFrame};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const ALIGN: usize = 64;
const FXSAVE_SIZE: u32 = 512;
/// End of what FXSAVE defines; the rest of the 512 bytes is free for software.
const FX_DEFINED: usize = 416;
const FX_MXCSR: usize = 24;
const FX_MXCSR_MASK: usize = 28;
const HEADER: core::ops::Range<usize> = 512..576;
const COMPONENTS_LEGACY: u64 = 3;
/// Upper halves of YMM0 to YMM15, and of ZMM0 to ZMM15: an AVX instruction clears the latter.
const COMPONENTS_UPPER: u64 = 4 | 0x40;
/// Bytes of an area with every component that is kept.
const UPPER_SIZE: usize = 2752;

/// Bytes of an area on this machine.
static SIZE: AtomicU32 = AtomicU32::new(FXSAVE_SIZE);
/// State components in XCR0; 0 without XSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);

/// Whether XSAVEOPT exists: read on every switch, where asking for all features would be too slow.
static HAS_XSAVEOPT: AtomicBool = AtomicBool::new(false);

/// Turns on every state component this kernel keeps (x87, SSE, AVX, AVX-512). CR4.OSXSAVE is set already.
pub(crate) fn enable_components() {
    const KEPT: u64 = 0xe7;
    let supported = u64::from(__cpuid_count(0xd, 0).eax) & KEPT;
    // SAFETY: OSXSAVE is set and every bit is supported.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") supported as u32, in("edx") (supported >> 32) as u32,
             options(nomem, nostack, preserves_flags));
    }
    COMPONENTS.store(supported, Ordering::Relaxed);
    HAS_XSAVEOPT.store(features().has_xsaveopt, Ordering::Relaxed);
    SIZE.store(__cpuid_count(0xd, 0).ebx, Ordering::Relaxed);
}

/// Bytes of an area: 512 with FXSAVE, otherwise legacy region, header and components in standard format.
pub fn area_size() -> usize {
    SIZE.load(Ordering::Relaxed) as usize
}

/// State components kept, as in XCR0; 0 without XSAVE (then an area is an FXSAVE image).
pub fn components() -> u64 {
    COMPONENTS.load(Ordering::Relaxed)
}

/// A thread's state in memory, in XSAVE's standard format.
#[derive(Debug)]
pub struct FpuArea(NonNull<u8>);

// SAFETY: plain memory, owned.
unsafe impl Send for FpuArea {}
// SAFETY: shared references only read.
unsafe impl Sync for FpuArea {}

impl FpuArea {
    /// The state a program starts with; `None` without memory.
    pub fn new() -> Option<Self> {
        // SAFETY: the size is not zero.
        let mut area = Self(NonNull::new(unsafe { alloc_zeroed(Self::layout()?) })?);
        let initial = TrapFrame::new_user(0, 0).fx;
        area.bytes_mut()[..FX_DEFINED].copy_from_slice(&initial.0[..FX_DEFINED]);
        Some(area)
    }

    fn layout() -> Option<Layout> {
        Layout::from_size_align(area_size(), ALIGN).ok()
    }

    /// The image.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has this many initialised bytes.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr(), area_size()) }
    }

    /// The image, for example to fill it from a signal frame: call [`FpuArea::sanitise`] afterwards.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in bytes, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_ptr(), area_size()) }
    }

    /// A copy; `None` without memory.
    pub fn duplicate(&self) -> Option<Self> {
        let mut copy = Self::new()?;
        copy.bytes_mut().copy_from_slice(self.bytes());
        Some(copy)
    }

    /// Removes what would make a load fault: reserved bits of MXCSR and of the header.
    pub fn sanitise(&mut self) {
        let mask = mxcsr_mask().to_le_bytes();
        let kept = components();
        let bytes = self.bytes_mut();
        for (byte, mask) in bytes[FX_MXCSR..].iter_mut().zip(mask) {
            *byte &= mask;
        }
        if let Some(header) = bytes.get_mut(HEADER) {
            let (present, rest) = header.split_at_mut(8);
            for (byte, kept) in present.iter_mut().zip(kept.to_le_bytes()) {
                *byte &= kept;
            }
            rest.fill(0);
        }
    }

    /// Stores the CPU's registers here.
    #[inline]
    pub fn save(&mut self) {
        let (low, high) = halves(components());
        // SAFETY: the area is large and aligned enough for the enabled components.
        unsafe {
            if low == 0 {
                asm!("fxsave64 [{}]", in(reg) self.0.as_ptr(), options(nostack, preserves_flags));
            } else if HAS_XSAVEOPT.load(Ordering::Relaxed) {
                asm!("xsaveopt64 [{}]", in(reg) self.0.as_ptr(), in("eax") low, in("edx") high,
                     options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) self.0.as_ptr(), in("eax") low, in("edx") high,
                     options(nostack, preserves_flags));
            }
        }
    }

    /// Loads the CPU's registers from here.
    #[inline]
    pub fn load(&self) {
        let (low, high) = halves(components());
        // SAFETY: every writer of an area is save, a copy of one, or was sanitised.
        unsafe {
            if low == 0 {
                asm!("fxrstor64 [{}]", in(reg) self.0.as_ptr(), options(readonly, nostack, preserves_flags));
            } else {
                asm!("xrstor64 [{}]", in(reg) self.0.as_ptr(), in("eax") low, in("edx") high,
                     options(readonly, nostack, preserves_flags));
            }
        }
    }

    /// The application's complete state at `frame`, a frame of the running thread: what the CPU holds, with the
    /// registers saved at entry put in their place.
    pub fn capture(&mut self, frame: &TrapFrame) {
        // Not xsaveopt: it may skip what it believes is in memory already, and this is not where it saved last.
        let (low, high) = halves(components());
        // SAFETY: as in save.
        unsafe {
            if low == 0 {
                asm!("fxsave64 [{}]", in(reg) self.0.as_ptr(), options(nostack, preserves_flags));
            } else {
                asm!("xsave64 [{}]", in(reg) self.0.as_ptr(), in("eax") low, in("edx") high,
                     options(nostack, preserves_flags));
            }
        }
        let from = saved_part(frame);
        let bytes = self.bytes_mut();
        bytes[from.clone()].copy_from_slice(&frame.fx.0[from]);
        if let Some(header) = bytes.get_mut(HEADER) {
            header[0] |= if frame.is_syscall() { 2 } else { COMPONENTS_LEGACY as u8 };
        }
    }

    /// Makes this the application's state: after the running thread returns through `frame`, it has these registers.
    pub fn apply(&self, frame: &mut TrapFrame) {
        self.load();
        // What the area omits as "initial" is in the registers now but not in the image: read it back from them.
        let mut image = FxImage([0; 512]);
        // SAFETY: the image is 16-aligned and 512 bytes long.
        unsafe { asm!("fxsave64 [{}]", in(reg) &mut image, options(nostack, preserves_flags)) };
        let part = saved_part(frame);
        frame.fx.0[part.clone()].copy_from_slice(&image.0[part]);
    }
}

impl Drop for FpuArea {
    fn drop(&mut self) {
        if let Some(layout) = Self::layout() {
            // SAFETY: allocated with this layout; the size is constant once CPUs run.
            unsafe { dealloc(self.0.as_ptr(), layout) };
        }
    }
}

/// Which bytes of its FXSAVE image a frame carries.
fn saved_part(frame: &TrapFrame) -> core::ops::Range<usize> {
    if frame.is_syscall() { crate::trap::FX_XMM..FX_DEFINED } else { 0..FX_DEFINED }
}

const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Bits of MXCSR that may be set on this CPU.
fn mxcsr_mask() -> u32 {
    const DEFAULT: u32 = 0xffbf;
    let mut image = FxImage([0; 512]);
    // SAFETY: the image is 16-aligned and 512 bytes long.
    unsafe { asm!("fxsave64 [{}]", in(reg) &mut image, options(nostack, preserves_flags)) };
    let mut word = [0; 4];
    word.copy_from_slice(&image.0[FX_MXCSR_MASK..FX_MXCSR_MASK + 4]);
    match u32::from_le_bytes(word) {
        0 => DEFAULT,
        mask => mask,
    }
}

/// Runs kernel code that uses AVX: pre-emption is off meanwhile, and the upper halves are afterwards what they were. Not
/// for interrupt handlers.
pub fn with_wide_registers(work: &mut dyn FnMut()) {
    let mut upper = UpperHalves::new();
    crate::cpu::preempt_disable();
    upper.save();
    work();
    upper.load();
    crate::cpu::preempt_enable();
}

/// Whether [`with_wide_registers`] can keep what this machine has.
pub fn can_widen() -> bool {
    components() & COMPONENTS_UPPER != 0 && area_size() <= size_of::<UpperHalves>()
}

/// What AVX instructions destroy beside the XMM registers, in XSAVE's standard format.
#[repr(C, align(64))]
struct UpperHalves([MaybeUninit<u8>; UPPER_SIZE]);

impl UpperHalves {
    /// Nothing saved: only the header is initialised, of which the CPU wants most to be zero.
    fn new() -> Self {
        let mut area = Self([const { MaybeUninit::uninit() }; UPPER_SIZE]);
        area.0[HEADER].fill(MaybeUninit::new(0));
        area
    }

    /// Not XSAVEOPT, which may skip what it believes is here already: this is another place each time.
    #[inline]
    fn save(&mut self) {
        // SAFETY: the area is aligned, and large enough for all enabled components (`can_widen`).
        unsafe {
            asm!("stmxcsr [{0} + {1}]", "xsave64 [{0}]", in(reg) &raw mut self.0, const FX_MXCSR,
                 in("eax") COMPONENTS_UPPER as u32, in("edx") 0, options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn load(&self) {
        // SAFETY: saved before, with the same components; XMM registers are not among them.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) &raw const self.0, in("eax") COMPONENTS_UPPER as u32, in("edx") 0,
                 options(nostack, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitise_clears_reserved_bits() {
        let mut area = FpuArea::new().expect("memory");
        area.bytes_mut()[FX_MXCSR..FX_MXCSR + 4].fill(0xff);
        area.sanitise();
        let mut word = [0; 4];
        word.copy_from_slice(&area.bytes()[FX_MXCSR..FX_MXCSR + 4]);
        assert_eq!(u32::from_le_bytes(word) & !mxcsr_mask(), 0);
        area.load();
        FpuArea::new().expect("memory").load();
    }

    #[test]
    fn upper_halves_are_what_they_were() {
        #[target_feature(enable = "avx")]
        fn set(value: u64) {
            // SAFETY: the register is declared as changed.
            unsafe {
                asm!("vmovq xmm5, {0}", "vinsertf128 ymm5, ymm5, xmm5, 1", in(reg) value, out("ymm5") _);
            }
        }
        if !std::arch::is_x86_feature_detected!("avx") {
            return;
        }
        let upper: u64;
        let mut area = UpperHalves::new();
        // SAFETY: AVX is there, and every register that changes is declared.
        unsafe {
            set(7);
            area.save();
            set(9);
            area.load();
            asm!("vextractf128 xmm5, ymm5, 1", "vmovq {}, xmm5", out(reg) upper, out("ymm5") _);
        }
        assert_eq!(upper, 7);
    }

    #[test]
    fn frames_of_calls_carry_only_xmm() {
        let mut frame = TrapFrame::new_user(1, 2);
        assert_eq!(saved_part(&frame), 160..416);
        frame.vector = 14;
        assert_eq!(saved_part(&frame), 0..416);
    }
}
