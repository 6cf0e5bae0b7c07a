//! mmap, munmap, mprotect, mremap, madvise, brk.
use super::core_space::{AddressSpace, MemError};
use super::fault::{Access, FaultResult};
use super::object::Object;
use super::pages;
use super::pte::{Pte, Slot, span};
use super::vma::{Backing, PAGE, Prot, USER_END, USER_START, Vma, VmaFlags, VmaTree};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapPlace {
    /// Anywhere, or at the hint if that is free.
    Hint(u64),
    /// Here, replacing what is there.
    Fixed(u64),
    /// Here, if nothing is there.
    FixedNoReplace(u64),
}

/// A mapping to make.
#[derive(Debug)]
pub struct MapRequest {
    /// Where.
    pub place: MapPlace,
    /// Bytes; rounded up to pages.
    pub len: u64,
    /// Protection.
    pub prot: Prot,
    /// Flags.
    pub flags: VmaFlags,
    /// Source of its pages.
    pub backing: Backing,
}

/// How mremap may change an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapPlace {
    /// Only in place.
    Stay,
    /// In place, or wherever there is room (`MREMAP_MAYMOVE`).
    Anywhere,
    /// Here (`MREMAP_FIXED`).
    Fixed(u64),
}

/// Where mappings without an address go: below the stack's space.
const MAP_TOP: u64 = USER_END - (1 << 36);

/// `start..start+len` in whole pages inside what applications may map.
fn page_range(start: u64, len: u64) -> Result<Range<u64>, MemError> {
    if !start.is_multiple_of(PAGE) {
        return Err(MemError::Invalid);
    }
    let len = len.checked_next_multiple_of(PAGE).ok_or(MemError::NoMemory)?;
    let end = start.checked_add(len).ok_or(MemError::NoMemory)?;
    if end > USER_END { Err(MemError::NoMemory) } else { Ok(start..end) }
}

impl AddressSpace {
    /// Makes a mapping; where it is.
    ///
    /// # Errors
    /// [`MemError::Invalid`] (no length, address not aligned), [`MemError::NoMemory`] (no room),
    /// [`MemError::Exists`].
    pub fn map(&self, request: MapRequest) -> Result<u64, MemError> {
        let len = request.len.checked_next_multiple_of(PAGE).ok_or(MemError::NoMemory)?;
        if len == 0 {
            return Err(MemError::Invalid);
        }
        if let Backing::Shared { object, .. } = &request.backing {
            object.attach(&self.me);
        }
        let mut tree = self.tree.write();
        let mut replaced = Vec::new();
        let start = match request.place {
            MapPlace::Hint(hint) => place_near(&mut tree, hint / PAGE * PAGE, len)?,
            MapPlace::Fixed(at) => {
                let range = page_range(at, len)?;
                replaced = self.take_out(&mut tree, &range)?;
                at
            }
            MapPlace::FixedNoReplace(at) => {
                let range = page_range(at, len)?;
                if tree.overlapping(&range).next().is_some() {
                    return Err(MemError::Exists);
                }
                at
            }
        };
        let (prot, flags) = (request.prot, request.flags);
        tree.insert(Vma { start, end: start + len, prot, flags, backing: request.backing });
        drop(tree);
        self.let_go(replaced);
        Ok(start)
    }

    /// Removes all mappings in a range.
    ///
    /// # Errors
    /// [`MemError::Invalid`].
    pub fn unmap(&self, start: u64, len: u64) -> Result<(), MemError> {
        let range = page_range(start, len).map_err(|_| MemError::Invalid)?;
        if range.is_empty() {
            return Err(MemError::Invalid);
        }
        let mut tree = self.tree.write();
        let gone = self.take_out(&mut tree, &range)?;
        drop(tree);
        self.let_go(gone);
        Ok(())
    }

    /// Takes extents and entries of `range` out.
    fn take_out(&self, tree: &mut VmaTree, range: &Range<u64>) -> Result<Vec<Vma>, MemError> {
        self.split_edges(range)?;
        let gone = tree.remove(range);
        for vma in &gone {
            self.zap(vma.start..vma.end, None);
        }
        Ok(gone)
    }

    /// Ends removed extents, outside of all locks: what was written through shared ones goes to the file.
    fn let_go(&self, gone: Vec<Vma>) {
        for vma in &gone {
            let Backing::Shared { object, offset, .. } = &vma.backing else { continue };
            if object.write_back(*offset..offset + vma.len()).is_err() {
                log::error!("a page changed through a mapping could not be written back");
            }
        }
    }

