//! `zeo snap diff`: what became of each file between two snapshots, as `zfs diff` prints it.
//!
//! The objects that differ come from the pool; their names are found upwards, from a file's parent to the root.
use super::names;
use super::target::{self, About, Target};
use crate::cli::dataset::Diff;
use crate::report::{Mode, print_json};
use crate::say;
use anyhow::{Result, bail};
use mkfs::image::Access;
use ondisk::ObjectId;
use serde::Serialize;
use std::sync::Arc;
use zfs::dsl::Dataset;
use zfs::sa::{Attr, Sa};
use zfs::zap::Zap;

const MASTER: ObjectId = ObjectId(1);
const TYPE_MASK: u64 = 0o170_000;
const DIRECTORY: u64 = 0o040_000;
/// Object numbers in directory entries have 48 bits.
const ENTRY_MASK: u64 = (1 << 48) - 1;
const DEPTH_MAX: usize = 4096;

/// One line.
#[derive(Debug, Serialize)]
struct Change {
    /// `+`, `-`, `M`, `R`.
    change: char,
    kind: char,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<i64>,
    #[serde(skip)]
    time: [u64; 2],
}

/// Prints what differs.
///
/// # Errors
/// Names that are no snapshots of one dataset; reading's.
pub fn run(args: &Diff, mode: Mode) -> Result<()> {
    let changes = target::with(&args.image, Access::Read, |target| {
        let from = target.full(&args.from);
        let Some((path, _)) = from.split_once('@') else {
            bail!("'{from}' is not a snapshot");
        };
        names::snapshot(target, &from)?;
        let to = args.to.as_ref().map_or_else(|| path.to_owned(), |to| target.full(to));
        match to.contains('@') {
            true => names::snapshot(target, &to)?,
            false => names::dataset(target, &to)?,
        }
        compare(target, &from, &to)
    })?;
    if mode == Mode::Json {
        return print_json(&changes);
    }
    changes.iter().for_each(|change| say!("{}", line(args, change)));
    Ok(())
}

fn line(args: &Diff, change: &Change) -> String {
    let mut fields = Vec::new();
    if args.times {
        fields.push(format!("{}.{:09}", change.time[0], change.time[1]));
    }
    fields.push(change.change.to_string());
    if args.kinds {
        fields.push(change.kind.to_string());
    }
    fields.push(change.path.clone());
    match (&change.to, args.script) {
        (Some(to), true) => fields.push(to.clone()),
        (Some(to), false) => fields.push(format!("-> {to}")),
        (None, _) => {}
    }
    let mut line = fields.join("\t");
    if let (Some(_), false) = (&change.to, args.script) {
        line = line.replacen("\t->", " ->", 1);
    }
    if let Some(links) = change.links {
        line.push_str(&format!("\t({links:+})"));
    }
    line
}

fn compare(target: &Target, from: &str, to: &str) -> Result<Vec<Change>> {
    let changed =
        target.spa().changed_objects(from, to).about(|| format!("cannot compare {from} and {to}"))?;
    let mountpoint = target.spa().open_dataset(to.split('@').next().unwrap_or(to))?.properties()?.mountpoint;
    let base =
        if mountpoint.starts_with('/') { mountpoint.trim_end_matches('/').to_owned() } else { String::new() };
    let (before, after) = (Side::open(target, from, &base)?, Side::open(target, to, &base)?);
    let mut changes = Vec::new();
    for id in changed {
        compare_object(&before, &after, id, &mut changes)?;
    }
    Ok(changes)
}

/// What is known of a file on one side.
struct Stat {
    generation: u64,
    mode: u64,
    links: u64,
    ctime: [u64; 2],
    path: String,
}

impl Stat {
    fn kind(&self) -> char {
        match self.mode & TYPE_MASK {
            0o060_000 => 'B',
            0o020_000 => 'C',
            DIRECTORY => '/',
            0o010_000 => '|',
            0o120_000 => '@',
            0o140_000 => '=',
            0o100_000 => 'F',
            _ => '?',
        }
    }

    fn change(&self, change: char) -> Change {
        let (kind, path, time) = (self.kind(), self.path.clone(), self.ctime);
        Change { change, kind, path, to: None, links: None, time }
    }
}

