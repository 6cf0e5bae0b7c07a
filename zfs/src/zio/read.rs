//! Reads: through the cache, or past it.
use super::decode::decode;
use super::storage::Storage;
use crate::arc::{ArcBuf, Arrival, Fill, Key, Lookup};
use crate::vdev::{IoGroup, Leaf, Priority, ReadIo};
use crate::{Error, Result};
use abd::{Abd, AbdMut};
use alloc::sync::Arc;
use alloc::vec::Vec;
use blockdev::{Complete, Completion, Done};
use core::sync::atomic::{AtomicU64, Ordering};
use ondisk::{BlkPtr, Bookmark};
use rt::SpinLock;

impl Storage {
    /// Reads a block through the cache: verified, decompressed, little-endian. A bad copy is replaced by another, and
    /// rewritten. A hole reads as zeroes of its logical size.
    ///
    /// # Errors
    /// `Io` or `Checksum` when no copy is good (after [`crate::event::Event::Lost`]), `Encrypted`, `Unsupported` for
    /// algorithms that are not built in, `Damaged` when the pointer or the content is impossible.
    pub fn read(&self, bp: &BlkPtr, bookmark: Bookmark, priority: Priority) -> Result<ArcBuf> {
        let Some(key) = Key::of(bp) else { return self.read_without_place(bp) };
        match self.arc.lookup(bp, key) {
            Lookup::Hit(buf) => Ok(buf),
            Lookup::Miss(fill) => fill.finish(self.read_uncached(bp, bookmark, priority)),
            Lookup::Wait(pending) => match pending.wait(|| self.poll()) {
                Arrival::Done(result) => result,
                Arrival::Raw(bytes) => {
                    let fill = self.arc.take_over(key, pending);
                    self.fill_from(fill, bp, Some(bytes), bookmark, priority)
                }
                Arrival::Abandoned => {
                    let fill = self.arc.take_over(key, pending);
                    fill.finish(self.read_uncached(bp, bookmark, priority))
                }
            },
        }
    }

