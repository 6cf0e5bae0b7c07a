//! Generic checks of a file system: what [`crate::node`] promises, tried through a [`Namespace`].
//!
//! `check_filesystem` runs a fixed battery and then random operations against a simple model. Implementers call it
//! from their tests with the feature `test-support`.
use crate::file::File;
use crate::mount::MountFlags;
use crate::namespace::Namespace;
use crate::node::FileSystem;
use crate::walk::WalkFrom;
use crate::{Caller, DentryRef, Error, OpenFlags, Result, SliceSink, SliceSource};
use alloc::sync::Arc;
use alloc::vec::Vec;

mod battery;
pub mod model;

/// Runs everything. `make` gives a new, empty, writable file system each time.
///
/// # Panics
/// When the file system breaks a promise.
pub fn check_filesystem(make: impl Fn() -> Arc<dyn FileSystem>) {
    battery::run(&make);
    model::check_random(&make, 24, 120);
}

/// A name space over one file system, with the super-user walking from its root.
pub struct Tree {
    /// The name space.
    pub ns: Arc<Namespace>,
    root: DentryRef,
}

impl Tree {
    /// Over `fs`, with a small cache so that eviction happens.
    ///
    /// # Panics
    /// When the root cannot be read.
    pub fn new(fs: Arc<dyn FileSystem>) -> Self {
        let ns = Namespace::new(fs, MountFlags::empty(), 256).expect("the root can be read");
        let root = ns.root().clone();
        Self { ns, root }
    }

    /// The root, as the super-user.
    pub fn from(&self) -> WalkFrom<'_> {
        WalkFrom { caller: Caller::ROOT, root: &self.root, start: &self.root }
    }

    /// Opens.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
        self.ns.open(&self.from(), path.as_bytes(), flags, 0o644)
    }

    /// Makes or replaces a file's content.
    ///
    /// # Errors
    /// As open(2) and write(2); [`Error::Io`] for a short write.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = self.open(path, flags)?;
        let n = file.write(&mut SliceSource::new(bytes))?;
        if n == bytes.len() { Ok(()) } else { Err(Error::Io) }
    }

    /// A file's content.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let file = self.open(path, OpenFlags::READ)?;
        let mut all = alloc::vec![0; file.getattr()?.size as usize];
        let mut sink = SliceSink::new(&mut all);
        let n = file.read_at(0, &mut sink)?;
        all.truncate(n);
        Ok(all)
    }

    /// What a path names, links in the last place not followed.
    ///
    /// # Errors
    /// As lstat(2).
    pub fn find(&self, path: &str) -> Result<DentryRef> {
        self.ns.walk(&self.from(), path.as_bytes(), crate::WalkFlags::empty())
    }

    /// The sorted names of a directory, without `.` and `..`.
    ///
    /// # Errors
    /// As open(2) and getdents(2).
    pub fn list(&self, path: &str) -> Result<Vec<Vec<u8>>> {
        let dir = self.open(path, OpenFlags::READ | OpenFlags::DIRECTORY)?;
        let mut names = Vec::new();
        dir.readdir(&mut |e| {
            if e.name != b"." && e.name != b".." {
                names.push(e.name.to_vec());
            }
            true
        })?;
        names.sort();
        Ok(names)
    }
}
