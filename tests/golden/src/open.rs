//! Opens a golden pool with the code under test.

use blockdev::BlockDevice;
use blockdev_host::FileDisk;
use rt_std as _;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::FileSystem;
use zfs::spa::{ImportOptions, Spa};
use zfs::{Error, Result};

/// An imported pool.
pub struct Opened {
    /// The pool.
    pub spa: Arc<Spa>,
}

impl Opened {
    /// Imports the pool on these image files, read-only.
    ///
    /// # Errors
    /// The import's; `Io` when a file cannot be opened.
    pub fn files(images: &[PathBuf]) -> Result<Self> {
        let devices = images.iter().map(|path| file(path)).collect::<Result<Vec<_>>>()?;
        Self::devices(&devices)
    }

    /// Imports the pool in the first ZFS partition of this image file, read-only.
    ///
    /// # Errors
    /// The import's; `Io` when the file cannot be opened, `NotFound` without such a partition.
    pub fn partition(image: &Path) -> Result<Self> {
        let disk = file(image)?;
        let table = blockdev::gpt::Table::read(&*disk)?.ok_or(Error::NotFound)?;
        let entry =
            table.entries.iter().find(|p| p.kind == blockdev::gpt::TYPE_ZFS).ok_or(Error::NotFound)?;
        let partition = blockdev::Partition::new(disk, entry.start, entry.len)?;
        Self::devices(&[Arc::new(partition)])
    }

    /// Imports the pool on these devices, read-only.
    ///
    /// # Errors
    /// The import's.
    pub fn devices(devices: &[Arc<dyn BlockDevice>]) -> Result<Self> {
        let options = ImportOptions { read_only: true, force: true, ..ImportOptions::default() };
        Spa::import(devices, &options).map(|spa| Self { spa })
    }

    /// Imports the pool on these devices for writing.
    ///
    /// # Errors
    /// The import's.
    pub fn writable(devices: &[Arc<dyn BlockDevice>]) -> Result<Self> {
        let options = ImportOptions { force: true, ..ImportOptions::default() };
        Spa::import(devices, &options).map(|spa| Self { spa })
    }

    /// Mounts a file system or snapshot.
    ///
    /// # Errors
    /// The mount's.
    pub fn mount(&self, dataset: &str) -> zpl::Result<Arc<dyn FileSystem>> {
        let options = zpl::MountOptions { read_only: true, ..zpl::MountOptions::default() };
        Ok(zpl::mount(&self.spa, dataset, &options)?)
    }

    /// SHA-256 of a volume's whole content, as hexadecimal digits.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn volume_sha256(&self, name: &str) -> Result<String> {
        let objset = self.spa.open_dataset(name)?.objset();
        let size = zfs::zap::Zap::open(objset.hold(ondisk::ObjectId(2))?)?.lookup_u64(b"size")?;
        let data = objset.hold(ondisk::ObjectId(1))?;
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < size {
            let mut piece = vec![0; usize::try_from(size - at).map_or(1 << 20, |left| left.min(1 << 20))];
            data.read_exact(at, &mut piece)?;
            hash.update(&piece);
            at += piece.len() as u64;
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Names of all file systems, volumes and snapshots.
///
/// # Errors
/// When they cannot be listed.
pub fn names(spa: &Spa) -> Result<Vec<String>> {
    Ok(spa.datasets()?.into_iter().map(|info| info.name).collect())
}

fn file(path: &Path) -> Result<Arc<dyn BlockDevice>> {
    let disk = blockdev_host::OpenOptions::new().read_only(true).open(path).map_err(|_| Error::Io)?;
    Ok(Arc::<FileDisk>::new(disk))
}
