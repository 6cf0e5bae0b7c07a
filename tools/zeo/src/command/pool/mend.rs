//! `zeo pool clear` and `resilver`: what is done once a device is well again.
use super::status::scan_line;
use super::text::now;
use super::vdev::{resolve, wait};
use crate::report::Mode;
use crate::say;
use anyhow::{Context, Result};
use mkfs::image::{Access, Image};
use zfs::Error;

/// Forgets errors, of one device or of all, and brings back what they missed.
pub fn clear(image: &str, device: Option<&str>, mode: Mode) -> Result<()> {
    with(image, |image| {
        let guid = device.map(|name| resolve(image.spa(), name)).transpose()?;
        image.spa().clear(guid).context("clear the pool's errors")?;
        wait(image.spa(), mode);
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
        wait(image.spa(), mode);
        if mode == Mode::Text {
            say!("{}", scan_line(&image.spa().scan_status(), now()));
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
