//! The path of an object within its file system, for messages about damaged files.
use crate::attrs::Attrs;
use crate::dir::object_of;
use crate::fs::ZplFs;
use alloc::vec::Vec;
use ondisk::ObjectId;
use zfs::zap::Zap;
use zfs::{Error, Result};

/// Deepest directory that is followed; more is a loop.
const DEPTH_MAX: usize = 4096;

impl ZplFs {
    /// A path by which an object can be reached, from the file system's root; one of several for a file with several
    /// names. A hidden directory of extended attributes is shown as `<xattrdir>`.
    ///
    /// # Errors
    /// `NotFound` when it is no file, or has no name; what reading gives.
    pub fn path_of(&self, object: u64) -> Result<Vec<u8>> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = object;
        while at != self.root_object().0 {
            if parts.len() > DEPTH_MAX {
                return Err(Error::Damaged);
            }
            let dnode = self.objset.hold(ObjectId(at))?;
            let parent = Attrs::load(&self.sa, &dnode)?.parent;
            if parent == at || parent == 0 {
                return Err(Error::NotFound);
            }
            let holder = self.objset.hold(ObjectId(parent))?;
            let is_xattr_dir = Attrs::load(&self.sa, &holder)?.xattr_dir == at;
            parts.push(if is_xattr_dir { b"<xattrdir>".to_vec() } else { name_in(Zap::open(holder)?, at)? });
            at = parent;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Ok(if path.is_empty() { b"/".to_vec() } else { path })
    }
}

/// The name of an object in a directory.
fn name_in(directory: Zap, object: u64) -> Result<Vec<u8>> {
    let mut name = None;
    directory.for_each(0, &mut |entry| {
        if entry.value.as_word().is_some_and(|word| object_of(word) == object) {
            name = Some(entry.name.clone());
        }
        name.is_none()
    })?;
    name.ok_or(Error::NotFound)
}
