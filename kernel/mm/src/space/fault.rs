//! Population on demand and copy-on-write.
//!
//! Invariant: an entry is writable only if its extent is and the frame is either exclusively this entry's or belongs
//! to a shared object. Everything else about "may this be written in place" follows from the reference count at the
//! moment of the fault.
use super::core_space::AddressSpace;
use super::object::{Object, Supplied};
use super::pte::{Pte, Slot, span};
use super::vma::{Backing, FileSource, PAGE, Prot, Vma, VmaFlags};
use super::{machine, pages};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use vfs::MapAccess;

/// What an instruction wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch.
    Exec,
}

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultResult {
    /// The access can be repeated.
    Done,
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    Unmapped,
    /// The protection forbids it: SIGSEGV, `SEGV_ACCERR`.
    Denied,
    /// Past the end of the file, or its page cannot be read: SIGBUS, `BUS_ADRERR`.
    Bus,
    /// Memory is out.
    NoMemory,
}

/// Largest distance below a growing stack at which a fault still extends it, and its largest size.
const STACK_MAX: u64 = 64 << 20;
/// Space kept free below a growing stack.
const STACK_GAP: u64 = 1 << 20;

/// What one look at the extents decided.
enum Plan {
    Finished(FaultResult),
    Private(FileSource, u64),
    Shared(Arc<Object>, u64),
    Grow,
}

impl AddressSpace {
    /// Makes `access` to `addr` possible, or tells why it is not. Takes locks and may read files.
    pub fn fault(&self, addr: u64, access: Access) -> FaultResult {
        loop {
            match self.plan(addr, access) {
                Plan::Finished(result) => return result,
                Plan::Grow => {
                    if !self.grow_stack(addr) {
                        return FaultResult::Unmapped;
                    }
                }
                Plan::Private(file, offset) => {
                    if let Some(result) = self.fault_private(addr, access, &file, offset) {
                        return result;
                    }
                }
                Plan::Shared(object, index) => {
                    if let Some(result) = self.fault_shared(addr, access, &object, index) {
                        return result;
                    }
                }
            }
        }
    }

    /// Does everything that needs no file; says what file page is needed otherwise.
    fn plan(&self, addr: u64, access: Access) -> Plan {
        let tree = self.tree.read();
        let Some(vma) = tree.find(addr) else {
            let may_grow = tree.find_or_next(addr).is_some_and(|v| {
                v.flags.contains(VmaFlags::GROWSDOWN)
                    && v.start - addr <= STACK_MAX
                    && v.end - addr <= STACK_MAX
            });
            return if may_grow { Plan::Grow } else { Plan::Finished(FaultResult::Unmapped) };
        };
        if !is_allowed(vma.prot, access) {
            return Plan::Finished(FaultResult::Denied);
        }
        let page = addr / PAGE * PAGE;
        if access == Access::Write
            && let Backing::Anonymous = vma.backing
            && let Some(done) = self.try_large(vma, addr)
        {
            return Plan::Finished(done);
        }
        let Some((slot, level)) = self.root.find_or_make(page, 0) else {
            return Plan::Finished(FaultResult::NoMemory);
        };
        let pte = slot.get();
        if level == 1 {
            return Plan::Finished(self.fault_in_large(slot, pte, vma, page, access));
        }
        if pte.has_frame() && !pte.is_present() {
            let is_exec = vma.prot.contains(Prot::EXEC);
            slot.replace(pte, pte.with_rights(true, false, is_exec));
            return Plan::Finished(FaultResult::Done);
        }
        if pte.is_present() {
            return self.fault_present(vma, slot, pte, page, access);
        }
        match &vma.backing {
            Backing::Anonymous => Plan::Finished(self.fill_anonymous(vma, slot, access)),
            Backing::Private { file, offset } => Plan::Private(file.clone(), offset + (page - vma.start)),
            Backing::Shared { object, offset, .. } => {
                Plan::Shared(object.clone(), (offset + (page - vma.start)) / PAGE)
            }
        }
    }

