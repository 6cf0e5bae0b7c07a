//! An image of a powered-off machine, opened: its devices, its pool, its file systems.
//!
//! An image is a file or block device, or several joined by commas when the pool spans them, each a bare pool or a
//! partitioned disk. Opening for reading writes nothing; opening for writing takes a lock on the files.
mod advice;

use crate::tree::walk::Covered;
use crate::{file_system, host_id};
use anyhow::{Context, Result, anyhow, bail};
use blockdev::gpt::{TYPE_ZFS, Table};
use blockdev::{BlockDevice, Partition};
use blockdev_host::OpenOptions;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::FileSystem;
use zfs::spa::{ImportOptions, Spa};

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, not even a label.
    Read,
    /// The pool is imported and exported again.
    Write,
}

/// One device of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The file.
    pub path: PathBuf,
    /// First byte of the pool's device in it.
    pub offset: u64,
    /// Bytes of it.
    #[serde(rename = "length")]
    pub len: u64,
    /// It is a partition of a disk.
    pub is_partition: bool,
}

/// An open image.
#[derive(Debug)]
pub struct Image {
    parts: Vec<Part>,
    spa: Arc<Spa>,
    access: Access,
}

impl Image {
    /// Opens the image that `name` names.
    ///
    /// # Errors
    /// A file that cannot be opened, no pool in it, and what an import may say.
    pub fn open(name: &str, access: Access) -> Result<Self> {
        Self::open_with(name, access, &ImportOptions::default())
    }

    /// Opens the state that the pool's checkpoint keeps. With [`Access::Write`] what is newer is given up.
    ///
    /// # Errors
    /// As [`Self::open`]; when the pool has no checkpoint.
    pub fn open_checkpoint(name: &str, access: Access) -> Result<Self> {
        let rewound = ImportOptions { rewind_to_checkpoint: true, ..ImportOptions::default() };
        Self::open_with(name, access, &rewound)
    }

