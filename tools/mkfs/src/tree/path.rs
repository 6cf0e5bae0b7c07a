//! Paths of an image: split, resolved, shown.
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use vfs::{FileType, VnodeRef};

/// More links than that in one path are a loop.
const LINKS_MAX: usize = 40;

/// The components of a path; `.` and empty ones mean nothing.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".")
}

/// A path for people.
pub fn show(path: &[u8]) -> String {
    let mut text = String::from("/");
    text.push_str(&components(path).map(String::from_utf8_lossy).collect::<Vec<_>>().join("/"));
    text
}

/// Whether the last component is followed when it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Follow it.
    Follow,
    /// Take the link itself.
    Keep,
}

/// Finds what is at `path`.
///
/// # Errors
/// When it is not there, with the path.
pub fn resolve(root: &VnodeRef, path: &[u8], last: Last) -> Result<VnodeRef> {
    walk(root, path, last).with_context(|| show(path))
}

/// The directory that holds the last component, and that component.
///
/// # Errors
/// When the directory is not there, or `path` names the root.
pub fn resolve_parent(root: &VnodeRef, path: &[u8]) -> Result<(VnodeRef, Vec<u8>)> {
    let parts: Vec<&[u8]> = components(path).collect();
    let Some((name, parents)) = parts.split_last() else { bail!("{}: is the root", show(path)) };
    if *name == b".." {
        bail!("{}: ends in '..'", show(path));
    }
    let parent = resolve(root, &parents.join(&b'/'), Last::Follow)?;
    Ok((parent, name.to_vec()))
}

fn walk(root: &VnodeRef, path: &[u8], last: Last) -> Result<VnodeRef> {
    let mut todo: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
    let mut at = root.clone();
    let mut nr_links = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            at = at.parent()?;
            continue;
        }
        let next = at.lookup(&name)?;
        let is_last = todo.is_empty();
        if next.kind() != FileType::Symlink || (is_last && last == Last::Keep) {
            at = next;
            continue;
        }
        nr_links += 1;
        if nr_links > LINKS_MAX {
            bail!(vfs::Error::Loop);
        }
        let target = next.readlink()?;
        if target.first() == Some(&b'/') {
            at = root.clone();
        }
        for part in components(&target).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev() {
            todo.push_front(part);
        }
    }
    Ok(at)
}
