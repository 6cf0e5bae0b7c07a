//! The bytes of a file: pages by number; a missing page is a hole.
//!
//! Pages are replaced or copied on write, never changed while someone else sees them, so a reader copies out of a
//! page without a lock. Writers are kept apart by the inode's range lock.
use super::{PAGE, RamFs};
use crate::error::{Error, Result};
use crate::io::{ReadSink, WriteSource};
use crate::node::SeekWhat;
use abd::{Abd, AbdMut, PAGE_SIZE, PageRef};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use core::ops::Range;
use rt::RwLock;

#[derive(Default)]
struct Pages {
    size: u64,
    pages: BTreeMap<u64, Abd>,
}

pub(super) struct Data {
    fs: Arc<RamFs>,
    pages: RwLock<Pages>,
}

impl Data {
    pub(super) fn new(fs: Arc<RamFs>) -> Self {
        Self { fs, pages: RwLock::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.pages.read().size
    }

    pub(super) fn nr_pages(&self) -> u64 {
        self.pages.read().pages.len() as u64
    }

    pub(super) fn read(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        let mut done = 0;
        loop {
            let at = offset.saturating_add(done as u64);
            let (page, size) = {
                let pages = self.pages.read();
                (pages.pages.get(&(at / PAGE)).cloned(), pages.size)
            };
            let within = (at % PAGE) as usize;
            let left = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            let n = sink.remaining().min(left).min(PAGE_SIZE - within);
            if n == 0 {
                return Ok(done);
            }
            let put = match &page {
                Some(page) => page.chunks_of(within..within + n).try_for_each(|c| sink.put(c)),
                None => sink.put_zeroes(n),
            };
            match put {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
            }
        }
    }

    pub(super) fn write(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        let mut done = 0;
        while source.remaining() > 0 {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let n = source.remaining().min(PAGE_SIZE - within);
            match self.write_piece(at, within, n, source) {
                Ok(()) => done += n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
            }
        }
        Ok(done)
    }

    fn write_piece(&self, at: u64, within: usize, n: usize, source: &mut dyn WriteSource) -> Result<()> {
        // The source may fault, so it is read without a lock, into a page no one sees yet.
        let mut fresh = AbdMut::zeroed(PAGE_SIZE);
        let old = self.pages.read().pages.get(&(at / PAGE)).cloned();
        let room = fresh.as_mut_slice().ok_or(Error::NoMemory)?;
        if let Some(old) = &old
            && n < PAGE_SIZE
        {
            old.read_at(0, room);
        }
        source.take(&mut room[within..within + n])?;
        if old.is_none() {
            self.fs.take_pages(1)?;
        }
        let mut pages = self.pages.write();
        pages.pages.insert(at / PAGE, fresh.freeze());
        pages.size = pages.size.max(at + n as u64);
        Ok(())
    }

    /// Cuts or extends (with a hole).
    pub(super) fn set_size(&self, size: u64) {
        let mut pages = self.pages.write();
        if size < pages.size {
            let cut = pages.pages.split_off(&size.div_ceil(PAGE));
            self.fs.give_pages(cut.len() as u64);
            pages.zero_tail(size);
        }
        pages.size = size;
    }

    /// Makes whole pages holes and zeroes the rest of the range.
    pub(super) fn punch(&self, range: Range<u64>) {
        let mut pages = self.pages.write();
        let end = range.end.min(pages.size);
        let mut at = range.start;
        while at < end {
            let Some((&number, _)) = pages.pages.range(at / PAGE..).next() else { return };
            let page_start = number * PAGE;
            if page_start >= end {
                return;
            }
            let from = at.max(page_start);
            let to = range.end.min(page_start + PAGE);
            let is_whole = from == page_start && (to == page_start + PAGE || to >= pages.size);
            if is_whole {
                pages.pages.remove(&number);
                self.fs.give_pages(1);
            } else if let Some(page) = pages.pages.get_mut(&number) {
                let within = (from - page_start) as usize..(to - page_start) as usize;
                page.modify(within, |_, piece| piece.fill(0));
            }
            at = page_start + PAGE;
        }
    }

    /// Allocates the missing pages of a range.
    pub(super) fn allocate(&self, range: Range<u64>, keep_size: bool) -> Result<()> {
        if range.end.div_ceil(PAGE) - range.start / PAGE > self.fs.pages_max {
            return Err(Error::NoSpace);
        }
        for number in range.start / PAGE..range.end.div_ceil(PAGE) {
            let mut pages = self.pages.write();
            if let Entry::Vacant(slot) = pages.pages.entry(number) {
                self.fs.take_pages(1)?;
                slot.insert(Abd::zeroed(PAGE_SIZE));
            }
        }
        let mut pages = self.pages.write();
        if !keep_size {
            pages.size = pages.size.max(range.end);
        }
        Ok(())
    }

    pub(super) fn seek(&self, what: SeekWhat, offset: u64) -> Result<u64> {
        let pages = self.pages.read();
        if offset >= pages.size {
            return Err(Error::NoSuchAddress);
        }
        match what {
            SeekWhat::Data => {
                let (number, _) = pages.pages.range(offset / PAGE..).next().ok_or(Error::NoSuchAddress)?;
                let at = offset.max(number * PAGE);
                if at < pages.size { Ok(at) } else { Err(Error::NoSuchAddress) }
            }
            SeekWhat::Hole => {
                let mut number = offset / PAGE;
                while pages.pages.contains_key(&number) {
                    number += 1;
                }
                Ok(offset.max(number * PAGE).min(pages.size))
            }
        }
    }

    pub(super) fn map_page(&self, offset: u64) -> Result<PageRef> {
        let number = offset / PAGE;
        let found = {
            let pages = self.pages.read();
            if offset >= pages.size {
                return Err(Error::NoSuchAddress);
            }
            pages.pages.get(&number).cloned()
        };
        let page = match found {
            Some(page) => page,
            None => {
                self.fs.take_pages(1)?;
                let mut pages = self.pages.write();
                if pages.pages.contains_key(&number) {
                    self.fs.give_pages(1);
                }
                pages.pages.entry(number).or_insert_with(|| Abd::zeroed(PAGE_SIZE)).clone()
            }
        };
        page.page_at(0).ok_or(Error::NoMemory)
    }
}

impl Pages {
    /// Zeroes what lies after `size` in its page: it must read as zeroes when the file grows again.
    fn zero_tail(&mut self, size: u64) {
        let within = (size % PAGE) as usize;
        if within > 0
            && let Some(page) = self.pages.get_mut(&(size / PAGE))
        {
            page.modify(within..PAGE_SIZE, |_, piece| piece.fill(0));
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let nr = self.pages.get_mut().pages.len() as u64;
        self.fs.give_pages(nr);
    }
}
