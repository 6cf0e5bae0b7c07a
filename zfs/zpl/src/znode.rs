//! A file in memory.
use crate::attrs::{Attrs, Changed};
use crate::error::IntoVfs;
use crate::fs::ZplFs;
use alloc::sync::{Arc, Weak};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ondisk::ObjectId;
use rt::{Mutex, Once};
use vfs::{Attr, DeviceId, FileType, RangeLock, Result, TimeSpec};
use zfs::dmu::{DmuTx, Dnode};
use zfs::zap::Zap;

/// Rank of the attributes' lock: inside transactions, outside everything in `zfs`.
pub(crate) const RANK_ATTRS: u16 = 580;

/// Kernel device numbers: 20 bits of minor.
const MINOR_BITS: u32 = 20;

/// A file, directory or other object of a dataset.
pub struct Znode {
    pub(crate) me: Weak<Self>,
    pub(crate) fs: Arc<ZplFs>,
    pub(crate) dnode: Arc<Dnode>,
    pub(crate) kind: FileType,
    pub(crate) attrs: Mutex<Attrs, RANK_ATTRS>,
    /// The size in `attrs`, for readers that need nothing else.
    size: AtomicU64,
    /// Content is read and written under locks of its ranges.
    pub(crate) ranges: RangeLock,
    /// Of a directory: held while its entries change.
    pub(crate) names: Mutex<()>,
    zap: Once<Zap>,
    /// Tells the object from the one that had its number before.
    pub(crate) generation: u64,
    /// The newest group that changed it: what fsync waits for.
    last_txg: AtomicU64,
    /// In the unlinked set: to be freed when no one uses it any more.
    pub(crate) is_unlinked: AtomicBool,
}

impl Znode {
    /// A znode over an object and its attributes.
    pub(crate) fn new(
        fs: &Arc<ZplFs>,
        dnode: Arc<Dnode>,
        attrs: Attrs,
        last_txg: u64,
    ) -> zfs::Result<Arc<Self>> {
        let kind = FileType::from_mode(attrs.mode as u32).ok_or(zfs::Error::Damaged)?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            fs: fs.clone(),
            dnode,
            kind,
            size: AtomicU64::new(attrs.size),
            generation: attrs.generation,
            attrs: Mutex::new(attrs),
            ranges: RangeLock::new(),
            names: Mutex::new(()),
            zap: Once::new(),
            last_txg: AtomicU64::new(last_txg),
            is_unlinked: AtomicBool::new(false),
        }))
    }

    /// The object's number: the inode number.
    pub fn id(&self) -> u64 {
        self.dnode.id().0
    }

    /// Its object.
    pub fn object(&self) -> ObjectId {
        self.dnode.id()
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Bytes.
    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The entries of a directory.
    pub(crate) fn entries(&self) -> Result<&Zap> {
        if !self.is_dir() {
            return Err(vfs::Error::NotDirectory);
        }
        self.zap.get_or_try_init(|| Zap::open(self.dnode.clone())).vfs()
    }

    pub(crate) fn set_entries(&self, zap: Zap) {
        self.zap.get_or_init(|| zap);
    }

    /// Changes attributes in a transaction. `change` tells which it changed.
    pub(crate) fn change(&self, tx: &DmuTx, change: impl FnOnce(&mut Attrs) -> Changed) -> zfs::Result<()> {
        let mut attrs = self.attrs.lock();
        let changed = change(&mut attrs);
        self.size.store(attrs.size, Ordering::Release);
        attrs.store(&self.fs.sa, &self.dnode, tx, changed)?;
        drop(attrs);
        self.note_change(tx);
        Ok(())
    }

    /// What fsync must wait for.
    pub(crate) fn note_change(&self, tx: &DmuTx) {
        self.last_txg.fetch_max(tx.txg().0, Ordering::AcqRel);
    }

    pub(crate) fn last_txg(&self) -> u64 {
        self.last_txg.load(Ordering::Acquire)
    }

    /// What stat tells.
    pub(crate) fn stat(&self) -> Attr {
        let (used, block_size) = (self.dnode.used_bytes(), self.dnode.block_size());
        let a = self.attrs.lock();
        Attr {
            ino: self.id(),
            generation: a.generation,
            kind: self.kind,
            perm: a.mode as u32 & 0o7777,
            nlink: if self.is_unlinked.load(Ordering::Relaxed) { 0 } else { a.links },
            uid: posix_id(a.uid),
            gid: posix_id(a.gid),
            size: a.size,
            blocks: used.div_ceil(512),
            block_size: if self.kind == FileType::Regular { block_size.max(512) } else { 4096 },
            rdev: device_of(a.rdev),
            atime: a.atime,
            mtime: a.mtime,
            ctime: a.ctime,
            btime: a.crtime,
        }
    }

    /// Notes an access, in memory: it reaches the disk with the next change or sync.
    pub(crate) fn note_access(&self, is_relative: bool) {
        const DAY: i64 = 86_400;
        let now = self.fs.now();
        let mut attrs = self.attrs.lock();
        let is_fresh =
            attrs.atime > attrs.mtime && attrs.atime > attrs.ctime && now.secs - attrs.atime.secs < DAY;
        if (is_relative && is_fresh) || attrs.atime == now {
            return;
        }
        attrs.atime = now;
        let was_stale = core::mem::replace(&mut attrs.is_atime_stale, true);
        drop(attrs);
        if !was_stale && let Some(me) = self.me.upgrade() {
            self.fs.note_stale_atime(me);
        }
    }
}

/// Only plain ids are POSIX ids; others (of a Windows domain) are shown as nobody.
fn posix_id(id: u64) -> u32 {
    const NOBODY: u32 = 65_534;
    u32::try_from(id).unwrap_or(NOBODY)
}

fn device_of(rdev: u64) -> DeviceId {
    match u32::try_from(rdev) {
        Ok(dev) => DeviceId { major: dev >> MINOR_BITS, minor: dev & ((1 << MINOR_BITS) - 1) },
        // As illumos packs them.
        Err(_) => DeviceId { major: (rdev >> 32) as u32, minor: rdev as u32 },
    }
}

pub(crate) fn rdev_of(id: DeviceId) -> u64 {
    if id.major < 1 << (32 - MINOR_BITS) && id.minor < 1 << MINOR_BITS {
        u64::from(id.major << MINOR_BITS | id.minor)
    } else {
        u64::from(id.major) << 32 | u64::from(id.minor)
    }
}

/// Whether a time is one the file system can keep.
pub(crate) fn valid_time(t: TimeSpec) -> bool {
    t.nanos < 1_000_000_000
}

impl Drop for Znode {
    fn drop(&mut self) {
        self.fs.table.forget(self.id(), self);
        self.fs.note_dropped(self);
    }
}

impl fmt::Debug for Znode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Znode({}, {:?})", self.id(), self.kind)
    }
}