    /// As [`Self::read`], without looking into the cache or leaving anything there.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_uncached(&self, bp: &BlkPtr, bookmark: Bookmark, priority: Priority) -> Result<Abd> {
        if Key::of(bp).is_none() {
            return Ok(self.read_without_place(bp)?.abd().clone());
        }
        let bytes = self.read_physical(bp, bookmark, priority)?;
        decode(bp, bytes)
    }

    /// The bytes of a block as they are stored (compressed, of the writer's byte order), verified. Not through the cache.
    ///
    /// # Errors
    /// As [`Self::read`]; `Invalid` for what has no place of its own (holes, embedded blocks).
    pub fn read_stored(&self, bp: &BlkPtr, bookmark: Bookmark, priority: Priority) -> Result<Abd> {
        if Key::of(bp).is_none() {
            return Err(Error::Invalid);
        }
        self.read_physical(bp, bookmark, priority)
    }

    /// As [`Self::read`] for several blocks: all that are not cached are under way at once, with one wait.
    pub fn read_many(&self, blocks: &[(BlkPtr, Bookmark)], priority: Priority) -> Vec<Result<ArcBuf>> {
        let mut results = Vec::with_capacity(blocks.len());
        let mut rest = blocks;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(bp, _): &&(BlkPtr, Bookmark)| {
                bytes += u64::from(bp.psize());
                bytes <= self.io_bytes_max
            };
            let len = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(len);
            self.read_batch(now, priority, &mut results);
            rest = later;
        }
        results
    }

    fn read_batch(
        &self,
        blocks: &[(BlkPtr, Bookmark)],
        priority: Priority,
        results: &mut Vec<Result<ArcBuf>>,
    ) {
        let base = results.len();
        let group = IoGroup::new();
        let mut leaves: Vec<Arc<Leaf>> = Vec::new();
        let mut fills: Vec<Option<Fill>> = Vec::with_capacity(blocks.len());
        let mut later = Vec::new();
        for (index, (bp, _)) in blocks.iter().enumerate() {
            let lookup = Key::of(bp).map(|key| self.arc.lookup(bp, key));
            let mut fill = None;
            // Whatever is not cached and not simply to be read gets its turn below.
            results.push(Err(Error::Io));
            match lookup {
                Some(Lookup::Hit(buf)) => results[base + index] = Ok(buf),
                Some(Lookup::Miss(duty)) => {
                    fill = Some(duty);
                    self.start_first(bp, priority, &mut leaves, || group.completion(index as u64));
                }
                Some(Lookup::Wait(_)) | None => later.push(index),
            }
            fills.push(fill);
        }
        let mut buffers: Vec<Option<AbdMut>> = blocks.iter().map(|_| None).collect();
        for done in group.wait(leaves.iter().map(|l| &**l)) {
            buffers[done.tag as usize] = done.buf.filter(|_| done.result.is_ok());
        }
        for (index, fill) in fills.into_iter().enumerate() {
            if let Some(fill) = fill {
                let (bp, bookmark) = &blocks[index];
                results[base + index] = self.fill_from(fill, bp, buffers[index].take(), *bookmark, priority);
            }
        }
        for index in later {
            let (bp, bookmark) = &blocks[index];
            results[base + index] = self.read(bp, *bookmark, priority);
        }
    }

    /// Starts reading a block into the cache. Best effort: nothing happens when enough is under way already, or for
    /// blocks that are not simply in one place.
    pub fn prefetch(&self, bp: &BlkPtr, _bookmark: Bookmark) {
        let Some(key) = Key::of(bp).filter(|key| !self.arc.has(key)) else { return };
        let len = u64::from(bp.psize());
        let under_way = self.prefetching.fetch_add(len, Ordering::Relaxed);
        let guard = PrefetchBytes { total: self.prefetching.clone(), len };
        let dva = bp.dva(0);
        let is_plain = !bp.is_gang() && self.in_flight.get(dva.vdev, dva.offset).is_none();
        if under_way + len > self.io_bytes_max || !is_plain {
            return;
        }
        if let Lookup::Miss(fill) = self.arc.lookup(bp, key) {
            let io = PrefetchIo { fill: SpinLock::new(Some((fill, guard))), psize: len as usize };
            let io = Arc::new(io);
            self.start_first(bp, Priority::AsyncRead, &mut Vec::new(), || Completion::new(io, 0));
        }
    }

    /// Verifies and decodes what was read of a block's first copy; if that is not it, reads it with all its copies.
    fn fill_from(
        &self,
        fill: Fill,
        bp: &BlkPtr,
        bytes: Option<AbdMut>,
        bookmark: Bookmark,
        priority: Priority,
    ) -> Result<ArcBuf> {
        let first = bytes.and_then(|b| self.trim(b, bp.psize() as usize)).and_then(|bytes| {
            let bytes = bytes.freeze();
            self.verify(bp, &bytes).ok().map(|()| bytes)
        });
        let data = match first {
            Some(bytes) => self.check(bp).and_then(|()| decode(bp, bytes)),
            None => self.read_uncached(bp, bookmark, priority),
        };
        fill.finish(data)
    }

    /// Starts reading the first copy of a plain block that is not being written; else nothing.
    pub(super) fn start_first(
        &self,
        bp: &BlkPtr,
        priority: Priority,
        leaves: &mut Vec<Arc<Leaf>>,
        done: impl FnOnce() -> Completion,
    ) {
        let dva = bp.dva(0);
        let is_plain =
            !bp.is_gang() && self.check(bp).is_ok() && self.in_flight.get(dva.vdev, dva.offset).is_none();
        let Some((vdev, len)) = self.extent_of(&dva, bp.psize()).filter(|_| is_plain) else { return };
        let attempt = vdev.io().first_attempt(dva.offset, bp.phys_birth());
        vdev.io().read(ReadIo { offset: dva.offset, len, attempt, priority, done: done() });
        for leaf in vdev.io().leaves() {
            if !leaves.iter().any(|l| Arc::ptr_eq(l, leaf)) {
                leaves.push(leaf.clone());
            }
        }
    }

    /// Lets every device report completions.
    fn poll(&self) {
        self.vdevs.poll();
    }

    /// Holes and embedded blocks.
    fn read_without_place(&self, bp: &BlkPtr) -> Result<ArcBuf> {
        let data = if bp.is_hole() { Abd::zeroed(bp.lsize() as usize) } else { super::decode::embedded(bp)? };
        Ok(self.arc.uncached(data))
    }
}

/// Bytes of a read ahead, counted while it is under way.
#[derive(Debug)]
struct PrefetchBytes {
    total: Arc<AtomicU64>,
    len: u64,
}

impl Drop for PrefetchBytes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A read ahead under way.
struct PrefetchIo {
    fill: SpinLock<Option<(Fill, PrefetchBytes)>>,
    psize: usize,
}

impl Complete for PrefetchIo {
    fn complete(&self, done: Done) {
        let taken = self.fill.lock().take();
        let buf = done.buf.filter(|buf| done.result.is_ok() && buf.len() >= self.psize);
        if let (Some((fill, _bytes)), Some(buf)) = (taken, buf) {
            fill.arrived(buf);
        }
    }
}
