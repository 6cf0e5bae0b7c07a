//! Files without names.
//!
//! A file that loses its last name while it is open stands in the unlinked set (key: its object number in hexadecimal)
//! until it is closed. Mounting frees what a crash left there. A file that no one has open is freed in the transaction
//! that takes its last name.
use crate::attrs::Attrs;
use crate::dir::{OBJECT_MASK, object_of};
use crate::error::IntoVfs;
use crate::fs::{ZplFs, log_error};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::ObjectId;
use vfs::Result;
use zfs::bugs::{self, Bug};
use zfs::dmu::{DmuTx, Dnode, TxSpace};
use zfs::zap::Zap;

use crate::znode::Znode;

fn key(id: ObjectId) -> String {
    format!("{:x}", id.0)
}

impl ZplFs {
    /// Puts an object in the unlinked set.
    pub(crate) fn add_unlinked(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        let unlinked = self.unlinked.as_ref().ok_or(vfs::Error::ReadOnly)?;
        unlinked.update_u64(tx, key(id).as_bytes(), id.0).vfs()
    }

    /// Takes an object out of the unlinked set.
    pub(crate) fn remove_unlinked(&self, tx: &DmuTx, id: ObjectId) -> Result<()> {
        let unlinked = self.unlinked.as_ref().ok_or(vfs::Error::ReadOnly)?;
        unlinked.remove(tx, key(id).as_bytes()).vfs()
    }

    /// The last name of `znode`, the caller's, is gone: frees the object now, or when it is closed.
    pub(crate) fn bury(&self, tx: &DmuTx, znode: &Arc<Znode>, has_xattr_dir: bool) -> Result<()> {
        if !has_xattr_dir && self.table.begin_death(znode) {
            let freed = self.objset.free(tx, znode.object()).vfs();
            self.table.end_death(znode, freed.is_ok());
            return freed;
        }
        if !bugs::is(Bug::UnlinkedForgotten) {
            self.add_unlinked(tx, znode.object())?;
        }
        znode.is_unlinked.store(true, core::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// Frees an object of the unlinked set that no one uses.
    pub(crate) fn free_unlinked(&self, id: ObjectId) -> Result<()> {
        let dnode = match self.objset.hold(id) {
            Ok(dnode) => Some(dnode),
            Err(zfs::Error::NotFound) => None,
            Err(e) => return Err(log_error("unlinked object", e)),
        };
        if let Some(dnode) = &dnode {
            self.free_xattr_dir(dnode)?;
        }
        let tx = self.begin(TxSpace::names(1, 1).net_free())?;
        self.remove_unlinked(&tx, id)?;
        if dnode.is_some() {
            drop(dnode);
            self.objset.free(&tx, id).vfs()?;
        }
        Ok(())
    }

    /// Frees the hidden directory of an object's extended attributes, entry by entry: a crash on the way leaves a
    /// shorter directory that the next mount goes on with.
    fn free_xattr_dir(&self, dnode: &Arc<Dnode>) -> Result<()> {
        let attrs = Attrs::load(&self.sa, dnode).vfs()?;
        let Some(id) = ObjectId(attrs.xattr_dir).non_zero() else { return Ok(()) };
        let entries = match Zap::hold(&self.objset, id) {
            Ok(zap) => zap,
            Err(zfs::Error::NotFound) => return Ok(()),
            Err(e) => return Err(log_error("extended attributes", e)),
        };
        let mut names = Vec::new();
        entries
            .for_each(0, &mut |e| {
                names.push((e.name.clone(), e.value.as_word().map_or(0, |w| w & OBJECT_MASK)));
                true
            })
            .vfs()?;
        for (name, object) in names {
            let tx = self.begin(TxSpace::names(2, 1).net_free())?;
            entries.remove(&tx, &name).vfs()?;
            match self.objset.free(&tx, ObjectId(object)) {
                Ok(()) | Err(zfs::Error::NotFound) => {}
                Err(e) => return Err(log_error("extended attribute", e)),
            }
        }
        drop(entries);
        let tx = self.begin(TxSpace::names(1, 0).net_free())?;
        self.objset.free(&tx, id).vfs()
    }

    /// Frees what a crash left in the unlinked set.
    pub(crate) fn drain_unlinked(&self) -> zfs::Result<()> {
        let Some(unlinked) = &self.unlinked else { return Ok(()) };
        let mut left = Vec::new();
        unlinked.for_each(0, &mut |e| {
            left.extend(e.value.as_word().map(|w| ObjectId(object_of(w))));
            true
        })?;
        for id in left {
            if let Err(e) = self.free_unlinked(id) {
                log::warn!("object {id} of the unlinked set cannot be freed: {e}");
            }
        }
        Ok(())
    }
}