    /// The entry is there: a write to a read-only one, or another thread was faster.
    fn fault_present(&self, vma: &Vma, slot: Slot, pte: Pte, page: u64, access: Access) -> Plan {
        if access == Access::Write && !pte.is_writable() {
            if let Backing::Shared { object, offset, .. } = &vma.backing {
                return Plan::Shared(object.clone(), (offset + (page - vma.start)) / PAGE);
            }
            return Plan::Finished(self.copy_on_write(vma, slot, pte, page));
        }
        if access == Access::Exec && !pte.is_executable() {
            slot.replace(pte, Pte(pte.with_rights(true, true, true).0));
        }
        machine::flush_local(page);
        Plan::Finished(FaultResult::Done)
    }

    fn copy_on_write(&self, vma: &Vma, slot: Slot, pte: Pte, page: u64) -> FaultResult {
        let is_exec = vma.prot.contains(Prot::EXEC);
        let old = pte.frame();
        if pages::is_exclusive(old) {
            slot.replace(pte, Pte::page(old, true, is_exec));
            machine::flush_local(page);
            return FaultResult::Done;
        }
        let is_zero = old == machine::zero_frame();
        let Some(fresh) = pages::alloc(is_zero) else { return FaultResult::NoMemory };
        if !is_zero {
            pages::copy_frame(old, fresh);
        }
        if slot.replace(pte, Pte::page(fresh, true, is_exec)) {
            // Other threads of the process may still read through the old translation.
            self.flush(&(page..page + PAGE));
            pages::release(old);
        } else {
            pages::release(fresh);
        }
        FaultResult::Done
    }

    fn fill_anonymous(&self, vma: &Vma, slot: Slot, access: Access) -> FaultResult {
        let is_exec = vma.prot.contains(Prot::EXEC);
        if access != Access::Write {
            if slot.replace(Pte::NONE, Pte::page(machine::zero_frame(), false, is_exec)) {
                self.nr_resident.fetch_add(1, Ordering::Relaxed);
            }
            return FaultResult::Done;
        }
        let Some(frame) = pages::alloc(true) else { return FaultResult::NoMemory };
        if slot.replace(Pte::NONE, Pte::page(frame, true, is_exec)) {
            self.nr_resident.fetch_add(1, Ordering::Relaxed);
        } else {
            pages::release(frame);
        }
        FaultResult::Done
    }

    /// Populates a whole 2 MiB page, where the extent covers it, nothing in it is populated yet and memory is ample.
    fn try_large(&self, vma: &Vma, addr: u64) -> Option<FaultResult> {
        let start = addr / span(1) * span(1);
        if start < vma.start || start + span(1) > vma.end {
            return None;
        }
        if vma.flags.intersects(VmaFlags::STACK | VmaFlags::NOHUGE | VmaFlags::GROWSDOWN) {
            return None;
        }
        let (slot, 1) = self.root.find_or_make(start, 1)? else { return None };
        if !slot.get().is_none() {
            return None;
        }
        let frame = machine::alloc_large_zeroed()?;
        pages::adopt_large(frame);
        if slot.replace(Pte::NONE, Pte::large(frame, true, vma.prot.contains(Prot::EXEC))) {
            self.nr_resident.fetch_add(512, Ordering::Relaxed);
        } else {
            (0..512).for_each(|i| pages::release(frame + i * PAGE));
        }
        Some(FaultResult::Done)
    }

    /// A fault inside a 2 MiB page. Those are never shared (fork splits them), so a write may simply go ahead.
    fn fault_in_large(&self, slot: Slot, pte: Pte, vma: &Vma, page: u64, access: Access) -> FaultResult {
        let is_exec = vma.prot.contains(Prot::EXEC);
        let next = if access == Access::Write || pte.is_writable() {
            Pte::large(pte.frame(), true, is_exec)
        } else {
            Pte::large(pte.frame(), false, is_exec)
        };
        if pte.is_large() && pte.has_frame() {
            slot.replace(pte, next);
        }
        machine::flush_local(page);
        FaultResult::Done
    }

