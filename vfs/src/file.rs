//! Open files: a vnode, an offset and flags.
//!
//! The offset has a lock of its own, held across reads and writes that use it, so that two threads reading through
//! one descriptor get different bytes; positioned calls never take it.
use crate::advisory::LockTable;
use crate::attr::{Attr, FileType, SetAttr, without_set_id};
use crate::dentry::DentryRef;
use crate::device::CharDevice;
use crate::error::{Error, Result};
use crate::io::{ReadSink, WriteSource};
use crate::node::{CloneMode, DirEntry, Fsync, SeekWhat, VnodeRef};
use crate::poll::{PollQueue, Pollable, Readiness};
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use rt::{Mutex, Once};

/// Largest offset of a file.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

bitflags::bitflags! {
    /// How a file is open.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Reading is allowed.
        const READ = 1;
        /// Writing is allowed.
        const WRITE = 1 << 1;
        /// Make it if it is not there.
        const CREATE = 1 << 2;
        /// With `CREATE`: it must not be there.
        const EXCLUSIVE = 1 << 3;
        /// Cut it to nothing.
        const TRUNCATE = 1 << 4;
        /// Every write goes to the end.
        const APPEND = 1 << 5;
        /// It must be a directory.
        const DIRECTORY = 1 << 6;
        /// A symbolic link in the last place is an error (with `PATH`: the result).
        const NO_FOLLOW = 1 << 7;
        /// Only a place in the tree: no reading or writing.
        const PATH = 1 << 8;
        /// Each write is durable with all attributes when it returns.
        const SYNC = 1 << 9;
        /// Each write is durable when it returns.
        const DSYNC = 1 << 10;
        /// Calls do not block.
        const NON_BLOCKING = 1 << 11;
        /// Bypass caches; accepted, no effect.
        const DIRECT = 1 << 12;
        /// Reading does not update the access time.
        const NO_ATIME = 1 << 13;
        /// An unnamed file in the directory given.
        const UNNAMED = 1 << 14;
    }
}

impl OpenFlags {
    /// The flags fcntl(F_SETFL) may change.
    pub const CHANGEABLE: Self =
        Self::APPEND.union(Self::NON_BLOCKING).union(Self::DIRECT).union(Self::NO_ATIME);
}

/// Where lseek(2) counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// The start.
    Set,
    /// The offset.
    Current,
    /// The end.
    End,
    /// The next data or hole.
    Next(SeekWhat),
}

/// Open flags that can change while the file is open.
#[derive(Debug)]
pub struct FlagCell(AtomicU32);

impl FlagCell {
    /// As opened.
    pub fn new(flags: OpenFlags) -> Self {
        Self(AtomicU32::new(flags.bits()))
    }

    /// Now.
    pub fn get(&self) -> OpenFlags {
        OpenFlags::from_bits_truncate(self.0.load(Ordering::Relaxed))
    }

    /// Changes the [`OpenFlags::CHANGEABLE`] ones.
    pub fn set(&self, flags: OpenFlags) {
        let kept = self.get() - OpenFlags::CHANGEABLE;
        self.0.store((kept | flags & OpenFlags::CHANGEABLE).bits(), Ordering::Relaxed);
    }

    /// Whether calls do not block.
    pub fn is_nonblocking(&self) -> bool {
        self.get().contains(OpenFlags::NON_BLOCKING)
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An open file description.
pub struct File {
    id: u64,
    dentry: DentryRef,
    vnode: VnodeRef,
    device: Option<Arc<dyn CharDevice>>,
    flags: FlagCell,
    offset: Mutex<u64>,
    /// A change by this opener takes set-id bits away, see [`File::shed_set_id`].
    sheds_set_id: bool,
    /// Set by the first flock or OFD lock: where to release them.
    locks: Once<Arc<LockTable>>,
}

impl File {
    pub(crate) fn new(dentry: DentryRef, device: Option<Arc<dyn CharDevice>>, flags: OpenFlags) -> Arc<Self> {
        Self::new_shedding(dentry, device, flags, false)
    }

    /// A file that was a program with set-id bits when someone other than root opened it for writing.
    pub(crate) fn new_shedding(
        dentry: DentryRef,
        device: Option<Arc<dyn CharDevice>>,
        flags: OpenFlags,
        sheds_set_id: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            vnode: dentry.vnode().clone(),
            dentry,
            device,
            flags: FlagCell::new(flags),
            offset: Mutex::new(0),
            sheds_set_id,
            locks: Once::new(),
        })
    }

