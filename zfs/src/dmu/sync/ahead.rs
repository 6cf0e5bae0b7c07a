//! Copies of blocks for the intent log, which has them written ahead of their group's sync, by the very rules of that
//! sync.
//!
//! Why it is safe: a copy shares the content of one moment, which is copied on write, so nothing that happens later is
//! in it. The sync uses what was written only if the content is still that of the copy ([`BlockCopy::leave`]); whoever
//! changes it in the same group makes the sync write it anew.
use super::pipeline::{self, Job};
use super::policy::{ObjectPolicy, Policies};
use super::{Objset, joined};
use crate::dmu::dbuf::{Content, Dbuf};
use crate::dmu::dnode::Dnode;
use crate::dmu::read::split;
use crate::zio::{AheadBlock, Prepared, WritePolicy};
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use ondisk::{BlkPtr, Bookmark, Txg};

/// A block's content.
#[derive(Debug)]
pub struct BlockCopy {
    dnode: Arc<Dnode>,
    blkid: u64,
    data: Abd,
    /// Whose content it is, if a group is still to write it: the newest that changed it, and how often.
    version: Option<(Arc<Dbuf>, Txg, u32)>,
}

/// What the intent log can say of a block.
#[derive(Debug)]
pub enum Logged {
    /// This content, which is to be written.
    Copy(BlockCopy),
    /// Its content was written ahead already, there.
    Written(BlkPtr),
}

impl Dnode {
    /// What can be logged of the block that holds the byte `offset`, and the bytes it holds. The caller keeps writers off
    /// those bytes.
    ///
    /// A block without changes is copied like any other: its group may have written it and not be on disk itself, and
    /// would be lost in a crash.
    ///
    /// # Errors
    /// `Invalid` beyond the only block of an object whose block size is not a power of two; as reading.
    pub fn copy_for_log(self: &Arc<Self>, offset: u64) -> Result<(Range<u64>, Logged)> {
        let size = u64::from(self.block_size());
        let (blkid, within) = split(offset, size).ok_or(Error::Invalid)?;
        let range = offset - within..(offset - within).saturating_add(size);
        let found = self.level(0).get(blkid).and_then(|dbuf| {
            let state = dbuf.state.lock();
            let Content::Data(data) = &state.content else { return None };
            let (txg, nr_edits, ahead) = state.newest_version()?;
            let data = data.clone();
            drop(state);
            Some((data, ahead, (dbuf, txg, nr_edits)))
        });
        let (data, version) = match found {
            Some((_, Some(bp), _)) => return Ok((range, Logged::Written(bp))),
            Some((data, None, version)) => (data, Some(version)),
            None => (self.block(blkid)?, None),
        };
        if data.len() as u64 != size {
            return Err(Error::Damaged);
        }
        Ok((range, Logged::Copy(BlockCopy { dnode: self.clone(), blkid, data: joined(data), version })))
    }
}

impl BlockCopy {
    /// Its length.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn bookmark(&self) -> Bookmark {
        self.dnode.bookmark(0, self.blkid)
    }

    fn policy(&self, objset: &Objset) -> WritePolicy {
        let object = {
            let open = self.dnode.open.lock();
            let open = open.current();
            ObjectPolicy { kind: open.kind, checksum: open.checksum, compress: open.compress }
        };
        Policies::new(objset.properties(), objset.kind(), 1).of(&object, 0, 1)
    }

    /// Compresses and checksums copies, on all CPUs; in their order.
    ///
    /// # Errors
    /// As [`crate::zio::Storage::prepare`].
    pub(crate) fn prepare(copies: &[Self]) -> Result<Vec<Prepared>> {
        let Some(first) = copies.first() else { return Ok(Vec::new()) };
        let objset = first.dnode.objset()?;
        let jobs = copies.iter().map(|copy| Job {
            packed: None,
            data: copy.data.clone(),
            policy: copy.policy(&objset),
            ahead: None,
            tag: (),
        });
        let mut all = Vec::with_capacity(copies.len());
        pipeline::run(objset.storage(), objset.txgs().workers(), jobs, |(), _, prepared| {
            all.push(prepared);
            Ok(())
        })?;
        Ok(all)
    }

    /// Leaves the block that it was written to, in the group `txg`, for that group's sync. It is unused unless this is
    /// the content that the group is going to leave behind.
    pub(crate) fn leave(self, txg: Txg, ahead: AheadBlock) {
        if let Some((dbuf, changed_in, nr_edits)) = self.version
            && changed_in == txg
        {
            dbuf.state.lock().set_ahead(txg, nr_edits, ahead);
        }
    }
}
