//! Copy-on-write copies of whole spaces.
//!
//! Both sides end with read-only entries for private pages; the first write on either side copies, and the last
//! holder finds itself alone and writes in place. The parent's translations are flushed before the child can run:
//! a thread of the parent that still wrote through an old one would change what the child sees.
use super::core_space::{AddressSpace, MemError};
use super::pages;
use super::pte::{Pte, Slot};
use super::vma::{Backing, USER_END, Vma, VmaFlags};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

impl AddressSpace {
    /// A copy, as fork makes it.
    ///
    /// # Errors
    /// [`MemError::NoMemory`].
    pub fn fork(&self) -> Result<Arc<Self>, MemError> {
        let child = Self::new().ok_or(MemError::NoMemory)?;
        *child.heap.lock() = *self.heap.lock();
        let parent_tree = self.tree.write();
        let mut tree = child.tree.write();
        let mut result = Ok(());
        for vma in parent_tree.iter() {
            if vma.flags.contains(VmaFlags::DONTFORK) {
                continue;
            }
            if let Backing::Shared { object, .. } = &vma.backing {
                object.attach(&child.me);
            }
            tree.insert(vma.clone());
            if !vma.flags.contains(VmaFlags::WIPEONFORK) {
                result = result.and_then(|()| self.copy_entries(&child, vma));
            }
        }
        drop(tree);
        self.flush(&(0..USER_END));
        drop(parent_tree);
        result.map(|()| child)
    }

    fn copy_entries(&self, child: &Self, vma: &Vma) -> Result<(), MemError> {
        self.split_all(vma)?;
        let is_private = !matches!(vma.backing, Backing::Shared { .. });
        let mut is_out = false;
        let mut nr_copied = 0;
        self.root.for_each(vma.start, vma.end, &mut |at, slot: Slot, _| {
            if is_out {
                return;
            }
            let pte = protect(slot, is_private);
            let Some((to, _)) = child.root.find_or_make(at, 0) else {
                is_out = true;
                return;
            };
            pages::share(pte.frame());
            to.swap(pte);
            nr_copied += 1;
        });
        child.nr_resident.fetch_add(nr_copied, Ordering::Relaxed);
        if is_out { Err(MemError::NoMemory) } else { Ok(()) }
    }

    /// Splits every large page of an extent: copy-on-write works on small ones.
    fn split_all(&self, vma: &Vma) -> Result<(), MemError> {
        let mut large = Vec::new();
        self.root.for_each(vma.start, vma.end, &mut |at, _, level| {
            if level == 1 {
                large.push(at);
            }
        });
        for at in large {
            if !self.root.split_large(at) {
                return Err(MemError::NoMemory);
            }
        }
        Ok(())
    }
}

fn protect(slot: Slot, is_private: bool) -> Pte {
    loop {
        let pte = slot.get();
        let next = if is_private { pte.read_only() } else { pte };
        if next == pte || slot.replace(pte, next) {
            return next;
        }
    }
}
