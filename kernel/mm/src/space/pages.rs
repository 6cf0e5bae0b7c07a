//! Who refers to a frame that applications see: a count per frame number.
//!
//! A frame is either anonymous (it came from the frame allocator and returns there with its last reference) or
//! borrowed from a file system's cache (it carries that cache's reference, which is dropped with the last of ours).
//! Invariant: the count is the number of page-table entries and object slots that name the frame. A frame whose
//! count is 1 belongs to whoever holds that one reference: copy-on-write then needs no copy.
//!
//! The count of a borrowed frame passes through [`BUSY`] while its owner word is set or taken: two processes may map
//! and unmap the same cached page at the same time.
use super::machine;
use abd::PageRef;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

const BUSY: u32 = u32::MAX;

/// What is known of one frame. All zeroes: not seen by any application.
#[derive(Debug)]
pub struct PageInfo {
    nr_refs: AtomicU32,
    /// The cache's reference of a borrowed frame, null for an anonymous one.
    owner: AtomicPtr<()>,
}

impl PageInfo {
    /// Of a frame no one refers to.
    pub const fn new() -> Self {
        Self { nr_refs: AtomicU32::new(0), owner: AtomicPtr::new(core::ptr::null_mut()) }
    }
}

impl Default for PageInfo {
    fn default() -> Self {
        Self::new()
    }
}

/// A fresh anonymous frame with one reference; zeroed if asked.
pub(crate) fn alloc(is_zeroed: bool) -> Option<u64> {
    let frame = if is_zeroed { machine::alloc_zeroed() } else { machine::alloc() }?;
    machine::info(frame).nr_refs.store(1, Ordering::Relaxed);
    Some(frame)
}

/// Marks the 512 frames of a 2 MiB page as having one reference each.
pub(crate) fn adopt_large(frame: u64) {
    for i in 0..512 {
        machine::info(frame + i * 4096).nr_refs.store(1, Ordering::Relaxed);
    }
}

/// A reference to a page of a file system's cache, which stays alive with it.
pub(crate) fn adopt(page: PageRef) -> u64 {
    let frame = machine::virt_to_phys(page.as_ptr());
    let info = machine::info(frame);
    loop {
        match info.nr_refs.load(Ordering::Acquire) {
            0 => {
                if info.nr_refs.compare_exchange(0, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    info.owner.store(page.into_raw().as_ptr(), Ordering::Relaxed);
                    info.nr_refs.store(1, Ordering::Release);
                    return frame;
                }
            }
            BUSY => core::hint::spin_loop(),
            n => {
                if info.nr_refs.compare_exchange(n, n + 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return frame;
                }
            }
        }
    }
}

/// One more reference to a frame the caller has one of.
pub(crate) fn share(frame: u64) {
    if frame != machine::zero_frame() {
        machine::info(frame).nr_refs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the caller's reference is the only one and the frame is anonymous, so that it may be written in place.
pub(crate) fn is_exclusive(frame: u64) -> bool {
    if frame == machine::zero_frame() {
        return false;
    }
    let info = machine::info(frame);
    info.nr_refs.load(Ordering::Acquire) == 1 && info.owner.load(Ordering::Relaxed).is_null()
}

/// Drops a reference.
pub(crate) fn release(frame: u64) {
    if frame == machine::zero_frame() {
        return;
    }
    let info = machine::info(frame);
    loop {
        let n = info.nr_refs.load(Ordering::Acquire);
        match n {
            BUSY => core::hint::spin_loop(),
            0 => {
                debug_assert!(false, "a frame was released once too often");
                return;
            }
            // Nobody else can reach an anonymous frame whose only reference is ours.
            1 if info.owner.load(Ordering::Relaxed).is_null() => {
                info.nr_refs.store(0, Ordering::Release);
                fence(Ordering::Acquire);
                return machine::free(frame);
            }
            1 => {
                if info.nr_refs.compare_exchange(1, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return release_last(frame, info);
                }
            }
            _ => {
                if info.nr_refs.compare_exchange(n, n - 1, Ordering::Release, Ordering::Relaxed).is_ok() {
                    return;
                }
            }
        }
    }
}

/// Gives a borrowed frame's page back to its cache.
fn release_last(frame: u64, info: &PageInfo) {
    let owner = info.owner.swap(core::ptr::null_mut(), Ordering::Relaxed);
    fence(Ordering::AcqRel);
    // SAFETY: the owner word was set from into_raw of a page at this frame (adopt) and is taken once: the count went
    // through BUSY, which one thread at a time can set.
    let page = NonNull::new(owner).map(|raw| unsafe { PageRef::from_raw(raw, machine::phys_to_virt(frame)) });
    info.nr_refs.store(0, Ordering::Release);
    drop(page);
}

/// Copies a frame's content to another.
pub(crate) fn copy_frame(from: u64, to: u64) {
    // SAFETY: both are whole frames in the linear map, distinct, and `to` is not mapped anywhere yet. The source may
    // be written by the application meanwhile; it gets the tearing it asked for.
    unsafe {
        core::ptr::copy_nonoverlapping(machine::phys_to_virt(from), machine::phys_to_virt(to), 4096);
    }
}

/// A frame's content as bytes, for a copy out of it. The application may be writing it: each byte is read once.
pub(crate) fn snapshot(frame: u64, out: &mut [u8; 4096]) {
    // SAFETY: a whole frame in the linear map; `out` is ours. See copy_frame for concurrent writers.
    unsafe {
        core::ptr::copy_nonoverlapping(machine::phys_to_virt(frame).cast_const(), out.as_mut_ptr(), 4096);
    }
}

/// Fills part of a frame.
pub(crate) fn fill(frame: u64, offset: usize, bytes: &[u8]) {
    let len = bytes.len().min(4096 - offset.min(4096));
    // SAFETY: the part lies inside a whole frame in the linear map that the caller has a reference to.
    unsafe {
        core::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            machine::phys_to_virt(frame).add(offset.min(4096)),
            len,
        );
    }
}

/// Whether the frame belongs to a file system's cache.
pub(crate) fn is_borrowed(frame: u64) -> bool {
    frame != machine::zero_frame() && !machine::info(frame).owner.load(Ordering::Relaxed).is_null()
}
