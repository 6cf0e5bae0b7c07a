//! The open image, and names as people write them.
use anyhow::{Context, Result};
use mkfs::image::{Access, Image};
use std::sync::Arc;
use zfs::spa::Spa;

/// An open image for commands on its datasets.
pub struct Target {
    image: Image,
    pool: String,
}

/// Opens an image, does the job, closes it; a job that failed after part of its work still leaves a closed pool.
///
/// # Errors
/// What opening, the job or closing says.
pub fn with<T>(image: &str, access: Access, job: impl FnOnce(&Target) -> Result<T>) -> Result<T> {
    let image = Image::open(image, access)?;
    let pool = image.spa().properties()?.name;
    let target = Target { image, pool };
    let done = job(&target);
    let closed = target.image.close();
    let value = done?;
    closed.map(|()| value)
}

/// As [`with`], to change something.
///
/// # Errors
/// As [`with`].
pub fn change<T>(image: &str, job: impl FnOnce(&Target) -> Result<T>) -> Result<T> {
    with(image, Access::Write, job)
}

impl Target {
    /// The pool.
    pub fn spa(&self) -> &Arc<Spa> {
        self.image.spa()
    }

    /// Its name.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// The full name of a dataset, snapshot or bookmark named with or without its pool.
    pub fn full(&self, name: &str) -> String {
        let pool = &self.pool;
        let is_full = name
            .strip_prefix(pool.as_str())
            .is_some_and(|tail| tail.is_empty() || tail.starts_with(['/', '@', '#']));
        match name.chars().next() {
            _ if is_full => name.to_owned(),
            Some('@' | '#') => format!("{pool}{name}"),
            _ => format!("{pool}/{name}"),
        }
    }
}

/// Says of what a command failed.
pub trait About<T> {
    /// With what was to be done.
    ///
    /// # Errors
    /// The result's own.
    fn about(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> About<T> for zfs::Result<T> {
    fn about(self, what: impl FnOnce() -> String) -> Result<T> {
        self.with_context(what)
    }
}
