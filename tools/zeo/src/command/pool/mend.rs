//! `zeo pool clear` and `resilver`: what is done once a device is well again.
use super::status::{name_of, scan_line};
use super::text::now;
use crate::report::{Mode, WalkProgress};
use anyhow::{Context, Result, anyhow};
use mkfs::image::{Access, Image};
use std::time::Duration;
use zfs::Error;
use zfs::spa::VdevInfo;

/// Forgets errors, of one device or of all, and brings back what they missed.
pub fn clear(image: &str, device: Option<&str>, mode: Mode) -> Result<()> {
    with(image, |image| {
        let tree = image.spa().vdev_tree();
        let guid = match device {
            None => None,
            Some(name) => {
                Some(find(&tree, name).ok_or_else(|| anyhow!("{name}: no such device in the pool"))?)
            }
        };
        image.spa().clear(guid).context("clear the pool's errors")?;
        wait(image, mode);
        Ok(())
    })
}

/// Brings devices up to date that missed something.
pub fn resilver(image: &str, mode: Mode) -> Result<()> {
    with(image, |image| {
        match image.spa().resilver() {
            // Opening the pool has begun it, and it may even have ended.
            Ok(()) | Err(Error::NotFound) => {}
            Err(e) => return Err(e).context("start the resilver"),
        }
        wait(image, mode);
        if mode == Mode::Text {
            println!("{}", scan_line(&image.spa().scan_status(), now()));
        }
        Ok(())
    })
}

fn with(name: &str, job: impl FnOnce(&Image) -> Result<()>) -> Result<()> {
    let image = Image::open(name, Access::Write)?;
    let done = job(&image);
    let closed = image.close();
    done.and(closed)
}

fn wait(image: &Image, mode: Mode) {
    let bar = WalkProgress::new(mode, "resilver");
    let interval = Duration::from_millis(200);
    image.spa().scan_wait(interval, &mut |scan| bar.set(scan.examined, scan.to_examine));
}

/// The guid of a device by name, path or guid.
fn find(vdev: &VdevInfo, name: &str) -> Option<u64> {
    let is_it = vdev.guid.to_string() == name || vdev.path.as_deref() == Some(name) || name_of(vdev) == name;
    if is_it && vdev.children.is_empty() {
        return Some(vdev.guid);
    }
    vdev.children.iter().find_map(|child| find(child, name))
}
