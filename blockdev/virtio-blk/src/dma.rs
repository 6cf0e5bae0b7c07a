//! The memory seam: what the driver needs to know about memory that a device reads and writes.
//!
//! Implemented by the kernel (frames and its linear map) and by the tests (host memory, where the "device" is a
//! thread). There is no IOMMU: a device address is a physical address.
use core::ptr::NonNull;

/// Bytes of a page of DMA memory.
pub const PAGE_SIZE: usize = 4096;

/// Pages that driver and device share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaPages {
    /// Where the device sees them.
    pub addr: u64,
    /// Where the driver sees them.
    pub ptr: NonNull<u8>,
    /// How many.
    pub nr_pages: usize,
}

// SAFETY: a description of memory; who may touch the memory is the holder's business.
unsafe impl Send for DmaPages {}
// SAFETY: as above.
unsafe impl Sync for DmaPages {}

/// A piece of memory as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaSlice {
    /// Address of the first byte.
    pub addr: u64,
    /// Bytes that follow each other from there, at least 1.
    pub len: usize,
}

/// Memory that devices reach.
///
/// # Safety
/// 1. `alloc` returns zeroed pages, aligned to a page, contiguous at `addr` and at `ptr`, readable and writable
///    through `ptr`, referenced by no one else, until `free`. Both sides see each other's stores in order.
/// 2. `slice_of` is truthful: the device's `[addr, addr + len)` is the memory at `bytes[..len]`, as long as that
///    allocation lives.
pub unsafe trait Dma: Send + Sync + 'static {
    /// Pages to share with the device; `None` when memory is short.
    fn alloc(&self, nr_pages: usize) -> Option<DmaPages>;

    /// Takes pages back.
    ///
    /// # Safety
    /// `pages` came from `alloc` of this object, are freed once, and neither driver nor device uses them any more.
    unsafe fn free(&self, pages: DmaPages);

    /// Where the device sees the start of `bytes` (memory of the global allocator, never empty), and how much of
    /// it is contiguous there, at most `bytes.len()`.
    fn slice_of(&self, bytes: &[u8]) -> DmaSlice;
}
