//! Walks an image's tree: each directory's names sorted by bytes, a directory before what is in it.
//!
//! One directory's names are in memory for each level of depth.
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use vfs::{FileType, VnodeRef};

/// A name met on a walk.
#[derive(Clone)]
pub struct Found {
    /// Path from the start of the walk, without a leading slash; empty for the start itself.
    pub path: Vec<u8>,
    /// Depth, 0 for the start.
    pub depth: usize,
    /// The object.
    pub node: VnodeRef,
}

/// The names of a directory, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn names(directory: &VnodeRef) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    directory.readdir(0, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })?;
    names.sort_unstable();
    Ok(names)
}

/// Calls `each` for `start` and everything below it.
///
/// # Errors
/// Those of `each`, and of reading directories, with the path.
pub fn walk(start: &VnodeRef, each: &mut dyn FnMut(&Found) -> Result<()>) -> Result<()> {
    walk_with(start, &Covered::new(), each)
}

/// Directories that another file system is mounted on: path from the start of the walk, and that file system's root.
pub type Covered = BTreeMap<Vec<u8>, VnodeRef>;

/// As [`walk`], but a covered directory is shown as what covers it, and not entered: what `find -xdev` sees.
///
/// # Errors
/// As [`walk`].
pub fn walk_with(
    start: &VnodeRef,
    covered: &Covered,
    each: &mut dyn FnMut(&Found) -> Result<()>,
) -> Result<()> {
    let first = Found { path: Vec::new(), depth: 0, node: start.clone() };
    each(&first)?;
    let mut stack = vec![(first, None::<std::vec::IntoIter<Vec<u8>>>)];
    while let Some((directory, rest)) = stack.last_mut() {
        if rest.is_none() {
            let is_directory = directory.node.kind() == FileType::Directory;
            let list = if is_directory { names(&directory.node) } else { Ok(Vec::new()) };
            *rest = Some(list.with_context(|| super::path::show(&directory.path))?.into_iter());
        }
        let Some(name) = rest.as_mut().and_then(Iterator::next) else {
            stack.pop();
            continue;
        };
        let mut path = directory.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let cover = covered.get(&path).cloned();
        let is_covered = cover.is_some();
        let node = match cover {
            Some(root) => root,
            None => directory.node.lookup(&name).with_context(|| super::path::show(&path))?,
        };
        let found = Found { path, depth: stack.len(), node };
        each(&found)?;
        if found.node.kind() == FileType::Directory && !is_covered {
            stack.push((found, None));
        }
    }
    Ok(())
}

/// Reads a whole file in pieces.
///
/// # Errors
/// The file's, and those of `each`.
pub fn read_file(node: &VnodeRef, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
    let mut buffer = vec![0; super::item::CHUNK];
    let mut offset = 0;
    loop {
        let n = node.read(offset, &mut vfs::SliceSink::new(&mut buffer))?;
        if n == 0 {
            return Ok(offset);
        }
        each(&buffer[..n])?;
        offset += n as u64;
    }
}
