//! What a snapshot has that an earlier one had not: objects, blocks and holes, in order.
//!
//! What it is not: [`crate::spa::traverse`], which visits every block and no hole. Here holes count: a block that was
//! freed is a difference.
//!
//! A block is new when it was born after the earlier snapshot; so is everything new below it. A hole without a birth
//! may be one that was there for ever or that of an object which was freed and made anew, with nothing to tell the two
//! apart: it is always taken for new. Taking it for old is the bug that lets a reused object keep old blocks at the
//! receiver.
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::{Error, Result};
use abd::Abd;
use alloc::sync::Arc;
use alloc::vec::Vec;
use ondisk::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE};
use ondisk::dnode::{self, DNODE_SHIFT, DNODE_SIZE, DNODES_PER_BLOCK, DnodePhys};
use ondisk::objset::METADNODE;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};

/// Children of an indirect block that are asked for ahead, where going on means reading them.
const AHEAD: usize = 16;

/// What blocks of an object have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectFacts {
    pub(super) id: ObjectId,
    pub(super) block_size: u32,
}

/// A difference.
pub(super) enum Item<'a> {
    /// No objects at these numbers.
    FreeObjects { first: u64, count: u64 },
    /// An object: its dnode, all slots.
    Object { id: ObjectId, core: DnodePhys, bytes: &'a [u8] },
    /// A range without data.
    Hole { object: ObjectFacts, offset: u64, length: u64 },
    /// A data block.
    Block { object: ObjectFacts, bp: BlkPtr, blkid: u64 },
    /// A spill block.
    Spill { id: ObjectId, bp: BlkPtr },
}

/// Where a walk starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) object: u64,
    pub(super) offset: u64,
}

/// The walk.
pub(super) struct SendWalk<'a> {
    pub(super) storage: &'a Arc<Storage>,
    /// The `objset` of bookmarks.
    pub(super) objset: u64,
    /// Blocks born at or before this are known to the receiver.
    pub(super) after: Txg,
    /// Everything before this is passed over.
    pub(super) start: Start,
    pub(super) visit: &'a mut dyn FnMut(Item<'_>) -> Result<()>,
}

