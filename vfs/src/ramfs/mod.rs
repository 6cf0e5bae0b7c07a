//! A file system in memory: /tmp, /dev/shm, and the yardstick the others are tested beside.
//!
//! | module | holds |
//! |---|---|
//! | `data` | the bytes of a file: pages and holes |
//! | `dir` | the entries of a directory |
//! | `inode` | the vnode |
//!
//! Locks, outermost first: `RamFs::moving` (renames and rmdir, which touch several directories), one directory's
//! entries, one inode's attributes. Creating and unlinking lock one directory only.
use crate::attr::{DeviceId, StatFs};
use crate::error::{Error, Result};
use crate::node::{FileSystem, VnodeRef};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use rt::Mutex;

mod data;
mod dir;
mod inode;

pub use inode::Inode;

const PAGE: u64 = abd::PAGE_SIZE as u64;
const TMPFS_MAGIC: u32 = 0x0102_1994;

static NEXT_DEVICE: AtomicU32 = AtomicU32::new(1);

/// A minor device number for a file system without a device (`st_dev`).
pub fn anonymous_device() -> DeviceId {
    DeviceId { major: 0, minor: NEXT_DEVICE.fetch_add(1, Ordering::Relaxed) }
}

/// The file system.
pub struct RamFs {
    device: DeviceId,
    fs_type: &'static str,
    root: Mutex<Option<Arc<Inode>>>,
    moving: Mutex<()>,
    pages_max: u64,
    nr_pages: AtomicU64,
    next_ino: AtomicU64,
}

impl RamFs {
    /// An empty file system of at most `bytes_max` bytes of data, its root open to all as /tmp is if `root_perm`
    /// says so (0o1777).
    pub fn new(bytes_max: u64, root_perm: u32) -> Arc<Self> {
        Self::with_type("tmpfs", bytes_max, root_perm)
    }

    pub(crate) fn with_type(fs_type: &'static str, bytes_max: u64, root_perm: u32) -> Arc<Self> {
        let fs = Arc::new(Self {
            device: anonymous_device(),
            fs_type,
            root: Mutex::new(None),
            moving: Mutex::new(()),
            pages_max: bytes_max / PAGE,
            nr_pages: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
        });
        *fs.root.lock() = Some(Inode::new_root(&fs, root_perm));
        fs
    }

    fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// Charges `n` pages.
    fn take_pages(&self, n: u64) -> Result<()> {
        let before = self.nr_pages.fetch_add(n, Ordering::Relaxed);
        if before.saturating_add(n) <= self.pages_max {
            return Ok(());
        }
        self.give_pages(n);
        Err(Error::NoSpace)
    }

    fn give_pages(&self, n: u64) {
        self.nr_pages.fetch_sub(n, Ordering::Relaxed);
    }
}

impl FileSystem for RamFs {
    fn root(&self) -> Result<VnodeRef> {
        let root = self.root.lock().clone().ok_or(Error::Stale)?;
        Ok(root)
    }

    fn statfs(&self) -> Result<StatFs> {
        let used = self.nr_pages.load(Ordering::Relaxed);
        let free = self.pages_max.saturating_sub(used);
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: abd::PAGE_SIZE as u32,
            blocks: self.pages_max,
            blocks_free: free,
            blocks_avail: free,
            files: self.next_ino.load(Ordering::Relaxed) - 1,
            files_free: u32::MAX.into(),
            fsid: u64::from(self.device.minor),
            name_max: 255,
            is_read_only: false,
            source: String::from(self.fs_type),
            fs_type: self.fs_type,
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn unmount(&self) -> Result<()> {
        // Inodes refer to the file system and its root to everything: this cuts the circle.
        let root = self.root.lock().take();
        if let Some(root) = root {
            root.dismantle();
        }
        Ok(())
    }

    fn device_id(&self) -> DeviceId {
        self.device
    }
}

impl fmt::Debug for RamFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RamFs({} pages)", self.nr_pages.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
