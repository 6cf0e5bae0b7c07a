//! Content: reading, writing, cutting, punching, mapping.
//!
//! Reads and writes hold the range lock of what they touch and nothing wider, so they run in parallel unless they
//! overlap. The whole file is locked only to change its size by truncation, and while its single block still grows
//! (from 512 bytes up to the record size).
//!
//! Invariant: bytes between the end of the file and the end of its last block are zero, so extending a file never
//! shows what was cut off.
use crate::attrs::{Attrs, Changed, flags};
use crate::error::{IntoVfs, to_vfs};
use crate::quota::Account;
use crate::znode::{Znode, valid_time};
use abd::{PAGE_SIZE, PageRef};
use core::ops::Range;
use ondisk::zil_record::AttrBlock;
use vfs::{
    Error, FallocateMode, FileType, OFFSET_MAX, RangeGuard, ReadSink, Result, SeekWhat, SetAttr, SetTime,
    SliceSource, TimeSpec, WriteSource,
};
use zfs::dmu::{DmuTx, Piece, Seek, TxSpace};

/// Bytes written in one transaction: long enough to make its cost vanish, short enough not to hold a group open.
const CHUNK: u64 = 1 << 20;

impl Znode {
    fn check_regular(&self) -> Result<()> {
        match self.kind {
            FileType::Regular => Ok(()),
            FileType::Directory => Err(Error::IsDirectory),
            _ => Err(Error::Invalid),
        }
    }

    pub(crate) fn read_at(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        self.check_regular()?;
        let wanted = sink.remaining() as u64;
        if wanted == 0 || offset >= self.size() {
            return Ok(0);
        }
        let done = {
            let _range = self.ranges.read(offset..offset.saturating_add(wanted));
            // Only now is the size sure not to shrink below what is read.
            let len = self.size().saturating_sub(offset).min(wanted) as usize;
            let mut done = 0;
            let result = self.dnode.read(offset, len, &mut |piece| {
                let (n, put) = match piece {
                    Piece::Data(bytes) => (bytes.len(), sink.put(bytes)),
                    Piece::Zeroes(n) => (n, sink.put_zeroes(n)),
                };
                put.map_err(|_| zfs::Error::Fault)?;
                done += n;
                Ok(())
            });
            match result {
                Err(e) if done == 0 => return Err(to_vfs(e)),
                _ => done,
            }
        };
        self.fs.accessed(self);
        Ok(done)
    }

    pub(crate) fn write_at(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        self.check_regular()?;
        self.fs.check_writable()?;
        let len = source.remaining() as u64;
        if len == 0 {
            return Ok(0);
        }
        let end = offset.checked_add(len).filter(|end| *end <= OFFSET_MAX).ok_or(Error::FileTooLarge)?;
        self.fs.settle();
        let _range = self.lock_write(offset..end);
        self.write_locked(offset, source)
    }

    pub(crate) fn append_all(&self, source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        self.check_regular()?;
        self.fs.check_writable()?;
        self.fs.settle();
        let len = source.remaining() as u64;
        loop {
            let offset = self.size();
            if len == 0 {
                return Ok((offset, 0));
            }
            if offset.checked_add(len).is_none_or(|end| end > OFFSET_MAX) {
                return Err(Error::FileTooLarge);
            }
            let _range = if self.must_grow(offset + len) {
                self.ranges.write(0..u64::MAX)
            } else {
                self.ranges.write(offset..u64::MAX)
            };
            // Whoever changes the size holds a range that overlaps ours.
            if self.size() == offset {
                return self.write_locked(offset, source).map(|n| (offset, n));
            }
        }
    }

    /// Whether writing up to `end` changes the block size.
    fn must_grow(&self, end: u64) -> bool {
        self.dnode.max_blkid() == 0 && self.grown_size(end) != self.dnode.block_size()
    }

