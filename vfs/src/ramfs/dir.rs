//! The entries of a directory, in order of creation, so that cursors are stable.
use super::Inode;
use crate::dentry::Name;
use crate::error::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use hashbrown::HashMap;

pub(super) struct Entries {
    /// The directory that holds this one; empty for the root.
    pub(super) parent: Weak<Inode>,
    /// Set by rmdir: nothing may be made in it any more.
    pub(super) is_removed: bool,
    by_cursor: BTreeMap<u64, (Name, Arc<Inode>)>,
    by_name: HashMap<Name, u64>,
    next_cursor: u64,
}

impl Entries {
    pub(super) fn new(parent: Weak<Inode>) -> Self {
        Self {
            parent,
            is_removed: false,
            by_cursor: BTreeMap::new(),
            by_name: HashMap::new(),
            next_cursor: 1,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Inode>> {
        let cursor = self.by_name.get(name)?;
        self.by_cursor.get(cursor).map(|(_, inode)| inode)
    }

    pub(super) fn insert(&mut self, name: &[u8], inode: Arc<Inode>) -> Result<()> {
        if self.is_removed {
            return Err(Error::NotFound);
        }
        if self.by_name.contains_key(name) {
            return Err(Error::Exists);
        }
        let (cursor, name) = (self.next_cursor, Name::from_slice(name));
        self.next_cursor += 1;
        self.by_name.insert(name.clone(), cursor);
        self.by_cursor.insert(cursor, (name, inode));
        Ok(())
    }

    /// Puts `inode` in the place of what `name` is.
    pub(super) fn replace(&mut self, name: &[u8], inode: Arc<Inode>) -> Option<Arc<Inode>> {
        let cursor = self.by_name.get(name)?;
        let slot = self.by_cursor.get_mut(cursor)?;
        Some(core::mem::replace(&mut slot.1, inode))
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Inode>> {
        let cursor = self.by_name.remove(name)?;
        self.by_cursor.remove(&cursor).map(|(_, inode)| inode)
    }

    /// The entry after `cursor`.
    pub(super) fn after(&self, cursor: u64) -> Option<(u64, Name, Arc<Inode>)> {
        let from = cursor.checked_add(1)?;
        let (cursor, (name, inode)) = self.by_cursor.range(from..).next()?;
        Some((*cursor, name.clone(), inode.clone()))
    }

    pub(super) fn clear(&mut self) -> BTreeMap<u64, (Name, Arc<Inode>)> {
        self.by_name.clear();
        core::mem::take(&mut self.by_cursor)
    }
}