    /// Opens an image as `options` say, but for what `access` and the images themselves decide.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(name: &str, access: Access, options: &ImportOptions) -> Result<Self> {
        check_files(name)?;
        let opened = name.split(',').map(|file| open_device(Path::new(file), access));
        let (parts, devices): (Vec<_>, Vec<_>) = opened.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let options = ImportOptions {
            read_only: access == Access::Read,
            hostname: String::from("zeolite"),
            hostid: host_id::get(),
            ..options.clone()
        };
        let spa = Spa::import(&devices, &options)
            .map_err(|e| anyhow::Error::from(e).context(advice::on_import(e, name, &options, &devices)))?;
        let image = Self { parts, spa, access };
        if let (Access::Write, Some(why)) = (access, image.spa.properties()?.read_only_reason) {
            bail!("{name}: can only be read: {why}");
        }
        if access == Access::Read {
            image.tell_unreplayed(name)?;
        }
        Ok(image)
    }

    /// What is read here is the last transaction group: acknowledged changes since then are in the intent logs.
    fn tell_unreplayed(&self, name: &str) -> Result<()> {
        let unreplayed = self.spa.unreplayed()?;
        let records: u64 = unreplayed.iter().map(|u| u.records).sum();
        if records > 0 {
            eprintln!(
                "note: {name}: {records} records of acknowledged changes are in intent logs only and not in this view; \
                 opening the pool for writing replays them (zeo pool import {name})"
            );
        }
        Ok(())
    }

    /// The pool.
    pub fn spa(&self) -> &Arc<Spa> {
        &self.spa
    }

    /// The devices.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The full name of a dataset named with or without the pool; the root file system for `None`.
    ///
    /// # Errors
    /// When the pool's properties cannot be read.
    pub fn dataset_name(&self, name: Option<&str>) -> Result<String> {
        let properties = self.spa.properties()?;
        let pool = properties.name;
        Ok(match name {
            None => properties.bootfs.unwrap_or(pool),
            Some(n)
                if n == pool || n.starts_with(&format!("{pool}/")) || n.starts_with(&format!("{pool}@")) =>
            {
                n.to_owned()
            }
            Some(n) if n.starts_with('@') => format!("{pool}{n}"),
            Some(n) => format!("{pool}/{n}"),
        })
    }

    /// A dataset or snapshot as a file system.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be mounted.
    pub fn file_system(&self, name: Option<&str>) -> Result<Arc<dyn FileSystem>> {
        let full = self.dataset_name(name)?;
        let is_read_only = self.access == Access::Read || full.contains('@');
        file_system::mount(&self.spa, &full, is_read_only, None).with_context(|| format!("dataset {full}"))
    }

    /// The directories of a dataset that other datasets of the pool are mounted on when all of them are, by path from
    /// its root. Snapshots have none. A dataset that cannot be mounted here covers nothing.
    ///
    /// # Errors
    /// When the datasets cannot be listed.
    pub fn covered(&self, name: Option<&str>) -> Result<Covered> {
        let full = self.dataset_name(name)?;
        let mut covered = Covered::new();
        if full.contains('@') {
            return Ok(covered);
        }
        let own = self.spa.open_dataset(&full)?.properties()?.mountpoint;
        let own = own.trim_end_matches('/');
        for info in self.spa.datasets()? {
            if info.is_snapshot || info.name == full || info.name.contains('$') {
                continue;
            }
            let opened = self.spa.open_dataset(&info.name).and_then(|d| d.properties());
            let Ok(properties) = opened else { continue };
            let below = properties.mountpoint.strip_prefix(own).and_then(|p| p.strip_prefix('/'));
            const ON: u64 = 1;
            if properties.can_mount == ON
                && let Some(path) = below.filter(|p| !p.is_empty())
                && let Ok(mounted) = file_system::mount(&self.spa, &info.name, true, None)
            {
                covered.insert(path.as_bytes().to_vec(), mounted.root()?);
            }
        }
        Ok(covered)
    }

    /// Closes it; after writing, everything is on the disk and the pool is marked exported.
    ///
    /// # Errors
    /// When it is not.
    pub fn close(self) -> Result<()> {
        self.spa.export().context("close the pool")
    }
}

/// Refuses names of images that cannot be meant.
fn check_files(name: &str) -> Result<()> {
    let files: Vec<&str> = name.split(',').collect();
    if files.contains(&"") {
        bail!(
            "'{name}' has an empty part: name an image as a file, or several joined by commas (a.img,b.img)"
        );
    }
    let full: Vec<_> = files.iter().map(|file| Path::new(file).canonicalize().ok()).collect();
    let twice = (0..full.len()).find(|n| full[*n].is_some() && full[..*n].contains(&full[*n]));
    twice.map_or(Ok(()), |n| Err(anyhow!("{} is named twice in '{name}'", files[n])))
}

fn open_device(path: &Path, access: Access) -> Result<(Part, Arc<dyn BlockDevice>)> {
    let shown = path.display();
    let disk = OpenOptions::new().read_only(access == Access::Read).open(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::WouldBlock {
            anyhow!(
                "{shown} is in use (a machine runs on it, or another command); try again when that has ended"
            )
        } else {
            anyhow::Error::new(e).context(shown.to_string())
        }
    })?;
    let disk: Arc<dyn BlockDevice> = Arc::new(disk);
    let table = Table::read(&*disk).with_context(|| format!("{shown}: partition table"))?;
    let zfs = table.and_then(|t| t.entries.into_iter().find(|e| e.kind == TYPE_ZFS));
    let len = disk.geometry().capacity;
    let part = |offset, len, is_partition| Part { path: path.to_owned(), offset, len, is_partition };
    Ok(match zfs {
        Some(entry) => {
            let window = Partition::new(disk, entry.start, entry.len)
                .with_context(|| format!("{shown}: the ZFS partition lies outside of the disk"))?;
            (part(entry.start, entry.len, true), Arc::new(window))
        }
        None => (part(0, len, false), disk),
    })
}
