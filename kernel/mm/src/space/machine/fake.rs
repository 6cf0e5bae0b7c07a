//! Host memory as frames.
use crate::space::pages::PageInfo;
use std::collections::HashMap;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// Frames handed out and not given back, to find leaks.
static NR_LIVE: AtomicIsize = AtomicIsize::new(0);

pub(crate) fn nr_live() -> isize {
    NR_LIVE.load(Ordering::SeqCst)
}

fn layout(size: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(size, size).unwrap()
}

pub(crate) fn alloc_zeroed() -> Option<u64> {
    NR_LIVE.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the size is not zero.
    Some(unsafe { std::alloc::alloc_zeroed(layout(4096)) } as u64)
}

pub(crate) fn alloc() -> Option<u64> {
    alloc_zeroed()
}

pub(crate) fn alloc_large_zeroed() -> Option<u64> {
    None
}

pub(crate) fn free(frame: u64) {
    NR_LIVE.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: every frame came from alloc_zeroed and is freed once.
    unsafe { std::alloc::dealloc(frame as *mut u8, layout(4096)) }
}

pub(crate) fn phys_to_virt(frame: u64) -> *mut u8 {
    frame as *mut u8
}

pub(crate) fn virt_to_phys(at: *const u8) -> u64 {
    at as u64
}

pub(crate) fn zero_frame() -> u64 {
    static ZERO: OnceLock<u64> = OnceLock::new();
    // SAFETY: the size is not zero.
    *ZERO.get_or_init(|| unsafe { std::alloc::alloc_zeroed(layout(4096)) } as u64)
}

pub(crate) fn info(frame: u64) -> &'static PageInfo {
    static ALL: OnceLock<Mutex<HashMap<u64, &'static PageInfo>>> = OnceLock::new();
    let mut all = ALL.get_or_init(Mutex::default).lock().unwrap();
    all.entry(frame).or_insert_with(|| Box::leak(Box::new(PageInfo::new())))
}

pub(crate) fn copy_kernel_half(_root: u64) {}

pub(crate) fn flush(_root: u64, _start: u64, _end: u64) {}

pub(crate) fn flush_local(_page: u64) {}

pub(crate) fn evict(_root: u64) {}