impl SendWalk<'_> {
    /// Walks a snapshot.
    ///
    /// # Errors
    /// What reading gives, or `visit`.
    pub(super) fn run(&mut self, root: &BlkPtr) -> Result<()> {
        if root.is_hole() {
            return Ok(());
        }
        let block = self.read(root, Bookmark::root(self.objset))?;
        let bytes = block.to_contiguous();
        let meta = bytes.get(METADNODE).ok_or(Error::Damaged)?;
        let core = dnode::parse(meta)?.ok_or(Error::Damaged)?;
        check(&core)?;
        for index in 0..usize::from(core.nr_blkptr) {
            let bp = core.blkptr(meta, index)?;
            self.dnode_file(&core, &bp, core.levels - 1, index as u64)?;
        }
        Ok(())
    }

    fn read(&self, bp: &BlkPtr, bookmark: Bookmark) -> Result<Abd> {
        Ok(self.storage.read(bp, bookmark, Priority::SyncRead)?.abd().clone())
    }

    /// An indirect block's pointers; below it, `ahead` says which are asked for in advance.
    fn children(&self, bp: &BlkPtr, bookmark: Bookmark, size: usize) -> Result<Vec<BlkPtr>> {
        if i64::from(bp.level()) != bookmark.level {
            return Err(Error::Damaged);
        }
        let block = self.read(bp, bookmark)?;
        if block.len() != size {
            return Err(Error::Damaged);
        }
        let bytes = block.to_contiguous();
        bytes.chunks_exact(BLKPTR_SIZE).map(|raw| BlkPtr::from_bytes(raw).map_err(Error::from)).collect()
    }

    /// Asks for a block that the walk will go through.
    fn prefetch(&self, bp: Option<&BlkPtr>) {
        if let Some(bp) = bp.filter(|bp| !bp.is_hole() && !bp.is_embedded() && bp.birth() > self.after) {
            self.storage.prefetch(bp, Bookmark::root(self.objset));
        }
    }

    fn is_new(&self, bp: &BlkPtr) -> bool {
        bp.birth() > self.after || (bp.is_hole() && bp.birth() == Txg::ZERO)
    }

    /// The part of the dnode file below a pointer.
    fn dnode_file(&mut self, meta: &DnodePhys, bp: &BlkPtr, level: u8, blkid: u64) -> Result<()> {
        let objects = span(meta, level).saturating_mul(DNODES_PER_BLOCK as u64);
        let first = blkid.saturating_mul(objects);
        let end = meta.max_blkid.saturating_add(1).saturating_mul(DNODES_PER_BLOCK as u64);
        let is_passed = first.saturating_add(objects) <= self.start.object;
        if is_passed || first >= end || !self.is_new(bp) {
            return Ok(());
        }
        if bp.is_hole() {
            return (self.visit)(Item::FreeObjects { first, count: objects.min(end - first) });
        }
        let bookmark = Bookmark::new(self.objset, ObjectId::META_DNODE, level.into(), blkid);
        if level == 0 {
            if bp.dmu_type() != DmuType::DNODE {
                return Err(Error::Damaged);
            }
            let block = self.read(bp, bookmark)?;
            return self.dnode_block(&block.to_contiguous(), first);
        }
        let children = self.children(bp, bookmark, 1 << meta.indirect_shift)?;
        children.iter().take(AHEAD).for_each(|bp| self.prefetch(Some(bp)));
        for (index, child) in children.iter().enumerate() {
            self.prefetch(children.get(index + AHEAD));
            let child_id = blkid << meta.entries_shift() | index as u64;
            self.dnode_file(meta, child, level - 1, child_id)?;
        }
        Ok(())
    }

    fn dnode_block(&mut self, bytes: &[u8], first: u64) -> Result<()> {
        let mut slot = 0;
        while slot < DNODES_PER_BLOCK {
            let rest = bytes.get(slot << DNODE_SHIFT..).filter(|r| r.len() >= DNODE_SIZE);
            let rest = rest.ok_or(Error::Damaged)?;
            let id = first + slot as u64;
            let core = dnode::parse(rest)?;
            slot += core.as_ref().map_or(1, |core| usize::from(core.slots));
            if id < self.start.object || id == 0 {
                continue;
            }
            match core {
                None => (self.visit)(Item::FreeObjects { first: id, count: 1 })?,
                Some(core) => self.object(ObjectId(id), &core, rest)?,
            }
        }
        Ok(())
    }

    fn object(&mut self, id: ObjectId, core: &DnodePhys, bytes: &[u8]) -> Result<()> {
        check(core)?;
        (self.visit)(Item::Object { id, core: *core, bytes })?;
        let facts = ObjectFacts { id, block_size: core.block_size };
        for index in 0..usize::from(core.nr_blkptr) {
            let bp = core.blkptr(bytes, index)?;
            self.tree(core, &facts, &bp, core.levels - 1, index as u64)?;
        }
        match core.spill(bytes)? {
            Some(bp) if bp.birth() > self.after => (self.visit)(Item::Spill { id, bp }),
            _ => Ok(()),
        }
    }

    /// The part of an object below a pointer.
    fn tree(
        &mut self,
        core: &DnodePhys,
        facts: &ObjectFacts,
        bp: &BlkPtr,
        level: u8,
        blkid: u64,
    ) -> Result<()> {
        let bytes = span(core, level).saturating_mul(facts.block_size.into());
        let offset = blkid.saturating_mul(bytes);
        let is_passed = facts.id.0 == self.start.object && offset.saturating_add(bytes) <= self.start.offset;
        // What follows the end of a file was freed with its OBJECT record already.
        let is_beyond = !core.kind.is_metadata() && span(core, level).saturating_mul(blkid) > core.max_blkid;
        if is_passed || is_beyond || !self.is_new(bp) {
            return Ok(());
        }
        if bp.is_hole() {
            return (self.visit)(Item::Hole { object: *facts, offset, length: bytes });
        }
        if level == 0 {
            return (self.visit)(Item::Block { object: *facts, bp: *bp, blkid });
        }
        let bookmark = Bookmark::new(self.objset, facts.id, level.into(), blkid);
        let children = self.children(bp, bookmark, 1 << core.indirect_shift)?;
        if level > 1 {
            children.iter().take(AHEAD).for_each(|bp| self.prefetch(Some(bp)));
        }
        for (index, child) in children.iter().enumerate() {
            if level > 1 {
                self.prefetch(children.get(index + AHEAD));
            }
            self.tree(core, facts, child, level - 1, blkid << core.entries_shift() | index as u64)?;
        }
        Ok(())
    }
}

/// Data blocks below one block of a level.
fn span(core: &DnodePhys, level: u8) -> u64 {
    1u64.checked_shl(u32::from(level) * core.entries_shift()).unwrap_or(u64::MAX)
}

/// Limits that the arithmetic above relies on.
fn check(core: &DnodePhys) -> Result<()> {
    let bits = u32::from(core.levels.saturating_sub(1)) * core.entries_shift();
    let is_ok =
        core.levels > 0 && bits < 64 + core.entries_shift() && u32::from(core.indirect_shift) > BLKPTR_SHIFT;
    if is_ok { Ok(()) } else { Err(Error::Damaged) }
}