    /// The block size for a file of one block that is to hold `end` bytes.
    fn grown_size(&self, end: u64) -> u32 {
        let (now, max) = (self.dnode.block_size(), self.fs.record_size());
        let is_final = now.is_power_of_two() && now >= max;
        if end <= u64::from(now) || is_final {
            return now;
        }
        // A block that was allowed to be larger once, of odd size, cannot have others beside it.
        let max = if now > max { now.next_power_of_two() } else { max };
        u32::try_from(end.next_multiple_of(512)).unwrap_or(max).min(max)
    }

    fn lock_write(&self, range: Range<u64>) -> RangeGuard<'_> {
        if self.must_grow(range.end) { self.ranges.write(0..u64::MAX) } else { self.ranges.write(range) }
    }

    /// Writes under a lock of the range, or of the whole file if its block must grow.
    fn write_locked(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        let end = offset + source.remaining() as u64;
        let mut at = offset;
        while at < end {
            let n = (CHUNK - at % CHUNK).min(end - at);
            let may = self.fs.check_quota(|| self.owners(), false);
            let result = may.and_then(|()| self.write_chunk(at, n as usize, (end, u64::MAX), source));
            match result {
                Ok(written) => {
                    at += written as u64;
                    if (written as u64) < n {
                        break;
                    }
                }
                Err(e) if at == offset => return Err(e),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    /// Writes `n` bytes, of a write that goes on to `end`, in one transaction. The size grows no further than `limit`.
    pub(crate) fn write_chunk(
        &self,
        at: u64,
        n: usize,
        (end, limit): (u64, u64),
        source: &mut dyn WriteSource,
    ) -> Result<usize> {
        let grows_to = self.must_grow(end).then(|| self.grown_size(end));
        let block_size = grows_to.unwrap_or_else(|| self.dnode.block_size());
        let tx = self.fs.begin(TxSpace::write_range(at, n as u64, block_size))?;
        if let Some(size) = grows_to {
            self.dnode.set_block_size(&tx, size, 0).vfs()?;
        }
        let written = self
            .dnode
            .write(&tx, at, n, &mut |piece| source.take(piece).map_err(|_| zfs::Error::Fault))
            .vfs()?;
        let now = self.fs.now();
        let reached = (at + written as u64).min(limit);
        self.change(&tx, |a| {
            (a.mtime, a.ctime) = (now, now);
            let mut changed = Changed::MTIME | Changed::CTIME;
            if reached > a.size {
                a.size = reached;
                changed |= Changed::SIZE;
            }
            changed
        })
        .vfs()?;
        self.log_write(&tx, at, written as u64);
        Ok(written)
    }

    /// Whose accounts it counts in.
    pub(crate) fn owners(&self) -> [(Account, u64); 3] {
        let a = self.attrs.lock();
        [(Account::User, a.uid), (Account::Group, a.gid), (Account::Project, a.project)]
    }

    /// A file is given only to those who have room for it.
    fn check_new_owner(&self, set: &SetAttr) -> Result<()> {
        let [(_, uid), (_, gid), _] = self.owners();
        let change = |account: Account, old: u64, new: Option<u32>| match new.map(u64::from) {
            Some(new) if new != old => self.fs.check_quota(|| [(account, new); 3], true),
            _ => Ok(()),
        };
        change(Account::User, uid, set.uid)?;
        change(Account::Group, gid, set.gid)
    }

    /// Changes attributes, the size among them, in one transaction.
    pub(crate) fn set_attributes(&self, set: &SetAttr) -> Result<()> {
        self.set_attributes_and(set, None)
    }

    /// As [`Self::set_attributes`], with the optional attributes of a log record in the same transaction.
    pub(crate) fn set_attributes_and(&self, set: &SetAttr, optional: Option<&AttrBlock>) -> Result<()> {
        self.fs.check_writable()?;
        self.fs.settle();
        let times = [set.atime, set.mtime].into_iter().flatten().filter_map(|t| match t {
            SetTime::To(t) => Some(t),
            SetTime::Now => None,
        });
        if !times.chain(set.ctime).chain(set.btime).all(valid_time) {
            return Err(Error::Invalid);
        }
        let _all = match set.size {
            Some(size) => {
                self.check_regular()?;
                if size > OFFSET_MAX {
                    return Err(Error::FileTooLarge);
                }
                Some(self.ranges.write(0..u64::MAX))
            }
            None => None,
        };
        let shrinks = set.size.is_some_and(|size| size < self.size());
        let mut space = TxSpace::write(if shrinks { u64::from(self.dnode.block_size()) } else { 0 });
        space.is_net_free = shrinks;
        if set.uid.is_some() || set.gid.is_some() {
            self.check_new_owner(set)?;
        }
        let tx = self.fs.begin(space)?;
        if let Some(size) = set.size.filter(|_| shrinks) {
            self.dnode.free_range(&tx, size, u64::MAX).vfs()?;
        }
        if let Some(perm) = set.perm {
            self.set_acl(&tx, perm)?;
        }
        let now = self.fs.now();
        self.change(&tx, |a| set_named(a, set, self.kind, now)).vfs()?;
        if let Some(optional) = optional {
            self.set_optional(&tx, optional)?;
        }
        let now_has = self.attrs.lock().clone();
        self.log_setattr(&tx, set, &now_has);
        Ok(())
    }

    /// Makes the ACL say what the mode says.
    fn set_acl(&self, tx: &DmuTx, perm: u32) -> Result<()> {
        use zfs::sa::Attr;
        let (count, aces) = crate::acl::trivial(perm, self.is_dir());
        let mut attrs = self.attrs.lock();
        let count = count.to_le_bytes();
        let changes = [(Attr::DaclCount, Some(&count[..])), (Attr::DaclAces, Some(&aces[..]))];
        match self.fs.sa.set(tx, &self.dnode, &changes) {
            Ok(()) => {}
            // The fixed znode of an old file system has its ACL elsewhere.
            Err(zfs::Error::Unsupported) => return Ok(()),
            Err(e) => return Err(to_vfs(e)),
        }
        attrs.find_places(&self.fs.sa, &self.dnode).vfs()
    }

    pub(crate) fn allocate(&self, mode: FallocateMode, range: Range<u64>) -> Result<()> {
        self.check_regular()?;
        self.fs.check_writable()?;
        self.fs.settle();
        if range.end > OFFSET_MAX {
            return Err(Error::FileTooLarge);
        }
        let _all = self.ranges.write(0..u64::MAX);
        let size = self.size();
        let (cleared, keeps_size) = match mode {
            // Copy on write cannot reserve blocks: what does not fit now is refused, the rest is the size.
            FallocateMode::Allocate { keep_size } => {
                self.check_room(range.end - range.start)?;
                (0..0, keep_size)
            }
            FallocateMode::PunchHole => (range.start..range.end.min(size), true),
            FallocateMode::ZeroRange { keep_size } => (range.start..range.end.min(size), keep_size),
        };
        let len = cleared.end.saturating_sub(cleared.start);
        let grows = !keeps_size && range.end > size;
        let space = if len > 0 {
            TxSpace::write(2 * u64::from(self.dnode.block_size())).net_free()
        } else {
            TxSpace::write(0)
        };
        let tx = self.fs.begin(space)?;
        if len > 0 {
            self.dnode.free_range(&tx, cleared.start, len).vfs()?;
        }
        let now = self.fs.now();
        self.change(&tx, |a| {
            (a.mtime, a.ctime) = (now, now);
            let mut changed = Changed::MTIME | Changed::CTIME;
            if grows {
                a.size = range.end;
                changed |= Changed::SIZE;
            }
            changed
        })
        .vfs()?;
        if len > 0 {
            self.log_truncate(&tx, cleared.start, len);
        }
        if grows {
            self.log_size(&tx, range.end);
        }
        Ok(())
    }

    /// Whether so many bytes could be written now, with a tenth for what points to them.
    fn check_room(&self, bytes: u64) -> Result<()> {
        if bytes.saturating_add(bytes / 10) > self.fs.available()? {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    pub(crate) fn seek_to(&self, what: SeekWhat, offset: u64) -> Result<u64> {
        self.check_regular()?;
        let size = self.size();
        if offset >= size {
            return Err(Error::NoSuchAddress);
        }
        match what {
            SeekWhat::Data => match self.dnode.next_offset(offset, Seek::Data).vfs()? {
                Some(at) if at < size => Ok(at),
                _ => Err(Error::NoSuchAddress),
            },
            // The end of the file is a hole.
            SeekWhat::Hole => {
                Ok(self.dnode.next_offset(offset, Seek::Hole).vfs()?.map_or(size, |at| at.min(size)))
            }
        }
    }

    pub(crate) fn page_at(&self, offset: u64) -> Result<PageRef> {
        self.check_regular()?;
        if offset >= self.size() {
            return Err(Error::NoSuchAddress);
        }
        Ok(self.dnode.page(offset).vfs()?.unwrap_or_else(|| self.fs.zero_page()))
    }

    pub(crate) fn write_mapped(&self, offset: u64, page: &[u8]) -> Result<()> {
        self.check_regular()?;
        self.fs.check_writable()?;
        self.fs.settle();
        let _range = self.lock_write(offset..offset.saturating_add(PAGE_SIZE as u64));
        let left = self.size().saturating_sub(offset).min(page.len() as u64) as usize;
        if left == 0 {
            return Ok(());
        }
        let n = self.write_locked(offset, &mut SliceSource::new(&page[..left]))?;
        if n == left { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&self) -> Result<alloc::vec::Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Error::Invalid);
        }
        let size = usize::try_from(self.size()).ok().filter(|n| *n <= PAGE_SIZE).ok_or(Error::Io)?;
        if self.dnode.bonus_kind() == ondisk::DmuType::ZNODE {
            return self.old_target(size);
        }
        let mut target = self.fs.sa.get(&self.dnode, zfs::sa::Attr::Symlink).vfs()?.ok_or(Error::Io)?;
        target.truncate(size);
        Ok(target)
    }

    /// In old file systems a short target follows the znode in the bonus, a long one is content.
    fn old_target(&self, size: usize) -> Result<alloc::vec::Vec<u8>> {
        const ZNODE_SIZE: usize = 264;
        match self.dnode.bonus_vec().get(ZNODE_SIZE..ZNODE_SIZE + size) {
            Some(target) => Ok(target.to_vec()),
            None => self.dnode.read_vec(0, size).vfs(),
        }
    }
}

fn resolve(time: SetTime, now: TimeSpec) -> TimeSpec {
    match time {
        SetTime::Now => now,
        SetTime::To(t) => t,
    }
}

/// Gives attributes the values that `set` names.
fn set_named(a: &mut Attrs, set: &SetAttr, kind: FileType, now: TimeSpec) -> Changed {
    let mut changed = Changed::CTIME;
    if let Some(perm) = set.perm {
        a.mode = u64::from(kind.mode_bits() | perm & 0o7777);
        a.flags |= flags::ACL_TRIVIAL;
        a.flags &= !flags::NO_EXECS_DENIED;
        if perm & 0o111 == 0o111 {
            a.flags |= flags::NO_EXECS_DENIED;
        }
        changed |= Changed::MODE | Changed::FLAGS;
    }
    if let Some(uid) = set.uid {
        a.uid = u64::from(uid);
        changed |= Changed::UID;
    }
    if let Some(gid) = set.gid {
        a.gid = u64::from(gid);
        changed |= Changed::GID;
    }
    if let Some(size) = set.size {
        (a.size, a.mtime) = (size, now);
        changed |= Changed::SIZE | Changed::MTIME;
    }
    if let Some(t) = set.atime {
        a.atime = resolve(t, now);
        changed |= Changed::ATIME;
    }
    if let Some(t) = set.mtime {
        a.mtime = resolve(t, now);
        changed |= Changed::MTIME;
    }
    if let Some(t) = set.btime {
        a.crtime = t;
        changed |= Changed::CRTIME;
    }
    a.ctime = set.ctime.unwrap_or(now);
    changed
}
