//! [`AddressSpace`] itself, and the page-table operations everything else here is made of.
use super::pte::{Pte, Root, Slot};
use super::vma::{PAGE, VmaTree};
use super::{machine, pages};
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use core::sync::atomic::{AtomicI64, Ordering};
use rt::{Mutex, RwLock};
use smallvec::SmallVec;

/// What can go wrong with a memory call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemError {
    /// Out of memory or of address space, or a hole in the range: ENOMEM.
    NoMemory,
    /// A bad argument: EINVAL.
    Invalid,
    /// Not allowed by the way the file was opened: EACCES.
    Access,
    /// The range is taken (`MAP_FIXED_NOREPLACE`): EEXIST.
    Exists,
    /// A bad address: EFAULT.
    Fault,
    /// The file system said so.
    File(vfs::Error),
}

/// Memory in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in all extents.
    pub mapped: u64,
    /// Bytes populated.
    pub resident: u64,
    /// Number of extents.
    pub nr_extents: usize,
}

/// The heap's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heap {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The memory of one process.
#[derive(Debug)]
pub struct AddressSpace {
    pub(crate) root: Root,
    pub(crate) tree: RwLock<VmaTree>,
    pub(crate) heap: Mutex<Heap>,
    /// Pages populated. Signed: a racing decrement may come first.
    pub(crate) nr_resident: AtomicI64,
    pub(crate) me: Weak<Self>,
}

/// Frames taken out of entries, released only after the TLBs have forgotten them.
type Batch = SmallVec<[u64; 64]>;

impl AddressSpace {
    /// An empty space; `None` when memory is out.
    pub fn new() -> Option<Arc<Self>> {
        let root = Root::new()?;
        Some(Arc::new_cyclic(|me| Self {
            root,
            tree: RwLock::new(VmaTree::new()),
            heap: Mutex::default(),
            nr_resident: AtomicI64::new(0),
            me: me.clone(),
        }))
    }

    /// The root table's physical address, for CR3.
    pub fn root_frame(&self) -> u64 {
        self.root.frame()
    }

    /// Memory in use.
    pub fn usage(&self) -> Usage {
        let tree = self.tree.read();
        let resident = self.nr_resident.load(Ordering::Relaxed).max(0) as u64 * PAGE;
        Usage { mapped: tree.total(), resident, nr_extents: tree.len() }
    }

    /// Calls `each` with every extent in order.
    pub fn for_each_vma(&self, mut each: impl FnMut(&super::Vma)) {
        self.tree.read().iter().for_each(&mut each);
    }

    /// Forgets every translation on every CPU that runs in the space; each of those passes a full barrier.
    pub fn flush_all(&self) {
        self.flush(&(0..super::USER_END));
    }

    pub(crate) fn flush(&self, range: &Range<u64>) {
        machine::flush(self.root.frame(), range.start, range.end);
    }

    /// Empties the entries in `range` and releases their frames. Large pages at the edges must have been split.
    pub(crate) fn zap(&self, range: Range<u64>, keep: Option<u64>) {
        self.zap_if(range, |pte| Some(pte.frame()) != keep);
    }

    /// As [`Self::zap`], only for entries whose frame belongs to a file system's cache.
    pub(crate) fn zap_borrowed(&self, range: Range<u64>) {
        self.zap_if(range, |pte| !pte.is_writable() && pages::is_borrowed(pte.frame()));
    }

    fn zap_if(&self, range: Range<u64>, is_victim: impl Fn(Pte) -> bool) {
        let mut batch = Batch::new();
        let mut nr_zapped = 0;
        let mut flush_from = range.start;
        self.root.for_each(range.start, range.end, &mut |at, slot: Slot, level| {
            let pte = slot.get();
            if !pte.has_frame() || !is_victim(pte) || !slot.replace(pte, Pte::NONE) {
                return;
            }
            if level == 1 {
                self.flush(&(at..at + super::pte::span(1)));
                (0..512).for_each(|i| pages::release(pte.frame() + i * PAGE));
                nr_zapped += 512;
                return;
            }
            nr_zapped += 1;
            batch.push(pte.frame());
            if batch.len() == batch.inline_size() {
                self.flush(&(flush_from..at + PAGE));
                batch.drain(..).for_each(pages::release);
                flush_from = at + PAGE;
            }
        });
        if !batch.is_empty() {
            self.flush(&(flush_from..range.end));
            batch.drain(..).for_each(pages::release);
        }
        self.nr_resident.fetch_sub(nr_zapped, Ordering::Relaxed);
    }

    /// Makes every entry in `range` read-only.
    pub(crate) fn write_protect(&self, range: Range<u64>) {
        let mut is_changed = false;
        self.root.for_each(range.start, range.end, &mut |_, slot: Slot, _| {
            loop {
                let pte = slot.get();
                if !pte.is_writable() || slot.replace(pte, pte.read_only()) {
                    is_changed |= pte.is_writable();
                    break;
                }
            }
        });
        if is_changed {
            self.flush(&range);
        }
    }

    /// Splits the large pages that the ends of `range` cut. The caller holds the space exclusively.
    pub(crate) fn split_edges(&self, range: &Range<u64>) -> Result<(), MemError> {
        for at in [range.start, range.end] {
            if !at.is_multiple_of(super::pte::span(1)) && !self.root.split_large(at) {
                return Err(MemError::NoMemory);
            }
        }
        Ok(())
    }
}

#[cfg(not(test))]
impl sched::Space for AddressSpace {
    fn root(&self) -> hal::addr::PhysAddr {
        hal::addr::PhysAddr(self.root.frame())
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // No processor uses the tables any more: a thread keeps its space alive.
        self.root.for_each(0, super::USER_END, &mut |_, slot: Slot, level| {
            let pte = slot.swap(Pte::NONE);
            let nr = if level == 1 { 512 } else { 1 };
            (0..nr).for_each(|i| pages::release(pte.frame() + i * PAGE));
        });
    }
}
