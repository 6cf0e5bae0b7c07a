//! Physical addresses and the fixed places of the upper half.
//!
//! Invariant: all RAM is mapped at `DIRECT_MAP + physical`, so heap memory converts to physical by subtraction
//! (devices are given such addresses).
use core::fmt;

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
/// Bytes of a large page.
pub const LARGE_PAGE_SIZE: usize = 2 << 20;
/// First address past the application's half (the last page below the hole stays unmapped, as on Linux).
pub const USER_END: usize = 0x0000_7fff_ffff_f000;
/// Where physical address 0 is mapped.
pub const DIRECT_MAP: usize = 0xffff_8000_0000_0000;
/// Bytes reserved for the direct map.
pub const DIRECT_MAP_SIZE: usize = 1 << 46;
/// Kernel stacks with their guard pages.
pub const STACK_AREA: usize = 0xffff_c000_0000_0000;
/// Where physical address 0 is mapped for the kernel image only.
pub const IMAGE_BASE: usize = 0xffff_ffff_8000_0000;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// Its place in the direct map.
    pub const fn to_virt(self) -> *mut u8 {
        (DIRECT_MAP + self.0 as usize) as *mut u8
    }

    /// The physical address behind an address of the direct map or of the kernel image; `None` for others.
    pub fn of_virt(virt: usize) -> Option<Self> {
        if virt >= IMAGE_BASE {
            Some(Self((virt - IMAGE_BASE) as u64))
        } else if (DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_SIZE).contains(&virt) {
            Some(Self((virt - DIRECT_MAP) as u64))
        } else {
            None
        }
    }

    /// Number of its page.
    pub const fn pfn(self) -> usize {
        (self.0 >> 12) as usize
    }

    /// The first byte of page `pfn`.
    pub const fn from_pfn(pfn: usize) -> Self {
        Self((pfn as u64) << 12)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phys {:#x}", self.0)
    }
}
