//! Files and block devices that are to become part of a pool.
use crate::failure::{self, DATA, Failure};
use anyhow::{Context, Result, anyhow, bail};
use blockdev::BlockDevice;
use blockdev_host::OpenOptions;
use mkfs::size::Size;
use mkfs::vdevs::Group;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zfs::spa::{PoolState, Spa, TopSpec, VdevSpec};

/// Smallest device of a pool, bytes.
pub const SMALLEST: u64 = 64 << 20;

/// Files that were made for a pool; when it does not come to one, they go.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// The pool has them now.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // What is not there need not go; what cannot go is seen in its folder.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How devices are opened.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of files that are not there.
    pub size: Option<Size>,
    /// What is on them may go.
    pub force: bool,
}

/// Opens the devices of new vdevs, making files that are not there.
///
/// # Errors
/// A device that cannot be opened or is too small, or that holds a pool when `force` is not given.
pub fn open_groups(groups: &[Group], terms: Terms, made: &mut Made) -> Result<Vec<TopSpec>> {
    let mut open = |group: &Group| {
        let devices = group.devices.iter().map(|name| open_new(Path::new(name), terms, made));
        Ok(TopSpec { kind: group.kind, purpose: group.purpose, devices: devices.collect::<Result<_>>()? })
    };
    groups.iter().map(&mut open).collect()
}

/// Opens a device that is to become part of a pool.
///
/// # Errors
/// As [`open_groups`].
pub fn open_new(path: &Path, terms: Terms, made: &mut Made) -> Result<VdevSpec> {
    let shown = path.display();
    let exists = path.exists();
    let mut options = OpenOptions::new();
    match (exists, terms.size) {
        (false, Some(Size(size))) => {
            check_size(path, size)?;
            made.0.push(path.to_owned());
            options = options.create(size);
        }
        (false, None) => {
            let hint = "give --size to make it";
            return Err(Failure::new(failure::NO_INPUT, format!("{shown} does not exist"), hint).into());
        }
        (true, _) => {}
    }
    let disk = options.open(path).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => {
            anyhow!("{shown} is in use: it is part of the image, named twice, or a machine or another command has it open")
        }
        _ => anyhow::Error::new(e).context(shown.to_string()),
    })?;
    let device: Arc<dyn BlockDevice> = Arc::new(disk);
    check_size(path, device.geometry().capacity)?;
    if exists && !terms.force {
        match Spa::probe(&device) {
            Ok(label) if label.state != PoolState::Destroyed => {
                bail!("{shown} is part of the pool '{}'; -f overrides, and what it holds is lost", label.pool)
            }
            _ => {}
        }
    }
    let full = path.canonicalize().context("where it lies")?;
    let Some(full) = full.to_str() else {
        let hint = "a pool keeps the names of its devices, in UTF-8: rename the file or its folder";
        return Err(Failure::new(DATA, format!("{shown} has a name that is no text"), hint).into());
    };
    // An image is a disk to the machine it is made for; OpenZFS does not open a disk as a file.
    Ok(VdevSpec { device, path: full.to_owned(), is_file: false })
}

fn check_size(path: &Path, size: u64) -> Result<()> {
    if size >= SMALLEST {
        return Ok(());
    }
    let message =
        format!("{} is too small: a device of a pool has at least {}", path.display(), Size(SMALLEST));
    Err(Failure::new(DATA, message, format!("it has {}; --size says how large files are made", Size(size)))
        .into())
}
