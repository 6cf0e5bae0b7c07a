//! Cloning: a range of a file becomes that of another file, block by block, without its content being read or copied.
//!
//! Blocks are shared as a whole, so both ranges begin at block boundaries, both files have the same block size, and only
//! a range that reaches the end of its file may end within a block: what lies behind it there is zero, here as well as
//! there. The rules, and where they refuse, are OpenZFS's (`zfs_clone_range`): a program that finds a range cloned
//! there finds it cloned here.
//!
//! Lock order: both files' ranges, the lower (dataset, object) first: two clones in opposite directions would wait for
//! each other otherwise. Within one file both ranges are locked by one request, which covers what lies between them:
//! range locks are fair, and a second request would stand behind whoever waits for the first.
use crate::attrs::Changed;
use crate::error::IntoVfs;
use crate::znode::Znode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::{BlkPtr, Bookmark};
use vfs::{CloneMode, Error, FileType, OFFSET_MAX, RangeGuard, Result};
use zfs::dmu::TxSpace;
use zfs::vdev::Priority;
use zfs::zil::CLONE_BLOCKS_MAX;

/// How often one call waits for the source to reach the disk: its range is locked, so once is what it takes.
const WAITS_MAX: usize = 4;
/// Bytes of a logged clone that are copied in one transaction: those of the largest block, as a logged write may have.
const COPY_MAX: u64 = 16 << 20;

/// A clone that was found to be possible.
struct Clone<'a> {
    from: &'a Znode,
    to: &'a Znode,
    /// Byte offset in `from`.
    source: u64,
    /// Byte offset in `to`.
    target: u64,
    len: u64,
    block_size: u64,
    mode: CloneMode,
}

impl Znode {
    /// Clones `from` of `source` to offset `to`; how many bytes.
    pub(crate) fn clone_from(
        &self,
        to: u64,
        source: &Self,
        from: Range<u64>,
        mode: CloneMode,
    ) -> Result<u64> {
        if self.kind != FileType::Regular || source.kind != FileType::Regular {
            return Err(Error::Invalid);
        }
        let (storage, other) = (self.fs.objset.storage(), source.fs.objset.storage());
        if !Arc::ptr_eq(storage, other) {
            return Err(Error::CrossDevice);
        }
        if !storage.brt().is_enabled() {
            return Err(Error::Unsupported);
        }
        self.fs.check_writable()?;
        self.fs.settle();
        let len = from.end.min(source.size()).saturating_sub(from.start);
        if len == 0 {
            return Ok(0);
        }
        let end = to.checked_add(len).filter(|end| *end <= OFFSET_MAX).ok_or(Error::FileTooLarge)?;
        let range = from.start..from.start + len;
        if self.is_same(source) && range.start < end && to < range.end {
            return Err(Error::Invalid);
        }
        let (_locks, block_size) = self.lock_both(source, to..end, range.clone());
        let len = self.check_clone(source, to, &range, mode)?;
        let clone = Clone { from: source, to: self, source: range.start, target: to, len, block_size, mode };
        let done = clone.run();
        source.fs.accessed(source);
        done
    }

    fn is_same(&self, other: &Self) -> bool {
        self.fs.objset.id() == other.fs.objset.id() && self.id() == other.id()
    }

