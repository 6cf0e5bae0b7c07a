//! The path walk: from bytes to dentries.
//!
//! Symbolic links are followed by splicing their target in front of what is left of the path, so the walk needs no
//! recursion and a chain of links no stack; [`LINKS_MAX`] of them end the walk, and a path that grows past
//! [`PATH_MAX`] does too.
use crate::access::{Access, Caller, check_dentry};
use crate::dentry::{DentryRef, Name};
use crate::error::{Error, Result};
use crate::namespace::{NAME_MAX, Namespace};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Links followed in one walk.
pub const LINKS_MAX: u32 = 40;
/// Longest path, bytes, without a terminating NUL.
pub const PATH_MAX: usize = 4095;

bitflags::bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link in the last place.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// An empty path names the start itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 4;
        /// Stay below the start (`RESOLVE_BENEATH`): `..` above it, absolute paths and links fail with EXDEV.
        const BENEATH = 8;
        /// The start is the root of the walk (`RESOLVE_IN_ROOT`).
        const IN_ROOT = 16;
        /// No symbolic links at all (`RESOLVE_NO_SYMLINKS`).
        const NO_SYMLINKS = 32;
        /// Do not cross mounts (`RESOLVE_NO_XDEV`).
        const NO_XDEV = 64;
    }
}

/// Who walks, and from where.
#[derive(Clone, Copy, Debug)]
pub struct WalkFrom<'a> {
    /// On whose behalf.
    pub caller: Caller<'a>,
    /// What `/` means.
    pub root: &'a DentryRef,
    /// What a relative path starts from.
    pub start: &'a DentryRef,
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name(Name),
    /// `.`, or the start itself.
    Dot,
    /// `..`
    DotDot,
    /// Nothing but slashes.
    Root,
}

/// The directory of a path's last component, and that component.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The directory.
    pub dir: DentryRef,
    /// What is looked for in it.
    pub last: Last,
    /// A slash follows: it is or must become a directory.
    pub has_slash: bool,
}

impl Parent {
    /// The name, for calls that need one.
    ///
    /// # Errors
    /// `otherwise`, when the path ends in `.`, `..` or is the root.
    pub fn name(&self, otherwise: Error) -> Result<&[u8]> {
        match &self.last {
            Last::Name(name) => Ok(name),
            _ => Err(otherwise),
        }
    }
}

struct Walk<'a> {
    ns: &'a Namespace,
    from: WalkFrom<'a>,
    flags: WalkFlags,
    at: DentryRef,
    nr_links: u32,
}

impl Namespace {
    /// The dentry `path` names.
    ///
    /// # Errors
    /// As path_resolution(7).
    pub fn walk(&self, from: &WalkFrom<'_>, path: &[u8], flags: WalkFlags) -> Result<DentryRef> {
        let mut walk = Walk::start(self, from, path, flags)?;
        let mut path = Cow::Borrowed(path);
        let mut pos = component(&path, 0);
        while let Some((start, next)) = pos {
            let after = component(&path, next);
            let is_last = after.is_none();
            let has_slash = is_last && next < path.len();
            let found = walk.step(&path[start..next])?;
            if found.kind() == crate::attr::FileType::Symlink {
                let is_followed = !is_last || has_slash || flags.contains(WalkFlags::FOLLOW);
                if is_followed {
                    path = Cow::Owned(walk.splice(&found, &path[next..])?);
                    pos = component(&path, 0);
                    continue;
                }
            }
            if has_slash && !found.is_dir() {
                return Err(Error::NotDirectory);
            }
            walk.at = found;
            pos = after;
        }
        if flags.contains(WalkFlags::DIRECTORY) && !walk.at.is_dir() {
            return Err(Error::NotDirectory);
        }
        Ok(walk.at)
    }

    /// The directory that holds, or would hold, the last component of `path`. With [`WalkFlags::FOLLOW`] a
    /// symbolic link in the last place is followed to where it points, existing or not.
    ///
    /// # Errors
    /// As path_resolution(7).
    pub fn walk_parent(&self, from: &WalkFrom<'_>, path: &[u8], flags: WalkFlags) -> Result<Parent> {
        let mut walk = Walk::start(self, from, path, flags)?;
        let mut path = Cow::Borrowed(path);
        let mut pos = component(&path, 0);
        loop {
            let Some((start, next)) = pos else {
                let last = if path.first() == Some(&b'/') { Last::Root } else { Last::Dot };
                return Ok(Parent { dir: walk.at, last, has_slash: true });
            };
            let after = component(&path, next);
            let (is_last, name) = (after.is_none(), &path[start..next]);
            let has_slash = is_last && next < path.len();
            if is_last {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(Name::from_slice(name)),
                };
                if !walk.at.is_dir() {
                    return Err(Error::NotDirectory);
                }
                if flags.contains(WalkFlags::FOLLOW)
                    && matches!(last, Last::Name(_))
                    && let Some(link) = walk.last_link(name)?
                {
                    path = Cow::Owned(walk.splice(&link, &path[next..])?);
                    pos = component(&path, 0);
                    continue;
                }
                return Ok(Parent { dir: walk.at, last, has_slash });
            }
            let found = walk.step(name)?;
            if found.kind() == crate::attr::FileType::Symlink {
                path = Cow::Owned(walk.splice(&found, &path[next..])?);
                pos = component(&path, 0);
                continue;
            }
            walk.at = found;
            pos = after;
        }
    }
}

