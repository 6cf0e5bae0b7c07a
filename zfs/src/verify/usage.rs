//! What dnodes say they use (`dn_used`), against their blocks.
//!
//! OpenZFS subtracts what it frees from the figure and insists on nothing being left when an object goes: a figure that
//! counts raidz parity, as allocation does, stops it. Users see it as `st_blocks`, and quotas charge it.
//!
//! What it is not: a check of objects that share blocks with a snapshot; the walk leaves those out.
use super::{Finding, Report};
use crate::zio::Storage;
use alloc::format;
use ondisk::dnode;
use ondisk::{BlkPtr, Bookmark, ObjectId, Txg};

/// Sums up one object set. The file of dnodes is summed beside the object whose dnode it has just given.
pub(super) struct Usage {
    objset: u64,
    dnodes: Used,
    object: Used,
}

#[derive(Clone, Copy)]
struct Used {
    id: ObjectId,
    stored: u64,
    counted: u64,
    /// Every block of it was seen.
    is_whole: bool,
}

impl Used {
    /// Nothing to compare.
    const NONE: Self = Self { id: ObjectId(0), stored: 0, counted: 0, is_whole: false };

    fn check(self, objset: u64, report: &mut Report) {
        if self.is_whole && self.stored != self.counted {
            let what = format!("space used by object {} of {objset}", self.id.0);
            report.add(Finding::Accounting { what, stored: self.stored, counted: self.counted });
        }
    }
}

impl Usage {
    pub(super) fn new(objset: u64) -> Self {
        Self { objset, dnodes: Used::NONE, object: Used::NONE }
    }

    /// A dnode; the blocks that follow are its own. Those born at or before `after` are not walked.
    pub(super) fn dnode(&mut self, id: ObjectId, bytes: &[u8], after: Txg, report: &mut Report) {
        let Ok(Some(dn)) = dnode::parse(bytes) else { return };
        let used = Used { id, stored: dn.used, counted: 0, is_whole: after == Txg::ZERO };
        if id == ObjectId::META_DNODE {
            self.dnodes = used;
        } else {
            core::mem::replace(&mut self.object, used).check(self.objset, report);
        }
    }

    pub(super) fn block(&mut self, storage: &Storage, bp: &BlkPtr, bookmark: Bookmark) {
        self.of(bookmark).counted += storage.deflated(bp);
    }

    /// The walk does not go below this block.
    pub(super) fn cut(&mut self, bookmark: Bookmark) {
        self.of(bookmark).is_whole = false;
    }

    /// Nothing follows.
    pub(super) fn end(self, report: &mut Report) {
        self.object.check(self.objset, report);
        self.dnodes.check(self.objset, report);
    }

    fn of(&mut self, bookmark: Bookmark) -> &mut Used {
        if bookmark.object == ObjectId::META_DNODE { &mut self.dnodes } else { &mut self.object }
    }
}
