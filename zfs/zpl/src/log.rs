//! What operations list in the intent log, and the data of their writes when it is written.
//!
//! Everything here is called inside the transaction that makes the change, under the locks that keep dependent changes
//! apart. What has no record (linking a file that had no name, a time of creation) is listed as such: an fsync that
//! needs it waits for its transaction group.
use crate::attrs::Attrs;
use crate::error::IntoVfs;
use crate::fs::ZplFs;
use crate::znode::Znode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use ondisk::zil::RecordKind;
use ondisk::zil_record::{NewObjectRecord, Record, RenameKind, mask};
use ondisk::{BlkPtr, ObjectId};
use vfs::{FileType, NewNode, RenameMode, Result, SetAttr, TimeSpec};
use zfs::bugs::{self, Bug};
use zfs::dmu::{DmuTx, Logged, Piece};
use zfs::zil::{LogSource, SyncMode, Zil};

/// Seconds and nanoseconds as records have them.
pub(crate) fn time_words(t: TimeSpec) -> [u64; 2] {
    [t.secs.cast_unsigned(), u64::from(t.nanos)]
}

impl ZplFs {
    /// The intent log; none where nothing is written.
    #[inline]
    pub(crate) fn zil(&self) -> Option<&Arc<Zil>> {
        self.objset.zil()
    }

    fn log(&self, tx: &DmuTx, record: &Record<'_>) {
        if let Some(zil) = self.zil() {
            zil.log(tx, record);
        }
    }

    /// A new name with a new object.
    pub(crate) fn log_create(&self, tx: &DmuTx, dir: u64, name: &[u8], znode: &Znode, node: NewNode<'_>) {
        let (kind, target) = match node {
            NewNode::Directory => (RecordKind::Mkdir, &[][..]),
            NewNode::Symlink(target) => (RecordKind::Symlink, target),
            _ => (RecordKind::Create, &[][..]),
        };
        let new = {
            let a = znode.attrs.lock();
            NewObjectRecord {
                object: znode.id(),
                slots: znode.dnode.slots(),
                mode: a.mode,
                uid: a.uid,
                gid: a.gid,
                generation: a.generation,
                crtime: time_words(a.crtime),
                rdev: a.rdev,
            }
        };
        self.log(tx, &Record::Create { kind, dir, new, attrs: None, acl: None, name, target });
    }

    /// A name goes away, and with it perhaps its object.
    pub(crate) fn log_remove(&self, tx: &DmuTx, dir: u64, name: &[u8], victim: &Znode) {
        let Some(zil) = self.zil() else { return };
        zil.log(tx, &Record::Remove { is_dir: victim.is_dir(), dir, name });
        self.forget_gone(victim);
    }

    /// A file without names needs no records.
    pub(crate) fn forget_gone(&self, victim: &Znode) {
        let is_gone = victim.is_unlinked.load(Ordering::Acquire) || victim.attrs.lock().links == 0;
        if is_gone && let Some(zil) = self.zil() {
            zil.forget(victim.id());
        }
    }

    pub(crate) fn log_link(&self, tx: &DmuTx, dir: u64, object: u64, name: &[u8]) {
        self.log(tx, &Record::Link { dir, object, name });
    }

    pub(crate) fn log_rename(
        &self,
        tx: &DmuTx,
        (from_dir, from): (u64, &[u8]),
        (to_dir, to): (u64, &[u8]),
        moved: u64,
        mode: RenameMode,
    ) {
        let Some(zil) = self.zil() else { return };
        zil.order(moved);
        let kind = if mode == RenameMode::Exchange { RenameKind::Exchange } else { RenameKind::Replace };
        zil.log(tx, &Record::Rename { kind, from_dir, to_dir, from, to });
    }

    /// A change without a record that later ones may depend on.
    pub(crate) fn note_unlogged(&self, tx: &DmuTx) {
        if let Some(zil) = self.zil() {
            zil.note_unlogged(tx);
        }
    }

    /// Whether each change is to be durable before its call returns.
    pub(crate) fn is_always_sync(&self) -> bool {
        self.zil().is_some_and(|zil| zil.mode() == SyncMode::Always)
    }
}

impl Znode {
    fn is_logged(&self) -> bool {
        // A file without names is gone after a crash.
        !self.is_unlinked.load(Ordering::Acquire)
    }

    pub(crate) fn log_write(&self, tx: &DmuTx, offset: u64, length: u64) {
        if self.is_logged()
            && let Some(zil) = self.fs.zil()
        {
            zil.log_write(tx, (self.id(), self.generation), offset, length, self.dnode.block_size());
        }
    }

    pub(crate) fn log_truncate(&self, tx: &DmuTx, offset: u64, length: u64) {
        if self.is_logged() {
            self.fs.log(tx, &Record::Truncate { object: self.id(), offset, length });
        }
    }

