//! Memory for devices: heap and frames lie in the direct map, so a device address is a difference.
use core::ptr::NonNull;
use hal::addr::PhysAddr;
use mm::frames;
use virtio_blk::dma::{Dma, DmaPages, DmaSlice, PAGE_SIZE};

/// The direct map as the drivers see it.
#[derive(Debug)]
pub struct DirectMapDma;

// SAFETY: frames are contiguous in physical memory and in the direct map, and handed out once; x86 keeps device and
// CPU accesses to cached memory coherent. The global allocator's memory lies in the direct map too: each allocation
// is inside one run of contiguous frames, so all of it is contiguous for the device.
unsafe impl Dma for DirectMapDma {
    fn alloc(&self, nr_pages: usize) -> Option<DmaPages> {
        let first = frames::alloc_pages(nr_pages)?;
        let ptr = NonNull::new(first.to_virt())?;
        // SAFETY: the frames are ours.
        unsafe { ptr.as_ptr().write_bytes(0, nr_pages * PAGE_SIZE) };
        Some(DmaPages { addr: first.0, ptr, nr_pages })
    }

    unsafe fn free(&self, pages: DmaPages) {
        // SAFETY: the caller's promise.
        unsafe { frames::free_pages(PhysAddr(pages.addr), pages.nr_pages) };
    }

    fn slice_of(&self, bytes: &[u8]) -> DmaSlice {
        let Some(at) = PhysAddr::of_virt(bytes.as_ptr() as usize) else {
            panic!("a buffer for a device at {:p} is not in the direct map", bytes.as_ptr())
        };
        DmaSlice { addr: at.0, len: bytes.len() }
    }
}