    /// Differs between open file descriptions, never reused: the owner of flock and OFD locks.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name it was opened by.
    pub fn dentry(&self) -> &DentryRef {
        &self.dentry
    }

    /// The file.
    pub fn vnode(&self) -> &VnodeRef {
        &self.vnode
    }

    /// The driver, if it is a device.
    pub fn device(&self) -> Option<&Arc<dyn CharDevice>> {
        self.device.as_ref()
    }

    /// How it is open.
    pub fn flags(&self) -> OpenFlags {
        self.flags.get()
    }

    /// The flags themselves.
    pub fn flag_cell(&self) -> &FlagCell {
        &self.flags
    }

    /// Its attributes.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn getattr(&self) -> Result<Attr> {
        self.vnode.getattr()
    }

    fn check(&self, want: OpenFlags) -> Result<OpenFlags> {
        let flags = self.flags();
        if flags.contains(want) && !flags.contains(OpenFlags::PATH) { Ok(flags) } else { Err(Error::BadFile) }
    }

    /// Reads at the offset and moves it.
    ///
    /// # Errors
    /// [`Error::BadFile`] when it is not open for reading; what the file system or driver reports.
    pub fn read(&self, sink: &mut dyn ReadSink) -> Result<usize> {
        let flags = self.check(OpenFlags::READ)?;
        if let Some(device) = &self.device
            && !device.is_seekable()
        {
            return device.read(0, sink, flags.contains(OpenFlags::NON_BLOCKING));
        }
        let mut offset = self.offset.lock();
        let n = self.read_from(*offset, sink, flags)?;
        *offset += n as u64;
        Ok(n)
    }

    /// Reads at `offset`.
    ///
    /// # Errors
    /// As [`File::read`]; [`Error::NotSeekable`].
    pub fn read_at(&self, offset: u64, sink: &mut dyn ReadSink) -> Result<usize> {
        let flags = self.check(OpenFlags::READ)?;
        self.check_positioned()?;
        self.read_from(offset, sink, flags)
    }

    fn read_from(&self, offset: u64, sink: &mut dyn ReadSink, flags: OpenFlags) -> Result<usize> {
        match &self.device {
            Some(device) => device.read(offset, sink, flags.contains(OpenFlags::NON_BLOCKING)),
            None => self.vnode.read(offset, sink),
        }
    }

    /// Writes at the offset, or at the end of a file open for appending, and moves the offset.
    ///
    /// # Errors
    /// [`Error::BadFile`] when it is not open for writing; what the file system or driver reports. With `SYNC` or
    /// `DSYNC`, what makes it not durable.
    pub fn write(&self, source: &mut dyn WriteSource) -> Result<usize> {
        let flags = self.check(OpenFlags::WRITE)?;
        if let Some(device) = &self.device
            && !device.is_seekable()
        {
            return device.write(0, source, flags.contains(OpenFlags::NON_BLOCKING));
        }
        let mut offset = self.offset.lock();
        let (at, n) = self.write_to(*offset, source, flags)?;
        *offset = at + n as u64;
        drop(offset);
        self.sync_written(at, n, flags)
    }

    /// Writes at `offset`; to the end if the file is open for appending, as Linux does.
    ///
    /// # Errors
    /// As [`File::write`]; [`Error::NotSeekable`].
    pub fn write_at(&self, offset: u64, source: &mut dyn WriteSource) -> Result<usize> {
        let flags = self.check(OpenFlags::WRITE)?;
        self.check_positioned()?;
        let (at, n) = self.write_to(offset, source, flags)?;
        self.sync_written(at, n, flags)
    }

    /// Writes at the file's end, whatever the file was opened for, and leaves the offset: where, and how many bytes.
    ///
    /// # Errors
    /// As [`File::write`].
    pub fn append(&self, source: &mut dyn WriteSource) -> Result<(u64, usize)> {
        let flags = self.check(OpenFlags::WRITE)?;
        let (at, n) = self.write_to(0, source, flags | OpenFlags::APPEND)?;
        Ok((at, self.sync_written(at, n, flags)?))
    }

    /// Shares the blocks of a range of another file, as [`crate::Vnode::clone_range`].
    ///
    /// # Errors
    /// As there; [`Error::BadFile`] for files not open for it or for appending; [`Error::Invalid`] for what is no file,
    /// [`Error::IsDirectory`].
    pub fn clone_range(&self, to: u64, source: &Self, from: Range<u64>, mode: CloneMode) -> Result<u64> {
        let flags = self.check(OpenFlags::WRITE)?;
        source.check(OpenFlags::READ)?;
        if flags.contains(OpenFlags::APPEND) {
            return Err(Error::BadFile);
        }
        for file in [self, source] {
            match file.vnode.kind() {
                FileType::Regular => {}
                FileType::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Invalid),
            }
        }
        if self.sheds_set_id {
            self.shed_set_id()?;
        }
        let n = self.vnode.clone_range(to, &source.vnode, from, mode)?;
        self.sync_written(to, usize::try_from(n).unwrap_or(usize::MAX), flags)?;
        Ok(n)
    }

    fn write_to(&self, offset: u64, source: &mut dyn WriteSource, flags: OpenFlags) -> Result<(u64, usize)> {
        if let Some(device) = &self.device {
            let n = device.write(offset, source, flags.contains(OpenFlags::NON_BLOCKING))?;
            return Ok((offset, n));
        }
        if self.sheds_set_id {
            self.shed_set_id()?;
        }
        if flags.contains(OpenFlags::APPEND) {
            return self.vnode.append(source);
        }
        self.vnode.write(offset, source).map(|n| (offset, n))
    }

    /// Takes away the bits that would let a changed program run as its owner or group, as every change by someone other
    /// than root does; what bits a file has counts when it is opened.
    ///
    /// # Errors
    /// When the attributes cannot be changed.
    pub fn shed_set_id(&self) -> Result<()> {
        if !self.sheds_set_id {
            return Ok(());
        }
        let perm = self.vnode.getattr()?.perm;
        let kept = without_set_id(perm);
        if kept == perm {
            return Ok(());
        }
        self.vnode.setattr(&SetAttr { perm: Some(kept), ..SetAttr::default() })
    }

    fn sync_written(&self, at: u64, n: usize, flags: OpenFlags) -> Result<usize> {
        if n > 0 && flags.intersects(OpenFlags::SYNC | OpenFlags::DSYNC) && self.device.is_none() {
            let what = if flags.contains(OpenFlags::SYNC) { Fsync::All } else { Fsync::Data };
            self.vnode.fsync(at..at + n as u64, what)?;
        }
        Ok(n)
    }

    /// Whether the file is open for reading (true) or writing (false) as asked.
    ///
    /// # Errors
    /// [`Error::BadFile`].
    pub fn check_open_for(&self, want: OpenFlags) -> Result<()> {
        self.check(want).map(|_| ())
    }

    fn check_positioned(&self) -> Result<()> {
        match &self.device {
            Some(device) if !device.is_seekable() => Err(Error::NotSeekable),
            _ => Ok(()),
        }
    }

    /// Moves the offset; where it is now.
    ///
    /// # Errors
    /// [`Error::NotSeekable`], [`Error::Invalid`] (before the start), [`Error::NoSuchAddress`] (no data or hole).
    pub fn seek(&self, whence: Whence, by: i64) -> Result<u64> {
        if self.flags().contains(OpenFlags::PATH) {
            return Err(Error::BadFile);
        }
        self.check_positioned()?;
        if matches!(self.vnode.kind(), FileType::Fifo | FileType::Socket) {
            return Err(Error::NotSeekable);
        }
        let mut offset = self.offset.lock();
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => *offset,
            Whence::End if self.device.is_some() => 0,
            Whence::End => self.vnode.getattr()?.size,
            Whence::Next(what) => {
                let from = u64::try_from(by).map_err(|_| Error::NoSuchAddress)?;
                *offset = self.vnode.seek(what, from)?;
                return Ok(*offset);
            }
        };
        let to = base.checked_add_signed(by).filter(|to| *to <= OFFSET_MAX).ok_or(Error::Invalid)?;
        *offset = to;
        Ok(to)
    }

    /// The offset.
    pub fn offset(&self) -> u64 {
        *self.offset.lock()
    }

    /// Gives the entries of a directory from the offset on, `.` and `..` first, until `each` refuses one; the
    /// offset then names the refused one. `next_cursor` of an entry is the offset after it (`d_off`).
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::NotFound`] (it is removed), what the file system reports.
    pub fn readdir(&self, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.check(OpenFlags::READ)?;
        if !self.dentry.is_dir() {
            return Err(Error::NotDirectory);
        }
        if self.dentry.is_removed() {
            return Err(Error::NotFound);
        }
        let mut offset = self.offset.lock();
        for (at, name) in [(0, &b"."[..]), (1, &b".."[..])] {
            if *offset != at {
                continue;
            }
            let ino = if at == 0 { self.vnode.ino() } else { self.parent_ino()? };
            if !each(DirEntry { name, ino, kind: FileType::Directory, next_cursor: at + 1 }) {
                return Ok(());
            }
            *offset = at + 1;
        }
        let cursor = *offset - DOTS;
        let mut after = *offset;
        let result = self.vnode.readdir(cursor, &mut |entry| {
            let next_cursor = entry.next_cursor.saturating_add(DOTS);
            let is_taken = each(DirEntry { next_cursor, ..entry });
            if is_taken {
                after = next_cursor;
            }
            is_taken
        });
        *offset = after;
        result
    }

    fn parent_ino(&self) -> Result<u64> {
        match self.dentry.parent() {
            Some(parent) => Ok(parent.vnode().ino()),
            None => match &self.dentry.mount().covered {
                Some(covered) => Ok(covered.parent().map_or(covered.vnode().ino(), |p| p.vnode().ino())),
                None => Ok(self.vnode.ino()),
            },
        }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what has no storage; when it is not durable.
    pub fn fsync(&self, what: Fsync) -> Result<()> {
        if self.flags().contains(OpenFlags::PATH) {
            return Err(Error::BadFile);
        }
        match self.vnode.kind() {
            FileType::Regular | FileType::Directory => self.vnode.fsync(0..u64::MAX, what),
            _ => Err(Error::Invalid),
        }
    }

    pub(crate) fn note_locks(&self, table: &Arc<LockTable>) {
        self.locks.get_or_init(|| table.clone());
    }
}

/// Directory offsets 0 and 1 are `.` and `..`; the file system's cursors follow.
const DOTS: u64 = 2;

impl Drop for File {
    fn drop(&mut self) {
        if let Some(locks) = self.locks.get() {
            locks.release_file(&self.vnode, self.id);
        }
    }
}

impl Pollable for File {
    fn readiness(&self) -> Readiness {
        match &self.device {
            Some(device) => device.readiness(),
            None => Readiness::IN | Readiness::OUT,
        }
    }

    fn poll_queue(&self) -> Option<&PollQueue> {
        self.device.as_ref().and_then(|d| d.poll_queue())
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?}, {:?})", self.dentry, self.flags())
    }
}
