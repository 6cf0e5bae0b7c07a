//! The files of a Debian package, as a stream. Its scripts are not run.
use crate::tree::item::{CHUNK, Emit, Event, Item, Kind, Meta, Source};
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use vfs::{DeviceId, TimeSpec};

/// A package file.
#[derive(Debug)]
pub struct Deb {
    file: PathBuf,
}

impl Deb {
    /// The package in `file`.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned() }
    }
}

impl Source for Deb {
    fn produce(&mut self, emit: Emit<'_>) -> Result<()> {
        // dpkg-deb knows every container and compression packages come in, and unpacks as a stream.
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&self.file)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("dpkg-deb")?;
        let result = match child.stdout.take() {
            Some(out) => emit_tar(out, emit),
            None => bail!("dpkg-deb has no output"),
        };
        // What went wrong here is said first; a broken pipe of the child is only its consequence.
        let status = child.wait();
        result.with_context(|| self.file.display().to_string())?;
        if !status?.success() {
            bail!("dpkg-deb failed on {}", self.file.display());
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The entries of a tar archive as events.
///
/// # Errors
/// The archive's, and those of `emit`.
pub fn emit_tar(input: impl Read, emit: Emit<'_>) -> Result<()> {
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        emit_entry(&mut entry, &path, emit).with_context(|| String::from_utf8_lossy(&path).into_owned())?;
    }
    Ok(())
}

fn emit_entry(entry: &mut tar::Entry<'_, impl Read>, path: &[u8], emit: Emit<'_>) -> Result<()> {
    let header = entry.header().clone();
    let meta = Meta {
        perm: header.mode()? & 0o7777,
        uid: u32::try_from(header.uid()?)?,
        gid: u32::try_from(header.gid()?)?,
        mtime: TimeSpec { secs: i64::try_from(header.mtime()?)?, nanos: 0 },
        xattrs: xattrs(entry)?,
    };
    let link = || entry.link_name_bytes().map(|n| n.into_owned()).context("a link to nothing");
    let device = || -> Result<DeviceId> {
        let major = header.device_major()?.unwrap_or(0);
        Ok(DeviceId { major, minor: header.device_minor()?.unwrap_or(0) })
    };
    let kind = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => Kind::Regular { size: entry.size() },
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink(link()?),
        tar::EntryType::Link => Kind::HardLink(link()?),
        tar::EntryType::Fifo => Kind::Fifo,
        tar::EntryType::Char => Kind::CharDevice(device()?),
        tar::EntryType::Block => Kind::BlockDevice(device()?),
        other => bail!("an entry of type {other:?}"),
    };
    let is_file = matches!(kind, Kind::Regular { .. });
    emit(Event::Item(Item { path: path.to_vec(), kind, meta }))?;
    if !is_file {
        return Ok(());
    }
    let mut offset = 0;
    while offset < entry.size() {
        let mut bytes = vec![0; (entry.size() - offset).min(CHUNK as u64) as usize];
        entry.read_exact(&mut bytes)?;
        let n = bytes.len() as u64;
        emit(Event::Data { offset, bytes })?;
        offset += n;
    }
    Ok(())
}

/// Extended attributes in PAX records.
fn xattrs(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
                found.push((name.to_vec(), extension.value_bytes().to_vec()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_archive_becomes_events() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |kind, path: &str, mode, link: Option<&str>, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(5);
            header.set_gid(6);
            header.set_mtime(1000);
            header.set_size(data.len() as u64);
            if let Some(link) = link {
                header.set_link_name(link).expect("short");
            }
            builder.append_data(&mut header, path, data).expect("append");
        };
        add(tar::EntryType::Directory, "usr/", 0o755, None, b"");
        add(tar::EntryType::Regular, "usr/f", 0o4755, None, b"content");
        add(tar::EntryType::Symlink, "usr/l", 0o777, Some("f"), b"");
        add(tar::EntryType::Link, "usr/h", 0o755, Some("usr/f"), b"");
        let archive = builder.into_inner().expect("archive");
        let mut events = Vec::new();
        emit_tar(&archive[..], &mut |e| {
            events.push(e);
            Ok(())
        })
        .expect("good");
        let kinds: Vec<_> = events
            .iter()
            .map(|e| match e {
                Event::Item(i) => (i.path.clone(), i.kind.clone(), i.meta.perm, i.meta.uid),
                Event::Data { bytes, .. } => (bytes.clone(), Kind::Fifo, 0, 0),
            })
            .collect();
        assert_eq!(kinds[0], (b"usr/".to_vec(), Kind::Directory, 0o755, 5));
        assert_eq!(kinds[1], (b"usr/f".to_vec(), Kind::Regular { size: 7 }, 0o4755, 5));
        assert_eq!(kinds[2].0, b"content");
        assert_eq!(kinds[3].1, Kind::Symlink(b"f".to_vec()));
        assert_eq!(kinds[4].1, Kind::HardLink(b"usr/f".to_vec()));
        assert!(emit_tar(&archive[..700], &mut |_| Ok(())).is_err(), "cut short");
    }
}
