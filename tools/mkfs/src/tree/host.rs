//! A directory or file of the host as a stream.
//!
//! Names are sorted, so the stream depends on the tree alone. Hard links are found by device and inode; a pair is
//! remembered only until its last name has come by.
use super::item::{CHUNK, Emit, Event, Item, Kind, Meta, Source};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek64};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use vfs::{DeviceId, TimeSpec};

/// A tree of the host.
#[derive(Debug)]
pub struct HostTree {
    source: PathBuf,
    target: Vec<u8>,
    owner: (Option<u32>, Option<u32>),
    perm: Option<u32>,
    links: HashMap<(u64, u64), (Vec<u8>, u64)>,
}

impl HostTree {
    /// `source` becomes `target` in the image, with all that is in it.
    pub fn new(source: &Path, target: &[u8]) -> Self {
        Self {
            source: source.to_owned(),
            target: target.to_vec(),
            owner: (None, None),
            perm: None,
            links: HashMap::new(),
        }
    }

    /// Everything belongs to this owner and group, where given.
    #[must_use]
    pub fn owned_by(mut self, uid: Option<u32>, gid: Option<u32>) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// `source` itself gets these permission bits.
    #[must_use]
    pub fn with_perm(mut self, perm: Option<u32>) -> Self {
        self.perm = perm;
        self
    }

    fn emit_one(&mut self, host: &Path, target: &[u8], emit: Emit<'_>) -> Result<bool> {
        let stat = host.symlink_metadata()?;
        let is_directory = stat.is_dir();
        let mut meta = self.meta(host, &stat)?;
        if host == self.source
            && let Some(perm) = self.perm
        {
            meta.perm = perm;
        }
        if !is_directory && stat.nlink() > 1 {
            let key = (stat.dev(), stat.ino());
            if let Some((first, nr_left)) = self.links.get_mut(&key) {
                let kind = Kind::HardLink(first.clone());
                *nr_left -= 1;
                if *nr_left == 0 {
                    self.links.remove(&key);
                }
                emit(Event::Item(Item { path: target.to_vec(), kind, meta }))?;
                return Ok(false);
            }
            self.links.insert(key, (target.to_vec(), stat.nlink() - 1));
        }
        let kind = kind_of(host, &stat)?;
        let is_file = matches!(kind, Kind::Regular { .. });
        emit(Event::Item(Item { path: target.to_vec(), kind, meta }))?;
        if is_file && stat.len() > 0 {
            emit_file(host, &stat, emit)?;
        }
        Ok(is_directory)
    }

    fn meta(&self, host: &Path, stat: &Metadata) -> Result<Meta> {
        Ok(Meta {
            perm: stat.mode() & 0o7777,
            uid: self.owner.0.unwrap_or(stat.uid()),
            gid: self.owner.1.unwrap_or(stat.gid()),
            mtime: TimeSpec { secs: stat.mtime(), nanos: stat.mtime_nsec() as u32 },
            xattrs: read_xattrs(host)?,
        })
    }
}

impl Source for HostTree {
    fn produce(&mut self, emit: Emit<'_>) -> Result<()> {
        let (source, target) = (self.source.clone(), self.target.clone());
        let mut stack = vec![(source, target, None::<std::vec::IntoIter<std::ffi::OsString>>)];
        let is_directory = {
            let (source, target, _) = &stack[0];
            self.emit_one(&source.clone(), &target.clone(), emit)
                .with_context(|| self.source.display().to_string())?
        };
        if !is_directory {
            return Ok(());
        }
        while let Some((host, target, rest)) = stack.last_mut() {
            if rest.is_none() {
                *rest = Some(sorted_names(host).with_context(|| host.display().to_string())?.into_iter());
            }
            let Some(name) = rest.as_mut().and_then(Iterator::next) else {
                stack.pop();
                continue;
            };
            let host = host.join(&name);
            let mut path = target.clone();
            path.push(b'/');
            path.extend_from_slice(name.as_bytes());
            let is_directory =
                self.emit_one(&host, &path, emit).with_context(|| host.display().to_string())?;
            if is_directory {
                stack.push((host, path, None));
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.source.display().to_string()
    }
}

fn sorted_names(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

fn kind_of(host: &Path, stat: &Metadata) -> Result<Kind> {
    let kind = stat.file_type();
    let device = DeviceId {
        major: nix::sys::stat::major(stat.rdev()) as u32,
        minor: nix::sys::stat::minor(stat.rdev()) as u32,
    };
    Ok(if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::Regular { size: stat.len() }
    } else if kind.is_symlink() {
        Kind::Symlink(std::fs::read_link(host)?.as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharDevice(device)
    } else if kind.is_block_device() {
        Kind::BlockDevice(device)
    } else {
        bail!("a file of unknown type")
    })
}

/// Data of a file, as long as it was when it was looked at; of one that occupies less than its size only the parts that
/// are there.
fn emit_file(host: &Path, stat: &Metadata, emit: Emit<'_>) -> Result<()> {
    let file = File::open(host)?;
    let is_sparse = stat.blocks() * 512 < stat.len();
    if !is_sparse {
        return emit_range(&file, 0, stat.len(), emit);
    }
    let mut at = 0_i64;
    loop {
        let start = match lseek64(&file, at, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return Ok(()),
            Err(Errno::EINVAL) => return emit_range(&file, 0, stat.len(), emit),
            Err(e) => return Err(e.into()),
        };
        let end = lseek64(&file, start, Whence::SeekHole)?.min(stat.len() as i64);
        emit_range(&file, start as u64, end as u64, emit)?;
        at = end.max(start + 1);
    }
}

fn emit_range(file: &File, start: u64, end: u64, emit: Emit<'_>) -> Result<()> {
    let mut offset = start;
    while offset < end {
        // Pieces end at multiples of their size, so that records are written whole.
        let n = (CHUNK as u64 - offset % CHUNK as u64).min(end - offset);
        let mut bytes = vec![0; n as usize];
        file.read_exact_at(&mut bytes, offset)?;
        emit(Event::Data { offset, bytes })?;
        offset += n;
    }
    Ok(())
}

/// A file's extended attributes, sorted; none where the host's file system has none. ACLs are among them.
fn read_xattrs(host: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = host.as_os_str().as_bytes();
    let mut names = [0; 4096];
    let list = match rustix::fs::llistxattr(path, &mut names) {
        Ok(0) | Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(n) => names[..n].to_vec(),
        Err(rustix::io::Errno::RANGE) => grow(|room| rustix::fs::llistxattr(path, room))?,
        Err(e) => return Err(io_error(e)),
    };
    let mut found = Vec::new();
    for name in list.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let value = grow(|room| rustix::fs::lgetxattr(path, name, room))?;
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls with more and more room, up to what Linux allows.
fn grow(mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>> {
    const ROOM_MAX: usize = 1 << 17;
    let mut room = vec![0; 1 << 12];
    loop {
        match call(&mut room[..]) {
            Ok(n) => {
                room.truncate(n);
                return Ok(room);
            }
            Err(rustix::io::Errno::RANGE) if room.len() < ROOM_MAX => room.resize(ROOM_MAX, 0),
            Err(e) => return Err(io_error(e)),
        }
    }
}

fn io_error(e: rustix::io::Errno) -> anyhow::Error {
    std::io::Error::from_raw_os_error(e.raw_os_error()).into()
}