impl<'a> Walk<'a> {
    fn start(ns: &'a Namespace, from: &WalkFrom<'a>, path: &[u8], flags: WalkFlags) -> Result<Self> {
        if path.len() > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        if path.is_empty() && !flags.contains(WalkFlags::EMPTY_PATH) {
            return Err(Error::NotFound);
        }
        let mut from = *from;
        if flags.contains(WalkFlags::IN_ROOT) {
            from.root = from.start;
        }
        let is_absolute = path.first() == Some(&b'/');
        if is_absolute && flags.contains(WalkFlags::BENEATH) {
            return Err(Error::CrossDevice);
        }
        let at = if is_absolute { from.root.clone() } else { from.start.clone() };
        Ok(Self { ns, from, flags, at, nr_links: 0 })
    }

    /// One component from `self.at`, mounts crossed, links not followed.
    fn step(&mut self, name: &[u8]) -> Result<DentryRef> {
        if !self.at.is_dir() {
            return Err(Error::NotDirectory);
        }
        if self.from.caller.cred.uid != 0 {
            check_dentry(&self.at, &self.from.caller, Access::EXEC)?;
        }
        match name {
            b"." => return Ok(self.at.clone()),
            b".." => return self.up(),
            _ => {}
        }
        let found = self.ns.lookup(&self.at, name)?;
        if found.is_mountpoint() { self.down(found) } else { Ok(found) }
    }

    /// The innermost root mounted on `found`.
    #[cold]
    fn down(&self, mut found: DentryRef) -> Result<DentryRef> {
        while let Some(root) = found.mounted() {
            if self.flags.contains(WalkFlags::NO_XDEV) {
                return Err(Error::CrossDevice);
            }
            found = root;
        }
        Ok(found)
    }

    fn up(&self) -> Result<DentryRef> {
        let mut at = self.at.clone();
        if Arc::ptr_eq(&at, self.from.start) && self.flags.contains(WalkFlags::BENEATH) {
            return Err(Error::CrossDevice);
        }
        loop {
            if Arc::ptr_eq(&at, self.from.root) {
                return Ok(at);
            }
            if let Some(parent) = at.parent() {
                return self.down(parent);
            }
            let Some(covered) = at.mount().covered.clone() else { return Ok(at) };
            if self.flags.contains(WalkFlags::NO_XDEV) {
                return Err(Error::CrossDevice);
            }
            at = covered;
        }
    }

    /// The symbolic link `name` is, if it is one.
    fn last_link(&mut self, name: &[u8]) -> Result<Option<DentryRef>> {
        match self.step(name) {
            Ok(found) if found.kind() == crate::attr::FileType::Symlink => Ok(Some(found)),
            Ok(_) | Err(Error::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The path that goes on where `link` points, then with `rest`; moves `self.at` to the root for an absolute
    /// target.
    #[cold]
    fn splice(&mut self, link: &DentryRef, rest: &[u8]) -> Result<Vec<u8>> {
        self.nr_links += 1;
        if self.nr_links > LINKS_MAX || self.flags.contains(WalkFlags::NO_SYMLINKS) {
            return Err(Error::Loop);
        }
        let mut path = link.vnode().readlink()?;
        if path.is_empty() {
            return Err(Error::NotFound);
        }
        if path.first() == Some(&b'/') {
            if self.flags.contains(WalkFlags::BENEATH) {
                return Err(Error::CrossDevice);
            }
            self.at = self.from.root.clone();
        }
        if !rest.is_empty() {
            path.push(b'/');
            path.extend_from_slice(rest);
        }
        if path.len() > PATH_MAX + NAME_MAX {
            return Err(Error::NameTooLong);
        }
        Ok(path)
    }
}

/// Where the component at or after `pos` starts and ends.
fn component(path: &[u8], pos: usize) -> Option<(usize, usize)> {
    let rest = path.get(pos..)?;
    let start = pos + rest.iter().position(|&b| b != b'/')?;
    let len = path[start..].iter().position(|&b| b == b'/').unwrap_or(path.len() - start);
    Some((start, start + len))
}