    /// Blocks shared from elsewhere, by the pointers that were cloned.
    pub(crate) fn log_clone(&self, tx: &DmuTx, offset: u64, length: u64, pointers: &[BlkPtr]) {
        if self.is_logged() {
            let block_size = u64::from(self.dnode.block_size());
            let pointers: Vec<u8> = pointers.iter().flat_map(BlkPtr::to_bytes).collect();
            let object = self.id();
            self.fs.log(tx, &Record::CloneRange { object, offset, length, block_size, pointers: &pointers });
        }
    }

    /// The size alone.
    pub(crate) fn log_size(&self, tx: &DmuTx, size: u64) {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let attrs = self.attrs.lock().clone();
        self.log_setattr(tx, &set, &attrs);
    }

    /// The attributes `set` names, with the values they have got.
    pub(crate) fn log_setattr(&self, tx: &DmuTx, set: &SetAttr, a: &Attrs) {
        if !self.is_logged() {
            return;
        }
        if set.btime.is_some() || set.ctime.is_some() {
            self.log_unsaid(tx);
        }
        let bits = [
            (set.perm.is_some(), mask::MODE),
            (set.uid.is_some(), mask::UID),
            (set.gid.is_some(), mask::GID),
            (set.size.is_some(), mask::SIZE),
            (set.atime.is_some(), mask::ATIME),
            (set.mtime.is_some(), mask::MTIME),
        ];
        let mask = bits.into_iter().filter(|(is_set, _)| *is_set).fold(mask::CTIME, |m, (_, bit)| m | bit);
        let record = Record::SetAttr {
            object: self.id(),
            mask,
            mode: a.mode,
            uid: a.uid,
            gid: a.gid,
            size: a.size,
            atime: time_words(a.atime),
            mtime: time_words(a.mtime),
            attrs: None,
        };
        self.fs.log(tx, &record);
    }

    /// An extended attribute was set or (`None`) removed.
    pub(crate) fn log_xattr(&self, tx: &DmuTx, name: &[u8], value: Option<&[u8]>) {
        let has_record = self.fs.zil().is_some_and(|zil| zil.logs_xattrs());
        // No length in the record means removed, so an empty value has no record.
        if !has_record || value.is_some_and(<[u8]>::is_empty) {
            self.log_unsaid(tx);
        } else if self.is_logged() {
            self.fs.log(tx, &Record::SetSaXattr { object: self.id(), name, value });
        }
    }

    /// A change of this file that has no record.
    pub(crate) fn log_unsaid(&self, tx: &DmuTx) {
        if self.is_logged()
            && let Some(zil) = self.fs.zil()
        {
            zil.log_unsaid(tx, self.id());
        }
    }

    /// Durable when it returns: by the intent log, or because the group of its last change is on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let Some(zil) = self.fs.zil() else { return Ok(()) };
        if self.last_txg() <= self.fs.objset.txgs().synced_txg().0 || bugs::is(Bug::FsyncDoesNotWait) {
            return Ok(());
        }
        zil.commit(self.id()).vfs()
    }

    /// Ends an operation that changed this file or its entries: with `sync=always` it is durable then.
    pub(crate) fn ended<T>(&self, result: Result<T>) -> Result<T> {
        let value = result?;
        if self.fs.is_always_sync() {
            self.sync()?;
        }
        Ok(value)
    }
}

impl ZplFs {
    /// The file of that number and generation.
    fn logged_file(&self, object: u64, generation: u64) -> zfs::Result<Arc<Znode>> {
        let znode = self.hold(ObjectId(object)).map_err(|e| match e {
            vfs::Error::NotFound => zfs::Error::NotFound,
            _ => zfs::Error::Io,
        })?;
        if znode.generation != generation || znode.kind != FileType::Regular {
            return Err(zfs::Error::NotFound);
        }
        Ok(znode)
    }
}

impl LogSource for ZplFs {
    fn block(&self, object: u64, generation: u64, offset: u64) -> zfs::Result<(Range<u64>, Logged)> {
        let znode = self.logged_file(object, generation)?;
        loop {
            let size = u64::from(znode.dnode.block_size());
            // A file of one block has it from its beginning on, whatever its length.
            let start = if size.is_power_of_two() { offset & !(size - 1) } else { 0 };
            // All of the block: writers of the rest of it are to be done, and to have listed what they did.
            let _range = znode.ranges.read(start..start.saturating_add(size));
            if u64::from(znode.dnode.block_size()) == size {
                return znode.dnode.copy_for_log(offset);
            }
        }
    }

    fn read(
        &self,
        object: u64,
        generation: u64,
        offset: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> zfs::Result<usize> {
        let znode = self.logged_file(object, generation)?;
        // A writer has the range of all it changes: what is logged is what was there before it, or after.
        let _range = znode.ranges.read(offset..offset.saturating_add(len as u64));
        let len = znode.size().saturating_sub(offset).min(len as u64) as usize;
        let start = out.len();
        znode.dnode.read(offset, len, &mut |piece| {
            match piece {
                Piece::Data(bytes) => out.extend_from_slice(bytes),
                Piece::Zeroes(n) => out.resize(out.len() + n, 0),
            }
            Ok(())
        })?;
        Ok(out.len() - start)
    }
}
