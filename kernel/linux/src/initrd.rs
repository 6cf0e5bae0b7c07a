//! A root file system out of a boot module: cpio archives in the "newc" format, unpacked into memory.
//!
//! The archive is the machine owner's, but may be damaged: every length is checked, a bad entry ends the unpacking
//! with an error, and names are taken as paths below the root whatever they look like.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::{
    Caller, DentryRef, DeviceId, Error, FileType, Last, Namespace, NewNode, Result, SetAttr, SliceSource,
    WalkFlags, WalkFrom,
};

const HEADER: usize = 110;

/// One entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Path, without leading slashes or `./`.
    pub name: &'a [u8],
    /// Inode number: entries with the same number and more than one link are one file.
    pub ino: u32,
    /// Type and permission.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Last change, seconds since 1970.
    pub mtime: u32,
    /// For devices.
    pub rdev: DeviceId,
    /// Content, or a link's target.
    pub data: &'a [u8],
}

/// The entries of an archive.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    rest: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Reads an archive.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether bytes look like one.
    pub fn is_archive(bytes: &[u8]) -> bool {
        bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the archive is damaged.
    pub fn next_member(&mut self) -> Result<Option<Member<'a>>> {
        let header = self.rest.get(..HEADER).ok_or(Error::Invalid)?;
        if !Self::is_archive(header) {
            return Err(Error::Invalid);
        }
        let field = |i: usize| {
            let text = core::str::from_utf8(&header[6 + i * 8..14 + i * 8]).map_err(|_| Error::Invalid)?;
            u32::from_str_radix(text, 16).map_err(|_| Error::Invalid)
        };
        let (size, name_len) = (field(6)? as usize, field(11)? as usize);
        let name_end = HEADER.checked_add(name_len).ok_or(Error::Invalid)?;
        let data_at = name_end.next_multiple_of(4);
        let data_end = data_at.checked_add(size).ok_or(Error::Invalid)?;
        let name = self
            .rest
            .get(HEADER..name_end)
            .ok_or(Error::Invalid)?
            .strip_suffix(b"\0")
            .ok_or(Error::Invalid)?;
        let data = self.rest.get(data_at..data_end).ok_or(Error::Invalid)?;
        if name == b"TRAILER!!!" {
            return Ok(None);
        }
        let member = Member {
            name: clean(name),
            ino: field(0)?,
            mode: field(1)?,
            uid: field(2)?,
            gid: field(3)?,
            nlink: field(4)?,
            mtime: field(5)?,
            rdev: DeviceId { major: field(9)?, minor: field(10)? },
            data,
        };
        self.rest = self.rest.get(data_end.next_multiple_of(4)..).unwrap_or_default();
        Ok(Some(member))
    }
}

fn clean(mut name: &[u8]) -> &[u8] {
    loop {
        name = match name {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            b"." => b"",
            _ => return name,
        };
    }
}

/// Unpacks an archive into a name space's root; how many entries it had.
///
/// # Errors
/// [`Error::Invalid`] for a damaged archive, what the file system reports.
pub fn unpack(bytes: &[u8], ns: &Arc<Namespace>) -> Result<usize> {
    let mut archive = Archive::new(bytes);
    let mut links = BTreeMap::new();
    let mut nr_members = 0;
    while let Some(member) = archive.next_member()? {
        nr_members += 1;
        if !member.name.is_empty() {
            put(ns, &member, &mut links)?;
        }
    }
    Ok(nr_members)
}

fn put(ns: &Arc<Namespace>, member: &Member<'_>, links: &mut BTreeMap<u32, DentryRef>) -> Result<()> {
    let from = WalkFrom { caller: Caller::ROOT, root: ns.root(), start: ns.root() };
    make_parents(ns, &from, member.name)?;
    let kind = FileType::from_mode(member.mode).ok_or(Error::Invalid)?;
    let is_linked = kind == FileType::Regular && member.nlink > 1;
    if is_linked && let Some(target) = links.get(&member.ino) {
        ns.link_at(target, &from, member.name)?;
        return fill(target, member);
    }
    let node = match kind {
        FileType::Regular => NewNode::Regular,
        FileType::Directory => NewNode::Directory,
        FileType::Symlink => NewNode::Symlink(member.data),
        FileType::Fifo => NewNode::Fifo,
        FileType::Socket => NewNode::Socket,
        FileType::CharDevice => NewNode::CharDevice(member.rdev),
        FileType::BlockDevice => NewNode::BlockDevice(member.rdev),
    };
    let dentry = match ns.create_at(&from, member.name, node, member.mode & 0o7777) {
        Err(Error::Exists) if kind == FileType::Directory => {
            ns.walk(&from, member.name, WalkFlags::empty())?
        }
        other => other?,
    };
    if kind == FileType::Regular {
        fill(&dentry, member)?;
    }
    let time = vfs::SetTime::To(vfs::TimeSpec { secs: i64::from(member.mtime), nanos: 0 });
    let perm = (kind != FileType::Symlink).then_some(member.mode & 0o7777);
    let owner = (Some(member.uid), Some(member.gid));
    let set = SetAttr { perm, uid: owner.0, gid: owner.1, mtime: Some(time), ..SetAttr::default() };
    dentry.vnode().setattr(&set)?;
    if is_linked {
        links.insert(member.ino, dentry);
    }
    Ok(())
}

fn fill(dentry: &DentryRef, member: &Member<'_>) -> Result<()> {
    if member.data.is_empty() {
        return Ok(());
    }
    let n = dentry.vnode().write(0, &mut SliceSource::new(member.data))?;
    if n == member.data.len() { Ok(()) } else { Err(Error::NoSpace) }
}

fn make_parents(ns: &Arc<Namespace>, from: &WalkFrom<'_>, name: &[u8]) -> Result<()> {
    let ends: Vec<usize> = name.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).collect();
    for end in ends {
        let dir = &name[..end];
        let is_there = ns.walk(from, dir, WalkFlags::FOLLOW).is_ok();
        if !is_there && matches!(ns.walk_parent(from, dir, WalkFlags::empty())?.last, Last::Name(_)) {
            ns.create_at(from, dir, NewNode::Directory, 0o755)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