    /// Brings in a page of a privately mapped file; `None`: look again.
    fn fault_private(
        &self,
        addr: u64,
        access: Access,
        file: &FileSource,
        offset: u64,
    ) -> Option<FaultResult> {
        let source = match file.vnode.map_page(offset, MapAccess::Read) {
            Ok(page) => page,
            Err(e) => return Some(failed(e)),
        };
        let frame = if access == Access::Write {
            let Some(frame) = pages::alloc(false) else { return Some(FaultResult::NoMemory) };
            pages::fill(frame, 0, source.bytes());
            frame
        } else {
            pages::adopt(source)
        };
        let page = addr / PAGE * PAGE;
        let tree = self.tree.read();
        let is_same = tree.find(addr).is_some_and(|v| match &v.backing {
            Backing::Private { file: f, offset: o } => {
                Arc::ptr_eq(&f.vnode, &file.vnode)
                    && o + (page - v.start) == offset
                    && is_allowed(v.prot, access)
            }
            _ => false,
        });
        if is_same && let Some(vma) = tree.find(addr) {
            let Some((slot, _)) = self.root.find_or_make(page, 0) else {
                pages::release(frame);
                return Some(FaultResult::NoMemory);
            };
            let pte = Pte::page(frame, access == Access::Write, vma.prot.contains(Prot::EXEC));
            if slot.replace(Pte::NONE, pte) {
                self.nr_resident.fetch_add(1, Ordering::Relaxed);
                return Some(FaultResult::Done);
            }
        }
        drop(tree);
        pages::release(frame);
        None
    }

    /// Brings in a page of a shared object; `None`: look again.
    fn fault_shared(
        &self,
        addr: u64,
        access: Access,
        object: &Arc<Object>,
        index: u64,
    ) -> Option<FaultResult> {
        let is_write = access == Access::Write;
        let supplied = if is_write { object.supply_write(index) } else { object.supply_read(index) };
        let supplied = match supplied {
            Ok(supplied) => supplied,
            Err(e) => return Some(failed(e)),
        };
        let result = self.install_shared(addr, access, object, index, supplied);
        if result != Some(true) {
            pages::release(supplied.frame);
        }
        match result {
            Some(true) => Some(FaultResult::Done),
            Some(false) => None,
            None => Some(FaultResult::NoMemory),
        }
    }

    /// Whether the entry took the frame; `None` when memory is out.
    fn install_shared(
        &self,
        addr: u64,
        access: Access,
        object: &Arc<Object>,
        index: u64,
        supplied: Supplied,
    ) -> Option<bool> {
        let page = addr / PAGE * PAGE;
        let tree = self.tree.read();
        let Some(vma) = tree.find(addr) else { return Some(false) };
        let is_same = match &vma.backing {
            Backing::Shared { object: o, offset, .. } => {
                Arc::ptr_eq(o, object) && (offset + (page - vma.start)) / PAGE == index
            }
            _ => false,
        };
        if !is_same || !is_allowed(vma.prot, access) {
            return Some(false);
        }
        let (slot, _) = self.root.find_or_make(page, 0)?;
        // Anonymous objects have no one to write back to, so their pages are writable at once.
        let is_writable = (access == Access::Write || (object.file().is_none() && supplied.is_own))
            && vma.prot.contains(Prot::WRITE);
        let new = Pte::page(supplied.frame, is_writable, vma.prot.contains(Prot::EXEC));
        let mut old = Pte::NONE;
        let is_installed = object.install(index, supplied, || {
            old = slot.get();
            slot.replace(old, new)
        });
        if is_installed {
            if old.has_frame() {
                self.flush(&(page..page + PAGE));
                pages::release(old.frame());
            } else {
                self.nr_resident.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(is_installed)
    }

    /// Extends the stack extent above `addr` down to it.
    fn grow_stack(&self, addr: u64) -> bool {
        let mut tree = self.tree.write();
        let page = addr / PAGE * PAGE;
        let Some(vma) = tree.find_or_next(addr) else { return false };
        if vma.start <= page {
            return true;
        }
        if !vma.flags.contains(VmaFlags::GROWSDOWN) || vma.end - page > STACK_MAX {
            return false;
        }
        let grown = Vma { start: page, end: vma.start, ..vma.clone() };
        let below = page.saturating_sub(STACK_GAP)..page;
        if tree.overlapping(&below).next().is_some() {
            return false;
        }
        tree.insert(grown);
        true
    }
}

fn is_allowed(prot: Prot, access: Access) -> bool {
    match access {
        // On x86 whatever may be written or executed may be read.
        Access::Read => !prot.is_empty(),
        Access::Write => prot.contains(Prot::WRITE),
        Access::Exec => prot.contains(Prot::EXEC),
    }
}

fn failed(error: vfs::Error) -> FaultResult {
    if error == vfs::Error::NoMemory { FaultResult::NoMemory } else { FaultResult::Bus }
}