fn compare_object(before: &Side, after: &Side, id: ObjectId, changes: &mut Vec<Change>) -> Result<()> {
    match (before.stat(id)?, after.stat(id)?) {
        (None, None) => {}
        (None, Some(new)) => changes.push(new.change('+')),
        (Some(old), None) => changes.push(old.change('-')),
        (Some(old), Some(new)) => {
            let is_same_file =
                old.generation == new.generation && old.mode & TYPE_MASK == new.mode & TYPE_MASK;
            if !is_same_file {
                changes.extend([old.change('-'), new.change('+')]);
                return Ok(());
            }
            if old.ctime == new.ctime {
                return Ok(());
            }
            let links = new.links.cast_signed() - old.links.cast_signed();
            if links != 0 && new.mode & TYPE_MASK != DIRECTORY && new.links != 0 && old.links != 0 {
                let path = if links > 0 { old.path } else { new.path.clone() };
                changes.push(Change { path, links: Some(links), ..new.change('M') });
            } else if old.path == new.path {
                changes.push(new.change('M'));
            } else {
                changes.push(Change { path: old.path, to: Some(new.path.clone()), ..new.change('R') });
            }
        }
    }
    Ok(())
}

/// A file system as objects.
struct Side {
    dataset: Arc<Dataset>,
    sa: Sa,
    root: ObjectId,
    base: String,
}

impl Side {
    fn open(target: &Target, name: &str, base: &str) -> Result<Self> {
        let dataset = target.spa().open_dataset(name)?;
        let objset = dataset.objset();
        let master = Zap::hold(&objset, MASTER)?;
        let sa = match master.lookup_u64(b"SA_ATTRS") {
            Ok(id) => Sa::open(&objset, ObjectId(id))?,
            Err(zfs::Error::NotFound) => Sa::legacy(),
            Err(e) => return Err(e.into()),
        };
        let root = ObjectId(master.lookup_u64(b"ROOT")?);
        Ok(Self { dataset, sa, root, base: base.to_owned() })
    }

    fn stat(&self, id: ObjectId) -> Result<Option<Stat>> {
        let dnode = match self.dataset.objset().hold(id) {
            Ok(dnode) => dnode,
            Err(zfs::Error::NotFound) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if !matches!(dnode.bonus_kind(), ondisk::DmuType::SA | ondisk::DmuType::ZNODE) {
            return Ok(None);
        }
        let get = |attr| self.sa.get_u64(&dnode, attr);
        let times = self.sa.get(&dnode, Attr::Ctime)?.unwrap_or_default();
        let word =
            |at: usize| times.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let links = get(Attr::Links)?;
        if links == 0 {
            // Removed and still open: it has no name.
            return Ok(None);
        }
        let Some(path) = self.path(id)? else {
            return Ok(None);
        };
        Ok(Some(Stat {
            generation: get(Attr::Gen)?,
            mode: get(Attr::Mode)?,
            links,
            ctime: [word(0), word(8)],
            path: escape(&path),
        }))
    }

    /// The path of an object; `None` for what lies in no directory (extended attributes).
    fn path(&self, id: ObjectId) -> Result<Option<Vec<u8>>> {
        let objset = self.dataset.objset();
        let (mut at, mut parts) = (id, Vec::new());
        while at != self.root {
            if parts.len() > DEPTH_MAX {
                bail!("object {id} lies in a loop of directories");
            }
            let dnode = objset.hold(at)?;
            let parent = ObjectId(self.sa.get_u64(&dnode, Attr::Parent)?);
            let Ok(directory) = Zap::hold(&objset, parent) else {
                return Ok(None);
            };
            let mut name = None;
            directory.for_each(0, &mut |entry| {
                if entry.value.as_word().is_some_and(|value| value & ENTRY_MASK == at.0) {
                    name = Some(entry.name.clone());
                }
                name.is_none()
            })?;
            let Some(name) = name else { return Ok(None) };
            parts.push(name);
            at = parent;
        }
        let mut path = self.base.clone().into_bytes();
        if parts.is_empty() {
            path.push(b'/');
        }
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Ok(Some(path))
    }
}

/// As `zfs diff` prints bytes that are no plain characters: a backslash and four octal digits.
fn escape(path: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'\\' => "\\0134".to_owned(),
        b' ' => "\\0040".to_owned(),
        0x21..=0x7e => char::from(*byte).to_string(),
        other => format!("\\{other:04o}"),
    };
    path.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_octal() {
        assert_eq!(escape(b"/a b\\\x01"), "/a\\0040b\\0134\\0001");
    }
}
