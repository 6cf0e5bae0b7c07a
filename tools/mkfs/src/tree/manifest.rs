//! Lists of what is in a tree, byte for byte as `sha256sum`, `find -printf` and `getfattr` print them, so that they can
//! be compared with lists taken from a mounted file system.
//!
//! | list | a line | order |
//! |---|---|---|
//! | `sha256` | as sha256sum: a leading backslash marks a name with escapes | by path |
//! | `meta` | `TYPE MODE UID GID NLINK SIZE MTIME PATH[ -> TARGET]`; link count and size are `-` for directories | bytewise by line |
//! | `xattr` | as `getfattr -h -d -e hex` of the user, trusted and security names | by path |
use super::walk::{Covered, Found, read_file, walk_with};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::io::Write;
use vfs::{Attr, FileType, VnodeRef};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Hashes of regular files.
    Sha256,
    /// Attributes of everything.
    Meta,
    /// Extended attributes of files and directories.
    Xattr,
}

/// Writes the list of what is below `start`. Directories that are covered are listed as what covers them, without what
/// is in them.
///
/// # Errors
/// The image's, with the path, and the output's.
pub fn write(start: &VnodeRef, covered: &Covered, list: List, out: &mut dyn Write) -> Result<()> {
    match list {
        List::Meta => write_meta(start, covered, out),
        List::Sha256 => write_sorted(start, covered, out, &|found| {
            (found.node.kind() == FileType::Regular).then_some(()).map(|()| sha256_record(found)).transpose()
        }),
        List::Xattr => write_sorted(start, covered, out, &|found| {
            let is_listed = matches!(found.node.kind(), FileType::Regular | FileType::Directory);
            if is_listed { xattr_record(found) } else { Ok(None) }
        }),
    }
}

type Record<'a> = &'a dyn Fn(&Found) -> Result<Option<Vec<u8>>>;

/// Records in the order of whole paths, in which `a/b` comes after `a-b` though `a` comes before it.
fn write_sorted(start: &VnodeRef, covered: &Covered, out: &mut dyn Write, record: Record<'_>) -> Result<()> {
    let mut records = Vec::new();
    walk_with(start, covered, &mut |found| {
        if let Some(bytes) = record(found)? {
            records.push((found.path.clone(), bytes));
        }
        Ok(())
    })?;
    records.sort_unstable();
    for (_, bytes) in records {
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn write_meta(start: &VnodeRef, covered: &Covered, out: &mut dyn Write) -> Result<()> {
    let mut text = Vec::new();
    walk_with(start, covered, &mut |found| {
        if found.depth > 0 {
            meta_record(found, &mut text)?;
        }
        Ok(())
    })?;
    // Sorted by lines, as sort(1) does: a name with a newline is two of them.
    let mut lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    lines.pop();
    lines.sort_unstable();
    for line in lines {
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn sha256_record(found: &Found) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    read_file(&found.node, &mut |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    let mut record = Vec::new();
    let is_escaped = found.path.iter().any(|b| matches!(b, b'\\' | b'\n' | b'\r'));
    if is_escaped {
        record.push(b'\\');
    }
    for byte in hash.finalize() {
        write!(record, "{byte:02x}")?;
    }
    record.extend_from_slice(b"  ./");
    for byte in &found.path {
        match byte {
            b'\\' => record.extend_from_slice(b"\\\\"),
            b'\n' => record.extend_from_slice(b"\\n"),
            b'\r' => record.extend_from_slice(b"\\r"),
            _ => record.push(*byte),
        }
    }
    record.push(b'\n');
    Ok(record)
}

/// The letter of `find -printf %y`.
pub fn type_letter(kind: FileType) -> char {
    match kind {
        FileType::Regular => 'f',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
    }
}

fn meta_record(found: &Found, out: &mut Vec<u8>) -> Result<()> {
    let attr: Attr = found.node.getattr()?;
    write!(out, "{} {:o} {} {} ", type_letter(attr.kind), attr.perm & 0o7777, attr.uid, attr.gid)?;
    if attr.kind == FileType::Directory {
        out.extend_from_slice(b"- - ");
    } else {
        write!(out, "{} {} ", attr.nlink, attr.size)?;
    }
    write!(out, "{}.{:09}0 ", attr.mtime.secs, attr.mtime.nanos)?;
    out.extend_from_slice(&found.path);
    if attr.kind == FileType::Symlink {
        out.extend_from_slice(b" -> ");
        out.extend_from_slice(&found.node.readlink()?);
    }
    out.push(b'\n');
    Ok(())
}

fn xattr_record(found: &Found) -> Result<Option<Vec<u8>>> {
    const LISTED: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    let mut names = found.node.listxattr()?;
    names.retain(|n| LISTED.iter().any(|prefix| n.starts_with(prefix)));
    if names.is_empty() {
        return Ok(None);
    }
    names.sort_unstable();
    let mut record = b"# file: ".to_vec();
    let path: &[u8] = if found.path.is_empty() { b"." } else { &found.path };
    quote(path, b"\n\r", &mut record);
    record.push(b'\n');
    for name in names {
        let value = found.node.getxattr(&name)?;
        quote(&name, b"=\n\r", &mut record);
        record.extend_from_slice(b"=0x");
        for byte in value {
            write!(record, "{byte:02x}")?;
        }
        record.push(b'\n');
    }
    record.push(b'\n');
    Ok(Some(record))
}

/// Octal escapes of getfattr: the backslash, and what `special` names.
fn quote(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if *byte == b'\\' || special.contains(byte) {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
}
