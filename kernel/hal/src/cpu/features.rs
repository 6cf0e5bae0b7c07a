//! What this CPU can do, and the control bits that depend on it.
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Features the kernel decides by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// XSAVE and XGETBV.
    pub has_xsave: bool,
    /// XSAVEOPT.
    pub has_xsaveopt: bool,
    /// RDFSBASE and its kin.
    pub has_fsgsbase: bool,
    /// Access to the local APIC by register instead of by memory.
    pub has_x2apic: bool,
    /// The local APIC timer takes an absolute TSC value.
    pub has_tsc_deadline: bool,
    /// 1 GiB pages.
    pub has_huge_pages: bool,
    /// Fast `rep movsb`.
    pub has_erms: bool,
    /// RDRAND.
    pub has_rdrand: bool,
    /// RDSEED.
    pub has_rdseed: bool,
    /// RDTSCP.
    pub has_rdtscp: bool,
    /// Runs under a hypervisor that says so.
    pub is_virtual: bool,
    /// That hypervisor is KVM.
    pub is_kvm: bool,
    /// Width of physical addresses in bits.
    pub phys_bits: u8,
}

fn detect() -> Features {
    let leaf1 = __cpuid(1);
    let basic_max = __cpuid(0).eax;
    let leaf7 = if basic_max >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let xsave1 = if basic_max >= 0xd { __cpuid_count(0xd, 1).eax } else { 0 };
    let extended_max = __cpuid(0x8000_0000).eax;
    let ext1 = if extended_max >= 0x8000_0001 { __cpuid(0x8000_0001).edx } else { 0 };
    let ext8 = if extended_max >= 0x8000_0008 { __cpuid(0x8000_0008).eax } else { 36 };
    let bit = |word: u32, n: u32| word >> n & 1 != 0;
    let is_virtual = bit(leaf1.ecx, 31);
    Features {
        has_xsave: bit(leaf1.ecx, 26),
        has_xsaveopt: bit(xsave1, 0),
        has_fsgsbase: bit(leaf7, 0),
        has_x2apic: bit(leaf1.ecx, 21),
        has_tsc_deadline: bit(leaf1.ecx, 24),
        has_huge_pages: bit(ext1, 26),
        has_erms: bit(leaf7, 9),
        has_rdrand: bit(leaf1.ecx, 30),
        has_rdseed: bit(leaf7, 18),
        has_rdtscp: bit(ext1, 27),
        is_virtual,
        is_kvm: is_virtual && hypervisor_is_kvm(),
        phys_bits: ext8 as u8,
    }
}

fn hypervisor_is_kvm() -> bool {
    let leaf = __cpuid(0x4000_0000);
    leaf.ebx.to_le_bytes() == *b"KVMK" && leaf.ecx.to_le_bytes() == *b"VMKV"
}

/// The features, packed: detection costs a dozen CPUID instructions, each an exit to a hypervisor.
static PACKED: AtomicU64 = AtomicU64::new(0);
static IS_DETECTED: AtomicBool = AtomicBool::new(false);

/// The features of the CPUs (taken to be alike).
pub fn features() -> Features {
    if !IS_DETECTED.load(Ordering::Acquire) {
        PACKED.store(pack(&detect()), Ordering::Relaxed);
        IS_DETECTED.store(true, Ordering::Release);
    }
    unpack(PACKED.load(Ordering::Relaxed))
}

fn pack(f: &Features) -> u64 {
    let bits = [
        f.has_xsave,
        f.has_xsaveopt,
        f.has_fsgsbase,
        f.has_x2apic,
        f.has_tsc_deadline,
        f.has_huge_pages,
        f.has_erms,
        f.has_rdrand,
        f.has_rdseed,
        f.has_rdtscp,
        f.is_virtual,
        f.is_kvm,
    ];
    let flags = bits.iter().enumerate().fold(0, |word, (n, &bit)| word | u64::from(bit) << n);
    flags | u64::from(f.phys_bits) << 32
}

fn unpack(word: u64) -> Features {
    let bit = |n: u32| word >> n & 1 != 0;
    Features {
        has_xsave: bit(0),
        has_xsaveopt: bit(1),
        has_fsgsbase: bit(2),
        has_x2apic: bit(3),
        has_tsc_deadline: bit(4),
        has_huge_pages: bit(5),
        has_erms: bit(6),
        has_rdrand: bit(7),
        has_rdseed: bit(8),
        has_rdtscp: bit(9),
        is_virtual: bit(10),
        is_kvm: bit(11),
        phys_bits: (word >> 32) as u8,
    }
}

/// Sets the control bits the features ask for: XSAVE with all state components, FSGSBASE.
pub(super) fn enable_on_this_cpu() {
    const CR4_FSGSBASE: u64 = 1 << 16;
    const CR4_OSXSAVE: u64 = 1 << 18;
    let f = features();
    let mut cr4: u64;
    // SAFETY: adds bits of features this CPU has; neither changes how existing code runs.
    unsafe {
        core::arch::asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags));
        cr4 |= if f.has_fsgsbase { CR4_FSGSBASE } else { 0 };
        cr4 |= if f.has_xsave { CR4_OSXSAVE } else { 0 };
        core::arch::asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
    }
    if f.has_xsave {
        crate::fpu::enable_components();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_field() {
        let all = detect();
        assert_eq!(format!("{all:?}"), format!("{:?}", unpack(pack(&all))));
        let none = Features { phys_bits: 52, has_rdseed: true, ..Features::default() };
        assert_eq!(format!("{none:?}"), format!("{:?}", unpack(pack(&none))));
    }
}
