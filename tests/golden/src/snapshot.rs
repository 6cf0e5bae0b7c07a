//! What a pool gives to a reader who takes whatever it can: every path, with its content or the error instead.
//!
//! Bounded, since a damaged pool may claim anything: so many entries, so deep, so many bytes of a file.

use crate::open::{Opened, names};
use std::collections::BTreeMap;
use vfs::{FileType, SliceSink, VnodeRef};

/// Entries looked at in one pool.
const ENTRIES_MAX: usize = 4000;
/// Entries taken of one directory.
const NAMES_MAX: usize = 1000;
/// Depth of directories.
const DEPTH_MAX: usize = 40;
/// Bytes read of one file.
const BYTES_MAX: usize = 256 << 10;

/// What was read of one thing: equal things have equal values.
pub type Reading = Result<Vec<u8>, String>;

/// Everything read, by dataset, path and aspect.
pub type Snapshot = BTreeMap<String, Reading>;

/// Reads all of a pool.
#[must_use]
pub fn take(opened: &Opened) -> Snapshot {
    let mut taker = Taker { found: Snapshot::new(), nr_entries: 0 };
    let datasets = names(&opened.spa);
    let list = datasets.as_ref().map(|names| names.join("\n").into_bytes());
    taker.found.insert("datasets".into(), list.map_err(ToString::to_string));
    for name in datasets.unwrap_or_default() {
        match opened
            .mount(&name)
            .map_err(|e| e.to_string())
            .and_then(|fs| fs.root().map_err(|e| e.to_string()))
        {
            Ok(root) => taker.directory(&format!("{name}:"), &root, 0),
            Err(e) => taker.put(&name, "mount", Err(e)),
        }
    }
    taker.found
}

/// The differences between what was read and what is right, errors not counted.
#[must_use]
pub fn wrong(right: &Snapshot, read: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, reading) in read {
        let Ok(bytes) = reading else { continue };
        if right.get(what).and_then(|r| r.as_ref().ok()) != Some(bytes) {
            wrong.push(what.clone());
        }
    }
    wrong
}

struct Taker {
    found: Snapshot,
    nr_entries: usize,
}

impl Taker {
    fn put(&mut self, path: &str, aspect: &str, reading: Reading) {
        self.found.insert(format!("{path} {aspect}"), reading);
    }

    fn directory(&mut self, path: &str, directory: &VnodeRef, depth: usize) {
        let mut entries = Vec::new();
        let result = directory.readdir(0, &mut |entry| {
            entries.push(entry.name.to_vec());
            entries.len() < NAMES_MAX
        });
        entries.sort();
        let list = entries.join(&b'\n');
        self.put(path, "names", result.map(|()| list).map_err(|e| e.to_string()));
        for name in entries {
            self.nr_entries += 1;
            if self.nr_entries > ENTRIES_MAX {
                return;
            }
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            match directory.lookup(&name) {
                Ok(node) => self.node(&path, &node, depth),
                Err(e) => self.put(&path, "lookup", Err(e.to_string())),
            }
        }
    }

    fn node(&mut self, path: &str, node: &VnodeRef, depth: usize) {
        let attr = node.getattr();
        let size = attr.as_ref().map_or(0, |a| a.size);
        self.put(path, "attributes", attr.map(|a| format!("{a:?}").into_bytes()).map_err(|e| e.to_string()));
        self.xattrs(path, node);
        match node.kind() {
            FileType::Directory if depth < DEPTH_MAX => self.directory(path, node, depth + 1),
            FileType::Regular => {
                let content = content(node, size.min(BYTES_MAX as u64) as usize);
                self.put(path, "content", content.map_err(|e| e.to_string()));
            }
            FileType::Symlink => self.put(path, "target", node.readlink().map_err(|e| e.to_string())),
            _ => {}
        }
    }

    fn xattrs(&mut self, path: &str, node: &VnodeRef) {
        let names = node.listxattr().map(|mut names| {
            names.sort();
            names
        });
        let list = names.as_ref().map(|names| names.join(&b'\n'));
        self.put(path, "xattrs", list.map_err(ToString::to_string));
        for name in names.unwrap_or_default().into_iter().take(NAMES_MAX) {
            let aspect = format!("xattr {}", String::from_utf8_lossy(&name));
            self.put(path, &aspect, node.getxattr(&name).map_err(|e| e.to_string()));
        }
    }
}

/// The first bytes of a file. A read may end before a block that cannot be read; the next one then tells why.
fn content(node: &VnodeRef, len: usize) -> vfs::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match node.read(filled as u64, &mut SliceSink::new(&mut bytes[filled..]))? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