    /// Locks both ranges, of this file all of it if its block size must become the source's first. Gives that size.
    fn lock_both<'a>(
        &'a self,
        source: &'a Self,
        to: Range<u64>,
        from: Range<u64>,
    ) -> ((RangeGuard<'a>, Option<RangeGuard<'a>>), u64) {
        let place = |znode: &Self| (znode.fs.objset.id(), znode.id());
        let is_source_first = place(source) < place(self);
        loop {
            let sizes = (self.dnode.block_size(), source.dnode.block_size());
            let size = u64::from(sizes.1);
            // Whole blocks: who appends to the last one must not bring content behind the end of what is cloned, nor behind
            // the end of the file that gets it.
            let whole = |range: &Range<u64>| {
                range.start..range.end.checked_next_multiple_of(size.max(1)).unwrap_or(u64::MAX)
            };
            let (from, to) = (whole(&from), if sizes.0 == sizes.1 { whole(&to) } else { 0..u64::MAX });
            let guards = if self.is_same(source) {
                (self.ranges.write(from.start.min(to.start)..from.end.max(to.end)), None)
            } else if is_source_first {
                let read = source.ranges.read(from);
                (read, Some(self.ranges.write(to)))
            } else {
                let write = self.ranges.write(to);
                (source.ranges.read(from), Some(write))
            };
            // A file of one block may have grown until we had the locks.
            if sizes == (self.dnode.block_size(), source.dnode.block_size()) {
                return (guards, size);
            }
        }
    }

    /// Checks sizes and boundaries, under the locks; how much can be cloned.
    fn check_clone(&self, source: &Self, to: u64, from: &Range<u64>, mode: CloneMode) -> Result<u64> {
        let size = u64::from(source.dnode.block_size());
        let own_size = u64::from(self.dnode.block_size());
        let (in_left, out_left) = (source.size().saturating_sub(from.start), self.size().saturating_sub(to));
        let mut len = (from.end - from.start).min(in_left);
        if size != own_size && (size < own_size || self.size() > own_size || self.dnode.max_blkid() > 0) {
            return Err(Error::Invalid);
        }
        let is_aligned = from.start.is_multiple_of(size) && to.is_multiple_of(size);
        if !is_aligned || (to != 0 && !size.is_power_of_two()) {
            return Err(Error::Invalid);
        }
        let is_tail = |len: u64| len.is_multiple_of(size) || (len >= in_left && len >= out_left);
        if !is_tail(len) && mode == CloneMode::Ready {
            len -= len % size;
        }
        if len == 0 || !is_tail(len) {
            return Err(Error::Invalid);
        }
        // A file of one small block would be stuck with that size for ever, however long it grows.
        let record_size = u64::from(self.fs.record_size());
        let outgrows = len <= size && size < record_size && self.size() <= size && to + len > size;
        if outgrows { Err(Error::Invalid) } else { Ok(len) }
    }

    /// Makes the cloned part of a file its own, in one transaction.
    fn clone_chunk(&self, at: u64, len: u64, block_size: u64, pointers: &[BlkPtr]) -> Result<()> {
        let tx = self.fs.begin(TxSpace::clone(pointers.len() as u64, len))?;
        if u64::from(self.dnode.block_size()) != block_size {
            let block_size = u32::try_from(block_size).map_err(|_| Error::Invalid)?;
            self.dnode.set_block_size(&tx, block_size, 0).vfs()?;
        }
        self.dnode.clone_blocks(&tx, at / block_size, pointers).vfs()?;
        let now = self.fs.now();
        self.change(&tx, |a| {
            (a.mtime, a.ctime) = (now, now);
            let mut changed = Changed::MTIME | Changed::CTIME;
            if at + len > a.size {
                a.size = at + len;
                changed |= Changed::SIZE;
            }
            changed
        })
        .vfs()?;
        self.log_clone(&tx, at, len, pointers);
        Ok(())
    }

    /// Clones what a log says. Blocks that are no content of files, or lie nowhere, are refused below.
    pub(crate) fn replay_clone(&self, range: Range<u64>, block_size: u64, pointers: &[u8]) -> Result<()> {
        let len = range.end.saturating_sub(range.start);
        let nr = (pointers.len() / BLKPTR_SIZE) as u64;
        let own_size = u64::from(self.dnode.block_size());
        let fits = self.kind == FileType::Regular
            && range.end <= OFFSET_MAX
            && block_size > 0
            && range.start.is_multiple_of(block_size)
            && len > 0
            && len.div_ceil(block_size) == nr;
        if !fits {
            return Err(Error::Io);
        }
        let parsed: core::result::Result<Vec<BlkPtr>, _> =
            pointers.chunks_exact(BLKPTR_SIZE).map(BlkPtr::from_bytes).collect();
        let pointers = parsed.map_err(|_| Error::Io)?;
        let is_fixed = self.dnode.max_blkid() > 0;
        if block_size < own_size || (is_fixed && block_size != own_size) {
            return self.replay_copy(range.start, len, block_size, &pointers);
        }
        let _all = self.ranges.write(0..u64::MAX);
        self.clone_chunk(range.start, len, block_size, &pointers)
    }
}

impl Znode {
    /// As [`Self::replay_clone`], into a file whose blocks are of another size than when it was cloned: a write that was
    /// logged before with a block that had grown since has made them larger, or `recordsize` was changed while the write was
    /// being done, and the log does not say by which of the two. OpenZFS refuses that, and ends its replay; what the clone
    /// showed is there all the same, held by the log, and is copied.
    fn replay_copy(&self, at: u64, len: u64, block_size: u64, pointers: &[BlkPtr]) -> Result<()> {
        let storage = self.fs.objset.storage();
        if len > COPY_MAX {
            return Err(Error::Io);
        }
        let mut content = Vec::with_capacity(len as usize);
        for (bp, blkid) in pointers.iter().zip(at / block_size..) {
            let wanted = (block_size as usize).min(len as usize - content.len());
            if bp.is_hole() {
                content.resize(content.len() + wanted, 0);
                continue;
            }
            let is_content = bp.is_embedded() || !bp.dmu_type().is_metadata();
            if !is_content || bp.level() != 0 || u64::from(bp.lsize()) != block_size {
                return Err(Error::Io);
            }
            let bookmark = Bookmark::new(self.fs.objset.id(), self.dnode.id(), 0, blkid);
            let block = storage.read_uncached(bp, bookmark, Priority::SyncRead).vfs()?;
            content.extend_from_slice(block.to_contiguous().get(..wanted).ok_or(Error::Io)?);
        }
        self.replay_write(at, &content, u64::MAX)
    }
}

impl Clone<'_> {
    /// In pieces that one record of the intent log can describe.
    fn run(&self) -> Result<u64> {
        let mut done = 0;
        while done < self.len {
            let len = (self.block_size * CLONE_BLOCKS_MAX as u64).min(self.len - done);
            match self.chunk(done, len) {
                Ok(()) => done += len,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn chunk(&self, done: u64, len: u64) -> Result<()> {
        self.to.fs.check_quota(|| self.to.owners(), false)?;
        let first = (self.source + done) / self.block_size;
        let pointers = self.pointers(first, len.div_ceil(self.block_size))?;
        self.to.clone_chunk(self.target + done, len, self.block_size, &pointers)
    }

    fn pointers(&self, first: u64, nr: u64) -> Result<Vec<BlkPtr>> {
        let txgs = self.from.fs.objset.txgs();
        for _ in 0..WAITS_MAX {
            if let Some(pointers) = self.from.dnode.read_pointers(first, nr).vfs()? {
                return Ok(pointers);
            }
            if self.mode == CloneMode::Ready {
                break;
            }
            txgs.wait_synced(txgs.open_txg()).vfs()?;
        }
        Err(Error::WouldBlock)
    }
}
