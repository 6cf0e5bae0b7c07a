//! Walks the tree of blocks below an object set's root, straight from disk.
//!
//! What it is not: it sees nothing dirty, and leaves nothing in the cache. Depth is bounded by the format (levels of
//! the dnode file, then of each object), memory by one block for each level.
use crate::vdev::Priority;
use crate::zio::Storage;
use crate::{Error, Result};
use abd::Abd;
use ondisk::blkptr::BLKPTR_SIZE;
use ondisk::dnode::{self, DNODE_SIZE};
use ondisk::objset::{
    GROUPUSED_DNODE, METADNODE, OBJSET_SIZE_V2, OBJSET_SIZE_V3, PROJECTUSED_DNODE, RawObjset, USERUSED_DNODE,
};
use ondisk::zil::ZilHeader;
use ondisk::{BlkPtr, Bookmark, DmuType, ObjectId, Txg};

/// What the walk tells. Holes are not visited.
pub(crate) trait Visitor {
    /// A block; false keeps the walk from going below it.
    fn block(&mut self, bp: &BlkPtr, bookmark: Bookmark) -> Result<bool>;

    /// A dnode of the object set, after the block that holds it.
    fn dnode(&mut self, _id: ObjectId, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    /// The intent log header of the object set.
    fn zil(&mut self, _header: &ZilHeader, _objset: u64) -> Result<()> {
        Ok(())
    }

    /// A block that must be read to go on cannot be; `Ok` goes on beside it.
    fn lost(&mut self, bookmark: Bookmark, error: Error) -> Result<()>;
}

/// A walk over one object set.
pub(crate) struct Walk<'a> {
    pub(crate) storage: &'a Storage,
    /// The `objset` of bookmarks.
    pub(crate) objset: u64,
    /// Blocks born at or before this are somebody else's: neither visited nor walked below.
    pub(crate) after: Txg,
    pub(crate) visitor: &'a mut dyn Visitor,
}

impl Walk<'_> {
    /// Walks from an object set's root block.
    ///
    /// # Errors
    /// What the visitor returns.
    pub(crate) fn run(&mut self, root: &BlkPtr) -> Result<()> {
        let bookmark = Bookmark::root(self.objset);
        let Some(block) = self.enter(root, bookmark)? else {
            return Ok(());
        };
        let bytes = block.to_contiguous();
        match RawObjset::of(&bytes).and_then(RawObjset::parse) {
            Ok(header) => self.visitor.zil(&header.zil, self.objset)?,
            Err(_) => return self.visitor.lost(bookmark, Error::Damaged),
        }
        let mut dnodes = alloc::vec![(ObjectId::META_DNODE, METADNODE)];
        if bytes.len() >= OBJSET_SIZE_V2 {
            dnodes.push((ObjectId::USERUSED, USERUSED_DNODE));
            dnodes.push((ObjectId::GROUPUSED, GROUPUSED_DNODE));
        }
        if bytes.len() >= OBJSET_SIZE_V3 {
            dnodes.push((ObjectId::PROJECTUSED, PROJECTUSED_DNODE));
        }
        for (id, range) in dnodes {
            let dnode = bytes.get(range).ok_or(Error::Damaged)?;
            self.dnode(id, dnode)?;
        }
        Ok(())
    }

    /// Visits a block and reads it if the walk goes below it.
    fn enter(&mut self, bp: &BlkPtr, bookmark: Bookmark) -> Result<Option<Abd>> {
        if bp.is_hole() || bp.birth() <= self.after || !self.visitor.block(bp, bookmark)? {
            return Ok(None);
        }
        let goes_below = bookmark.level != 0 || bp.dmu_type() == DmuType::DNODE;
        if !goes_below {
            return Ok(None);
        }
        match self.storage.read_uncached(bp, bookmark, Priority::Scrub) {
            Ok(block) => Ok(Some(block)),
            Err(error) => self.visitor.lost(bookmark, error).map(|()| None),
        }
    }

    fn dnode(&mut self, id: ObjectId, bytes: &[u8]) -> Result<()> {
        let bookmark = Bookmark::new(self.objset, id, 0, 0);
        let dn = match dnode::parse(bytes) {
            Ok(Some(dn)) => dn,
            Ok(None) => return Ok(()),
            Err(_) => return self.visitor.lost(bookmark, Error::Damaged),
        };
        self.visitor.dnode(id, bytes)?;
        let top = dn.levels - 1;
        for index in 0..usize::from(dn.nr_blkptr) {
            match dn.blkptr(bytes, index) {
                Ok(bp) => self.tree(id, &bp, top, index as u64)?,
                Err(_) => self.visitor.lost(bookmark, Error::Damaged)?,
            }
        }
        match dn.spill(bytes) {
            Ok(Some(bp)) => {
                let bookmark = Bookmark::new(self.objset, id, 0, Bookmark::SPILL_BLKID);
                self.enter(&bp, bookmark).map(drop)
            }
            Ok(None) => Ok(()),
            Err(_) => self.visitor.lost(bookmark, Error::Damaged),
        }
    }

    fn tree(&mut self, id: ObjectId, bp: &BlkPtr, level: u8, blkid: u64) -> Result<()> {
        let bookmark = Bookmark::new(self.objset, id, level.into(), blkid);
        let Some(block) = self.enter(bp, bookmark)? else {
            return Ok(());
        };
        let bytes = block.to_contiguous();
        if level == 0 {
            return self.dnode_block(&bytes, blkid);
        }
        let per_block = (bytes.len() / BLKPTR_SIZE) as u64;
        for (index, raw) in bytes.chunks_exact(BLKPTR_SIZE).enumerate() {
            let child = blkid.saturating_mul(per_block).saturating_add(index as u64);
            match BlkPtr::from_bytes(raw) {
                Ok(bp) => self.tree(id, &bp, level - 1, child)?,
                Err(_) => self.visitor.lost(bookmark, Error::Damaged)?,
            }
        }
        Ok(())
    }

    fn dnode_block(&mut self, bytes: &[u8], blkid: u64) -> Result<()> {
        let slots = bytes.len() / DNODE_SIZE;
        let mut slot = 0;
        while slot < slots {
            let rest = &bytes[slot * DNODE_SIZE..];
            let id = ObjectId(blkid.saturating_mul(slots as u64).saturating_add(slot as u64));
            let Ok(core) = dnode::core(rest) else {
                return self.visitor.lost(Bookmark::new(self.objset, id, 0, 0), Error::Damaged);
            };
            let taken = if core.is_free() { 1 } else { core.slots() };
            self.dnode(id, rest)?;
            slot += taken;
        }
        Ok(())
    }
}
