//! From names to objects and back: `pool/a/b` and `pool/a/b@snap`.
use super::dir;
use crate::spa::mos::Mos;
use crate::{Error, Result};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use ondisk::ObjectId;

/// Longest full name of a dataset, as OpenZFS has it (256 with the final NUL).
pub const DATASET_NAME_MAX: usize = 255;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) dir: ObjectId,
    /// The head dataset, or the snapshot; 0 for a directory without.
    pub(crate) dataset: ObjectId,
    pub(crate) is_snapshot: bool,
}

/// Checks that a name may be given to a new dataset.
pub(crate) fn check(name: &str) -> Result<()> {
    if name.len() > DATASET_NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let is_good = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b))
    };
    if name.split('/').all(is_good) { Ok(()) } else { Err(Error::Invalid) }
}

/// Checks that a name may be given to a snapshot (or bookmark) of the dataset `path`.
pub(crate) fn check_snapshot(path: &str, name: &str) -> Result<()> {
    if path.len() + 1 + name.len() > DATASET_NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let is_good =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.: ".contains(&b));
    if is_good { Ok(()) } else { Err(Error::Invalid) }
}

/// Splits off the last part: `pool/a/b` into `pool/a` and `b`.
pub(crate) fn split(name: &str) -> Result<(&str, &str)> {
    name.rsplit_once('/').ok_or(Error::Invalid)
}

/// The directory of a dataset's name.
pub(crate) fn find_dir(mos: &Mos, root: ObjectId, name: &str) -> Result<ObjectId> {
    let mut parts = name.split('/');
    if parts.next() != Some(mos.pool_name().as_str()) {
        return Err(Error::NotFound);
    }
    let mut at = root;
    for part in parts {
        if part.is_empty() || part.starts_with('$') {
            return Err(Error::NotFound);
        }
        let dir = dir::read(mos, at)?;
        at = mos.zap_lookup(dir.child_dir_zap, part)?.map(ObjectId).ok_or(Error::NotFound)?;
    }
    Ok(at)
}

/// What a name means.
pub(crate) fn find(mos: &Mos, root: ObjectId, name: &str) -> Result<Found> {
    if name.len() > DATASET_NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let (path, snapshot) = match name.split_once('@') {
        Some((path, snapshot)) => (path, Some(snapshot)),
        None => (name, None),
    };
    let dir = find_dir(mos, root, path)?;
    let head = dir::read(mos, dir)?.head_dataset;
    let Some(snapshot) = snapshot else {
        return Ok(Found { dir, dataset: head, is_snapshot: false });
    };
    if head.is_none() {
        return Err(Error::NotFound);
    }
    let zap = dir::read_dataset(mos, head)?.snapnames_zap;
    let dataset = mos.zap_lookup(zap, snapshot)?.map(ObjectId).ok_or(Error::NotFound)?;
    Ok(Found { dir, dataset, is_snapshot: true })
}

/// A dataset met on a walk.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dir: ObjectId,
    pub(crate) dataset: ObjectId,
    pub(crate) is_snapshot: bool,
}

/// Calls `f` with every dataset below and including a directory, by name, snapshots (oldest first) after their head.
/// `with_internal`: `$ORIGIN` and its like too (those without a dataset have object 0), and what is being received
/// (`%recv`).
pub(crate) fn walk(
    mos: &Mos,
    root: ObjectId,
    root_name: &str,
    with_internal: bool,
    f: &mut dyn FnMut(&Entry) -> Result<()>,
) -> Result<()> {
    let mut todo = alloc::vec![(root, String::from(root_name), 0)];
    let mut met = BTreeSet::new();
    while let Some((id, name, depth)) = todo.pop() {
        // A directory has one parent: met again, the tree is none.
        if depth > dir::DEPTH_MAX || !met.insert(id) {
            return Err(Error::Damaged);
        }
        let dir = dir::read(mos, id)?;
        f(&Entry { name: name.clone(), dir: id, dataset: dir.head_dataset, is_snapshot: false })?;
        for entry in snapshots(mos, id, dir.head_dataset, &name)? {
            f(&entry)?;
        }
        let mut children = Vec::new();
        mos.for_each_u64(dir.child_dir_zap, &mut |child, id| {
            if with_internal || !child.starts_with(['$', '%']) {
                children.push((String::from(child), ObjectId(id)));
            }
            Ok(())
        })?;
        children.sort_unstable_by(|a, b| b.cmp(a));
        todo.extend(
            children.into_iter().map(|(child, id)| (id, alloc::format!("{name}/{child}"), depth + 1)),
        );
    }
    Ok(())
}

/// Calls `f` with every directory below and including one that has a dataset, and its full name.
pub(crate) fn walk_dirs(
    mos: &Mos,
    top: ObjectId,
    name: &str,
    f: &mut dyn FnMut(ObjectId, &str) -> Result<()>,
) -> Result<()> {
    walk(mos, top, name, false, &mut |entry| match entry.is_snapshot || entry.dataset.is_none() {
        true => Ok(()),
        false => f(entry.dir, &entry.name),
    })
}

/// The snapshots of a head, oldest first; `name` is that of its dataset.
pub(crate) fn snapshots(mos: &Mos, dir: ObjectId, head: ObjectId, name: &str) -> Result<Vec<Entry>> {
    if head.is_none() {
        return Ok(Vec::new());
    }
    let zap = dir::read_dataset(mos, head)?.snapnames_zap;
    if zap.is_none() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    mos.for_each_u64(zap, &mut |snapshot, id| {
        found.push((String::from(snapshot), ObjectId(id)));
        Ok(())
    })?;
    let mut sorted = Vec::new();
    for (snapshot, id) in found {
        let txg = dir::read_dataset(mos, id)?.creation_txg;
        let name = alloc::format!("{name}@{snapshot}");
        sorted.push((txg, Entry { name, dir, dataset: id, is_snapshot: true }));
    }
    sorted.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    Ok(sorted.into_iter().map(|(_, entry)| entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_new_datasets() {
        assert_eq!(check("pool/a-b_c.d:e f"), Ok(()));
        for bad in ["", "pool//a", "pool/", "pool/a@b", "pool/..", "pool/$MOS", "pool/a#b", "pool/\u{e4}"] {
            assert_eq!(check(bad), Err(Error::Invalid), "{bad}");
        }
        assert_eq!(check(&"a".repeat(256)), Err(Error::NameTooLong));
        assert_eq!(split("pool/a/b"), Ok(("pool/a", "b")));
    }
}
