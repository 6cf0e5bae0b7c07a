//! Address spaces: what an application sees as memory.
//!
//! | module | holds |
//! |---|---|
//! | [`vma`] | extents with protection and backing; no page tables |
//! | [`pte`] | page-table entries and the walk of the lower half |
//! | [`pages`] | who refers to a frame: reference counts by frame number |
//! | [`object`] | pages shared between mappings: shared anonymous memory, shared file mappings and their write-back |
//! | [`fault`] | population on demand and copy-on-write |
//! | [`map`] | mmap, munmap, mprotect, mremap, madvise, brk |
//! | [`fork`] | copy-on-write copies of whole spaces |
//! | [`machine`] | the few things needed from the architecture, with a fake for host tests |
//!
//! Locking: one reader-writer lock per space guards its extents. Faults hold it for reading and install entries by
//! compare-and-swap, so that threads fault in parallel; whatever removes mappings holds it for writing, so a page
//! table is never freed under a walker. No lock is held across [`vfs::Vnode::map_page`] or
//! [`vfs::Vnode::write_page`]: a file system that copies to application memory faults here in turn, and would
//! otherwise wait for itself. What was looked up before such a call is looked up again after it.
pub mod fault;
pub mod fork;
pub mod machine;
pub mod map;
pub mod object;
pub mod pages;
pub mod pte;
pub mod vma;

mod core_space;

pub use core_space::{AddressSpace, MemError, Usage};
pub use fault::{Access, FaultResult};
pub use map::{MapPlace, MapRequest, RemapPlace};
pub use object::Object;
pub use vma::{Backing, FileSource, PAGE, Prot, USER_END, USER_START, Vma, VmaFlags, VmaTree};

#[cfg(test)]
mod tests;
