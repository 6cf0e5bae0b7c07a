//! Buffers of file-system data: runs of reference-counted pages that cache, devices and mappings share.
//!
//! An [`AbdMut`] is unique and writable. [`AbdMut::freeze`] turns it into an [`Abd`], which is shared, immutable
//! and cheap to clone, slice and concatenate: a buffer that was given to a device write cannot change under it.
//! [`Abd::write_at`] copies on write, page by page: only the pages that someone else still sees are copied.
//!
//! Memory comes in *runs*: one allocation of whole 4 KiB pages, aligned to 4 KiB, physically contiguous where the
//! global allocator is (the kernel's is), with one reference count. Buffers below [`SMALL_MAX`] take exactly their
//! size, aligned to 512, so that a cache full of small blocks does not pay a page for each.
//!
//! Invariants: a run's bytes are written only through a unique reference (count 1); the device that reads or
//! fills a buffer owns (a reference to) it until the completion; all bytes of a run are initialised when it is
//! allocated, so no stale memory can reach the disk (padding is part of every checksum).
#![no_std]

extern crate alloc;

mod buffer;
mod run;

pub use buffer::{Abd, AbdMut};
pub use run::{PAGE_SIZE, PageRef, SMALL_MAX};

#[cfg(test)]
mod tests;
