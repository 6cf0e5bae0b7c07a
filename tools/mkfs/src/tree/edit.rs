//! Changes to an image's tree: directories made, files removed.
use super::path::{self, Last, components, resolve_parent};
use super::walk::names;
use anyhow::{Context, Result, bail};
use vfs::{Cred, Error, FileType, NewNode, VnodeRef};

/// Whether missing parents are made, and what exists is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// They must be there.
    Need,
    /// They are made.
    Make,
}

/// Makes a directory.
///
/// # Errors
/// When it exists, a parent is missing, or the file system's.
pub fn make_directory(root: &VnodeRef, at: &[u8], parents: Parents) -> Result<()> {
    if parents == Parents::Need {
        let (parent, name) = resolve_parent(root, at)?;
        parent.create(&name, NewNode::Directory, 0o755, Cred::default()).with_context(|| path::show(at))?;
        return Ok(());
    }
    let parts: Vec<&[u8]> = components(at).collect();
    for nr in 1..=parts.len() {
        let prefix = parts[..nr].join(&b'/');
        let (parent, name) = resolve_parent(root, &prefix)?;
        match parent.create(&name, NewNode::Directory, 0o755, Cred::default()) {
            Ok(_) => {}
            Err(Error::Exists) => {
                let there = path::resolve(root, &prefix, Last::Follow)?;
                if there.kind() != FileType::Directory {
                    bail!("{}: exists and is not a directory", path::show(&prefix));
                }
            }
            Err(e) => return Err(e).with_context(|| path::show(&prefix)),
        }
    }
    Ok(())
}

/// Whether directories are removed with what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Only what is no directory.
    One,
    /// Everything.
    All,
}

/// Removes what is at a path; how many names.
///
/// # Errors
/// When it is not there, is a directory and `depth` is one, or the file system's.
pub fn remove(root: &VnodeRef, at: &[u8], depth: Depth) -> Result<u64> {
    let (parent, name) = resolve_parent(root, at)?;
    let node = parent.lookup(&name).with_context(|| path::show(at))?;
    if node.kind() != FileType::Directory {
        parent.unlink(&name).with_context(|| path::show(at))?;
        return Ok(1);
    }
    if depth == Depth::One {
        bail!("{}: is a directory; remove it with -r", path::show(at));
    }
    let count = empty(&node).with_context(|| path::show(at))?;
    parent.rmdir(&name).with_context(|| path::show(at))?;
    Ok(count + 1)
}

/// Removes everything in a directory. Depth is bounded by memory, not by the stack.
fn empty(directory: &VnodeRef) -> Result<u64> {
    let mut count = 0;
    let mut stack = vec![(directory.clone(), Vec::new(), names(directory)?)];
    while let Some((node, own_name, rest)) = stack.last_mut() {
        let Some(name) = rest.pop() else {
            let own_name = std::mem::take(own_name);
            stack.pop();
            if let Some((parent, ..)) = stack.last() {
                parent.rmdir(&own_name)?;
                count += 1;
            }
            continue;
        };
        let child = node.lookup(&name)?;
        if child.kind() == FileType::Directory {
            let below = names(&child)?;
            stack.push((child, name, below));
        } else {
            node.unlink(&name)?;
            count += 1;
        }
    }
    Ok(count)
}