    /// Changes the protection of a range.
    ///
    /// # Errors
    /// [`MemError::NoMemory`] when part of it is not mapped, [`MemError::Access`], [`MemError::Invalid`].
    pub fn protect(&self, start: u64, len: u64, prot: Prot) -> Result<(), MemError> {
        let range = page_range(start, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let mut tree = self.tree.write();
        if !tree.covers(&range) {
            return Err(MemError::NoMemory);
        }
        let is_forbidden = |v: &Vma| matches!(v.backing, Backing::Shared { may_write: false, .. });
        if prot.contains(Prot::WRITE) && tree.overlapping(&range).any(is_forbidden) {
            return Err(MemError::Access);
        }
        self.split_edges(&range)?;
        tree.update(&range, |v| v.prot = prot);
        let mut is_changed = false;
        self.root.for_each(range.start, range.end, &mut |_, slot: Slot, _| {
            loop {
                let pte = slot.get();
                let keeps_write = prot.contains(Prot::WRITE);
                let next = pte.with_rights(!prot.is_empty(), keeps_write, prot.contains(Prot::EXEC));
                if pte == next || slot.replace(pte, next) {
                    is_changed |= pte != next;
                    break;
                }
            }
        });
        if is_changed {
            self.flush(&range);
        }
        Ok(())
    }

    /// Grows, shrinks or moves a mapping; where it is then.
    ///
    /// # Errors
    /// [`MemError::Fault`] when the old range is not one mapping, [`MemError::NoMemory`], [`MemError::Invalid`].
    pub fn remap(&self, old: u64, old_len: u64, new_len: u64, place: RemapPlace) -> Result<u64, MemError> {
        let old_range = page_range(old, old_len)?;
        let new_len = new_len.checked_next_multiple_of(PAGE).ok_or(MemError::NoMemory)?;
        if new_len == 0 {
            return Err(MemError::Invalid);
        }
        let old_len = old_range.end - old_range.start;
        let mut tree = self.tree.write();
        let vma = tree.find(old).cloned().ok_or(MemError::Fault)?;
        if vma.end < old_range.end || vma.flags.contains(VmaFlags::SPECIAL) {
            return Err(MemError::Fault);
        }
        let mut gone = Vec::new();
        let at = match place {
            RemapPlace::Fixed(at) => {
                let target = page_range(at, new_len)?;
                if target.start < old_range.end && old_range.start < target.end {
                    return Err(MemError::Invalid);
                }
                gone = self.take_out(&mut tree, &target)?;
                if new_len < old_len {
                    gone.extend(self.take_out(&mut tree, &(old + new_len..old_range.end))?);
                }
                self.move_extent(&mut tree, &vma, old..old + old_len.min(new_len), at, new_len)?;
                at
            }
            _ if new_len <= old_len => {
                if new_len < old_len {
                    gone = self.take_out(&mut tree, &(old + new_len..old_range.end))?;
                }
                old
            }
            _ if self.grow_in_place(&mut tree, &vma, &old_range, new_len) => old,
            RemapPlace::Stay => return Err(MemError::NoMemory),
            RemapPlace::Anywhere => {
                let at = place_near(&mut tree, 0, new_len)?;
                self.move_extent(&mut tree, &vma, old_range, at, new_len)?;
                at
            }
        };
        drop(tree);
        self.let_go(gone);
        Ok(at)
    }

    fn grow_in_place(&self, tree: &mut VmaTree, vma: &Vma, old: &Range<u64>, new_len: u64) -> bool {
        let Some(end) = old.start.checked_add(new_len).filter(|e| *e <= USER_END) else { return false };
        if vma.end != old.end || tree.overlapping(&(old.end..end)).next().is_some() {
            return false;
        }
        let Some(tail) = extended(vma, old.start, new_len).clip(&(old.end..end)) else { return false };
        tree.insert(tail);
        true
    }

    /// Moves the extent part `from` with its entries to `at`, where it becomes `new_len` long.
    fn move_extent(
        &self,
        tree: &mut VmaTree,
        vma: &Vma,
        from: Range<u64>,
        at: u64,
        new_len: u64,
    ) -> Result<(), MemError> {
        self.split_edges(&from)?;
        let mut large = Vec::new();
        let mut entries = Vec::new();
        self.root.for_each(from.start, from.end, &mut |page, _, level| {
            if level == 1 {
                large.push(page);
            }
        });
        if !large.into_iter().all(|page| self.root.split_large(page)) {
            return Err(MemError::NoMemory);
        }
        self.root.for_each(from.start, from.end, &mut |page, slot: Slot, _| entries.push((page, slot)));
        // All tables first, so that nothing can fail half-way.
        let targets: Option<Vec<_>> =
            entries.iter().map(|(page, _)| self.root.find_or_make(page - from.start + at, 0)).collect();
        let targets = targets.ok_or(MemError::NoMemory)?;
        for ((_, slot), (target, _)) in entries.iter().zip(targets) {
            target.swap(slot.swap(Pte::NONE));
        }
        self.flush(&from);
        tree.remove(&from);
        let moved = extended(vma, from.start, new_len);
        tree.insert(Vma { start: at, end: at + new_len, ..moved });
        Ok(())
    }

    /// Drops the content of private pages in a range; they read as the file or as zeroes again.
    ///
    /// # Errors
    /// [`MemError::NoMemory`] when part of it is not mapped, [`MemError::Invalid`].
    pub fn discard(&self, start: u64, len: u64) -> Result<(), MemError> {
        let range = page_range(start, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let tree = self.tree.write();
        self.split_edges(&range)?;
        let mut is_whole = true;
        let mut at = range.start;
        for vma in tree.overlapping(&range) {
            is_whole &= vma.start <= at;
            at = vma.end;
            self.zap(vma.start.max(range.start)..vma.end.min(range.end), None);
        }
        if is_whole && at >= range.end { Ok(()) } else { Err(MemError::NoMemory) }
    }

    /// Sets or clears flags of the extents in a range.
    ///
    /// # Errors
    /// [`MemError::NoMemory`] when part of it is not mapped, [`MemError::Invalid`].
    pub fn set_flags(&self, start: u64, len: u64, flags: VmaFlags, is_on: bool) -> Result<(), MemError> {
        let range = page_range(start, len)?;
        let mut tree = self.tree.write();
        if !tree.covers(&range) {
            return Err(MemError::NoMemory);
        }
        tree.update(&range, |v| v.flags.set(flags, is_on));
        Ok(())
    }

    /// The shared object behind an address and the byte of it that is there.
    pub fn shared_place(&self, addr: u64) -> Option<(u64, u64)> {
        match self.tree.read().find(addr) {
            Some(Vma { start, backing: Backing::Shared { object, offset, .. }, .. }) => {
                Some((object.id(), offset + (addr - start)))
            }
            _ => None,
        }
    }

    /// Whether every byte of a range is mapped.
    pub fn is_mapped(&self, start: u64, len: u64) -> bool {
        page_range(start / PAGE * PAGE, len).is_ok_and(|range| self.tree.read().covers(&range))
    }

    /// Populates what can be populated in a range (`MAP_POPULATE`, `MADV_POPULATE_*`); stops at the first failure.
    pub fn populate(&self, start: u64, len: u64, is_write: bool) -> FaultResult {
        let end = start.saturating_add(len);
        let mut at = start / PAGE * PAGE;
        while at < end {
            let is_there = self.root.find(at, 0).is_some_and(|(slot, _)| {
                let pte = slot.get();
                pte.is_present() && (!is_write || pte.is_writable())
            });
            if !is_there {
                let access = if is_write { Access::Write } else { Access::Read };
                let result = self.fault(at, access);
                if result != FaultResult::Done {
                    return result;
                }
            }
            at += PAGE;
        }
        FaultResult::Done
    }

    /// Which pages of a range are populated, in order.
    pub fn residency(&self, start: u64, len: u64, mut each: impl FnMut(bool)) {
        let _tree = self.tree.read();
        let mut at = start;
        while at < start + len {
            each(self.root.find(at, 0).is_some_and(|(slot, _)| slot.get().has_frame()));
            at += PAGE;
        }
    }

    /// Writes what was changed through shared mappings in a range back to the files.
    ///
    /// # Errors
    /// [`MemError::NoMemory`] when part of it is not mapped, the file system's error, [`MemError::Invalid`].
    pub fn sync(
        &self,
        start: u64,
        len: u64,
        mut each: impl FnMut(&vfs::VnodeRef, Range<u64>),
    ) -> Result<(), MemError> {
        let range = page_range(start, len)?;
        let (parts, is_whole) = {
            let tree = self.tree.read();
            let parts: Vec<_> = tree.overlapping(&range).filter_map(|v| v.clip(&range)).collect();
            (parts, tree.covers(&range))
        };
        for part in &parts {
            if let Backing::Shared { object, offset, .. } = &part.backing {
                let bytes = *offset..offset + part.len();
                object.write_back(bytes.clone()).map_err(MemError::File)?;
                if let Some(file) = object.file() {
                    each(&file.vnode, bytes);
                }
            }
        }
        if is_whole { Ok(()) } else { Err(MemError::NoMemory) }
    }

    /// Calls `each` with the shared objects mapped in a range and the bytes of them that it covers.
    ///
    /// # Errors
    /// [`MemError::Invalid`].
    pub fn for_each_shared(
        &self,
        start: u64,
        len: u64,
        mut each: impl FnMut(&Object, Range<u64>),
    ) -> Result<(), MemError> {
        let range = page_range(start, len)?;
        let parts: Vec<_> = self.tree.read().overlapping(&range).filter_map(|v| v.clip(&range)).collect();
        for part in parts {
            if let Backing::Shared { object, offset, .. } = &part.backing {
                each(object, *offset..offset + part.len());
            }
        }
        Ok(())
    }

    /// Places the heap, empty, at `start`.
    pub fn set_heap(&self, start: u64) {
        let mut heap = self.heap.lock();
        heap.start = start.next_multiple_of(PAGE);
        heap.end = start;
    }

    /// Moves the heap's end to `end` if that is possible; where it is then.
    pub fn brk(&self, end: u64) -> u64 {
        let mut heap = self.heap.lock();
        if end < heap.start {
            return heap.end;
        }
        let (old, new) = (heap.end.next_multiple_of(PAGE).max(heap.start), end.next_multiple_of(PAGE));
        if new > old {
            let request = MapRequest {
                place: MapPlace::FixedNoReplace(old),
                len: new - old,
                prot: Prot::READ | Prot::WRITE,
                flags: VmaFlags::HEAP,
                backing: Backing::Anonymous,
            };
            if self.map(request).is_err() {
                return heap.end;
            }
        } else if new < old && self.unmap(new, old - new).is_err() {
            return heap.end;
        }
        heap.end = end;
        end
    }

    /// Bytes an application could see at `addr`, for checks that must not fault: the frame's reference is taken for
    /// the call.
    pub fn peek(&self, addr: u64, out: &mut [u8]) -> bool {
        let _tree = self.tree.read();
        let mut done = 0;
        let mut content = [0_u8; 4096];
        while done < out.len() {
            let at = addr + done as u64;
            let Some((slot, level)) = self.root.find(at, 0) else { return false };
            let pte = slot.get();
            if !pte.is_present() {
                return false;
            }
            let inner = if level == 1 { at % span(1) / PAGE * PAGE } else { 0 };
            pages::snapshot(pte.frame() + inner, &mut content);
            let from = (at % PAGE) as usize;
            let n = (4096 - from).min(out.len() - done);
            out[done..done + n].copy_from_slice(&content[from..from + n]);
            done += n;
        }
        true
    }

    /// Writes bytes as the application would, populating pages; for spaces that no processor uses yet.
    ///
    /// # Errors
    /// [`MemError::Fault`] where it could not write.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> Result<(), MemError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr + done as u64;
            let entry = self.root.find(at, 0).map(|(slot, level)| (slot.get(), level));
            if let Some((pte, level)) = entry.filter(|(pte, _)| pte.is_writable()) {
                let inner = if level == 1 { at % span(1) / PAGE * PAGE } else { 0 };
                let from = (at % PAGE) as usize;
                let n = (4096 - from).min(bytes.len() - done);
                pages::fill(pte.frame() + inner, from, &bytes[done..done + n]);
                done += n;
            } else if self.fault(at, Access::Write) != FaultResult::Done {
                return Err(MemError::Fault);
            }
        }
        Ok(())
    }

    /// Pages populated now.
    pub fn nr_resident(&self) -> u64 {
        self.nr_resident.load(Ordering::Relaxed).max(0) as u64
    }
}

/// The extent as if it began at `start` and were `len` long.
fn extended(vma: &Vma, start: u64, len: u64) -> Vma {
    let part = vma.clip(&(start..vma.end)).unwrap_or_else(|| vma.clone());
    Vma { end: part.start + len, ..part }
}

/// A free place for `len` bytes: at the hint if that is free, else as high as possible. Large mappings are aligned
/// to large pages, so that they can use them.
fn place_near(tree: &mut VmaTree, hint: u64, len: u64) -> Result<u64, MemError> {
    if hint >= USER_START
        && let Some(end) = hint.checked_add(len)
        && end <= USER_END
        && tree.overlapping(&(hint..end)).next().is_none()
    {
        return Ok(hint);
    }
    let align = if len >= span(1) { span(1) } else { PAGE };
    tree.find_free(len, align, &(USER_START..MAP_TOP)).ok_or(MemError::NoMemory)
}
