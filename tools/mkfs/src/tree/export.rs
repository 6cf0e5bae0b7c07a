//! An image's tree onto the host, with all attributes the caller may set.
//!
//! Owners, device nodes and trusted attributes need root; without it owners are left to the host and device nodes
//! and such attributes are reported, not fatal.
use super::path;
use super::walk::{Found, read_file, walk};
use anyhow::{Context, Result};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec as HostTime;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use vfs::{Attr, Error, FileType, SeekWhat, SliceSink, TimeSpec, VnodeRef};

/// What was written, and what could not be.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names of any type.
    pub names: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// What the host refused, one line each.
    pub warnings: Vec<String>,
}

/// At most this many warnings are kept.
const WARNINGS_MAX: usize = 100;

/// Copies `start` and everything below it to `target`, which must not exist.
///
/// # Errors
/// The image's and the host's, with the path.
pub fn export(start: &VnodeRef, target: &Path) -> Result<Outcome> {
    let mut exporter = Exporter {
        target: target.to_owned(),
        links: HashMap::new(),
        directories: Vec::new(),
        is_root: nix::unistd::geteuid().is_root(),
        outcome: Outcome::default(),
    };
    walk(start, &mut |found| {
        exporter.leave_to(found.depth)?;
        exporter.put(found).with_context(|| path::show(&found.path))
    })?;
    exporter.leave_to(0)?;
    Ok(exporter.outcome)
}

struct Exporter {
    target: PathBuf,
    links: HashMap<u64, (PathBuf, u64)>,
    /// Directories whose attributes are set when everything in them is there.
    directories: Vec<(PathBuf, VnodeRef)>,
    is_root: bool,
    outcome: Outcome,
}

impl Exporter {
    fn put(&mut self, found: &Found) -> Result<()> {
        let host = if found.path.is_empty() {
            self.target.clone()
        } else {
            self.target.join(OsStr::from_bytes(&found.path))
        };
        let attr = found.node.getattr()?;
        self.outcome.names += 1;
        if attr.kind != FileType::Directory && attr.nlink > 1 {
            if let Some((first, nr_left)) = self.links.get_mut(&attr.ino) {
                std::fs::hard_link(&*first, &host)?;
                *nr_left -= 1;
                if *nr_left == 0 {
                    self.links.remove(&attr.ino);
                }
                return Ok(());
            }
            self.links.insert(attr.ino, (host.clone(), attr.nlink - 1));
        }
        match attr.kind {
            FileType::Directory => {
                std::fs::create_dir(&host)?;
                self.directories.push((host, found.node.clone()));
                return Ok(());
            }
            FileType::Regular => self.outcome.bytes += write_file(&found.node, &attr, &host)?,
            FileType::Symlink => symlink(OsStr::from_bytes(&found.node.readlink()?), &host)?,
            FileType::Fifo | FileType::Socket | FileType::CharDevice | FileType::BlockDevice => {
                if let Err(e) = make_node(&host, &attr) {
                    self.warn(format!("{}: {e}", path::show(&found.path)));
                    return Ok(());
                }
            }
        }
        self.set_attributes(&found.node, &attr, &host)
    }

    fn leave_to(&mut self, depth: usize) -> Result<()> {
        while self.directories.len() > depth {
            if let Some((host, node)) = self.directories.pop() {
                let attr = node.getattr()?;
                self.set_attributes(&node, &attr, &host)?;
            }
        }
        Ok(())
    }

    fn set_attributes(&mut self, node: &VnodeRef, attr: &Attr, host: &Path) -> Result<()> {
        if self.is_root {
            lchown(host, Some(attr.uid), Some(attr.gid))?;
        }
        for name in node.listxattr()? {
            let value = node.getxattr(&name)?;
            let flags = rustix::fs::XattrFlags::empty();
            if let Err(e) = rustix::fs::lsetxattr(host.as_os_str().as_bytes(), &name[..], &value, flags) {
                self.warn(format!("{}: {}: {e}", host.display(), String::from_utf8_lossy(&name)));
            }
        }
        if attr.kind != FileType::Symlink {
            std::fs::set_permissions(host, std::fs::Permissions::from_mode(attr.perm))?;
        }
        let (atime, mtime) = (host_time(attr.atime), host_time(attr.mtime));
        utimensat(nix::fcntl::AT_FDCWD, host, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }

    fn warn(&mut self, text: String) {
        if self.outcome.warnings.len() < WARNINGS_MAX {
            self.outcome.warnings.push(text);
        }
    }
}

fn host_time(time: TimeSpec) -> HostTime {
    HostTime::new(time.secs, i64::from(time.nanos))
}

fn make_node(host: &Path, attr: &Attr) -> nix::Result<()> {
    let kind = match attr.kind {
        FileType::Fifo => SFlag::S_IFIFO,
        FileType::Socket => SFlag::S_IFSOCK,
        FileType::CharDevice => SFlag::S_IFCHR,
        _ => SFlag::S_IFBLK,
    };
    let device = makedev(u64::from(attr.rdev.major), u64::from(attr.rdev.minor));
    mknod(host, kind, Mode::from_bits_truncate(attr.perm), device)
}

/// Copies a file's data, leaving out its holes; bytes copied.
fn write_file(node: &VnodeRef, attr: &Attr, host: &Path) -> Result<u64> {
    let file = File::options().write(true).create_new(true).open(host)?;
    file.set_len(attr.size)?;
    let mut buffer = vec![0; super::item::CHUNK];
    let (mut at, mut bytes) = (0, 0);
    while at < attr.size {
        let start = match node.seek(SeekWhat::Data, at) {
            Ok(start) => start,
            Err(Error::NoSuchAddress) => break,
            Err(Error::Invalid | Error::Unsupported) => at,
            Err(e) => return Err(e.into()),
        };
        let end = node.seek(SeekWhat::Hole, start).unwrap_or(attr.size).max(start + 1);
        at = start;
        while at < end {
            let room = buffer.len().min((end - at) as usize);
            let n = node.read(at, &mut SliceSink::new(&mut buffer[..room]))?;
            if n == 0 {
                return Ok(bytes);
            }
            file.write_all_at(&buffer[..n], at)?;
            at += n as u64;
            bytes += n as u64;
        }
    }
    Ok(bytes)
}

/// Writes a file's content to a stream.
///
/// # Errors
/// The image's and the stream's.
pub fn cat(node: &VnodeRef, out: &mut dyn std::io::Write) -> Result<u64> {
    if node.kind() != FileType::Regular {
        anyhow::bail!("not a regular file");
    }
    read_file(node, &mut |bytes| Ok(out.write_all(bytes)?))
}
